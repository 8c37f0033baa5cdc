"""Transposed convolution as convolutions with stride 1, each of which writes every stride-th pixel of the result.

Pixel Y of the result sums x[i] w[j] over all Y + padding = stride i + dilation j. With g = gcd(stride, dilation),
taps j that differ by n = stride / g reach pixels of one residue, from inputs dilation / g apart: to each phase j0 < n
belongs a convolution with the kernel w[j0], w[j0 + n], ..., mirrored, whose output q is pixel stride q + dilation j0 -
padding. No product with a zero between pixels is ever computed, so that a NaN of the image reaches what it reaches in
PyTorch; one of a weight also reaches what its convolution multiplies with the border of zeros. (The sub-pixel view of
Shi et al., "Is the deconvolution layer the same as a convolutional layer?", 2016.)

Phases with equally many taps may also be channels of one convolution, whose result is then dealt out: that is better
where there are few channels, since they fill vectors together.
"""

from __future__ import annotations

from itertools import groupby, product
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..errors import UnsupportedOperatorError
from ..graph import Node
from .conv import Layer, choose
from .strided import Operand, constant_operand, emit_strided, steps_of, strided_step
from .tensors import NCHW, NHWC, Ref, Step, Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..graph.ops.spec import Shape
    from .conv import ConvKernel
    from .lowering import Emit, Lowering, Read

__all__ = ["lower"]

# Cycles: a float that is dealt out is written, read and written again. us at v3, apart and together, 32x32 with 64
# channels and a kernel of 4: 3 outputs 372/276, 12 530/482, 16 535/591; 8x8 by 4, 16->1 390/186; 28x28, 20 outputs
# 593/547.
_COPIED = 1.0
_STEP = 500.0
_PARTS_AT_MOST = 64  # convolutions; where there would be more, phases go together whatever it costs


class _Phases:
    """Phases of one axis that are computed together: they have equally many taps.

    Attributes
    ----------
    axis
        What they are phases of.
    first, count
        Which.
    taps
        Of each.
    begin, end
        The range of outputs q that some of them needs.
    """

    __slots__ = ("axis", "begin", "count", "end", "first", "taps")

    def __init__(self, axis: _Axis, first: int, count: int) -> None:
        self.axis, self.first, self.count, self.taps = axis, first, count, axis.taps(first)
        ranges = [axis.ends(phase) for phase in range(first, first + count)]
        self.begin, self.end = min(begin for begin, _ in ranges), max(end for _, end in ranges)

    @property
    def size(self) -> int:
        """How many outputs q there are."""
        return self.end - self.begin

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and after the input; where less than none, so much of the input is not read."""
        return self.axis.spacing * (self.taps - 1) - self.begin, self.end - self.axis.size

    def pieces(self) -> list[tuple[int, int, int, int]]:
        """Return neighbours with the same range: (first, count, begin, end); three at most without dilation."""
        phases = range(self.first, self.first + self.count)
        groups = [(both, list(group)) for both, group in groupby(phases, self.axis.ends)]
        return [(group[0], len(group), begin, end) for (begin, end), group in groups if begin < end]


class _Axis:
    """One axis: its sizes, and its phases."""

    __slots__ = ("dilation", "every", "kernel", "out", "padding", "phases", "size", "spacing", "stride")

    def __init__(self, size: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
        self.size, self.out, self.kernel = size, out, kernel
        self.padding, self.dilation = padding, dilation
        # One pixel has no neighbour whose distance would matter: each tap is a phase, and none meets a border of zeros.
        self.stride = stride = dilation * kernel if size == 1 else stride
        self.every, self.spacing = stride // gcd(stride, dilation), dilation // gcd(stride, dilation)
        self.phases = min(self.every, kernel)

    def taps(self, phase: int) -> int:
        """Return how many taps a phase has."""
        return -(-(self.kernel - phase) // self.every)

    def ends(self, phase: int) -> tuple[int, int]:
        """Return the range of outputs q of a phase whose pixels lie in the result."""
        first = self.padding - self.dilation * phase
        return -(-first // self.stride), -(-(self.out + first) // self.stride)

    def pixel(self, phase: int, q: int) -> int:
        """Return the pixel that is output q of a phase."""
        return self.stride * q + self.dilation * phase - self.padding

    @property
    def complete(self) -> bool:
        """Whether every pixel belongs to a phase with taps."""
        return self.phases == self.stride

    def alone(self) -> list[_Phases]:
        """Each phase by itself."""
        every = (_Phases(self, phase, 1) for phase in range(self.phases))
        return [phases for phases in every if phases.size > 0]

    def together(self) -> list[_Phases]:
        """At most two parts: those with a tap more, and the others."""
        more = self.kernel % self.every if self.kernel > self.every else 0
        cuts = [(0, more), (more, self.phases - more)]
        both = (_Phases(self, first, count) for first, count in cuts if count)
        return [phases for phases in both if phases.size > 0]


class _Part:
    """One convolution: phases of rows and of columns."""

    __slots__ = ("columns", "kernel", "layer", "node", "rows")

    def __init__(self, low: Lowering, node: Node, rows: _Phases, columns: _Phases, name: str, whole: bool) -> None:
        self.rows, self.columns = rows, columns
        shape, weight, groups = low.graph.shapes[node.inputs[0]], node.weights["weight"], node.attrs["groups"]
        channels = rows.count * columns.count * groups * weight.shape[1]
        attrs = {
            "stride": (1, 1),
            "padding": (*rows.padding, *columns.padding),
            "dilation": (rows.axis.spacing, columns.axis.spacing),
            "groups": groups,
            "activation": node.attrs["activation"],
            "pool": None,
        }
        shapes = {"weight": (channels, shape[0] // groups, rows.taps, columns.taps), "bias": (channels,)}
        nothing = np.zeros(1, low.dtype)
        weights = {role: np.broadcast_to(nothing, shapes[role]) for role in node.weights}  # until they are needed
        self.node = Node(name, "conv2d", node.inputs, attrs, weights)
        self.layer = Layer(
            self.node,
            (shape[0], shape[1], shape[2]),
            (channels, rows.size, columns.size),
            low.values[node.inputs[0]].at_hand,
            whole and low.only_returned(node),
            low.double,
            low.weights_in_call,
        )
        self.kernel: ConvKernel = choose(self.layer, low.machine, low.algorithm, low.kernel)

    @property
    def in_place(self) -> bool:
        """Whether its result can be written where it belongs: a row's phases stand side by side, as channels do."""
        columns = self.columns
        if self.rows.count > 1 or columns.count == 1:
            return self.rows.count == 1
        pieces = columns.pieces()
        return self.layer.groups == columns.axis.dilation == 1 and pieces[0][1] == columns.count

    def cost(self, low: Lowering) -> float:
        """Estimate the cycles."""
        computed = self.kernel.margin * self.kernel.cost(self.layer, low.machine)
        return computed + _STEP + (0 if self.in_place else _COPIED * prod(self.layer.out) + _STEP)

    def weight(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view (groups, row phases, column phases, O, I, taps down, taps across) of a weight."""
        rows, columns, groups = self.rows, self.columns, self.layer.groups
        inputs, channels = array.shape[0] // groups, array.shape[1]
        down, across = rows.axis.every, columns.axis.every
        last = array[:, :, rows.first + down * (rows.taps - 1) :, columns.first + across * (columns.taps - 1) :]
        i, o, y, x = array.strides
        return as_strided(
            last,
            (groups, rows.count, columns.count, channels, inputs, rows.taps, columns.taps),
            (inputs * i, y, x, o, i, -down * y, -across * x),
            writeable=False,
        )

    def bias(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view (groups, row phases, column phases, O) of a bias."""
        groups = self.layer.groups
        return np.broadcast_to(
            array.reshape(groups, 1, 1, -1), (groups, self.rows.count, self.columns.count, len(array) // groups)
        )


def lower(low: Lowering, node: Node) -> Emit:
    """Lower a conv_transpose2d."""
    shape, out = low.graph.shapes[node.inputs[0]], low.graph.shapes[node.name]
    kernel, attrs = node.weights["weight"].shape[2:], node.attrs
    rows, columns = (
        _Axis(shape[1 + k], out[1 + k], kernel[k], attrs["stride"][k], attrs["padding"][2 * k], attrs["dilation"][k])
        for k in (0, 1)
    )
    parts = _cheapest(low, node, rows, columns)
    planes = len(parts) == 1 and parts[0].kernel.planes
    dealt_out = low.only_returned(node) and not any(part.in_place for part in parts)
    reads = [
        low.read(node.inputs[0], part.kernel.layout, border=part.kernel.border(part.layer), contiguous=planes)
        for part in parts
    ]
    value = low.write(node, NCHW if planes or dealt_out else NHWC)

    def emit() -> None:
        y = low.result(value)
        if not (rows.complete and columns.complete):
            _emit_bias(low, node, y, out)
        for part, read in zip(parts, reads, strict=True):
            _emit_part(low, node, part, read, y)

    for role in node.weights if not parts else ():
        low.from_call(node, role)  # nothing of it is needed
    return emit


def _cheapest(low: Lowering, node: Node, rows: _Axis, columns: _Axis) -> list[_Part]:
    """Return the convolutions of the cheapest way, by estimate; none where no tap reaches the result."""
    ways: list[list[_Part]] = []
    refused: UnsupportedOperatorError | None = None
    for down, across in product((rows.together, rows.alone), (columns.together, columns.alone)):
        if (down == rows.alone and rows.phases == 1) or (across == columns.alone and columns.phases == 1):
            continue  # the same as together
        heights, widths = down(), across()
        if ways and len(heights) * len(widths) > _PARTS_AT_MOST:
            continue
        pairs = list(product(heights, widths))
        whole = rows.stride == columns.stride == 1
        try:
            ways.append([_Part(low, node, r, c, f"{node.name}/{i}", whole) for i, (r, c) in enumerate(pairs)])
        except UnsupportedOperatorError as error:  # an algorithm that was asked for
            refused = error
    if not ways:
        assert refused is not None
        raise refused
    return min(ways, key=lambda parts: sum(part.cost(low) for part in parts))


def _emit_bias(low: Lowering, node: Node, y: Tensor, out: Shape) -> None:
    """Write what stays where no tap reaches: act(bias + 0)."""
    place = low.given(node, "bias", out[0])
    bias = Tensor(1, 1, out[0], low.dtype, space=place["space"])
    bias.offset, bias.strides = place["offset"], (0, 0, 0, 1)
    emit_strided(
        low,
        node,
        "add",
        out,
        Operand(Ref(y), steps_of(y, out)),
        Operand(Ref(bias), (1, 0, 0)),
        constant_operand(low, np.zeros((1, 1, 1), low.dtype), out),
        activation=node.attrs["activation"],
        label="bias",
    )


def _emit_part(low: Lowering, node: Node, part: _Part, read: Read, y: Tensor) -> None:
    x, layer, kernel, rows, columns = low.ref(read), part.layer, part.kernel, part.rows, part.columns
    target = y
    if not part.in_place:
        target = low.temporary(rows.size, columns.size, layer.out[0])
    elif not kernel.planes:
        target = _every_stride_th(part, y)
    weights = {role: _arranged(low, node, part, role) for role in node.weights}
    conv = part.node.replace(weights=weights)
    epilogue = {"activation": low.activation(layer.activation), "pool": low.fused_pool()}
    low.emit(
        Step(
            kernel.compiled,
            node.name,
            x,
            Ref(target),
            kernel.record(low, conv, layer, x.tensor, epilogue),
            label=kernel.describe(layer),
            work=prod(layer.out) * layer.products,
            cut=lambda images: kernel.cut(low, layer, x.tensor, target, False, images),
            serial=kernel.serial,
        )
    )
    if not part.in_place:
        for down, across in product(rows.pieces(), columns.pieces()):
            _deal_out(low, node, part, down, across, target, y)


def _every_stride_th(part: _Part, y: Tensor) -> Tensor:
    """Return the pixels of the result that a part writes."""
    rows, columns = part.rows, part.columns
    image, row, pixel, channel = y.strides
    top, left = rows.axis.pixel(rows.first, rows.begin), columns.axis.pixel(columns.first, columns.begin)
    view = y.part(rows.size, columns.size, part.layer.out[0], top * row + left * pixel)
    view.strides = image, rows.axis.stride * row, columns.axis.stride * pixel, channel
    return view


def _deal_out(
    low: Lowering,
    node: Node,
    part: _Part,
    down: tuple[int, int, int, int],
    across: tuple[int, int, int, int],
    x: Tensor,
    y: Tensor,
) -> None:
    """Copy some phases to their pixels: axes (q, phase) of rows, the same of columns, groups, channels."""
    sizes: list[int] = []
    starts = [0, 0]
    to: list[int] = []
    of: list[int] = []
    channels = y.c // part.layer.groups
    phase_steps = part.columns.count * channels, channels
    for k, (phases, piece) in enumerate(((part.rows, down), (part.columns, across))):
        first, count, begin, end = piece
        step, axis = (y.strides[1 + k], phases.axis)
        sizes += [end - begin, count]
        to += [axis.stride * step, axis.dilation * step]
        of += [x.strides[1 + k], phase_steps[k]]
        starts[0] += axis.pixel(first, begin) * step
        starts[1] += (begin - phases.begin) * x.strides[1 + k] + (first - phases.first) * phase_steps[k]
    sizes += [part.layer.groups, channels]
    to += [channels * y.strides[3], y.strides[3]]
    of += [part.rows.count * part.columns.count * channels, 1]
    target, source = Ref(y).from_element(starts[0]), Ref(x).from_element(starts[1])
    emit_strided(low, node, "copy", sizes, Operand(target, to), Operand(source, of), label="pixel shuffle")


def _arranged(low: Lowering, node: Node, part: _Part, role: str) -> npt.NDArray[Any]:
    """Return the part's weight or bias; one that comes with the call is brought into its order by a step."""
    array = node.weights[role]
    view = part.weight(array) if role == "weight" else part.bias(array)
    place = low.from_call(node, role)
    if place is None:
        return np.ascontiguousarray(view).reshape(part.node.weights[role].shape)
    begin = view.__array_interface__["data"][0] - array.__array_interface__["data"][0]
    source = Tensor(1, 1, array.size, low.dtype, space=place["space"])
    source.offset = place["offset"] + begin
    target = low.shared_tensor(view.size)
    low.prologue.append(
        strided_step(
            low,
            node,
            "copy",
            view.shape,
            Operand(Ref(target), _contiguous_steps(view.shape)),
            Operand(Ref(source), [step // array.itemsize for step in view.strides]),
            label=f"arrange {role}",
        )
    )
    low.call_weights[part.node.name, role] = {"space": low.shared_space, "offset": target.offset}
    return part.node.weights[role]


def _contiguous_steps(shape: Sequence[int]) -> list[int]:
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]
