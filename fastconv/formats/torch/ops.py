"""ATen calls -> nodes: one entry for each call that :mod:`.reader` understands.

Most calls have a node of the same meaning: `LAYERS` names it and the arguments, which the Graph
checks and completes. The others are functions, collected in `FUNCTIONS`; each takes the reader and
the arguments of the call, and returns the `Value` that the call gives. In-place calls
(``relu_``) come here under the plain name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ...errors import ArgumentError, UnsupportedOperatorError
from ...graph.ops.activation import ACTIVATIONS

if TYPE_CHECKING:
    from .reader import Reader

Function = TypeVar("Function", bound=Callable[..., Any])


class Value:
    """A tensor of the network: a node's output, or its input.

    Attributes
    ----------
    name : str
        The Graph's name for it.
    shape : tuple of int
        Batched.
    memory : object
        Shared by all that live in the same memory, so that in-place calls find them.
    """

    __slots__ = ("memory", "name", "shape")

    def __init__(self, name: str, shape: tuple[int, ...], memory: object = None) -> None:
        self.name = name
        self.shape = shape
        self.memory = object() if memory is None else memory


class Layer(NamedTuple):
    """An op, and what the ATen call's arguments after the input are: weights, then attributes."""

    op: str
    weights: tuple[str, ...] = ()
    attrs: tuple[str, ...] = ()


_CONV2D = Layer("conv2d", ("weight", "bias"), ("stride", "padding", "dilation", "groups"))
_WINDOW = ("kernel_size", "stride", "padding")
_AVERAGE = ("ceil_mode", "count_include_pad", "divisor_override")

LAYERS = {
    "aten.conv2d.default": _CONV2D,
    "aten.conv2d.padding": _CONV2D,
    "aten.linear.default": Layer("linear", ("weight", "bias")),
    **{
        f"aten.{call}": Layer(row.name, (), tuple(name for name, *_ in row.parameters))
        for row in ACTIVATIONS.values()
        for call in row.aten
    },
    "aten.max_pool2d.default": Layer("max_pool2d", (), (*_WINDOW, "dilation", "ceil_mode")),
    "aten.avg_pool2d.default": Layer("avg_pool2d", (), (*_WINDOW, *_AVERAGE)),
    "aten.adaptive_avg_pool2d.default": Layer("adaptive_avg_pool2d", (), ("output_size",)),
    "aten.pixel_shuffle.default": Layer("pixel_shuffle", (), ("upscale_factor",)),
    "aten.pixel_unshuffle.default": Layer("pixel_unshuffle", (), ("downscale_factor",)),
    "aten.channel_shuffle.default": Layer("channel_shuffle", (), ("groups",)),
    "aten.native_channel_shuffle.default": Layer("channel_shuffle", (), ("groups",)),
    "aten.pad.default": Layer("pad", (), ("padding", "mode", "value")),
    "aten.constant_pad_nd.default": Layer("pad", (), ("padding", "value")),
}

FUNCTIONS: dict[str, Callable[..., Any]] = {}


def convert(reader: Reader, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What the ATen call `name` gives; an unknown one is refused."""
    if name in FUNCTIONS:
        return FUNCTIONS[name](reader, *args, **kwargs)
    if name not in LAYERS:
        raise reader.unsupported("is not supported")
    layer = LAYERS[name]
    given = dict(zip((*layer.weights, *layer.attrs), args[1:], strict=False))
    given |= {"padding" if key == "pad" else key: value for key, value in kwargs.items()}
    attrs = {key: value for key, value in given.items() if key not in layer.weights}
    weights = {role: given.get(role) for role in layer.weights}
    return reader.emit(layer.op, args[0], weights=weights, attrs=attrs)


def _aten(*names: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        FUNCTIONS.update((f"aten.{name}", function) for name in names)
        return function

    return register


# Products ----------------------------------------------------------------------------------------


@_aten("matmul.default", "mm.default", "bmm.default")
def _matmul(reader: Reader, x: Any, weight: Any) -> Value:
    if isinstance(x, Value) and isinstance(weight, Value):
        return _product(reader, x, weight)
    if isinstance(weight, Value) or weight.dim() != 2:
        raise reader.unsupported("is supported with a constant matrix on its right only")
    return reader.emit("linear", x, weights={"weight": weight.t()})


def _product(reader: Reader, x: Value, other: Value) -> Value:
    if len(x.shape) != len(other.shape) or x.shape[:-2] != other.shape[:-2] or len(x.shape) < 3:
        raise reader.unsupported("of matrices of other leading axes is not supported")
    return reader.emit("matmul", x, other)


@_aten("scaled_dot_product_attention.default")
def _attention(
    reader: Reader,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """softmax(scale * Q K^T + mask) V (Vaswani et al., "Attention Is All You Need", 2017)."""
    if is_causal or enable_gqa or isinstance(mask, Value) or (mask is not None and not mask.is_floating_point()):
        raise reader.unsupported("with a mask that is causal, of booleans or computed is not supported")
    if dropout_p:
        raise reader.unsupported("with dropout is not supported")
    rank, factor = len(query.shape), query.shape[-1] ** -0.5 if scale is None else scale
    turned = reader.emit("permute", key, attrs={"dims": (*range(rank - 2), rank - 1, rank - 2)})
    scores = reader.emit("matmul", _affine(reader, query, factor), turned)
    if mask is not None:
        scores = reader.emit("add", scores, weights={"other": reader.one_image(mask, rank)})
    weights = reader.emit("softmax", scores, attrs={"dim": rank - 1})
    return reader.emit("matmul", weights, value)


@_aten("addmm.default")
def _addmm(reader: Reader, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Value:
    if isinstance(bias, Value) or isinstance(weight, Value) or bias.dim() > 1:
        raise reader.unsupported("is supported with a constant matrix and a constant row only")
    row = (beta * bias).expand(weight.shape[1])
    return reader.emit("linear", x, weights={"weight": alpha * weight.t(), "bias": row})


@_aten("batch_norm.default")
def _batch_norm(
    reader: Reader,
    x: Value,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    if training:
        raise reader.unsupported("with the statistics of the batch is not supported")
    weights = {"running_mean": running_mean, "running_var": running_var}
    weights |= {"weight": weight, "bias": bias}
    return reader.emit("batch_norm", x, weights=weights, attrs={"eps": eps})


@_aten("layer_norm.default")
def _layer_norm(
    reader: Reader, x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Value:
    attrs = {"normalized_shape": normalized_shape, "eps": eps}
    return reader.emit("layer_norm", x, weights={"weight": weight, "bias": bias}, attrs=attrs)


@_aten("rms_norm.default")
def _rms_norm(reader: Reader, x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Value:
    import torch

    attrs = {"normalized_shape": normalized_shape, "eps": torch.finfo(reader.dtype).eps if eps is None else eps}
    return reader.emit("rms_norm", x, weights={"weight": weight}, attrs=attrs)


@_aten("group_norm.default")
def _group_norm(
    reader: Reader, x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Value:
    attrs = {"num_groups": num_groups, "eps": eps}
    return reader.emit("group_norm", x, weights={"weight": weight, "bias": bias}, attrs=attrs)


@_aten("instance_norm.default")
def _instance_norm(
    reader: Reader,
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    *_: Any,
) -> Value:
    """Every channel is a group of its own; with running statistics it is a batch norm."""
    if not use_input_stats:
        return _batch_norm(reader, x, weight, bias, running_mean, running_var, False, momentum, eps, False)
    return _group_norm(reader, x, x.shape[1], weight, bias, eps)


# Sums, and scaling by constants ------------------------------------------------------------------


@_aten("add.Tensor")
def _add(reader: Reader, x: Any, other: Any, *, alpha: float = 1) -> Value:
    if not isinstance(x, Value) and isinstance(other, Value):
        return _scaled(reader, other, alpha, x)
    if not isinstance(other, Value):
        return _with_constant(reader, "add", x, alpha * other, shift=alpha * other)
    return _two(reader, "add", x, other if alpha == 1 else _affine(reader, other, alpha))


@_aten("sub.Tensor")
def _sub(reader: Reader, x: Any, other: Any, *, alpha: float = 1) -> Value:
    if not isinstance(x, Value):
        return _scaled(reader, other, -alpha, x)
    if not isinstance(other, Value):
        return _with_constant(reader, "sub", x, alpha * other, shift=-alpha * other)
    return _two(reader, "sub", x, other if alpha == 1 else _affine(reader, other, alpha))


def _scaled(reader: Reader, x: Value, scale: float, constant: Any) -> Value:
    """``scale * x + constant``, whatever the constant broadcasts to."""
    return _with_constant(reader, "add", x if scale == 1 else _affine(reader, x, scale), constant, shift=constant)


@_aten("rsub.Scalar", "rsub.Tensor")
def _rsub(reader: Reader, x: Any, other: Any, alpha: float = 1) -> Value:
    return _sub(reader, other, x, alpha=alpha)


@_aten("mul.Tensor")
def _mul(reader: Reader, x: Any, other: Any) -> Value:
    if isinstance(x, Value) and isinstance(other, Value):
        return _two(reader, "mul", x, other)
    x, other = (x, other) if isinstance(x, Value) else (other, x)
    return _with_constant(reader, "mul", x, other, scale=other)


@_aten("div.Tensor")
def _div(reader: Reader, x: Any, other: Any) -> Value:
    if not isinstance(x, Value):
        return _mul(reader, reader.emit("reciprocal", other), x)
    if isinstance(other, Value):
        return _two(reader, "div", x, other)
    if isinstance(other, (int, float)):
        return _affine(reader, x, 1 / other)
    return _with_constant(reader, "div", x, other)


@_aten("maximum.default", "max.other")
def _maximum(reader: Reader, x: Any, other: Any) -> Value:
    return _two(reader, "maximum", x, other)


@_aten("minimum.default", "min.other")
def _minimum(reader: Reader, x: Any, other: Any) -> Value:
    return _two(reader, "minimum", x, other)


def _two(reader: Reader, op: str, x: Any, other: Any) -> Value:
    """Two values, or one and a constant where the order does not matter, that broadcast."""
    if not (isinstance(x, Value) and isinstance(other, Value)):
        x, other = (x, other) if isinstance(x, Value) else (other, x)
        return _with_constant(reader, op, x, other)
    if len(x.shape) != len(other.shape):
        raise reader.unsupported("mixes the images of a batch, which is not supported")
    return reader.emit(op, x, other)


def _with_constant(reader: Reader, op: str, x: Value, constant: Any, **affine: Any) -> Value:
    """A value and a constant: by channel where that is what it is, else as it broadcasts."""
    import torch

    other = torch.as_tensor(constant, device="cpu")
    if affine:
        try:
            return _affine(reader, x, **affine)
        except UnsupportedOperatorError:
            pass
    return reader.emit(op, x, weights={"other": reader.one_image(other, len(x.shape))})


@_aten("neg.default")
def _neg(reader: Reader, x: Value) -> Value:
    return _affine(reader, x, -1)


def _affine(reader: Reader, x: Value, scale: Any = 1, shift: Any = 0) -> Value:
    import torch

    tensors = (torch.as_tensor(value, dtype=torch.float64, device="cpu") for value in (scale, shift))
    try:
        return reader.apply(reader.builder.affine, x, *(tensor.detach().numpy() for tensor in tensors))
    except ArgumentError:
        raise reader.unsupported("is supported with a number, or with one for each channel") from None


@_aten("cat.default", "concat.default", "concatenate.default")
def _cat(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    if dim in (0, -len(reader.shape)):
        raise reader.unsupported("along the batch is not supported")
    like = next(tensor for tensor in tensors if isinstance(tensor, Value))
    parts = [
        tensor
        if isinstance(tensor, Value)
        else reader.emit("constant", like, weights={"value": reader.one_image(tensor, len(like.shape))})
        for tensor in tensors
    ]
    return reader.emit("cat", *parts, attrs={"dim": dim})


@_aten("stack.default")
def _stack(reader: Reader, tensors: list[Any], dim: int = 0) -> Value:
    """A cat of what got one more axis; axes of one index in front of `dim` change no order."""
    dim %= len(reader.shape)
    parts = [
        reader.apply(reader.builder.reshape, x, (*x.shape[1:dim], 1, *x.shape[dim:])) if isinstance(x, Value) else x
        for x in (t if isinstance(t, Value) else t.unsqueeze(dim) for t in tensors)
    ]
    return _cat(reader, parts, dim)


# Activations -------------------------------------------------------------------------------------


@_aten("relu6.default")
def _relu6(reader: Reader, x: Value) -> Value:
    return _clamp(reader, x, 0, 6)


@_aten("clamp.default", "clip.default")
def _clamp(reader: Reader, x: Value, min: float | None = None, max: float | None = None) -> Value:
    return reader.apply(reader.builder.clamp, x, min, max)


@_aten("clamp_min.default")
def _clamp_min(reader: Reader, x: Value, min: float) -> Value:
    return _clamp(reader, x, min, None)


@_aten("clamp_max.default")
def _clamp_max(reader: Reader, x: Value, max: float) -> Value:
    return _clamp(reader, x, None, max)


@_aten("softmax.int")
def _softmax(reader: Reader, x: Value, dim: int, dtype: Any = None) -> Value:
    return reader.emit("softmax", x, attrs={"dim": dim})


@_aten("log_softmax.int")
def _log_softmax(reader: Reader, x: Value, dim: int, dtype: Any = None) -> Value:
    return reader.emit("log_softmax", x, attrs={"dim": dim})


# Pooling -----------------------------------------------------------------------------------------

# These give the indices too, which are not computed: None stands for them.


@_aten("max_pool2d_with_indices.default")
def _max_pool2d_with_indices(reader: Reader, *args: Any, **kwargs: Any) -> Any:
    return convert(reader, "aten.max_pool2d.default", list(args), kwargs), None


@_aten("adaptive_max_pool2d.default")
def _adaptive_max_pool2d(reader: Reader, x: Value, output_size: Any) -> Any:
    return reader.emit("adaptive_max_pool2d", x, attrs={"output_size": output_size}), None


@_aten("mean.dim")
def _mean(
    reader: Reader,
    x: Value,
    dim: Sequence[int] | None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Value:
    return _over_pixels(reader, reader.builder.mean, x, dim, keepdim)


@_aten("amax.default")
def _amax(reader: Reader, x: Value, dim: Sequence[int] = (), keepdim: bool = False) -> Value:
    return _over_pixels(reader, reader.builder.amax, x, dim, keepdim)


def _over_pixels(
    reader: Reader, recipe: Callable[..., str], x: Value, dim: Sequence[int] | None, keepdim: bool
) -> Value:
    """A reduction over height and width, or over the one axis that both were flattened into."""
    rank = len(x.shape)
    axes = sorted(axis % rank for axis in dim or range(rank))
    if rank not in (3, 4) or axes != list(range(2, rank)):
        raise reader.unsupported(f"over the axes {axes} is not supported, only over all pixels")
    return reader.apply(recipe, x, keepdim)


# Other sizes -------------------------------------------------------------------------------------


def _upsample(reader: Reader, x: Value, mode: str, scales: Any, align_corners: bool = False) -> Value:
    attrs = {"mode": mode, "align_corners": align_corners, "size": reader.shape[2:], "scale_factor": scales}
    if len(x.shape) != 4:
        raise reader.unsupported("is supported for images only")
    return reader.emit("interpolate", x, attrs=attrs)


@_aten("upsample_nearest2d.vec")
def _nearest(reader: Reader, x: Value, size: Any, scales: Any) -> Value:
    return _upsample(reader, x, "nearest", scales)


@_aten("_upsample_nearest_exact2d.vec")
def _nearest_exact(reader: Reader, x: Value, size: Any, scales: Any) -> Value:
    return _upsample(reader, x, "nearest-exact", scales)


@_aten("upsample_bilinear2d.vec")
def _bilinear(reader: Reader, x: Value, size: Any, align_corners: bool, scales: Any) -> Value:
    return _upsample(reader, x, "bilinear", scales, align_corners)


@_aten("upsample_bicubic2d.vec")
def _bicubic(reader: Reader, x: Value, size: Any, align_corners: bool, scales: Any) -> Value:
    return _upsample(reader, x, "bicubic", scales, align_corners)


# Shapes and copies -------------------------------------------------------------------------------


@_aten(
    "view.default",
    "view_as.default",
    "reshape_as.default",
    "reshape.default",
    "_unsafe_view.default",
    "flatten.using_ints",
    "unflatten.int",
    "squeeze.default",
    "squeeze.dim",
    "squeeze.dims",
    "unsqueeze.default",
)
def _reshape(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """Any change of shape that keeps the order of the values: the result's shape says it all."""
    shape = reader.shape
    if shape == x.shape:
        return x
    return reader.apply(reader.builder.reshape, x, shape[1:], memory=x.memory)


@_aten("permute.default")
def _permute(reader: Reader, x: Value, dims: Sequence[int]) -> Value:
    if dims[0] not in (0, -len(x.shape)):
        raise reader.unsupported("mixes the images of a batch, which is not supported")
    return reader.emit("permute", x, attrs={"dims": dims})


@_aten("transpose.int", "swapaxes.default")
def _transpose(reader: Reader, x: Value, dim0: int, dim1: int) -> Value:
    dims = list(range(len(x.shape)))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return _permute(reader, x, dims)


@_aten("slice.Tensor")
def _slice(
    reader: Reader, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    start, end, step = slice(start, end, step).indices(size)
    if (start, end, step) == (0, size, 1):
        return x
    if dim % len(x.shape) == 0:
        raise reader.unsupported("takes some images of a batch, which is not supported")
    return reader.emit("slice", x, attrs={"dim": dim, "start": start, "end": end, "step": step})


@_aten("narrow.default")
def _narrow(reader: Reader, x: Value, dim: int, start: int, length: int) -> Value:
    return _slice(reader, x, dim, start, start + length)


@_aten("select.int")
def _select(reader: Reader, x: Value, dim: int, index: int) -> Value:
    index %= x.shape[dim]
    if dim % len(x.shape) == 0:
        raise reader.unsupported("takes one image of a batch, which is not supported")
    kept = reader.emit("slice", x, attrs={"dim": dim, "start": index, "end": index + 1})
    return reader.apply(reader.builder.reshape, kept, reader.shape[1:])


@_aten("chunk.default", "split.Tensor", "split_with_sizes.default", "tensor_split.sections")
def _split(reader: Reader, x: Value, _: Any, dim: int = 0) -> tuple[Value, ...]:
    """The sizes of the results say how."""
    if dim % len(x.shape) == 0:
        raise reader.unsupported("divides the images of a batch, which is not supported")
    ends = [0]
    parts = []
    for shape in reader.shapes:
        ends.append(ends[-1] + shape[dim])
        parts.append(reader.emit("slice", x, attrs={"dim": dim, "start": ends[-2], "end": ends[-1]}))
    return tuple(parts)


@_aten("unbind.int")
def _unbind(reader: Reader, x: Value, dim: int = 0) -> tuple[Value, ...]:
    return tuple(_select(reader, x, dim, index) for index in range(x.shape[dim]))


@_aten("roll.default")
def _roll(reader: Reader, x: Value, shifts: Sequence[int], dims: Sequence[int] = ()) -> Value:
    """Of each axis the last `shift` indices, and behind them the others."""
    if not dims:
        raise reader.unsupported("of the flattened images is not supported")
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        if shift % size:
            ends = (size - shift % size, size), (0, size - shift % size)
            x = _cat(reader, [_slice(reader, x, dim, *part) for part in ends], dim)
    return x


@_aten("alias.default", "detach.default")
def _alias(reader: Reader, x: Value) -> Value:
    return x


@_aten("clone.default")
def _clone(reader: Reader, x: Value, *, memory_format: Any = None) -> Value:
    return Value(x.name, x.shape)


@_aten(
    "contiguous.default",
    "to.dtype",
    "to.dtype_layout",
    "to.device",
    "to.other",
    "type_as.default",
    "_to_copy.default",
)
def _convert(reader: Reader, x: Value, *_: Any, **__: Any) -> Value:
    """The same values, be it in memory of their own or not; all is computed in one dtype."""
    if not reader.dtype.is_floating_point:
        raise reader.unsupported(f"to {reader.dtype} is not supported")
    return Value(x.name, x.shape, x.memory)


@_aten(
    "dropout.default",
    "feature_dropout.default",
    "alpha_dropout.default",
    "feature_alpha_dropout.default",
)
def _dropout(reader: Reader, x: Value, p: float, train: bool) -> Value:
    if train:
        raise reader.unsupported("is on in eval() mode too (pass training=self.training), which is not supported")
    return reader.emit("dropout", x, attrs={"p": p}, memory=x.memory)
