"""`Network`, and the page on training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_readme import snippets_of

import fastconv
from fastconv.errors import ArgumentError, ShapeError
from fastconv.train import Network


def lenet(seed: int = 0) -> Network:
    net = Network((1, 28, 28), seed)
    net.conv2d(6, 5, name="conv1")
    net.relu()
    net.max_pool2d(2)
    net.conv2d(16, (5, 5), name="conv2")
    net.relu()
    net.max_pool2d(2)
    net.flatten()
    net.linear(120, name="fc1")
    return net


def test_weights_are_drawn_as_pytorch_draws_them() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = {
        "conv1": torch.nn.Conv2d(1, 6, 5),
        "conv2": torch.nn.Conv2d(6, 16, 5),
        "fc1": torch.nn.Linear(256, 120),
    }
    graph = lenet().graph()
    for name, layer in layers.items():
        for role, bound in (("weight", layer.weight[0].numel() ** -0.5), ("bias", layer.weight[0].numel() ** -0.5)):
            ours, theirs = graph.node(name).weights[role], getattr(layer, role).detach().numpy()
            assert ours.shape == theirs.shape
            assert ours.dtype == np.float32
            assert max(np.abs(ours).max(), np.abs(theirs).max()) <= bound
        # A uniform distribution's deviation is bound / sqrt(3), and that of n draws' is within 5 / sqrt(n) of it.
        ours = graph.node(name).weights["weight"]
        assert ours.std() == pytest.approx(bound / 3**0.5, rel=5 / ours.size**0.5)
        assert abs(ours.mean()) < 4 * bound / 3**0.5 / ours.size**0.5


def test_a_seed_gives_the_same_weights() -> None:
    first, again, other = (lenet(seed).graph().node("fc1").weights["weight"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_residual_network_in_lines() -> None:
    net = Network((3, 8, 8))
    start = net.conv2d(4, 3, padding=1, bias=False)
    net.batch_norm()
    net.relu()
    net.conv2d(4, 3, padding="same", groups=2)
    net.add("add", net.last, start)
    net.add("adaptive_avg_pool2d", output_size=1)
    net.dropout(0.2)
    net.flatten()
    net.linear(5, bias=False)
    graph = net.graph(labels=list("abcde"))
    assert [node.op for node in graph.nodes] == [
        *("conv2d", "batch_norm", "relu", "conv2d", "add", "adaptive_avg_pool2d", "dropout", "flatten", "linear")
    ]
    assert [list(node.weights) for node in graph.nodes if node.op == "linear"] == [["weight"]]
    norm = {role: float(array[0]) for role, array in graph.node("batch_norm").weights.items()}
    assert norm == {"running_mean": 0, "running_var": 1, "weight": 1, "bias": 0}
    assert fastconv.Model(graph)(np.ones((2, 3, 8, 8), np.float32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("add", "error", "match"),
    [
        (lambda net: net.conv2d(4, 3, groups=2), ShapeError, "C a multiple of groups=2, input is \\(3, 8, 8\\)"),
        (lambda net: net.conv2d(0, 3), ArgumentError, "channels must be"),
        (lambda net: net.conv2d(4, 0), ArgumentError, "kernel_size must be"),
        (lambda net: net.linear(-1), ArgumentError, "features must be"),
    ],
)
def test_layers_that_do_not_fit(add: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        add(Network((3, 8, 8)))


def test_the_page_on_training_learns() -> None:
    names: dict[str, Any] = {}
    (snippet,) = snippets_of("docs/training.md")
    exec(snippet, names)
    assert names["history"][-1].loss < names["history"][0].loss / 2
    assert names["accuracy"] > 0.9
    assert isinstance(names["model"], fastconv.Model)
