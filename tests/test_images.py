"""Every form of image that `Model.predict` takes becomes the same batch; what is ambiguous is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv import ShapeError
from fastconv.errors import DTypeError, MissingExtraError
from fastconv.graph import Graph, Node
from fastconv.graph.preprocessing import Preprocessing
from fastconv.images import to_batch
from fastconv.model import Model

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (5, 7), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3), np.uint8)


def network(*shape: int, **preprocessing: Any) -> Graph:
    """A network that takes images of `shape`; what it computes does not matter here."""
    return Graph(shape, (Node("copy", "identity"),), ("copy",), preprocessing=Preprocessing(**preprocessing))


def to_tensor(pixels: np.ndarray) -> np.ndarray:
    """uint8 HxW or HxWxC to float32 (C, H, W) in 0..1."""
    return np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def floats(pixels: np.ndarray) -> np.ndarray:
    return (pixels / 255).astype(np.float32)


def assert_one(images: Any, graph: Graph, expected: np.ndarray) -> None:
    batch, single = to_batch(images, graph)
    assert single
    assert_batch(batch, expected[np.newaxis])


def assert_several(images: Any, graph: Graph, expected: np.ndarray) -> None:
    batch, single = to_batch(images, graph)
    assert not single
    assert_batch(batch, expected)


def assert_batch(batch: np.ndarray, expected: np.ndarray) -> None:
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(batch, expected, strict=True)


# --- scale ----------------------------------------------------------------------------------------


def test_every_uint8_value_is_scaled_bit_for_bit_like_torchvision():
    torch = pytest.importorskip("torch")
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = torch.from_numpy(pixels[np.newaxis]).to(torch.float32).div(255).numpy()  # ToTensor
    assert_one(pixels, network(1, 16, 16), expected)


def test_mean_and_std_are_applied_bit_for_bit_like_torchvision():
    torch = pytest.importorskip("torch")
    scaled = torch.from_numpy(to_tensor(COLOUR))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    expected = scaled.sub(mean).div(std).numpy()
    graph = network(3, 5, 7, mean=MEAN, std=STD)
    assert_one(COLOUR, graph, expected)
    assert_one(scaled.numpy(), graph, expected)  # floats too


@pytest.mark.parametrize("preprocessing", [{}, {"mean": MEAN, "std": STD}, {"mean": MEAN}, {"std": STD}])
@pytest.mark.parametrize("channels", [1, 3])
def test_predict_on_one_uint8_image_sees_the_same_bits(channels, preprocessing):
    # It looks pixels up in a table; `to_batch` computes them. Every value of a pixel is there, in every channel.
    preprocessing = {name: values[:channels] for name, values in preprocessing.items()}
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([np.roll(values, k) for k in range(channels)], axis=-1)
    expected = to_batch(image, network(channels, 16, 16, **preprocessing))[0].ravel()

    def largest_difference(sign: int, expected: np.ndarray) -> Any:
        """The class of the pixel with the largest of sign * (seen - expected), 0 where none is greater than 0."""
        weight = sign * np.eye(expected.size + 1, expected.size, -1, dtype=np.float32)
        bias = np.append(np.float32(0), -sign * expected)
        linear = Node("linear", "linear", ("flat",), weights={"weight": weight, "bias": bias})
        nodes = (Node("flat", "flatten"), linear)
        before = Preprocessing(**preprocessing)
        model = Model(Graph((channels, 16, 16), nodes, ("linear",), preprocessing=before), threads=1)
        assert model.predict(image) == model.predict([image])[0]
        return model.predict(image)

    assert [largest_difference(sign, expected) for sign in (1, -1)] == [0, 0]
    expected[100] = np.nextafter(expected[100], np.float32(9))  # one unit in the last place is seen
    assert [largest_difference(sign, expected) for sign in (1, -1)] == [0, 101]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4", ">f8"])
def test_floats_are_used_as_they_are(dtype):
    image = np.array([[-3.5, 0, 255], [1e4, np.inf, np.nan]]).astype(dtype)
    assert_one(image, network(1, 2, 3), image.astype(np.float32)[np.newaxis])


def test_bools_are_zero_and_one():
    mask = GRAY > 128
    assert_one(mask, network(1, 5, 7), mask.astype(np.float32)[np.newaxis])


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint16])
def test_other_integers_have_no_known_scale(dtype):
    with pytest.raises(DTypeError, match=r"scale.*astype\(np\.uint8\)"):
        to_batch(np.zeros((5, 7), dtype), network(1, 5, 7))


@pytest.mark.parametrize("image", [None, {}, 1j, np.zeros((5, 7), complex), np.array(["a"])])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(DTypeError, match="expects a PIL image"):
        to_batch(image, network(1, 5, 7))


# --- layout ---------------------------------------------------------------------------------------


def test_uint8_layouts():
    gray, colour = network(1, 5, 7), network(3, 5, 7)
    assert_one(GRAY, gray, to_tensor(GRAY))
    assert_one(GRAY[:, :, np.newaxis], gray, to_tensor(GRAY))
    assert_one(COLOUR, colour, to_tensor(COLOUR))
    assert_one(COLOUR.transpose(2, 0, 1), colour, to_tensor(COLOUR))
    expected = np.stack([to_tensor(GRAY)] * 2)
    assert_several(np.stack([GRAY] * 2), gray, expected)
    assert_several(np.stack([GRAY[:, :, np.newaxis]] * 2), gray, expected)
    expected = np.stack([to_tensor(COLOUR)] * 2)
    assert_several(np.stack([COLOUR] * 2), colour, expected)
    assert_several(np.stack([COLOUR.transpose(2, 0, 1)] * 2), colour, expected)


def test_float_layouts():
    gray, colour = network(1, 5, 7), network(3, 5, 7)
    image, planes = floats(GRAY), floats(COLOUR).transpose(2, 0, 1)
    assert_one(image, gray, image[np.newaxis])
    assert_one(image[np.newaxis], gray, image[np.newaxis])
    assert_one(planes, colour, planes)
    assert_one(planes.transpose(1, 2, 0), colour, planes)
    assert_several(np.stack([image] * 2), gray, np.stack([image[np.newaxis]] * 2))
    assert_several(np.stack([planes] * 2), colour, np.stack([planes] * 2))
    assert_several(np.stack([planes.transpose(1, 2, 0)] * 2), colour, np.stack([planes] * 2))


def test_one_gray_image_with_a_leading_axis():
    # (1, H, W): a float array of the network's input shape is one image; uint8 is a batch of one.
    graph = network(1, 5, 7)
    assert_one(floats(GRAY)[np.newaxis], graph, floats(GRAY)[np.newaxis])
    assert_several(GRAY[np.newaxis], graph, to_tensor(GRAY)[np.newaxis])


def test_lists_and_tuples_are_batches():
    graph = network(1, 5, 7)
    expected = np.stack([to_tensor(GRAY)] * 2)
    assert_several([GRAY, GRAY], graph, expected)
    assert_several((GRAY, GRAY[:, :, np.newaxis]), graph, expected)
    assert_several([GRAY], graph, expected[:1])
    assert_several([], graph, expected[:0])
    assert_several(np.empty((0, 5, 7), np.uint8), graph, expected[:0])


def test_nested_lists_of_numbers_are_one_array():
    image = floats(GRAY).astype(np.float64)
    assert_one(image.tolist(), network(1, 5, 7), image.astype(np.float32)[np.newaxis])


def test_strides_do_not_matter_and_nothing_is_modified():
    wide = RNG.integers(0, 256, (10, 14), np.uint8)
    before = wide.copy()
    assert_one(wide[::-2, ::2], network(1, 5, 7), to_tensor(wide[::-2, ::2]))
    image = floats(GRAY)
    batch, _ = to_batch(image, network(1, 5, 7))
    batch[:] = -1
    assert image.min() >= 0
    np.testing.assert_array_equal(wide, before)


def test_features_are_taken_as_they_are():
    graph = network(4)
    assert_one(np.arange(4.0), graph, np.arange(4, dtype=np.float32))
    assert_several(np.ones((2, 4)), graph, np.ones((2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"expects \(4,\) or \(N, 4\), got \(5,\)"):
        to_batch(np.zeros(5), graph)


def test_torch_tensors_are_arrays():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(COLOUR.transpose(2, 0, 1).copy())  # as torchvision.io decodes it
    assert_one(tensor, network(3, 5, 7), to_tensor(COLOUR))
    assert_several([tensor, tensor], network(3, 5, 7), np.stack([to_tensor(COLOUR)] * 2))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 3, 3, 3)])
def test_an_ambiguous_layout_is_refused(dtype, shape):
    with pytest.raises(ShapeError, match=r"channels first and as channels last.*PIL"):
        to_batch(np.zeros(shape, dtype), network(3, 3, 3))


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((6, 7), r"resize.*\.resize\(\(7, 5\)\)"),
        ((7, 5), "resize"),
        ((6, 7, 3), "resize"),
        ((2, 6, 7, 3), "resize"),
        ((5, 7), "3 channels.*np.stack"),
        ((2, 5, 7), "3 channels.*np.stack"),
        ((5, 7, 4), "3 channels.*PIL"),
        ((4, 5, 7), "3 channels"),
        ((2, 5, 7, 1), "3 channels"),
        ((), "HxWxC"),
        ((105,), "HxWxC"),
        ((1, 1, 5, 7, 3), "HxWxC"),
    ],
)
def test_a_wrong_shape_names_the_remedy(shape, remedy):
    with pytest.raises(ShapeError, match=f"predict: .*{remedy}"):
        to_batch(np.zeros(shape, np.uint8), network(3, 5, 7))


def test_a_wrong_image_in_a_list_is_named():
    with pytest.raises(ShapeError, match=r"image 1.*5x7"):
        to_batch([GRAY, GRAY.T], network(1, 5, 7))
    with pytest.raises(ShapeError, match="image 1 of the list is itself a batch of 2"):
        to_batch([GRAY, np.stack([GRAY] * 2)], network(1, 5, 7))
    with pytest.raises(ShapeError, match="rows that differ"):
        to_batch([[1.0, 2.0], [3.0]], network(1, 2, 2))


# --- Pillow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_pil_images_of_any_mode_are_converted(mode):
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(COLOUR).convert("RGB").convert(mode)
    assert_one(image, network(3, 5, 7), to_tensor(np.asarray(image.convert("RGB"))))
    assert_one(image, network(1, 5, 7), to_tensor(np.asarray(image.convert("L"))))


def test_paths_are_opened(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / "digit.png"
    image_module.fromarray(GRAY).save(path)
    for given in (path, str(path)):
        assert_one(given, network(1, 5, 7), to_tensor(GRAY))
    assert_several([path, GRAY], network(1, 5, 7), np.stack([to_tensor(GRAY)] * 2))
    with pytest.raises(FileNotFoundError):
        to_batch(tmp_path / "missing.png", network(1, 5, 7))


def test_a_pil_image_is_not_resized():
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(GRAY)
    with pytest.raises(ShapeError, match=r"expects 28x20 .* has 7x5; .*img\.resize\(\(28, 20\)\)"):
        to_batch(image, network(1, 20, 28))


@pytest.mark.parametrize("mode", ["I", "F", "I;16"])
def test_a_pil_image_without_a_known_white_is_refused(mode):
    image_module = pytest.importorskip("PIL.Image")
    with pytest.raises(DTypeError, match=f"mode '{mode}'"):
        to_batch(image_module.new(mode, (7, 5)), network(1, 5, 7))


@pytest.mark.parametrize("shape", [(2, 5, 7), (35,)])
def test_a_pil_image_needs_a_network_on_pictures(shape):
    image_module = pytest.importorskip("PIL.Image")
    with pytest.raises(ShapeError, match="does not fit a network"):
        to_batch(image_module.fromarray(GRAY), network(*shape))


def test_a_path_without_pillow_names_the_pip_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="pip install pillow"):
        to_batch(Path("digit.png"), network(1, 5, 7))


def test_arrays_do_not_import_pillow():
    code = (
        "import sys, numpy as np\n"
        "from fastconv.graph import Graph, Node\n"
        "from fastconv.images import to_batch\n"
        "graph = Graph((1, 5, 7), (Node('copy', 'identity'),), ('copy',))\n"
        "to_batch(np.zeros((5, 7), np.uint8), graph)\n"
        "sys.exit('PIL' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
