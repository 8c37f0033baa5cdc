"""Whole networks as they are published, with random weights: all of torchvision's, and one of each family of timm's.

``make test-zoo`` runs them, and writes what was found to docs/networks.json, which docs/operators.md shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torchvision_import import import_torchvision
from torchvision_nets import RANDOM, detector, models
from zoo import prepared, through_module, through_onnx
from zoo_lists import (
    CLASSIFIERS,
    DETECTORS,
    FAMILIES,
    LARGE,
    REFUSED,
    SEGMENTATION,
    SHIFTS,
    THROUGH_NEWER_ONNX,
    THROUGH_ONNX,
)

import fastconv
from fastconv.errors import UnsupportedOperatorError

pytestmark = pytest.mark.zoo

Record = Callable[[str, Any], None]
SLOW_TO_INITIALISE = ("googlenet", "inception_v3")


def classifier(name: str, size: int) -> Any:
    """Return one of torchvision's classifiers, whose parameters all matter."""
    import torch

    options: dict[str, Any] = {"init_weights": False} if name in SLOW_TO_INITIALISE else {}
    if name.startswith("vit"):
        options["image_size"] = size
    library = models()
    torch.manual_seed(0)
    return prepared(library.get_model(name, weights=None, **options), (3, size, size))


def check(
    record: Record, source: str, name: str, size: int, net: Any, path: Path | None = None, *, newer: bool = False
) -> None:
    """Compare a network with PyTorch, and write down the error; with a path, by way of an ONNX file there."""
    shape = (3, size, size)
    error = through_module(net, shape) if path is None else through_onnx(net, shape, path, newer=newer)
    way = "pytorch" if path is None else "onnx, newer" if newer else "onnx"
    record("network", [source, name, size, way, error])


def test_the_lists_hold_all_that_torchvision_has() -> None:
    library = models()
    assert set(CLASSIFIERS) == set(library.list_models(module=library))
    assert set(SEGMENTATION) == set(library.list_models(module=library.segmentation))
    assert set(DETECTORS) == set(library.list_models(module=library.detection))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group("large") if name in LARGE else ()) for name in CLASSIFIERS],
)
def test_a_classifier_equals_pytorch(name: str, record_property: Record) -> None:
    size = CLASSIFIERS[name]
    check(record_property, "torchvision", name, size, classifier(name, size))


@pytest.mark.parametrize("name", THROUGH_ONNX)
def test_a_classifier_through_onnx_equals_pytorch(name: str, record_property: Record, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    size = CLASSIFIERS[name]
    check(record_property, "torchvision", name, size, classifier(name, size), tmp_path / "net.onnx")


@pytest.mark.parametrize("name", THROUGH_NEWER_ONNX)
def test_a_classifier_through_the_newer_exporter_equals_pytorch(
    name: str, record_property: Record, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    size = CLASSIFIERS[name]
    net = classifier(name, size)
    check(record_property, "torchvision", name, size, net, tmp_path / "net.onnx", newer=True)


@pytest.fixture(params=["module", "onnx"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Return where the network's ONNX file goes, or None where the module itself is read."""
    if request.param == "module":
        return None
    pytest.importorskip("onnx")
    return tmp_path / "net.onnx"


@pytest.mark.parametrize("name", SEGMENTATION)
def test_segmentation_equals_pytorch(name: str, record_property: Record, path: Path | None) -> None:
    import torch

    library, size = models(), SEGMENTATION[name]
    torch.manual_seed(0)
    net = library.get_model(name, num_classes=7, **RANDOM)
    check(record_property, "torchvision: segmentation", name, size, prepared(net, (3, size, size)), path)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_convolutional_in_a_detector_equals_pytorch(
    name: str, record_property: Record, path: Path | None
) -> None:
    size = DETECTORS[name]
    import torch

    torch.manual_seed(0)
    check(record_property, "torchvision: detection", name, size, prepared(detector(name), (3, size, size), 2), path)


# timm --------------------------------------------------------------------------------------------


def timm() -> Any:
    """Return the package; skips the test where it is not installed."""
    import_torchvision()  # which timm imports
    models()
    return pytest.importorskip("timm")


def test_the_lists_hold_all_of_timm_s_families() -> None:
    library = timm()
    assert set(FAMILIES) == set(library.list_modules())
    assert set(REFUSED) <= {name for name, *_ in FAMILIES.values()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_member_of_each_family_equals_pytorch_or_is_refused(family: str, record_property: Record) -> None:
    import torch

    library = timm()
    name, size, options = FAMILIES[family]
    torch.manual_seed(0)
    net = library.create_model(name, pretrained=False, **options)
    if name not in REFUSED:
        check(record_property, "timm", name, size, prepared(net, (3, size, size), shift=SHIFTS.get(name, 0.5)))
        return
    with pytest.raises(UnsupportedOperatorError) as refusal:
        fastconv.from_torch(net.eval(), (3, size, size))
    message = str(refusal.value)
    assert re.search(REFUSED[name], message)
    assert message.startswith("forward of ") or re.match(r"[\w.]+ \([\w.]+\): ", message), "names the layer"
    record_property("network", ["timm", name, size, "pytorch", REFUSED[name]])
