"""What the kernel benchmarks share: alternating bursts, their medians, and what ran where."""

from __future__ import annotations

import datetime
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import threadpoolctl
from report import BUSY_LOAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

import fastconv
from fastconv.machine.cpu import kernels
from fastconv.machine.description import this_machine

PEAK_BURST_S = 0.002
PAUSE_S = 0.005
"""Longer than the workers of OpenMP and of BLAS spin after their work."""
REFRESH_S = 0.2
EVICTING = 2
"""So many times the last level of cache is read to empty it."""


class WrongAnswerError(Exception):
    """A candidate computes something else than float64 does; nothing of it is timed."""


@dataclass
class Candidate:
    """Something to time. ``burst`` runs it once or a few times and returns seconds per run."""

    name: str
    burst: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of the median burst."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Seconds of the fastest burst."""
        return min(self.seconds)


def alternate(candidates: list[Candidate], rounds: int, tick: Callable[[], None], threads: int = 1) -> float:
    """Run one burst of each candidate in turn, ``rounds`` times, and the FMA peak between them.

    With more than one thread each burst waits until the workers of the one before are asleep.

    Returns
    -------
    float
        The best GFLOP/s that this thread's FMAs reached in any round.
    """
    peak = 0.0
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            peak = max(peak, kernels().fma_peak(PEAK_BURST_S))
            for candidate in candidates:
                if threads > 1:
                    time.sleep(PAUSE_S)
                candidate.seconds.append(candidate.burst())
            candidates = candidates[::-1]
            tick()
    finally:
        gc.enable()
    return peak


@cache
def _ballast() -> Any:
    return np.ones(EVICTING * this_machine().llc_bytes // 8)


def evict() -> None:
    """Leave nothing in this machine's caches of what was there."""
    _ballast().sum()


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error if that is a terminal; yields what to call after each step.

    The bar is drawn in these calls, that is between bursts, and by no thread of its own.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    )
    shown = 0.0
    with bar:
        task = bar.add_task(what, total=total)

        def tick() -> None:
            nonlocal shown
            bar.advance(task)
            if time.perf_counter() - shown > REFRESH_S:
                bar.refresh()
                shown = time.perf_counter()

        yield tick


def check(name: str, actual: Any, expected: Any, tolerance: float) -> None:
    """Raise WrongAnswerError if the error, relative to the largest output, is above tolerance."""
    error = float(np.abs(actual - expected).max())
    largest = float(np.abs(expected).max())
    if actual.shape != expected.shape or not error <= tolerance * largest:  # NaN is wrong, too
        raise WrongAnswerError(
            f"{name}: differs from float64 by {error:.2g} where the largest is {largest:.2g}; "
            f"{tolerance:g} of that is allowed"
        )


def context(threads: int) -> dict[str, Any]:
    """Describe the run: machine, versions and what fastconv chose."""
    config = fastconv.show_config()
    if config["blas"]:  # its folder is nobody's business
        config["blas"]["library"] = os.path.basename(config["blas"]["library"])
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "threads": threads,
        "fastconv_config": config,
    }


def describe(context: dict[str, Any], console: Console) -> None:
    """Print where the numbers come from, and a warning where they will be noisy."""
    config = context["fastconv_config"]
    blas = config["blas"] or {}
    console.print(
        f"{config['cpu']}, {context['cores']} cores; fastconv {config['fastconv']} at "
        f"{config['isa']}, {context['threads']} thread(s); BLAS {blas.get('name', 'none')} "
        f"{blas.get('version', '')}; NumPy {config['numpy']}, Python {config['python']}"
    )
    if context["load_at_start"] > BUSY_LOAD:
        print(
            f"The machine is busy (load {context['load_at_start']}): trust the minima.",
            file=sys.stderr,
        )


def blas_threads(threads: int) -> Any:
    """Hold NumPy's BLAS to so many threads while a benchmark runs: a context manager."""
    return threadpoolctl.threadpool_limits(threads, user_api="blas")
