"""Rules that fold a node into the weights or the attributes of its neighbour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.attributes import MAX_INTEGER
from .draft import has_free_epilogue

if TYPE_CHECKING:
    from ..graph import Node
    from .draft import Draft

__all__ = ["fold_batch_norm", "fold_channel_shuffle", "fold_factor", "fold_padding"]


def fold_padding(draft: Draft) -> None:
    """Let a convolution do the zero padding before it."""
    draft.merge(_merge_padding)


def _merge_padding(draft: Draft, pad: Node, conv: Node) -> Node | None:
    if pad.op != "pad" or conv.op != "conv2d" or conv.inputs[0] != pad.name:
        return None
    widths = pad.attrs["padding"]
    if pad.attrs["mode"] != "constant" or pad.attrs["value"] != 0:
        return None
    if min(widths, default=0) < 0 or any(widths[4:]) or 0 in draft.shapes[pad.inputs[0]]:
        return None
    left, right, top, bottom = (*widths, 0, 0, 0, 0)[:4]
    own = conv.attrs["padding"]
    padding = tuple(a + b for a, b in zip(own, (top, bottom, left, right), strict=True))
    if max(padding) > MAX_INTEGER:
        return None
    return conv.replace(inputs=(pad.inputs[0], *conv.inputs[1:]), attrs={**conv.attrs, "padding": padding})


_HAS_OUTPUTS = ("conv2d", "conv_transpose2d", "linear")


def fold_batch_norm(draft: Draft) -> None:
    """Scale and shift the weights of a convolution, transposed or not, or linear layer instead of its output.

    Where the folded weights would not be finite (a variance of zero with eps=0), nothing is folded.
    """
    draft.merge(_merge_batch_norm)


def _merge_batch_norm(draft: Draft, producer: Node, norm: Node) -> Node | None:
    if norm.op != "batch_norm" or producer.op not in _HAS_OUTPUTS or len(producer.inputs) == 2:
        return None
    if not has_free_epilogue(producer):
        return None
    shape, weight = draft.shapes[norm.name], producer.weights["weight"]
    groups = producer.attrs["groups"] if producer.op == "conv_transpose2d" else 1
    outputs = groups * weight.shape[1] if producer.op == "conv_transpose2d" else weight.shape[0]
    if (producer.op == "linear" and len(shape) != 1) or shape[0] != outputs:
        return None  # the norm's channels are not the layer's outputs
    roles = {role: array.astype(np.float64) for role, array in norm.weights.items()}
    # y = (w x + b - mean) scale + shift  =  (w scale) x + ((b - mean) scale + shift)
    with np.errstate(all="ignore"):
        scale = 1 / np.sqrt(roles["running_var"] + norm.attrs["eps"])
        if "weight" in roles:
            scale = scale * roles["weight"]
        bias = producer.weights.get("bias", np.zeros(len(scale))).astype(np.float64)
        bias = (bias - roles["running_mean"]) * scale + roles.get("bias", 0.0)
        columns = scale.reshape(-1, *[1] * (weight.ndim - 1))
        if producer.op == "conv_transpose2d":  # (I, O / groups, kh, kw): each group's outputs in all rows of its inputs
            columns = scale.reshape(groups, -1).repeat(len(weight) // groups, axis=0)[:, :, np.newaxis, np.newaxis]
        folded = {
            "weight": _times(weight, columns),
            "bias": bias.astype(weight.dtype),
        }
    if not all(np.isfinite(array).all() for array in folded.values()):
        return None
    return producer.replace(attrs={**producer.attrs, "activation": norm.attrs["activation"]}, weights=folded)


def fold_factor(draft: Draft) -> None:
    """Scale the weights of a convolution or linear layer instead of its output, by a constant for each channel.

    The layer scale of Touvron et al., "Going deeper with Image Transformers", 2021, is one. Where the folded weights
    would not be finite, nothing is folded.
    """
    draft.merge(_merge_factor)


def _merge_factor(draft: Draft, producer: Node, mul: Node) -> Node | None:
    if mul.op != "mul" or "other" not in mul.weights or producer.op not in ("conv2d", "linear"):
        return None
    if len(producer.inputs) == 2 or not has_free_epilogue(producer):
        return None
    weight, factor = producer.weights["weight"], mul.weights["other"]
    behind = (1, 1) if producer.op == "conv2d" else ()  # the axes behind the channels
    channels = np.ones((len(weight), *behind))
    if draft.shapes[mul.name] != draft.shapes[producer.name] or factor.size not in (1, len(weight)):
        return None
    try:
        scale = np.broadcast_to(factor.reshape(factor.shape[-channels.ndim :]), channels.shape)
    except ValueError:
        return None
    with np.errstate(all="ignore"):
        scaled = {
            role: _times(array, scale.reshape(-1, *[1] * (array.ndim - 1))) for role, array in producer.weights.items()
        }
    if not all(np.isfinite(array).all() for array in scaled.values()):
        return None
    return producer.replace(attrs={**producer.attrs, "activation": mul.attrs["activation"]}, weights=scaled)


def _times(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply in float64, a piece at a time: no second copy of a large weight is made."""
    result = np.empty_like(array)
    np.multiply(array, factors, out=result, dtype=np.float64, casting="same_kind")
    return result


def fold_channel_shuffle(draft: Draft) -> None:
    """Let one node do what a reshape, a permutation and a reshape do to channels: it is one copy, not three."""
    uses = draft.uses()
    for name, last in list(draft.nodes.items()):
        turn = draft.nodes.get(last.inputs[0])
        if last.op != "reshape" or turn is None or turn.op != "permute" or turn.attrs["dims"] != (0, 2, 1, 3, 4):
            continue
        first = draft.nodes.get(turn.inputs[0])
        if first is None or first.op != "reshape" or uses[turn.name] != 1 or uses[first.name] != 1:
            continue
        shape, parts = draft.shapes[first.inputs[0]], draft.shapes[first.name]
        if shape != draft.shapes[name] or len(shape) != 3 or shape[1:] != parts[2:]:
            continue
        fused = (*first.fused, first.name, *turn.fused, turn.name, *last.fused)
        draft.nodes[name] = last.replace(
            op="channel_shuffle", inputs=first.inputs, attrs={"groups": parts[0]}, fused=fused
        )
        del draft.nodes[turn.name], draft.nodes[first.name]
