"""Networks of several inputs, and outputs by name: Graph, Model, files and the command line."""

from __future__ import annotations

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiling import assert_equals_interpreter, batch_of, in_float64
from graphs import conv, lenet_nodes, linear, op, pool
from interpreter import run_graph

import fastconv
from fastconv import Model, ModelFormatError, ShapeError
from fastconv.compile import compile_graph
from fastconv.errors import ArgumentError, DTypeError, FastconvError, UnsupportedOperatorError
from fastconv.formats.npz import write
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.builder import GraphBuilder
from fastconv.graph.preprocessing import Preprocessing
from fastconv.outputs import Outputs
from fastconv.rewrite import optimize

IMAGE, FACTS = (3, 12, 10), (4,)
INPUTS = {"left": IMAGE, "right": IMAGE, "facts": FACTS}


def with_float32(nodes: list[Node]) -> list[Node]:
    """Return the nodes with float32 weights; arrays that they share stay shared."""
    made = {id(array): array.astype(np.float32) for node in nodes for array in node.weights.values()}
    return [node.replace(weights={role: made[id(a)] for role, a in node.weights.items()}) for node in nodes]


def siamese(**fields: Any) -> Graph:
    """Two images through the same layers, compared, beside a vector; two outputs."""
    shared = conv("left_conv", "left", 5, 3)
    nodes = [
        shared,
        op("left_relu", "relu", "left_conv"),
        Node("right_conv", "conv2d", ("right",), shared.attrs, shared.weights),
        op("right_relu", "relu", "right_conv"),
        op("difference", "sub", "left_relu", "right_relu"),
        pool("pool", "difference", 2),
        op("flatten", "flatten", "pool"),
        op("cat", "cat", "flatten", "facts"),
        linear("fc", "cat", 3, 154),
    ]
    fields = {"output_names": ("score", "map"), **fields}
    return Graph(INPUTS, with_float32(nodes), ("fc", "difference"), **fields)


def arrays(count: int | None, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    batch = () if count is None else (count,)
    return {name: rng.standard_normal((*batch, *shape)).astype(np.float32) for name, shape in INPUTS.items()}


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(siamese(), threads=2)


def same(a: Any, b: Any) -> None:
    np.testing.assert_array_equal(a, b, strict=True)


# --- Graph ----------------------------------------------------------------------------------------


def test_graph() -> None:
    graph = siamese()
    assert graph.inputs == INPUTS
    assert list(graph.inputs) == ["left", "right", "facts"]
    assert graph.shapes["right"] == IMAGE
    assert graph.output_names == ("score", "map")
    assert [node.name for node in graph.consumers()["right"]] == ["right_conv"]
    assert str(graph).startswith("left -> 3x12x10 float32\nright -> 3x12x10 float32\nfacts -> 4 float32\n")
    assert repr(graph) == "<Graph 3x12x10, 3x12x10, 4, 9 nodes>"
    with pytest.raises(ShapeError, match=r"3 inputs, 'left' \(3, 12, 10\), .* and 'facts' \(4,\), and no one input_s"):
        _ = graph.input_shape


def test_one_input_is_what_it_was() -> None:
    nodes = [op("act", "relu", INPUT)]
    for given in ((3, 4, 5), [3, 4, 5], {INPUT: (3, 4, 5)}):
        graph = Graph(given, nodes, ("act",))
        assert (graph.inputs, graph.input_shape) == ({INPUT: (3, 4, 5)}, (3, 4, 5))
        assert graph.output_names == ("act",)


def test_one_input_may_have_another_name(tmp_path: Path) -> None:
    graph = Graph({"pixels": (3, 4, 5)}, [op("act", "relu", "pixels")], ("act",))
    assert graph.input_shape == (3, 4, 5)
    assert graph.replace(input_shape=(3, 8, 8)).inputs == {"pixels": (3, 8, 8)}
    model = Model(graph)
    model.save(tmp_path / "net.npz")
    for net in (model, fastconv.load(tmp_path / "net.npz")):
        assert net.input_shapes == {"pixels": (3, 4, 5)}
        assert net(np.full((3, 4, 5), -1)).max() == 0
        with pytest.raises(ShapeError, match=r"^pixels: expects \(N, 3, 4, 5\)"):
            net(np.ones(2))
    dynamic = Model(graph.replace(dynamic=True))
    assert dynamic(np.ones((1, 3, 9, 7))).shape == (1, 3, 9, 7)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "no inputs; name at least one"),
        ({"": (3,)}, "must be a non-empty string, got ''"),
        ({3: (3,)}, "must be a non-empty string, got 3"),
        ({"left": (3,), "right": 4}, "input 'right' must be a tuple of ints, got 4"),
        ({"left": (3, -1)}, r"input 'left' must be the sizes of one image.*got \(3, -1\)"),
        ({"left": (2**31 - 1,) * 3}, "more than the"),
    ],
)
def test_inputs_that_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(FastconvError, match=message):
        Graph(inputs, [op("act", "relu", "left")], ("act",))


def test_what_a_graph_refuses() -> None:
    inputs = {"left": (3, 4, 5), "right": (3, 4, 5)}

    def build(*nodes: Node, outputs: Any = ("a",), **fields: Any) -> Graph:
        return Graph(inputs, nodes or [op("a", "add", "left", "right")], outputs, **fields)

    assert build().outputs == ("a",)
    for refused, message in (
        (lambda: build(op("a", "relu", INPUT)), "a: reads 'input', neither an input of the graph nor"),
        (lambda: build(op("left", "relu", "right"), outputs=("left",)), "left: this name is taken already"),
        (lambda: build(outputs=("right",)), "output 'right' is an input of the graph; return it through an identity"),
        (lambda: build(dynamic=True), "dynamic=True is for networks of one input; this one has 2, 'left' and 'right'"),
        (lambda: build(preprocessing=Preprocessing(mean=(1, 2, 3))), "networks of one input, this one has 2"),
        (lambda: build(output_names=("a", "b")), "must name each of 1 outputs, got 2 names"),
        (lambda: build(output_names=("",)), "none of them empty"),
        (lambda: build(outputs=("a", "a"), output_names=("x", "x")), r"must be different.*\('x', 'x'\)"),
        (lambda: build(output_names="a"), "output_names must be a tuple of names, got 'a'"),
        (lambda: siamese().replace(input_shape=(3, 8, 8)), "input_shape must give the shape of each of 3 inputs"),
        (lambda: siamese().replace(input_shape={"up": (3, 8, 8)}), "no input 'up'; there is 'left', 'right' and"),
        (lambda: siamese().replace(input_shape={"left": (3, 8, 8)}), r"difference: .*\(5, 8, 8\)"),
        (lambda: siamese().replace(input_shape={"facts": (5,)}), "fc: expects 154 features.*155; check the layers"),
    ):
        with pytest.raises(FastconvError, match=message):
            refused()


def test_output_names_by_default() -> None:
    nodes = [op("a", "relu", INPUT), op("a#2", "tanh", "a")]
    graph = Graph((3,), nodes, ("a", "a#2", "a", "a", "a#2"))
    assert graph.output_names == ("a", "a#2", "a#3", "a#4", "a#2#2")
    assert graph.replace(outputs=("a#2",)).output_names == ("a#2",)
    named = graph.replace(output_names=tuple("vwxyz"))
    assert named.replace(labels=("1", "2", "3")).output_names == tuple("vwxyz")


def test_rewriting_keeps_names() -> None:
    graph = siamese()
    rewritten = optimize(graph)
    assert len(rewritten.nodes) < len(graph.nodes)
    assert rewritten.inputs == graph.inputs
    assert rewritten.output_names == graph.output_names


def test_an_output_that_is_an_input_stays() -> None:
    inputs = {"left": (3,), "right": (3,)}
    graph = Graph(inputs, [op("l", "identity", "left"), op("r", "dropout", "right")], ("r", "l", "r"))
    left, right = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    outputs = Model(graph)(left, right)
    for got, want in zip(outputs, (right, left, right), strict=True):
        same(got, want)
    assert not any(np.shares_memory(out, given) for out in outputs for given in (left, right))


def test_builder() -> None:
    net = GraphBuilder({"left": IMAGE, "right": IMAGE})
    assert net.inputs == ("left", "right")
    assert net.last == "left"
    assert net.add("add", "left", "right", name="left") == "left#2"
    assert net.shape("right") == net.shape("left#2") == IMAGE
    graph = net.graph(output_names=("sum",))
    assert (graph.inputs, graph.output_names) == ({"left": IMAGE, "right": IMAGE}, ("sum",))
    with pytest.raises(ModelFormatError, match="no inputs"):
        GraphBuilder({}).graph(("a",))


def test_the_remedy_for_one_input_of_another_name() -> None:
    nodes = [
        node.replace(inputs=tuple("x" if name == INPUT else name for name in node.inputs)) for node in lenet_nodes()
    ]
    with pytest.raises(ShapeError, match=re.escape("pass input_shape=(1, 28, 28)")):
        Graph({"x": (1, 32, 32)}, nodes, ("fc2",))


# --- programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["auto", "exact", "im2col", "direct"])
def test_programs_equal_the_interpreter(algorithm: str) -> None:
    graph = siamese()
    assert_equals_interpreter(graph, batch_of(graph, 5), algorithm=algorithm)
    assert_equals_interpreter(in_float64(graph), batch_of(in_float64(graph), 5))


def test_place_in_the_batch_and_threads_do_not_change_bits(model: Model) -> None:
    for threads in (1, 2, 3):
        net = Model(siamese(), threads=threads)
        for count in (1, 2, 7, 64):
            whole = arrays(count)
            expected = [model({name: x[i] for name, x in whole.items()}) for i in range(count)]
            for place, outputs in enumerate(zip(*expected, strict=True)):
                same(net(whole)[place], np.stack(outputs))


def test_too_many_inputs() -> None:
    inputs = {f"x{i}": (3,) for i in range(17)}
    graph = Graph(inputs, [op("all", "cat", *inputs)], ("all",))
    with pytest.raises(UnsupportedOperatorError, match="17 inputs: at most 16 are taken"):
        compile_graph(graph)
    (last, *rest) = inputs
    del inputs[last]
    batch = [np.full((2, 3), i, np.float32) for i in range(16)]
    same(Model(Graph(inputs, [op("all", "cat", *rest)], ("all",)))(*batch), np.concatenate(batch, 1))


def test_a_program_takes_no_other_arrays() -> None:
    program = compile_graph(siamese())
    given = tuple(arrays(2).values())
    assert program.run_all(given) is not NotImplemented
    for wrong in (given[:2], given[::-1], (*given[:2], given[2][:1]), (*given[:2], given[2].astype(np.float64))):
        assert program.run_all(wrong) is NotImplemented
        assert program.profile(wrong) is NotImplemented
    assert program.run(given[0]) is NotImplemented


# --- calling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [None, 0, 1, 3])
def test_calls(model: Model, count: int | None) -> None:
    given = arrays(count)
    by_name = model(given)
    assert type(by_name) is Outputs
    assert [y.shape for y in by_name] == [(*(() if count is None else (count,)), *s) for s in ((3,), (5, 12, 10))]
    for other in (model(*given.values()), model(dict(reversed(given.items()))), model(x=given)):
        for one, two in zip(by_name, other, strict=True):
            same(one, two)
    if count:
        for got, want in zip(by_name, run_graph(model.graph, tuple(given.values())), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_arrays_of_any_dtype_and_strides(model: Model) -> None:
    given = arrays(2)
    want = model(given)
    wide = {name: x.astype(np.float64) for name, x in given.items()}
    strided = {name: np.repeat(x, 2, axis=0)[::2] for name, x in given.items()}
    lists = {name: x.tolist() for name, x in given.items()}
    for other in (wide, strided, lists):
        for one, two in zip(model(other), want, strict=True):
            same(one, two)
    ints = {name: np.ones(x.shape, np.int8) for name, x in given.items()}
    same(model(ints)["score"], model(*(x.astype(np.float32) for x in ints.values()))[0])


def test_what_a_call_refuses(model: Model) -> None:
    given = arrays(2)
    left, right, facts = given.values()
    needs = r"the network has 3 inputs, 'left' \(3, 12, 10\), 'right' \(3, 12, 10\) and 'facts' \(4,\)"
    for arguments, error, message in (
        ((left,), ArgumentError, f"got 1 argument; {needs}; pass one argument for each, in this order, or a dict"),
        ((left, right), ArgumentError, f"got 2 arguments; {needs}"),
        ((left, right, facts, facts), ArgumentError, "got 4 arguments"),
        (({"left": left, "right": right},), ArgumentError, f"input 'facts' is missing; {needs}"),
        (({"left": left},), ArgumentError, f"input 'right' and 'facts' are missing; {needs}"),
        (({**given, "up": left},), ArgumentError, f"input 'up': there is none of that name; {needs}"),
        (({},), ArgumentError, "input 'left', 'right' and 'facts' are missing"),
        ((left, right, facts[:1]), ShapeError, "same size.*got 'left' a batch of 2, 'right' .* 2, 'facts' .* of 1"),
        ((left, right[0], facts), ShapeError, "got 'left' a batch of 2, 'right' one image, 'facts' a batch of 2"),
        ((left, facts, right), ShapeError, r"^right: expects \(N, 3, 12, 10\) or \(3, 12, 10\), got \(2, 4\)"),
        ((left, right, right), ShapeError, r"^facts: expects \(N, 4\) or \(4,\), got \(2, 3, 12, 10\)"),
        ((left, right.transpose(0, 2, 3, 1), facts), ShapeError, "^right: .*channels first"),
        ((left, right, facts.astype(complex)), DTypeError, "^facts: expects real numbers, got dtype complex128"),
        ((left, right, None), DTypeError, "^facts: .*dtype object"),
    ):
        for call in (model, model.profile):
            with pytest.raises(error, match=message):
                call(*arguments)
    with pytest.raises(TypeError):
        model()


def test_a_model_of_one_input_takes_it_by_name() -> None:
    model = Model(Graph((3,), [op("act", "relu", INPUT)], ("act",)))
    x = np.ones((2, 3), np.float32)
    same(model({INPUT: x}), x)
    same(model({INPUT: x[0]}), x[0])
    with pytest.raises(ArgumentError, match=r"input 'x': there is none.*the network has 1 input, 'input' \(3,\)"):
        model({"x": x})
    with pytest.raises(ArgumentError, match=r"got 2 arguments; the network has 1 input, 'input' \(3,\)"):
        model(x, x)


def test_predict_is_refused(model: Model) -> None:
    x = arrays(None)
    for call in (model.predict, model.predict_proba, lambda img: model.predict(img, top=2)):
        for given in (x, x["left"], np.zeros((12, 10, 3), np.uint8)):
            with pytest.raises(ShapeError, match=r"predict.*: the network has 3 inputs, 'left' .*call model on a dict"):
                call(given)


def test_what_a_model_says(model: Model) -> None:
    assert model.input_shapes == INPUTS
    assert model.output_names == ("score", "map")
    assert model.output_shapes == ((3,), (5, 12, 10))
    assert repr(model).startswith(
        "<fastconv.Model left (3, 12, 10), right (3, 12, 10), facts (4,) -> (3,), (5, 12, 10)"
    )
    with pytest.raises(ShapeError, match=r"read Graph\.inputs, or Model\.input_shapes"):
        _ = model.input_shape
    summary = model.summary()
    lines = str(summary).splitlines()
    assert lines[:2] == ["inputs: left 3x12x10, right 3x12x10, facts 4", "outputs: score 3, map 5x12x10"]
    assert summary.parameters == 3 * 5 * 9 + 5 + 3 * 154 + 3, "shared weights count once"
    fields = {row.name.rpartition(" + ")[2]: row.receptive_field for row in summary.rows}
    assert fields["fc"] == (12 + 2, 10 + 2)
    assert fields["difference"] == (3, 3)
    profile = model.profile(arrays(2), repeats=1)
    assert profile.batch == 2
    assert [row.name for row in model.profile(*arrays(None).values(), repeats=1).rows] == [r.name for r in profile.rows]


def test_fields_where_no_image_goes_in() -> None:
    nodes = [op("two", "add", "a", "b"), op("act", "relu", "image"), op("flat", "flatten", "act"),
             op("all", "cat", "two", "flat")]  # fmt: skip
    graph = Graph({"a": (4,), "image": (1, 2, 2), "b": (4,)}, nodes, ("all",))
    fields = {row.name.rpartition(" + ")[2]: row.receptive_field for row in Model(graph).summary().rows}
    assert fields["two"] is None
    assert fields["all"] == (1, 1)


def test_copies(model: Model) -> None:
    given = arrays(2)
    other = pickle.loads(pickle.dumps(model))
    assert (other.input_shapes, other.output_names) == (model.input_shapes, model.output_names)
    for one, two in zip(other(given), model(given), strict=True):
        same(one, two)
    assert copy.deepcopy(model)._program is model._program


def test_to_torch(model: Model) -> None:
    torch = pytest.importorskip("torch")
    from fastconv.formats.torch import to_torch

    given = arrays(2)
    net = to_torch(model.graph)
    with torch.no_grad():
        expected = net(*map(torch.from_numpy, given.values()))
    for one, two in zip(model(given), expected, strict=True):
        np.testing.assert_allclose(one, two.numpy(), rtol=1e-5, atol=1e-5)
    back = fastconv.from_torch(net, model.input_shapes)
    assert back.input_shapes == model.input_shapes
    for one, two in zip(back(given), expected, strict=True):
        np.testing.assert_allclose(one, two.numpy(), rtol=1e-5, atol=1e-5)


# --- outputs --------------------------------------------------------------------------------------


def test_outputs_are_a_tuple_with_names() -> None:
    out, aux = np.arange(3.0), np.arange(2.0)
    y = Outputs((out, aux), ("out", "aux"))
    assert isinstance(y, tuple)
    assert len(y) == 2
    first, second = y
    assert (first is out, second is aux, y[0] is out, y[-1] is aux, y["aux"] is aux) == (True,) * 5
    assert type(y[:1]) is tuple
    assert y.keys() == ("out", "aux")
    assert dict(y) == y.as_dict() == {"out": out, "aux": aux}
    assert [name for name, _ in y.items()] == ["out", "aux"]
    assert y.get("aux") is aux
    assert y.get("none") is None
    assert y.get("none", 3) == 3
    assert ("out" in y, "x" in y, aux in y, aux.copy() in y) == (True, False, True, False)
    assert repr(y) == "Outputs(out=array([0., 1., 2.]), aux=array([0., 1.]))"
    with pytest.raises(KeyError, match="no output 'x'; there is 'out', 'aux'"):
        y["x"]
    with pytest.raises(IndexError):
        y[2]
    with pytest.raises(ValueError, match="1 arrays and 2 names"):
        Outputs((out,), ("out", "aux"))
    for other in (pickle.loads(pickle.dumps(y)), copy.copy(y), copy.deepcopy(y)):
        assert type(other) is Outputs
        assert other.keys() == y.keys()
        same(other["aux"], aux)


def test_one_output_is_an_array() -> None:
    model = Model(Graph((3,), [op("act", "relu", INPUT)], ("act",), output_names=("logits",)))
    assert model.output_names == ("logits",)
    same(model(np.ones((2, 3))), np.ones((2, 3), np.float32))


# --- files ----------------------------------------------------------------------------------------


def test_save_and_load(model: Model, tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    model.save(path)
    document = json.loads(np.load(path)["fastconv.json"].tobytes())
    assert document["inputs"] == [{"name": name, "shape": list(shape)} for name, shape in INPUTS.items()]
    assert document["output_names"] == ["score", "map"]
    assert document["version"] == 1
    assert "input_shape" not in document
    other, given = fastconv.load(path), arrays(3)
    assert list(other.input_shapes.items()) == list(INPUTS.items())
    assert other.output_names == model.output_names
    for one, two in zip(other(given), model(given), strict=True):
        same(one, two)
    other.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()


def test_a_file_of_one_input_is_spelled_as_before() -> None:
    graph = Graph((3,), [op("act", "relu", INPUT)], ("act",))
    document = json.loads(write.describe(graph)[0].tobytes())
    assert document["input_shape"] == [3]
    assert not {"inputs", "output_names"} & set(document)


def test_load_for_other_sizes(tmp_path: Path) -> None:
    inputs = {"left": (1, 8, 8), "right": (1, 8, 8)}
    path = tmp_path / "net.npz"
    Model(Graph(inputs, [op("sum", "add", "left", "right")], ("sum",))).save(path)
    shapes = {"left": (1, 5, 6), "right": (1, 1, 6)}
    assert fastconv.load(path, input_shape=shapes).input_shapes == shapes
    assert fastconv.load(path, input_shape={"right": (1, 8, 1)}).input_shapes == {**inputs, "right": (1, 8, 1)}
    for given, message in (
        ((1, 5, 5), r"net.npz: input_shape must give the shape of each of 2 inputs, \{'left': \(C, H, W\), …\}"),
        ({"up": (1, 5, 5)}, "net.npz: input_shape: there is no input 'up'; there is 'left' and 'right'"),
        ({"left": (1, 5, 5)}, "net.npz: sum: "),
    ):
        with pytest.raises(FastconvError, match=message):
            fastconv.load(path, input_shape=given)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="dynamic=True"):
        fastconv.load(path, dynamic=True)


def test_a_state_dict_has_one_input() -> None:
    path = Path(__file__).parents[1] / "models" / "lenet.npz"
    assert fastconv.load(path, input_shape={INPUT: (1, 28, 28)}).input_shape == (1, 28, 28)
    with pytest.raises(ArgumentError, match="no input 'x'; there is 'input'"):
        fastconv.load(path, input_shape={"x": (1, 28, 28)})


TWO = [{"name": "a", "shape": [3]}, {"name": "b", "shape": [3]}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": TWO, "input_shape": [3]}, "unknown key 'input_shape'"),
        ({}, "has no 'input_shape'"),
        ({"inputs": {"a": [3]}}, "inputs must be a list"),
        ({"inputs": ["a"]}, r"inputs\[0\] must be an object, got 'a'"),
        ({"inputs": [{"name": "a"}]}, r"inputs\[0\] has no 'shape'"),
        ({"inputs": [{"name": "a", "shape": [3], "dtype": 1}]}, r"inputs\[0\] has the unknown key 'dtype'"),
        ({"inputs": [{"name": 1, "shape": [3]}]}, r"inputs\[0\].name must be a string, got 1"),
        ({"inputs": [{"name": "", "shape": [3]}]}, "name must be a non-empty string"),
        ({"inputs": [{"name": "a", "shape": 3}]}, r"inputs\[0\].shape must be a list"),
        ({"inputs": [{"name": "a", "shape": ["3"]}]}, "input 'a' must be an int, got '3'"),
        ({"inputs": [TWO[0], TWO[0]]}, r"inputs\[1\]: the name 'a' is taken already"),
        ({"inputs": []}, "no inputs"),
        ({"inputs": TWO, "dynamic": True}, "networks of one input"),
        ({"inputs": TWO, "mean": [0, 0, 0]}, "networks of one input"),
        ({"inputs": TWO, "output_names": "a"}, "output_names must be a list"),
        ({"inputs": TWO, "output_names": [1]}, "output_names must be a tuple of names"),
        ({"inputs": TWO, "output_names": ["x", "y"]}, "must name each of 1 outputs"),
        ({"inputs": [{"name": f"x{i}", "shape": [3]} for i in range(20)]}, "reads 'a'"),
    ],
)
def test_documents_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    node = {"name": "sum", "op": "add", "inputs": ["a", "b"]}
    document = {"format": "fastconv", "version": 1, "nodes": [node], "outputs": ["sum"], **changes}
    path = tmp_path / "net.npz"
    np.savez(path, **{"fastconv.json": np.frombuffer(json.dumps(document).encode(), np.uint8)})
    with pytest.raises(FastconvError, match=message):
        fastconv.load(path)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "siamese.npz"
    model.save(path)
    return path


def run(*args: object) -> Any:
    from test_cli import run

    return run(*args)


def test_commands(file: Path, tmp_path: Path) -> None:
    result = run("predict", file, file)
    assert result.exit_code == 2
    assert "the network has 3 inputs (left, right, facts), and predict takes images for one" in result.stderr
    result = run("info", file)
    assert "left 3x12x10, right 3x12x10, facts 4 -> score 3, map 5x12x10" in result.stdout
    record = json.loads(run("info", file, "--json").stdout)
    assert record["input_shapes"] == {"left": [3, 12, 10], "right": [3, 12, 10], "facts": [4]}
    assert record["output_names"] == ["score", "map"]
    assert "input_shape" not in record
    result = run("convert", file, tmp_path / "other.npz")
    assert result.exit_code == 0
    assert "left 3x12x10" in result.stdout
    assert (tmp_path / "other.npz").read_bytes() == file.read_bytes()
    result = run("bench", file, "--batch", 2, "--seconds", 0.05, "--threads", 1, "--layers", "--json", "-")
    assert result.exit_code == 0, result.stderr
    timings = json.loads(result.stdout)["timings"]
    assert {timing["engine"] for timing in timings} >= {"fastconv"}


def test_input_shapes_of_commands(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    inputs = {"left": (1, 8, 8), "right": (1, 8, 8)}
    Model(Graph(inputs, [op("sum", "add", "left", "right")], ("sum",))).save(path)
    shapes = ["--input-shape", "left=1x4x5", "--input-shape", "right=1,4,5"]
    record = json.loads(run("info", path, "--json", *shapes).stdout)
    assert record["input_shapes"] == {"left": [1, 4, 5], "right": [1, 4, 5]}
    for wrong, message in (
        (["--input-shape", "1x4x5"], "input_shape must give the shape of each of 2 inputs"),
        ([*shapes, "--input-shape", "left=1x3x3"], "each under a name of its own"),
        ([*shapes, "--input-shape", "1x3x3"], "each under a name of its own"),
        (["--input-shape", "left=1xwide"], "write it like 1x28x28"),
        (["--input-shape", "up=1x4x5"], "there is no input 'up'"),
    ):
        result = run("info", path, *wrong)
        assert result.exit_code == 2
        assert message in result.stderr
