"""from_torch(transforms=…): torchvision's and timm's ways to say what is done to an image, and the same pixels."""

from __future__ import annotations

import math
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from torchvision_import import import_torchvision, import_transforms

import fastconv
from fastconv.errors import ArgumentError
from fastconv.formats.transforms import preprocessing_of
from fastconv.graph import Graph, Node
from fastconv.graph.preprocessing import INTERPOLATIONS, Preprocessing
from fastconv.images import to_batch

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(48, 97), (101, 33), (20, 90), (64, 64)]
SHAPE = (3, 32, 32)


@pytest.fixture(scope="module")
def v1() -> Any:
    return import_transforms()


@pytest.fixture(scope="module")
def v2(v1: Any) -> Any:
    return v1.v2


def picture(height: int, width: int) -> np.ndarray:
    """A smooth uint8 image with noise."""
    rng = np.random.default_rng(height)
    y, x = np.mgrid[:height, :width]
    smooth = 128 + 40 * (np.sin(y / 5) + np.cos(x / 9))[:, :, np.newaxis]
    return (smooth + rng.normal(0, 30, (height, width, 3))).clip(0, 255).astype(np.uint8)


def assert_same_pixels(transforms: Any, preprocessing: Preprocessing, tolerance: float = 0) -> None:
    """Compare what the network sees of PIL images, to a part of a pixel's range of 0..1."""
    graph = Graph(SHAPE, (Node("copy", "identity"),), ("copy",), preprocessing=preprocessing)
    std = np.float32(1 if preprocessing.std is None else min(preprocessing.std))
    for size in SIZES:
        image = Image.fromarray(picture(*size))
        expected = transforms(image).numpy()
        found, single = to_batch(image, graph)
        assert single
        assert found[0].shape == expected.shape == SHAPE
        # Conversions by ToDtype multiply by 1/255 where ToTensor divides by 255: one unit in the last place.
        assert np.abs(found[0] - expected).max() * std <= tolerance + 1e-6 * max(1, np.abs(expected).max())


# --- torchvision ----------------------------------------------------------------------------------


def test_the_presets_of_weights(v1: Any) -> None:
    models = import_torchvision().models
    seen = set()
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            found = preprocessing_of(preset, (3, *preset.crop_size * 2))
            assert found == Preprocessing(
                preset.resize_size[0], preset.crop_size[0], preset.interpolation.value, mean=preset.mean, std=preset.std
            )
            seen.add(found)
    assert len(seen) > 10
    assert Preprocessing(256, 224, mean=MEAN, std=STD) in seen
    assert Preprocessing(384, 384, "bicubic", mean=MEAN, std=STD) in seen  # ViT's


@pytest.mark.parametrize("interpolation", ["BILINEAR", "BICUBIC", "NEAREST", "NEAREST_EXACT"])
def test_pixels_of_a_preset(v1: Any, interpolation: str) -> None:
    from torchvision.transforms._presets import ImageClassification

    mode = v1.InterpolationMode[interpolation]
    preset = ImageClassification(crop_size=32, resize_size=40, interpolation=mode)
    assert_same_pixels(preset, preprocessing_of(preset, SHAPE))


def compositions(v1: Any, v2: Any) -> dict[str, tuple[list[Any], Preprocessing]]:
    bicubic = v1.InterpolationMode.BICUBIC
    norm = {"mean": MEAN, "std": STD}
    to_float = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    return {
        "v1": (
            [v1.Resize(40), v1.CenterCrop(32), v1.ToTensor(), v1.Normalize(MEAN, STD)],
            Preprocessing(40, 32, **norm),
        ),
        "v2": ([v2.Resize(40), v2.CenterCrop(32), *to_float, v2.Normalize(MEAN, STD)], Preprocessing(40, 32, **norm)),
        "exact": ([v1.Resize((32, 32), bicubic), v1.ToTensor()], Preprocessing((32, 32), None, "bicubic")),
        "number": ([v2.Resize([32, 32], 3), *to_float], Preprocessing((32, 32), None, "bicubic")),
        "crop_only": ([v1.CenterCrop((32, 32)), v1.ToTensor()], Preprocessing(None, 32)),
        "one_of_a_list": ([v2.Resize([36]), v2.CenterCrop([32]), v2.ToTensor()], Preprocessing(36, 32)),
        "nearest": ([v2.Resize(36, "nearest"), v2.CenterCrop(32), *to_float], Preprocessing(36, 32, "nearest")),
        "nearest_exact": (
            [v2.Resize(36, "nearest-exact", antialias=False), v2.CenterCrop(32), *to_float],
            Preprocessing(36, 32, "nearest"),
        ),
        "pil_is_always_antialiased": (
            [v2.Resize(36, antialias=False), v2.CenterCrop(32), *to_float],
            Preprocessing(36, 32),
        ),
        "convert": (
            [v1.Resize(36), v1.CenterCrop(32), v1.PILToTensor(), v1.ConvertImageDtype(torch.float32)],
            Preprocessing(36, 32),
        ),
        "0_to_255": (
            [v2.Resize(36), v2.CenterCrop(32), v2.PILToTensor(), v2.ToDtype(torch.float32), v2.Normalize([128], [64])],
            Preprocessing(36, 32, scale=1, mean=(128,) * 3, std=(64,) * 3),
        ),
        "nested": (
            [v1.Compose([v1.Resize(36)]), torch.nn.Sequential(v2.CenterCrop(32), v2.ToImage()), *to_float],
            Preprocessing(36, 32),
        ),
        "tensor_first": (
            [v2.ToImage(), v2.ToDtype(torch.uint8), v2.Resize(36), v2.CenterCrop(32), *to_float, v2.ToPureTensor()],
            Preprocessing(36, 32),
        ),
        "tensor_bicubic": (
            [v2.PILToTensor(), v2.Resize(36, 3), v2.CenterCrop(32), *to_float],
            Preprocessing(36, 32, "bicubic"),
        ),
        "tensor_not_antialiased": (
            [v2.ToImage(), v2.Resize(36, antialias=False), v2.CenterCrop(32), *to_float],
            Preprocessing(36, 32, antialias=False),
        ),
        "tensor_legacy": (
            [v2.ToImage(), v2.Resize(36, 3, antialias=None), v2.CenterCrop(32), *to_float],
            Preprocessing(36, 32, "bicubic", antialias=False),
        ),
        "float_first": (
            [v1.ToTensor(), v1.Resize(36), v1.CenterCrop(32), v1.Normalize(MEAN, STD)],
            Preprocessing(36, 32, **norm),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", compositions(import_transforms(), import_transforms().v2))
def test_compositions(v1: Any, v2: Any, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # v2.ToTensor is deprecated; antialias does nothing to PIL images
        steps, expected = compositions(v1, v2)[name]
        transforms = v1.Compose(steps)
        found = preprocessing_of(transforms, SHAPE)
        assert found == expected
        # Of tensors, torchvision resizes with its own code, to a level of the pixels.
        assert_same_pixels(transforms, found, tolerance=1 / 255 if name.startswith(("tensor", "float")) else 0)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation(v1: Any, v2: Any, interpolation: str) -> None:
    enum = v1.InterpolationMode(interpolation)
    for mode in (enum, interpolation):
        steps = [v2.Resize(40, mode), v2.CenterCrop(32), v1.ToTensor()]
        found = preprocessing_of(v2.Compose(steps), SHAPE)
        assert found == Preprocessing(40, 32, interpolation)
        assert_same_pixels(v2.Compose(steps), found)
    resize = v1.Resize(40, enum)
    assert preprocessing_of(v1.Compose([resize, v1.ToTensor()]), SHAPE).interpolation == interpolation


def test_no_change_of_size(v1: Any) -> None:
    found = preprocessing_of(v1.Compose([v1.ToTensor(), v1.Normalize((0.13,), (0.31,))]), (1, 28, 28))
    assert found == Preprocessing(mean=(0.13,), std=(0.31,))
    assert preprocessing_of(v1.ToTensor(), SHAPE) == Preprocessing()


class Own:
    """Nobody's transform, with a name that is known."""

    def __repr__(self) -> str:
        return "Own(3)"


class Resize(Own):
    pass


def refusals(v1: Any, v2: Any) -> dict[str, tuple[Any, str]]:
    tensor = v1.ToTensor()
    return {
        "flip": (v1.Compose([v1.Resize(40), v1.RandomHorizontalFlip(), tensor]), r"HorizontalFlip\(p=0.5\) is not"),
        "lambda": (v1.Compose([tensor, v1.Lambda(abs)]), r"Lambda\(\) is not supported"),
        "own": (v1.Compose([Own()]), r"Own\(3\) is not supported"),
        "own_of_a_known_name": (v1.Compose([Resize()]), r"Own\(3\) is not supported"),
        "function": (lambda image: image, "function .* is not supported; transforms is what"),
        "not_called": (partial(v1.ToTensor), "functools.partial.* is not supported"),
        "text": ("imagenet", "'imagenet' is not supported"),
        "max_size": (v1.Compose([v1.Resize(40, max_size=50), tensor]), "has max_size"),
        "resize_twice": (v1.Compose([v1.Resize(40), v1.Resize(30), tensor]), r"Resize\(size=30.*comes too late"),
        "crop_first": (v1.Compose([v1.CenterCrop(40), v1.Resize(30), tensor]), r"Resize\(size=30.*comes too late"),
        "normalize_twice": (v1.Compose([tensor, v1.Normalize(MEAN, STD), v1.Normalize(MEAN, STD)]), "comes too late"),
        "crop_last": (v1.Compose([tensor, v1.Normalize(MEAN, STD), v1.CenterCrop(32)]), "CenterCrop.* comes too late"),
        "no_tensor": (v1.Compose([v1.Resize(40)]), "would get a PIL image; add ToTensor"),
        "no_floats": (v1.Compose([v2.PILToTensor()]), "would get a uint8 tensor; add ToTensor"),
        "pil_dtype": (v2.Compose([v2.ToDtype(torch.float32, scale=True)]), "does nothing to a PIL image; put ToImage"),
        "half": (v2.Compose([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)]), "makes torch.float16 of a uint8"),
        "back": (v2.Compose([tensor, v2.ToDtype(torch.uint8, scale=True)]), "makes torch.uint8 of a float"),
        "pil_normalize": (v1.Normalize(MEAN, STD), "Normalize.* takes a float tensor, and gets a PIL image"),
        "tensor_twice": (v1.Compose([tensor, tensor]), r"ToTensor\(\) takes a PIL image, and gets a float tensor"),
        "tensor_nearest": (v2.Compose([v2.ToImage(), v2.Resize(40, "nearest")]), "uint8 tensor takes other pixels"),
        "tensor_exact": (v2.Compose([v2.ToImage(), v2.Resize(40, "nearest-exact")]), "takes other .* put Resize first"),
        "float_bicubic": (v2.Compose([tensor, v2.Resize(40, 3)]), "of a float tensor takes other pixels"),
        "size": (v1.Compose([v1.CenterCrop(31), tensor]), "crop_size gives 31x31 .* takes 32x32"),
        "channels": (v1.Compose([tensor, v1.Normalize((0.5, 0.5), (1, 1))]), "one number .* 3 channels, got 2"),
        "zero_std": (v1.Compose([tensor, v1.Normalize(MEAN, (1, 1, 0))]), "std must be finite and positive"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals(import_transforms(), import_transforms().v2))
def test_what_is_not_understood_is_named(v1: Any, v2: Any, name: str) -> None:
    transforms, message = refusals(v1, v2)[name]
    with pytest.raises(ArgumentError, match=message):
        preprocessing_of(transforms, SHAPE).settled(SHAPE)


@pytest.mark.parametrize("name", ["SemanticSegmentation", "ObjectDetection", "VideoClassification"])
def test_other_presets_are_named(v1: Any, name: str) -> None:
    from torchvision.transforms import _presets

    sizes = {"crop_size": (32, 32)} if name.startswith("Video") else {}
    sizes |= {} if name.startswith("Object") else {"resize_size": (40, 40) if sizes else 40}
    with pytest.raises(ArgumentError, match=f"{name}.* is not supported"):
        preprocessing_of(getattr(_presets, name)(**sizes), SHAPE)


# --- timm -----------------------------------------------------------------------------------------


def config(**changes: Any) -> dict[str, Any]:
    """What timm.data.resolve_model_data_config gives, with changes to it; ... removes a key."""
    usual = {"input_size": SHAPE, "interpolation": "bicubic", "mean": MEAN, "std": STD, "crop_pct": 0.875}
    return {key: value for key, value in (usual | {"crop_mode": "center"} | changes).items() if value is not ...}


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("crop_mode", ["center", "squash", None, ...], ids=str)
def test_timm_s_formula(v1: Any, interpolation: str, crop_pct: float, crop_mode: Any) -> None:
    given = config(interpolation=interpolation, crop_pct=crop_pct, crop_mode=crop_mode)
    scale_size = math.floor(32 / crop_pct)
    size = (scale_size, scale_size) if crop_mode == "squash" else scale_size
    steps = [v1.Resize(size, v1.InterpolationMode(interpolation)), v1.CenterCrop((32, 32)), v1.ToTensor()]
    transforms = v1.Compose([*steps, v1.Normalize(torch.tensor(MEAN), torch.tensor(STD))])
    found = preprocessing_of(given, SHAPE)
    assert found == Preprocessing(size, 32, interpolation, mean=MEAN, std=STD)
    assert_same_pixels(transforms, found)
    composed = preprocessing_of(transforms, SHAPE)  # as timm.data.create_transform writes it
    assert (composed.resize_size, composed.crop_size) == (found.resize_size, found.crop_size)


def test_a_transform_that_timm_adds(v1: Any) -> None:
    maybe = type("MaybeToTensor", (v1.ToTensor,), {"__module__": "timm.data.transforms"})
    assert preprocessing_of(v1.Compose([v1.Resize(40), v1.CenterCrop(32), maybe()]), SHAPE) == Preprocessing(40, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": (3, 224, 224)}, r"input_size is \(3, 224, 224\), the network's input_shape \(3, 32, 32\)"),
        ({"input_size": 32}, "input_size is 32"),
        ({"crop_mode": "border"}, "crop_mode must be 'center' or 'squash', got 'border'"),
        ({"crop_pct": 0}, "crop_pct must be finite and positive"),
        ({"crop_pct": float("nan")}, "crop_pct must be finite and positive"),
        ({"crop_pct": "all"}, "crop_pct must be a number"),
        ({"interpolation": "random"}, "interpolation must be one of .*, got 'random'"),
        ({"crop_border_pixels": 2}, "has no key 'crop_border_pixels'"),
        ({"architecture": "resnet18"}, "has no key 'architecture'; .*resolve_model_data_config"),
        ({"crop_pct": ...}, "needs the key 'crop_pct'"),
        ({"mean": ...}, "needs the key 'mean'"),
    ],
    ids=str,
)
def test_configs_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        preprocessing_of(config(**changes), SHAPE)


def test_a_config_of_images_that_are_not_square() -> None:
    with pytest.raises(ArgumentError, match="'center' is supported for square images"):
        preprocessing_of(config(input_size=(3, 32, 64)), (3, 32, 64))
    found = preprocessing_of(config(input_size=(3, 32, 64), crop_mode="squash"), (3, 32, 64))
    assert (found.resize_size, found.crop_size) == ((36, 73), (32, 64))


# --- from_torch -----------------------------------------------------------------------------------


def net() -> Any:
    torch.manual_seed(0)
    nn = torch.nn
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 6)
    )
    return layers.eval()


def test_a_model_from_torch_sees_what_the_module_saw(v1: Any, tmp_path: Any) -> None:
    from torchvision.transforms._presets import ImageClassification

    module, labels = net(), ["ant", "bee", "cat", "dog", "eel", "fox"]
    preset = ImageClassification(crop_size=32, resize_size=40)
    model = fastconv.from_torch(module, SHAPE, labels=labels, transforms=preset)
    model.save(tmp_path / "model.npz")
    loaded = fastconv.load(tmp_path / "model.npz")
    assert loaded.preprocessing == model.preprocessing == Preprocessing(40, 32, mean=MEAN, std=STD)
    assert fastconv.from_torch(module, SHAPE, transforms=model.preprocessing).preprocessing == model.preprocessing
    for size in SIZES:
        image = Image.fromarray(picture(*size))
        image.save(tmp_path / "picture.png")
        with torch.no_grad():
            expected = torch.softmax(module(preset(image)[None]), 1)[0]
        best, order = expected.sort(descending=True)
        for given in (image, picture(*size), tmp_path / "picture.png"):
            found = loaded.predict(given, top=3)
            assert [label for label, _ in found] == [labels[i] for i in order[:3]]
            np.testing.assert_allclose([share for _, share in found], best[:3], rtol=1e-4)
            assert loaded.predict(given) == found[0][0]


@pytest.mark.parametrize("more", [{"mean": MEAN}, {"std": STD}])
def test_two_ways_to_say_it_are_refused(v1: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=r"transforms and mean or std were given.*leave one out"):
        fastconv.from_torch(net(), SHAPE, transforms=v1.ToTensor(), **more)
