"""``fastconv convert``: a model of another format as fastconv's own file."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from rich.text import Text

from ..errors import ArgumentError
from ..model import load
from .terminal import InputShape, architecture_option, json_option, model_argument, output, shape_option, shapes, sizes

__all__ = ["convert"]


class _Numbers(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since 8.3
    """``0.485,0.456,0.406``."""

    name = "M,M,M"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not numbers with commas between; write it like 0.485,0.456,0.406", param, ctx)


def _text(path: str) -> str:
    with open(path, encoding="utf-8-sig") as file:
        try:
            return file.read()
        except UnicodeDecodeError:
            raise ArgumentError(f"{path}: is not text in UTF-8; save it so") from None


def _parsed(path: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{path}: is not JSON: {error}") from None


def _json(path: str) -> dict[str, Any]:
    """Return the object in a JSON file."""
    value = _parsed(path, _text(path))
    if not isinstance(value, dict):
        raise ArgumentError(f"{path}: holds no JSON object, but {type(value).__name__}")
    return value


def _labels(path: str) -> list[str]:
    """Return names of classes in order: lines, a JSON list, or an object whose keys are 0, 1 and so on."""
    text = _text(path)
    if text.lstrip()[:1] not in ("[", "{"):
        lines = text.splitlines()
        while lines and not lines[-1].strip():
            lines.pop()
        return [line.strip() for line in lines]
    value = _parsed(path, text)
    if isinstance(value, dict):
        keys = [str(index) for index in range(len(value))]
        if value.keys() != {*keys}:
            raise ArgumentError(f"{path}: the keys must be the classes' indices, 0 to {len(value) - 1}")
        value = [value[key] for key in keys]
    if not all(isinstance(name, str) for name in value):
        raise ArgumentError(f"{path}: every class needs a name that is a string")
    return list(value)


@click.command()
@model_argument
@click.argument("target", metavar="TARGET", type=click.Path())
@json_option
@architecture_option
@shape_option
@click.option(
    "--dynamic/--no-dynamic",
    default=None,
    help="Take images of other sizes, too, or of one size alone.  [default: as the file says]",
)
@click.option(
    "--labels",
    callback=lambda ctx, param, path: None if path is None else _labels(path),
    metavar="FILE",
    help="Names of the classes: one in each line, or a JSON list, or an object by index.",
)
@click.option(
    "--mean", type=_Numbers(), help="Of each channel, for pixels in 0..1: 0.485,0.456,0.406; subtracted by predict."
)
@click.option("--std", type=_Numbers(), help="Of each channel; predict divides by it.")
@click.option(
    "--transforms",
    callback=lambda ctx, param, path: None if path is None else _json(path),
    metavar="FILE",
    help="Instead, all that is done to an image: a JSON object with resize_size, crop_size, interpolation, mean and "
    "std, as info --json prints it, or timm's data config.",
)
def convert(
    path: str,
    target: str,
    as_json: bool,
    architecture: str | None,
    input_shape: InputShape,
    dynamic: bool | None,
    labels: list[str] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    transforms: dict[str, Any] | None,
) -> None:
    """Write a model as fastconv's own .npz file.

    MODEL is an .onnx, a .safetensors or an .npz file. TARGET loads without the packages onnx and
    safetensors; its weights are float32. It is replaced as a whole, or left as it was.

    \b
    Examples:
      fastconv convert resnet18.onnx resnet18.npz
      fastconv convert weights.safetensors resnet18.npz --architecture resnet18
      fastconv convert unet.onnx unet.npz --input-shape 3x256x256 --dynamic
      fastconv convert a.onnx a.npz --labels names.txt --transforms a.json
    """
    if not target.lower().endswith(".npz"):
        raise ArgumentError(f"{target}: models are written as .npz files; give it a name that ends so")
    model = load(
        path, architecture=architecture, threads=1, input_shape=input_shape, dynamic=dynamic,
        labels=labels, mean=mean, std=std, transforms=transforms,
    )  # fmt: skip
    model.save(target)
    size = os.path.getsize(target)
    parameters = model.graph.parameters
    if as_json:
        record = {
            "model": path,
            "target": target,
            **shapes(model),
            "dynamic": model.dynamic,
            "labels": None if model.labels is None else len(model.labels),
            "preprocessing": None if model.preprocessing is None else model.preprocessing.given(),
            "parameters": parameters,
            "bytes": size,
        }
        click.echo(json.dumps(record, indent=2))
        return
    out = output()
    out.print(Text(f"{target}  {size / 1e3:,.0f} kB", "bold"), soft_wrap=True)
    others = ", other sizes too" if model.dynamic else ""
    out.print(Text(f"{sizes(model)}{others}, {parameters:,} parameters", "dim"))
    if model.preprocessing is not None:
        out.print(Text(f"images: {model.preprocessing}", "dim"))
