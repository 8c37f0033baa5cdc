"""What a Graph knows once it is constructed: shapes, attributes in one spelling, counts."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from graphs import build, conv, lenet, lenet_nodes, linear, norm, one, random

from fastconv.errors import ArgumentError, ModelFormatError, ShapeError
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.ops import OPS
from fastconv.graph.ops.spec import REQUIRED
from fastconv.graph.preprocessing import Preprocessing
from fastconv.graph.remedy import find_input_shape


def test_shapes_of_every_node() -> None:
    assert lenet().shapes == {
        INPUT: (1, 28, 28),
        **dict.fromkeys(["conv1", "relu1"], (6, 24, 24)),
        "pool1": (6, 12, 12),
        **dict.fromkeys(["conv2", "relu2"], (16, 8, 8)),
        "pool2": (16, 4, 4),
        "flatten": (256,),
        **dict.fromkeys(["fc1", "relu3"], (120,)),
        "fc2": (10,),
    }


def test_attributes_are_complete_and_in_one_spelling() -> None:
    graph = lenet()
    assert graph.node("conv1").attrs == {
        "stride": (1, 1),
        "padding": (0, 0, 0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "activation": None,
        "pool": None,
    }
    assert graph.node("pool2").attrs == {
        "kernel_size": (2, 2),
        "stride": (2, 2),
        "padding": (0, 0),
        "dilation": (1, 1),
        "ceil_mode": False,
    }
    assert graph.node("flatten").attrs == {"start_dim": 1, "end_dim": 3}


def test_sizes_that_depend_on_the_input_are_settled() -> None:
    pool = one("adaptive_avg_pool2d", (3, 8, 9), {"output_size": (None, 2)})
    assert pool.nodes[0].attrs["output_size"] == (8, 2)
    reshaped = one("reshape", (3, 8, 9), {"shape": [6, -1]})
    assert reshaped.nodes[0].attrs["shape"] == reshaped.shapes["reshape"] == (6, 36)
    assert one("softmax", (3, 8, 9), {"dim": -3}).nodes[0].attrs["dim"] == 1


@pytest.mark.parametrize("op", OPS)
def test_defaults_are_in_their_normal_form(op: str) -> None:
    for name, (default, normalise) in OPS[op].attributes.items():
        assert default is REQUIRED or normalise(name, default) == default


@pytest.mark.parametrize(
    ("attrs", "stored"),
    [
        ({"activation": ["hardtanh", 0, 6]}, ("hardtanh", 0.0, 6.0)),
        ({"activation": ("leaky_relu", 0.1)}, ("leaky_relu", 0.1)),
        ({"activation": ["relu"]}, ("relu",)),
        ({"pool": ["max", 2, 2, 2, 3]}, ("max", 2, 2, 2, 3)),
    ],
)
def test_fused_attributes(attrs: dict[str, Any], stored: tuple[Any, ...]) -> None:
    graph = one("conv2d", (1, 8, 9), attrs, {"weight": random(2, 1, 3, 3)})
    assert graph.nodes[0].attrs[next(iter(attrs))] == stored


def test_a_fused_pool_shrinks_the_output() -> None:
    graph = one("conv2d", (1, 8, 9), {"pool": ("avg", 2, 3, 3, 4)}, {"weight": random(2, 1, 3, 3)})
    assert graph.shapes["conv2d"] == (2, 2, 2)  # of the convolution's 6x7
    assert graph.macs(graph.nodes[0]) == 2 * 6 * 7 * 9  # all of them are computed


def test_a_residual_has_the_outputs_shape() -> None:
    first = conv("a", INPUT, 4, 4)
    fused = conv("b", "a", 4, 4, padding="same").replace(inputs=("a", INPUT))
    assert Graph((4, 5, 5), (first, fused), ("b",)).shapes["b"] == (4, 5, 5)
    with pytest.raises(ShapeError, match=r"b: the residual must have the output's shape \(4, 3, 3"):
        Graph((4, 5, 5), (first, fused.replace(attrs={})), ("b",))
    pooled = fused.replace(attrs={"padding": 1, "pool": ("max", 2, 2, 2, 2)})
    with pytest.raises(ArgumentError, match="b: a fused pool and a fused residual exclude"):
        Graph((4, 5, 5), (first, pooled), ("b",))


def test_parameters_and_macs_are_those_of_lenet() -> None:
    graph = lenet()
    assert graph.parameters == 156 + 2416 + 30840 + 1210
    macs = {node.name: graph.macs(node) for node in graph.nodes if graph.macs(node)}
    assert macs == {"conv1": 86_400, "conv2": 153_600, "fc1": 30_720, "fc2": 1_200}


def test_parameters_count_a_shared_array_once_and_no_statistics() -> None:
    weight = random(4, 4)
    nodes = (
        Node("a", "linear", (INPUT,), {}, {"weight": weight}),
        norm("n", "a", 4),
        Node("b", "linear", ("n",), {}, {"weight": weight}),
    )
    assert build((4,), *nodes).parameters == 16 + 4 + 4


def test_macs_of_grouped_convolution() -> None:
    graph = one("conv2d", (4, 5, 5), {"groups": 2}, {"weight": random(6, 2, 3, 3)})
    assert graph.macs(graph.nodes[0]) == 6 * 3 * 3 * 2 * 9


def test_consumers() -> None:
    nodes = (Node("a", "relu"), Node("sum", "add", ("a", "a")), Node("b", "tanh", ("a",)))
    consumers = Graph((3,), nodes, ("sum", "b")).consumers()
    names = {name: [node.name for node in readers] for name, readers in consumers.items()}
    assert names == {INPUT: ["a"], "a": ["sum", "sum", "b"], "sum": [], "b": []}


def test_str_shows_the_layers() -> None:
    text = str(lenet())
    assert "conv2 = conv2d(pool1, weight: 16x6x5x5, bias: 16) -> 16x8x8" in text
    assert "pool1 = max_pool2d(relu1, kernel_size=(2, 2)" in text
    assert "34,622 parameters" in text
    assert repr(lenet()) == "<Graph 1x28x28, 10 nodes>"
    assert repr(Node("a", "relu")) == "<Node a = relu(input)>"


def test_a_graph_is_frozen_and_replace_checks_anew() -> None:
    graph = lenet()
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.outputs = ("fc1",)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.nodes[0].name = "x"  # type: ignore[misc]
    assert graph.replace(outputs=("pool2", "fc2", "fc2")).outputs == ("pool2", "fc2", "fc2")
    with pytest.raises(ModelFormatError, match="output 'fc3' is not a node"):
        graph.replace(outputs=("fc3",))
    with pytest.raises(ShapeError, match="fc1: "):
        graph.replace(input_shape=(1, 32, 32))


def test_normalising_again_changes_nothing() -> None:
    graph = lenet()
    again = Graph(graph.input_shape, graph.nodes, graph.outputs)
    for node, same in zip(graph.nodes, again.nodes, strict=True):
        assert (node.name, node.op, node.inputs) == (same.name, same.op, same.inputs)
        assert node.attrs == same.attrs
        assert all(same.weights[role] is array for role, array in node.weights.items())


def test_pickle() -> None:
    graph = lenet(preprocessing=Preprocessing(mean=(0.5,)), labels=list("0123456789"))
    copy = pickle.loads(pickle.dumps(graph))
    assert str(copy) == str(graph)
    assert (copy.mean, copy.std, copy.labels) == ((0.5,), (1.0,), tuple("0123456789"))
    np.testing.assert_array_equal(copy.nodes[0].weights["weight"], graph.nodes[0].weights["weight"])


def test_what_is_given_is_never_modified() -> None:
    weight = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2).T  # (2, 3, 2, 2)
    before, attrs = weight.copy(), {"stride": [1, 1], "padding": "same"}
    weight.flags.writeable = False
    node = Node("c", "conv2d", (INPUT,), attrs, {"weight": weight})
    graph = Graph((3, 5, 5), (node,), ("c",))
    assert attrs == {"stride": [1, 1], "padding": "same"}
    assert node.weights["weight"] is weight
    stored = graph.nodes[0].weights["weight"]
    assert stored.flags.c_contiguous
    np.testing.assert_array_equal(weight, before)
    np.testing.assert_array_equal(stored, before)


def test_weights_that_a_kernel_could_not_load_are_copied() -> None:
    buffer = bytearray(4 * 6 + 1)
    unaligned = np.frombuffer(buffer, np.float32, count=6, offset=1).reshape(2, 3)
    assert not unaligned.flags.aligned
    stored = one("linear", (3,), {}, {"weight": unaligned}).nodes[0].weights["weight"]
    assert stored.flags.aligned
    np.testing.assert_array_equal(stored, unaligned)


def test_dtype_is_the_weights() -> None:
    assert one("linear", (3,), {}, {"weight": random(2, 3)}).dtype == np.float64
    single = random(2, 3).astype(np.float32)
    assert one("linear", (3,), {}, {"weight": single}).dtype == np.float32
    assert one("relu", (3,)).dtype == np.float32
    assert Graph((3,), (Node("r", "relu"),), ("r",), dtype=np.float64).dtype == np.float64  # type: ignore[arg-type]


def test_importing_is_light() -> None:
    code = (
        "import sys, importlib.util as u, types\n"
        "package = types.ModuleType('fastconv'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['fastconv'] = package\n"
        "import numpy; before = set(sys.modules)\n"
        "import fastconv.rewrite\n"
        "print(*{name.split('.')[0] for name in set(sys.modules) - before})"
    )
    folder = str(__import__("fastconv.graph").__path__[0])
    result = subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True)
    loaded = set(result.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"fastconv"}


# --- looking for the input size -----------------------------------------------------------------


def test_find_input_shape() -> None:
    assert find_input_shape(lenet_nodes(), 1) == (1, 28, 28)
    assert find_input_shape(lenet_nodes(), 3) is None
    assert find_input_shape([linear("fc", INPUT, 2, 5)], 1) == (1, 5, 5)  # acts on the last axis


def test_find_input_shape_is_bounded() -> None:
    chain = [Node(f"r{i}", "relu", (f"r{i - 1}" if i else INPUT,)) for i in range(20_000)]
    nodes = [*chain, Node("flatten", "flatten", ("r19999",)), linear("fc", "flatten", 2, 7)]
    assert find_input_shape(nodes, 1) is None
