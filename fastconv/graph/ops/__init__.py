"""The operators of a Graph: ``OPS[name]`` is what one takes, loaded with its family at first need.

The names and attributes are those of ``torch.nn.functional``. Two are set by rewriting only:
``activation`` (None or ``(op, *parameters)``, applied to the result) and, of a conv2d, ``pool``
(None or ``('max'|'avg', kh, kw, sh, sw)``, applied after the activation). A second input of conv2d
or linear is a residual, added before the activation.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .spec import OpSpec

__all__ = ["FAMILIES", "OPS", "family_of"]

# Family -> its operators; those of "activation" are the rows of its own table.
FAMILIES: Mapping[str, tuple[str, ...]] = {
    "conv": ("conv2d", "conv_transpose2d"),
    "linear": ("linear", "matmul"),
    "pool": ("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    "norm": (
        "batch_norm",
        "layer_norm",
        "rms_norm",
        "group_norm",
        "softmax",
        "log_softmax",
        "local_response_norm",
    ),
    "shape": (
        "pad",
        "flatten",
        "reshape",
        "permute",
        "slice",
        "cat",
        "constant",
        "identity",
        "dropout",
        "flip",
        "expand",
        "index_select",
    ),
    "resize": ("interpolate", "grid_sample", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
    "arithmetic": (
        "add",
        "sub",
        "mul",
        "div",
        "maximum",
        "minimum",
        "float_power",
        "fmod",
        "remainder",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "logical_and",
        "logical_or",
        "logical_xor",
        "where",
        "prelu",
    ),
    "reduce": (
        "mean",
        "sum",
        "prod",
        "amax",
        "amin",
        "argmax",
        "argmin",
        "logsumexp",
        "vector_norm",
        "var",
        "std",
    ),
    "order": ("cumsum", "topk"),
    "recurrent": ("lstm", "gru", "rnn"),
}


_FAMILY = {op: family for family, ops in FAMILIES.items() for op in ops}


def family_of(op: str) -> str:
    """Return the family of an operator, which names its module in every stage; it need not be known."""
    return _FAMILY.get(op, "activation")


class _Operators:
    """Operator -> what it takes. Looking one up imports its family's module, and iterating none but activation.

    A mapping but for its base class, whose making takes a tenth of a millisecond of every start.
    """

    def __init__(self) -> None:
        self._known: dict[str, OpSpec] = {}

    def __getitem__(self, op: str) -> OpSpec:
        spec = self._known.get(op)
        if spec is None:
            self._known.update(import_module(f".{family_of(op)}", __name__).SPECS)
            spec = self._known[op]
        return spec

    def get(self, op: str) -> OpSpec | None:
        """Return what an operator takes; None where there is none of the name."""
        try:
            return self[op]
        except KeyError:
            return None

    def __contains__(self, op: str) -> bool:
        return self.get(op) is not None

    def __iter__(self) -> Iterator[str]:
        from .activation import ACTIVATIONS

        yield from _FAMILY
        yield from ACTIVATIONS

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> Iterator[tuple[str, OpSpec]]:
        """Every operator with what it takes."""
        return ((op, self[op]) for op in self)


OPS = _Operators()
