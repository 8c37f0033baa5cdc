"""Rewriting keeps the outputs of a Graph and spares the machine work.

    optimize = RULES applied in order, once each, to one draft, which is checked when it becomes a Graph

remove  nodes that change nothing        fold    into weights and attributes
fuse    into the producer's epilogue     signal  no reshapes between layers of signals
draft   the nodes under work, and how two are merged
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from ..graph.ops.activation import ACTIVATIONS
from .draft import Draft

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..graph import Graph

__all__ = ["RULES", "Row", "Rule", "optimize"]

Rule: TypeAlias = Callable[[Draft], None]


class Row:
    """A rule's row in the table. Its file is loaded when a network may need it: each costs a start 0.15 ms.

    Attributes
    ----------
    name
        The rule's function.
    file
        The module in this folder.
    likely
        ``draft -> bool``: False only where the rule changes nothing.
    """

    __slots__ = ("file", "likely", "name")

    def __init__(self, name: str, file: str, likely: Callable[[Draft], bool]) -> None:
        self.name, self.file, self.likely = name, file, likely

    def __call__(self, draft: Draft) -> None:
        """Apply the rule."""
        if self.likely(draft):
            getattr(import_module(f".{self.file}", __name__), self.name)(draft)


def _has_unread(draft: Draft) -> bool:
    uses = draft.uses()
    return any(name not in uses for name in draft.nodes)


def _has_same_shape(draft: Draft) -> bool:
    """Whether a node might return its input: it computes with no weights, is no activation, and keeps the shape."""
    shapes = draft.shapes
    return any(
        shapes[node.name] == shapes[node.inputs[0]] and not node.weights and node.op not in ACTIVATIONS
        for node in draft.nodes.values()
    )


def _has(*ops: str) -> Callable[[Draft], bool]:
    return lambda draft: any(node.op in ops for node in draft.nodes.values())


RULES = (
    Row("drop_unused", "remove", _has_unread),
    Row("drop_identities", "remove", _has_same_shape),
    Row("lift_signals", "signal", _has("reshape")),
    Row("fold_padding", "fold", _has("pad")),
    Row("fold_channel_shuffle", "fold", _has("permute")),
    Row("fold_batch_norm", "fold", _has("batch_norm")),
    Row("fold_factor", "fold", _has("mul")),
    Row("hoist_activation", "fuse", _has("max_pool2d")),
    Row("fuse_residual", "fuse", _has("add")),
    Row("fuse_activation", "fuse", _has(*ACTIVATIONS)),
    Row("fuse_pool", "fuse", _has("max_pool2d", "avg_pool2d")),
)


def optimize(graph: Graph, rules: Sequence[Rule] = RULES) -> Graph:
    """Return an equivalent graph with every rule applied; the graph itself where none has anything to do.

    Outputs keep their order and values (up to rounding, where batch norm is folded) but may carry
    another node's name. Weights are never modified: a rule that changes them makes new arrays.
    """
    draft = Draft(graph)
    for rule in rules:
        rule(draft)
    return draft.graph()
