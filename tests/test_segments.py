"""Segments: wherever a network is cut, and however many images go together, each image's bits are the same."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from compiling import arrays_of, batch_of, outputs_of
from hypothesis import given
from hypothesis import strategies as st
from networks import NETWORKS, Net
from random_graphs import graphs

import fastconv.compile
from fastconv.compile import compile_graph
from fastconv.compile.tensors import Segment
from fastconv.graph import Graph
from fastconv.machine.description import Machine, this_machine
from fastconv.rewrite import optimize


def cut_at(share: float, early: int, late: int) -> Any:
    """Return what takes the place of the choice: a cut behind this share of the steps."""

    def divided(steps: list[Any], *others: Any) -> list[Segment]:
        cut = int(share * len(steps))
        last = [Segment(len(steps), late)]
        return [Segment(cut, early), *last] if 0 < cut < len(steps) else last

    return divided


def assert_same_bits(graph: Graph, share: float, early: int, late: int, threads: int, batch: int) -> None:
    with mock.patch.object(fastconv.compile, "_segments", cut_at(1, 1, 1)):
        one_by_one = compile_graph(graph, threads=1)
    with mock.patch.object(fastconv.compile, "_segments", cut_at(share, early, late)):
        program = compile_graph(graph, threads=threads)
    x = batch_of(graph, batch)
    expected = outputs_of(one_by_one, x)
    for actual, wanted in zip(outputs_of(program, x), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)
    first = tuple(array[:1] for array in arrays_of(x))  # the same memory, fewer images
    for actual, wanted in zip(outputs_of(program, first), expected, strict=True):
        np.testing.assert_array_equal(actual, wanted[:1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("name", ["cifar_conv", "vgg", "mixed", "large_images"])
def test_networks(name: str, share: float, threads: int) -> None:
    for early, late, batch in [(1, 4, 11), (2, 3, 7), (3, 3, 4), (1, 16, 5)]:
        assert_same_bits(NETWORKS[name](), share, early, late, threads, batch)


@given(
    graphs(max_inputs=2), st.floats(0, 1), st.integers(1, 3), st.integers(0, 4), st.integers(1, 2), st.integers(1, 9)
)
def test_drawn_networks(graph: Graph, share: float, early: int, more: int, threads: int, batch: int) -> None:
    assert_same_bits(graph, share, early, early + more, threads, batch)


# --- where networks are cut ---------------------------------------------------------------------------


def machine(**changes: Any) -> Machine:
    return this_machine().replace(**{"l2_bytes": 2**20, "llc_bytes": 32 * 2**20, **changes})


def segments_of(graph: Graph, described: Machine, threads: int = 1) -> tuple[list[Segment], list[Any]]:
    """Return the segments that are chosen, and the steps."""
    seen: list[Any] = []
    choose = fastconv.compile._segments

    def noted(steps: list[Any], *others: Any) -> list[Segment]:
        seen.extend((choose(steps, *others), steps))
        return seen[0]

    with mock.patch.object(fastconv.compile, "_segments", noted):
        compile_graph(optimize(graph), threads=threads, machine=described)
    return seen[0], seen[1]


def narrowing(*sizes: int) -> Graph:
    """Pairs of convolutions and a pool: channels double while pixels are quartered."""
    net = Net(16, sizes[0], sizes[0])
    for index, _ in enumerate(sizes):
        for _ in range(2):
            net.conv(32 << index)
            net.relu()
        net.pool()
    return net.graph()


def test_late_layers_take_many_images_where_weights_are_large() -> None:
    segments, steps = segments_of(narrowing(64, 32, 16, 8, 4), machine())
    assert len(segments) == 2
    early, late = segments
    assert early.images == 1
    assert late.images >= 8
    first = steps[early.end]
    assert first.constants > first.x.tensor.bytes  # there weights outweigh activations


def test_threads_share_the_last_level() -> None:
    graph = narrowing(64, 32, 16, 8, 4)
    small = machine(llc_bytes=2**22)
    one, two = (segments_of(graph, small, threads)[0][-1].images for threads in (1, 2))
    assert two < one


def test_a_network_whose_weights_stay_in_cache_is_one_segment() -> None:
    segments, steps = segments_of(NETWORKS["lenet"](), machine())
    assert [(segment.end, segment.images) for segment in segments] == [(len(steps), 56)]


def test_no_segment_takes_more_than_the_last_level_holds() -> None:
    segments, _ = segments_of(narrowing(64, 32, 16, 8, 4), machine(llc_bytes=2**16))
    assert [segment.images for segment in segments] == [1]
