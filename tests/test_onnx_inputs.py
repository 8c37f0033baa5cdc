"""ONNX files of several inputs and outputs, by name: written by hand and by PyTorch's exporters."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from onnx_models import check_file, ints, model, node, run_ort, tensor, written  # noqa: E402

import fastconv  # noqa: E402
from fastconv.errors import (  # noqa: E402
    ArgumentError,
    DTypeError,
    FastconvError,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from fastconv.formats.onnx import load  # noqa: E402

IMAGE = ("N", 3, 8, 8)


def random(*shape: int) -> Any:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def test_names_are_those_of_the_file(tmp_path: Path) -> None:
    nodes = [
        node("Sub", ["left", "right"], ["difference"], name="left"),
        node("Relu", ["difference"], ["positive"]),
        node("GlobalAveragePool", ["positive"], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Concat", ["flat", "facts"], ["vector"], axis=1),
    ]
    others = {"right": IMAGE, "facts": ("N", 4)}
    proto = model(nodes, IMAGE, input="left", others=others, outputs=["vector", "difference", "right"])
    path = written(proto, tmp_path)
    arrays = random(3, 3, 8, 8), random(3, 3, 8, 8) + 1, random(3, 4)
    graph = check_file(path, arrays)
    assert graph.inputs == {"left": (3, 8, 8), "right": (3, 8, 8), "facts": (4,)}
    assert graph.output_names == ("vector", "difference", "right")
    assert graph.nodes[0].name == "left#2", "an input has that name"
    y = fastconv.load(path)(dict(zip(graph.inputs, arrays, strict=True)))
    for name, expected in zip(graph.output_names, run_ort(path, *arrays), strict=True):
        np.testing.assert_allclose(y[name], expected, rtol=0, atol=1e-5)


def test_one_input_and_one_output_of_any_name(tmp_path: Path) -> None:
    net = fastconv.load(written(model([node("Relu", ["x"], ["logits"], name="act")]), tmp_path))
    assert (net.input_shapes, net.output_names) == ({"input": (3, 8, 8)}, ("logits",))
    assert net.graph.outputs == ("act",)


@pytest.mark.parametrize(
    ("left", "right"), [("N", "N"), (None, "M"), (3, 3), (3, "N"), ("N", 3)], ids=lambda batch: str(batch)
)
def test_batches(left: Any, right: Any, tmp_path: Path) -> None:
    shape = [
        node("Shape", ["a"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "r"], ["to"], axis=0),
    ]
    nodes = [*shape, node("Mul", ["a", "b"], ["c"]), node("Reshape", ["c", "to"], ["y"])]
    constants = [ints("zero", 0), ints("r", -1)]
    proto = model(nodes, (left, 3, 8, 8), constants, input="a", others={"b": (right, 3, 8, 8)})
    check_file(written(proto, tmp_path), (random(3, 3, 8, 8), random(3, 3, 8, 8) + 2))


def test_what_inputs_are_refused(tmp_path: Path) -> None:
    def proto(others: Any, **options: Any) -> Any:
        return model([node("Add", ["x", "z"], ["y"])], options.pop("shape", IMAGE), others=others, **options)

    for refused, error, message in (
        (proto({"z": ()}), ShapeError, r"input 'z' has the shape \(\), without a batch in front"),
        (proto({"z": (0, 3, 8, 8)}), ShapeError, "input 'z' has the shape .*without a batch in front"),
        (proto({"z": None}), ShapeError, "input 'z' has no shape; pass input_shape="),
        (proto({"z": ("N", 3, "H", 8)}), ShapeError, "input 'z' has the shape .*pass input_shape="),
        (
            proto({"z": (1, 3, 8, 8)}, shape=(2, 3, 8, 8)),
            UnsupportedOperatorError,
            "'z' has a batch of 1.*'x' one of 2",
        ),
        (proto({"z": ("N", 4, 8, 8)}), UnsupportedOperatorError, "do not broadcast.*'y'"),
        (proto({"": IMAGE, "z": IMAGE}), FastconvError, "must be a non-empty string"),
        (proto({"z": IMAGE}, dtype=TensorProto.INT64), DTypeError, "input 'x' has elements of type INT64"),
    ):
        with pytest.raises(error, match=f"net.onnx: .*{message}"):
            load(written(refused, tmp_path))
    twice = proto({"z": IMAGE})
    twice.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, IMAGE))
    with pytest.raises(ModelFormatError, match="two inputs have the name 'z'"):
        load(written(twice, tmp_path))
    with pytest.raises(ModelFormatError, match="two outputs have the same name"):
        load(written(proto({"z": IMAGE}, outputs=["y", "y"]), tmp_path))
    mixed = proto({"z": IMAGE})
    mixed.graph.input[1].type.tensor_type.elem_type = TensorProto.INT32
    with pytest.raises(DTypeError, match="input 'z' has elements of type INT32"):
        load(written(mixed, tmp_path))


def test_inputs_of_two_types(tmp_path: Path) -> None:
    """One of bytes, which a Cast turns into numbers, beside one of float32."""
    proto = model(
        [node("Cast", ["b"], ["c"], to=TensorProto.FLOAT), node("Add", ["x", "c"], ["y"])], others={"b": IMAGE}
    )
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.UINT8
    path = written(proto, tmp_path)
    x, b = random(2, 3, 8, 8), np.arange(384, dtype=np.uint8).reshape(2, 3, 8, 8)
    check_file(path, (x, b), run_ort(path, x, b))


def test_sizes_left_open(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "z"], ["y"])], ("N", 3, "H", "W"), others={"z": ("N", 3, 8, None), "k": ("N", 2)})
    path = written(proto, tmp_path)
    assert load(path, {"x": (3, 8, 6), "z": (3, 8, 6)}).inputs == {"x": (3, 8, 6), "z": (3, 8, 6), "k": (2,)}
    for given, error, message in (
        ({"x": (3, 8, 6)}, ShapeError, "input 'z' .*pass input_shape="),
        ({"x": (3, 8, 6), "z": (3, 9, 6)}, ShapeError, "input 'z' .*does not fit"),
        ({"x": (3, 8, 6), "up": (3, 8, 6)}, ArgumentError, "no input 'up'; there is 'x', 'z' and 'k'"),
        ((3, 8, 6), ArgumentError, "must give the shape of each of 3 inputs"),
    ):
        with pytest.raises(error, match=message):
            fastconv.load(path, input_shape=given)  # type: ignore[arg-type]


def test_convert(tmp_path: Path) -> None:
    pytest.importorskip("click.testing")
    from test_cli import run

    proto = model([node("Add", ["x", "z"], ["sum"]), node("Sub", ["x", "z"], ["rest"])], others={"z": IMAGE},
                  outputs=["sum", "rest"])  # fmt: skip
    path, target = written(proto, tmp_path), tmp_path / "net.npz"
    result = run("convert", path, target, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert record["input_shapes"] == {"x": [3, 8, 8], "z": [3, 8, 8]}
    assert record["output_names"] == ["sum", "rest"]
    arrays = {"x": random(2, 3, 8, 8), "z": random(2, 3, 8, 8) + 1}
    one, other = fastconv.load(target)(arrays), fastconv.load(path)(arrays)
    assert one.keys() == other.keys() == ("sum", "rest")
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# --- PyTorch's exporters --------------------------------------------------------------------------


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_siamese(exporter: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
            self.head = nn.Linear(8, 2)

        def forward(self, left: Any, right: Any) -> Any:
            left, right = self.body(left), self.body(right)
            return {"score": self.head((left - right).abs().mean((2, 3))), "left": left}

    torch.manual_seed(0)
    net, path = Siamese().eval(), tmp_path / "net.onnx"
    example = torch.randn(2, 3, 9, 11), torch.randn(2, 3, 9, 11)
    names: dict[str, Any] = {"input_names": ["left", "right"], "output_names": ["score", "features"]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            pytest.importorskip("onnxscript")
            batch = torch.export.Dim("batch")
            shapes = {"left": {0: batch}, "right": {0: batch}}
            torch.onnx.export(net, example, path, dynamo=True, dynamic_shapes=shapes, **names)
        else:
            axes = {"left": {0: "batch"}, "right": {0: "batch"}}
            torch.onnx.export(net, example, path, dynamo=False, dynamic_axes=axes, **names)
    arrays = torch.randn(3, 3, 9, 11), torch.randn(3, 3, 9, 11)
    with torch.no_grad():
        expected = [y.numpy() for y in net(*arrays).values()]
    graph = check_file(path, tuple(x.numpy() for x in arrays), expected)
    assert graph.inputs == {"left": (3, 9, 11), "right": (3, 9, 11)}
    assert graph.output_names == ("score", "features")


# --- Resize, which networks with several outputs have ---------------------------------------------

PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
SIZES = ((14, 20), (3, 5), (1, 1), (11, 13), (7, 30), (7, 10))
SCALES = ((2.0, 3.0), (0.5, 0.5), (1.7, 0.6), (1.0, 2.5))


def resized(folder: Path, **attributes: Any) -> int:
    """Compare a Resize with ONNX Runtime for all targets; return how many of them are refused."""
    refused = 0
    for name, target in (*(("sizes", size) for size in SIZES), *(("scales", scale) for scale in SCALES)):
        constant = ints("t", 2, 3, *map(int, target)) if name == "sizes" else tensor("t", [1, 1, *target])
        inputs = ["x", "", "", "t"] if name == "sizes" else ["x", "", "t"]
        proto = model([node("Resize", inputs, ["y"], **attributes)], (2, 3, 7, 10), [constant], opset=18)
        path = written(proto, folder)
        try:
            load(path)
        except UnsupportedOperatorError:
            refused += 1
        else:
            check_file(path, random(2, 3, 7, 10))
    return refused


@pytest.mark.parametrize("place", PLACES)
def test_resize_nearest(place: str, tmp_path: Path) -> None:
    """What is not refused takes ONNX Runtime's pixels; PyTorch's two rules are never refused."""
    for rounding in ROUNDINGS:
        refused = resized(tmp_path, mode="nearest", coordinate_transformation_mode=place, nearest_mode=rounding)
        if (place, rounding) == ("asymmetric", "floor"):
            assert refused == 0
        if (place, rounding) == ("half_pixel", "round_prefer_ceil"):
            assert refused == 2, "factors that give no whole size"


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("place", PLACES)
def test_resize_smooth(mode: str, place: str, tmp_path: Path) -> None:
    refused = resized(tmp_path, mode=mode, coordinate_transformation_mode=place)
    same = 1  # the target that is the size already
    assert refused == {"half_pixel": 0, "align_corners": 0, "pytorch_half_pixel": 1}.get(place, 10 - same)


def test_resize_of_older_opsets_and_axes(tmp_path: Path) -> None:
    x, scales = random(2, 3, 7, 10), tensor("t", [1, 1, 2, 3])
    for nodes, constants, opset in (
        ([node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 3.0])], [], 7),
        ([node("Upsample", ["x", "t"], ["y"])], [scales], 9),
        ([node("Resize", ["x", "t"], ["y"])], [scales], 10),
        ([node("Resize", ["x", "", "t"], ["y"], axes=[3, -2], mode="linear")], [tensor("t", [0.5, 2])], 18),
        ([node("Resize", ["x", "e", "e", "t"], ["y"], mode="linear")], [tensor("e", []), ints("t", 2, 3, 5, 5)], 11),
    ):
        check_file(written(model(nodes, (2, 3, 7, 10), constants, opset=opset), tmp_path), x)
    signal = model([node("Resize", ["x", "", "t"], ["y"], mode="linear")], ("N", 3, 7), [tensor("t", [1, 1, 2.5])])
    check_file(written(signal, tmp_path), random(2, 3, 7))


def test_resize_to_a_size_computed_from_the_shape(tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["x"], ["s"]), node("Slice", ["s", "zero", "two"], ["front"]),
        node("Concat", ["front", "pixels"], ["to"], axis=0), node("Resize", ["x", "", "", "to"], ["y"], mode="linear"),
    ]  # fmt: skip
    constants = [ints("zero", 0), ints("two", 2), ints("pixels", 5, 16)]
    check_file(written(model(nodes, IMAGE, constants), tmp_path), random(3, 3, 8, 8))


@pytest.mark.parametrize(
    ("attributes", "target", "message"),
    [
        ({"mode": "cubic", "cubic_coeff_a": -0.5}, ints("t", 2, 3, 9, 9), "with cubic_coeff_a=-0.5"),
        ({"mode": "linear", "antialias": 1}, ints("t", 2, 3, 3, 3), "with antialias"),
        ({"mode": "linear"}, ints("t", 2, 6, 9, 9), "of the batch or the channels"),
        ({"mode": "linear"}, ints("t", 4, 3, 9, 9), "of the batch or the channels"),
        ({"mode": "linear"}, tensor("t", [1, 2, 2, 2]), "of the batch or the channels"),
        ({"mode": "linear"}, ints("t", 2, 3, 9), "3 sizes or scales for 4 axes"),
        ({"mode": "linear", "axes": [2, 2]}, ints("t", 9, 9), "sizes or scales for 2 axes"),
        ({"mode": "linear"}, ints("t", 2, 3, 0, 9), r"cannot resize \(7, 10\) to \(0, 9\)"),
        ({"mode": "linear"}, ints("t", 2, 3, -4, 9), r"cannot resize \(7, 10\) to \(-4, 9\)"),
        ({"mode": "linear"}, ints("t", 2, 3, 2**31 - 1, 2**31 - 1), "out of all proportion|more than"),
        ({"mode": "linear"}, tensor("t", [1, 1, np.nan, 1]), "scales must be positive"),
        ({"mode": "linear"}, tensor("t", [1, 1, -1, 1]), "scales must be positive"),
        ({"mode": "linear"}, tensor("t", [1, 1, 1e30, 1]), "too large"),
        ({"mode": "linear"}, tensor("t", [1, 1, 0.01, 1]), "cannot resize"),
        ({"mode": "linear"}, tensor("t", []), "needs scales or sizes"),
    ],
)
def test_what_resize_refuses(attributes: dict[str, Any], target: Any, message: str, tmp_path: Path) -> None:
    inputs = ["x", "", "", "t"] if target.data_type == TensorProto.INT64 else ["x", "", "t"]
    proto = model([node("Resize", inputs, ["y"], **attributes)], (2, 3, 7, 10), [target], opset=18)
    with pytest.raises(FastconvError, match=message):
        load(written(proto, tmp_path))
