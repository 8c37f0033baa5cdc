"""All rewriting rules together, on known networks and on random ones."""

from __future__ import annotations

from collections.abc import Callable

from graphs import build, conv, linear, norm, op, pool
from hypothesis import given
from hypothesis import strategies as st
from rewriting import assert_untouched, rewritten_by, summary

from fastconv import rewrite
from fastconv.graph import INPUT, Graph, Node
from fastconv.rewrite import fold, fuse, remove, signal


def test_lenet_becomes_one_node_per_layer() -> None:
    nodes = [
        *(conv("conv1", INPUT, 6, 1, kernel=5, padding=0), op("relu1", "relu", "conv1")),
        pool("pool1", "relu1"),
        conv("conv2", "pool1", 16, 6, kernel=5, padding=0),
        *(pool("pool2", "conv2"), op("relu2", "relu", "pool2")),  # as tutorials write it
        *(op("drop", "dropout", "relu2"), op("flat", "flatten", "drop")),
        *(
            linear("fc1", "flat", 12, 256),
            op("relu3", "relu", "fc1"),
            linear("fc2", "relu3", 10, 12),
        ),
        op("out", "log_softmax", "fc2", dim=-1),
    ]
    graph = rewritten_by(rewrite.RULES, build((1, 28, 28), *nodes))
    assert summary(graph) == [
        "conv1 + relu1 + pool1 conv2d",
        "conv2 + relu2 + pool2 conv2d",
        "flat flatten",
        "fc1 + relu3 linear",
        "fc2 linear",
        "out log_softmax",
    ]


def test_residual_block_becomes_one_node_per_convolution() -> None:
    nodes = [
        *(conv("conv1", INPUT, 3, 2), norm("bn1", "conv1", 3), op("relu1", "relu", "bn1")),
        *(conv("conv2", "relu1", 3, 3), norm("bn2", "conv2", 3)),
        *(conv("down", INPUT, 3, 2, kernel=1), norm("bn3", "down", 3)),
        *(op("sum", "add", "bn2", "bn3"), op("relu2", "relu", "sum")),
        op("pool", "adaptive_avg_pool2d", "relu2", output_size=1),
    ]
    graph = rewritten_by(rewrite.RULES, build((2, 6, 6), *nodes))
    assert summary(graph) == [
        "conv1 + bn1 + relu1 conv2d",
        "conv2 + bn2 conv2d",
        "down + bn3 + sum + relu2 conv2d",
        "pool adaptive_avg_pool2d",
    ]


def test_optimizing_twice_is_optimizing_once() -> None:
    nodes = conv("c", INPUT, 3, 2), norm("n", "c", 3), pool("p", "n"), op("a", "relu", "p")
    graph = rewrite.optimize(build((2, 6, 6), *nodes))
    assert len(graph.nodes) == 1
    assert rewrite.optimize(graph) is graph


MODULES = {"remove": remove, "signal": signal, "fold": fold, "fuse": fuse}


def test_every_rule_is_in_use() -> None:
    rows = {(row.file, row.name) for row in rewrite.RULES}
    assert rows == {(file, name) for file, module in MODULES.items() for name in module.__all__}


CHANNELS = 3
UNARY: list[Callable[[str, str], Node]] = [
    lambda name, source: conv(name, source, CHANNELS, CHANNELS),
    lambda name, source: conv(name, source, CHANNELS, CHANNELS, kernel=1),
    lambda name, source: norm(name, source, CHANNELS),
    lambda name, source: linear(name, source, 6, 6),
    lambda name, source: op(name, "relu", source),
    lambda name, source: op(name, "leaky_relu", source),
    lambda name, source: op(name, "hardtanh", source),
    lambda name, source: op(name, "dropout", source),
    lambda name, source: op(name, "pad", source, padding=(1, -1, 0, 0)),
    lambda name, source: pool(name, source, 3, stride=1, padding=1),
    lambda name, source: pool(name, source, 1, kind="avg"),
]
SHRINKING: list[Callable[[str, str], Node]] = [
    lambda name, source: pool(name, source, 2),
    lambda name, source: pool(name, source, 2, kind="avg"),
    lambda name, source: pool(name, source, 3, stride=2, padding=1),
]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a network of 6x6 images that branches and joins, with a pooled tail or none."""
    names = [INPUT]
    nodes: list[Node] = []
    for i in range(draw(st.integers(1, 12))):
        # Mostly the last value, so that chains to fuse are common.
        source = names[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(names))
        if draw(st.integers(0, 4)) == 0:
            nodes.append(op(f"n{i}", "add", source, draw(st.sampled_from(names))))
        else:
            nodes.append(draw(st.sampled_from(UNARY))(f"n{i}", source))
        names.append(f"n{i}")
    if draw(st.booleans()):
        nodes.append(draw(st.sampled_from(SHRINKING))("tail", names[-1]))
        nodes.append(op("end", draw(st.sampled_from(["relu", "tanh"])), "tail"))
    outputs = {nodes[-1].name, *draw(st.lists(st.sampled_from(names[1:]), max_size=2))}
    return Graph((CHANNELS, 6, 6), tuple(nodes), tuple(sorted(outputs)))


@given(graph=graphs())
def test_rewriting_keeps_the_outputs_of_random_networks(graph: Graph) -> None:
    for rule in (*rewrite.RULES, rewrite.RULES):
        rewritten_by(rule, graph)


@given(graph=graphs())
def test_a_rule_that_is_passed_over_would_change_nothing(graph: Graph) -> None:
    for row in rewrite.RULES:
        if not row.likely(rewrite.Draft(graph)):
            assert_untouched(getattr(MODULES[row.file], row.name), graph)
