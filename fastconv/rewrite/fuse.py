"""Rules that let a node do the work of the next one as its epilogue: a residual, an activation, a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.geometry import windows
from ..graph.ops.activation import ACTIVATIONS
from .draft import has_free_epilogue

if TYPE_CHECKING:
    from ..graph import Node
    from .draft import Draft

__all__ = ["fuse_activation", "fuse_pool", "fuse_residual", "hoist_activation"]


def hoist_activation(draft: Draft) -> None:
    """Exchange max-pool -> activation for activation -> max-pool, so that a producer can fuse both.

    A maximum commutes with a non-decreasing function as long as every window has a pixel in it.
    """
    uses, nodes = draft.uses(), draft.nodes
    exchanged: dict[str, Node] = {}  # name -> the node that takes its place
    renamed: dict[str, str] = {}
    for node in nodes.values():
        pool = nodes.get(node.inputs[0])
        if pool is None or not _can_exchange(pool, node) or uses[pool.name] != 1:
            continue
        producer = nodes.get(pool.inputs[0])
        if producer is None or uses[producer.name] != 1 or not has_free_epilogue(producer):
            continue
        exchanged[pool.name] = node.replace(inputs=pool.inputs)
        exchanged[node.name] = pool.replace(inputs=(node.name,))
        renamed[node.name] = pool.name
        draft.shapes[node.name] = draft.shapes[producer.name]
    if renamed:
        draft.rename(renamed)
        kept = [exchanged.get(name, node) for name, node in draft.nodes.items()]
        draft.nodes = {node.name: node for node in kept}


def _can_exchange(pool: Node, activation: Node) -> bool:
    row = ACTIVATIONS.get(activation.op)
    if row is None or pool.op != "max_pool2d":
        return False
    # A dilated window may lie in the padding altogether; its maximum is -inf, not a pixel.
    return bool(pool.attrs["dilation"] == (1, 1) and row.monotonic(*activation.attrs.values()))


def fuse_residual(draft: Draft) -> None:
    """Let a convolution or linear layer add the other operand of an addition to its output.

    Where both operands could, the later one does.
    """
    draft.merge(_merge_residual)


def _merge_residual(draft: Draft, producer: Node, add: Node) -> Node | None:
    if add.op != "add" or producer.op not in ("conv2d", "linear") or len(producer.inputs) == 2:
        return None
    if not has_free_epilogue(producer) or len(add.inputs) != 2:
        return None
    first, second = add.inputs
    other = second if first == producer.name else first
    if draft.shapes[other] != draft.shapes[producer.name]:
        return None  # one of them is broadcast
    return producer.replace(
        inputs=(producer.inputs[0], other),
        attrs={**producer.attrs, "activation": add.attrs["activation"]},
    )


def fuse_activation(draft: Draft) -> None:
    """Apply an activation as the epilogue of the node that makes its input."""
    draft.merge(_merge_activation)


def _merge_activation(draft: Draft, producer: Node, node: Node) -> Node | None:
    if node.op not in ACTIVATIONS or not has_free_epilogue(producer):
        return None
    activation = (node.op, *node.attrs.values())  # its parameters, in the table's order
    return producer.replace(attrs={**producer.attrs, "activation": activation})


def fuse_pool(draft: Draft) -> None:
    """Pool a convolution's output as it is computed, where the windows do not overlap."""
    draft.merge(_merge_pool)


def _merge_pool(draft: Draft, conv: Node, pool: Node) -> Node | None:
    if pool.op not in ("max_pool2d", "avg_pool2d") or conv.op != "conv2d":
        return None
    if conv.attrs["pool"] is not None or len(conv.inputs) == 2:
        return None
    attrs = pool.attrs
    (kh, kw), (sh, sw) = attrs["kernel_size"], attrs["stride"]
    plain = (
        attrs["padding"] == (0, 0)
        and attrs.get("dilation", (1, 1)) == (1, 1)
        and attrs.get("divisor_override") in (None, kh * kw)
        and kh <= sh
        and kw <= sw
    )
    _, height, width = draft.shapes[conv.name]
    floor = windows(height, kh, sh), windows(width, kw, sw)
    if not plain or draft.shapes[pool.name][1:] != floor:  # ceil_mode adds an overhanging window
        return None
    kind = "max" if pool.op == "max_pool2d" else "avg"
    return conv.replace(attrs={**conv.attrs, "pool": (kind, kh, kw, sh, sw)})
