"""How the commands speak: help, errors, tables, and progress where something takes a while."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..errors import FastconvError
from ..model import Model

__all__ = [
    "Command",
    "Group",
    "InputShape",
    "architecture_option",
    "complain",
    "json_option",
    "model_argument",
    "one_line",
    "output",
    "progress",
    "shape_option",
    "shapes",
    "sizes",
    "table",
    "threads_option",
]

PATIENCE_S = 1.0
"""Work that takes longer than this shows its progress."""


class _Failure(click.ClickException):
    """An error without a traceback: one line, exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        complain(self.message)


class _Formatter(click.HelpFormatter):
    """Help with headings that stand out."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(click.style(heading, bold=True))


class _Context(click.Context):
    formatter_class = _Formatter


class Group(click.Group):
    """Turns errors that are not bugs into one line on standard error."""

    context_class = _Context

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click ends quietly, as `| head` expects
            raise
        except (FastconvError, OSError) as error:
            raise _Failure(one_line(error)) from error


class Command(click.Command):
    context_class = _Context


Group.command_class = Command


class Shape(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since 8.3
    """``1x28x28`` or ``1,28,28``, and the name of an input in front, ``left=1x28x28``."""

    name = "CxHxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str | None, tuple[int, ...]]:
        name, _, sizes = str(value).rpartition("=")
        try:
            return name or None, tuple(int(part) for part in sizes.replace("x", ",").split(","))
        except ValueError:
            self.fail(f"{value!r} is no shape; write it like 1x28x28, or left=1x28x28", param, ctx)


InputShape = tuple[int, ...] | dict[str, tuple[int, ...]] | None


def _input_shape(ctx: Any, param: Any, given: tuple[tuple[str | None, tuple[int, ...]], ...]) -> InputShape:
    """Return what `fastconv.load` takes: the one shape without a name, or shapes by name."""
    by_name = {name: shape for name, shape in given if name is not None}
    if len(given) == 1 and not by_name:
        return given[0][1]
    if len(by_name) != len(given):
        raise click.BadParameter("give one shape, or for several inputs each under a name of its own, left=1x28x28")
    return by_name or None


def shapes(model: Model) -> dict[str, Any]:
    """Return the shapes of what goes into a model and comes out, for JSON."""
    one = {"input_shape": model.input_shape} if len(model.input_shapes) == 1 else {}
    return {
        **one,
        "input_shapes": model.input_shapes,
        "output_shapes": model.output_shapes,
        "output_names": model.output_names,
    }


def sizes(model: Model) -> str:
    """Return the shapes of what goes into a model and comes out, with names where there are several."""

    def side(shapes: Mapping[str, Sequence[int]]) -> str:
        dims = {name: "x".join(map(str, shape)) for name, shape in shapes.items()}
        return ", ".join(f"{name} {size}" if len(dims) > 1 else size for name, size in dims.items())

    return f"{side(model.input_shapes)} -> {side(dict(zip(model.output_names, model.output_shapes, strict=True)))}"


def one_line(error: BaseException) -> str:
    """Return the error's message, fit for one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def complain(message: str) -> None:
    """Write an error to standard error."""
    label = click.style("Error", fg="red", bold=True) if sys.stderr.isatty() else "Error"
    print(f"{label}: {message}", file=sys.stderr)  # click.echo would write past a progress bar


def output(file: IO[str] | None = None) -> Console:
    """Return the console for results; a pipe is not wrapped at the width of a terminal."""
    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


@contextmanager
def progress(what: str, total: float, console: Console) -> Iterator[Callable[[float], None]]:
    """Show a bar once the work has lasted, on a terminal only; yields what to call with each step.

    Where results go to a terminal the bar stays below them, otherwise it is on standard error.
    """
    if not console.is_terminal:
        console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=sys.stderr.isatty(),
    )
    task = bar.add_task(what, total=total)
    start = time.monotonic()

    def advance(step: float) -> None:
        bar.advance(task, step)
        if not bar.live.is_started and time.monotonic() - start > PATIENCE_S:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


def table(*columns: str, left: Sequence[int]) -> Table:
    """Return an empty table; the columns numbered in `left` hold words, the others numbers."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, footer_style="bold")
    for index, name in enumerate(columns):
        words = index in left
        grid.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    return grid


# --- what several commands take -------------------------------------------------------------------

model_argument = click.argument("path", metavar="MODEL", type=click.Path())
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
threads_option = click.option(
    "--threads", type=click.IntRange(1), metavar="N", help="Threads to use.  [default: all cores]"
)
architecture_option = click.option(
    "--architecture",
    metavar="NAME",
    help="Network that a file of weights alone belongs to, e.g. resnet18.  [default: the LeNet family]",
)
shape_option = click.option(
    "--input-shape",
    type=Shape(),
    multiple=True,
    callback=_input_shape,
    metavar="[NAME=]CxHxW",
    help="Size of one image, e.g. 1x28x28, where the file does not tell it. Of several inputs: name=1x28x28, once for "
    "each.",
)
