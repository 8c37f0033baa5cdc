"""The model that ships with fastconv, on the digits drawn for this project and on MNIST."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from checks import TOLERANCE, assert_close
from interpreter import run_graph
from numpy.typing import NDArray

import fastconv

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "models" / "lenet.npz"
DIGITS = [ROOT / "examples" / "digits" / f"{digit}.png" for digit in range(10)]
MNIST = Path(os.environ.get("FASTCONV_MNIST") or ROOT.parent / "shared" / "mnist")
F32 = TOLERANCE[np.dtype(np.float32)]


@pytest.fixture(scope="module")
def training() -> ModuleType:
    """``models/train_lenet.py``, imported: the network and the reading of MNIST stand there."""
    spec = importlib.util.spec_from_file_location("train_lenet", ROOT / "models" / "train_lenet.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net(training: ModuleType) -> torch.nn.Module:
    """The network in PyTorch, with the weights of the file."""
    net = training.LeNet()
    with np.load(FILE) as arrays:
        net.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays})
    return net.eval()


@pytest.fixture(scope="module")
def model() -> fastconv.Model:
    return fastconv.load(FILE)


@pytest.fixture(scope="module")
def saved(model: fastconv.Model, tmp_path_factory: pytest.TempPathFactory) -> fastconv.Model:
    """The same model, read back from fastconv's own kind of file."""
    path = tmp_path_factory.mktemp("saved") / "lenet.npz"
    model.save(path)
    return fastconv.load(path)


@pytest.fixture(scope="module")
def test_set(training: ModuleType) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(10000, 28, 28) images and (10000,) labels."""
    try:
        images, labels = training.load_mnist(MNIST, "t10k")
    except FileNotFoundError as error:
        if "FASTCONV_MNIST" in os.environ:
            raise
        pytest.skip(f"MNIST's test images are not here; set FASTCONV_MNIST to their folder: {error}")
    assert images.shape == (10_000, 28, 28)
    return images, labels


@torch.inference_mode()
def run_torch(net: torch.nn.Module, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([net(part).numpy() for part in torch.from_numpy(x).split(1000)])


def as_input(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return images[:, None].astype(np.float32) / np.float32(255)


def example_digits() -> NDArray[np.uint8]:
    return np.stack([np.asarray(Image.open(path)) for path in DIGITS])


def test_the_file_is_a_plain_state_dict(net: torch.nn.Module) -> None:
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    with np.load(FILE, allow_pickle=False) as arrays:
        assert {name: arrays[name].shape for name in arrays} == expected
        assert {arrays[name].dtype for name in arrays} == {np.dtype(np.float32)}


@pytest.mark.parametrize("batch", [1, 2, 7, 33])
def test_random_inputs_as_in_pytorch(model: fastconv.Model, net: torch.nn.Module, batch: int) -> None:
    x = np.random.default_rng(batch).random((batch, 1, 28, 28), np.float32)
    assert_close(model(x), run_torch(net, x), F32)


def test_example_digits_as_in_pytorch(model: fastconv.Model, net: torch.nn.Module) -> None:
    x = as_input(example_digits())
    assert_close(model(x), run_torch(net, x), F32)


def test_example_digits_are_predicted_right(model: fastconv.Model) -> None:
    assert [model.predict(path) for path in DIGITS] == list(range(10))
    assert [model.predict(Image.open(path)) for path in DIGITS] == list(range(10))
    np.testing.assert_array_equal(model.predict(example_digits()), range(10))


def test_example_digits_are_grayscale_and_drawn_by_their_script(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("draw", ROOT / "examples" / "draw_digits.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for path, digit in zip(DIGITS, script.DIGITS, strict=True):
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", (28, 28))
            difference = np.asarray(image, np.int16) - np.asarray(script.draw(digit), np.int16)
        assert np.abs(difference).max() <= 16  # Pillow's circles differ a little between versions


def test_what_the_script_exports_is_read_as_the_same_network(training: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(1)
    untrained = training.LeNet().eval()
    path = tmp_path / "untrained.npz"
    training.export(untrained, path)
    assert [file.name for file in tmp_path.iterdir()] == ["untrained.npz"]
    x = np.random.default_rng(0).random((3, 1, 28, 28), np.float32)
    assert_close(fastconv.load(path)(x), run_torch(untrained, x), F32)


def test_the_script_names_the_missing_files(
    training: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["train_lenet.py", str(tmp_path)])
    assert training.main() == 2
    assert "train10k-images-idx3-ubyte.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x00\x08",
        b"\x00\x00\x08\x03\x00\x00",
        b"PK\x03\x04....",
        b"\x00\x00\x08\x01\x00\x00\x00\x05abcd",
        b"\x1f\x8b\x08 cut",
    ],
)
def test_the_script_refuses_what_is_no_idx_file(training: ModuleType, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "labels"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="labels"):
        training.read_idx(path)


def test_accuracy_on_mnist(model: fastconv.Model, test_set: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    images, labels = test_set
    assert np.mean(model.predict(images) == labels) >= 0.99


def test_all_agree_on_mnist(
    model: fastconv.Model,
    saved: fastconv.Model,
    net: torch.nn.Module,
    test_set: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    images, _ = test_set
    x = as_input(images)
    outputs = model(x)
    np.testing.assert_array_equal(saved(x), outputs)
    oracle = np.concatenate([run_graph(model.graph, part)[0] for part in np.split(x, 20)])
    for expected in (run_torch(net, x), oracle):
        assert_close(outputs, expected, F32)
        np.testing.assert_array_equal(outputs.argmax(1), expected.argmax(1))
    np.testing.assert_array_equal(saved.predict(images), outputs.argmax(1))
