"""Networks of torchvision and timm, in the sizes they are published in: how they are prepared, run and compared."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import fastconv

TOLERANCE = 1e-4
"""Of the largest output."""


def prepared(net: Any, shape: tuple[int, ...], images: int = 8, shift: float = 0.5) -> Any:
    """Give an untrained network parameters that all matter, and statistics that keep activations in range.

    What a new network has as a constant (biases of 0, scales of 1 or 1e-6) would hide what is done with it, and so
    would matrices of nearly 0. Batch norms measure their statistics on random images, all else is in ``eval()`` mode.

    What they add is about `shift`. Where an activation follows, one above 0 makes that nearly linear; else rounding
    would grow with the depth, in PyTorch as well.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    norms = [part for part in net.eval().modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.numel() and parameter.is_floating_point() and parameter.min() == parameter.max():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
            elif parameter.dim() > 1 and parameter.is_floating_point():
                gain = float(parameter.std()) * parameter[0].numel() ** 0.5
                parameter.mul_(max(1.0, 0.5 / gain))
        for norm in norms:
            norm.train().momentum = 1.0  # the statistics of one batch
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(shift, 0.2, generator=generator)
        if norms:
            net(torch.randn(images, *shape, generator=generator))
    return net.eval()


def error(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """Return the largest error of any output, relative to the largest value of it, once all is as it must be."""
    assert list(actual) == list(expected)
    worst = 0.0
    for name, want in expected.items():
        got = actual[name]
        assert got.shape == want.shape, name
        assert np.isfinite(want).all(), f"{name} of PyTorch is not finite"
        assert np.ptp(want, axis=0).max() > 1e-3 * np.abs(want).max(), f"{name} does not depend on the image"
        worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
        assert worst <= TOLERANCE, f"{name}: error {worst:.3g}"
        if want.ndim == 2:
            assert (got.argmax(1) == want.argmax(1)).all(), f"{name}: another class"
    return worst


def flat(value: Any, name: str = "") -> dict[str, np.ndarray]:
    """Return name -> array of what a module returns."""
    if isinstance(value, (list, tuple)):
        value = {str(i): item for i, item in enumerate(value)}
    if not isinstance(value, dict):
        return {name: value.numpy()}
    return {key: x for part, item in value.items() for key, x in flat(item, f"{name}.{part}" if name else part).items()}


def by_name(model: fastconv.Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return name -> output."""
    y = model(x)
    return dict(y) if isinstance(y, tuple) else {model.output_names[0]: y}


def images(shape: tuple[int, ...], count: int = 2) -> Any:
    """Return random images, other ones than the statistics come from."""
    import torch

    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def through_module(net: Any, shape: tuple[int, ...]) -> float:
    """Compare what `from_torch` makes of a network with PyTorch; return the error."""
    import torch

    x = images(shape)
    with torch.no_grad():
        expected = flat(net(x))
    model = fastconv.from_torch(net, shape, threads=1)
    if len(expected) == 1:
        expected = {model.output_names[0]: next(iter(expected.values()))}
    return error(by_name(model, x.numpy()), expected)


def through_onnx(net: Any, shape: tuple[int, ...], path: Path, *, newer: bool = False) -> float:
    """Compare what `load` makes of a network's ONNX file with PyTorch; return the error.

    newer: whether PyTorch's newer exporter writes it.
    """
    import torch

    x = images(shape)
    with torch.no_grad():
        expected = {f"out_{name}": y for name, y in flat(net(x)).items()}  # the exporter refuses names of digits
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        names = {"input_names": ["image"], "output_names": list(expected)}
        if newer:
            sizes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(net, (x,), path, dynamo=True, dynamic_shapes=sizes, **names)
        else:
            axes = {"image": {0: "batch"}}
            torch.onnx.export(net, (x,), path, dynamo=False, dynamic_axes=axes, opset_version=17, **names)
    return error(by_name(fastconv.load(path, threads=1), x.numpy()), expected)
