"""compile: Graph + this machine -> Program.

Each node becomes one step or a few (`convolutions`, `lowering`). A convolution's kernel is chosen by `dispatch`, its
weights are packed for exactly that kernel, and `plan` lays out the arena. Nothing here is saved.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, UnsupportedOperatorError
from ..graph import INPUT, Graph, Node
from ..machine.cpu import check_threads, kernels
from . import convolutions, lowering
from .dispatch import ALGORITHMS, FASTEST
from .plan import ARENA, CALLER, OUTPUTS, Ref, Step, Tensor, Value, lay_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..kernels._kernels import Program

__all__ = ["ALGORITHMS", "compile_graph"]

_GROUP_BYTES = 384 * 1024  # activations of the images that go through the network together: part of a 1 MB L2
_GROUP_IMAGES = 56  # four full tiles of rows for the linear layers; more gives nothing


def compile_graph(graph: Graph, *, threads: int | None = None, algorithm: str | None = None) -> Program:
    """Compile a graph for this machine.

    Parameters
    ----------
    graph : Graph
        float32, or float64 (which runs on BLAS).
    threads : int, optional
        Threads that a call may use; by default what the machine and the environment allow.
    algorithm : {"auto", "im2col", "packed", "direct", "winograd"}, optional
        The algorithm of every convolution; by default the fastest by rule. "auto" is that without Winograd, whose
        tiles spread a NaN or an infinity over their neighbours.

    Returns
    -------
    Program

    Raises
    ------
    UnsupportedOperatorError
        A convolution cannot be done by that algorithm, or there are too many outputs; the message names them.
    """
    if algorithm not in (None, *ALGORITHMS):
        raise ArgumentError(f"algorithm: needs one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    most = kernels().OUTPUTS_AT_MOST
    if len(graph.outputs) > most:
        raise UnsupportedOperatorError(
            f"a network with {len(graph.outputs)} outputs: at most {most} are computed in one call; "
            "concatenate some of them, or make two networks"
        )
    builder = Builder(graph, check_threads(threads), algorithm or FASTEST)
    return builder.program()


class Builder:
    """Turns nodes into steps, making layout changes where neighbours disagree."""

    def __init__(self, graph: Graph, threads: int, algorithm: str) -> None:
        self.graph, self.threads, self.algorithm = graph, threads, algorithm
        self.kernels = kernels()
        self.dtype = np.dtype(graph.dtype)
        self.steps: list[Step] = []
        self.values: dict[str, Value] = {}
        self.image = len(graph.input_shape) == 3
        shape = graph.input_shape
        source = Tensor(shape[1], shape[2], shape[0], True, CALLER) if self.image else Tensor.plain(shape, space=CALLER)
        source.compact = True
        self.values[INPUT] = Value(shape, planar=source)
        self.group = 1

    def program(self) -> Program:
        """Compile every node, place the outputs and the arena, and build the Program."""
        for node in self.graph.nodes:
            if 0 not in self.graph.shapes[node.name]:
                _LOWER[node.op](self, node)
            else:
                self.values[node.name] = self._new_value(node.name)
        for index, name in enumerate(self.graph.outputs):
            self._place_output(index, name)
        image_bytes = max(1, sum({id(s.y.tensor.root): s.y.tensor.root.size for s in self.steps}.values()))
        image_bytes *= self.dtype.itemsize
        self.group = max(1, min(_GROUP_IMAGES, _GROUP_BYTES // image_bytes))
        keep = image_bytes <= _GROUP_BYTES  # a small network: its borders need not be zeroed in every call
        if keep:
            self.steps = [step for step in self.steps if step.kernel != "zero_border"]
        for step in self.steps:
            self._cut(step)
        arena = lay_out(self.steps, self.group, keep)
        return self.kernels.Program(
            [step.spec() for step in self.steps],
            self.graph.input_shape,
            tuple(self.graph.shapes[name] for name in self.graph.outputs),
            group=self.group,
            arena=arena,
            scratch=max((step.scratch for step in self.steps), default=0),
            threads=self.threads,
            work=sum(step.parameters.get("work", 0) for step in self.steps),
            double=self.dtype == np.float64,
            levels=self._levels(),
        )

    def _levels(self) -> NDArray[np.float32] | None:
        """What a uint8 pixel becomes, by channel: v / 255, then (v - mean) / std. None where no image goes in."""
        shape = self.graph.input_shape
        if (
            not self.image
            or self.dtype != np.float32
            or len(self.graph.shapes[self.graph.outputs[0]]) != 1
            or len(self.graph.outputs) != 1
            or 0 in shape
        ):
            return None
        levels = np.tile(np.arange(256, dtype=np.float32) / np.float32(255), (shape[0], 1))
        if self.graph.mean is not None and self.graph.std is not None:
            mean, std = (np.asarray(v, np.float32)[:, None] for v in (self.graph.mean, self.graph.std))
            levels = (levels - mean) / std
        return np.ascontiguousarray(levels, np.float32)

    # --- values and layouts -----------------------------------------------------------------------

    def emit(self, kernel: str, node: str, x: Ref, y: Ref, **more: Any) -> Step:
        """Append a step."""
        known = {key: more.pop(key) for key in ("z", "label", "scratch") if key in more}
        step = Step(kernel, node, x, y, parameters=more, **known)
        self.steps.append(step)
        return step

    def _new_value(self, name: str) -> Value:
        shape = self.graph.shapes[name]
        if len(shape) == 3:
            return Value(shape, last=Tensor(shape[1], shape[2], shape[0]))
        return Value(shape, planar=Tensor.plain(shape))

    def output(self, node: Node) -> Tensor:
        """Make the tensor that the node's kernel writes, channels last for an image."""
        value = self.values[node.name] = self._new_value(node.name)
        tensor = value.last or value.planar
        assert tensor is not None
        return tensor

    def last(self, name: str) -> Tensor:
        """Return the value channels last (an image), or as it is (anything else)."""
        value = self.values[name]
        if len(value.shape) != 3:
            assert value.planar is not None
            return value.planar
        if value.last is None:
            planar = value.planar
            assert planar is not None
            if (planar.c == 1 or planar.h * planar.w == 1) and planar.border == [0, 0, 0, 0]:
                planar.compact = True
                value.last = Tensor(planar.h, planar.w, planar.c, compact=True, of=planar)
            else:
                value.last = Tensor(planar.h, planar.w, planar.c)
                self.emit("copy", name, Ref(planar), Ref(value.last), label="to channels last")
        return value.last

    def compact(self, name: str) -> Tensor:
        """Return the value as `last` does, in one run of memory."""
        tensor = self.last(name)
        if any(tensor.border):
            value = self.values[name]
            value.last = Tensor(tensor.h, tensor.w, tensor.c)
            self.emit("copy", name, Ref(tensor), Ref(value.last), label="drop the border")
            tensor = value.last
        tensor.compact = True
        return tensor

    def planar(self, name: str) -> Tensor:
        """Return the value in PyTorch's order, in one run of memory."""
        value = self.values[name]
        if value.planar is None:
            last = value.last
            assert last is not None
            if (last.c == 1 or last.h * last.w == 1) and not any(last.border):
                last.compact = True
                value.planar = Tensor(last.h, last.w, last.c, planar=True, compact=True, of=last)
            else:
                value.planar = Tensor(last.h, last.w, last.c, planar=True, compact=True)
                self.emit("copy", name, Ref(last), Ref(value.planar), label="to PyTorch's order")
        return value.planar

    def bordered(self, name: str, border: tuple[int, int, int, int], planar: bool = False) -> Tensor:
        """Return the value with at least this border of zeros: by widening the producer's tensor, or by a copy."""
        tensor = self.planar(name) if planar else self.last(name)
        if all(have >= want for have, want in zip(tensor.border, border, strict=True)):
            return tensor
        if tensor.compact or tensor.space != ARENA or tensor.of is not None:
            copy = Tensor(tensor.h, tensor.w, tensor.c, planar=tensor.planar)
            self.emit("zero_border", name, Ref(copy), Ref(copy))
            self.emit("copy", name, Ref(tensor), Ref(copy), label="pad with zeros")
            copy.border = list(border)
            return copy
        if not any(tensor.border):
            self.emit("zero_border", name, Ref(tensor), Ref(tensor))
        tensor.border = [max(have, want) for have, want in zip(tensor.border, border, strict=True)]
        return tensor

    def _place_output(self, index: int, name: str) -> None:
        """Have the value written straight into the caller's array where layouts allow it, else copy it there."""
        shape = self.graph.shapes[name]
        if 0 in shape:
            return
        tensor = self.planar(name)
        owner = tensor.root
        if owner.space == ARENA and owner.size == prod(shape) and not any(owner.border):
            owner.space = OUTPUTS + index
            return
        place = Tensor(tensor.h, tensor.w, tensor.c, tensor.planar, OUTPUTS + index, compact=True)
        self.emit("copy", name, Ref(tensor), Ref(place), label="to the caller")

    # --- units ------------------------------------------------------------------------------------

    def _cut(self, step: Step) -> None:
        """Settle what waited for the borders: blocks of rows, tables of offsets, scratch."""
        finish = _FINISH.get(step.kernel)
        if finish is not None:
            finish(self, step)


_LOWER = {**lowering.LOWER, **convolutions.LOWER}
_FINISH = {**lowering.FINISH, **convolutions.FINISH}
