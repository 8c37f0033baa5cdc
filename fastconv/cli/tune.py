"""``fastconv tune``: the fastest kernel of each layer on this machine, kept in the model's file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict

import click
import numpy as np
from rich.text import Text

from ..errors import ArgumentError
from ..formats.npz import is_own
from ..model import load
from .terminal import (
    Command,
    InputShape,
    architecture_option,
    json_option,
    model_argument,
    output,
    progress,
    shape_option,
    table,
    threads_option,
)

__all__ = ["tune"]


@click.command(cls=Command)
@model_argument
@click.argument("target", metavar="[TARGET]", type=click.Path(), required=False)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Images in a call.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86_400, min_open=True),
    default=10.0,
    show_default=True,
    metavar="S",
    help="Time to measure for.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be kept, and write nothing.")
@json_option
@threads_option
@architecture_option
@shape_option
def tune(
    path: str,
    target: str | None,
    batch: int,
    seconds: float,
    dry_run: bool,
    as_json: bool,
    threads: int | None,
    architecture: str | None,
    input_shape: InputShape,
) -> None:
    """Measure each layer's kernels inside the network, and keep the fastest in the file.

    Kernels are chosen by estimate; this puts the estimates to the test on this machine. What is kept
    holds for processors of this kind alone, and for them the outputs may change by rounding. TARGET
    is written instead of MODEL where it is given; it must be for a MODEL in another format. Let
    nothing else run meanwhile.

    \b
    Examples:
      fastconv tune resnet18.npz
      fastconv tune resnet18.onnx resnet18.npz --threads 2
      fastconv tune models/lenet.npz --dry-run --seconds 3
    """
    if not dry_run:
        if target is None and (input_shape is not None or architecture is not None):
            raise ArgumentError(
                "--input-shape and --architecture: make another model; name a file to write, TARGET.npz"
            )
        if target is None and not is_own(path):
            raise ArgumentError(f"{path}: is in another format; name a file to write, fastconv tune {path} TARGET.npz")
        if target is not None and not target.lower().endswith(".npz"):
            raise ArgumentError(f"{target}: models are written as .npz files; give it a name that ends so")
        file = os.path.realpath(target or path)
        if os.path.isdir(file) or not os.access(os.path.dirname(file), os.W_OK):
            raise ArgumentError(f"{target or path}: cannot be written; name a file in a folder that can, TARGET.npz")
    model = load(path, architecture=architecture, threads=threads, input_shape=input_shape)
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal((batch, *shape)) for name, shape in model.input_shapes.items()}
    out = output()
    with progress("tuning", 1, out) as advance:
        found = model.tune(arrays, seconds=seconds, progress=advance)
    written: str | None = None
    if not dry_run and (found.kernels or target is not None):
        written = target or path
        model.save(written)
    if as_json:
        record = {"model": path, "written": written, **asdict(found), "kernels": found.kernels, "gain": found.gain}
        click.echo(json.dumps(record, indent=2))
        return
    grid = table("layer", "estimated", "time (µs)", "kept", "time (µs)", "others", left=(0, 1, 3, 5))
    for name, estimated, before, kept, after, others in found.cells():
        style = "bold" if kept != estimated else ""
        grid.add_row(Text(name), estimated, before, Text(kept, style), after, others)
    out.print(Text(f"{path}\n{found.title}", "dim"), soft_wrap=True)
    out.print(grid)
    gain = f"{1e6 * found.before:,.1f} µs before, {1e6 * found.after:,.1f} after: {100 * found.gain:.1f} % gained"
    out.print(gain if found.kernels else "Nothing is faster than what the estimates choose.")
    if written is not None:
        out.print(Text(f"written to {written} ({os.path.getsize(written) / 1e3:,.0f} kB)", "dim"), soft_wrap=True)
