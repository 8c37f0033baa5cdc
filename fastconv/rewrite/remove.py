"""Rules that remove nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..graph import Node
    from .draft import Draft

__all__ = ["drop_identities", "drop_unused"]


def drop_unused(draft: Draft) -> None:
    """Remove the nodes that no output depends on."""
    needed = set(draft.outputs)
    for node in reversed(draft.nodes.values()):
        if node.name in needed:
            needed.update(node.inputs)
    draft.nodes = {name: node for name, node in draft.nodes.items() if name in needed}


def drop_identities(draft: Draft) -> None:
    """Remove the nodes that return their input as it is: dropout, and pooling that pools nothing.

    One stays where it makes an output of its own: of an input of the graph, or of a node that is an
    output already.
    """
    renamed: dict[str, str] = {}
    outputs = set(draft.outputs)
    kept: dict[str, Node] = {}
    for node in draft.nodes.values():
        source = renamed.get(node.inputs[0], node.inputs[0])
        is_output = node.name in outputs
        if not _is_identity(draft, node) or (is_output and (source in draft.inputs or source in outputs)):
            kept[node.name] = node
            continue
        renamed[node.name] = source
        if is_output:
            outputs.add(source)
    draft.nodes = kept
    draft.rename(renamed)


def _is_identity(draft: Draft, node: Node) -> bool:
    """Whether the node returns its input's elements in its input's shape."""
    if node.op not in _COPIES or len(node.inputs) > 1 or draft.shapes[node.name] != draft.shapes[node.inputs[0]]:
        return False
    return _COPIES[node.op](node.attrs)


def _always(attrs: Mapping[str, Any]) -> bool:
    return True


def _one_pixel(attrs: Mapping[str, Any]) -> bool:
    window = attrs["kernel_size"], attrs["stride"], attrs["padding"]
    return window == ((1, 1), (1, 1), (0, 0)) and attrs.get("divisor_override") in (None, 1)


# Whether one input comes out as it went in, where its shape does.
_COPIES: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "identity": _always,
    "dropout": _always,
    "flatten": _always,
    "reshape": _always,
    "cat": _always,
    "expand": _always,
    "adaptive_avg_pool2d": _always,
    "adaptive_max_pool2d": _always,
    "max_pool2d": _one_pixel,
    "avg_pool2d": _one_pixel,
    "pad": lambda attrs: not any(attrs["padding"]),
}
