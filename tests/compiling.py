"""Programs beside the float64 interpreter: what the tests of `compile` compare, and how closely."""

from __future__ import annotations

from typing import Any

import numpy as np
from interpreter import run_graph

from fastconv.compile import compile_graph
from fastconv.errors import UnsupportedOperatorError
from fastconv.graph import Graph
from fastconv.rewrite import optimize

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
WINOGRAD_TOLERANCE = 5e-5


def compiled(graph: Graph, threads: int, algorithm: str = "auto", kernel: str | None = None) -> Any:
    """Compile, with the kernels that are chosen where Winograd cannot do every convolution."""
    try:
        return compile_graph(graph, threads=threads, algorithm=algorithm, kernel=kernel)
    except UnsupportedOperatorError:
        assert algorithm == "winograd"  # only 3x3 with stride 1 or 2
        return compile_graph(graph, threads=threads)


Batch = np.ndarray | tuple[np.ndarray, ...]  # of one input, or of each of several


def arrays_of(x: Batch) -> tuple[np.ndarray, ...]:
    return x if isinstance(x, tuple) else (x,)


def outputs_of(program: Any, x: Batch) -> tuple[np.ndarray, ...]:
    """Run a program whose memory is full of NaN, so that what is read unwritten shows."""
    arrays = arrays_of(x)
    program(*(np.full_like(array, np.nan) for array in arrays))
    before = [array.copy() for array in arrays]
    result = program(*arrays)
    for array, as_it_was in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, as_it_was)
    return result if isinstance(result, tuple) else (result,)


def assert_right(actual: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Compare, relative to the largest output or to one, the size of the activations before it.

    A drawn network may well subtract what is nearly equal.
    """
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max(initial=0.0)
    assert error <= tolerance * max(1.0, np.abs(expected).max(initial=0.0))


def assert_equals_interpreter(
    graph: Graph, x: Batch, expected: Any = None, algorithm: str = "auto", kernel: str | None = None
) -> None:
    """Compile as it is and optimised, for one thread and for two, and compare with the interpreter.

    Threads must not change a bit of the outputs, nor must the images before the last one those of
    the last.
    """
    if expected is None:
        expected = run_graph(graph, x)
    for version in (graph, optimize(graph)):
        alone = compiled(version, 1, algorithm, kernel)
        outputs = outputs_of(alone, x)
        winograd = any("winograd" in step["kernel"] for step in alone.steps)
        tolerance = WINOGRAD_TOLERANCE if winograd else TOLERANCE[graph.dtype.name]
        for actual, wanted in zip(outputs, expected, strict=True):
            assert actual.dtype == graph.dtype
            assert_right(actual, wanted, tolerance)
        for one, two in zip(outputs, outputs_of(compiled(version, 2, algorithm, kernel), x), strict=True):
            assert one.tobytes() == two.tobytes()
        last = tuple(array[-1:] for array in arrays_of(x))
        for one, many in zip(outputs_of(alone, last), outputs, strict=True):
            assert one.tobytes() == many[-1:].tobytes()


def batch_of(graph: Graph, count: int, seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, 1])
    arrays = tuple(rng.standard_normal((count, *shape)).astype(graph.dtype) for shape in graph.inputs.values())
    return arrays if len(arrays) > 1 else arrays[0]


def in_float64(graph: Graph) -> Graph:
    nodes = [
        node.replace(weights={role: w.astype(np.float64) for role, w in node.weights.items()}) for node in graph.nodes
    ]
    return Graph(graph.inputs, tuple(nodes), graph.outputs, dtype=np.dtype(np.float64))
