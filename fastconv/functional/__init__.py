"""torch.nn.functional on NumPy arrays: the same names, argument order, defaults and results.

Arrays are laid out as in PyTorch: images are (N, C, H, W), or (C, H, W) unbatched. They are float32
or float64, computed in that precision, and of any strides; all arguments of one call share the
dtype. Inputs are never modified and every result is a new array. Calls use fastconv's default
number of threads, read again at most ten times a second, and release the GIL where they compute for
long; small ones wake no second thread.

Comparisons and logic return bools. Other types are taken where PyTorch needs them alone: the condition of ``where``, a
mask of attention, both operands of ``logical_and`` and its like may be bools, an index of ``index_select`` holds ints.
Integers are else refused, with the remedy. Functions that only move elements, ``permute`` or ``reshape``, copy them.

Every function raises `fastconv.ShapeError` for shapes that do not fit,
`fastconv.errors.ArgumentError` for values that are not allowed and `fastconv.errors.DTypeError` for
other element types, each naming the function, the argument and the remedy. What PyTorch 2.13
refuses is refused.

Elementwise functions, arithmetic, matrix products, softmax, batch norm and linear run on the
caller's memory. Others compile a network of one node for these shapes and attributes, and remember
it: the `CACHED` used last, which together keep at most `CACHED_BYTES` of working memory. To run
several layers, build a model (`fastconv.load`, `fastconv.from_torch`): it is compiled once, and
what lies between layers stays in the cache of the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graph.ops import FAMILIES
from ..graph.ops.activation import ACTIVATIONS

if TYPE_CHECKING:
    from .activation import *
    from .arithmetic import *
    from .conv import *
    from .loss import *
    from .matmul import *
    from .norm import *
    from .order import *
    from .pool import *
    from .reduce import *
    from .resize import *
    from .shape import *

_FAMILIES = {
    "activation": (
        *(name for name in ACTIVATIONS if name not in ("isnan", "logical_not", "pow")),
        *("glu", "relu6", "softsign", "tanhshrink"),
    ),
    "arithmetic": (*FAMILIES["arithmetic"], "clamp", "isnan", "logical_not", "pow"),
    "conv": ("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"),
    "loss": ("cross_entropy", "mse_loss", "nll_loss"),
    "matmul": (
        "bmm",
        "linear",
        "matmul",
        "scaled_dot_product_attention",
    ),  # a module of the function's name would shadow it here
    "norm": ("batch_norm", "group_norm", "layer_norm", "local_response_norm", "log_softmax", "rms_norm", "softmax"),
    "order": ("cumsum", "topk"),
    "pool": (
        *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"),
        *("avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"),
    ),
    "reduce": ("amax", "amin", "argmax", "argmin", "logsumexp", "mean", "prod", "std", "sum", "var", "vector_norm"),
    "resize": ("channel_shuffle", "grid_sample", "interpolate", "pixel_shuffle", "pixel_unshuffle"),
    "shape": (
        *(
            "broadcast_to",
            "cat",
            "flatten",
            "flip",
            "fold",
            "index_select",
            "pad",
            "permute",
            "reshape",
            "roll",
            "stack",
        ),
        *("transpose", "unfold"),
    ),
}
__all__ = sorted(name for names in _FAMILIES.values() for name in names)
_FAMILY_OF = {name: family for family, names in _FAMILIES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a function's family at its first use."""
    family = _FAMILY_OF.get(name)
    if family is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f".{family}", __name__)
    globals().update((known, getattr(module, known)) for known in _FAMILIES[family])
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
