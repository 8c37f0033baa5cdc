"""The two kinds of .npz: what loads, what is refused, and how it is saved."""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fastconv.errors import ArgumentError, FastconvError, ModelFormatError, ShapeError
from fastconv.formats import npz
from fastconv.formats.npz import model
from fastconv.graph import Graph, Node
from fastconv.graph.ops import OPS
from fastconv.graph.preprocessing import Preprocessing

Arrays = dict[str, np.ndarray]

LENET = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (20, 256), "fc2": (10, 20)}
LENET_OPS = "conv2d relu max_pool2d conv2d relu max_pool2d flatten linear relu linear"


def weights(layers: dict[str, tuple[int, ...]] = LENET, prefix: str = "") -> Arrays:
    """A state_dict of random weights."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in layers.items():
        arrays[f"{prefix}{name}.weight"] = rng.standard_normal(shape, np.float32)
        arrays[f"{prefix}{name}.bias"] = rng.standard_normal(shape[0], np.float32)
    return arrays


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Arrays], Path]:
    """Write arrays as a user would, return the path."""

    def save(arrays: Arrays, writer: Callable[..., None] = np.savez) -> Path:
        path = tmp_path / "net.npz"
        writer(path, **arrays)
        return path

    return save


def graph_of_every_kind() -> Graph:
    """Ops, attributes, weights and names of all the sorts that a file has to carry."""
    rng = np.random.default_rng(1)
    shared = rng.standard_normal((3, 3, 1, 1), np.float32)
    conv = rng.standard_normal((3, 3, 3, 2), np.float32)
    bn = {"running_mean": conv[0, 0, 0], "running_var": np.ones(2, np.float32)}
    nodes = (
        Node("a.conv", "conv2d", ("input",), {"padding": "same"}, {"weight": conv}),
        Node("clip", "hardtanh", ("a.conv",), {"min_val": -np.inf, "max_val": 6}),
        Node("pointwise", "conv2d", ("clip",), {}, {"weight": shared}),
        Node("pointwise#2", "conv2d", ("pointwise",), {}, {"weight": shared}),
        Node("sum", "add", ("pointwise#2", "clip"), {"activation": ("leaky_relu", 0.1)}),
        Node("../évil\n", "conv2d", ("sum",), {}, {"weight": shared}),
        Node("pad", "pad", ("../évil\n",), {"padding": (1, 0), "value": np.nan}),
        Node("pool", "avg_pool2d", ("pad",), {"kernel_size": 2, "divisor_override": 3}),
        Node("flat", "flatten", ("pool",)),
        Node("fc", "linear", ("flat",), {}, {"weight": rng.standard_normal((2, 36), np.float32)}),
        Node("bn", "batch_norm", ("fc",), {"eps": 1e-3}, bn),
        Node("log", "log_softmax", ("bn",), {"dim": 1}),
    )
    before = Preprocessing(mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    return Graph((3, 6, 7), nodes, ("log", "flat"), ("né", "zwei\n"), before)


def same(a: Graph, b: Graph) -> bool:
    """Equal in every bit; a Graph itself compares by identity."""
    return (
        str(a) == str(b)
        and (a.labels, a.preprocessing) == (b.labels, b.preprocessing)
        and all(
            n.weights.keys() == m.weights.keys()
            and all(n.weights[role].tobytes() == m.weights[role].tobytes() for role in n.weights)
            for n, m in zip(a.nodes, b.nodes, strict=True)
        )
    )


# A plain state_dict ------------------------------------------------------------------------------


def test_lenet(saved: Callable[..., Path]) -> None:
    arrays = weights()
    graph = npz.load(saved(arrays))
    assert " ".join(node.op for node in graph.nodes) == LENET_OPS
    assert graph.input_shape == (1, 28, 28)
    assert graph.outputs == ("fc2",)
    assert graph.shapes["fc2"] == (10,)
    for layer in LENET:
        for role in ("weight", "bias"):
            assert np.array_equal(graph.node(layer).weights[role], arrays[f"{layer}.{role}"])


def test_the_order_is_that_of_the_keys(saved: Callable[..., Path]) -> None:
    """Not the alphabet's: these names sort the other way round."""
    layers = {"z": (6, 1, 5, 5), "y": (16, 6, 5, 5), "x": (20, 256), "a": (10, 20)}
    graph = npz.load(saved(weights(layers)))
    assert [node.name for node in graph.nodes if node.weights] == list(layers)


def test_sequential_keys_and_missing_biases(saved: Callable[..., Path]) -> None:
    arrays = weights({"0": (6, 1, 5, 5), "3": (16, 6, 5, 5), "7": (10, 256)})
    del arrays["0.bias"], arrays["7.bias"]
    graph = npz.load(saved(arrays))
    assert [set(node.weights) for node in graph.nodes if node.weights] == [
        {"weight"}, {"weight", "bias"}, {"weight"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "prefix",
    ["module.", "state_dict.", "model_state_dict/", "state_dict.module.", "_orig_mod.module.",
     "module._orig_mod."],
)  # fmt: skip
def test_wrappers_are_stripped(saved: Callable[..., Path], prefix: str) -> None:
    arrays = weights(prefix=prefix)
    if "state_dict" in prefix:
        arrays |= {"epoch": np.array(3), "optimizer.lr": np.array(0.1)}
    graph = npz.load(saved(arrays))
    assert [node.name for node in graph.nodes if node.weights] == list(LENET)


def net(*layers: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"layer{i}": shape for i, shape in enumerate(layers)}


SIZES = {
    "lenet": (net((6, 1, 5, 5), (16, 6, 5, 5), (10, 256)), (1, 28, 28), 0),
    "lenet5": (net((6, 1, 5, 5), (16, 6, 5, 5), (10, 400)), (1, 32, 32), 0),
    "cifar": (net((6, 3, 5, 5), (16, 6, 5, 5), (10, 400)), (3, 32, 32), 0),
    "padded_mnist": (net((32, 1, 3, 3), (64, 32, 3, 3), (10, 3136)), (1, 28, 28), 1),
    "padded_cifar": (net((32, 3, 3, 3), (64, 32, 3, 3), (10, 4096)), (3, 32, 32), 1),
    "one_block": (net((8, 1, 5, 5), (10, 8 * 14 * 14)), (1, 32, 32), 0),
    "unusual": (net((8, 1, 3, 3), (10, 8 * 7 * 7)), (1, 16, 16), 0),
    "three_blocks": (net((8, 3, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (2, 8 * 64)), (3, 64, 64), 1),
    "even_kernel": (net((8, 1, 4, 4), (10, 8 * 9)), (1, 9, 9), 0),
}


@pytest.mark.parametrize(("layers", "shape", "padding"), SIZES.values(), ids=SIZES)
def test_input_size_and_padding(saved: Callable[..., Path], layers: dict, shape: tuple[int, ...], padding: int) -> None:
    path = saved(weights(layers))
    for graph in (npz.load(path), npz.load(path, shape)):
        assert graph.input_shape == shape
        convs = [node for node in graph.nodes if node.op == "conv2d"]
        assert {node.attrs["padding"] for node in convs} == {(padding,) * 4}


def test_input_shape_decides(saved: Callable[..., Path]) -> None:
    path = saved(weights(net((32, 1, 3, 3), (64, 32, 3, 3), (10, 3136))))
    for shape, padding in (((1, 34, 34), 0), ((1, 35, 37), 0), ((1, 28, 28), 1), ((1, 31, 31), 1)):
        graph = npz.load(path, shape)
        assert graph.input_shape == shape
        assert graph.nodes[0].attrs["padding"] == (padding,) * 4


def test_input_that_is_not_square(saved: Callable[..., Path]) -> None:
    path = saved(weights(net((8, 3, 3, 5), (10, 8 * 5 * 6))))
    with pytest.raises(ShapeError, match=r"240 features.*input_shape=\(3, height, width\)"):
        npz.load(path)
    assert npz.load(path, (3, 12, 16)).shapes["layer0.pool"] == (8, 5, 6)


def test_padding_of_the_first_convolution_alone(saved: Callable[..., Path]) -> None:
    """The LeNet-5 that many books train on 28x28 images."""
    graph = npz.load(saved(weights(net((6, 1, 5, 5), (16, 6, 5, 5), (10, 400)))), (1, 28, 28))
    assert [n.attrs["padding"][0] for n in graph.nodes if n.op == "conv2d"] == [2, 0]


def test_padding_that_is_ambiguous(saved: Callable[..., Path]) -> None:
    path = saved(weights(net((8, 1, 3, 3), (8, 8, 3, 3), (2, 8 * 36))))
    with pytest.raises(ModelFormatError, match=r"more than one padding.*from_torch"):
        npz.load(path, (1, 28, 28))


def test_input_shape_that_does_not_fit(saved: Callable[..., Path]) -> None:
    path = saved(weights())
    message = r"fc1: expects 256 features, the flattened input has 400; .*input_shape=\(1, 28, 28\)"
    with pytest.raises(ShapeError, match=message):
        npz.load(path, (1, 32, 32))
    with pytest.raises(ShapeError, match="expects 1 channels"):
        npz.load(path, (3, 28, 28))
    with pytest.raises(ShapeError, match="has 0; "):
        npz.load(path, (1, 4, 4))
    for wrong in ((28, 28), (1, 1, 28, 28), ()):
        with pytest.raises(ShapeError, match="channels"):
            npz.load(path, wrong)
    with pytest.raises(ArgumentError, match="input_shape"):
        npz.load(path, (1, 28.0, 28))
    with pytest.raises(ShapeError):
        npz.load(path, (1, 2**31 - 1, 2**31 - 1))


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4", ">f8", ">f2"])
def test_dtypes_are_converted(saved: Callable[..., Path], dtype: str) -> None:
    arrays = {key: array.astype(dtype) for key, array in weights().items()}
    weight = npz.load(saved(arrays)).node("conv1").weights["weight"]
    assert weight.dtype == np.float32
    assert weight.dtype.isnative
    assert np.array_equal(weight, arrays["conv1.weight"].astype(np.float32))


def test_fortran_order_and_strides(saved: Callable[..., Path]) -> None:
    arrays = weights()
    arrays["conv1.weight"] = np.asfortranarray(arrays["conv1.weight"])
    arrays["fc1.weight"] = np.ascontiguousarray(arrays["fc1.weight"].T).T
    graph = npz.load(saved(arrays))
    for layer in LENET:
        weight = graph.node(layer).weights["weight"]
        assert weight.flags.c_contiguous
        assert np.array_equal(weight, arrays[f"{layer}.weight"])


def test_weights_are_aligned(saved: Callable[..., Path]) -> None:
    graph = npz.load(saved(weights()))
    assert all(array.flags.aligned for node in graph.nodes for array in node.weights.values())


def test_compressed(saved: Callable[..., Path]) -> None:
    arrays = weights()
    assert same(npz.load(saved(arrays, np.savez_compressed)), npz.load(saved(arrays)))


def test_compressed_zeros_expand_a_thousandfold(saved: Callable[..., Path]) -> None:
    arrays = {key: np.zeros_like(array) for key, array in weights().items()}
    path = saved(arrays, np.savez_compressed)
    assert npz.load(path).parameters * 4 > 10 * path.stat().st_size


def test_weights_that_are_not_finite(saved: Callable[..., Path]) -> None:
    arrays = weights()
    arrays["conv1.weight"].flat[:3] = np.nan, np.inf, -np.inf
    graph = npz.load(saved(arrays))
    assert graph.node("conv1").weights["weight"].tobytes() == arrays["conv1.weight"].tobytes()


def test_finite_numbers_that_float32_cannot_hold(saved: Callable[..., Path]) -> None:
    arrays = {key: array.astype(np.float64) for key, array in weights().items()}
    arrays["fc1.bias"][3] = 1e200
    with pytest.raises(ModelFormatError, match=r"fc1\.bias.*too large for float32"):
        npz.load(saved(arrays))
    arrays["fc1.bias"][3] = np.inf
    assert np.isinf(npz.load(saved(arrays)).node("fc1").weights["bias"][3])


def changed(**changes: np.ndarray | None) -> Arrays:
    arrays = weights()
    for key, array in changes.items():
        arrays[key.replace("__", ".")] = array  # type: ignore[assignment]
    return {key: array for key, array in arrays.items() if array is not None}


NOT_LENET = {
    "batch_norm": (changed(bn__running_mean=np.ones(3)), r"'bn\.running_mean'.*batch norm"),
    "layer_norm": (changed(ln__weight=np.ones(3, "f4")), r"'ln' has shape \(3,\)"),
    "conv1d": (changed(c__weight=np.ones((3, 3, 3), "f4")), r"'c' has shape \(3, 3, 3\)"),
    "conv3d": (changed(c__weight=np.ones((1, 1, 3, 3, 3), "f4")), r"'c' has shape"),
    "conv_after_linear": (weights({**LENET, "c": (4, 4, 3, 3)}), "after a linear layer"),
    "channels": (weights(net((6, 1, 5, 5), (16, 3, 5, 5), (10, 256))), "takes 3 channels.* 6"),
    "features": (weights(net((6, 1, 5, 5), (10, 144 * 6), (2, 11))), "takes 11 channels.* 10"),
    "not_a_multiple": (weights(net((6, 1, 5, 5), (10, 143))), "143 features, not a multiple"),
    "no_conv": (weights(net((20, 784), (10, 20))), "no convolution"),
    "no_linear": (weights(net((32, 3, 3, 3), (64, 32, 3, 3))), "no linear layer"),
    "empty_layer": (changed(fc2__weight=np.ones((0, 20), "f4")), r"'fc2' has shape \(0, 20\)"),
    "bias_only": (changed(fc2__weight=None), "'fc2' has a bias and no weight"),
    "lstm": (changed(rnn__weight_ih_l0=np.ones((4, 4), "f4")), "weight_ih_l0"),
    "nothing": ({}, "no weights"),
    "two": (weights(prefix="state_dict.") | weights(prefix="model_state_dict."), "more than one"),
    "positional": ({"arr_0": np.ones(3, "f4")}, "'arr_0' is unknown"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "message"), NOT_LENET.values(), ids=NOT_LENET)
def test_other_networks_are_refused(saved: Callable[..., Path], arrays: Arrays, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        npz.load(saved(arrays))
    assert "from_torch(net, input_shape).save(path)" in str(caught.value)
    assert "net.npz: " in str(caught.value)


def test_bias_of_another_size(saved: Callable[..., Path]) -> None:
    with pytest.raises(FastconvError, match=r"fc1.*bias"):
        npz.load(saved(changed(fc1__bias=np.ones(3, "f4"))))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((10, 20), np.int8), "int8; weights are floating-point"),
        (np.ones((10, 20), np.complex64), "complex64"),
        (np.ones((10, 20), bool), "bool"),
        (np.ones((10, 20), np.longdouble), "longdouble|float128|f16"),
        (np.ones((10, 20), "V2"), r"V2 \(bfloat16\?\)"),
        (np.full((10, 20), "text"), "not one of numbers"),
        (np.zeros((10, 20), "f4,f4"), "not one of numbers|no .npy array"),
        (np.array({"a": 1}, object), r"pickled Python objects.*numpy\.savez"),
        (np.zeros((10, 20), "M8[s]"), "not one of numbers"),
    ],
)
def test_other_dtypes_are_refused(saved: Callable[..., Path], array: np.ndarray, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        npz.load(saved(changed(fc2__weight=array)))
    assert "'fc2.weight.npy'" in str(caught.value)


def test_a_whole_checkpoint_is_pickled(saved: Callable[..., Path]) -> None:
    """np.savez(path, **checkpoint) pickles the dictionary inside."""
    path = saved({"epoch": np.array(3), "state_dict": np.array(weights(), object)})
    with pytest.raises(ModelFormatError, match=r"'state_dict\.npy' holds pickled Python objects"):
        npz.load(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(marker),)

    array = np.array([Bomb()], object)
    for name in ("conv1.weight", model.DOCUMENT):
        np.savez(tmp_path / "net.npz", **{name: array})
        with pytest.raises(ModelFormatError, match="pickled"):
            npz.load(tmp_path / "net.npz")
    (tmp_path / "net.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelFormatError, match="pickle"):
        npz.load(tmp_path / "net.npz")
    assert not marker.exists()


# fastconv's own kind -----------------------------------------------------------------------------


def test_round_trip(tmp_path: Path) -> None:
    graph = graph_of_every_kind()
    npz.save(graph, tmp_path / "net.npz")
    loaded = npz.load(tmp_path / "net.npz")
    assert same(loaded, graph)
    assert not same(loaded, graph.replace(labels=("a", "b")))
    assert loaded.labels == ("né", "zwei\n")
    assert loaded.mean == (0.1, 0.2, 0.3)
    assert loaded.node("clip").attrs["min_val"] == -np.inf
    assert np.isnan(loaded.node("pad").attrs["value"])


def test_a_plain_state_dict_can_be_saved_whole(saved: Callable[..., Path], tmp_path: Path) -> None:
    graph = npz.load(saved(weights()))
    npz.save(graph, tmp_path / "own.npz")
    assert same(npz.load(tmp_path / "own.npz"), graph)


def test_the_file_is_an_npz_without_pickles(tmp_path: Path) -> None:
    npz.save(graph_of_every_kind(), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        assert file.files[0] == "fastconv.json"
        assert file["a.conv/weight"].shape == (3, 3, 3, 2)
        document = json.loads(file["fastconv.json"].tobytes())
        assert {file[name].dtype for name in file.files[1:]} == {np.dtype("<f4")}
        assert not any(".." in name for name in file.files)
    assert document["format"] == "fastconv"
    assert document["version"] == 1
    with zipfile.ZipFile(tmp_path / "net.npz") as file:
        assert file.testzip() is None
        assert {info.compress_type for info in file.infolist()} == {zipfile.ZIP_STORED}


def test_shared_arrays_are_written_and_read_once(tmp_path: Path) -> None:
    npz.save(graph_of_every_kind(), tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        assert "pointwise/weight" in file.files
        assert "pointwise#2/weight" not in file.files
    loaded = npz.load(tmp_path / "net.npz")
    assert loaded.node("pointwise").weights["weight"] is loaded.node("pointwise#2").weights["weight"]


def test_fused_graphs_keep_what_was_fused(tmp_path: Path) -> None:
    weight = np.ones((2, 1, 3, 3), np.float32)
    attrs = {"activation": ("hardtanh", 0.0, 6.0), "pool": ("max", 2, 2, 2, 2)}
    node = Node("pool", "conv2d", ("input",), attrs, {"weight": weight}, ("conv", "relu"))
    npz.save(Graph((1, 6, 6), (node,), ("pool",)), tmp_path / "net.npz")
    assert npz.load(tmp_path / "net.npz").nodes[0].fused == ("conv", "relu")
    assert npz.load(tmp_path / "net.npz").shapes["pool"] == (2, 2, 2)


def test_float64_graphs_are_saved_as_float32(tmp_path: Path) -> None:
    node = Node("fc", "linear", ("input",), {}, {"weight": np.full((2, 3), 1 / 3)})
    npz.save(Graph((3,), (node,), ("fc",)), tmp_path / "net.npz")
    assert npz.load(tmp_path / "net.npz").node("fc").weights["weight"][0, 0] == np.float32(1 / 3)


def test_graph_without_weights(tmp_path: Path) -> None:
    npz.save(Graph((3, 4, 4), (Node("relu", "relu"),), ("relu",)), tmp_path / "net.npz")
    assert npz.load(tmp_path / "net.npz").shapes["relu"] == (3, 4, 4)


def test_another_input_shape(tmp_path: Path) -> None:
    weight = np.ones((2, 3, 3, 3), np.float32)
    nodes = (
        Node("conv", "conv2d", ("input",), {}, {"weight": weight}),
        Node("pool", "adaptive_avg_pool2d", ("conv",), {"output_size": 1}),
    )
    npz.save(Graph((3, 8, 8), nodes, ("pool",)), tmp_path / "net.npz")
    assert npz.load(tmp_path / "net.npz", (3, 20, 9)).shapes["conv"] == (2, 18, 7)
    with pytest.raises(ShapeError, match=r"net\.npz: conv"):
        npz.load(tmp_path / "net.npz", (4, 8, 8))


# Saving ------------------------------------------------------------------------------------------


def test_the_same_graph_gives_the_same_bytes(tmp_path: Path) -> None:
    npz.save(graph_of_every_kind(), tmp_path / "a")
    npz.save(graph_of_every_kind(), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    npz.save(npz.load(tmp_path / "a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        npz.save(graph_of_every_kind(), tmp_path / "net.npz")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "net.npz").stat().st_mode) == 0o640


def test_a_failed_save_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.npz"
    npz.save(graph_of_every_kind(), path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        npz.save(Graph((3,), (Node("relu", "relu"),), ("relu",)), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.npz"]


def test_interrupted_saves_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        npz.save(graph_of_every_kind(), tmp_path / "net.npz")
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_saved(tmp_path: Path) -> None:
    graph = graph_of_every_kind()
    with pytest.raises(IsADirectoryError if os.name == "posix" else OSError):
        npz.save(graph, tmp_path)
    with pytest.raises(FileNotFoundError):
        npz.save(graph, tmp_path / "missing" / "net.npz")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArgumentError, match="not a regular file"):
        npz.save(graph_of_every_kind(), tmp_path / "pipe")
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    npz.save(graph_of_every_kind(), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert same(npz.load(tmp_path / "target"), graph_of_every_kind())


def test_paths_of_every_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    graph = graph_of_every_kind()
    for path in ("plain", "ünïcode.npz", tmp_path / "path", "x" * 250):
        npz.save(graph, path)
        assert same(npz.load(path), graph)
    with pytest.raises(FileNotFoundError):
        npz.load("missing.npz")
    with pytest.raises(OSError, match=r"directory|Permission"):
        npz.load(tmp_path)


# Cost --------------------------------------------------------------------------------------------


def test_loading_imports_little(saved: Callable[..., Path]) -> None:
    """A cold start has a few milliseconds; zipfile alone takes as much."""
    code = (
        "import sys; from fastconv.formats import npz; npz.load(sys.argv[1]);"
        "print(*{'zipfile', 'json', 'zlib', 'shutil', 'tempfile', 'torch'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, str(saved(weights()))]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


# The specification -------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs" / "format.md"


def test_the_example_in_the_specification_loads(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8").split("```json")[1].split("```")[0]
    arrays = {"fc/weight": np.ones((2, 3), np.float32), "fc/bias": np.ones(2, np.float32)}
    document = np.frombuffer(text.encode(), np.uint8)
    np.savez(tmp_path / "net.npz", **{"fastconv.json": document, **arrays})
    graph = npz.load(tmp_path / "net.npz")
    assert [node.op for node in graph.nodes] == ["linear", "relu"]


def test_the_specification_lists_every_operation() -> None:
    """With all its weights and attributes, in the table's row for it."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = line.split("|")
        if len(cells) == 6:
            rows |= dict.fromkeys(re.findall(r"`(\w+)`", cells[1]), line)
    for op, spec in OPS.items():
        named = set(re.findall(r"`(\w+)`", rows[op]))
        assert named >= {*spec.attributes, *spec.required, *spec.optional}, op


def test_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        npz.load(tmp_path)
