"""Resized and cropped pixels are torchvision's, for images of every size and mode."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_import import import_transforms

from fastconv import ShapeError
from fastconv.errors import MissingExtraError
from fastconv.graph import Graph, Node
from fastconv.graph.preprocessing import INTERPOLATIONS, Preprocessing
from fastconv.images import to_batch

Image = pytest.importorskip("PIL.Image")

SIZES = [(64, 64), (48, 97), (101, 33), (20, 300), (31, 17), (1, 5), (225, 224)]
"""Height and width: square, odd, narrow, smaller than the crop, almost the crop."""


def picture(height: int, width: int, *channels: int) -> np.ndarray:
    """A smooth uint8 image with noise, different in each channel."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / 7 + k) + np.cos(x / 5 - k) + (y * x) / (height * width) for k in range(*(channels or (1,)))]
    smooth = 100 + 45 * np.stack(waves, axis=-1)
    noisy = smooth + rng.normal(0, 30, smooth.shape)
    return noisy.clip(0, 255).astype(np.uint8).reshape(height, width, *channels)


def network(preprocessing: Preprocessing, *shape: int) -> Graph:
    return Graph(shape, (Node("copy", "identity"),), ("copy",), preprocessing=preprocessing)


def batch_of(image: Any, preprocessing: Preprocessing, *shape: int) -> np.ndarray:
    """What the network sees of one image."""
    batch, single = to_batch(image, network(preprocessing, *shape))
    assert single
    assert batch.dtype == np.float32
    assert batch.flags.c_contiguous
    return batch[0]


def assert_pixels(found: np.ndarray, expected: Any) -> None:
    """Compare with uint8 pixels (C, H, W), of which not one may be another."""
    expected = np.asarray(expected)
    assert expected.dtype == np.uint8
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected / np.float32(255))


@pytest.fixture(scope="module")
def v2() -> Any:
    return import_transforms().v2


def to_tensor(v2: Any, *steps: Any) -> Any:
    """torchvision's transform to a uint8 tensor."""
    return v2.Compose([*steps, v2.ToImage()])


# --- as torchvision on PIL images -----------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("resize", "crop"), [(40, 32), (33, 40), (32, (24, 40)), ((30, 41), (24, 40))], ids=str)
def test_resize_and_center_crop(v2: Any, size: tuple[int, int], interpolation: str, resize: Any, crop: Any) -> None:
    pixels = picture(*size, 3)
    expected = to_tensor(v2, v2.Resize(resize, interpolation), v2.CenterCrop(crop))(Image.fromarray(pixels))
    preprocessing = Preprocessing(resize, crop, interpolation)
    height, width = preprocessing.crop_size
    found = batch_of(pixels, preprocessing, 3, height, width)
    assert_pixels(found, expected)  # Pillow on both sides: the same pixels
    for form in (Image.fromarray(pixels), np.ascontiguousarray(pixels.transpose(2, 0, 1)), pixels.copy(order="F")):
        np.testing.assert_array_equal(batch_of(form, preprocessing, 3, height, width), found)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("resize", [7, 64, 65, 224])
def test_the_shorter_side_is_resized_as_torchvision_rounds(v2: Any, size: tuple[int, int], resize: int) -> None:
    expected = v2.Resize(resize)(Image.new("L", size[::-1])).size[::-1]
    assert Preprocessing(resize).resized(*size) == expected


@pytest.mark.parametrize("seed", range(20))
def test_random_sizes(v2: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size, crop = rng.integers(1, 120, 2).tolist(), rng.integers(1, 60, 2).tolist()
    resize = int(rng.integers(1, 80))
    interpolation = ("bilinear", "bicubic")[seed % 2]
    pixels = picture(*size, 3)
    expected = to_tensor(v2, v2.Resize(resize, interpolation), v2.CenterCrop(crop))(Image.fromarray(pixels))
    assert_pixels(batch_of(pixels, Preprocessing(resize, crop, interpolation), 3, *crop), expected)


def test_the_usual_preprocessing_of_imagenet(v2: Any) -> None:
    torch = pytest.importorskip("torch")
    v1, mean, std = import_transforms(), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    steps = [v2.Resize(256), v2.CenterCrop(224)]
    floats = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]  # times 1/255, where ToTensor divides by 255
    preprocessing = Preprocessing(256, 224, mean=mean, std=std)
    for size in ((333, 500), (500, 375), (224, 224), (256, 256), (100, 90)):
        pixels = picture(*size, 3)
        found = batch_of(pixels, preprocessing, 3, 224, 224)
        for convert, tolerance in ((floats, 1e-6), ([v1.ToTensor()], 0)):
            expected = v2.Compose([*steps, *convert, v2.Normalize(mean, std)])(Image.fromarray(pixels))
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=tolerance)


def test_one_of_the_two_alone(v2: Any) -> None:
    pixels = picture(50, 70, 3)
    image = Image.fromarray(pixels)
    cropped = batch_of(pixels, Preprocessing(crop_size=(60, 33)), 3, 60, 33)
    assert_pixels(cropped, to_tensor(v2, v2.CenterCrop((60, 33)))(image))
    resized = batch_of(pixels, Preprocessing(resize_size=(20, 30)), 3, 20, 30)
    assert_pixels(resized, to_tensor(v2, v2.Resize((20, 30)))(image))
    square = picture(50, 50, 3)
    resized = batch_of(square, Preprocessing(resize_size=20), 3, 20, 20)
    assert_pixels(resized, to_tensor(v2, v2.Resize(20))(Image.fromarray(square)))


@pytest.mark.parametrize("size", [(48, 97), (101, 33), (20, 90), (33, 47)], ids=str)
def test_torchvision_s_formula_written_out(size: tuple[int, int]) -> None:
    (height, width), resize, crop = size, 33, 40
    longer = int(resize * max(size) / min(size))
    new_width, new_height = (resize, longer) if width <= height else (longer, resize)
    pixels = picture(height, width, 3)
    image = np.asarray(Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BICUBIC))
    expected = np.zeros((crop, crop, 3), np.uint8)
    for y in range(crop):
        for x in range(crop):
            # Padding is rounded down above and to the left; the crop's corner to the nearest, halves to even.
            top = (crop - new_height) // 2 if crop > new_height else -round((new_height - crop) / 2)
            left = (crop - new_width) // 2 if crop > new_width else -round((new_width - crop) / 2)
            if 0 <= y - top < new_height and 0 <= x - left < new_width:
                expected[y, x] = image[y - top, x - left]
    assert_pixels(batch_of(pixels, Preprocessing(resize, crop, "bicubic"), 3, crop, crop), expected.transpose(2, 0, 1))


# --- forms of images ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize(("channels", "target"), [(3, "RGB"), (1, "L"), (4, "RGBA")])
def test_a_picture_of_any_mode_is_converted_and_then_resized(v2: Any, mode: str, channels: int, target: str) -> None:
    image = Image.fromarray(picture(61, 47, 4)).convert("RGB").convert(mode)
    if mode == "RGBA":
        image = Image.fromarray(picture(61, 47, 4))
    expected = to_tensor(v2, v2.Resize(32), v2.CenterCrop(30))(image.convert(target))
    assert_pixels(batch_of(image, Preprocessing(32, 30), channels, 30, 30), expected)


def test_gray_arrays(v2: Any) -> None:
    pixels, preprocessing = picture(61, 47), Preprocessing(32, 30)
    expected = to_tensor(v2, v2.Resize(32), v2.CenterCrop(30))(Image.fromarray(pixels))
    for form in (pixels, pixels[:, :, np.newaxis]):
        assert_pixels(batch_of(form, preprocessing, 1, 30, 30), expected)
    batch, single = to_batch(np.stack([pixels] * 3), network(preprocessing, 1, 30, 30))
    assert not single
    for image in batch:
        assert_pixels(image, expected)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_arrays_of_other_channels_are_resized_by_channel(v2: Any, channels: int) -> None:
    pixels = picture(61, 47, channels)
    planes = [
        to_tensor(v2, v2.Resize(32), v2.CenterCrop(30))(Image.fromarray(pixels[:, :, k])) for k in range(channels)
    ]
    found = batch_of(pixels, Preprocessing(32, 30), channels, 30, 30)
    assert_pixels(found, np.concatenate([plane.numpy() for plane in planes]))


def test_batches_and_lists_of_any_sizes() -> None:
    preprocessing = Preprocessing(32, 30)
    graph = network(preprocessing, 3, 30, 30)
    images = [picture(*size, 3) for size in SIZES]
    alone = [batch_of(image, preprocessing, 3, 30, 30) for image in images]
    batch, single = to_batch([images[0], Image.fromarray(images[1]), *images[2:]], graph)
    assert not single
    np.testing.assert_array_equal(batch, np.stack(alone))
    twice = np.stack([images[1], images[1][:, ::-1]])
    for form in (twice, twice.transpose(0, 3, 1, 2)):
        batch, single = to_batch(form, graph)
        assert not single
        np.testing.assert_array_equal(batch[0], alone[1])
        np.testing.assert_array_equal(batch[1], batch_of(twice[1], preprocessing, 3, 30, 30))
    batch, single = to_batch(np.empty((0, 50, 60, 3), np.uint8), graph)
    assert (batch.shape, single) == ((0, 3, 30, 30), False)


def test_files_are_opened_as_they_are_stored(v2: Any, tmp_path: Path) -> None:
    """An orientation in the EXIF data is left alone, as in torchvision's ImageFolder."""
    image = Image.fromarray(picture(61, 47, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "photo.png", exif=exif)
    expected = to_tensor(v2, v2.Resize(32), v2.CenterCrop(30))(image)
    assert_pixels(batch_of(tmp_path / "photo.png", Preprocessing(32, 30), 3, 30, 30), expected)


def test_floats_are_not_resized() -> None:
    preprocessing = Preprocessing(32, 30)
    image = picture(30, 30, 3).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(batch_of(image, preprocessing, 3, 30, 30), image)
    with pytest.raises(ShapeError, match=r"expects 30x30 pixels.*resize"):
        to_batch(np.zeros((3, 61, 47), np.float32), network(preprocessing, 3, 30, 30))


def test_another_scale() -> None:
    pixels = picture(61, 47, 3)
    base = batch_of(pixels, Preprocessing(32, 30), 3, 30, 30)
    raw = batch_of(pixels, Preprocessing(32, 30, scale=1), 3, 30, 30)
    np.testing.assert_array_equal(raw, np.rint(base * 255))
    normalized = batch_of(pixels, Preprocessing(32, 30, scale=1, mean=(128,) * 3, std=(64,) * 3), 3, 30, 30)
    np.testing.assert_array_equal(normalized, (raw - 128) / 64)


# --- without antialiasing -------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [32, 100, (20, 50)], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_without_antialiasing(v2: Any, size: tuple[int, int], interpolation: str, resize: Any, channels: int) -> None:
    torch = pytest.importorskip("torch")
    pixels = picture(*size, channels)
    steps = [v2.Resize(resize, interpolation, antialias=False), v2.CenterCrop((20, 50))]
    expected = to_tensor(v2, *steps)(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    preprocessing = Preprocessing(resize, (20, 50), interpolation, antialias=False)
    given = pixels[:, :, 0] if channels == 1 else pixels
    assert_pixels(batch_of(given, preprocessing, channels, 20, 50), expected)
    if channels == 3:
        assert_pixels(batch_of(Image.fromarray(pixels), preprocessing, 3, 20, 50), expected)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 50, 3), r"\(3, 50, 3\) can be read as channels first and as channels last; pass a PIL image"),
        ((2, 3, 50, 3), "channels first and as channels last"),
        ((50, 60), r"expects 3 channels, as HxWx3, 3xHxW or a batch of those, got shape \(50, 60\)"),
        ((50, 60, 4), r"expects 3 channels.*pass a PIL image"),
        ((50,), "expects 3 channels"),
        ((1, 1, 50, 60, 3), "expects 3 channels"),
        ((0, 60, 3), "image is empty, 0x60 pixels"),
        ((50, 0, 3), "image is empty, 50x0 pixels"),
        ((1, 200_000, 3), r"1x200000 pixels .* resized to 32x6400000, more than \d+ pixels; crop"),
    ],
)
def test_arrays_that_are_no_image(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=f"predict: .*{message}"):
        to_batch(np.zeros(shape, np.uint8), network(Preprocessing(32, 30), 3, 30, 30))


def test_an_image_in_a_list_is_named() -> None:
    images = [picture(40, 50, 3), picture(40, 50)]
    with pytest.raises(ShapeError, match="image 1: expects 3 channels"):
        to_batch(images, network(Preprocessing(32, 30), 3, 30, 30))


def test_a_size_that_nothing_brings_about() -> None:
    graph = network(Preprocessing(resize_size=32), 3, 32, 32)
    assert to_batch(picture(50, 50, 3), graph)[0].shape == (1, 3, 32, 32)
    with pytest.raises(ShapeError, match=r"expects 32x32 pixels .* has 32x48 after it was resized; .* crop it first"):
        to_batch(picture(40, 60, 3), graph)


def test_without_pillow_only_resizing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    graph = network(Preprocessing(32, 30), 3, 30, 30)
    assert to_batch(picture(32, 40, 3), graph)[0].shape == (1, 3, 30, 30)  # only cropped
    with pytest.raises(MissingExtraError, match=r"61x47 pixels to 41x32 needs Pillow; pip install .fastconv\[images\]"):
        to_batch(picture(61, 47, 3), graph)
    to_batch(picture(61, 47, 3), network(Preprocessing(32, 30, antialias=False), 3, 30, 30))
