"""fastconv beside PyTorch, ONNX Runtime, OpenVINO, ncnn, MNN, ExecuTorch and tract, in one process.

Every engine gets the same float32 network, the same input and the same number of threads, and is
called from Python with a NumPy array in and a NumPy array out. Answers are checked against
PyTorch in float64 before anything is timed. ``benchmarks/README.md`` describes the method.

A run writes ``benchmarks/results/CPU/peers-SUITE[-v3].json``, CPU being the processor's folder
(``report.py``), and the plot of the same name. A part of a suite, or a quick run, stores nothing,
unless ``--store`` is given: then its cases take the place of theirs in what is stored. The JSON:

``suite``, ``isa``, ``date``, ``commit``, ``machine``, ``versions``, ``plan``, ``fastconv_config``
    What was run last, where, and how long it was measured. Of the machine, ``load_at_start`` is the
    load average before the run.
``engines``
    For each engine its settings, and whether a v3 run holds it to AVX2.
``cases``
    A list; each has ``network``, ``title``, ``batch``, ``threads``, ``target``, ``taken`` and
    ``results``. ``taken`` says of this case ``date``, ``commit``, ``rounds``, ``versions``,
    ``load_at_start`` and ``others_cores``: how many cores other processes (and, in a virtual
    machine, other guests) kept busy while it was timed.
    A result's ``status`` is ``ok`` (with ``median_us``, ``min_us``, ``form``, ``error``,
    ``cores``, ``calls`` and ``burst_medians_us``) or ``wrong``, ``unsupported``, ``unavailable``
    or ``failed`` (with ``reason``).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import faulthandler
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nets
import numpy as np
import peers_engines
import peers_timing
import report
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

PLANS = {
    "small": peers_timing.Plan(rounds=30),
    "zoo": peers_timing.Plan(rounds=10, burst_s=0.2),
}
QUICK_ROUNDS = 4
REASON_LENGTH = 160
REFRESH_S = 0.2


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[Console]:
    """Send what libraries print to ``log``, and yield a console that still reaches the user.

    Converters and engines write to the file descriptors themselves, so these are redirected.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    terminal = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable(terminal)  # an engine that crashes takes the process with it: say where
    try:
        yield Console(file=terminal)
    finally:
        faulthandler.disable()
        sys.stdout.flush()
        sys.stderr.flush()
        for target, source in enumerate(saved, start=1):
            os.dup2(source, target)
            os.close(source)
        terminal.close()


def now() -> str:
    """Return the time as results keep it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def commit() -> str | None:
    """Return the commit that is checked out, with a + where the package differs from it; None without git."""
    git = ["git", "-C", str(report.ROOT)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "fastconv"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.stdout.strip() + "+" * changed.returncode


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores, levels, system, and the load average before the run."""
    info: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            info.setdefault(key.strip(), value.strip())
    flags = set(info.get("flags", "").split())
    interesting = ("avx2", "fma", "avx512f", "avx512vl", "avx512_vnni")
    return {
        "cpu": info.get("model name", platform.processor()),
        "family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "cores": os.cpu_count(),
        "flags": [flag for flag in interesting if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def busy_seconds() -> tuple[float, float] | None:
    """Return the clock, and the CPU time since boot of all but this process and its children; None without /proc."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, fields[:8])
    everyone = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), everyone - sum(os.times()[:4])


def others_cores(before: tuple[float, float] | None) -> float | None:
    """Return how many cores others kept busy, on average, since `busy_seconds` gave ``before``."""
    after = busy_seconds()
    if before is None or after is None:
        return None
    return round(max(0.0, after[1] - before[1]) / (after[0] - before[0]), 2)


def _without_folders(text: str) -> str:
    """Shorten absolute paths to the file's name: results are stored for others to read."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)+", "", text)


def fastconv_config(isa: str) -> dict[str, Any] | None:
    """Return what ``fastconv.show_config()`` shows, or None where fastconv is not installed.

    Raises
    ------
    SystemExit
        The level asked for by ``isa`` is not the one that runs.
    """
    try:
        import fastconv
    except ImportError:
        return None
    config: dict[str, Any] = json.loads(
        json.dumps(fastconv.show_config()),
        object_hook=lambda pairs: {
            key: _without_folders(value) if isinstance(value, str) else value for key, value in pairs.items()
        },
    )
    asked = peers_engines.V3_ENVIRONMENT["FASTCONV_ISA"]
    if isa == report.V3 and config["isa"] != asked:
        raise SystemExit(f"error: fastconv runs {config['isa']} where {asked} was asked for")
    return config


def _reason(error: BaseException) -> str:
    text = _without_folders(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1] + "…"


def admit_all(
    case: nets.Case, x: peers_engines.Array, names: list[str], folder: Path, plan: peers_timing.Plan
) -> tuple[list[peers_timing.Candidate], dict[str, dict[str, Any]]]:
    """Build and check every engine for ``case``: those to time, and the others' results."""
    import torch

    net = nets.build(case.network)
    with torch.inference_mode():
        reference = net.double()(torch.from_numpy(x).double()).numpy()
    artefacts = peers_engines.Artefacts(net.float(), x, folder)
    candidates, results = [], {}
    for engine in peers_engines.ENGINES:
        if engine.name not in names:
            continue
        try:
            forms = engine.build(artefacts, case.threads)
            candidates.append(peers_timing.admit(engine.name, forms, x, reference, case.threads, plan))
        except (ImportError, peers_engines.UnavailableError) as error:
            results[engine.name] = {"status": "unavailable", "reason": _reason(error)}
        except peers_engines.UnsupportedError as error:
            results[engine.name] = {"status": "unsupported", "reason": _reason(error)}
        except peers_timing.RejectedError as error:
            status = "wrong" if error.wrong else "failed"
            results[engine.name] = {"status": status, "reason": _reason(error)}
        except Exception as error:  # one engine's failure must not cost the others their lines
            results[engine.name] = {"status": "failed", "reason": _reason(error)}
    return candidates, results


def run_case(
    case: nets.Case, names: list[str], plan: peers_timing.Plan, versions: dict[str, str | None], console: Console
) -> dict[str, Any]:
    """Check and time all engines on ``case``, showing progress; return its entry for the JSON."""
    load = round(os.getloadavg()[0], 2)
    gc.collect()  # the last case's engines hold gigabytes in a large network, some in cycles
    x = nets.images(case)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        # No refresh from a thread of its own: it would run during the bursts.
        Progress(*columns, console=console, auto_refresh=False, transient=True) as progress,
    ):
        task = progress.add_task(f"{case.name}: building", total=None)
        progress.refresh()
        candidates, results = admit_all(case, x, names, Path(folder), plan)
        progress.update(task, total=plan.rounds * len(candidates))
        shown = 0.0
        begun = busy_seconds()
        for _, candidate in peers_timing.measure(candidates, x, plan, nets.SEED):
            progress.update(task, advance=1, description=f"{case.name}: {candidate.name}")
            if time.perf_counter() - shown > REFRESH_S:
                progress.refresh()
                shown = time.perf_counter()
        others = others_cores(begun)
    for candidate in candidates:
        results[candidate.name] = {
            "status": "ok",
            "median_us": round(candidate.median_us, 3),
            "min_us": round(candidate.min_us, 3),
            "form": candidate.form,
            "error": float(f"{candidate.error:.2e}"),
            "cores": round(candidate.cores, 2),
            "calls": sum(map(len, candidate.bursts_ns)),
            "burst_medians_us": [round(value, 3) for value in candidate.burst_medians_us],
        }
    return {
        "network": case.network,
        "title": nets.NETWORKS[case.network].title,
        "batch": case.batch,
        "threads": case.threads,
        "target": case.target,
        "taken": {
            "date": now(),
            "commit": commit(),
            "rounds": plan.rounds,
            "versions": versions,
            "load_at_start": load,
            "others_cores": others,
        },
        "results": {name: results[name] for name in names},
    }


def case_table(row: report.Row) -> Table:
    """Return every engine's line of one case."""
    title = f"{row['title']}, batch {row['batch']}, threads {row['threads']}"
    table = Table(title=title, title_justify="left")
    table.add_column("engine")
    for heading in ("median µs", "min µs", "x fastconv", "error", "cores"):
        table.add_column(heading, justify="right")
    table.add_column("called by, or why not")
    own = report.median_us(row, peers_engines.FASTCONV)
    order = sorted(row["results"].items(), key=lambda item: item[1].get("median_us", np.inf))
    for name, result in order:
        style = "bold" if name == peers_engines.FASTCONV else ""
        if result["status"] != "ok":
            table.add_row(name, result["status"], "", "", "", "", result["reason"], style="dim")
            continue
        table.add_row(
            name,
            report.microseconds(result["median_us"]),
            report.microseconds(result["min_us"]),
            report.times(result["median_us"] / own if own else None),
            f"{result['error']:.0e}",
            f"{result['cores']:.1f}",
            result["form"],
            style=style,
        )
    return table


def summary_table(run: report.Run) -> Table:
    """Return fastconv against the fastest other engine, a line for each case."""
    table = Table(title=f"Suite {run['suite']}, ISA {run['isa']}", title_justify="left")
    table.add_column("case")
    table.add_column("fastconv µs", justify="right")
    table.add_column("fastest other")
    for heading in ("µs", "ratio", "target"):
        table.add_column(heading, justify="right")
    table.add_column("met")
    for row in run["cases"]:
        name, median = report.fastest_other(row) or ("none", None)
        own = row["results"].get(peers_engines.FASTCONV, {"status": "not run"})
        table.add_row(
            f"{row['network']} b={row['batch']} t={row['threads']}",
            report.microseconds(own["median_us"]) if "median_us" in own else own["status"],
            name,
            report.microseconds(median),
            report.times(report.ratio(row)),
            report.times(row["target"]),
            report.verdict(row),
        )
    return table


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time fastconv beside the other engines.")
    parser.add_argument("--suite", choices=sorted(nets.SUITES), default="small")
    parser.add_argument(
        "--isa",
        choices=("native", report.V3),
        default="native",
        help="v3: hold fastconv, and the engines that allow it, to AVX2",
    )
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name contains TEXT")
    parser.add_argument("--engines", metavar="A,B", help="only these engines, by the start of their names")
    parser.add_argument("--quick", action="store_true", help="few rounds: a first look")
    parser.add_argument("--store", action="store_true", help="store the cases of a part, or of a quick run, too")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parse(arguments)
    if options.isa == report.V3:
        os.environ.update(peers_engines.V3_ENVIRONMENT)
    cases = [case for case in nets.SUITES[options.suite] if (options.only or "") in case.name]
    wanted = tuple(options.engines.lower().split(",")) if options.engines else ("",)
    engines = [e for e in peers_engines.ENGINES if e.name.lower().startswith(wanted)]
    plan = PLANS[options.suite]
    if options.quick:
        plan = peers_timing.Plan(**{**asdict(plan), "rounds": QUICK_ROUNDS})
    partial = options.quick or options.only or options.engines
    versions = {e.package: e.version for e in engines} | {"numpy": np.__version__}
    run: report.Run = {
        "suite": options.suite,
        "isa": options.isa,
        "date": now(),
        "commit": commit(),
        "machine": machine(),
        "versions": versions,
        "plan": asdict(plan),
        "engines": {e.name: {"settings": e.settings, "held_to_v3": e.held_to_v3} for e in engines},
        "environment": peers_engines.V3_ENVIRONMENT if options.isa == report.V3 else {},
        "fastconv_config": fastconv_config(options.isa),
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as folder, quiet(Path(folder) / "log") as console:
        load = run["machine"]["load_at_start"]
        if load > report.BUSY_LOAD:
            console.print(f"The machine is busy (load {load}): expect noise.", style="yellow")
        for case in cases:
            row = run_case(case, [e.name for e in engines], plan, versions, console)
            run["cases"].append(row)
            console.print(case_table(row))
        console.print(summary_table(run))
        if note := report.load_note(report.busiest(run), "up to "):
            console.print(note, style="yellow")
        if partial and not options.store:
            console.print("A part of the suite only, or a quick run: nothing is stored.")
            return 0
        name = report.stem(options.suite, options.isa)
        cpu = report.cpu_slug(run["fastconv_config"])
        if partial:
            order = [(case.network, case.batch, case.threads) for case in nets.SUITES[options.suite]]
            run = report.merged(report.load(cpu, name), run, order)
        path = report.store(cpu, name, run)
        report.plot(run, path.with_suffix(".png"))
        console.print(f"Written: {path.with_suffix('')}.json and .png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
