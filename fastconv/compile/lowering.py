"""Graph -> steps, in two passes.

The first goes through the nodes in order. Each chooses its kernel, says in which layout it leaves its result, and what
it needs of what it reads: a layout, a border of zeros, one run of memory. It returns a function that emits its steps.
The second calls these functions. By then all needs of all readers are known: a value gets the border that its
readers want where its producer writes it, and a copy is made only where one layout cannot serve all.
"""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, UnsupportedOperatorError
from ..graph.ops import FAMILIES, family_of
from ..graph.ops.activation import ACTIVATIONS
from .conv import applicable, choose
from .tensors import ALIGN, NCHW, NHWC, NONE, ROWS, Ref, Step, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from ..graph import Graph, Node
    from ..kernels._kernels import Kernels
    from ..machine.description import Machine
    from .conv import ConvKernel, Layer
    from .tensors import Border

    Emit: TypeAlias = Callable[[], None]

__all__ = ["Lowering", "Read", "Value"]


# Operators that read an image as rows of its planes; those that leave it in the layout in which they find it.
_IN_PLANES = frozenset((
    "flatten", "group_norm", "gru", "layer_norm", "linear", "lstm", "matmul", "reshape", "rms_norm", "rnn",
))  # fmt: skip
_IN_ANY = frozenset((
    *ACTIVATIONS, *FAMILIES["arithmetic"], "cat", "dropout", "identity", "log_softmax", "slice", "softmax",
))  # fmt: skip


class Value:
    """A value of the graph: how its producer leaves it, what its readers need, and the tensors that hold it.

    Attributes
    ----------
    made
        The layout in which its producer writes it.
    viewed
        What it is a view of, another value under another shape, or None.
    borders
        Layout -> the border that all readers in that layout need together.
    contiguous
        The layouts that somebody reads as one run of memory.
    """

    __slots__ = ("bordered", "borders", "contiguous", "made", "name", "shape", "source", "tensors", "viewed")

    def __init__(self, name: str, shape: tuple[int, ...], made: str) -> None:
        self.name, self.shape, self.made = name, shape, made
        self.viewed: Read | None = None
        self.source: tuple[int, ...] | None = None  # of a flattened image in NHWC order: its (C, H, W)
        self.borders: dict[str, Border] = {}
        self.contiguous: set[str] = set()
        self.tensors: dict[str, Tensor] = {}
        self.bordered: dict[str, Tensor] = {}

    @property
    def size(self) -> tuple[int, int, int]:
        """(h, w, c) as tensors have it."""
        if len(self.shape) == 3:
            return self.shape[1], self.shape[2], self.shape[0]
        return 1, prod(self.shape[:-1]), self.shape[-1] if self.shape else 1

    @property
    def one_order(self) -> bool:
        """Whether NHWC and NCHW are the same order of elements."""
        h, w, c = self.size
        return c == 1 or h * w == 1

    @property
    def at_hand(self) -> set[str]:
        """The layouts in which it exists, or that somebody has asked for so far."""
        return {self.made, *self.borders}


class Read:
    """One reader's need of a value."""

    __slots__ = ("border", "layout", "value")

    def __init__(self, value: Value, layout: str, border: Border) -> None:
        self.value, self.layout, self.border = value, layout, border


class Lowering:
    """Both passes over one graph.

    Parameters
    ----------
    graph
    machine
        What costs are estimated for.
    kernels
        The compiled kernels.
    threads
        Of a call, among which units are dealt out.
    algorithm, kernel, forced
        As `algorithm`, `kernel` and `kernels` for `compile_graph`.
    weights_in_call
        Weights are inputs of the program, packed once per call, instead of constants.
    """

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        kernels: Kernels,
        threads: int,
        algorithm: str,
        kernel: str | None,
        forced: Mapping[str, str] | None,
        weights_in_call: bool,
    ) -> None:
        self.graph, self.machine, self.kernels, self.threads = graph, machine, kernels, threads
        self.algorithm, self.kernel, self.weights_in_call = algorithm, kernel, weights_in_call
        self._forced = dict(forced or {})
        plain = algorithm == "auto" and kernel is None and forced is None
        self._tuned = graph.tuned.get(machine.key, {}) if plain else {}
        self.layers: dict[str, tuple[Layer, ConvKernel]] = {}  # of each convolution, what it is and what computes it
        self.dtype = np.dtype(graph.dtype)
        self.steps: list[Step] = []
        self.prologue: list[Step] = []
        self.together = 1  # images that should go through the network at once, if memory allows
        self.shared = 0  # bytes that the prologue makes
        self.keep: list[np.ndarray] = []
        self._counted = 0  # of those, how many belong to steps that were emitted
        spaces = kernels.SPACES
        self.fixed, self.arena, self.carried, self.shared_space, caller = (
            spaces[name] for name in ("fixed", "arena", "carried", "shared", "caller")
        )
        self.inputs: list[tuple[tuple[int, ...], bool]] = [(shape, True) for shape in graph.inputs.values()]
        self.call_weights: dict[tuple[str, str], dict[str, int]] = {}  # (node, role) -> place
        if weights_in_call:
            for node in graph.nodes:
                for role, array in node.weights.items():
                    self.call_weights[node.name, role] = {"space": caller + len(self.inputs), "offset": 0}
                    self.inputs.append((array.shape, False))
        self._unread = {key for key in self.call_weights if 0 not in graph.shapes[key[0]]}
        self.first_output = caller + len(self.inputs)
        self.readers = graph.consumers()
        self._wants: dict[str, set[str]] = {}
        self.values: dict[str, Value] = {}
        for index, (name, shape) in enumerate(graph.inputs.items()):
            image = len(shape) == 3
            value = self.values[name] = Value(name, shape, NCHW if image else ROWS)
            value.contiguous.add(value.made)
            value.tensors[value.made] = Tensor(*value.size, self.dtype, nchw=image, space=caller + index)

    @property
    def double(self) -> bool:
        """Whether all is computed in float64."""
        return self.dtype.itemsize == 8

    def plan(self) -> list[Emit]:
        """Go through the nodes; return what emits the steps of each."""
        emits: list[Emit] = []
        for node in self.graph.nodes:
            if 0 in self.graph.shapes[node.name]:
                self.write(node)
            else:
                emits.append(lower(node)(self, node))
        if self._forced:
            raise ArgumentError(
                f"kernels: {min(self._forced)!r} is no convolution of the network; its convolutions are "
                f"{', '.join(self.layers) or 'none'}"
            )
        return emits

    def run(self) -> None:
        """Make the steps."""
        emits = self.plan()
        outputs = [
            self.read(name, NCHW, contiguous=True) if 0 not in self.graph.shapes[name] else None
            for name in self.graph.outputs
        ]
        self._counted = len(self.keep)
        for emit in emits:
            emit()
        if self._unread:
            name, role = min(self._unread)
            raise UnsupportedOperatorError(f"{name}: its {role} cannot come with the call; leave out weights_in_call")
        for index, read in enumerate(outputs):
            if read is not None:
                self._place_output(self.first_output + index, read)

    def choose(self, layer: Layer) -> ConvKernel:
        """Return the kernel of a node that is one convolution."""
        name = self._forced.pop(layer.name, self.kernel)
        if name is None:
            name = applicable(layer, self.machine, self._tuned.get(layer.name))
        kernel = choose(layer, self.machine, self.algorithm, name)
        self.layers[layer.name] = layer, kernel
        return kernel

    # --- the first pass: what nodes need --------------------------------------------------------------

    def read(self, name: str, layout: str = NHWC, *, border: Border = NONE, contiguous: bool = False) -> Read:
        """Say that a node reads a value in a layout, with at least this border of zeros, or as one run of memory.

        Anything but an image has one layout, whatever is asked for.
        """
        value = self.values[name]
        if len(value.shape) != 3:
            layout = ROWS
        have = value.borders.get(layout, NONE)
        value.borders[layout] = tuple(map(max, have, border))  # type: ignore[assignment]
        if contiguous:
            value.contiguous.add(layout)
        return Read(value, layout, border)

    def write(self, node: Node, layout: str = NHWC) -> Value:
        """Say that a node writes its result in a layout (ROWS for anything but an image)."""
        shape = self.graph.shapes[node.name]
        value = self.values[node.name] = Value(node.name, shape, layout if len(shape) == 3 else ROWS)
        return value

    def view(self, node: Node, source: Read, layout: str = NCHW) -> Value:
        """Say that a node's result is the memory of what it reads under another shape, in a layout of that."""
        value = self.write(node, layout)
        value.viewed = source
        value.contiguous.add(value.made)
        return value

    def layout_of(self, *names: str) -> str:
        """Return the layout of what is computed element by element from values: planes only where all are.

        An image from the caller is in planes too, but what reads a result made of it wants it otherwise.
        """
        images = [name for name in names if len(self.graph.shapes[name]) == 3]
        in_planes = [name not in self.graph.inputs and self.values[name].made == NCHW for name in images]
        return NCHW if images and all(in_planes) else NHWC

    def layout_for(self, name: str) -> str:
        """Return the layout in which the readers of an image want it, for a producer that leaves it in any."""
        return NHWC if NHWC in self._wanted(name) else NCHW

    def _wanted(self, name: str) -> set[str]:
        """Return the layouts that the readers of a value want; of those that take any, what their readers want."""
        if name not in self._wants:
            wanted: set[str] = set()
            for node in self.readers.get(name, ()):
                if node.op in _IN_ANY:
                    wanted |= self._wanted(node.name)
                elif node.op != "permute":
                    wanted.add(NCHW if node.op in _IN_PLANES else NHWC)
            self._wants[name] = wanted
        return self._wants[name]

    def only_returned(self, node: Node) -> bool:
        """Tell whether a node's result is an output that no other node reads."""
        return node.name in self.graph.outputs and not self.readers[node.name]

    # --- the second pass: tensors and steps -------------------------------------------------------------

    def emit(self, step: Step) -> None:
        """Append a step, which reads the constants that were placed since the last one."""
        step.constants = sum(array.nbytes for array in self.keep[self._counted :])
        self._counted = len(self.keep)
        self.steps.append(step)

    def ref(self, read: Read) -> Ref:
        """Return what a reader sees: from its own border on."""
        tensor = self.tensor(read)
        return Ref(tensor, read.border[0], read.border[2])

    def tensor(self, read: Read) -> Tensor:
        """Return the tensor that serves a reader, made by a copy where the producer's does not."""
        value, layout = read.value, read.layout
        tensor = self._in_layout(value, layout)
        if all(map(int.__ge__, tensor.border, read.border)):
            return tensor
        if layout not in value.bordered:
            value.bordered[layout] = self._copy(value, tensor, layout, value.borders[layout], "pad with zeros")
        return value.bordered[layout]

    def result(self, value: Value) -> Tensor:
        """Return the tensor that a value's producer writes, with the border that its readers want."""
        layout = value.made
        if layout not in value.tensors:
            if value.viewed is not None:
                h, w, c = value.size
                tensor = self.tensor(value.viewed).reshaped(h, w, c, nchw=layout == NCHW)
            else:
                whole = layout in value.contiguous or (value.one_order and len({layout, *value.borders}) > 1)
                border = NONE if whole else value.borders.get(layout, NONE)
                tensor = self._new(value, layout, border)
            value.tensors[layout] = tensor
        return value.tensors[layout]

    def temporary(self, h: int, w: int, c: int) -> Tensor:
        """Return a tensor between two steps of one node."""
        return Tensor(h, w, c, self.dtype, space=self.arena)

    def _in_layout(self, value: Value, layout: str) -> Tensor:
        """Return the value in a layout, with or without a border."""
        made = self.result(value)
        if layout == value.made:
            return made
        if layout not in value.tensors:
            if value.one_order and not any(made.border):
                value.tensors[layout] = made.reshaped(*value.size, nchw=layout == NCHW)
            else:
                border = NONE if layout in value.contiguous else value.borders[layout]
                label = "to NHWC" if layout == NHWC else "to NCHW"
                value.tensors[layout] = self._copy(value, made, layout, border, label)
        return value.tensors[layout]

    def _new(self, value: Value, layout: str, border: Border) -> Tensor:
        """Return a new tensor in the arena, its border zeroed."""
        tensor = Tensor(*value.size, self.dtype, nchw=layout == NCHW, space=self.arena, border=border)
        if any(border):
            record = dict(zip(("top", "bottom", "left", "right"), border, strict=True))
            whole = Ref(tensor)
            self.emit(Step("zero_border", value.name, whole, whole, record, cut=lambda images: (1, 1, 1, 0)))
        return tensor

    def _copy(self, value: Value, source: Tensor, layout: str, border: Border, label: str) -> Tensor:
        copy = self._new(value, layout, border)
        self.emit(Step("copy", value.name, Ref(source), Ref(copy), {}, label=label))
        return copy

    def _place_output(self, space: int, read: Read) -> None:
        """Have a value written straight into the caller's array where layouts allow it, else copy it there."""
        tensor = self.tensor(read)
        owner = tensor.root
        if owner.space == self.arena and owner.size == prod(read.value.shape) and not any(owner.border):
            owner.space = space
            return
        place = Tensor(tensor.h, tensor.w, tensor.c, self.dtype, nchw=tensor.nchw, space=space)
        self.emit(Step("copy", read.value.name, Ref(tensor), Ref(place), {}, label="to the caller"))

    # --- the fields of records ----------------------------------------------------------------------------

    def activation(self, fused: tuple[Any, ...] | None) -> dict[str, Any]:
        """Return the fields of kernels/records.pxi's Activation for a fused one, ``(op, *parameters)`` or None."""
        name, *parameters = ("none",) if fused is None else ACTIVATIONS[fused[0]].compiled(*fused[1:])
        a, b = (*parameters, 0.0, 0.0)[:2]
        return {"kind": self.kernels.ACTIVATIONS[name], "a": a, "b": b}

    def fused_pool(self, pool: tuple[Any, ...] | None = None, first: bool = False) -> dict[str, Any]:
        """Return the fields of kernels/records.pxi's FusedPool, for (kind, kh, kw, sh, sw) or none."""
        kind, kh, kw, sh, sw = pool or ("none", 1, 1, 1, 1)
        return {"kind": self.kernels.POOLS[kind], "kh": kh, "kw": kw, "sh": sh, "sw": sw, "first": first}

    # --- constants --------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray) -> dict[str, int]:
        """Return the place of an array that the program keeps: C-contiguous, or with strides that its reader knows."""
        self.keep.append(array)
        return {"space": self.fixed, "offset": self.kernels.address(array)}

    def given(self, node: Node, role: str, size: int) -> dict[str, int]:
        """Return the place of a weight as PyTorch has it; an absent one is zeros."""
        if role not in node.weights:
            return self.constant(np.zeros(size, self.dtype))
        return self.from_call(node, role) or self.constant(node.weights[role])

    def from_call(self, node: Node, role: str) -> dict[str, int] | None:
        """Return the place of a weight that comes with the call; None where it is a constant."""
        self._unread.discard((node.name, role))
        return self.call_weights.get((node.name, role))

    def shared_tensor(self, size: int) -> Tensor:
        """Return a tensor that the prologue writes, once per call."""
        tensor = Tensor(1, 1, size, self.dtype, space=self.shared_space)
        tensor.offset = self.shared
        self.shared += -(-size * self.dtype.itemsize // ALIGN) * ALIGN
        return tensor

    def packed(self, node: Node, role: str, order: str, groups: int, shape: tuple[int, int, int]) -> dict[str, int]:
        """Return the place of a weight in the order that a kernel reads (PACK_ORDERS); an absent one is zeros.

        `shape` is (O, I, taps), O of all groups together. A weight that comes with the call is packed by a step.
        """
        k, code = self.kernels, self.kernels.PACK_ORDERS[order]
        channels, inputs, taps = shape
        size = k.packed_size(code, groups, channels // groups, inputs * taps)
        if role not in node.weights:
            return self.constant(np.zeros(size, self.dtype))
        weight = self.from_call(node, role)
        if weight is None:
            return self.constant(k.pack_array(code, groups, node.weights[role].reshape(shape)))
        record = {
            "weight": weight,
            "groups": groups,
            "channels": channels,
            "per_group": inputs,
            "taps": taps,
            "order": code,
        }
        return self._made_in_call("pack", node, role, size, record)

    def winograd_weight(self, node: Node, scheme: int) -> dict[str, int]:
        """Return the place of a 3x3 weight as a scheme of Winograd's algorithm reads it, as `packed` does."""
        k, array = self.kernels, node.weights["weight"]
        weight = self.from_call(node, "weight")
        if weight is None:
            return self.constant(k.pack_winograd(scheme, array))
        channels, inputs = array.shape[:2]
        record = {"weight": weight, "channels": channels, "inputs": inputs, "scheme": scheme}
        size, scratch = k.winograd_size(scheme, channels, inputs), 9 * inputs * k.NR * array.itemsize
        return self._made_in_call("pack_winograd", node, "weight", size, record, scratch)

    def _made_in_call(
        self, kernel: str, node: Node, role: str, size: int, record: dict[str, Any], scratch: int = 0
    ) -> dict[str, int]:
        """Return the place of so many elements that a step of the prologue makes of a weight."""
        place = self.shared_tensor(size)
        ref, label = Ref(place), f"pack {role}"
        self.prologue.append(
            Step(kernel, node.name, ref, ref, record, label=label, cut=lambda images: (1, 1, 1, scratch))
        )
        return {"space": self.shared_space, "offset": place.offset}


def lower(node: Node) -> Callable[[Lowering, Node], Emit]:
    """Return the function that lowers a node, from the family that its operator has in every stage."""
    family = import_module(f".ops.{family_of(node.op)}", __package__)
    lowered: Callable[[Lowering, Node], Emit] = family.LOWER[node.op]
    return lowered
