"""Constructing a Graph normalises what is right and names what is wrong."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fastconv.checks import MAX_ELEMENTS
from fastconv.errors import (
    ArgumentError,
    DTypeError,
    FastconvError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from fastconv.graph import INPUT, Graph, Node, find_input_shape
from fastconv.ops import OPS, REQUIRED


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def conv(name: str, source: str, *weight: int, bias: bool = True, **attrs: Any) -> Node:
    weights = {"weight": zeros(*weight)} | ({"bias": zeros(weight[0])} if bias else {})
    return Node(name, "conv2d", (source,), attrs, weights)


def linear(name: str, source: str, *weight: int) -> Node:
    weights = {"weight": zeros(*weight), "bias": zeros(weight[0])}
    return Node(name, "linear", (source,), {}, weights)


def lenet_nodes() -> list[Node]:
    return [
        conv("conv1", INPUT, 6, 1, 5, 5),
        Node("relu1", "relu", ("conv1",)),
        Node("pool1", "max_pool2d", ("relu1",), {"kernel_size": 2}),
        conv("conv2", "pool1", 16, 6, 5, 5),
        Node("relu2", "relu", ("conv2",)),
        Node("pool2", "max_pool2d", ("relu2",), {"kernel_size": [2, 2]}),
        Node("flatten", "flatten", ("pool2",)),
        linear("fc1", "flatten", 120, 256),
        Node("relu3", "relu", ("fc1",)),
        linear("fc2", "relu3", 10, 120),
    ]


def lenet(*input_shape: int, **fields: Any) -> Graph:
    return Graph(input_shape or (1, 28, 28), tuple(lenet_nodes()), ("fc2",), **fields)


def one(op: str, shape: tuple[int, ...], attrs: Any = None, weights: Any = None) -> Graph:
    """Return a graph of one node that bears its operator's name."""
    return Graph(shape, (Node(op, op, (INPUT,), attrs or {}, weights or {}),), (op,))


# --- what a graph knows -------------------------------------------------------------------------


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
    graph = one("conv2d", (1, 8, 9), attrs, {"weight": zeros(2, 1, 3, 3)})
    assert graph.nodes[0].attrs[next(iter(attrs))] == stored


def test_a_fused_pool_shrinks_the_output() -> None:
    graph = one("conv2d", (1, 8, 9), {"pool": ("avg", 2, 3, 3, 4)}, {"weight": zeros(2, 1, 3, 3)})
    assert graph.shapes["conv2d"] == (2, 2, 2)  # of the convolution's 6x7
    assert graph.macs(graph.nodes[0]) == 2 * 6 * 7 * 9  # all of them are computed


def test_a_residual_has_the_outputs_shape() -> None:
    first = conv("a", INPUT, 4, 4, 3, 3, padding=1)
    fused = conv("b", "a", 4, 4, 3, 3, padding="same").replace(inputs=("a", INPUT))
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
    weight, norm = zeros(4, 4), {role: zeros(4) for role in ("running_mean", "running_var")}
    nodes = (
        Node("a", "linear", (INPUT,), {}, {"weight": weight}),
        Node("norm", "batch_norm", ("a",), {}, {**norm, "weight": zeros(4)}),
        Node("b", "linear", ("norm",), {}, {"weight": weight}),
    )
    assert Graph((4,), nodes, ("b",)).parameters == 16 + 4


def test_macs_of_grouped_convolution() -> None:
    graph = one("conv2d", (4, 5, 5), {"groups": 2}, {"weight": zeros(6, 2, 3, 3)})
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
    graph = lenet(mean=(0.5,), labels=list("0123456789"))
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
    weight = zeros(2, 3, dtype=np.float64)
    assert one("linear", (3,), {}, {"weight": weight}).dtype == np.float64
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
    result = subprocess.run(
        [sys.executable, "-c", code, folder], check=True, capture_output=True, text=True
    )
    loaded = set(result.stdout.split())
    assert loaded - set(sys.stdlib_module_names) == {"fastconv"}


# --- what a graph refuses -----------------------------------------------------------------------


def refused(
    error: type[FastconvError], message: str, *nodes: Node, shape: Any = (1, 28, 28), **fields: Any
) -> None:
    """Assert that a graph of these nodes, the last one its output, is refused with the message."""
    fields = {"outputs": (nodes[-1].name,)} | fields
    with pytest.raises(error, match=message) as caught:
        Graph(shape, nodes, **fields)
    assert type(caught.value) is error
    assert isinstance(caught.value, FastconvError)


def test_the_example_of_a_good_message() -> None:
    with pytest.raises(ShapeError) as caught:
        lenet(1, 32, 32)
    assert str(caught.value) == (
        "fc1: expects 256 features, the flattened input has 400; pass input_shape=(1, 28, 28)"
    )


def test_features_without_a_fitting_input() -> None:
    nodes = (*lenet_nodes()[:7], linear("fc1", "flatten", 120, 257))
    refused(ShapeError, "fc1: expects 257 features, the flattened input has 256; check", *nodes)
    refused(ShapeError, "b: expects 4 features, the input has 3; check",
            linear("a", INPUT, 3, 9), linear("b", "a", 2, 4), shape=(9,))  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", None, 3, INPUT, "relu1"], ids=["empty", "none", "int", "input", "taken"]
)
def test_names(name: Any) -> None:
    refused(ModelFormatError, "name", Node("relu1", "relu"), Node(name, "relu"), outputs=("relu1",))


@pytest.mark.parametrize("op", ["conv3d", "", None, ["relu"]], ids=str)
def test_unknown_operators(op: Any) -> None:
    refused(UnsupportedOperatorError, "x: operator .* is not supported; .*conv2d", Node("x", op))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("y",), "x: reads 'y', neither the graph's input nor an earlier node"),
        (("x",), "x: reads 'x'"),
        ((), "x: relu needs 1 inputs, got 0"),
        ((INPUT, INPUT), "x: relu needs 1 inputs, got 2"),
        ("input", "x: inputs must be a tuple of names"),
        (5, "x: inputs must be a tuple of names"),
        ((["input"],), "x: inputs must be a tuple of names"),
    ],
)
def test_inputs(inputs: Any, message: str) -> None:
    refused(ModelFormatError, message, Node("x", "relu", inputs))


def test_arity_of_the_others() -> None:
    refused(ModelFormatError, "x: add needs 2 inputs, got 1", Node("x", "add"))
    refused(ModelFormatError, "x: cat needs 1 or more inputs, got 0", Node("x", "cat", ()))
    three = conv("x", INPUT, 1, 1, 3, 3).replace(inputs=(INPUT,) * 3)
    refused(ModelFormatError, "x: conv2d needs 1 or 2 inputs, got 3", three)


def test_nodes_out_of_order() -> None:
    refused(ModelFormatError, "a: reads 'b'", Node("a", "relu", ("b",)), Node("b", "relu"))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ((), "no outputs"),
        ("relu", "outputs must be a tuple of names"),
        (None, "outputs must be a tuple of names"),
        ((1,), "outputs must be a tuple of names"),
        (("y",), "output 'y' is not a node"),
        ((INPUT,), "return it through an identity node"),
    ],
)
def test_outputs(outputs: Any, message: str) -> None:
    refused(ModelFormatError, message, Node("relu", "relu"), outputs=outputs)


WEIGHT = {"weight": zeros(6, 1, 5, 5)}


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, ModelFormatError, "needs the weight 'weight', which is missing"),
        ({**WEIGHT, "w": zeros(3)}, ModelFormatError, "no weight 'w'; it takes weight, bias"),
        ({"weight": [[1.0]]}, ModelFormatError, "must be a NumPy array, got list"),
        ({"weight": zeros(6, 25)}, ShapeError, r"must have 4 axes, got shape \(6, 25\)"),
        ({**WEIGHT, "bias": zeros(5)}, ShapeError, "bias must have 6 elements, got 5"),
        ({**WEIGHT, "bias": zeros(6, 1)}, ShapeError, "bias must have 1 axes"),
        ({"weight": zeros(6, 3, 5, 5)}, ShapeError, "needs 3 input channels, .* has 1"),
        (None, ModelFormatError, "weights must map roles to arrays"),
    ],
)
def test_weights(weights: Any, error: type[FastconvError], message: str) -> None:
    refused(error, f"x: .*{message}", Node("x", "conv2d", (INPUT,), {}, weights))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, object, complex, ">f4"])
def test_dtypes(dtype: Any) -> None:
    node = Node("x", "linear", (INPUT,), {}, {"weight": zeros(2, 3).astype(dtype)})
    refused(DTypeError, r"x: weight is .* needs float32 or float64; .*astype", node, shape=(3,))


def test_dtypes_do_not_mix() -> None:
    double = Node("b", "linear", ("a",), {}, {"weight": zeros(2, 3, dtype=np.float64)})
    message = r"b: weight is float64, the rest of the graph is float32; .*astype\(numpy.float32"
    refused(DTypeError, message, linear("a", INPUT, 3, 3), double, shape=(3,))
    refused(DTypeError, "a: weight is float32, the", linear("a", INPUT, 3, 3), shape=(3,),
            dtype=np.float64)  # fmt: skip
    refused(DTypeError, "dtype is .*int64", Node("a", "relu"), dtype=np.dtype(np.int64))
    refused(DTypeError, "dtype is 'no such type'", Node("a", "relu"), dtype="no such type")


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("max_pool2d", {}, "needs the attribute 'kernel_size', which is missing"),
        ("max_pool2d", {"kernel_size": 2, "size": 1}, "no attribute 'size'; it takes kernel_size"),
        ("relu", {"inplace": True}, "no attribute 'inplace'; it takes none"),
        ("relu", {3: True}, "no attribute 3"),
        ("relu", [("a", 1)], "attributes must be a mapping"),
        ("max_pool2d", {"kernel_size": 2.5}, r"kernel_size must be an int, got 2.5 \(float\)"),
        ("softmax", {"dim": 0}, "dim=0 is the batch axis"),
        ("dropout", {"p": 2}, r"p must lie in 0\.\.1, got 2"),
        ("dropout", {"p": float("nan")}, "p must lie in"),
        ("pad", {"padding": (1,) * 8}, "padding has 4 pairs, the input .* has 3 axes"),
    ],
)
def test_attributes(op: str, attrs: Any, message: str) -> None:
    error = ModelFormatError if isinstance(attrs, list) else ArgumentError
    refused(error, f"x: .*{message}", Node("x", op, (INPUT,), attrs))


@pytest.mark.parametrize(
    "attrs",
    [
        {"activation": "relu"},
        {"activation": ()},
        {"activation": ("softmax",)},
        {"activation": (["relu"],)},
        {"activation": ("relu", 1.0)},
        {"activation": ("leaky_relu",)},
        {"activation": ("leaky_relu", "x")},
        {"pool": "max"},
        {"pool": ("min", 2, 2, 2, 2)},
        {"pool": ("max", 2, 2)},
        {"pool": ("max", 3, 2, 2, 2)},
        {"pool": ("max", 2, 3, 2, 2)},
        {"pool": ("max", 0, 1, 1, 1)},
        {"pool": ("max", 2, 2, 2.0, 2)},
    ],
    ids=str,
)
def test_fused_attributes_out_of_range(attrs: dict[str, Any]) -> None:
    refused(ArgumentError, f"x: {next(iter(attrs))}", conv("x", INPUT, 6, 1, 5, 5, **attrs))


def test_hardtanh_needs_an_interval() -> None:
    message = "x: min_val must not be greater than max_val, got 1.0 and 0.0"
    fused = conv("x", INPUT, 6, 1, 5, 5, activation=("hardtanh", 1.0, 0.0))
    refused(ArgumentError, message, fused)
    refused(ArgumentError, message, Node("x", "hardtanh", attrs={"min_val": 1, "max_val": 0}))


def test_a_fused_pool_larger_than_its_input() -> None:
    node = conv("x", INPUT, 6, 1, 5, 5, pool=("max", 25, 25, 25, 25))
    refused(ShapeError, "x: the fused pool's window 25x25 is larger than its input 24x24", node)


@pytest.mark.parametrize("shape", [(1, -1, 2), (1, 2.0), "12", None, 7, (True, 2), (1,) * 32])
def test_input_shapes(shape: Any) -> None:
    with pytest.raises((ShapeError, ArgumentError), match=r"input_shape|axes"):
        Graph(shape, (Node("relu", "relu"),), ("relu",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["a"] * 9}, "10 classes, labels name 9"),
        ({"labels": range(10)}, "labels must be a list of strings"),
        ({"labels": list(range(10))}, r"labels must be strings, got 0; pass \[str"),
        ({"labels": "0123456789"}, "labels must be a list"),
        ({"mean": (0.5, 0.5)}, "mean must have one number for each of 1 channels, got 2"),
        ({"mean": 0.5}, "mean must be a list of numbers"),
        ({"mean": ("x",)}, "mean must be a number"),
        ({"mean": (float("nan"),)}, "mean must be finite"),
        ({"std": (0.0,)}, "std must be finite and positive"),
        ({"std": (float("inf"),)}, "std must be finite and positive"),
        ({"std": "1"}, "std must be a list"),
    ],
    ids=str,
)
def test_labels_and_preprocessing(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lenet(**fields)


def test_labels_of_a_segmentation_name_its_channels() -> None:
    node = conv("x", INPUT, 2, 1, 1, 1)
    assert Graph((1, 4, 4), (node,), ("x",), labels=["sky", "sea"]).labels == ("sky", "sea")  # type: ignore[arg-type]


# --- sizes that would overflow ------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph",
    [
        lambda: one("relu", (2**21, 2**20)),
        lambda: one("relu", (0, 2**30, 2**30)),  # strides overflow though nothing is stored
        lambda: one("reshape", (0,), {"shape": (0, 2**30, 2**30)}),
        lambda: one("pad", (1, 1, 1), {"padding": [2**30] * 6}),
        lambda: one("adaptive_avg_pool2d", (1, 1, 1), {"output_size": 2**30}),
        lambda: one("conv2d", (1, 1, 1), {"padding": 2**30}, {"weight": zeros(1, 1, 1, 1)}),
        lambda: one("reshape", (1,), {"shape": [1] * 40}),
    ],
)
def test_huge_tensors_are_refused(graph: Any) -> None:
    with pytest.raises(ShapeError, match="supported"):
        graph()


def test_the_largest_tensor_passes() -> None:
    assert one("relu", (2**20, 2**20)).shapes["relu"] == (2**20, 2**20)
    assert MAX_ELEMENTS == 2**40


@pytest.mark.parametrize("value", [2**31, -(2**31), 2**63, 2**64, 10**9999], ids=range(5))
def test_huge_attributes_are_refused(value: int) -> None:
    with pytest.raises(ArgumentError, match=r"kernel_size must lie within \+-2147483647, got .+"):
        one("max_pool2d", (1, 4, 4), {"kernel_size": value})
    with pytest.raises(ArgumentError, match="input_shape must lie within"):
        one("relu", (value,))
    with pytest.raises(ArgumentError, match="divisor_override must"):
        one("avg_pool2d", (1, 4, 4), {"kernel_size": 2, "divisor_override": value * 2**40})


def test_messages_about_huge_values_stay_short() -> None:
    with pytest.raises(ArgumentError) as caught:
        one("pad", (1, 4, 4), {"padding": "x" * 10_000})
    assert len(str(caught.value)) < 300


# --- looking for the input size -----------------------------------------------------------------


def test_find_input_shape() -> None:
    assert find_input_shape(lenet_nodes(), 1) == (1, 28, 28)
    assert find_input_shape(lenet_nodes(), 3) is None
    assert find_input_shape([linear("fc", INPUT, 2, 5)], 1) == (1, 5, 5)  # acts on the last axis


def test_find_input_shape_is_bounded() -> None:
    chain = [Node(f"r{i}", "relu", (f"r{i - 1}" if i else INPUT,)) for i in range(20_000)]
    nodes = [*chain, Node("flatten", "flatten", ("r19999",)), linear("fc", "flatten", 2, 7)]
    assert find_input_shape(nodes, 1) is None
