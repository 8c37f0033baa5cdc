"""Damaged and malicious ONNX files: refused by name, at once, with no error but our own."""

from __future__ import annotations

import contextlib
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402
from onnx_models import constant, ints, model, node, tensor, written  # noqa: E402

import fastconv  # noqa: E402
from fastconv.errors import FastconvError, ModelFormatError, ShapeError, UnsupportedOperatorError  # noqa: E402
from fastconv.formats.onnx import load  # noqa: E402
from fastconv.formats.onnx.ops import FOLDS, FUNCTIONS  # noqa: E402

Wrong = ModelFormatError

Change = Callable[[Any], object]


def good() -> onnx.ModelProto:
    """A small network with something of everything."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "b", "b", "b", "v"], ["n"], name="norm"),
        node("Relu", ["n"], ["r"], name="act"),
        node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("Pad", ["p", "widths"], ["z"], name="pad"),
        node("Shape", ["z"], ["s"], name="shape"),
        node("Gather", ["s", "zero"], ["k"], name="first"),
        node("Unsqueeze", ["k", "axes"], ["u"], name="lift"),
        node("Concat", ["u", "rest"], ["t"], name="join", axis=0),
        node("Reshape", ["z", "t"], ["f"], name="view"),
        node("Gemm", ["f", "m"], ["g"], name="fc", transB=1),
        constant("two", 2.0),
        node("Mul", ["g", "two"], ["h"], name="double"),
        node("Softmax", ["h"], ["y"], name="probabilities"),
    ]
    rng = np.random.default_rng(0)
    weights = [
        tensor("w", rng.standard_normal((4, 3, 3, 3))), tensor("b", rng.standard_normal(4)), tensor("v", [1, 2, 3, 4]),
        ints("widths", 0, 0, 0, 1, 0, 0, 1, 0), tensor("zero", 0, np.int64), ints("axes", 0), ints("rest", -1),
        tensor("m", rng.standard_normal((5, 36))),
    ]  # fmt: skip
    return model(nodes, ("N", 3, 8, 8), weights)


def refused(proto: onnx.ModelProto | bytes, folder: Path, match: str, kind: type[Exception] = Wrong) -> None:
    path = folder / "net.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    with pytest.raises(kind, match=match) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000


def test_the_good_one_loads(tmp_path: Path) -> None:
    net = fastconv.load(written(good(), tmp_path))
    assert net(np.zeros((2, 3, 8, 8))).shape == (2, 5)


# Not a model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "is not an ONNX file"),
        (b"hello, world", "is not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"PK\x03\x04" + bytes(30), "is a zip file"),
        (b"\x89HDF\r\n\x1a\n", "tf2onnx"),
        (b"\x08\x08", "it holds no graph"),
        (b"\x3a\x00", "it holds no graph"),
        (b"\x0a" * 5000, "is not an ONNX file"),
        (b"\x3a\x80\x80\x80\x80\x08" + bytes(10), "is not an ONNX file"),
    ],
)
def test_other_files(data: bytes, message: str, tmp_path: Path) -> None:
    refused(data, tmp_path, message)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "net.onnx")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)


def test_a_file_too_large_for_one_message_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelFormatError, match="save_as_external_data=True"):
        load(path)


# One thing wrong ---------------------------------------------------------------------------------


def attribute(proto: Any, name: str, key: str) -> Any:
    (item,) = (a for n in proto.graph.node if n.name == name for a in n.attribute if a.name == key)
    return item


def named(proto: Any, name: str) -> Any:
    (item,) = (n for n in [*proto.graph.node, *proto.graph.initializer] if n.name == name)
    return item


def dims(proto: Any) -> Any:
    return proto.graph.input[0].type.tensor_type.shape.dim


WRONG: dict[str, tuple[Change, str, type[Exception]]] = {
    "old_opset": (lambda p: setattr(p.opset_import[0], "version", 6), "opset 6, read are 7 to", Wrong),
    "new_opset": (lambda p: setattr(p.opset_import[0], "version", 2**40), "pip install -U onnx", Wrong),
    "negative_opset": (lambda p: setattr(p.opset_import[0], "version", -1), "opset -1", Wrong),
    "no_opset": (lambda p: p.ClearField("opset_import"), "must say once", Wrong),
    "two_opsets": (lambda p: p.opset_import.add(domain="ai.onnx", version=13), "must say once", Wrong),
    "new_ir": (lambda p: setattr(p, "ir_version", 999), "IR.* 999.*pip install -U onnx", Wrong),
    "ir_of_zero": (lambda p: setattr(p, "ir_version", 0), "impossible format version", Wrong),
    "no_input": (lambda p: p.graph.ClearField("input"), "has no input", UnsupportedOperatorError),
    "no_output": (lambda p: p.graph.ClearField("output"), "no outputs", Wrong),
    "lost_output": (lambda p: setattr(p.graph.output[0], "name", "q"), "output 'q' is given by no node", Wrong),
    "no_nodes": (lambda p: p.graph.ClearField("node"), "'y' is given by no node", Wrong),
    "missing_tensor": (lambda p: named(p, "w").ClearField("name"), "conv: Conv reads 'w', which no", Wrong),
    "cycle": (lambda p: named(p, "conv").input.__setitem__(0, "y"), "conv: Conv reads 'y', which no", Wrong),
    "itself": (lambda p: named(p, "act").input.__setitem__(0, "r"), "act: Relu reads 'r'", Wrong),
    "two_givers": (lambda p: named(p, "act").output.__setitem__(0, "n"), "gives 'n', which is there", Wrong),
    "gives_a_weight": (lambda p: named(p, "act").output.__setitem__(0, "w"), "gives 'w', which", Wrong),
    "two_weights": (lambda p: setattr(named(p, "b"), "name", "w"), "two initializers", Wrong),
    "no_operator": (lambda p: named(p, "act").ClearField("op_type"), "not supported", UnsupportedOperatorError),
    "unknown_operator": (lambda p: setattr(named(p, "act"), "op_type", "Act"), "Act .*'act'", UnsupportedOperatorError),
    "name_of_bytes": (
        lambda p: p.ParseFromString(p.SerializeToString().replace(b"\x04conv", b"\x04\xff\xfe\xff\xfe")),
        "node's name is no text", ModelFormatError,
    ),
    "few_inputs": (lambda p: named(p, "conv").input.pop(), None, FastconvError),
    "one_input": (lambda p: named(p, "fc").input.pop(), "fc: Gemm takes 2 to 3 inputs, has 1", Wrong),
    "many_inputs": (lambda p: named(p, "act").input.extend(["x"] * 99), "takes 1 to 1 inputs, has 100", Wrong),
    "left_out": (lambda p: named(p, "conv").input.__setitem__(0, ""), "one is left out", Wrong),
    "many_outputs": (lambda p: named(p, "act").output.append("q"), "at most 1 outputs", Wrong),
    "other_attribute": (
        lambda p: named(p, "act").attribute.append(helper.make_attribute("q", 1)), "act: Relu has the attribute 'q'",
        Wrong,
    ),
    "attribute_twice": (
        lambda p: named(p, "conv").attribute.append(helper.make_attribute("pads", [0] * 4)), "'pads' twice",
        Wrong,
    ),
    "wrong_attribute": (
        lambda p: attribute(p, "conv", "pads").CopyFrom(helper.make_attribute("pads", 1.5)), "must be of type INTS",
        Wrong,
    ),
    "unknown_type": (lambda p: setattr(attribute(p, "conv", "pads"), "type", 0), "of type INTS", Wrong),
    "subgraph": (
        lambda p: named(p, "act").attribute.append(helper.make_attribute("body", p.graph)), "attribute 'body'",
        Wrong,
    ),
    "missing_attribute": (lambda p: named(p, "pool").ClearField("attribute"), "needs the attribute", Wrong),
    "negative_padding": (lambda p: attribute(p, "conv", "pads").ints.__setitem__(0, -1), "conv: Conv pads", Wrong),
    "huge_padding": (lambda p: attribute(p, "conv", "pads").ints.__setitem__(0, 2**62), "conv: Conv pads", Wrong),
    "few_pads": (lambda p: attribute(p, "conv", "pads").ints.pop(), "pads must hold 4", Wrong),
    "no_stride": (lambda p: attribute(p, "conv", "strides").ints.__setitem__(0, 0), "strides must be", Wrong),
    "huge_stride": (lambda p: attribute(p, "pool", "strides").ints.__setitem__(0, 2**63 - 1), "strides", Wrong),
    "empty_kernel": (lambda p: attribute(p, "pool", "kernel_shape").ints.__setitem__(0, 0), "kernel", Wrong),
    "kernel_of_three": (lambda p: attribute(p, "pool", "kernel_shape").ints.append(2), "3 axes", Wrong),
    "groups": (
        lambda p: named(p, "conv").attribute.append(helper.make_attribute("group", 0)), "conv: .*group", FastconvError
    ),
    "axis": (
        lambda p: named(p, "probabilities").attribute.append(helper.make_attribute("axis", 7)), "axis 7 is none",
        Wrong,
    ),
    "claims_more": (lambda p: named(p, "w").dims.__setitem__(0, 5), "'w' claims 135 elements.*holds 432", Wrong),
    "claims_huge": (lambda p: named(p, "w").dims.__setitem__(0, 2**62), "'w' claims", Wrong),
    "negative_size": (lambda p: named(p, "w").dims.__setitem__(0, -4), "impossible shape", Wrong),
    "huge_and_empty": (
        lambda p: (named(p, "w").dims.extend([0, 2**62]), named(p, "w").ClearField("raw_data")), "impossible|holds",
        Wrong,
    ),
    "many_axes": (lambda p: named(p, "b").dims.extend([1] * 99), "impossible shape", Wrong),
    "no_data": (lambda p: named(p, "w").ClearField("raw_data"), "claims 108 elements, but holds 0", Wrong),
    "strings": (lambda p: setattr(named(p, "w"), "data_type", TensorProto.STRING), "type STRING", FastconvError),
    "no_type": (lambda p: setattr(named(p, "w"), "data_type", 0), "type UNDEFINED", FastconvError),
    "type_of_the_future": (lambda p: setattr(named(p, "w"), "data_type", 4711), "type number 4711", FastconvError),
    "integers": (lambda p: setattr(named(p, "w"), "data_type", TensorProto.INT32), "weights of int32", Wrong),
    "float_axes": (
        lambda p: named(p, "axes").CopyFrom(tensor("axes", [0.0])), "lift: Unsqueeze axes must hold integers",
        Wrong,
    ),
    "two_zeros": (lambda p: named(p, "axes").CopyFrom(ints("axes", 0, 0)), "lift: .*not different", Wrong),
    "far_index": (
        lambda p: named(p, "zero").CopyFrom(tensor("zero", 2**40, np.int64)), "first: Gather cannot be computed",
        Wrong,
    ),
    "crooked_view": (
        lambda p: named(p, "rest").CopyFrom(ints("rest", 7)), "view: Reshape cannot give", ShapeError
    ),
    "two_unknowns": (lambda p: named(p, "rest").CopyFrom(ints("rest", -1, -1)), "cannot give", Wrong),
    "huge_view": (
        lambda p: named(p, "rest").CopyFrom(ints("rest", 2**62, 2**62)), "view: Reshape cannot give", ShapeError
    ),
    "huge_widths": (
        lambda p: named(p, "widths").CopyFrom(ints("widths", *[0, 0, 0, 2**62] * 2)), "pad: ", FastconvError
    ),
    "batch_of_none": (lambda p: setattr(dims(p)[0], "dim_value", 0), "without a batch", ShapeError),
    "huge_batch": (lambda p: setattr(dims(p)[0], "dim_value", 2**31 - 1), "a batch of more than", ShapeError),
    "negative_input": (lambda p: setattr(dims(p)[2], "dim_value", -8), "impossible", ShapeError),
    "huge_input": (lambda p: setattr(dims(p)[2], "dim_value", 2**62), "impossible", ShapeError),
    "large_input": (
        lambda p: [setattr(dims(p)[i], "dim_value", 2**31 - 1) for i in (2, 3)], "more than the", ShapeError
    ),
    "no_tensor": (lambda p: p.graph.input[0].type.sequence_type.SetInParent(), "no tensor", UnsupportedOperatorError),
    "other_channels": (lambda p: setattr(dims(p)[1], "dim_value", 4), "conv: ", ShapeError),
    "sparse": (
        lambda p: p.graph.sparse_initializer.add().values.CopyFrom(tensor("q", [1.0])), "'q' is sparse",
        UnsupportedOperatorError,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message", "kind"), WRONG.values(), ids=WRONG)
def test_one_thing_wrong(change: Change, message: str | None, kind: type[Exception], tmp_path: Path) -> None:
    proto = good()
    change(proto)
    if message is None:  # an input that may be left out
        load(written(proto, tmp_path))
    else:
        refused(proto, tmp_path, message, kind)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    body = helper.make_graph([node("Relu", ["x"], ["q"])], "body", [], [helper.make_tensor_value_info("q", 1, None)])
    choice = node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    refused(
        model([choice], initializers=[tensor("c", True, np.bool_)]),
        tmp_path,
        r"If \(subgraphs",
        UnsupportedOperatorError,
    )


# Memory ------------------------------------------------------------------------------------------

HUGE = {
    "filled": [node("ConstantOfShape", ["big"], ["q"])],
    "expanded": [node("Expand", ["one", "big"], ["q"])],
    "tiled": [node("Tile", ["square", "big"], ["q"])],
    "counted": [node("Range", ["start", "end", "step"], ["q"])],
    "outer_product": [
        node("Reshape", ["line", "column"], ["v"]), node("Mul", ["line", "v"], ["w2"]), node("Add", ["w2", "w2"], ["q"])
    ],
    "picked": [node("ConstantOfShape", ["many"], ["i"], value=ints("", 0)), node("Gather", ["row", "i"], ["q"])],
    "doubled": [node("Concat", [f"d{i}" if i else "line"] * 2, [f"d{i + 1}"], axis=0) for i in range(60)]
    + [node("Identity", ["d60"], ["q"])],
}  # fmt: skip


@pytest.mark.parametrize("nodes", HUGE.values(), ids=HUGE)
def test_constants_out_of_proportion_are_not_made(nodes: list[Any], tmp_path: Path) -> None:
    constants = [
        ints("big", 2**20, 2**20), tensor("one", 1.0), tensor("square", [[1.0]]), tensor("line", np.ones(2**14)),
        tensor("start", 0, np.int64), tensor("end", 2**60, np.int64), tensor("step", 1, np.int64),
        ints("column", -1, 1), ints("many", 2**20), tensor("row", np.ones((1, 2**14))),
    ]  # fmt: skip
    path = written(model([*nodes, node("Add", ["x", "q"], ["y"])], initializers=constants), tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFormatError, match="out of all proportion"):
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**30
    finally:
        tracemalloc.stop()


def test_an_axis_is_not_split_into_more_parts_than_are_named(tmp_path: Path) -> None:
    parts = node("Split", ["x"], ["y"], axis=1, num_outputs=2**31 - 1)
    refused(model([parts], ("N", 2**31 - 1), opset=18), tmp_path, "cannot split an axis")


def test_subgraphs_may_be_nested_deeply(tmp_path: Path) -> None:
    data = b""
    for _ in range(3000):  # graph { node { attribute { g: ... } } } of itself
        for tag in (0x32, 0x2A, 0x0A):
            size = varint(len(data))
            data = bytes([tag]) + size + data
    refused(b"\x08\x08\x3a" + varint(len(data)) + data, tmp_path, "is not an ONNX file")


def varint(number: int) -> bytes:
    """A length as Protocol Buffers write it."""
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def test_padding_out_of_proportion(tmp_path: Path) -> None:
    pad = node("Pad", ["x", "p"], ["y"])
    refused(model([pad], initializers=[ints("p", *[0] * 7, 2**26)]), tmp_path, "y: Pad computes constants out of all")


def test_many_channels_are_not_scaled(tmp_path: Path) -> None:
    refused(model([node("Mul", ["x", "c"], ["y"])], ("N", 2**31 - 1), [tensor("c", 2.0)]), tmp_path, "proportion")


# Weights outside ---------------------------------------------------------------------------------


def outside(folder: Path, **entries: str) -> onnx.ModelProto:
    """A model whose weight `w` lies in another file, with these entries."""
    (folder / "data.bin").write_bytes(bytes(432))
    proto = good()
    weight = named(proto, "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "data.bin", **entries}.items():
        weight.external_data.add(key=key, value=value)
    return proto


def test_weights_outside(tmp_path: Path) -> None:
    load(written(outside(tmp_path), tmp_path))
    load(written(outside(tmp_path, offset="0", length="432", checksum="0"), tmp_path))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": ""}, "own folder"),
        ({"location": "/etc/passwd"}, "own folder"),
        ({"location": "../data.bin"}, "own folder"),
        ({"location": "a/../../data.bin"}, "own folder"),
        ({"location": "a\\..\\data.bin"}, "own folder"),
        ({"location": "C:\\data.bin"}, "own folder"),
        ({"location": "."}, "no file"),
        ({"location": "none.bin"}, "No such file"),
        ({"location": "\0"}, "own folder|No such|null"),
        ({"location": "x" * 5000}, "too long"),
        ({"offset": "1"}, "1 to 433 of .*432 bytes"),
        ({"offset": "-1"}, "no number of bytes"),
        ({"offset": "9" * 400}, "no number of bytes"),
        ({"offset": "99999999999999999"}, "which has 432 bytes"),
        ({"length": "431"}, "needs 432 bytes, but claims 431"),
        ({"length": "many"}, "no number of bytes"),
    ],
)
def test_weights_outside_of_the_folder(entries: dict[str, str], message: str, tmp_path: Path) -> None:
    inner = tmp_path / "model"
    inner.mkdir()
    (tmp_path / "data.bin").write_bytes(bytes(432))
    refused(outside(inner, **entries), inner, message)


def test_links_that_lead_out(tmp_path: Path) -> None:
    inner = tmp_path / "model"
    inner.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(432))
    (inner / "link.bin").symlink_to(tmp_path / "secret.bin")
    (inner / "folder").symlink_to(tmp_path)
    os.mkfifo(inner / "pipe")
    refused(outside(inner, location="link.bin"), inner, "leads out of the model's own folder")
    refused(outside(inner, location="folder/secret.bin"), inner, "leads out of the model's own folder")
    refused(outside(inner, location="pipe"), inner, "is no file")
    (inner / "inside.bin").symlink_to(inner / "data.bin")
    load(written(outside(inner, location="inside.bin"), inner))


def test_one_file_does_not_fill_the_memory_many_times(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(4 * 2**10 + 4000))
    nodes, weights = [], []
    for i in range(1000):
        weight = TensorProto(name=f"w{i}", data_type=1, dims=[2**10], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": "data.bin", "offset": str(4 * i)}.items():
            weight.external_data.add(key=key, value=value)
        weights.append(weight)
        nodes.append(node("Add", [f"v{i}" if i else "x", f"w{i}"], [f"v{i + 1}"]))
    refused(model(nodes, ("N", 2**10), weights), tmp_path, "overlaps other tensors")


# Fuzzing -----------------------------------------------------------------------------------------


def attempt(path: Path, data: bytes) -> None:
    """Load it; it works, or it is refused with an error of ours."""
    path.write_bytes(data)
    with contextlib.suppress(FastconvError):
        fastconv.load(path, threads=1)


def fuzz(path: Path, seed: int, count: int) -> None:
    data = good().SerializeToString()
    rng = random.Random(seed)
    for _ in range(count):
        damaged = bytearray(data)
        kind = rng.randrange(4)
        if kind == 0:
            del damaged[rng.randrange(len(damaged)) :]
        elif kind == 1:
            start = rng.randrange(len(damaged))
            del damaged[start : start + rng.randrange(1, 9)]
        elif kind == 2:
            start, length = rng.randrange(len(damaged)), rng.randrange(1, 30)
            damaged[start:start] = damaged[start : start + length]
        for _ in range(rng.randrange(0 if kind < 3 else 1, 4)):
            # Weights are most of the file; what is wrong with a number there is no fault.
            place = rng.choice([rng.randrange(len(damaged) or 1), rng.randrange(min(900, len(damaged) or 1))])
            if place < len(damaged):
                damaged[place] = rng.choice([rng.randrange(256), damaged[place] ^ 1 << rng.randrange(8), 0, 255, 127])
        attempt(path, bytes(damaged))


def test_damaged_at_random(tmp_path: Path) -> None:
    fuzz(tmp_path / "net.onnx", 0, 1500)


def random_attribute(rng: random.Random, kind: str) -> Any:
    numbers = [0, 1, 2, 3, -1, -2, 5, 99, -99, 2**31, -(2**63), 2**63 - 1]
    if kind == "INT":
        return rng.choice(numbers)
    if kind == "INTS":
        return [rng.choice(numbers[: rng.choice([4, 6, 12])]) for _ in range(rng.randrange(1, 6))]
    if kind == "FLOAT":
        return rng.choice([0.0, 1.0, -1.5, 1e38, float("nan"), float("inf")])
    if kind == "STRING":
        return rng.choice(["", "constant", "edge", "SAME_UPPER", "VALID", "none", "tanh"])
    return tensor("", rng.choice([1.0, [2.0], [[1.0, 2.0]]]))


def random_node(rng: random.Random, op: str, opset: int, known: list[str], number: int) -> Any:
    """A node of an operator with inputs and attributes that mostly make no sense."""
    schema = onnx.defs.get_schema(op, opset, "")
    most = min(schema.max_input, 4)
    inputs = [rng.choice(known) for _ in range(rng.randint(min(schema.min_input, most), most))]
    attributes = {}
    for key, known_attribute in schema.attributes.items():
        kind = str(known_attribute.type).rpartition(".")[2]
        if kind in ("INT", "INTS", "FLOAT", "STRING", "TENSOR") and (known_attribute.required or rng.random() < 0.4):
            attributes[key] = random_attribute(rng, kind)
    outputs = [f"{op}{number}_{i}" for i in range(rng.randint(max(schema.min_output, 1), min(schema.max_output, 3)))]
    return node(op, inputs, outputs, **attributes)


def fuzz_nodes(path: Path, seed: int, count: int) -> int:
    """Networks of one to four random nodes; returns how many load."""
    rng = random.Random(seed)
    ops = sorted({*FUNCTIONS, *FOLDS} - {"Constant"})
    constants = [
        tensor("scalar", 2.0), tensor("vector", [1.0, 2.0, 3.0]), tensor("image", np.ones((1, 3, 1, 1))),
        tensor("matrix", np.ones((8, 8))), tensor("kernel", np.ones((3, 3, 1, 2))), tensor("empty", np.zeros(0)),
        ints("axes", 2, 3), ints("axis", 1), ints("shape", 0, -1), ints("huge", 2**62, -(2**63)), ints("none"),
        tensor("index", 1, np.int64), tensor("flags", [True, False, True], np.bool_),
        tensor("bytes", [0, 255], np.uint8), tensor("double", np.ones((3, 1, 1)), np.float64),
    ]  # fmt: skip
    start = [
        node("Relu", ["x"], ["value"]), node("GlobalMaxPool", ["x"], ["pooled"]), node("Flatten", ["x"], ["flat"]),
        node("Transpose", ["x"], ["last"], perm=[0, 2, 3, 1]), node("Transpose", ["x"], ["moved"], perm=[1, 0, 2, 3]),
        node("Shape", ["x"], ["sizes"]), node("Gather", ["sizes", "index0"], ["batch"]),
    ]  # fmt: skip
    values = ["x", "value", "pooled", "flat", "last", "moved", "x", "value"]
    loaded = 0
    for _ in range(count):
        opset = rng.choice([7, 9, 11, 13, 18, 21])
        known = [*values, "sizes", "batch", "", *(item.name for item in constants)]
        nodes = []
        for number in range(rng.randint(1, 4)):
            op = rng.choice(ops)
            try:
                made = random_node(rng, op, opset, known, number)
            except onnx.defs.SchemaError:  # not in this opset
                continue
            nodes.append(made)
            known += [*made.output] * 4
        if not nodes:
            continue
        shape = rng.choice([("N", 3, 8, 8), (1, 3, 8, 8), (2, 3, 8, 8)])
        weights = [*constants, tensor("index0", 0, np.int64)]
        path.write_bytes(model([*start, *nodes], shape, weights, opset=opset).SerializeToString())
        with contextlib.suppress(FastconvError):
            load(path)
            loaded += 1
    return loaded


def test_nodes_at_random(tmp_path: Path) -> None:
    assert fuzz_nodes(tmp_path / "net.onnx", 0, 3000) > 100


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_nodes_at_random_for_long(seed: int, tmp_path: Path) -> None:
    assert fuzz_nodes(tmp_path / "net.onnx", seed, 30_000) > 1000


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_damaged_at_random_for_long(seed: int, tmp_path: Path) -> None:
    fuzz(tmp_path / "net.onnx", seed, 20_000)


def test_every_beginning(tmp_path: Path) -> None:
    data = good().SerializeToString()
    for end in range(0, len(data), 7):
        attempt(tmp_path / "net.onnx", data[:end])
