"""ONNX files that leave the image size open: a model of any size where the network allows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_models import ints, model, node, run_ort, tensor, written  # noqa: E402

import fastconv  # noqa: E402
from fastconv.errors import FastconvError, ShapeError  # noqa: E402
from fastconv.formats.onnx.tensors import Tensors  # noqa: E402

RNG = np.random.default_rng(1)
W = tensor("w", RNG.standard_normal((3, 3, 3, 3)))
CONV = node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
OPEN = ("N", 3, "h", "w_")

# name -> (nodes, constants): networks that take images of any size
ANY: dict[str, tuple[list[Any], list[Any]]] = {
    "mean over the pixels": ([CONV, node("GlobalAveragePool", ["c"], ["y"])], [W]),
    "twice the size": (
        [CONV, node("Resize", ["c", "", "s"], ["y"], mode="nearest", coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor")],
        [W, tensor("s", [1, 1, 2, 2])],
    ),
    "half as large again": (
        [CONV, node("Resize", ["c", "", "s"], ["y"], mode="linear")], [W, tensor("s", [1, 1, 1.5, 1.5])]
    ),
    "flattened by its own shape": (
        [
            CONV,
            node("Shape", ["c"], ["n"], start=0, end=2),
            node("Concat", ["n", "rest"], ["s"], axis=0),
            node("Reshape", ["c", "s"], ["r"]),
            node("ReduceMean", ["r"], ["y"], axes=[2], keepdims=0),
        ],
        [W, ints("rest", -1)],
    ),
    "to a computed number of pixels and back": (
        [
            CONV, node("Shape", ["c"], ["n"]), node("Gather", ["n", "hw"], ["both"]),
            node("ReduceProd", ["both"], ["m"], axes=[0], keepdims=1),
            node("Concat", ["nothing", "m", "three"], ["s"], axis=0), node("Reshape", ["c", "s"], ["r"]),
            node("Softmax", ["r"], ["t"], axis=1), node("Reshape", ["t", "n"], ["y"]),
        ],
        [W, ints("hw", 2, 3), ints("nothing", 0), ints("three", 3)],
    ),
    "resized to twice its own size": (
        [
            node("Shape", ["x"], ["n"]), node("Mul", ["n", "two"], ["s"]),
            node("Resize", ["x", "", "", "s"], ["y"], mode="linear"),
        ],
        [ints("two", 1, 1, 2, 2)],
    ),
}  # fmt: skip

# name -> (nodes, constants, what the refusal says): those of one size
ONE: dict[str, tuple[list[Any], list[Any], str]] = {
    "linear layer": (
        [node("Flatten", ["x"], ["f"]), node("Gemm", ["f", "g"], ["y"])],
        [tensor("g", RNG.standard_normal((3 * 8 * 9, 4)))],
        "where images have shape",
    ),
    "target of a resize": (
        [
            node("Shape", ["x"], ["n"], start=0, end=2),
            node("Concat", ["n", "size"], ["s"], axis=0),
            node("Resize", ["x", "", "", "s"], ["y"], mode="linear"),
            node("Resize", ["y", "", "half"], ["z"], mode="linear"),
            node("Add", ["z", "x"], ["sum"]),
        ],
        [ints("size", 16, 18), tensor("half", [1, 1, 0.5, 0.5])],
        "cannot vary",
    ),
    "constant as large as the image": (
        [node("Add", ["x", "p"], ["y"])], [tensor("p", RNG.standard_normal((1, 3, 8, 9)))], "cannot vary"
    ),
    "number made of the size": (
        [
            node("Shape", ["x"], ["n"], start=2, end=3),
            node("Cast", ["n"], ["f"], to=1),
            node("Mul", ["x", "f"], ["y"]),
        ],
        [],
        "depends on the image size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANY)
def test_a_file_that_leaves_it_open_takes_any_size(name: str, tmp_path: Path) -> None:
    nodes, constants = ANY[name]
    path = written(model(nodes, OPEN, constants), tmp_path)
    net = fastconv.load(path, input_shape=(3, 8, 9))
    assert net.dynamic
    for size in ((8, 9), (5, 4), (17, 16), (1, 1)):
        x = RNG.standard_normal((2, 3, *size)).astype(np.float32)
        np.testing.assert_allclose(net(x), run_ort(path, x)[0], rtol=1e-5, atol=1e-5)
    net.save(tmp_path / "net.npz")
    again = fastconv.load(tmp_path / "net.npz")
    assert again.dynamic
    np.testing.assert_array_equal(again(x), net(x))
    fixed = fastconv.load(path, input_shape=(3, 8, 9), dynamic=False)
    assert not fixed.dynamic
    with pytest.raises(ShapeError):
        fixed(x)


def test_weights_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, constants = ANY["mean over the pixels"]
    path = written(model(nodes, OPEN, constants), tmp_path)
    read, names = Tensors.read, []

    def counted(self: Tensors, tensor: Any, what: str) -> np.ndarray:
        names.append(what)
        return read(self, tensor, what)

    monkeypatch.setattr(Tensors, "read", counted)
    assert fastconv.load(path, input_shape=(3, 8, 9)).dynamic
    assert names == ["initializer 'w'"]


@pytest.mark.parametrize("name", ONE)
def test_a_network_of_one_size_stays_so(name: str, tmp_path: Path) -> None:
    nodes, constants, message = ONE[name]
    path = written(model(nodes, OPEN, constants), tmp_path)
    net = fastconv.load(path, input_shape=(3, 8, 9))
    assert not net.dynamic
    x = RNG.standard_normal((2, 3, 8, 9)).astype(np.float32)
    np.testing.assert_allclose(net(x), run_ort(path, x)[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(FastconvError, match=rf"net\.onnx: .*{message}.*leave out dynamic=True"):
        fastconv.load(path, input_shape=(3, 8, 9), dynamic=True)


@pytest.mark.parametrize("shape", [("N", 3, 8, 9), ("N", 3, "h", 9)])
def test_what_the_file_fixes_stays(shape: Any, tmp_path: Path) -> None:
    path = written(model(ANY["mean over the pixels"][0], shape, [W]), tmp_path)
    assert not fastconv.load(path, input_shape=(3, 8, 9)).dynamic
    with pytest.raises(ShapeError, match=r"the file fixes the image size at \(3, 8, 9\); export it with"):
        fastconv.load(path, input_shape=(3, 8, 9), dynamic=True)


def test_several_inputs_have_one_size(tmp_path: Path) -> None:
    proto = model([node("Add", ["x", "z"], ["y"])], OPEN, others={"z": OPEN})
    shapes = {"x": (3, 8, 9), "z": (3, 8, 9)}
    assert not fastconv.load(written(proto, tmp_path), input_shape=shapes).dynamic
    with pytest.raises(ShapeError, match="this one has 2"):
        fastconv.load(tmp_path / "net.onnx", input_shape=shapes, dynamic=True)


def test_the_command_line_converts_it(tmp_path: Path) -> None:
    testing, cli = pytest.importorskip("click.testing"), pytest.importorskip("fastconv.cli.commands").cli
    nodes, constants = ANY["mean over the pixels"]
    path, target = written(model(nodes, OPEN, constants), tmp_path), tmp_path / "net.npz"

    def convert(source: Path, *more: str) -> Any:
        return testing.CliRunner().invoke(cli, ["convert", str(source), str(target), *more])

    size = ("--input-shape", "3x8x9")
    for more, expected in (((), True), (("--dynamic",), True), (("--no-dynamic",), False)):
        assert json.loads(convert(path, *size, *more, "--json").stdout)["dynamic"] is expected
        assert fastconv.load(target).dynamic is expected
    assert "3x8x9 -> 3x1x1, other sizes too" in convert(path, *size).stdout
    nodes, constants, message = ONE["linear layer"]
    refused = convert(written(model(nodes, OPEN, constants), tmp_path), *size, "--dynamic")
    assert refused.exit_code != 0
    assert message in str(refused.exception) + refused.stderr
    source = tmp_path / "source.npz"  # a file of fastconv's own
    fastconv.load(target).save(source)
    assert json.loads(convert(source, "--dynamic", "--json").stdout)["dynamic"] is True
    assert json.loads(convert(source, "--no-dynamic", "--json").stdout)["dynamic"] is False


def test_torch_s_files(tmp_path: Path) -> None:
    """A U-Net of one step, which takes even sizes only, as PyTorch's exporters write it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

        def forward(self, x: Any) -> Any:
            y = nn.functional.interpolate(self.down(x).relu(), scale_factor=2.0, mode="bilinear")
            return torch.cat([x, self.up(self.down(x)), y], 1)

    net, path = Net().eval(), tmp_path / "net.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(net, (torch.randn(2, 3, 8, 12),), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    model = fastconv.load(path, input_shape=(3, 8, 12))
    assert model.dynamic
    assert fastconv.from_torch(net, (3, 8, 12), dynamic=True).dynamic
    for size in ((8, 12), (6, 4), (18, 20)):
        x = torch.randn(2, 3, *size)
        np.testing.assert_allclose(model(x.numpy()), net(x).detach().numpy(), atol=1e-5)
    with pytest.raises(ShapeError):
        model(np.zeros((1, 3, 7, 8), np.float32))
