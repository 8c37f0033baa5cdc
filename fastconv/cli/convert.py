"""``fastconv convert``: a model of another format as fastconv's own file."""

from __future__ import annotations

import json
import os

import click
from rich.text import Text

from ..errors import ArgumentError
from ..model import load
from .terminal import InputShape, architecture_option, json_option, model_argument, output, shape_option, shapes, sizes

__all__ = ["convert"]


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
def convert(
    path: str,
    target: str,
    as_json: bool,
    architecture: str | None,
    input_shape: InputShape,
    dynamic: bool | None,
) -> None:
    """Write a model as fastconv's own .npz file.

    MODEL is an .onnx, a .safetensors or an .npz file. TARGET loads without the packages onnx and
    safetensors; its weights are float32. It is replaced as a whole, or left as it was.

    \b
    Examples:
      fastconv convert resnet18.onnx resnet18.npz
      fastconv convert weights.safetensors resnet18.npz --architecture resnet18
      fastconv convert unet.onnx unet.npz --input-shape 3x256x256 --dynamic
    """
    if not target.lower().endswith(".npz"):
        raise ArgumentError(f"{target}: models are written as .npz files; give it a name that ends so")
    model = load(path, architecture=architecture, threads=1, input_shape=input_shape, dynamic=dynamic)
    model.save(target)
    size = os.path.getsize(target)
    parameters = model.graph.parameters
    if as_json:
        record = {
            "model": path,
            "target": target,
            **shapes(model),
            "dynamic": model.dynamic,
            "parameters": parameters,
            "bytes": size,
        }
        click.echo(json.dumps(record, indent=2))
        return
    out = output()
    out.print(Text(f"{target}  {size / 1e3:,.0f} kB", "bold"), soft_wrap=True)
    others = ", other sizes too" if model.dynamic else ""
    out.print(Text(f"{sizes(model)}{others}, {parameters:,} parameters", "dim"))
