"""What a Graph refuses: the error's class, a message with the node, the fault and the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import conv, lenet, lenet_nodes, linear, one, random

from fastconv.errors import (
    ArgumentError,
    DTypeError,
    FastconvError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.checks import MAX_ELEMENTS


def refused(error: type[FastconvError], message: str, *nodes: Node, shape: Any = (1, 28, 28), **fields: Any) -> None:
    """Assert that a graph of these nodes, the last one its output, is refused with the message."""
    fields = {"outputs": (nodes[-1].name,)} | fields
    with pytest.raises(error, match=message) as caught:
        Graph(shape, nodes, **fields)
    assert type(caught.value) is error
    assert isinstance(caught.value, FastconvError)


def test_the_example_of_a_good_message() -> None:
    with pytest.raises(ShapeError) as caught:
        lenet(1, 32, 32)
    assert str(caught.value) == ("fc1: expects 256 features, the flattened input has 400; pass input_shape=(1, 28, 28)")


def test_features_without_a_fitting_input() -> None:
    nodes = (*lenet_nodes()[:7], linear("fc1", "flatten", 120, 257))
    refused(ShapeError, "fc1: expects 257 features, the flattened input has 256; check", *nodes)
    nodes = (linear("a", INPUT, 3, 9), linear("b", "a", 2, 4))
    refused(ShapeError, "b: expects 4 features, the input has 3; check", *nodes, shape=(9,))


@pytest.mark.parametrize("name", ["", None, 3, INPUT, "relu1"], ids=["empty", "none", "int", "input", "taken"])
def test_names(name: Any) -> None:
    refused(ModelFormatError, "name", Node("relu1", "relu"), Node(name, "relu"), outputs=("relu1",))


@pytest.mark.parametrize("op", ["conv3d", "", None, ["relu"]], ids=str)
def test_unknown_operators(op: Any) -> None:
    refused(UnsupportedOperatorError, "x: operator .* is not supported; .*conv2d", Node("x", op))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (("y",), "x: reads 'y', neither an input of the graph nor an earlier node"),
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
    refused(ModelFormatError, "x: add needs 1 or 2 inputs, got 0", Node("x", "add", ()))
    refused(ModelFormatError, "x: needs two inputs, or one and the constant 'other'", Node("x", "add"))
    both = Node("x", "mul", (INPUT, INPUT), {}, {"other": np.ones(1, np.float32)})
    refused(ModelFormatError, "x: needs two inputs, or one and the constant 'other'", both)
    refused(ModelFormatError, "x: cat needs 1 or more inputs, got 0", Node("x", "cat", ()))
    three = conv("x", INPUT, 1, 1).replace(inputs=(INPUT,) * 3)
    refused(ModelFormatError, "x: conv2d needs 1 or 2 inputs, got 3", three)


def test_what_does_not_broadcast() -> None:
    flat = Node("flat", "flatten")
    refused(
        ShapeError, "x: needs tensors of equally many axes, got .* reshape one", flat, Node("x", "mul", (INPUT, "flat"))
    )
    for shape in ((7,), (2, 1, 1, 1)):
        node = Node("x", "sub", (INPUT,), {}, {"other": np.ones(shape, np.float32)})
        refused(ShapeError, "x: .*(do not broadcast|equally many axes)", node)


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


WEIGHT = {"weight": random(6, 1, 5, 5)}


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ({}, ModelFormatError, "needs the weight 'weight', which is missing"),
        ({**WEIGHT, "w": random(3)}, ModelFormatError, "no weight 'w'; it takes weight, bias"),
        ({"weight": [[1.0]]}, ModelFormatError, "must be a NumPy array, got list"),
        ({"weight": random(6, 25)}, ShapeError, r"must have 4 axes, got shape \(6, 25\)"),
        ({**WEIGHT, "bias": random(5)}, ShapeError, "bias must have 6 elements, got 5"),
        ({**WEIGHT, "bias": random(6, 1)}, ShapeError, "bias must have 1 axes"),
        ({"weight": random(6, 3, 5, 5)}, ShapeError, "needs 3 input channels, .* has 1"),
        (None, ModelFormatError, "weights must map roles to arrays"),
    ],
)
def test_weights(weights: Any, error: type[FastconvError], message: str) -> None:
    refused(error, f"x: .*{message}", Node("x", "conv2d", (INPUT,), {}, weights))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.uint8, bool, object, complex, ">f4"])
def test_dtypes(dtype: Any) -> None:
    node = Node("x", "linear", (INPUT,), {}, {"weight": random(2, 3).astype(dtype)})
    refused(DTypeError, r"x: weight is .* needs float32 or float64; .*astype", node, shape=(3,))


def test_dtypes_do_not_mix() -> None:
    double, single = linear("a", INPUT, 3, 3), {"weight": random(2, 3).astype(np.float32)}
    message = r"b: weight is float32, the rest of the graph is float64; .*astype\(numpy.float64"
    refused(DTypeError, message, double, Node("b", "linear", ("a",), {}, single), shape=(3,))
    message = "a: weight is float64, the rest of the graph is float32"
    refused(DTypeError, message, double, shape=(3,), dtype=np.float32)
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
    refused(ArgumentError, f"x: {next(iter(attrs))}", conv("x", INPUT, 6, 1, 5, padding=0, **attrs))


def test_hardtanh_needs_an_interval() -> None:
    message = "x: min_val must not be greater than max_val, got 1.0 and 0.0"
    fused = conv("x", INPUT, 6, 1, 5, padding=0, activation=("hardtanh", 1.0, 0.0))
    refused(ArgumentError, message, fused)
    refused(ArgumentError, message, Node("x", "hardtanh", attrs={"min_val": 1, "max_val": 0}))


def test_a_fused_pool_larger_than_its_input() -> None:
    node = conv("x", INPUT, 6, 1, 5, padding=0, pool=("max", 25, 25, 25, 25))
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
        ({"preprocessing": {"mean": (0.5,)}}, "preprocessing must be"),
    ],
    ids=str,
)
def test_labels(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        lenet(**fields)


def test_labels_of_a_segmentation_name_its_channels() -> None:
    node = conv("x", INPUT, 2, 1)
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
        lambda: one("conv2d", (1, 1, 1), {"padding": 2**30}, {"weight": random(1, 1, 1, 1)}),
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
