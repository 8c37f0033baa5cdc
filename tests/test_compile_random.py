"""Random networks, compiled in every way, against the float64 interpreter: our widest net."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from compiling import Batch, assert_equals_interpreter, batch_of, in_float64
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interpreter import run_graph
from random_graphs import graphs

from fastconv.compile import ALGORITHMS
from fastconv.graph import Graph


@pytest.fixture(autouse=True, scope="module")
def _one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: on a busy machine, small sums wait for its others."""
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        yield


seeds = st.integers(0, 2**32 - 1)


def run_finite(graph: Graph, x: Batch) -> tuple[Any, ...]:
    """Run the interpreter; pass over results that the graph's own type cannot hold, such as of a window of padding."""
    expected = run_graph(graph, x)
    most = np.finfo(graph.dtype).max
    assume(all((np.abs(y) <= most).all() for y in expected))
    return expected


@given(graphs(), st.integers(1, 5), st.sampled_from(ALGORITHMS), seeds)
def test_networks_equal_the_interpreter(graph: Graph, batch: int, algorithm: str, seed: int) -> None:
    x = batch_of(graph, batch, seed)
    assert_equals_interpreter(graph, x, run_finite(graph, x), algorithm)


@settings(max_examples=settings().max_examples // 2)
@given(graphs(max_inputs=3), st.integers(1, 5), st.sampled_from(ALGORITHMS), seeds)
def test_networks_of_several_inputs_equal_the_interpreter(graph: Graph, batch: int, algorithm: str, seed: int) -> None:
    x = batch_of(graph, batch, seed)
    assert_equals_interpreter(graph, x, run_finite(graph, x), algorithm)


@settings(max_examples=settings().max_examples // 4)
@given(graphs(), st.integers(1, 3), seeds)
def test_float64_networks_equal_the_interpreter(graph: Graph, batch: int, seed: int) -> None:
    graph = in_float64(graph)
    x = batch_of(graph, batch, seed)
    assert_equals_interpreter(graph, x, run_finite(graph, x))
