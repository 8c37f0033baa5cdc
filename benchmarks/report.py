"""Turn the JSON of ``peers.py`` into the plot and into the README's table; keep results by processor.

Results lie in ``benchmarks/results/CPU/``, where CPU is the microarchitecture and the widest vectors it has, as
``zen4-avx2``: those of several machines stand side by side, and the README shows them all.

Run as a command it rewrites what stands between the two markers in README.md, from the results that
are stored; with ``--check`` it only says whether the README is up to date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from peers_engines import FASTCONV, TORCH_EAGER

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"
V3 = "v3"
BUSY_LOAD = 0.5
BUSY_CORES = 0.1
"""A load average before the run, and cores that others kept busy during it, above which a table says so."""
VECTORS = {"x86-64-v2": "sse4", "x86-64-v3": "avx2", "x86-64-v4": "avx512"}
"""Instruction-set levels, as folders of results name them."""
UNKNOWN = "unknown"
"""The folder where fastconv, which knows processors, is not installed."""
HEADINGS = {"small": "Small networks", "zoo": "Networks at 224x224"}
"""The suites that the README shows, in this order."""

Run = dict[str, Any]
"""The content of one JSON file; ``peers.py`` documents it."""
Row = dict[str, Any]
"""One case of a run: its ``results`` by engine."""
Key = tuple[str, int, int]
"""What tells a case from the others of its suite: network, batch, threads."""


def stem(suite: str, isa: str) -> str:
    """Return the file name, without its ending, of a suite's results at an ISA level."""
    return f"peers-{suite}" if isa == "native" else f"peers-{suite}-{isa}"


def cpu_slug(config: dict[str, Any] | None) -> str:
    """Return the folder of a machine's results, from what ``fastconv.show_config()`` says: ``zen4-avx512``."""
    if config is None:
        return UNKNOWN
    name = re.sub(r"(?<=[a-z]) (?=\d)", "", config["machine"]["name"].lower())
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return f"{name}-{VECTORS.get(config['isa_of_cpu'], config['isa_of_cpu'])}"


def load(cpu: str, name: str) -> Run | None:
    """Return what is stored as ``name`` for a processor, or None if there is nothing."""
    path = RESULTS / cpu / f"{name}.json"
    if not path.exists():
        return None
    run: Run = json.loads(path.read_text(encoding="utf-8"))
    return run


def store(cpu: str, name: str, run: Run) -> Path:
    """Write a run to the folder of its processor; return the file."""
    path = RESULTS / cpu / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def stored(name: str) -> dict[str, Run]:
    """Return what is stored as ``name``, by processor."""
    found = {path.parent.name: load(path.parent.name, name) for path in sorted(RESULTS.glob(f"*/{name}.json"))}
    return {cpu: run for cpu, run in found.items() if run is not None}


def section(name: str, markdown: Callable[[str, Run], str]) -> str:
    """Return what the README shows of ``name``: ``markdown(cpu, run)`` for each processor.

    Raises
    ------
    FileNotFoundError
        Nothing is stored under that name.
    """
    parts = [markdown(cpu, run) for cpu, run in stored(name).items()]
    if not parts:
        raise FileNotFoundError(f"no {name}.json in a folder of {RESULTS}: run the benchmark first")
    return "\n\n".join(parts)


def merged(old: Run | None, new: Run, order: Sequence[Key]) -> Run:
    """Return ``new`` with the cases of ``old`` that it lacks, in the order given; cases in neither place are gone.

    A case is kept as a whole, with all its engines, which took turns. What says how it was taken goes with it.
    """
    rows = {_key(row): row for row in new["cases"]}
    for row in old["cases"] if old is not None else ():
        rows.setdefault(_key(row), {**row, "taken": taken(old or new, row)})
    engines = {**(old or new)["engines"], **new["engines"]}
    return {**new, "engines": engines, "cases": [rows[key] for key in order if key in rows]}


def taken(run: Run, row: Row) -> dict[str, Any]:
    """Return when and how a case was taken; runs from before this was kept for each case have it once for all."""
    machine = run["machine"]
    whole = {
        "date": run["date"],
        "commit": run.get("commit"),
        "rounds": run["plan"]["rounds"],
        "versions": run["versions"],
        "load_at_start": machine["load_at_start"],
        "others_cores": machine.get("others_cores"),
    }
    record: dict[str, Any] = row.get("taken", whole)
    return record


def median_us(row: Row, engine: str) -> float | None:
    """Return the engine's median in µs, or None where it was not timed."""
    value: float | None = row["results"].get(engine, {}).get("median_us")
    return value


def fastest_other(row: Row) -> tuple[str, float] | None:
    """Return the fastest engine beside fastconv and its median in µs."""
    times = {
        name: result["median_us"]
        for name, result in row["results"].items()
        if name != FASTCONV and "median_us" in result
    }
    if not times:
        return None
    name = min(times, key=times.__getitem__)
    return name, times[name]


def ratio(row: Row) -> float | None:
    """Return the median of the fastest other engine over fastconv's: above 1, fastconv leads."""
    other, own = fastest_other(row), median_us(row, FASTCONV)
    return None if other is None or own is None else other[1] / own


def microseconds(value: float | None) -> str:
    """Format a time in µs to three digits or to the whole microsecond."""
    if value is None:
        return "–"
    if value < 10:
        return f"{value:.2f}"
    if value < 100:
        return f"{value:.1f}"
    return f"{value:,.0f}".replace(",", " ")


def times(value: float | None) -> str:
    """Format a ratio, or a dash for None."""
    return "–" if value is None else f"{value:.2f}"


def verdict(row: Row) -> str:
    """Return whether the ratio, as it is shown, meets the target of the row; a dash where it has none."""
    reached = ratio(row)
    if row["target"] is None or reached is None:
        return "–"
    return "yes" if round(reached, 2) >= row["target"] else "no"


def _own_time(row: Row) -> str:
    result = row["results"][FASTCONV]
    return microseconds(result.get("median_us")) if "median_us" in result else result["status"]


def markdown_table(run: Run, run_v3: Run | None) -> str:
    """Return the table of a run, with the v3 ratios beside it where they were measured."""
    head = ["network", "batch", "threads", "fastconv µs", "fastest other µs", "PyTorch eager µs"]
    head += ["ratio", "target", "met"]
    v3_rows = {} if run_v3 is None else {_key(row): row for row in run_v3["cases"]}
    if v3_rows:
        head.append("ratio, AVX2")
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    for row in run["cases"]:
        other = fastest_other(row)
        cells = [row["title"], str(row["batch"]), str(row["threads"]), f"**{_own_time(row)}**"]
        cells.append("–" if other is None else f"{other[0]} {microseconds(other[1])}")
        cells.append(microseconds(median_us(row, TORCH_EAGER)))
        cells += [f"**{times(ratio(row))}**", times(row["target"]), verdict(row)]
        if v3_rows:
            v3_row = v3_rows.get(_key(row))
            cells.append("–" if v3_row is None else times(ratio(v3_row)))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _key(row: Row) -> Key:
    return row["network"], row["batch"], row["threads"]


def load_note(machine: dict[str, Any], at_most: str = "") -> str:
    """Return a sentence on how busy the machine was with other things; empty where it was idle.

    at_most: "up to " where the figures are the greatest of several runs.
    """
    load, others = machine["load_at_start"], machine.get("others_cores")
    if others is None:  # not measured: what was there before the run is all that is known
        return f"The machine was not idle: load average {at_most}{load} before the run." if load > BUSY_LOAD else ""
    return (
        f"The machine was not idle: others kept {at_most}{others} cores busy meanwhile." if others > BUSY_CORES else ""
    )


def busiest(run: Run) -> dict[str, Any]:
    """Return what `load_note` takes: of all cases, the greatest."""
    records = [taken(run, row) for row in run["cases"]]
    others = [record["others_cores"] for record in records if record["others_cores"] is not None]
    return {
        "load_at_start": max(record["load_at_start"] for record in records),
        "others_cores": max(others) if others else None,
    }


def when(records: Sequence[dict[str, Any]]) -> str:
    """Return the days on which results were taken and, where that was recorded, the commits."""
    days = sorted({record["date"][:10] for record in records})
    commits = list(dict.fromkeys(record["commit"] for record in records if record.get("commit")))
    text = " to ".join(dict.fromkeys((days[0], days[-1])))
    return text + (f" (commit{'s' * (len(commits) > 1)} {', '.join(commits)})" if commits else "")


def where(cpu: str, machine: dict[str, Any]) -> str:
    """Return the machine of a run, in words."""
    return f"{machine['cores']} cores of {machine['cpu']} (`{cpu}`)"


def _versions(records: Sequence[dict[str, Any]]) -> str:
    versions = {
        f"{name} {version}" for record in records for name, version in record["versions"].items() if version is not None
    }
    return ", ".join(sorted(versions))


def _caption(cpu: str, run: Run, run_v3: Run | None) -> str:
    records = [taken(run, row) for row in run["cases"]]
    rounds = sorted({record["rounds"] for record in records})
    text = (
        f"Medians on {where(cpu, run['machine'])}, {when(records)}, float32, "
        "every engine called from Python with a NumPy array in and out, interleaved in one "
        f"process in {' to '.join(map(str, dict.fromkeys((rounds[0], rounds[-1]))))} rounds. The ratio is the fastest "
        f"other engine's time over fastconv's. Versions: {_versions(records)}."
    )
    if note := load_note(busiest(run), "up to "):
        text += f" {note}"
    if run_v3 is not None:
        free = [name for name, engine in run_v3["engines"].items() if not engine["held_to_v3"]]
        text += (
            " In the last column fastconv ran its AVX2 kernels (`FASTCONV_ISA=x86-64-v3`), "
            f"{when([taken(run_v3, row) for row in run_v3['cases']])}; "
            f"{', '.join(free)} offer no such setting and kept AVX-512."
        )
    return text


def _shown(suite: str, cpu: str, run: Run) -> str:
    """Return a suite's heading, table, caption and picture of one processor."""
    run_v3 = load(cpu, stem(suite, V3))
    parts = [f"**{HEADINGS[suite]}, `{cpu}`**", markdown_table(run, run_v3), _caption(cpu, run, run_v3)]
    picture = RESULTS / cpu / f"{stem(suite, 'native')}.png"
    if picture.exists():
        parts.append(f"![Speed of each engine relative to fastconv]({picture.relative_to(ROOT).as_posix()})")
    return "\n\n".join(parts)


def readme_section() -> str:
    """Return what belongs between the markers, from the stored runs.

    Raises
    ------
    FileNotFoundError
        Not one run is stored.
    """
    parts = [_shown(suite, cpu, run) for suite in HEADINGS for cpu, run in stored(stem(suite, "native")).items()]
    if not parts:
        raise FileNotFoundError(f"no results in {RESULTS}: run benchmarks/peers.py first")
    return "\n\n".join(parts)


def rewrite(text: str, begin: str = BEGIN, end: str = END) -> bool:
    """Put ``text`` between the markers in README.md; say whether that changed anything."""
    before = README.read_text(encoding="utf-8")
    after = with_section(before, text, begin, end)
    README.write_text(after, encoding="utf-8")
    return before != after


def with_section(readme: str, section: str, begin: str = BEGIN, end: str = END) -> str:
    """Return ``readme`` with ``section`` between the markers ``begin`` and ``end``.

    Raises
    ------
    ValueError
        The markers are missing or out of order.
    """
    first, last = readme.find(begin), readme.find(end)
    if first < 0 or last < first:
        raise ValueError(f"README.md needs the lines {begin} and {end}, in this order")
    return f"{readme[: first + len(begin)]}\n{section}\n{readme[last:]}"


PANEL_COLUMNS = 2
WIDTH_IN, BAR_IN, PANEL_MARGIN_IN, TITLE_IN = 10.0, 0.21, 0.5, 0.3
OWN_COLOUR, OTHER_COLOUR, AHEAD_COLOUR = "#d1495b", "#9fb3c8", "#2e4057"


def plot(run: Run, path: Path) -> None:
    """Draw one panel per case: the speed of every engine, fastconv's being 1.

    Bars start at zero and longer is faster, so an engine ahead of fastconv sticks out past the
    line at 1. Each bar carries the engine's median.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in run["cases"] if fastest_other(row) is not None]
    if not rows:
        return
    bars = max(sum("median_us" in r for r in row["results"].values()) for row in rows)
    panel_rows = -(-len(rows) // PANEL_COLUMNS)
    height = panel_rows * (bars * BAR_IN + PANEL_MARGIN_IN) + TITLE_IN
    figure, axes = pyplot.subplots(panel_rows, PANEL_COLUMNS, figsize=(WIDTH_IN, height), squeeze=False)
    for axis, row in zip(axes.flat, rows, strict=False):
        _panel(axis, row, bars)
    for axis in list(axes.flat)[len(rows) :]:
        axis.set_axis_off()
    figure.suptitle("Speed relative to fastconv, with the median per call: longer is faster")
    figure.tight_layout(rect=(0, 0, 1, 1 - TITLE_IN / height))
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _panel(axis: Any, row: Row, bars: int) -> None:
    timed = {n: r["median_us"] for n, r in row["results"].items() if "median_us" in r}
    unit = timed.get(FASTCONV) or min(timed.values())
    names = sorted(timed, key=timed.__getitem__)
    speeds = [unit / timed[name] for name in names]
    limit = max(1.0, *speeds)
    axis.axvline(1.0, color=OWN_COLOUR, linewidth=0.8, linestyle=":", zorder=0)
    for place, (name, speed) in enumerate(zip(names, speeds, strict=True)):
        colour = OWN_COLOUR if name == FASTCONV else OTHER_COLOUR
        if speed > 1.0 and FASTCONV in timed and name != FASTCONV:
            colour = AHEAD_COLOUR
        axis.barh(place, speed, color=colour, height=0.78)
        axis.text(
            speed + 0.015 * limit,
            place,
            f"{microseconds(timed[name])} µs",
            va="center",
            fontsize=8.5,
            fontweight="bold" if name == FASTCONV else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    axis.set_yticks(range(len(names)), names, fontsize=9)
    axis.set_ylim(bars - 0.4, -0.6)
    axis.set_xlim(0, limit * 1.22)
    axis.set_xticks([])
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    axis.set_title(f"{row['title']}\nbatch {row['batch']}, {threads}", fontsize=9.5, loc="left")
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if outdated")
    options = parser.parse_args(arguments)
    try:
        text = readme_section()
        if options.check:
            readme = README.read_text(encoding="utf-8")
            stale = with_section(readme, text) != readme
            if stale:
                print("README.md does not show the stored results: run benchmarks/report.py")
            return int(stale)
        print(f"{README.name}: {'rewritten' if rewrite(text) else 'unchanged'}")
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
