"""Rewriting keeps the outputs of a Graph and spares the machine work.

    optimize = RULES applied in order, once each, to one draft, which is checked when it becomes a Graph

remove  nodes that change nothing        fold    into weights and attributes
fuse    into the producer's epilogue     signal  no reshapes between layers of signals
draft   the nodes under work, and how two are merged
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from .draft import Draft
from .fold import fold_batch_norm, fold_channel_shuffle, fold_padding
from .fuse import fuse_activation, fuse_pool, fuse_residual, hoist_activation
from .remove import drop_identities, drop_unused, lift_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..graph import Graph

__all__ = ["RULES", "Rule", "optimize"]

Rule: TypeAlias = Callable[[Draft], None]


RULES: tuple[Rule, ...] = (
    drop_unused,
    drop_identities,
    lift_signals,
    fold_padding,
    fold_channel_shuffle,
    fold_batch_norm,
    hoist_activation,
    fuse_residual,
    fuse_activation,
    fuse_pool,
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
