"""How the side-by-side run measures: answers first, then shuffled rounds of short bursts.

All engines live in one process, so each can disturb the next: OpenMP, ONNX Runtime and OpenVINO
keep their worker threads spinning for a while after a call. Before every burst the run therefore
sleeps until the process uses no CPU (:func:`settle`), then calls the engine for a few
milliseconds untimed, so that its caches, its branch history and its own workers are awake, and
only then takes the times.
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from peers_engines import FASTCONV, Array, Call

OWN_TOLERANCE, OTHERS_TOLERANCE = 1e-4, 1e-3
"""Largest error of a correct answer, relative to the largest output of the float64 reference.

fastconv is held to what it promises. The others get ten times that: MNN's Winograd in VGG-16 is off
by 1.2e-4, and to leave it out for that would spare fastconv one of its fastest rivals.
"""

SETTLE_SLICE_S = 0.002
SETTLE_LIMIT_S = 0.5
IDLE_SHARE = 0.05
"""The process is idle once a slice of sleep used less than this share of one core."""

PROBE_S = 0.05
SPARE_CORES = 0.3
"""An engine that uses this much more CPU than the threads it was given is not timed."""


@dataclass(frozen=True)
class Plan:
    """How long to measure: ``rounds`` bursts per engine, each after an untimed warm-up."""

    rounds: int
    burst_s: float = 0.015
    warm_up_s: float = 0.004
    min_calls: int = 3
    max_calls: int = 1000
    warm_up_calls: int = 2

    def calls_in(self, seconds: float, one_call_s: float) -> int:
        """Return how many calls of ``one_call_s`` fill ``seconds``, within the plan's limits."""
        return max(self.min_calls, min(self.max_calls, int(seconds / one_call_s)))


@dataclass
class Candidate:
    """A correct engine with the call form that was found fastest, and its times so far."""

    name: str
    form: str
    call: Call
    error: float
    cores: float
    calls: int
    """Calls in one burst."""
    bursts_ns: list[list[int]] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        """The median of all calls of all bursts."""
        return statistics.median(t for burst in self.bursts_ns for t in burst) / 1e3

    @property
    def min_us(self) -> float:
        """The fastest call."""
        return min(min(burst) for burst in self.bursts_ns) / 1e3

    @property
    def burst_medians_us(self) -> list[float]:
        """The median of each burst in the order of the rounds: a drift shows here."""
        return [statistics.median(burst) / 1e3 for burst in self.bursts_ns]


class RejectedError(Exception):
    """No call form of the engine may be timed; the message says why.

    Attributes
    ----------
    wrong
        An answer was wrong (and not just the thread count).
    """

    def __init__(self, message: str, wrong: bool) -> None:
        super().__init__(message)
        self.wrong = wrong


def settle() -> None:
    """Sleep until no thread of this process is running, at most ``SETTLE_LIMIT_S``."""
    deadline = time.perf_counter() + SETTLE_LIMIT_S
    while time.perf_counter() < deadline:
        wall, cpu = time.perf_counter(), time.process_time()
        time.sleep(SETTLE_SLICE_S)
        if time.process_time() - cpu < IDLE_SHARE * (time.perf_counter() - wall):
            return


def burst(call: Call, x: Array, count: int) -> list[int]:
    """Return the time of each of ``count`` calls in nanoseconds."""
    clock = time.perf_counter_ns
    times = [0] * count
    for i in range(count):
        start = clock()
        call(x)
        times[i] = clock() - start
    return times


def relative_error(answer: npt.ArrayLike, reference: npt.NDArray[np.float64]) -> float:
    """Return max|answer - reference| / max|reference|; infinite where the shapes differ.

    A missing batch axis of 1 counts as the same shape: ncnn knows no batch.
    """
    array = np.asarray(answer)
    if array.dtype != np.float32 or array.size != reference.size:
        return float("inf")
    difference = np.abs(array.reshape(reference.shape).astype(np.float64) - reference)
    error = float(difference.max() / np.abs(reference).max())
    return error if np.isfinite(error) else float("inf")


def _probe(name: str, form: str, call: Call, x: Array, error: float, plan: Plan) -> Candidate:
    """Time one form briefly: which form to keep, how many calls to a burst, how many cores."""
    settle()
    call(x)
    start = time.perf_counter()
    call(x)
    once_s = time.perf_counter() - start
    count = plan.calls_in(PROBE_S, once_s)
    wall, cpu = time.perf_counter(), time.process_time()
    times = burst(call, x, count)
    cores = (time.process_time() - cpu) / (time.perf_counter() - wall)
    calls = plan.calls_in(plan.burst_s, statistics.median(times) / 1e9)
    return Candidate(name, form, call, error, cores, calls, [times])


def admit(
    name: str,
    forms: dict[str, Call],
    x: Array,
    reference: npt.NDArray[np.float64],
    threads: int,
    plan: Plan,
) -> Candidate:
    """Check the answer and the thread use of every form; return the fastest that passes.

    Raises
    ------
    RejectedError
        None passes.
    """
    tolerance = OWN_TOLERANCE if name == FASTCONV else OTHERS_TOLERANCE
    passed: list[Candidate] = []
    rejected: list[str] = []
    wrong = False
    for form, call in forms.items():
        call(np.zeros_like(x))  # so that an engine which keeps its first input is found out
        error = relative_error(call(x), reference)
        if error > tolerance:
            rejected.append(f"{form}: error {error:.1e}, tolerance {tolerance:.0e}")
            wrong = True
            continue
        candidate = _probe(name, form, call, x, error, plan)
        if candidate.cores > threads + SPARE_CORES:
            rejected.append(f"{form}: runs on {candidate.cores:.1f} cores, {threads} asked for")
            continue
        passed.append(candidate)
    if not passed:
        raise RejectedError("; ".join(rejected), wrong)
    best = min(passed, key=lambda candidate: candidate.median_us)
    best.bursts_ns.clear()
    return best


def measure(candidates: list[Candidate], x: Array, plan: Plan, seed: int) -> Iterator[tuple[int, Candidate]]:
    """Time ``candidates`` in rounds, each in another order; yield before every burst.

    Whatever the caller does between two bursts (drawing a progress bar, say) ends before the
    process settles, and is not timed.
    """
    order = list(candidates)
    shuffle: Callable[[list[Candidate]], None] = random.Random(seed).shuffle
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    for round_ in range(plan.rounds):
        shuffle(order)
        for candidate in order:
            yield round_, candidate
            if affinity is not None:
                os.sched_setaffinity(0, affinity)  # in case the last engine pinned this thread
            settle()
            gc.collect()
            gc.disable()
            try:
                end = time.perf_counter() + plan.warm_up_s
                warm = 0
                while warm < plan.warm_up_calls or time.perf_counter() < end:
                    candidate.call(x)
                    warm += 1
                candidate.bursts_ns.append(burst(candidate.call, x, candidate.calls))
            finally:
                gc.enable()
