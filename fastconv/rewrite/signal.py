"""Signals (C, L) as the images of height 1 that convolutions and pools see: reshapes between two of these go away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graph import Node
from ..graph.ops.activation import ACTIVATIONS
from .remove import drop_identities, drop_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .draft import Draft

__all__ = ["lift_signals"]


def lift_signals(draft: Draft) -> None:
    """Let what works on signals between two layers work on the layers' images, and join reshapes that follow another.

    A signal is what a reshape makes of an image of height 1. The reshape moves behind the next node, until it meets
    one that makes an image again: together they are nothing. What is left reads the values in front of all reshapes.
    """
    nodes: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for node in draft.nodes.values():
        node = node.replace(inputs=tuple(renamed.get(name, name) for name in node.inputs)) if renamed else node
        sources = [nodes.get(name) for name in node.inputs]
        first = sources[0]
        if node.op in _RESHAPES:
            if first is not None and first.op in _RESHAPES:
                node = _joined(draft, first, node)
            elif first is not None and _makes_image_of_rows(draft, first, node):
                rows = Node(_unused(f"{node.name}.rows", draft, nodes), "reshape", first.inputs)
                draft.shapes[rows.name] = shape = (1, *draft.shapes[first.inputs[0]])
                nodes[rows.name] = rows.replace(attrs={"shape": shape})
                node = node.replace(op="permute", inputs=(rows.name,), attrs={"dims": (0, 3, 1, 2)})
        elif node.op in _LIFTED and all(source is not None and _makes_signal(draft, source) for source in sources):
            images = [source.inputs[0] for source in sources if source is not None]
            changed = _LIFTED[node.op](node)
            channels, length = shape = draft.shapes[node.name]
            nodes[node.name] = node.replace(inputs=tuple(images), **changed)
            draft.shapes[node.name] = channels, 1, length
            name = _unused(f"{node.name}.signal", draft, nodes)
            node = Node(name, "reshape", (node.name,), {"shape": shape})
            renamed[node.inputs[0]] = name
            draft.shapes[name] = shape
        nodes[node.name] = node
    if nodes == draft.nodes:
        return
    draft.nodes = nodes
    draft.outputs = tuple(renamed.get(name, name) for name in draft.outputs)
    drop_identities(draft)
    drop_unused(draft)


_RESHAPES = ("reshape", "flatten")


def _joined(draft: Draft, first: Node, second: Node) -> Node:
    """One reshape for two; a `flatten` stays one where it leaves one axis, which linear layers read in any order."""
    shape = draft.shapes[second.name]
    if second.op == "flatten" and len(shape) == 1:
        attrs: dict[str, Any] = {"start_dim": 1, "end_dim": len(draft.shapes[first.inputs[0]])}
        return second.replace(inputs=first.inputs, attrs=attrs)
    return second.replace(op="reshape", inputs=first.inputs, attrs={"shape": shape})


def _makes_signal(draft: Draft, node: Node) -> bool:
    """Whether a node makes (C, L) of (C, 1, L)."""
    if node.op != "reshape":
        return False
    shape, source = draft.shapes[node.name], draft.shapes[node.inputs[0]]
    return len(source) == 3 and source[1] == 1 and shape == (source[0], source[2])


def _makes_image_of_rows(draft: Draft, first: Node, second: Node) -> bool:
    """Whether rows (L, C), such as embedded words, become (C, L) and then (C, 1, L): in memory that is nothing."""
    if first.op != "permute" or first.attrs["dims"] != (0, 2, 1):
        return False
    channels, length = draft.shapes[first.name]
    return draft.shapes[second.name] == (channels, 1, length)


def _unused(name: str, draft: Draft, nodes: Mapping[str, Node]) -> str:
    while name in draft.nodes or name in nodes:
        name += "_"
    return name


# What of a node changes with an axis of height 1 behind the channels.


def _same(node: Node) -> dict[str, Any]:
    return {}


def _constant(node: Node) -> dict[str, Any]:
    other = node.weights.get("other")
    if other is None or other.ndim < 2:
        return {}
    return {"weights": {"other": other.reshape(other.shape[0], 1, other.shape[1])}}


def _axis(node: Node) -> dict[str, Any]:
    return {"attrs": {**node.attrs, "dim": 3 if node.attrs["dim"] == 2 else 1}}


def _padding(node: Node) -> dict[str, Any]:
    """Of the length, of the height, and where they are padded of the channels."""
    length, channels = node.attrs["padding"][:2], node.attrs["padding"][2:]
    return {"attrs": {**node.attrs, "padding": (*(length or (0, 0)), 0, 0, *channels)}}


_LIFTED: dict[str, Callable[[Node], dict[str, Any]]] = {
    **dict.fromkeys(ACTIVATIONS, _same),
    "batch_norm": _same,
    "group_norm": _same,
    **dict.fromkeys(("add", "sub", "mul", "div", "maximum", "minimum"), _constant),
    "cat": _axis,
    "slice": _axis,
    "pad": _padding,
}
