"""Which kernel is the fastest for each convolution of a network, measured inside the network on this machine.

Kernels are chosen by estimate. Here each is timed in its layer's place, with the weights and activations of the whole
network around it; what is faster is kept with the network, so that every process makes the same choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..compile import compile_graph, layers_of
from ..compile.conv import candidates
from ..errors import ArgumentError
from ..graph import Graph
from ..machine.description import this_machine
from .table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LayerTuning", "Tuning", "tune"]

Advance: TypeAlias = Callable[[float], None]

_MARGIN = 0.97  # another kernel must take less than this share of the chosen one's time
_LEAST_S = 0.5e-6  # ...and so much less: below, clocks and caches decide
_ROUNDS = 3  # at least; the least time of each counts


@dataclass(frozen=True, slots=True)
class LayerTuning:
    """What was found for one convolution.

    Attributes
    ----------
    name
        The node, as rewriting leaves it.
    seconds
        Kernel -> its least time inside the network, for the whole batch; the kernel chosen by estimate is the first.
    kernel
        The one that was kept.
    """

    name: str
    seconds: Mapping[str, float]
    kernel: str

    @property
    def estimated(self) -> str:
        """The kernel that was chosen by estimate."""
        return next(iter(self.seconds))


@dataclass(frozen=True, repr=False)
class Tuning(Table):
    """What `Model.tune` found. Prints as a table, in a notebook as HTML.

    Attributes
    ----------
    rows
        The convolutions for which there are several kernels.
    machine
        What the choices are kept for: processor and instruction-set level.
    before, after
        Least seconds of the whole network, for the whole batch: as estimated, and with what was kept. The same where
        nothing was faster.
    """

    rows: tuple[LayerTuning, ...]
    machine: str
    batch: int
    threads: int
    before: float
    after: float

    @property
    def kernels(self) -> dict[str, str]:
        """Node -> kernel, where another one than the estimated was kept."""
        return {row.name: row.kernel for row in self.rows if row.kernel != row.estimated}

    @property
    def gain(self) -> float:
        """The share of its time that the network gains, 0..1."""
        return 1 - self.after / self.before if self.before else 0.0

    @property
    def title(self) -> str:
        """What was measured."""
        images = f"{self.batch} image{'s' * (self.batch != 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.machine}, {images}, {threads}"

    def cells(self) -> list[Sequence[str]]:
        """Return of each layer its name, the estimated kernel and its time, the kept one and its time, the others."""
        return [
            (
                row.name,
                row.estimated,
                _microseconds(row.seconds[row.estimated]),
                row.kernel,
                _microseconds(row.seconds[row.kernel]),
                ", ".join(
                    f"{name} {_microseconds(seconds)}"
                    for name, seconds in row.seconds.items()
                    if name not in (row.estimated, row.kernel)
                ),
            )
            for row in self.rows
        ]

    def _captions(self) -> list[str]:
        return [self.title]

    def _cells(self) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str], str]:
        header = ("layer", "estimated", "time (us)", "kept", "time (us)", "others")
        gain = f"{100 * self.gain:.1f} % gained" if self.kernels else "nothing to gain"
        return (
            header,
            self.cells(),
            ("network", "", _microseconds(self.before), "", _microseconds(self.after), gain),
            "<<><><",
        )


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f}"


def tune(
    graph: Graph, threads: int, batches: tuple[NDArray[Any], ...], seconds: float, advance: Advance | None = None
) -> Tuning:
    """Time every kernel of every convolution inside the network, and keep the fastest of each.

    Parameters
    ----------
    graph
        As rewriting leaves it.
    threads
        Of a call.
    batches
        A batch of each input.
    seconds
        To measure for; more where that is too short for a few rounds.
    advance
        Called with shares of the work as they are done, 1 together.

    Raises
    ------
    ArgumentError
        `seconds` is not positive.
    """
    if not (isinstance(seconds, (int, float)) and 0 < seconds < inf):
        raise ArgumentError(f"seconds must be positive, got {seconds!r}")
    advance = advance or (lambda share: None)
    found = {
        name: [chosen.name, *(k.name for k in candidates(layer, this_machine(), likely=True) if k is not chosen)]
        for name, (layer, chosen) in layers_of(graph.replace(tuned={}), threads).items()
    }
    # One network for the first other kernel of every layer, one for the second and so on.
    turns = [
        {name: kernels[turn] for name, kernels in found.items() if turn < len(kernels)}
        for turn in range(1, max(map(len, found.values()), default=1))
    ]
    chosen = {name: kernels[0] for name, kernels in found.items()}
    base = compile_graph(graph, threads=threads, kernels=chosen)
    least: dict[str, dict[str, float]] = {name: {} for name in found}
    share = 1 / (len(turns) + 1)
    for others in turns:
        program = compile_graph(graph, threads=threads, kernels={**chosen, **others})
        for _ in _rounds(share * seconds, lambda done: advance(share * done)):
            for kernels, each in ((chosen, base), ({**chosen, **others}, program)):
                for name, spent in _by_node(each, batches).items():
                    if name in found and (each is base or name in others):
                        kernel = kernels[name]
                        least[name][kernel] = min(spent, least[name].get(kernel, spent))

    best = {name: _fastest(times) for name, times in least.items() if len(times) > 1}
    before = after = 0.0
    if any(kernel != chosen[name] for name, kernel in best.items()):
        tuned = compile_graph(graph, threads=threads, kernels={**chosen, **best})
        both = [inf] * 2
        for _ in _rounds(share * seconds, lambda done: advance(share * done)):
            both = [min(so_far, _timed(each, batches)) for so_far, each in zip(both, (base, tuned), strict=True)]
        before, after = both
        if after >= before:  # together they gain nothing
            best, after = {name: chosen[name] for name in best}, before
    else:
        before = after = min(_timed(base, batches) for _ in range(_ROUNDS))
        advance(share)
    rows = tuple(LayerTuning(name, least[name], kernel) for name, kernel in best.items())
    return Tuning(rows, this_machine().key, len(batches[0]), base.threads, before, after)


def _rounds(seconds: float, advance: Advance) -> Any:
    """Yield rounds for so long, and at least a few; the first is to warm up, and counts as the others do."""
    end, last, count = time.perf_counter() + seconds, time.perf_counter(), 0
    reported = 0.0
    while count < _ROUNDS or last < end:
        yield count
        count, last = count + 1, time.perf_counter()
        done = min(1.0, max(1 - (end - last) / seconds, 0.0)) if count >= _ROUNDS else 0.0
        advance(done - reported)
        reported = done
    advance(1 - reported)


def _by_node(program: Any, batches: tuple[NDArray[np.float32], ...]) -> dict[str, float]:
    """Return the seconds of each node in one run; a copy into another layout counts for the node that comes next."""
    spent: dict[str, float] = {}
    copies = 0.0
    for step, seconds in zip(program.steps, program.profile(batches, 1), strict=True):
        if step["kernel"] == "copy":
            copies += seconds
        else:
            spent[step["node"]] = spent.get(step["node"], 0.0) + seconds + copies
            copies = 0.0
    return spent


def _timed(program: Any, batches: tuple[NDArray[Any], ...]) -> float:
    begin = time.perf_counter()
    program.run_all(batches)
    return time.perf_counter() - begin


def _fastest(times: Mapping[str, float]) -> str:
    """Return the kernel to keep: the first, unless another one is clearly faster."""
    first, name = next(iter(times)), min(times, key=times.__getitem__)
    gained = times[first] - times[name]
    return name if times[name] < _MARGIN * times[first] and gained > _LEAST_S else first
