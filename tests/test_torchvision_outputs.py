"""torchvision's networks with several outputs, small: segmentation, and what is convolutional in detectors."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_nets import RANDOM, detector, models, randomised

import fastconv


def segmentation(name: str, **options: Any) -> Any:
    return models().get_model(name, num_classes=7, **RANDOM, **options)


FEATURES = tuple(f"features.{name}" for name in ("0", "1", "2", "p6", "p7"))
NETWORKS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "fcn_resnet50": (lambda: segmentation("fcn_resnet50", aux_loss=True), ("out", "aux")),
    "deeplabv3_resnet50": (lambda: segmentation("deeplabv3_resnet50", aux_loss=True), ("out", "aux")),
    "lraspp_mobilenet_v3_large": (lambda: segmentation("lraspp_mobilenet_v3_large"), ("out",)),
    "fasterrcnn_resnet50_fpn": (lambda: detector("fasterrcnn_resnet50_fpn"), ("0", "1", "2", "3", "pool")),
    "retinanet_resnet50_fpn": (
        lambda: detector("retinanet_resnet50_fpn"),
        (*FEATURES, "cls_logits", "bbox_regression"),
    ),
    "fcos_resnet50_fpn": (
        lambda: detector("fcos_resnet50_fpn"),
        (*FEATURES, "cls_logits", "bbox_regression", "bbox_ctrness"),
    ),
}


def flat(value: Any, name: str = "") -> dict[str, np.ndarray]:
    """Return name -> array of what a module returns."""
    if not isinstance(value, dict):
        return {name: value.numpy()}
    return {key: x for part, item in value.items() for key, x in flat(item, f"{name}.{part}" if name else part).items()}


def assert_close(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for name, want in expected.items():
        assert actual[name].shape == want.shape, name
        assert np.abs(actual[name] - want).max() <= 1e-4 * np.abs(want).max(), name
        assert np.ptp(want, axis=0).max() > 1e-3 * np.abs(want).max(), f"{name} does not depend on the image"


def by_name(model: fastconv.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    y = model(x)
    return dict(y) if isinstance(y, tuple) else {model.output_names[0]: y}


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_pytorchs(name: str) -> None:
    import torch

    torch.manual_seed(0)
    build, names = NETWORKS[name]
    net = randomised(build())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = flat(net(x))
    model = fastconv.from_torch(net, (3, 64, 64))
    assert model.output_names == names
    assert_close(by_name(model, x.numpy()), expected)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "fcn_resnet50", "fasterrcnn_resnet50_fpn"])
def test_outputs_through_onnx(name: str, tmp_path: Path) -> None:
    import torch

    pytest.importorskip("onnx")
    torch.manual_seed(0)
    build, names = NETWORKS[name]
    net = randomised(build())
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.randn(2, 3, 64, 64),),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=[f"out_{name}" for name in names],  # an exporter refuses numbers
            dynamic_axes={"image": {0: "batch"}},
            opset_version=17,
        )
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = flat(net(x))
    assert_close(by_name(fastconv.load(path), x.numpy()), {f"out_{name}": y for name, y in expected.items()})
