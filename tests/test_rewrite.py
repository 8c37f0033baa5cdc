"""Every rewriting rule keeps the outputs, does what it is for, and keeps its hands off the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import build, conv, linear, norm, op, pool, random
from rewriting import assert_same_outputs, assert_untouched, rewritten_by, summary

from fastconv.graph import INPUT, Node
from fastconv.rewrite import Rule, fold, fuse, optimize, remove

# --- removing nodes -----------------------------------------------------------------------------


def test_drop_unused() -> None:
    graph = build((3,), op("a", "relu", INPUT), op("b", "tanh", "a"), op("c", "sigmoid", "a"))
    assert summary(rewritten_by(remove.drop_unused, graph)) == ["a relu", "c sigmoid"]
    assert_untouched(remove.drop_unused, graph.replace(outputs=("b", "c")))


IDENTITIES = [
    op("x", "identity", "a"),
    op("x", "dropout", "a", p=0.3),
    op("x", "reshape", "a", shape=(2, 6, -1)),
    op("x", "flatten", "a", start_dim=2, end_dim=2),
    op("x", "cat", "a"),
    op("x", "pad", "a", padding=(0, 0, 0, 0), mode="reflect"),
    op("x", "pad", "a", padding=()),
    pool("x", "a", 1),
    pool("x", "a", (1, 1), kind="avg", ceil_mode=True),
    op("x", "adaptive_avg_pool2d", "a", output_size=(6, None)),
    op("x", "adaptive_max_pool2d", "a", output_size=(None, 6)),
]


@pytest.mark.parametrize("node", IDENTITIES, ids=str)
def test_drop_identities(node: Node) -> None:
    nodes = op("a", "sigmoid", INPUT), node, op("b", "tanh", "x")
    graph = rewritten_by(remove.drop_identities, build((2, 6, 6), *nodes))
    assert summary(graph) == ["a sigmoid", "b tanh"]
    graph = rewritten_by(remove.drop_identities, build((2, 6, 6), *nodes[:2]))
    assert graph.outputs == ("a",)


@pytest.mark.parametrize(
    "node",
    [
        op("x", "relu", "a"),
        op("x", "add", "a", "a"),
        op("x", "reshape", "a", shape=(6, 2, 6)),
        op("x", "flatten", "a"),
        op("x", "pad", "a", padding=(1, -1)),
        pool("x", "a", 3, stride=1, padding=1),
        pool("x", "a", 1, kind="avg", divisor_override=2),
        op("x", "adaptive_avg_pool2d", "a", output_size=(5, None)),
        op("x", "softmax", "a", dim=1),
    ],
    ids=str,
)
def test_what_is_no_identity_stays(node: Node) -> None:
    graph = build((2, 6, 6), op("a", "sigmoid", INPUT), node)
    assert_untouched(remove.drop_identities, graph)


def test_an_identity_that_makes_an_output_stays() -> None:
    assert_untouched(remove.drop_identities, build((3,), op("x", "identity", INPUT)))
    two = op("a", "relu", INPUT), op("x", "dropout", "a")
    assert_untouched(remove.drop_identities, build((3,), *two, outputs=("x", "a")))
    chain = op("a", "relu", INPUT), op("x", "dropout", "a"), op("y", "identity", "x")
    graph = rewritten_by(remove.drop_identities, build((3,), *chain, outputs=("y", "x", "y")))
    assert summary(graph) == ["a relu", "y identity"]
    assert graph.outputs == ("y", "a", "y")


# --- rewriting weights --------------------------------------------------------------------------


def test_fold_padding() -> None:
    pad = op("p", "pad", INPUT, padding=(1, 2, 0, 3))
    graph = build((2, 5, 5), pad, conv("c", "p", 3, 2, padding=1, stride=2))
    graph = rewritten_by(fold.fold_padding, graph)
    assert summary(graph) == ["p + c conv2d"]
    assert graph.nodes[0].attrs["padding"] == (1, 4, 2, 3)


@pytest.mark.parametrize(
    "attrs",
    [
        {"padding": (1, 1, 1, 1), "value": 0.5},
        {"padding": (1, 1, 1, 1), "mode": "reflect"},
        {"padding": (1, -1, 1, 1)},
        {"padding": (0, 0, 0, 0, 1, 0)},
        {"padding": (2**31 - 1, 0)},
    ],
    ids=str,
)
def test_other_padding_stays(attrs: dict[str, Any]) -> None:
    channels = 3 if len(attrs["padding"]) == 6 else 2
    nodes = op("p", "pad", INPUT, **attrs), conv("c", "p", 3, channels)
    assert_untouched(fold.fold_padding, build((2, 5, 5), *nodes))


def test_padding_of_an_empty_image_stays() -> None:
    nodes = op("p", "pad", INPUT, padding=(0, 0, 2, 2)), conv("c", "p", 3, 2)
    assert_untouched(fold.fold_padding, build((2, 0, 5), *nodes))


def test_padding_of_a_residual_stays() -> None:
    nodes = [op("p", "pad", INPUT, padding=(1, 1, 1, 1)), conv("c", INPUT, 2, 2, padding=2)]
    nodes[1] = nodes[1].replace(inputs=(INPUT, "p"))
    assert_untouched(fold.fold_padding, build((2, 5, 5), *nodes))


def shuffle(groups: int = 2, dims: tuple[int, ...] = (0, 2, 1, 3, 4), last: tuple[int, ...] = (6, 4, 5)) -> list[Node]:
    return [
        op("r", "reshape", INPUT, shape=(groups, 6 // groups, 4, 5)),
        op("p", "permute", "r", dims=dims),
        op("s", "reshape", "p", shape=last),
    ]


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_fold_channel_shuffle(groups: int) -> None:
    graph = rewritten_by(fold.fold_channel_shuffle, build((6, 4, 5), *shuffle(groups)))
    assert summary(graph) == ["r + p + s channel_shuffle"]
    assert graph.nodes[0].attrs == {"groups": groups}


def test_what_is_no_channel_shuffle_stays() -> None:
    rule = fold.fold_channel_shuffle
    assert_untouched(rule, build((6, 4, 5), *shuffle(), outputs=("s", "p")))
    assert_untouched(rule, build((6, 4, 5), *shuffle(), op("t", "relu", "r")))
    assert_untouched(rule, build((6, 4, 5), *shuffle(last=(6, 5, 4))))
    assert_untouched(rule, build((6, 4, 5), *shuffle(dims=(0, 1, 2, 4, 3))))
    assert_untouched(rule, build((6, 2, 10), *shuffle()))


@pytest.mark.parametrize("roles", [(), ("weight",), ("bias",), ("weight", "bias")], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_fold_batch_norm_into_conv2d(roles: tuple[str, ...], bias: bool) -> None:
    first, second = conv("c", INPUT, 4, 2, groups=2).replace(), norm("n", "c", 4, eps=0.1)
    weights = {**first.weights, "weight": random(4, 1, 3, 3)}
    if not bias:
        del weights["bias"]
    kept = {r: a for r, a in second.weights.items() if r in (*roles, "running_mean", "running_var")}
    graph = build((2, 5, 5), first.replace(weights=weights), second.replace(weights=kept))
    graph = rewritten_by(fold.fold_batch_norm, graph)
    assert summary(graph) == ["c + n conv2d"]


def test_fold_batch_norm_into_linear() -> None:
    graph = build((5,), linear("l", INPUT, 4, 5), norm("n", "l", 4), norm("m", "n", 4))
    graph = rewritten_by(fold.fold_batch_norm, graph)
    assert summary(graph) == ["l + n + m linear"]
    assert graph.node("m").weights["weight"].dtype == np.float64


def test_folding_keeps_float32_and_an_activation() -> None:
    first, second = conv("c", INPUT, 4, 2), norm("n", "c", 4, activation=("relu",))
    nodes = [
        node.replace(weights={r: a.astype(np.float32) for r, a in node.weights.items()}) for node in (first, second)
    ]
    graph = build((2, 5, 5), *nodes)
    folded = optimize(graph, [fold.fold_batch_norm]).node("n")
    assert folded.attrs["activation"] == ("relu",)
    scale = second.weights["weight"] / np.sqrt(second.weights["running_var"] + 1e-5)
    exact = nodes[0].weights["weight"] * scale[:, None, None, None]
    assert folded.weights["weight"].dtype == np.float32
    np.testing.assert_allclose(folded.weights["weight"], exact, rtol=2e-7)  # rounded twice


@pytest.mark.parametrize(
    "nodes",
    [
        (linear("l", INPUT, 3, 5), norm("n", "l", 3)),  # of (3, 5), over the first 3
        (linear("l", INPUT, 4, 5), norm("n", "l", 3)),
        (op("r", "relu", INPUT), norm("n", "r", 3)),
        (linear("l", INPUT, 4, 5), op("r", "relu", "l"), norm("n", "r", 3)),
        (linear("l", INPUT, 5, 5).replace(inputs=(INPUT, INPUT)), norm("n", "l", 3)),
        (linear("l", INPUT, 5, 5).replace(attrs={"activation": ("relu",)}), norm("n", "l", 3)),
    ],
)
def test_batch_norm_that_does_not_fold(nodes: tuple[Node, ...]) -> None:
    assert_untouched(fold.fold_batch_norm, build((3, 5), *nodes))


def test_batch_norm_is_not_folded_through_what_is_fused() -> None:
    n = norm("n", "c", 2)
    for attrs in ({"activation": ("relu",)}, {"pool": ("max", 2, 2, 2, 2)}):
        fused = conv("c", INPUT, 2, 2, **attrs)
        assert_untouched(fold.fold_batch_norm, build((2, 6, 6), fused, n))
    residual = conv("c", INPUT, 2, 2).replace(inputs=(INPUT, INPUT))
    assert_untouched(fold.fold_batch_norm, build((2, 6, 6), residual, n))


def scaled(source: str, *shape: int) -> Node:
    return Node("m", "mul", (source,), weights={"other": random(*shape)})


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1,), (1, 1), ()], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_fold_factor_into_linear(shape: tuple[int, ...], bias: bool) -> None:
    first = linear("l", INPUT, 4, 5)
    if not bias:
        first = first.replace(weights={"weight": first.weights["weight"]})
    graph = rewritten_by(fold.fold_factor, build((3, 5), first, scaled("l", *shape)))
    assert summary(graph) == ["l + m linear"]


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 1, 1), (1,)], ids=str)
def test_fold_factor_into_conv2d(shape: tuple[int, ...]) -> None:
    graph = rewritten_by(fold.fold_factor, build((2, 5, 4), conv("c", INPUT, 4, 2), scaled("c", *shape)))
    assert summary(graph) == ["c + m conv2d"]


def test_a_factor_and_a_residual_become_part_of_a_layer() -> None:
    nodes = linear("l", INPUT, 5, 5), scaled("l", 5), op("a", "add", "m", INPUT)
    graph = rewritten_by((fold.fold_factor, fuse.fuse_residual), build((3, 5), *nodes))
    assert summary(graph) == ["l + m + a linear"]


@pytest.mark.parametrize(
    ("shape", "nodes"),
    [
        ((4, 5), (linear("l", INPUT, 4, 5), scaled("l", 4, 1))),  # along the rows
        ((4, 5), (linear("l", INPUT, 4, 5), scaled("l", 4, 4))),
        ((4, 5), (linear("l", INPUT, 4, 5).replace(attrs={"activation": ("relu",)}), scaled("l", 4))),
        ((4, 5), (linear("l", INPUT, 5, 5).replace(inputs=(INPUT, INPUT)), scaled("l", 5))),
        ((4, 5), (op("l", "relu", INPUT), scaled("l", 5))),
        ((2, 5, 4), (conv("l", INPUT, 4, 2), scaled("l", 4))),  # along the width
        ((2, 5, 4), (conv("l", INPUT, 4, 2), op("m", "mul", "l", "l"))),
        (
            (4, 5),
            (linear("l", INPUT, 4, 5), Node("m", "mul", ("l",), weights={"other": np.array([1, 2, np.inf, 1])})),
        ),
    ],
)
def test_factors_that_do_not_fold(shape: tuple[int, ...], nodes: tuple[Node, ...]) -> None:
    assert_untouched(fold.fold_factor, build(shape, *nodes))


@pytest.mark.parametrize(("variance", "eps"), [(0.0, 0.0), (-1.0, 0.0), (1e-310, 0.0), (1, np.nan)])
def test_a_fold_that_is_not_finite_is_not_done(variance: float, eps: float) -> None:
    node = norm("n", "c", 2, eps=eps)
    weights = {**node.weights, "running_var": np.array([1.0, variance])}
    weights["weight"] = np.array([1.0, 1e300])
    graph = build((2, 5, 5), conv("c", INPUT, 2, 2), node.replace(weights=weights))
    assert_untouched(fold.fold_batch_norm, graph)


# --- fusing -------------------------------------------------------------------------------------

ACTIVATIONS = [
    op("a", "relu", "x"),
    op("a", "leaky_relu", "x", negative_slope=0.2),
    op("a", "hardtanh", "x", max_val=0.5, min_val=-0.25),
    op("a", "sigmoid", "x"),
    op("a", "tanh", "x"),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize(
    "producer",
    [
        conv("x", INPUT, 3, 2),
        conv("x", INPUT, 2, 2).replace(inputs=(INPUT, INPUT)),
        linear("x", INPUT, 3, 6),
        norm("x", INPUT, 2),
        op("x", "add", INPUT, INPUT),
    ],
    ids=lambda node: f"{node.op}{len(node.inputs)}",
)
def test_fuse_activation(producer: Node, activation: Node) -> None:
    graph = rewritten_by(fuse.fuse_activation, build((2, 6, 6), producer, activation))
    assert summary(graph) == [f"x + a {producer.op}"]
    assert graph.nodes[0].attrs["activation"][0] == activation.op
    assert graph.outputs == ("a",)


def test_only_one_activation_is_fused() -> None:
    nodes = conv("c", INPUT, 2, 2), op("a", "relu", "c"), op("b", "tanh", "a")
    graph = rewritten_by(fuse.fuse_activation, build((2, 6, 6), *nodes))
    assert summary(graph) == ["c + a conv2d", "b tanh"]


def test_an_activation_after_a_fused_pool_stays() -> None:
    nodes = conv("c", INPUT, 2, 2, pool=("avg", 2, 2, 2, 2)), op("a", "relu", "c")
    assert_untouched(fuse.fuse_activation, build((2, 6, 6), *nodes))


@pytest.mark.parametrize("activation", ACTIVATIONS[:3], ids=str)
@pytest.mark.parametrize(
    "pooling",
    [pool("p", "c"), pool("p", "c", 3, stride=2, padding=1), pool("p", "c", 3, ceil_mode=True)],
    ids=str,
)
def test_hoist_activation(pooling: Node, activation: Node) -> None:
    nodes = conv("c", INPUT, 3, 2), pooling, activation.replace(inputs=("p",)), op("t", "tanh", "a")
    for last in (4, 3):  # read by another node, and an output
        graph = rewritten_by(fuse.hoist_activation, build((2, 8, 8), *nodes[:last]))
        assert summary(graph)[:3] == ["c conv2d", f"a {activation.op}", "p max_pool2d"]
        assert graph.nodes[1].inputs == ("c",)
        assert graph.nodes[2].inputs == ("a",)
        assert_same_outputs(build((2, 8, 8), *nodes[:last]), graph, special=np.nan)
    assert graph.outputs == ("p",)


@pytest.mark.parametrize(
    ("pooling", "activation"),
    [
        (pool("p", "c", kind="avg"), op("a", "relu", "p")),
        (pool("p", "c"), op("a", "leaky_relu", "p", negative_slope=-0.1)),
        (pool("p", "c"), op("a", "leaky_relu", "p", negative_slope=0.0)),  # -inf * 0
        (pool("p", "c"), op("a", "leaky_relu", "p", negative_slope=np.nan)),
        (pool("p", "c"), op("a", "sigmoid", "p")),  # dear, on four times the elements
        (pool("p", "c", dilation=2), op("a", "relu", "p")),
    ],
    ids=str,
)
def test_activations_that_are_not_hoisted(pooling: Node, activation: Node) -> None:
    graph = build((2, 8, 8), conv("c", INPUT, 3, 2), pooling, activation)
    assert_untouched(fuse.hoist_activation, graph)


def test_nothing_is_hoisted_to_where_it_cannot_fuse() -> None:
    nodes = op("c", "sigmoid", INPUT), pool("p", "c"), op("a", "relu", "p")
    assert_untouched(fuse.hoist_activation, build((2, 8, 8), *nodes))
    nodes = conv("c", INPUT, 2, 2), pool("p", "c"), op("a", "relu", "p")
    for outputs in (("a", "c"), ("a", "p")):
        assert_untouched(fuse.hoist_activation, build((2, 8, 8), *nodes, outputs=outputs))


@pytest.mark.parametrize("order", [("c", "d"), ("d", "c")])
def test_fuse_residual_into_the_later_operand(order: tuple[str, str]) -> None:
    nodes = conv("c", INPUT, 3, 2), conv("d", INPUT, 3, 2, kernel=1), op("s", "add", *order)
    graph = rewritten_by(fuse.fuse_residual, build((2, 6, 6), *nodes))
    assert summary(graph) == ["c conv2d", "d + s conv2d"]
    assert graph.nodes[1].inputs == (INPUT, "c")


def test_fuse_residual_moves_behind_the_other_operand() -> None:
    nodes = conv("c", INPUT, 2, 2), op("t", "tanh", INPUT), op("s", "add", "c", "t")
    graph = rewritten_by(fuse.fuse_residual, build((2, 6, 6), *nodes))
    assert summary(graph) == ["t tanh", "c + s conv2d"]


def test_fuse_residual_into_linear_with_an_activation() -> None:
    add = op("s", "add", INPUT, "l", activation=("relu",))
    graph = rewritten_by(fuse.fuse_residual, build((5,), linear("l", INPUT, 5, 5), add))
    assert summary(graph) == ["l + s linear"]
    assert graph.nodes[0].attrs["activation"] == ("relu",)


@pytest.mark.parametrize("attrs", [{"activation": ("relu",)}, {"pool": ("max", 1, 1, 1, 1)}], ids=str)
def test_residual_after_an_epilogue_stays(attrs: dict[str, Any]) -> None:
    nodes = conv("c", INPUT, 2, 2, **attrs), op("s", "add", INPUT, "c")
    assert_untouched(fuse.fuse_residual, build((2, 6, 6), *nodes))


def test_only_one_residual_is_fused() -> None:
    nodes = conv("c", INPUT, 2, 2), op("s", "add", INPUT, "c"), op("z", "add", "s", INPUT)
    graph = rewritten_by(fuse.fuse_residual, build((2, 6, 6), *nodes))
    assert summary(graph) == ["c + s conv2d", "z add"]


def test_an_operand_added_to_itself_stays() -> None:
    nodes = conv("c", INPUT, 2, 2), op("s", "add", "c", "c")
    assert_untouched(fuse.fuse_residual, build((2, 6, 6), *nodes))


@pytest.mark.parametrize(
    ("pooling", "fused"),
    [
        (pool("p", "c"), ("max", 2, 2, 2, 2)),
        (pool("p", "c", (1, 3), stride=(2, 4)), ("max", 1, 3, 2, 4)),
        (pool("p", "c", 2, ceil_mode=True), ("max", 2, 2, 2, 2)),  # 6 divides
        (pool("p", "c", 3, kind="avg", count_include_pad=False), ("avg", 3, 3, 3, 3)),
        (pool("p", "c", 2, kind="avg", divisor_override=4), ("avg", 2, 2, 2, 2)),
        (pool("p", "c", 4), ("max", 4, 4, 4, 4)),  # drops the last two rows
    ],
    ids=str,
)
def test_fuse_pool(pooling: Node, fused: tuple[Any, ...]) -> None:
    node = conv("c", INPUT, 3, 2, activation=("tanh",))
    graph = rewritten_by(fuse.fuse_pool, build((2, 6, 6), node, pooling))
    assert summary(graph) == ["c + p conv2d"]
    assert graph.nodes[0].attrs["pool"] == fused
    assert graph.nodes[0].attrs["activation"] == ("tanh",)


@pytest.mark.parametrize(
    "pooling",
    [
        pool("p", "c", 3, stride=2),
        pool("p", "c", (2, 3), stride=2),
        pool("p", "c", 2, padding=1),
        pool("p", "c", 2, stride=3, dilation=2),
        pool("p", "c", 4, ceil_mode=True),
        pool("p", "c", 2, kind="avg", divisor_override=3),
        op("p", "adaptive_max_pool2d", "c", output_size=3),
    ],
    ids=str,
)
def test_pools_that_are_not_fused(pooling: Node) -> None:
    assert_untouched(fuse.fuse_pool, build((2, 6, 6), conv("c", INPUT, 3, 2), pooling))


def test_no_pool_is_fused_to_a_pool_or_a_residual() -> None:
    residual = conv("c", INPUT, 2, 2).replace(inputs=(INPUT, INPUT))
    assert_untouched(fuse.fuse_pool, build((2, 8, 8), residual, pool("p", "c")))
    nodes = conv("c", INPUT, 2, 2), pool("p", "c"), pool("q", "p")
    graph = rewritten_by(fuse.fuse_pool, build((2, 8, 8), *nodes))
    assert summary(graph) == ["c + p conv2d", "q max_pool2d"]


SHARED = [
    (fold.fold_padding, op("x", "pad", INPUT, padding=(1, 1)), conv("y", "x", 3, 2)),
    (fold.fold_batch_norm, conv("x", INPUT, 3, 2), norm("y", "x", 3)),
    (fuse.fuse_residual, conv("x", INPUT, 2, 2), op("y", "add", "x", INPUT)),
    (fuse.fuse_activation, conv("x", INPUT, 3, 2), op("y", "relu", "x")),
    (fuse.fuse_pool, conv("x", INPUT, 3, 2), pool("y", "x")),
]


@pytest.mark.parametrize(("rule", "producer", "consumer"), SHARED)
def test_a_producer_that_others_read_is_never_touched(rule: Rule, producer: Node, consumer: Node) -> None:
    alone = build((2, 6, 6), producer, consumer)
    assert len(rewritten_by(rule, alone).nodes) == 1
    assert_untouched(rule, alone.replace(outputs=("y", "x")))
    read_twice = (producer, consumer, op("z", "tanh", "x"))
    assert_untouched(rule, build((2, 6, 6), *read_twice, outputs=("y", "z")))
