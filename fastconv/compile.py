"""compile: Graph + this machine -> Program.

Each node becomes one step or a few. A convolution's kernel is chosen by `CONVOLUTIONS`, one table with the measured
reason beside each rule; weights are packed for exactly that kernel; `plan` lays out the arena. Nothing here is saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from math import inf, prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import pack
from ._cpu import check_threads, kernels
from ._geometry import pad_positions
from .errors import ArgumentError, UnsupportedOperatorError
from .graph import INPUT, Graph, Node
from .plan import CALLER, OUTPUTS, Ref, Step, Tensor, lay_out

if TYPE_CHECKING:
    from ._kernels import Program

__all__ = ["ALGORITHMS", "compile_graph"]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

ALGORITHMS = ("auto", "im2col", "packed", "direct", "winograd")
FASTEST = "fastest"             # what a model gets where no algorithm is asked for: "auto" and Winograd

# Sizes in elements (floats). They are bounds on what must stay in which cache, not tuned to a shape.
_GROUP_BYTES = 384 * 1024       # activations of the images that go through the network together: part of a 1 MB L2
_GROUP_IMAGES = 56              # four full tiles of rows for the linear layers; more gives nothing
_BLOCK_BYTES = 192 * 1024       # input rows of a unit, which every panel of weights passes over: part of L2
_POOL_FLOATS = 8192             # unpooled rows of a unit: L1
_COLUMN_FLOATS = 32768          # an im2col block: half a megabyte's quarter, so that it stays in L2 beside a panel
_WINOGRAD_FLOATS = 163840       # both transforms of a block of tiles: L2 again, beside the weights
_WINOGRAD_TILES = 112           # a few portions of the products' rows (kernels/winograd.pxi)
WINOGRAD_POINTS = {1: 36, 2: 81}       # by stride (kernels/transforms.pxi)
_BLAS_FLOATS = 262144           # the same for BLAS, which packs it once more and wants larger products

# kinds of epilogue and pool as kernels/step.pxi numbers them
_CLAMP, _LEAKY, _SIGMOID, _TANH = 1, 2, 3, 4
_POOLS = {"max": 1, "avg": 2}


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
        A convolution cannot be done by that algorithm; the message names it.
    """
    if algorithm not in (None, *ALGORITHMS):
        raise ArgumentError(f"algorithm: needs one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    builder = _Builder(graph, check_threads(threads), algorithm or FASTEST)
    return builder.program()


@dataclass
class _Value:
    """A value of the graph in the layouts it exists in so far. Anything but an image has only a plain one."""

    shape: tuple[int, ...]
    last: Tensor | None = None          # channels last
    planar: Tensor | None = None        # PyTorch's order; for anything but an image, the only order


class _Builder:
    """Turns nodes into steps, making layout changes where neighbours disagree."""

    def __init__(self, graph: Graph, threads: int, algorithm: str) -> None:
        self.graph, self.threads, self.algorithm = graph, threads, algorithm
        self.kernels = kernels()
        self.dtype = np.dtype(graph.dtype)
        self.steps: list[Step] = []
        self.values: dict[str, _Value] = {}
        self.image = len(graph.input_shape) == 3
        shape = graph.input_shape
        source = Tensor(shape[1], shape[2], shape[0], True, CALLER) if self.image else Tensor.plain(shape, space=CALLER)
        source.compact = True
        self.values[INPUT] = _Value(shape, planar=source)
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
        self.group = max(1, min(_GROUP_IMAGES, _GROUP_BYTES // (image_bytes * self.dtype.itemsize)))
        for step in self.steps:
            self._cut(step)
        arena = lay_out(self.steps, self.group)
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

    def _levels(self) -> Array | None:
        """What a uint8 pixel becomes, by channel: v / 255, then (v - mean) / std. None where no image goes in."""
        shape = self.graph.input_shape
        if not self.image or self.dtype != np.float32 or len(self.graph.shapes[self.graph.outputs[0]]) != 1 or \
                len(self.graph.outputs) != 1 or 0 in shape:
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

    def _new_value(self, name: str) -> _Value:
        shape = self.graph.shapes[name]
        if len(shape) == 3:
            return _Value(shape, last=Tensor(shape[1], shape[2], shape[0]))
        return _Value(shape, planar=Tensor.plain(shape))

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
        if tensor.compact or tensor.space != 0 or tensor.of is not None:
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
        if owner.space == 0 and owner.size == prod(shape) and not any(owner.border):
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


# --- convolution and linear ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Conv:
    """What the rules of `CONVOLUTIONS` look at."""

    node: Node
    x: tuple[int, int, int]             # (c, h, w)
    out: tuple[int, int, int]           # unpooled
    kernel: tuple[int, int]
    attrs: Mapping[str, Any]
    planar: bool                        # the input is at hand in PyTorch's order
    vector: int
    pixel_vector: int
    double: bool

    @property
    def groups(self) -> int:
        groups: int = self.attrs["groups"]
        return groups

    @property
    def depthwise(self) -> bool:
        return self.groups == self.x[0] == self.out[0] and self.groups > 1

    @property
    def pixels(self) -> bool:
        """Whether the pixel kernel can do it."""
        pool, activation = self.attrs["pool"], self.attrs["activation"]
        return (
            not self.double
            and self.groups == 1
            and self.attrs["stride"][1] == 1
            and self.out[2] >= self.pixel_vector
            and len(self.node.inputs) == 1
            and (pool is None or (pool[0] == "max" and _monotonic(activation)))
        )

    @property
    def winograd(self) -> bool:
        """Whether Winograd's algorithm can do it."""
        return (
            not self.double
            and self.kernel == (3, 3)
            and self.groups == 1
            and self.attrs["stride"] in ((1, 1), (2, 2))
            and self.attrs["dilation"] == (1, 1)
        )

    @property
    def winograd_gain(self) -> float:
        """Time of the direct tile over Winograd's, estimated.

        The products take points / (144 x used) of the direct way's; the transforms add to that a part in o for the
        input's and a part in c for the output's. Fitted to 40 layers at v3 and v4, nearly all of which it meets
        within 15 % (docs/performance.md). With fewer than 4 tiles there are too few rows for the register tile.
        """
        (c, _, _), (o, oh, ow), vector = self.x, self.out, self.vector
        tiles = -(-oh // 4) * -(-ow // 4)
        used = oh * ow / (16 * tiles)
        points = WINOGRAD_POINTS[self.attrs["stride"][0]]
        lanes = c / (-(-c // vector) * vector)
        transforms = (3 if vector == 16 else 9) / (o * lanes) + 7.5 / c     # 32 registers or 16
        pool = 1.15 if self.attrs["pool"] else 1        # of 2x2, it costs Winograd nothing
        return 144 * used / points / (1 + transforms) * pool if tiles >= 4 else 0.0


def _monotonic(activation: tuple[Any, ...] | None) -> bool:
    """Whether max-pooling may come before bias and activation: none of them, nor rounding, changes an order."""
    return activation is None or activation[0] in ("relu", "hardtanh") or \
        (activation[0] == "leaky_relu" and activation[1] >= 0)


Rule: TypeAlias = tuple[str, tuple[str, ...], Callable[[_Conv], bool]]

# The kernel of a convolution: the first row whose algorithm is asked for and whose condition holds.
CONVOLUTIONS: tuple[Rule, ...] = (
    # float64 has no tile; BLAS serves the functional API
    ("conv_im2col", ("auto", "im2col"), lambda c: c.double),
    ("conv_im2col", ("im2col",), lambda c: True),
    ("conv_packed", ("packed",), lambda c: not c.double),
    # us at v4, 32 channels 28x28, 3x3: 15 with channels in the lanes, 126 with a tile for each channel
    ("depthwise", ("auto", "direct"), lambda c: c.depthwise and not c.double),
    # LeNet's first layer, 1 -> 6, 5x5, us at v4 and v3: 2.0 and 2.2 with pixels in the lanes, 5.8 and 5.1 with channels
    ("conv_pixels", ("auto", "direct"), lambda c: c.planar and c.pixels and c.out[0] < 16),
    ("conv_winograd", ("winograd",), lambda c: c.winograd),
    # us at v4, direct tile against Winograd: 16->16 32x32 48/18, 64->64 8x8 42/13, 512->512 7x7 1724/931; with 3
    # channels in, 3->32 32x32 20/17 but 3->16 11.2/11.1. Not in "auto": the functional API keeps PyTorch's NaN and
    # inf apart.
    ("conv_winograd", (FASTEST,), lambda c: c.winograd and c.winograd_gain > 1.05),
    # everything else: the tile reads x in place, 98 % of the FMA peak at 56x56x64. im2col + tile is never chosen: even
    # for 16 groups of 2 channels, where a segment is 2 floats long, it takes 415 us and the tile in place 92
    ("conv_direct", ("auto", "direct"), lambda c: not c.double),
)


def _conv2d(b: _Builder, node: Node) -> None:
    attrs, weight = node.attrs, node.weights["weight"]
    c, h, w = b.graph.shapes[node.inputs[0]]
    o, _, kh, kw = weight.shape
    top, bottom, left, right = attrs["padding"]
    (sh, sw), (dh, dw) = attrs["stride"], attrs["dilation"]
    oh = (h + top + bottom - dh * (kh - 1) - 1) // sh + 1
    ow = (w + left + right - dw * (kw - 1) - 1) // sw + 1
    value = b.values[node.inputs[0]]
    conv = _Conv(node, (c, h, w), (o, oh, ow), (kh, kw), attrs, value.planar is not None, b.kernels.VECTOR,
                 b.kernels.PIXEL_VECTOR, b.dtype == np.float64)
    asked = {b.algorithm, "auto"} if b.algorithm == FASTEST else {b.algorithm}
    chosen = next((k for k, algorithms, holds in CONVOLUTIONS if asked & {*algorithms} and holds(conv)), None)
    if chosen is None:
        raise UnsupportedOperatorError(
            f"{node.name}: algorithm={b.algorithm!r} cannot do this convolution in {b.dtype.name}; "
            "use algorithm='auto' or 'im2col'")
    _emit_conv(b, node, chosen, conv)


def _emit_conv(b: _Builder, node: Node, chosen: str, conv: _Conv) -> None:
    """Emit the convolution, and steps of their own for the epilogues that its kernel does not have."""
    attrs, weight = node.attrs, node.weights["weight"]
    o, per_group, kh, kw = weight.shape
    _, oh, ow = conv.out
    top, bottom, left, right = attrs["padding"]
    activation, pool = _activation(attrs["activation"]), attrs["pool"]
    apart = activation[0] in (_SIGMOID, _TANH) and chosen != "conv_im2col"
    pool_apart = pool is not None and (apart or chosen not in _POOLED or not _POOLED[chosen](pool))
    y = b.output(node)
    target = Tensor(oh, ow, o) if pool_apart else y
    common: dict[str, Any] = {
        "kernel_size": (kh, kw),
        "stride": attrs["stride"],
        "dilation": attrs["dilation"],
        "groups": conv.groups,
        "out_channels": o,
        "oh": oh,
        "ow": ow,
        "work": o * oh * ow * per_group * kh * kw,
        "activation": (0, 0.0, 0.0, 0.0) if apart else activation,
    }
    if pool is not None and not pool_apart:
        common["pool"] = (_POOLS[pool[0]], *pool[1:])
        common["pool_first"] = pool[0] == "max" and _monotonic(attrs["activation"])
    border = (top, bottom, left, right)
    if chosen == "conv_pixels":
        x = Ref(b.bordered(node.inputs[0], border, planar=True), top, left)
    elif chosen in ("conv_im2col", "conv_packed"):
        x = Ref(b.last(node.inputs[0]))
        common["padding"] = (top, left)
    else:
        if chosen == "conv_winograd":       # the last tiles overhang
            stride = attrs["stride"][0]
            high, wide = (-(-size // 4) * 4 * stride + 3 - stride for size in (oh, ow))
            border = (top, max(bottom, high - top - conv.x[1]), left, max(right, wide - left - conv.x[2]))
        x = Ref(b.bordered(node.inputs[0], border), top, left)
    z = Ref(b.last(node.inputs[1])) if len(node.inputs) > 1 else None
    pack_weights = _PACK[chosen]
    label = _LABELS[chosen] + (f" + {pool[0]} pool" if "pool" in common else "")
    b.emit(chosen, node.name, x, Ref(target), z=z, label=label, **common, **pack_weights(b, node, conv))
    if apart:
        b.emit("unary", node.name, Ref(target), Ref(target), activation=activation, label=attrs["activation"][0])
    if pool_apart:
        kind, pkh, pkw, psh, psw = pool
        _emit_pool(b, node, target, y, kind, (pkh, pkw), (psh, psw))


_LABELS = {
    "conv_im2col": "im2col + BLAS",
    "conv_packed": "im2col + packed tile",
    "depthwise": "depthwise",
    "conv_pixels": "direct, pixels in lanes",
    "conv_direct": "direct tile",
    "conv_winograd": "Winograd F(4x4, 3x3)",
}

# Which kernels can fuse a pool, and which pools.
_POOLED: dict[str, Callable[[tuple[Any, ...]], bool]] = {
    "conv_direct": lambda pool: True,
    "conv_pixels": lambda pool: True,
    "conv_winograd": lambda pool: pool[1:] == (2, 2, 2, 2),
}


def _hwc(weight: Array) -> Array:
    """(O, I, kh, kw) -> (O, kh * kw * I): the order of the tile's segments."""
    rows: Array = weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)
    return rows


def _pack_tile(b: _Builder, node: Node, conv: _Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    matrix = _hwc(weight) if weight.ndim == 4 else weight
    groups, channels = conv.groups, weight.shape[0] // conv.groups
    padded = pack.padded_channels(channels, b.kernels.VECTOR, b.kernels.PANEL)
    return {
        "weight": pack.panels(matrix, groups, b.kernels.VECTOR, b.kernels.PANEL),
        "bias": pack.per_channel(node.weights.get("bias"), groups, channels, padded, b.dtype),
        "panels": groups * -(-channels // b.kernels.PANEL),
        "segments": (1, matrix.shape[1]),       # of an im2col row; _finish_direct sets what is read in place
    }


def _pack_blas(b: _Builder, node: Node, conv: _Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    matrix = _hwc(weight) if weight.ndim == 4 else weight
    groups, channels = conv.groups, weight.shape[0] // conv.groups
    packed = matrix.reshape(groups, channels, matrix.shape[1]).transpose(0, 2, 1)
    _bind_blas()
    return {
        "weight": np.ascontiguousarray(packed),
        "bias": pack.per_channel(node.weights.get("bias"), 1, weight.shape[0], weight.shape[0], b.dtype),
        "alone": True,
    }


@cache
def _bind_blas() -> None:
    """Give the kernels the BLAS that NumPy has loaded: at the first need, since finding it takes milliseconds."""
    from . import _blas

    found = _blas.address()
    if found is not None:
        kernels().bind_blas(*found)


def _pack_depthwise(b: _Builder, node: Node, conv: _Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    channels, _, kh, kw = weight.shape
    padded = -(-channels // b.kernels.VECTOR) * b.kernels.VECTOR
    packed = pack.aligned((kh * kw, padded), b.dtype)
    packed[:, :channels] = weight.reshape(channels, kh * kw).T
    return {
        "weight": packed,
        "bias": pack.per_channel(node.weights.get("bias"), 1, channels, padded, b.dtype),
        "segments": (0, padded),
    }


def _pack_pixels(b: _Builder, node: Node, conv: _Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    block = b.kernels.PIXEL_CHANNELS
    padded = -(-weight.shape[0] // b.kernels.PIXEL_VECTOR) * b.kernels.PIXEL_VECTOR
    return {
        "weight": pack.pixel_blocks(weight.reshape(weight.shape[0], -1), block),
        "bias": pack.per_channel(node.weights.get("bias"), 1, weight.shape[0], padded, b.dtype),
        "panels": _pixel_blocks(weight.shape[0], block),
    }


def _pixel_blocks(channels: int, block: int) -> int:
    """Return how many blocks the pixel kernel computes: a last one more than half full is filled up with zeros."""
    full, left = divmod(channels, block)
    return full + (2 * left > block)


def _pack_winograd(b: _Builder, node: Node, conv: _Conv) -> dict[str, Any]:
    weight = node.weights["weight"]
    channels = weight.shape[0]
    padded = pack.padded_channels(channels, b.kernels.VECTOR, b.kernels.PANEL)
    return {
        "weight": pack.winograd(weight, conv.attrs["stride"][0], b.kernels.VECTOR, b.kernels.PANEL),
        "bias": pack.per_channel(node.weights.get("bias"), 1, channels, padded, b.dtype),
        "panels": -(-channels // b.kernels.PANEL),
        "segments": (-(-conv.out[2] // 4), padded),
        "rows": -(-conv.out[1] // 4),
    }


_PACK: dict[str, Callable[[_Builder, Node, _Conv], dict[str, Any]]] = {
    "conv_im2col": _pack_blas,
    "conv_packed": _pack_tile,
    "conv_direct": _pack_tile,
    "depthwise": _pack_depthwise,
    "conv_pixels": _pack_pixels,
    "conv_winograd": _pack_winograd,
}


def _linear(b: _Builder, node: Node) -> None:
    """A linear layer is a 1x1 convolution of one pixel (or of a row of them, for a (T, F) input)."""
    weight = node.weights["weight"]
    x = b.last(node.inputs[0]) if len(b.graph.shapes[node.inputs[0]]) != 3 else b.planar(node.inputs[0])
    weight, x = _through_flatten(b, node, weight, x)
    activation = _activation(node.attrs["activation"])
    if len(b.graph.shapes[node.name]) == 3:
        shape = b.graph.shapes[node.name]
        y = Tensor.plain(shape)
        b.values[node.name] = _Value(shape, planar=Tensor(shape[1], shape[2], shape[0], True, compact=True, of=y))
        x = Tensor(1, x.c * x.h, x.w, of=x)
    else:
        y = b.output(node)
    conv = _Conv(node, (x.c, x.h, x.w), (y.c, y.h, y.w), (1, 1), {"groups": 1}, False, b.kernels.VECTOR, 1, False)
    double = b.dtype == np.float64
    apart = activation[0] in (_SIGMOID, _TANH) and not double
    pixels = y.w
    kernel = "conv_im2col" if double else "linear" if pixels == 1 and len(node.inputs) == 1 else "conv_direct"
    packed = (_pack_blas if double else _pack_tile)(b, node.replace(weights={**node.weights, "weight": weight}), conv)
    z = None
    if len(node.inputs) > 1:
        z = b.planar(node.inputs[1]) if len(b.graph.shapes[node.name]) == 3 else b.last(node.inputs[1])
        z = Tensor(pixels, 1, y.c, of=z)
    if pixels > 1:      # one above the other, not side by side: rows are what units are cut from
        x, y = Tensor(pixels, 1, x.c, of=x), Tensor(pixels, 1, y.c, of=y)
    b.emit(kernel, node.name, Ref(x), Ref(y), z=Ref(z) if z is not None else None,
           label="BLAS" if double else "linear tile", out_channels=weight.shape[0], ow=1,
           work=weight.size * pixels, activation=(0, 0.0, 0.0, 0.0) if apart else activation, **packed)
    if apart:
        b.emit("unary", node.name, Ref(y), Ref(y), activation=activation, label=node.attrs["activation"][0])


def _through_flatten(b: _Builder, node: Node, weight: Array, x: Tensor) -> tuple[Array, Tensor]:
    """Let a linear layer behind a flatten read the image channels last: permute its weights, not the image."""
    source = next((n for n in b.graph.nodes if n.name == node.inputs[0]), None)
    if source is None or source.op != "flatten" or len(b.graph.shapes[source.name]) != 1:
        return weight, x
    shape = b.graph.shapes[source.inputs[0]]
    if len(shape) != 3:
        return weight, x
    image = b.compact(source.inputs[0])
    permuted = weight.reshape(-1, *shape).transpose(0, 2, 3, 1).reshape(weight.shape)
    return permuted, Tensor(1, 1, prod(shape), of=image)


def _finish_direct(b: _Builder, step: Step) -> None:
    """Offsets of the segments, now that borders are known, and blocks of rows."""
    p, x = step.parameters, step.x.tensor
    (kh, kw), (dh, dw) = p.get("kernel_size", (1, 1)), p.get("dilation", (1, 1))
    _, row, pixel, _ = x.strides
    c = x.c // p.get("groups", 1)
    if c == pixel and dw == 1:
        offsets, length = [ky * dh * row for ky in range(kh)], kw * c
    else:
        offsets, length = [ky * dh * row + kx * dw * pixel for ky in range(kh) for kx in range(kw)], c
    p["table"] = np.array(offsets, np.intp)
    p["segments"] = (len(offsets), length)
    p["unit_panels"] = p["panels"]
    tall = p["pool"][3] if "pool" in p else 1
    rows = step.y.tensor.h
    row_bytes = max(1, row * p.get("stride", (1, 1))[0] * tall * b.dtype.itemsize)
    block = max(1, _BLOCK_BYTES // row_bytes)
    if "pool" in p:
        unpooled = p["pool"][1] * p["ow"] * b.kernels.PANEL
        block = max(1, min(block, _POOL_FLOATS // unpooled))
        step.scratch = block * unpooled
    p["block"] = _share(block, rows * b.group, p["panels"], b.threads) if b.group == 1 else min(block, rows * b.group)
    step.scratch = step.scratch and p["block"] * p["pool"][1] * p["ow"] * b.kernels.PANEL


def _finish_linear(b: _Builder, step: Step) -> None:
    p = step.parameters
    p["table"] = np.zeros(1, np.intp)
    p["block"] = max(1, b.group)
    p["unit_panels"] = -(-p["panels"] // b.kernels.PANELS_AT_ONCE)


def _finish_packed(b: _Builder, step: Step) -> None:
    p = step.parameters
    per_row = p["ow"] * p["segments"][1]
    rows = step.y.tensor.h * b.group
    p["block"] = _share(max(1, _COLUMN_FLOATS // per_row), rows, 1, b.threads)
    step.scratch = p["block"] * per_row


def _finish_im2col(b: _Builder, step: Step) -> None:
    p = step.parameters
    kh, kw = p.get("kernel_size", (1, 1))
    groups = p.get("groups", 1)
    per_row = p["ow"] * kh * kw * (step.x.tensor.c // groups)
    p["block"] = max(1, min(step.y.tensor.h, _BLAS_FLOATS // max(1, per_row)))
    step.scratch = p["block"] * (per_row + p["ow"] * (p["out_channels"] // groups))


def _finish_pixels(b: _Builder, step: Step) -> None:
    p, x = step.parameters, step.x.tensor
    (kh, kw), (dh, dw) = p["kernel_size"], p["dilation"]
    _, row, _, plane = x.strides
    taps = [0] if dw == 1 else [kx * dw for kx in range(kw)]
    length = kw if dw == 1 else 1
    segments = [c * plane + ky * dh * row + t for c in range(x.c) for ky in range(kh) for t in taps]
    p["table"] = np.array(segments, np.intp)
    p["segments"] = (len(p["table"]), length)
    ld = -(-p["ow"] // b.kernels.PIXEL_VECTOR) * b.kernels.PIXEL_VECTOR
    tall = p["pool"][1] if "pool" in p else 1
    step.scratch = max(p["out_channels"], p["panels"] * b.kernels.PIXEL_CHANNELS) * (max(tall, 2) + 1) * ld


def _finish_winograd(b: _Builder, step: Step) -> None:
    p = step.parameters
    wide, padded = p["segments"]
    points = WINOGRAD_POINTS[p["stride"][0]]
    per_tile = points * (-(-step.x.tensor.c // b.kernels.VECTOR) * b.kernels.VECTOR + padded)
    tiles = min(_WINOGRAD_TILES, max(2 * b.kernels.TALLEST, _WINOGRAD_FLOATS // per_tile))
    p["block"] = _share(max(1, tiles // wide), p["rows"] * b.group, 1, b.threads)
    step.scratch = p["block"] * wide * per_tile + points * 4 * 16      # points are kept off each other's cache sets


def _finish_border(b: _Builder, step: Step) -> None:
    top, bottom, left, right = step.y.tensor.border
    step.parameters.update(table=np.array([top, bottom, left, right], np.intp), rows=1)


def _share(block: int, rows: int, panels: int, threads: int) -> int:
    """Shrink a block of rows until the units divide evenly among the threads."""
    blocks = -(-rows // block)
    if panels % threads:
        blocks = -(-blocks // threads) * threads
    return max(1, -(-rows // blocks))


_FINISH: dict[str, Callable[[_Builder, Step], None]] = {
    "conv_direct": _finish_direct,
    "linear": _finish_linear,
    "conv_packed": _finish_packed,
    "conv_im2col": _finish_im2col,
    "conv_pixels": _finish_pixels,
    "conv_winograd": _finish_winograd,
    "zero_border": _finish_border,
}


# --- pooling, elementwise, shapes -----------------------------------------------------------------------


def _activation(activation: tuple[Any, ...] | None) -> tuple[int, float, float, float]:
    """(kind, low, high, slope) of kernels/step.pxi."""
    if activation is None:
        return (0, 0.0, 0.0, 0.0)
    name, *parameters = activation
    if name == "relu":
        return (_CLAMP, 0.0, inf, 0.0)
    if name == "hardtanh":
        return (_CLAMP, *parameters, 0.0)
    if name == "leaky_relu":
        return (_LEAKY, 0.0, 0.0, *parameters)
    return ({"sigmoid": _SIGMOID, "tanh": _TANH}[name], 0.0, 0.0, 0.0)


def _emit_pool(b: _Builder, node: Node, x: Tensor, y: Tensor, kind: str, kernel: tuple[int, int],
               stride: tuple[int, int], padding: tuple[int, int] = (0, 0), dilation: tuple[int, int] = (1, 1),
               count_include_pad: bool = True, divisor: int | None = None) -> None:
    windows = [b.kernels.pool_windows(size, kernel[i], stride[i], padding[i], dilation[i], out, count_include_pad)
               for i, (size, out) in enumerate(((x.h, y.h), (x.w, y.w)))]
    b.emit("pool", node.name, Ref(x), Ref(y), label=f"{kind} pool", table=np.concatenate(windows),
           pool=(_POOLS[kind], 1, 1, 1, 1), dilation=dilation, value=float(divisor or 0),
           work=y.h * y.w * y.c * kernel[0] * kernel[1])


def _pool2d(b: _Builder, node: Node) -> None:
    a = node.attrs
    _emit_pool(b, node, b.last(node.inputs[0]), b.output(node), node.op[:3], a["kernel_size"],
               a["stride"] or a["kernel_size"], a["padding"], a.get("dilation", (1, 1)),
               a.get("count_include_pad", True), a.get("divisor_override"))


def _adaptive(b: _Builder, node: Node) -> None:
    x, y = b.last(node.inputs[0]), b.output(node)
    kind = node.op.split("_")[1]
    windows = [b.kernels.adaptive_windows(size, out) for size, out in ((x.h, y.h), (x.w, y.w))]
    b.emit("pool", node.name, Ref(x), Ref(y), label=f"adaptive {kind} pool", table=np.concatenate(windows),
           pool=(_POOLS[kind], 1, 1, 1, 1), work=x.h * x.w * x.c)


def _unary(b: _Builder, node: Node) -> None:
    parameters = {"leaky_relu": ("negative_slope",), "hardtanh": ("min_val", "max_val")}.get(node.op, ())
    x = b.last(node.inputs[0])
    b.emit("unary", node.name, Ref(x), Ref(b.output(node)), label=node.op, work=x.h * x.w * x.c,
           activation=_activation((node.op, *(node.attrs[name] for name in parameters))))


def _add(b: _Builder, node: Node) -> None:
    x, z = b.last(node.inputs[0]), b.last(node.inputs[1])
    b.emit("add", node.name, Ref(x), Ref(b.output(node)), z=Ref(z), work=x.h * x.w * x.c,
           activation=_activation(node.attrs["activation"]))


def _batch_norm(b: _Builder, node: Node) -> None:
    """y = x * scale + shift, with scale = weight / sqrt(var + eps), in float64 until it is stored."""
    weights = {role: array.astype(np.float64) for role, array in node.weights.items()}
    scale = weights.get("weight", 1.0) / np.sqrt(weights["running_var"] + node.attrs["eps"])
    shift = weights.get("bias", 0.0) - weights["running_mean"] * scale
    shape = b.graph.shapes[node.name]
    activation = _activation(node.attrs["activation"])
    scale, shift = (np.ascontiguousarray(v, b.dtype) for v in (scale, shift))
    if len(shape) in (1, 3):
        x, y = b.last(node.inputs[0]), b.output(node)
    else:       # (C, L): an image of height L, one wide
        y = Tensor(shape[1], 1, shape[0], planar=True, compact=True)
        x = Tensor(shape[1], 1, shape[0], planar=True, of=b.compact(node.inputs[0]))
        last = Tensor(shape[1], 1, shape[0])
        b.emit("copy", node.name, Ref(x), Ref(last), label="to channels last")
        b.emit("affine", node.name, Ref(last), Ref(last), weight=scale, bias=shift, activation=activation)
        b.emit("copy", node.name, Ref(last), Ref(y), label="to PyTorch's order")
        b.values[node.name] = _Value(shape, planar=Tensor.plain(shape, of=y, compact=True))
        return
    b.emit("affine", node.name, Ref(x), Ref(y), weight=scale, bias=shift, activation=activation, label="batch norm",
           work=x.h * x.w * x.c)


def _softmax(b: _Builder, node: Node) -> None:
    shape, axis = b.graph.shapes[node.name], node.attrs["dim"] - 1
    x = b.compact(node.inputs[0])
    y = b.output(node)
    y.compact = True
    if len(shape) == 3:                 # channels last: (H, W, C)
        shape, axis = (shape[1], shape[2], shape[0]), {0: 2, 1: 0, 2: 1}[axis]
    b.emit("softmax", node.name, Ref(x), Ref(y), label=node.op, rows=1, log=node.op == "log_softmax",
           axis=(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])), work=8 * prod(shape))


def _pad(b: _Builder, node: Node) -> None:
    """Every mode of padding is a map from output to input indices, along rows, columns and channels."""
    shape, out = b.graph.shapes[node.inputs[0]], b.graph.shapes[node.name]
    widths = node.attrs["padding"]
    maps = [pad_positions(size, 0, 0, "constant") for size in shape]
    for pair in range(len(widths) // 2):
        axis = len(shape) - 1 - pair
        maps[axis] = pad_positions(shape[axis], widths[2 * pair], widths[2 * pair + 1], node.attrs["mode"])
    if len(shape) == 3:
        x, y = b.last(node.inputs[0]), b.output(node)
        rows, cols, channels = maps[1], maps[2], maps[0]
    elif len(shape) <= 2:
        x, y = b.last(node.inputs[0]), b.output(node)
        rows, cols, channels = np.zeros(1, np.intp), maps[0] if len(shape) == 2 else np.zeros(1, np.intp), maps[-1]
    else:
        raise UnsupportedOperatorError(f"{node.name}: pad needs at most 3 axes beside the batch, got {shape}; "
                                       "pad before the reshape")
    b.emit("pad", node.name, Ref(x), Ref(y), table=np.concatenate([rows, cols, channels]),
           value=float(node.attrs["value"]), label=f"{node.attrs['mode']} pad", work=prod(out))


def _reshape(b: _Builder, node: Node) -> None:
    """Flatten and reshape move nothing: the value's memory in PyTorch's order, under another shape."""
    shape = b.graph.shapes[node.name]
    if node.op == "flatten" and all(consumer.op == "linear" for consumer in b.graph.consumers()[node.name]) and \
            node.name not in b.graph.outputs and len(b.graph.shapes[node.inputs[0]]) == 3 and len(shape) == 1:
        source = b.compact(node.inputs[0])      # in the wrong order for anyone but `_through_flatten`
        b.values[node.name] = _Value(shape, planar=Tensor.plain(shape, of=source, compact=True))
        return
    image = len(b.graph.shapes[node.inputs[0]]) == 3
    source = b.planar(node.inputs[0]) if image else b.compact(node.inputs[0])
    source.compact = True
    tensor = Tensor(shape[1], shape[2], shape[0], True, of=source) if len(shape) == 3 else \
        Tensor.plain(shape, of=source)
    tensor.compact = True
    b.values[node.name] = _Value(shape, planar=tensor)


def _identity(b: _Builder, node: Node) -> None:
    b.values[node.name] = b.values[node.inputs[0]]


def _cat(b: _Builder, node: Node) -> None:
    """Each input is copied to its place."""
    shape, axis = b.graph.shapes[node.name], node.attrs["dim"] - 1
    y = b.output(node)
    at = 0
    for name in node.inputs:
        x = b.last(name)
        part = b.graph.shapes[name][axis]
        if part:
            _copy_part(b, node, x, y, shape, axis, at)
        at += part


def _copy_part(b: _Builder, node: Node, x: Tensor, y: Tensor, shape: tuple[int, ...], axis: int, at: int) -> None:
    """Copy x to index `at` of axis `axis` of y, whose shape is `shape`."""
    y.compact = True
    if len(shape) == 3 and axis > 0:
        place: Tensor = _Window(x.h, x.w, x.c, of=y, skip=at * (y.strides[1] if axis == 1 else y.strides[2]))
        b.emit("copy", node.name, Ref(x), Ref(place), label="cat", work=x.h * x.w * x.c)
        return
    if len(shape) != 3:         # a pixel for each index of the axes before, the axes behind in its channels
        outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
        x, y = Tensor(1, outer, x.size // outer, of=x), Tensor(1, outer, y.size // outer, of=y)
        at *= inner
    b.emit("copy", node.name, Ref(x), Ref(y, channel=at, c=x.c), label="cat", work=x.h * x.w * x.c, rows=x.h)


@dataclass(eq=False)
class _Window(Tensor):
    """A part of another image, under that image's strides."""

    skip: int = 0

    def view(self, top: int = 0, left: int = 0, channel: int = 0) -> tuple[int, ...]:
        assert self.of is not None
        space, offset, *strides = self.of.view()[:6]
        return (space, offset + self.skip, *strides, self.h, self.w, self.c)


_LOWER: dict[str, Callable[[_Builder, Node], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "max_pool2d": _pool2d,
    "avg_pool2d": _pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "relu": _unary,
    "leaky_relu": _unary,
    "hardtanh": _unary,
    "sigmoid": _unary,
    "tanh": _unary,
    "softmax": _softmax,
    "log_softmax": _softmax,
    "batch_norm": _batch_norm,
    "pad": _pad,
    "flatten": _reshape,
    "reshape": _reshape,
    "identity": _identity,
    "dropout": _identity,
    "add": _add,
    "cat": _cat,
}
