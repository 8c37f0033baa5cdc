"""Norms and softmax; batch norm and softmax on the caller's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import compile_graph
from ..errors import ArgumentError, ShapeError
from ..graph import INPUT, Graph, Node
from ..graph import attributes as at
from ..machine.cpu import kernels
from .one_op import Array, compiled, floats, one_op, threads
from .statistics import moments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from .one_op import Prepare

__all__ = ["batch_norm", "group_norm", "layer_norm", "local_response_norm", "log_softmax", "rms_norm", "softmax"]

_batch_norm = kernels().batch_norm
_softmax_axis = kernels().softmax_axis


def batch_norm(
    input: npt.ArrayLike,
    running_mean: npt.ArrayLike | None,
    running_var: npt.ArrayLike | None,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Array:
    """Normalise each channel: ``(input - running_mean) / sqrt(running_var + eps) * weight + bias``.

    Parameters
    ----------
    input : (N, C, ...)
        One without elements may have any shape but (), and statistics of any shape; it is returned
        as it is.
    running_mean, running_var : (C,)
        Unless ``training``, where they may be None.
    weight, bias : (C,), optional
    training : bool
        Take the input's own mean and variance (Ioffe and Szegedy, "Batch Normalization", 2015), and move the running
        ones towards them. Those are the only arguments of any function here that change.
    momentum : float
        How far they move in training: to ``(1 - momentum) * running + momentum * own``, the variance's own one with
        Bessel's correction.
    eps : float

    Returns
    -------
    The input's shape.
    """
    if training:
        return batch_norm_training(input, running_mean, running_var, weight, bias, momentum, eps)[0]
    if type(eps) is not float or eps < 0:
        eps = at.non_negative("batch_norm: eps", eps)
    y: Array = _batch_norm(input, running_mean, running_var, weight, bias, eps, threads())
    if y is not NotImplemented:
        return y
    if running_mean is None or running_var is None:
        raise ArgumentError("batch_norm: running_mean and running_var must be given")
    arrays = floats(
        "batch_norm", ("weight", "bias"),
        input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    x = arrays.pop("input")
    if not x.size:
        return _without_elements(x, arrays)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input must be (N, C, ...), got shape {x.shape}")
    channels = x.shape[1]
    for name, array in arrays.items():
        if array.shape != (channels,):
            # PyTorch looks at no more than the number of elements of weight and bias.
            if name not in ("weight", "bias") or array.size != channels:
                raise ShapeError(
                    f"batch_norm: {name} must be ({channels},), one number for each channel of input {x.shape}, "
                    f"got shape {array.shape}"
                )
            arrays[name] = array.reshape(channels)
    y = _batch_norm(
        x, arrays["running_mean"], arrays["running_var"], arrays.get("weight"), arrays.get("bias"), eps, threads()
    )
    assert y is not NotImplemented
    return y


def batch_norm_training(
    input: npt.ArrayLike, running_mean: Any, running_var: Any, weight: Any, bias: Any, momentum: Any, eps: Any
) -> tuple[Array, Array, Array]:
    """Return `batch_norm` in training, and the mean and variance of each channel, float64."""
    optional = ("running_mean", "running_var", "weight", "bias")
    given = floats(
        "batch_norm", optional,
        input=input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias,
    )  # fmt: skip
    x = given["input"]
    if x.ndim < 2 or not x.size:
        raise ShapeError(f"batch_norm: in training input must be (N, C, ...), with elements, got shape {x.shape}")
    n, c = x.shape[:2]
    for name in optional:
        if name in given and given[name].size != c:
            raise ShapeError(
                f"batch_norm: {name} must be ({c},), one number for each channel of input {x.shape}, got shape "
                f"{given[name].shape}"
            )
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None and not (isinstance(running, np.ndarray) and running.flags.writeable):
            raise ArgumentError(f"batch_norm: {name} must be a writable array: training changes it; or None")
    momentum, eps = at.number("batch_norm: momentum", momentum), at.non_negative("batch_norm: eps", eps)
    shared = x.size // c
    if shared == 1:
        raise ShapeError(f"batch_norm: in training a channel needs more than one value, input is {x.shape}")
    mean, var = moments(x, n, c)
    with np.errstate(all="ignore"):
        own = (mean.astype(x.dtype), var.astype(x.dtype))
        y = batch_norm(x, *own, given.get("weight"), given.get("bias"), eps=eps)
        # all has been checked: nothing is raised between the first change and the second
        for running, moved in ((running_mean, mean), (running_var, var * (shared / (shared - 1)))):
            if running is not None:
                running[...] = (1 - momentum) * running + momentum * moved.reshape(running.shape)
    return y, mean, var


def _without_elements(x: Array, arrays: dict[str, Array]) -> Array:
    """Do what PyTorch does: multiply nothing by the first weight, so that there has to be one."""
    for name in ("weight", "bias"):
        if name in arrays and (arrays[name].ndim != 1 or not arrays[name].size):
            raise ShapeError(f"batch_norm: {name} must be (C,), C at least 1, got shape {arrays[name].shape}")
    return np.empty_like(x)


def softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Exponentiate and scale so that the sum over the axis ``dim`` is 1.

    Parameters
    ----------
    input : any shape
    dim : int
        Must be given: PyTorch's choice of an axis for its caller is deprecated there.
    dtype : float32 or float64, optional
        Convert the input, which may then hold integers, before computing.

    Returns
    -------
    The input's shape.
    """
    return _over_axis("softmax", input, dim, dtype, False)


def log_softmax(input: npt.ArrayLike, dim: int, *, dtype: npt.DTypeLike | None = None) -> Array:
    """Return the logarithm of `softmax`, computed without its rounding to 0; same parameters."""
    return _over_axis("log_softmax", input, dim, dtype, True)


def _over_axis(function: str, input: npt.ArrayLike, dim: int, dtype: npt.DTypeLike | None, log: bool) -> Array:
    if dtype is None and type(dim) is int:
        y: Array = _softmax_axis(input, dim, log, threads())
        if y is not NotImplemented:
            return y
    x = floats(function, input=input if dtype is None else np.asarray(input, dtype))["input"]
    rank = max(x.ndim, 1)  # a scalar counts as an array of one, as in PyTorch
    axis = at.integer(f"{function}: dim", dim)
    if not -rank <= axis < rank:
        raise ArgumentError(f"{function}: dim must be {-rank}..{rank - 1} for shape {x.shape}, got {dim}")
    y = _softmax_axis(x.reshape(x.shape or (1,)), axis, log, threads())
    assert y is not NotImplemented
    result: Array = y.reshape(x.shape)
    return result


def layer_norm(
    input: npt.ArrayLike,
    normalized_shape: Sequence[int],
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise the last axes together by their own mean and variance.

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : sequence of int
    weight, bias : (*normalized_shape), optional
    eps : float
        Added to the variance.

    Returns
    -------
    The input's shape.
    """
    return _own_statistics("layer_norm", input, weight, bias, normalized_shape, eps)


def rms_norm(
    input: npt.ArrayLike,
    normalized_shape: Sequence[int],
    weight: npt.ArrayLike | None = None,
    eps: float | None = None,
) -> Array:
    """Divide the last axes by the root of their mean square.

    Parameters
    ----------
    input : (..., *normalized_shape)
    normalized_shape : sequence of int
    weight : (*normalized_shape), optional
    eps : float, optional
        Added to the mean square; by default the machine epsilon of the input's dtype.

    Returns
    -------
    The input's shape.
    """
    return _own_statistics("rms_norm", input, weight, None, normalized_shape, eps)


def group_norm(
    input: npt.ArrayLike,
    num_groups: int,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalise the channels of each group, with all their pixels, by their own mean and variance.

    Parameters
    ----------
    input : (N, C, ...)
    num_groups : int
        Divides C.
    weight, bias : (C,), optional
    eps : float
        Added to the variance.

    Returns
    -------
    The input's shape.
    """
    return _own_statistics("group_norm", input, weight, bias, num_groups, eps)


def _own_statistics(
    op: str, input: npt.ArrayLike, weight: npt.ArrayLike | None, bias: npt.ArrayLike | None, what: Any, eps: Any
) -> Array:
    """Call the entry of a norm. A bias without a weight, which the entry could not tell apart, gets one of ones."""
    if weight is None and bias is not None:
        array = np.asarray(bias)
        weight = np.ones(array.shape, array.dtype)
    arrays = (input, *(array for array in (weight, bias) if array is not None))
    result: Array = _NORMS[op].run(arrays, (what, eps))
    return result


def _norm(op: str, attribute: str) -> Prepare:
    def prepare(arrays: tuple[Array, ...], values: tuple[Any, ...], threads: int) -> tuple[Callable[..., Any], int]:
        x, (what, eps) = arrays[0], values
        if op == "group_norm":
            if x.ndim < 2:
                raise ShapeError(f"group_norm: input must be (N, C, ...), got shape {x.shape}")
            shape = x.shape[1:]
        else:
            what = at.integers(f"{op}: normalized_shape", what)
            shape = x.shape[x.ndim - len(what) :]
            if len(what) > x.ndim:
                raise ShapeError(f"{op}: normalized_shape {what} has more axes than input {x.shape}")
        eps = float(np.finfo(x.dtype).eps) if eps is None else eps
        node = Node(
            op, op, (INPUT,), {attribute: what, "eps": eps}, dict(zip(("weight", "bias"), arrays[1:], strict=False))
        )
        graph = Graph(shape, (node,), (op,), dtype=x.dtype)
        if not x.size:
            return lambda x, *weights: np.empty_like(x), 0
        program = compile_graph(graph, threads=threads, weights_in_call=len(arrays) > 1)
        nbytes = program.workspace_bytes * program.threads
        return lambda x, *weights: program(x.reshape(-1, *shape), *weights).reshape(x.shape), nbytes

    return prepare


_NORMS = {
    op: one_op(op, _norm(op, attribute), ("input", "weight", "bias"), images=False)
    for op, attribute in (
        ("layer_norm", "normalized_shape"),
        ("rms_norm", "normalized_shape"),
        ("group_norm", "num_groups"),
    )
}


_local_response = one_op("local_response_norm", compiled("local_response_norm", ("size", "alpha", "beta", "k")))


def local_response_norm(
    input: npt.ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """Divide by ``(k + alpha * mean(input ** 2)) ** beta``, the mean over ``size`` neighbouring channels.

    Channels beyond the first and the last count as 0 (Krizhevsky et al., "ImageNet Classification with Deep
    Convolutional Neural Networks", 2012).

    Parameters
    ----------
    input : (N, C, L) or (N, C, H, W), or more axes of pixels
    size : int
    alpha, beta, k : float

    Returns
    -------
    The input's shape.
    """
    x = floats("local_response_norm", input=input)["input"]
    if x.ndim < 3:
        raise ShapeError(f"local_response_norm: input must be (N, C, L) or (N, C, H, W), got shape {x.shape}")
    if not x.size:
        return np.empty_like(x)
    images = x if x.ndim == 4 else x.reshape(*x.shape[:2], -1, 1)
    y: Array = _local_response.run((images,), (size, alpha, beta, k)).reshape(x.shape)
    return y
