"""What is not supported in a file: collected while it is read, and refused together."""

from __future__ import annotations

from ...errors import UnsupportedOperatorError

__all__ = ["Missing"]

NAMED = 3
"""Nodes of each kind that the message names."""

NAME = 80
"""Characters of a name in it."""


class Missing:
    """What is not supported, with the nodes; false while there is nothing.

    Attributes
    ----------
    untried : int
        Nodes that could not be tried, for they read what one of the others gives.
    """

    def __init__(self) -> None:
        self.untried = 0
        self._nodes: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def add(self, what: str, node: str) -> None:
        """Note that `what`, an operator and what it is used with, is not supported in a node."""
        self._nodes.setdefault(what, []).append(node)

    def error(self) -> UnsupportedOperatorError:
        """One error that says it all."""
        parts = []
        for what, nodes in self._nodes.items():
            named = ", ".join(repr(name[:NAME]) for name in nodes[:NAMED]) + (", ..." if len(nodes) > NAMED else "")
            parts.append(f"{what} ({len(nodes)} node{'s' * (len(nodes) > 1)}: {named})")
        if self.untried:
            parts.append(f"nodes that depend on these and were not tried: {self.untried}")
        return UnsupportedOperatorError(f"not supported: {'; '.join(parts)}; docs/onnx.md lists what is")
