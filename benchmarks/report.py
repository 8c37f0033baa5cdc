"""Turn the JSON of ``peers.py`` into the plot and into the README's table.

Run as a command it rewrites what stands between the two markers in README.md, from the newest
results in ``benchmarks/results``; with ``--check`` it only says whether the README is up to date.
"""

from __future__ import annotations

import argparse
import json
import sys
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
HEADINGS = {"small": "Small networks", "zoo": "Networks at 224x224"}
"""The suites that the README shows, in this order."""

Run = dict[str, Any]
"""The content of one JSON file; ``peers.py`` documents it."""
Row = dict[str, Any]
"""One case of a run: its ``results`` by engine."""


def stem(suite: str, isa: str) -> str:
    """Return the file name, without its ending, of a suite's results at an ISA level."""
    return f"peers-{suite}" if isa == "native" else f"peers-{suite}-{isa}"


def load(suite: str, isa: str) -> Run | None:
    """Return the stored run of ``suite`` at ``isa``, or None if there is none."""
    path = RESULTS / f"{stem(suite, isa)}.json"
    if not path.exists():
        return None
    run: Run = json.loads(path.read_text(encoding="utf-8"))
    return run


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


def _key(row: Row) -> tuple[str, int, int]:
    return row["network"], row["batch"], row["threads"]


def load_note(machine: dict[str, Any]) -> str:
    """Return a sentence on how busy the machine was with other things; empty where it was idle."""
    load, others = machine["load_at_start"], machine.get("others_cores")
    if others is None:  # not measured: what was there before the run is all that is known
        return f"The machine was not idle: load average {load} before the run." if load > BUSY_LOAD else ""
    return f"The machine was not idle: others kept {others} cores busy meanwhile." if others > BUSY_CORES else ""


def _caption(run: Run, run_v3: Run | None) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(run["versions"].items()) if version)
    text = (
        f"Medians on {machine['cores']} cores of {machine['cpu']}, {run['date'][:10]}, float32, "
        "every engine called from Python with a NumPy array in and out, interleaved in one "
        f"process. The ratio is the fastest other engine's time over fastconv's. Versions: "
        f"{versions}."
    )
    if note := load_note(machine):
        text += f" {note}"
    if run_v3 is not None:
        free = [name for name, engine in run_v3["engines"].items() if not engine["held_to_v3"]]
        text += (
            " In the last column fastconv ran its AVX2 kernels (`FASTCONV_ISA=x86-64-v3`); "
            f"{', '.join(free)} offer no such setting and kept AVX-512."
        )
    return text


def readme_section() -> str:
    """Return what belongs between the markers, from the stored runs.

    Raises
    ------
    FileNotFoundError
        Not one run is stored.
    """
    parts = []
    for suite in HEADINGS:
        run = load(suite, "native")
        if run is None:
            continue
        run_v3 = load(suite, V3)
        picture = f"benchmarks/results/{stem(suite, 'native')}.png"
        parts += [f"**{HEADINGS[suite]}**", markdown_table(run, run_v3), _caption(run, run_v3)]
        if (ROOT / picture).exists():
            parts.append(f"![Speed of each engine relative to fastconv]({picture})")
    if not parts:
        raise FileNotFoundError(f"no results in {RESULTS}: run benchmarks/peers.py first")
    return "\n\n".join(parts)


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
    before = README.read_text(encoding="utf-8")
    try:
        after = with_section(before, readme_section())
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check:
        if before != after:
            print("README.md does not show the stored results: run benchmarks/report.py")
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    print(f"{README.name}: {'unchanged' if before == after else 'rewritten'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
