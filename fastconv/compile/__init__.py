"""compile: Graph + this machine -> Program. Nothing here is saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ArgumentError, UnsupportedOperatorError
from ..machine.cpu import check_threads
from ..machine.cpu import kernels as compiled_kernels
from ..machine.description import this_machine
from .lowering import Lowering
from .tensors import Segment, lay_out, lives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from ..graph import Graph
    from ..kernels._kernels import Program
    from ..machine.description import Machine
    from .conv import ConvKernel, Layer
    from .tensors import Step

__all__ = ["ALGORITHMS", "compile_graph", "layers_of"]

ALGORITHMS = ("auto", "exact", "im2col", "packed", "direct", "winograd")

_CHUNK_SHARE = 3 / 8  # of L2: activations of the images that go through a small network together
_CHUNK_IMAGES = 56  # four full tiles of rows for the linear layers; more gives nothing
_RESIDENT_SHARE = 1 / 2  # of L2: weights that stay there from one image to the next
_LATE_SHARE = 3 / 8  # of a thread's part of the last level: activations of the images that go together late


def compile_graph(
    graph: Graph,
    *,
    threads: int | None = None,
    algorithm: str = "auto",
    kernel: str | None = None,
    kernels: Mapping[str, str] | None = None,
    machine: Machine | None = None,
    weights_in_call: bool = False,
) -> Program:
    """Compile a graph for this machine.

    Parameters
    ----------
    graph : Graph
        float32, or float64 (which runs on BLAS).
    threads : int, optional
        Threads that a call may use; by default what the machine and the environment allow.
    algorithm : {"auto", "exact", "im2col", "packed", "direct", "winograd"}, optional
        How convolutions are computed: "auto" is the fastest by estimate, "exact" is that without Winograd, whose
        tiles spread a NaN or an infinity over their neighbours.
    kernel : str, optional
        The one kernel of every convolution, by its name in `fastconv.compile.conv.KERNELS`.
    kernels : dict of str to str, optional
        Node -> the kernel of that one convolution. With neither `kernel` nor this, and "auto", what the graph was tuned
        to on such a machine is taken where it applies.
    machine : Machine, optional
        What costs are estimated for; by default this machine.
    weights_in_call : bool, optional
        The program takes the weights of its nodes as further inputs, after those of the graph and in the order of the
        nodes and of their weights, instead of holding them.

    Returns
    -------
    Program

    Raises
    ------
    UnsupportedOperatorError
        A convolution cannot be done by that algorithm or kernel, or there are too many inputs or outputs; the
        message names them.
    ArgumentError
        There is no such algorithm, kernel or convolution, or the number of threads is not allowed.
    """
    if algorithm not in ALGORITHMS:
        raise ArgumentError(f"algorithm: needs one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    compiled = compiled_kernels()
    if len(graph.inputs) > compiled.INPUTS_AT_MOST:
        raise UnsupportedOperatorError(
            f"a network with {len(graph.inputs)} inputs: at most {compiled.INPUTS_AT_MOST} are taken in one call; "
            "concatenate some of them, and slice them in the network"
        )
    if len(graph.outputs) > compiled.OUTPUTS_AT_MOST:
        raise UnsupportedOperatorError(
            f"a network with {len(graph.outputs)} outputs: at most {compiled.OUTPUTS_AT_MOST} are computed in one "
            "call; concatenate some of them, or make two networks"
        )
    count = check_threads(threads)
    low = Lowering(graph, machine or this_machine(), compiled, count, algorithm, kernel, kernels, weights_in_call)
    low.run()
    machine = low.machine

    # In a small network, borders need not be zeroed in every call: nothing else is ever written to them.
    image_bytes = sum({id(step.y.tensor.root): step.y.tensor.root.bytes for step in low.steps}.values())
    small = image_bytes <= _CHUNK_SHARE * machine.l2_bytes
    steps = [step for step in low.steps if not (small and step.kernel == "zero_border")]

    segments = _segments(steps, low.arena, machine, count, low.together)
    arena, carried = lay_out(steps, segments, low.arena, low.carried, small)
    most_scratch = 0
    specs = []
    for step, images in _chunks(low.prologue, steps, segments):
        *alone, scratch = step.cut(1)
        *together, more = step.cut(images) if images > 1 else (*alone, scratch)
        most_scratch = max(most_scratch, scratch, more)
        specs.append(step.spec(alone, together))
    prologue = len(low.prologue)
    work = sum(step.work for step in steps)
    # Steps refer to the lowering, which lists them: weights that were packed would wait for the garbage collector.
    low.steps.clear()
    low.prologue.clear()
    return compiled.Program(
        specs,
        tuple(low.inputs),
        tuple(graph.shapes[name] for name in graph.outputs),
        prologue=prologue,
        segments=[(prologue + segment.end, segment.images) for segment in segments],
        arena=arena,
        carried=carried,
        scratch=most_scratch,
        shared=low.shared,
        threads=count,
        work=work,
        double=low.double,
        keep=low.keep,
        levels=_levels(graph),
    )


def layers_of(graph: Graph, threads: int | None = None) -> dict[str, tuple[Layer, ConvKernel]]:
    """Return the convolutions of a graph, as kernels judge them on this machine, each with the one that is chosen."""
    low = Lowering(graph, this_machine(), compiled_kernels(), check_threads(threads), "auto", None, None, False)
    low.plan()
    return low.layers


def _segments(steps: list[Step], space: int, machine: Machine, threads: int, together: int) -> list[Segment]:
    """Return how many images go through the steps together: the same through all, or few early and many late.

    together: images that should, if memory allows.
    """
    image_bytes = max(1, sum(tensor.bytes for tensor, _, _ in lives(steps, space)))
    late_bytes = int(_LATE_SHARE * machine.llc_bytes) // threads
    chunk = max(1, min(_CHUNK_IMAGES, int(_CHUNK_SHARE * machine.l2_bytes) // image_bytes))
    chunk = max(chunk, min(together, late_bytes // image_bytes))
    if sum(step.constants for step in steps) <= _RESIDENT_SHARE * machine.l2_bytes:
        return [Segment(len(steps), chunk)]
    from .segments import divide

    return divide(steps, space, machine, chunk, late_bytes)


def _chunks(prologue: list[Step], steps: list[Step], segments: list[Segment]) -> Iterator[tuple[Step, int]]:
    """Return each step, and how many images go through it together."""
    yield from ((step, 1) for step in prologue)
    begin = 0
    for segment in segments:
        yield from ((step, segment.images) for step in steps[begin : segment.end])
        begin = segment.end


def _levels(graph: Graph) -> Callable[[], NDArray[np.float32]] | None:
    """Return the maker of the table of what uint8 pixels become. None where not one image goes in, or no class out."""
    (shape, *more) = graph.inputs.values()
    if (
        more
        or len(shape) != 3
        or 0 in shape
        or graph.dtype != np.float32
        or len(graph.outputs) != 1
        or len(graph.shapes[graph.outputs[0]]) != 1
    ):
        return None

    mean, std = graph.mean, graph.std  # the graph itself would stay, weights and all

    def make() -> NDArray[np.float32]:
        from ..preprocessing import levels  # most programs are never asked to predict

        return levels(shape[0], mean, std)

    return make
