"""``fastconv bench``: latency and throughput, as a table and as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.text import Text

from ..machine.cpu import default_threads, show_config
from ..model import load
from .terminal import (
    Command,
    InputShape,
    architecture_option,
    complain,
    model_argument,
    output,
    progress,
    shape_option,
    table,
)
from .timing import Timing, WrongAnswerError, measure, random_batch, torch_net

__all__ = ["bench"]

BUSY_SHARE = 0.7
"""The load average, per CPU, above which figures are not to be trusted."""


@click.command(cls=Command)
@model_argument
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1),
    multiple=True,
    default=(1, 8, 32),
    metavar="N",
    help="Images in a call; may be repeated.  [default: 1, 8, 32]",
)
@click.option(
    "--threads",
    "counts",
    type=click.IntRange(1),
    multiple=True,
    metavar="N",
    help="Threads; may be repeated.  [default: 1 and all cores]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.05),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Time to spend on each engine in each case.",
)
@click.option("--layers", is_flag=True, help="Show the time of each layer, too (first case).")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Write all figures with versions and configuration; - for standard output.",
)
@architecture_option
@shape_option
def bench(
    path: str,
    batches: tuple[int, ...],
    counts: tuple[int, ...],
    seconds: float,
    layers: bool,
    file: str | None,
    architecture: str | None,
    input_shape: InputShape,
) -> None:
    """Measure latency and throughput, beside PyTorch.

    Where PyTorch is installed, the network is rebuilt in it and its answers are compared before
    anything is timed; then the engines take turns. A ratio above 1 means that fastconv is faster.

    \b
    Examples:
      fastconv bench models/lenet.npz
      fastconv bench models/lenet.npz --batch 1 --batch 256 --threads 2
      fastconv bench models/lenet.npz --json figures.json
    """
    if file is not None and not os.path.isdir(os.path.dirname(file) or "."):
        raise click.BadParameter(f"{file!r}: no such folder", param_hint="--json")
    out = output(sys.stderr if file == "-" else sys.stdout)
    counts = tuple(sorted(set(counts or (1, default_threads()))))
    models = [load(path, architecture=architecture, threads=count, input_shape=input_shape) for count in counts]
    net, reason = torch_net(models[0])
    settings = show_config()
    if net is None:
        click.echo(f"note: {reason}", err=True)
    else:
        settings["torch"] = sys.modules["torch"].__version__
    out.print(Text(f"{path}\n{_machine(settings)}", "dim"), soft_wrap=True)
    _warn_if_busy()

    cases = [(model, net, batch) for model in models for batch in batches]
    try:
        with progress("timing", len(cases), out) as advance:
            results = [measure(*case, seconds, advance) for case in cases]
    except WrongAnswerError as error:
        complain(str(error))
        sys.exit(1)

    grid = table("threads", "batch", "engine", "median", "minimum", "images/s", "ratio", left=(2,))
    for timings in results:
        for timing in timings:
            ours = timing is timings[0]
            grid.add_row(
                str(timing.threads) if ours else "",
                str(timing.batch) if ours else "",
                Text(timing.engine, "bold" if ours else ""),
                _duration(timing.median),
                _duration(timing.minimum),
                f"{timing.images_per_second:,.0f}",
                _ratio(timings) if ours else "",
                end_section=timing is timings[-1],
            )
    out.print(grid)
    if net is not None:
        out.print("ratio: torch's median time over fastconv's", style="dim")
    if layers:
        model, _, batch = cases[0]
        out.print(Text(str(model.profile(*random_batch(model, batch)))), soft_wrap=True)
    if file is not None:
        records = [_record(timing) for timings in results for timing in timings]
        report = {"model": path, "config": settings, "timings": records}
        with click.open_file(file, "w", encoding="utf-8", atomic=file != "-") as stream:
            stream.write(json.dumps(report, indent=2) + "\n")


def _warn_if_busy() -> None:
    """Say so where other programs would be timed as well."""
    try:
        load_average, cpus = os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):  # not known on this system
        return
    if load_average > BUSY_SHARE * cpus:
        click.echo(
            f"note: the machine is busy (load {load_average:.1f} on {cpus} CPUs); "
            "times will be too long, above all with several threads",
            err=True,
        )


def _machine(settings: dict[str, Any]) -> str:
    """Return the CPU, the kernels and the versions in two lines."""
    blas = settings["blas"] or {}
    openmp = "OpenMP" if settings["openmp"] else "no OpenMP"
    parts = [
        f"fastconv {settings['fastconv']} ({settings['isa']}, {openmp})",
        f"{blas.get('name', 'BLAS')} {blas.get('version', '')}".strip() if blas else "no BLAS",
        f"numpy {settings['numpy']}",
        f"Python {settings['python']}",
    ]
    if "torch" in settings:
        parts.insert(1, f"torch {settings['torch']}")
    return f"{settings['cpu']}, {settings['platform']}\n{', '.join(parts)}"


def _duration(seconds: float) -> str:
    """Write a time with three digits: ``6.91 µs``, ``12.3 ms``."""
    value, unit = seconds * 1e6, "µs"
    for larger in ("ms", "s"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"


def _ratio(timings: Sequence[Timing]) -> str:
    if len(timings) < 2:
        return "-"
    return f"{timings[1].median / timings[0].median:.3g}x"


def _record(timing: Timing) -> dict[str, Any]:
    return {
        "engine": timing.engine,
        "batch": timing.batch,
        "threads": timing.threads,
        "calls": len(timing.seconds),
        "median_s": timing.median,
        "minimum_s": timing.minimum,
        "images_per_s": timing.images_per_second,
    }
