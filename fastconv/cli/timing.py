"""Time a model, beside PyTorch where it is installed: what ``fastconv bench`` shows.

The answers are compared first. Then the engines take turns in short bursts, each after a pause in
which the other's worker threads fall asleep, so that a machine that drifts or is busy slows all of
them alike: trust the ratio before the figures.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UnsupportedOperatorError
from ..model import Model

if TYPE_CHECKING:
    import torch

__all__ = ["TOLERANCE", "Timing", "WrongAnswerError", "measure", "torch_net"]

TOLERANCE = 1e-4
"""Largest difference between two right answers, relative to the largest output."""

ROUNDS = 20
MIN_ROUNDS = 3
PAUSE_S = 0.005
"""Longer than OpenMP's workers spin after their work, so that they do not disturb the next."""


class WrongAnswerError(Exception):
    """The engines do not agree, so neither is timed; the message says by how much."""


@dataclass(slots=True)
class Timing:
    """The times of one engine on one case.

    Attributes
    ----------
    engine
        ``"fastconv"`` or ``"torch"``.
    batch, threads
        Images in a call, and the most threads it may use.
    seconds
        Of each timed call.
    """

    engine: str
    batch: int
    threads: int
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds of the median call."""
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Seconds of the fastest call."""
        return min(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Throughput at the median."""
        return self.batch / self.median


@dataclass(slots=True)
class _Engine:
    """One engine, ready for one case: inside `mode`, `call` runs the network once."""

    timing: Timing
    call: Callable[[], Any]
    mode: Callable[[], AbstractContextManager[Any]] = nullcontext


def torch_net(model: Model) -> tuple[torch.nn.Module | None, str]:
    """Rebuild a model in PyTorch; where that cannot be, return None and the reason."""
    if find_spec("torch") is None:
        return None, "torch is not installed, so fastconv is timed alone; pip install torch"
    from ..formats.torch import to_torch

    try:
        return to_torch(model.graph).eval(), ""
    except UnsupportedOperatorError as error:
        return None, f"fastconv is timed alone: {error}"


def measure(
    model: Model,
    net: torch.nn.Module | None,
    batch: int,
    seconds: float,
    advance: Callable[[float], None],
) -> list[Timing]:
    """Time one case: so many images in a call, with the model's thread count.

    Parameters
    ----------
    model, net
        The same network in fastconv and, if given, in PyTorch.
    batch
        Images in a call.
    seconds
        About how long to time each engine.
    advance
        Called with the share of the work done since the last call; the shares add up to 1.

    Returns
    -------
    list of Timing
        fastconv's, then PyTorch's.

    Raises
    ------
    WrongAnswerError
        The answers differ by more than `TOLERANCE`.
    """
    arrays = random_batch(model, batch)
    engines = [_Engine(Timing("fastconv", batch, model.threads), lambda: model(*arrays))]
    if net is not None:
        engines.append(_torch_engine(net, arrays, model.threads))
        _compare(*(_outputs_of(engine) for engine in engines))

    turns = [(engine, _calls_in(seconds / ROUNDS, engine)) for engine in engines]
    deadline = time.perf_counter() + 2 * seconds * len(engines)  # for calls longer than a burst
    for done in range(ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() > deadline:
            advance(1 - done / ROUNDS)
            break
        for engine, count in turns:
            _burst(engine, count)
        turns.reverse()
        advance(1 / ROUNDS)
    return [engine.timing for engine in engines]


def random_batch(model: Model, batch: int) -> list[np.ndarray]:
    """Return images in 0..1 for each input of a model."""
    rng = np.random.default_rng(0)
    return [rng.random((batch, *shape), np.float32) for shape in model.input_shapes.values()]


def _torch_engine(net: torch.nn.Module, arrays: Sequence[np.ndarray], threads: int) -> _Engine:
    """Prepare PyTorch's eager mode, as its users run it for speed: without autograd."""
    import torch

    tensors = [torch.from_numpy(array) for array in arrays]

    @contextmanager
    def mode() -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.inference_mode():
                yield
        finally:
            torch.set_num_threads(before)

    return _Engine(Timing("torch", len(arrays[0]), threads), lambda: net(*tensors), mode)


def _burst(engine: _Engine, count: int) -> None:
    """Add the times of `count` calls to the engine's timing."""
    time.sleep(PAUSE_S)
    clock, call, seconds = time.perf_counter, engine.call, engine.timing.seconds
    with engine.mode():
        if count > 1:
            call()  # brings caches and worker threads back; of no weight where calls are long
        for _ in range(count):
            start = clock()
            call()
            seconds.append(clock() - start)


def _calls_in(seconds: float, engine: _Engine) -> int:
    """Return how many calls fill a burst, judged by the faster of two."""
    times = []
    with engine.mode():
        for _ in range(2):
            start = time.perf_counter()
            engine.call()
            times.append(time.perf_counter() - start)
    return max(1, int(seconds / min(times)))


def _outputs_of(engine: _Engine) -> list[np.ndarray]:
    with engine.mode():
        outputs = engine.call()
    return [np.asarray(out) for out in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _compare(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
    """Raise WrongAnswerError unless both engines give the same outputs."""
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        if a.shape != b.shape:
            raise WrongAnswerError(f"output {index}: fastconv gives {a.shape}, torch {b.shape}")
        error, largest = float(np.abs(a - b).max()), float(np.abs(b).max())
        if not error <= TOLERANCE * largest:  # NaN is wrong, too
            raise WrongAnswerError(
                f"output {index}: fastconv and torch differ by {error:.2g} where the largest is "
                f"{largest:.2g}; {TOLERANCE:g} of that is allowed; please report this model"
            )
