"""How the tests of rewriting apply a rule and judge it."""

from __future__ import annotations

import numpy as np
from graphs import random
from interpreter import run_graph

from fastconv.graph import Graph
from fastconv.rewrite import Rule, optimize

# In float64 a folded batch norm differs by rounding alone; everything else is exact.
ROUNDING = 1e-12


def summary(graph: Graph) -> list[str]:
    """Return "a + b + c op" for each node."""
    return [f"{' + '.join((*node.fused, node.name))} {node.op}" for node in graph.nodes]


def assert_same_outputs(graph: Graph, rewritten: Graph, **special: float) -> None:
    """Compare the oracle's outputs of both graphs on random images, exact zeros among them."""
    x = tuple(random(2, *shape, seed=9 + i) * 3 for i, shape in enumerate(graph.inputs.values()))
    for array in x:
        array.ravel()[::7] = 0
        for value in special.values():
            array.ravel()[5::11] = value
    expected, actual = run_graph(graph, x), run_graph(rewritten, x)
    assert len(expected) == len(actual)
    for one, other in zip(expected, actual, strict=True):
        finite = np.abs(one[np.isfinite(one)])
        atol = ROUNDING * finite.max(initial=1.0)
        np.testing.assert_allclose(other, one, rtol=ROUNDING, atol=atol, equal_nan=True)


def rewritten_by(rule: Rule | tuple[Rule, ...], graph: Graph) -> Graph:
    """Apply a rule, or several, check that outputs and weights survive, and return the result."""
    before = [array.copy() for node in graph.nodes for array in node.weights.values()]
    result = optimize(graph, rule if isinstance(rule, tuple) else (rule,))
    after = [array for node in graph.nodes for array in node.weights.values()]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert_same_outputs(graph, result)
    return result


def assert_untouched(rule: Rule, graph: Graph) -> None:
    assert optimize(graph, (rule,)) is graph
