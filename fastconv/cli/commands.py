"""The commands of ``fastconv``: predict, info, convert, bench, tune and config.

Results go to standard output, errors and progress to standard error. Exit codes: 0 all went well,
1 some of the work failed (an image, an answer), 2 nothing could be done (the model, the arguments).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from glob import glob
from typing import Any

import click
import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from .. import __version__
from ..errors import FastconvError, ShapeError
from ..machine.cpu import show_config
from ..model import Model, load
from .bench import bench
from .convert import convert
from .terminal import (
    Group,
    InputShape,
    architecture_option,
    complain,
    json_option,
    model_argument,
    one_line,
    output,
    progress,
    shape_option,
    shapes,
    sizes,
    table,
    threads_option,
)
from .tune import tune

__all__ = ["cli"]

BAR_CELLS = 24
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
"""What is taken from a folder; a file that is named itself may have any name."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fastconv", message="%(prog)s %(version)s")
def cli() -> None:
    """Run convolutional networks trained in PyTorch on a CPU, without a framework.

    A model is an .npz file, or an .onnx or .safetensors file where the package of that name is
    installed.

    \b
    Examples:
      fastconv predict models/lenet.npz examples/digits/*.png
      fastconv info models/lenet.npz
      fastconv convert resnet18.onnx resnet18.npz
      fastconv bench models/lenet.npz
    """


cli.add_command(bench)
cli.add_command(convert)
cli.add_command(tune)


# --- predict --------------------------------------------------------------------------------------


@cli.command()
@model_argument
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True)
@click.option("--top", type=click.IntRange(1), default=1, metavar="K", help="Show the K best classes.")
@click.option("--resize", is_flag=True, help="Resize images that do not have the network's size.")
@json_option
@threads_option
@architecture_option
@shape_option
def predict(
    path: str,
    images: tuple[str, ...],
    top: int,
    resize: bool,
    as_json: bool,
    threads: int | None,
    architecture: str | None,
    input_shape: InputShape,
) -> None:
    """Name the class of each image.

    IMAGES are files, folders (the images in them) or patterns such as 'scans/**/*.png'. An image
    that cannot be read is reported and the others go on; the exit code is then 1. Where the model
    says how, images are resized and cropped to its size.

    \b
    Examples:
      fastconv predict models/lenet.npz examples/digits/*.png
      fastconv predict models/lenet.npz examples/digits --top 3
      fastconv predict models/lenet.npz scan.png --json
    """
    model = load(path, architecture=architecture, threads=threads, input_shape=input_shape)
    if len(model.input_shapes) > 1:
        raise ShapeError(
            f"{path}: the network has {len(model.input_shapes)} inputs ({', '.join(model.input_shapes)}), and predict "
            "takes images for one; call the model in Python, on a dict of arrays by name"
        )
    model.predict_proba(np.zeros(model.input_shape, np.float32))  # refuses what is no classifier
    out = output()
    files = list(_expand(images))
    classes = model.labels or map(str, range(model.output_shapes[0][0]))
    widths = (max(map(cell_len, files)), max(map(cell_len, classes)))
    failed = 0
    records: list[dict[str, Any]] = []
    with progress("predicting", len(files), out) as advance:
        for file in files:
            try:
                ranked = _rank(model, _open(file, model, resize), top)
            except _BadImage as error:
                failed += 1
                records.append({"file": file, "error": str(error)})
                complain(f"{file}: {error}")
            else:
                records.append({"file": file, "predictions": ranked})
                if not as_json:
                    out.print(_lines(file, ranked, widths, out), soft_wrap=True)
            advance(1)
    if as_json:
        click.echo(json.dumps(records, indent=2))
    if failed:
        if len(files) > 1:
            click.echo(f"{failed} of {len(files)} images failed", err=True)
        sys.exit(1)


class _BadImage(Exception):
    """One image cannot be used; the message, one line without the file's name, says why."""


def _expand(names: Sequence[str]) -> Iterator[str]:
    """Yield the files that are meant: folders and patterns are resolved, the rest is left alone."""
    for name in names:
        if os.path.isdir(name):
            inside = (os.path.join(name, file) for file in _listing(name))
            found = [file for file in inside if file.lower().endswith(IMAGE_SUFFIXES)]
        elif os.path.exists(name):
            found = [name]
        else:
            found = glob(name, recursive=True)
        yield from sorted(found) or [name]  # what is not there is reported with the images


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # said when its turn comes: the other images go on
        return []


def _open(file: str, model: Model, resize: bool) -> Image.Image:
    """Return the decoded picture, of a size that the network takes or that the model itself resizes or crops."""
    if os.path.isdir(file):
        raise _BadImage(f"no readable images in this folder ({', '.join(IMAGE_SUFFIXES)})")
    try:
        with Image.open(file) as opened:
            opened.load()
            image: Image.Image = opened
    except FileNotFoundError:
        raise _BadImage("no such file") from None
    except UnidentifiedImageError:
        raise _BadImage("not an image that Pillow can read") from None
    # Pillow's decoders raise nearly anything for a damaged file: SyntaxError, struct.error, …
    except Exception as error:
        raise _BadImage(one_line(error)) from error
    shape, before = model.input_shape, model.preprocessing
    if len(shape) != 3 or (before is not None and before.changes_size):
        return image
    size = (shape[-1], shape[-2])
    if image.size == size:
        return image
    if resize:
        return image.resize(size, Image.Resampling.BILINEAR)
    if model.dynamic:
        return image
    raise _BadImage(
        f"{image.width}x{image.height} pixels, the network takes {size[0]}x{size[1]}; "
        "crop or scale it, or pass --resize"
    )


def _rank(model: Model, image: Image.Image, top: int) -> list[dict[str, Any]]:
    """Return the `top` best classes, best first."""
    try:
        shares = model.predict_proba(image)
    except FastconvError as error:
        raise _BadImage(one_line(error).removeprefix("predict: ")) from error
    best = np.argsort(-shares, kind="stable")[:top]
    labels = model.labels
    return [
        {
            "index": int(i),
            "label": int(i) if labels is None else labels[i],
            "probability": float(shares[i]) if np.isfinite(shares[i]) else None,
        }
        for i in best
    ]


def _lines(file: str, ranked: Sequence[dict[str, Any]], widths: tuple[int, int], out: Console) -> Text:
    """Return file, label, probability and bar; for each further class a line without the file."""
    full, empty = "#." if out.options.ascii_only else "█░"
    text = Text()
    for line, row in enumerate(ranked):
        best = line == 0
        text.append(set_cell_size(file if best else "", widths[0]) + "  ")
        text.append(set_cell_size(str(row["label"]), widths[1]), "bold" if best else "")
        share = row["probability"]
        if share is None:
            text.append("     nan\n")
            continue
        cells = round(share * BAR_CELLS)
        text.append(f"  {share:>6.1%}  ")
        text.append(full * cells, "green" if best else "dim")
        text.append(empty * (BAR_CELLS - cells) + "\n", "dim")
    text.rstrip()
    return text


# --- info and config ------------------------------------------------------------------------------


@cli.command()
@model_argument
@json_option
@threads_option
@architecture_option
@shape_option
def info(
    path: str,
    as_json: bool,
    threads: int | None,
    architecture: str | None,
    input_shape: InputShape,
) -> None:
    """Show the layers of a model: shapes, parameters, MACs, kernels.

    A row is what runs as one step: a convolution with the activation and the pooling after it. MACs
    are multiply-accumulates for one image; the field is how much of the image (height x width) one
    output sees.

    \b
    Examples:
      fastconv info models/lenet.npz
      fastconv info models/lenet.npz --json
    """
    model = load(path, architecture=architecture, threads=threads, input_shape=input_shape)
    summary = model.summary()
    if as_json:
        record = {
            "model": path,
            **shapes(model),
            "dynamic": model.dynamic,
            "labels": model.labels,
            "preprocessing": None if model.preprocessing is None else model.preprocessing.given(),
            "parameters": summary.parameters,
            "macs": summary.macs,
            "layers": [asdict(row) for row in summary.rows],
        }
        click.echo(json.dumps(record, indent=2))
        return
    grid = table("layer", "op", "output", "parameters", "MACs", "field", "kernel", left=(0, 1, 6))
    for row in summary.rows:
        grid.add_row(
            Text(row.name.split(" + ")[0]),  # the op column names what is fused to it
            row.op,
            _dims(row.output_shape),
            f"{row.parameters:,}",
            f"{row.macs:,}",
            _dims(row.receptive_field or ()),
            row.kernel or "-",
        )
    grid.columns[0].footer = "total"
    grid.columns[3].footer = f"{summary.parameters:,}"
    grid.columns[4].footer = f"{summary.macs:,}"
    grid.show_footer = True
    out = output()
    size = f"{os.path.getsize(path) / 1e3:,.0f} kB"
    out.print(Text(f"{path}  {size}", "bold"))
    others = ", other sizes too" if model.dynamic else ""
    out.print(Text(f"{sizes(model)}{others}, {model.threads} threads", "dim"))
    if model.preprocessing is not None:
        out.print(Text(f"images: {model.preprocessing}", "dim"))
    out.print(grid)


@cli.command()
@json_option
def config(as_json: bool) -> None:
    """Show what fastconv runs on here: CPU, kernels, threads, BLAS.

    FASTCONV_ISA forces a lower instruction set, FASTCONV_BLAS names another BLAS, OMP_NUM_THREADS
    limits the threads.
    """
    values = show_config()
    if as_json:
        click.echo(json.dumps(values, indent=2))
        return
    out = output()
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        out.print(Text.assemble((f"{key:<15}", "bold"), str(value)), soft_wrap=True)


def _dims(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
