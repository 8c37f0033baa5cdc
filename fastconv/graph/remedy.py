"""The remedy for a wrong input size; loaded with the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FastconvError
from . import INPUT, checks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from . import Node
    from .ops.spec import FeatureMismatchError, Shape

__all__ = ["explain_features", "find_input_shape"]

_LARGEST_SIDE = 1024
_SEARCH_BUDGET = 20_000  # nodes inferred in one search: some tenths of a second at most


def explain_features(
    error: FeatureMismatchError, given: Node, shapes: Mapping[str, Shape], before: Sequence[Node]
) -> str:
    """Say what a linear layer that does not fit needs, and which input size would give it."""
    source = next((node for node in before if node.name == given.inputs[0]), None)
    flattened = source is not None and source.op in ("flatten", "reshape")
    what = "the flattened input" if flattened else "the input"
    problem = f"expects {error.expected} features, {what} has {error.got}"
    inputs = [name for name in shapes if all(name != node.name for node in before)]
    image = shapes[inputs[0]]
    # The sizes of several inputs would have to change together, nobody knows how.
    searched = len(inputs) == 1 and len(image) == 3
    fitting = find_input_shape([*before, given], image[0], inputs[0]) if searched else None
    if fitting is None:
        return f"{problem}; check the layers before it, or its weight"
    return f"{problem}; pass input_shape={fitting}"


def find_input_shape(nodes: Sequence[Node], channels: int, name: str = INPUT) -> Shape | None:
    """Return the smallest square (channels, S, S) that `nodes` accept as the input of that name, or None.

    One size is inferred after another, up to a bound on the work. Sizes that are settled in the
    nodes already (a reshape without -1) stay as they are.
    """
    for side in range(1, min(_LARGEST_SIDE, _SEARCH_BUDGET // max(len(nodes), 1)) + 1):
        shapes: dict[str, Shape] = {name: (channels, side, side)}
        try:
            for node in nodes:
                spec = checks.spec_of(node.op)
                sources = [shapes[source] for source in node.inputs]
                attrs = checks.attributes(node.attrs, node.op, spec)
                shapes[node.name], _ = spec.infer(sources, attrs, node.weights)
        except FastconvError:
            continue
        return shapes[name]
    return None
