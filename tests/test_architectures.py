"""Networks known by name: weights in torchvision's key names, beside torchvision's own networks."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_nets import models, randomised

import fastconv
from fastconv.errors import ArgumentError, MissingExtraError, ModelFormatError, ShapeError
from fastconv.formats.architectures import ARCHITECTURES, plan_of

torch = pytest.importorskip("torch")
Arrays = dict[str, np.ndarray]

WHOLE = 1e-4
"""Error of a whole network, relative to its largest output."""


def state(net: Any) -> Arrays:
    return {key: value.numpy() for key, value in net.state_dict().items()}


def save_npz(path: Path, arrays: Arrays) -> Path:
    path = path / "weights.npz"
    np.savez(path, **arrays)
    return path


def save_safetensors(path: Path, arrays: Arrays) -> Path:
    numpy = pytest.importorskip("safetensors.numpy")
    path = path / "weights.safetensors"
    numpy.save_file(arrays, path)
    return path


def vgg(blocks: tuple[int, ...], batch_norm: bool, classes: int) -> Any:
    """A VGG an eighth as wide as torchvision's, whose classifier alone has half a gigabyte."""
    from torch import nn

    vgg = models().vgg
    widths = (8, 16, 32, 64, 64)
    layers = [item for width, count in zip(widths, blocks, strict=True) for item in [width] * count + ["M"]]
    with torch.device("meta"):  # takes no memory
        net = vgg.VGG(vgg.make_layers(layers, batch_norm=batch_norm), num_classes=classes, init_weights=False)
    net.features = vgg.make_layers(layers, batch_norm=batch_norm)
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for index, (features, outputs) in {0: (64 * 49, 24), 3: (24, 16), 6: (16, classes)}.items():
        net.classifier[index] = nn.Linear(features, outputs)
        nn.init.kaiming_normal_(net.classifier[index].weight)
    return net


def resnet(block: str, depths: tuple[int, ...], **more: Any) -> Any:
    module = models().resnet
    return module.ResNet(getattr(module, block), list(depths), **more)


# name: (its architecture, how it is built)
NETWORKS: dict[str, tuple[str, Callable[[], Any]]] = {
    "resnet18": ("resnet18", lambda: models().resnet18(weights=None)),
    "resnet34": ("resnet34", lambda: models().resnet34(weights=None, num_classes=7)),
    "resnet50": ("resnet50", lambda: models().resnet50(weights=None, num_classes=3)),
    "resnet101, narrow": ("resnet101", lambda: resnet("Bottleneck", (3, 4, 23, 3), width_per_group=8)),
    "resnext50_32x4d": ("resnext50_32x4d", lambda: models().resnext50_32x4d(weights=None)),
    "resnext without its name": ("resnet50", lambda: resnet("Bottleneck", (3, 4, 6, 3), groups=4, width_per_group=16)),
    "wide_resnet50_2": ("wide_resnet50_2", lambda: resnet("Bottleneck", (3, 4, 6, 3), width_per_group=24)),
    "vgg11": ("vgg11", lambda: vgg((1, 1, 2, 2, 2), False, 10)),
    "vgg13": ("vgg13", lambda: vgg((2, 2, 2, 2, 2), False, 1)),
    "vgg16": ("vgg16", lambda: vgg((2, 2, 3, 3, 3), False, 11)),
    "vgg19": ("vgg19", lambda: vgg((2, 2, 4, 4, 4), False, 12)),
    "vgg11_bn": ("vgg11_bn", lambda: vgg((1, 1, 2, 2, 2), True, 10)),
    "vgg13_bn": ("vgg13_bn", lambda: vgg((2, 2, 2, 2, 2), True, 10)),
    "vgg16_bn": ("vgg16_bn", lambda: vgg((2, 2, 3, 3, 3), True, 10)),
    "vgg19_bn": ("vgg19_bn", lambda: vgg((2, 2, 4, 4, 4), True, 10)),
    "mobilenet_v2": ("mobilenet_v2", lambda: models().mobilenet_v2(weights=None)),
    "mobilenet_v2 at half width": ("mobilenet_v2", lambda: models().mobilenet_v2(weights=None, width_mult=0.5)),
    # So narrow that blocks which widen at full width keep their channels, and add their input.
    "mobilenet_v2 at a tenth": ("mobilenet_v2", lambda: models().mobilenet_v2(weights=None, width_mult=0.1)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_as_in_torchvision(name: str, tmp_path: Path) -> None:
    architecture, build = NETWORKS[name]
    torch.manual_seed(len(name))
    net = randomised(build())
    writer = save_safetensors if len(name) % 2 else save_npz
    model = fastconv.load(writer(tmp_path, state(net)), architecture=architecture, input_shape=(3, 64, 64))
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x)).numpy()
    assert np.ptp(expected, axis=0).max() > 0.01 * np.abs(expected).max()  # the images tell, not the biases alone
    found = model(x)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= WHOLE * np.abs(expected).max()
    assert np.array_equal(found.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vgg11_bn", "mobilenet_v2"])
def test_the_graph_is_that_of_from_torch(name: str, tmp_path: Path) -> None:
    architecture, build = NETWORKS[name]
    net = randomised(build())
    graph = fastconv.load(save_npz(tmp_path, state(net)), architecture=architecture, input_shape=(3, 65, 66)).graph
    assert str(graph) == str(fastconv.from_torch(net, (3, 65, 66)).graph)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_keys_are_torchvisions(name: str) -> None:
    builder = getattr(models(), name)
    with torch.device("meta"):
        keys = builder(weights=None).state_dict().keys()
    assert set(plan_of(name).keys()) == {key for key in keys if not key.endswith("num_batches_tracked")}


# --- what the weights tell ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights() -> Arrays:
    """A narrow MobileNetV2."""
    torch.manual_seed(0)
    return state(randomised(models().mobilenet_v2(weights=None, width_mult=0.1, num_classes=5)))


def load(folder: Path, arrays: Arrays, **more: Any) -> fastconv.Model:
    return fastconv.load(save_npz(folder, arrays), architecture="mobilenet_v2", **more)


def test_images_have_224_pixels_unless_asked(weights: Arrays, tmp_path: Path) -> None:
    model = load(tmp_path, weights)
    assert (model.input_shape, model.output_shapes) == ((3, 224, 224), ((5,),))
    gray = {**weights, "features.0.0.weight": weights["features.0.0.weight"][:, :1]}
    assert load(tmp_path, gray).input_shape == (1, 224, 224)
    with pytest.raises(ShapeError, match=r"features\.0\.0\.weight: mobilenet_v2 needs shape \(out, 3, 3, 3\)"):
        load(tmp_path, gray, input_shape=(3, 32, 32))


@pytest.mark.parametrize("prefix", ["module.", "state_dict.", "model_state_dict/", "state_dict.module.", "_orig_mod."])
def test_wrappers_are_stripped(weights: Arrays, prefix: str, tmp_path: Path) -> None:
    wrapped = {prefix + key: value for key, value in weights.items()}
    if "state_dict" in prefix:
        wrapped["epoch"] = np.array(3)
    write = save_safetensors if "/" in prefix else save_npz
    model = fastconv.load(write(tmp_path, wrapped), architecture="mobilenet_v2", input_shape=(3, 32, 32))
    x = np.ones((1, 3, 32, 32), np.float32)
    assert np.array_equal(model(x), load(tmp_path, weights, input_shape=(3, 32, 32))(x))


def test_files_without_the_count_of_batches(weights: Arrays, tmp_path: Path) -> None:
    load(tmp_path, {key: value for key, value in weights.items() if "num_batches" not in key})


def test_lenet_by_its_name() -> None:
    path = Path(__file__).resolve().parents[1] / "models" / "lenet.npz"
    x = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    assert np.array_equal(fastconv.load(path, architecture="lenet")(x), fastconv.load(path)(x))


# --- refusals -------------------------------------------------------------------------------------


def test_all_keys_at_fault_are_listed(weights: Arrays, tmp_path: Path) -> None:
    missing = ("features.1.conv.1.weight", "classifier.1.bias", "features.18.1.running_mean")
    faulty = {key: value for key, value in weights.items() if key not in missing}
    faulty |= {"extra.weight": np.ones(2, np.float32), "extra.bias": np.ones(2, np.float32)}
    with pytest.raises(ModelFormatError) as caught:
        load(tmp_path, faulty)
    message = str(caught.value)
    listed, others = message.split("missing: ")[1].split("; unexpected: ")
    assert sorted(listed.split(", ")) == sorted(missing)
    assert others.split(";")[0] == "extra.weight, extra.bias"
    assert "from_torch" in others


def test_the_architecture_that_has_these_keys_is_named(weights: Arrays, tmp_path: Path) -> None:
    path = save_npz(tmp_path, weights)
    with pytest.raises(ModelFormatError, match=r"not the weights of vgg11; .*pass architecture='mobilenet_v2'"):
        fastconv.load(path, architecture="vgg11")
    with pytest.raises(ModelFormatError, match="pass architecture='mobilenet_v2'"):
        fastconv.load(path)
    # Alone, a VGG's keys look like those of a LeNet.
    with pytest.raises(ModelFormatError, match="pass architecture='vgg11'"):
        fastconv.load(save_npz(tmp_path, state(vgg((1, 1, 2, 2, 2), False, 2))))


def test_an_unknown_network_is_refused_with_the_list(tmp_path: Path) -> None:
    arrays = {"conv.weight": np.ones((4, 3, 3, 3), np.float32), "norm.running_mean": np.ones(4, np.float32)}
    for write in (save_npz, save_safetensors):
        with pytest.raises(ModelFormatError, match=r"pass architecture= for one of resnet18, .*mobilenet_v2"):
            fastconv.load(write(tmp_path, arrays))


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("features.1.conv.1.weight", (8, 8, 3, 3), r"needs shape \(out, 8, 1, 1\) here, the file has \(8, 8, 3, 3\)"),
        ("features.1.conv.1.weight", (8, 8), r"needs shape \(out, 8, 1, 1\) here, the file has \(8, 8\)"),
        ("features.1.conv.1.weight", (0, 8, 1, 1), r"the file has \(0, 8, 1, 1\)"),
        ("features.2.conv.1.0.weight", (48, 7, 3, 3), r"needs shape \(out, a divisor of 48, 3, 3\)"),
        ("features.1.conv.2.running_var", (9,), r"needs shape \(8,\) here, the file has \(9,\)"),
        ("classifier.1.weight", (5, 99), r"needs shape \(out, 1280\) here, the file has \(5, 99\)"),
        ("classifier.1.bias", (6,), r"needs shape \(5,\) here, the file has \(6,\)"),
        ("features.0.0.weight", (3,), r"needs shape \(out, 3, 3, 3\) here, the file has \(3,\)"),
    ],
)
def test_a_weight_of_another_shape_is_named(
    key: str, shape: tuple[int, ...], message: str, weights: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(ShapeError, match=rf"weights\.npz: {key}: mobilenet_v2 .*{message}"):
        load(tmp_path, {**weights, key: np.ones(shape, np.float32)})


@pytest.mark.parametrize("architecture", ["resnet19", "", "ResNet18", 18])
def test_an_unknown_name_is_refused_with_the_list(architecture: Any, weights: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"architecture must be one of lenet, resnet18, .*mobilenet_v2, got"):
        fastconv.load(save_npz(tmp_path, weights), architecture=architecture)


def test_a_file_of_our_own_needs_no_architecture(weights: Arrays, tmp_path: Path) -> None:
    load(tmp_path, weights).save(tmp_path / "own.npz")
    with pytest.raises(ArgumentError, match="leave architecture out"):
        fastconv.load(tmp_path / "own.npz", architecture="mobilenet_v2")


@pytest.mark.parametrize("shape", [(), (3, 0, 32), (3, -1, 32), (3, 32), (32,), (4, 32, 32), 3, "abc"])
def test_an_impossible_input_shape(shape: Any, weights: Arrays, tmp_path: Path) -> None:
    with pytest.raises(fastconv.FastconvError):
        load(tmp_path, weights, input_shape=shape)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickled_files_are_refused_with_the_remedy(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    torch.save({}, path)
    with pytest.raises(ModelFormatError, match=r"pickled.*from_torch.*safetensors\.torch\.save_file"):
        fastconv.load(path, architecture="resnet18")


# --- safetensors ----------------------------------------------------------------------------------

LENET = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (20, 256), "fc2": (10, 20)}


def layers(shapes: dict[str, tuple[int, ...]]) -> Arrays:
    rng = np.random.default_rng(0)
    arrays = {f"{name}.weight": rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return arrays | {f"{name}.bias": rng.standard_normal(shape[0], np.float32) for name, shape in shapes.items()}


def ordered(arrays: Arrays, names: list[str]) -> Arrays:
    return {key: value for name in names for key, value in arrays.items() if key.startswith(f"{name}.")}


@pytest.mark.parametrize(
    "names",
    [
        ["conv1", "conv2", "fc1", "fc2"],
        ["features.0", "features.10", "classifier.1", "classifier.12"],  # "classifier" sorts first, "10" before "2"
        ["net.9", "net.10", "net.11", "net.100"],
        ["second", "first", "zero", "last"],  # only this order fits
    ],
)
def test_a_lenet_in_a_file_without_order(names: list[str], tmp_path: Path) -> None:
    arrays = ordered(layers(dict(zip(names, LENET.values(), strict=True))), names)
    model = fastconv.load(save_safetensors(tmp_path, arrays))
    assert [node.name for node in model.graph.nodes if node.weights] == names
    x = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    assert np.array_equal(model(x), fastconv.load(save_npz(tmp_path, arrays))(x))


def test_names_that_show_no_order_are_refused(tmp_path: Path) -> None:
    shapes = {"conv1": (6, 1, 5, 5), "conv2": (16, 6, 5, 5), "a": (16, 256), "b": (16, 16), "c": (16, 16)}
    arrays = layers(shapes)
    model = fastconv.load(save_npz(tmp_path, ordered(arrays, list(shapes))))
    assert [node.name for node in model.graph.nodes if node.weights] == list(shapes)
    with pytest.raises(ModelFormatError, match="names 'a', 'b', 'c' do not show the order"):
        fastconv.load(save_safetensors(tmp_path, arrays))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "float32"])
def test_other_precisions_become_float32(dtype: str, tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save_file
    tensors = {key: torch.from_numpy(value).to(getattr(torch, dtype)) for key, value in layers(LENET).items()}
    tensors["conv1.bias"][:3] = torch.tensor([np.inf, -0.0, 1e-40]).to(getattr(torch, dtype))
    save(tensors, tmp_path / "net.safetensors")
    graph = fastconv.load(tmp_path / "net.safetensors").graph
    for name in LENET:
        for role, found in graph.node(name).weights.items():
            expected = tensors[f"{name}.{role}"].to(torch.float32).numpy()
            assert found.dtype == np.float32
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool", "float8_e4m3fn"])
def test_other_dtypes_are_refused(dtype: str, tmp_path: Path) -> None:
    save = pytest.importorskip("safetensors.torch").save_file
    tensors = {key: torch.from_numpy(value) for key, value in layers(LENET).items()}
    tensors["conv2.weight"] = tensors["conv2.weight"].to(getattr(torch, dtype))
    save(tensors, tmp_path / "net.safetensors")
    with pytest.raises(ModelFormatError, match=r"net\.safetensors: tensor 'conv2\.weight' has dtype"):
        fastconv.load(tmp_path / "net.safetensors")


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    arrays = layers(LENET)
    arrays["fc1.bias"] = arrays["fc1.bias"].astype(np.float64) + 1e300
    with pytest.raises(ModelFormatError, match=r"fc1\.bias.*too large for float32"):
        fastconv.load(save_safetensors(tmp_path, arrays))


def header(**tensors: tuple[str, list[int], list[int]]) -> bytes:
    text = json.dumps({k: {"dtype": d, "shape": s, "data_offsets": o} for k, (d, s, o) in tensors.items()}).encode()
    return len(text).to_bytes(8, "little") + text


HOSTILE = {
    "empty": b"",
    "seven bytes": b"\x01" * 7,
    "a length beyond the file": (2**40).to_bytes(8, "little") + b"{}",
    "the greatest length": b"\xff" * 8 + b"{}",
    "not JSON": (4).to_bytes(8, "little") + b"{{{{",
    "not UTF-8": (4).to_bytes(8, "little") + b"\xff\xfe\xff\xfe",
    "offsets beyond the file": header(a=("F32", [1000], [0, 4000])) + b"1234",
    "more elements than bytes": header(a=("F32", [1 << 40], [0, 4])) + b"1234",
    "a product of sizes that overflows": header(a=("F32", [1 << 33, 1 << 33], [0, 4])) + b"1234",
    "overlapping tensors": header(a=("F32", [1], [0, 4]), b=("F32", [1], [0, 4])) + b"1234",
    "a gap": header(a=("F32", [1], [0, 4]), b=("F32", [1], [8, 12])) + b"123412341234",
    "an unknown dtype": header(a=("F33", [1], [0, 4])) + b"1234",
    "negative offsets": header(a=("F32", [1], [-4, 0])) + b"1234",
    "a zip file": b"PK\x03\x04" + bytes(60),
    "nothing in it": (2).to_bytes(8, "little") + b"{}",
    "deep JSON": (100_000).to_bytes(8, "little") + b"[" * 100_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_damaged_files_give_our_error(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "net.safetensors"
    path.write_bytes(HOSTILE[kind])
    for architecture in (None, "resnet18"):
        with pytest.raises(ModelFormatError, match=r"net\.safetensors: "):
            fastconv.load(path, architecture=architecture)


def test_every_cut_gives_our_error(tmp_path: Path) -> None:
    path = save_safetensors(tmp_path, layers(LENET))
    whole = path.read_bytes()
    for end in [*range(0, 600, 7), *range(600, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:end])
        with pytest.raises(ModelFormatError):
            fastconv.load(path)


def test_every_flipped_byte_of_the_header_gives_our_error_or_a_model(tmp_path: Path) -> None:
    path = save_safetensors(tmp_path, layers({"conv1": (2, 1, 3, 3), "fc1": (2, 8)}))
    whole = path.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    for at in range(size):
        for bits in (0x01, 0x10, 0x80):
            damaged = bytearray(whole)
            damaged[at] ^= bits
            path.write_bytes(damaged)
            with contextlib.suppress(fastconv.FastconvError):
                fastconv.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    with pytest.raises(FileNotFoundError, match="nothing"):
        fastconv.load(tmp_path / "nothing.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="folder"):
        fastconv.load(tmp_path / "folder.safetensors")


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_safetensors(tmp_path, layers(LENET))
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastconv\[safetensors\]'"):
        fastconv.load(path)


def test_weights_outlive_the_file(tmp_path: Path) -> None:
    path = save_safetensors(tmp_path, layers(LENET))
    model = fastconv.load(path)
    x = np.ones((1, 1, 28, 28), np.float32)
    before = model(x)
    with path.open("r+b") as file:
        file.truncate(0)
    assert np.array_equal(model(x), before)
    assert all(np.isfinite(array).all() for node in model.graph.nodes for array in node.weights.values())
