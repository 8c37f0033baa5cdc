"""What a model is made of, and where its time goes: tables for the terminal and the notebook.

Rows are the layers as they run. Where rewriting has fused several nodes into one, the row names all
of them (``conv1 + relu1 + pool1``) and counts their parameters together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import prod
from typing import Any

import numpy as np

from ..graph import INPUT, Graph, Node

__all__ = ["LayerProfile", "LayerSummary", "Profile", "Summary", "profile", "summarize"]

Shape = tuple[int, ...]


# --- what is shown --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """One layer.

    Attributes
    ----------
    name, op
        Of every node it does the work of, joined by ``" + "``.
    input_shape, output_shape
        Of one image, without batch.
    parameters
        Trained values; an array that several layers share counts in the first.
    macs
        Multiply-accumulates of convolutions and linear layers for one image.
    receptive_field
        Height and width, in pixels of the image, of what one output depends on (not clipped to the
        image); None where the network's input is no image.
    kernel
        What computes it on this machine; empty where nothing has to be computed (a view).
    """

    name: str
    op: str
    input_shape: Shape
    output_shape: Shape
    parameters: int
    macs: int
    receptive_field: tuple[int, int] | None
    kernel: str


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """The time of one layer.

    Attributes
    ----------
    name, op, kernel
        As in `LayerSummary`; op is empty for what belongs to no layer, e.g. changing the layout.
    seconds
        Of one call, for the whole batch.
    gflops
        10**9 operations a second, two for each MAC; 0 for a layer without MACs.
    share
        Of the time of all layers, 0..1.
    """

    name: str
    op: str
    kernel: str
    seconds: float
    gflops: float
    share: float


class _Table:
    """Rows of strings under a header, as aligned text and as HTML."""

    def _cells(self) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str], str]:
        """Return header, rows, footer and the columns' alignment, a ``<`` or ``>`` for each."""
        raise NotImplementedError

    def __str__(self) -> str:
        header, rows, footer, alignment = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, footer, strict=True)]

        def line(cells: Iterable[str]) -> str:
            aligned = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, alignment, widths, strict=True))
            return "  ".join(aligned).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([line(header), rule, *map(line, rows), rule, line(footer)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, rows, footer, alignment = self._cells()
        sides = ["left" if side == "<" else "right" for side in alignment]

        def line(cells: Iterable[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
        return (
            f"<table>\n<thead><tr>{line(header, 'th')}</tr></thead>\n<tbody>\n{body}</tbody>\n"
            f"<tfoot><tr>{line(footer, 'th')}</tr></tfoot>\n</table>"
        )


@dataclass(frozen=True, repr=False)
class Summary(_Table):
    """The layers of a model. Prints as a table, in a notebook as HTML."""

    rows: tuple[LayerSummary, ...]

    @property
    def parameters(self) -> int:
        """Trained values of the whole model."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model for one image."""
        return sum(row.macs for row in self.rows)

    def _cells(self) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str], str]:
        header = ("layer", "op", "input", "output", "parameters", "MACs", "field", "kernel")
        rows: list[Sequence[str]] = [
            (
                row.name,
                row.op,
                _dims(row.input_shape),
                _dims(row.output_shape),
                f"{row.parameters:,}",
                _scaled(row.macs),
                "" if row.receptive_field is None else _dims(row.receptive_field),
                row.kernel or "-",
            )
            for row in self.rows
        ]
        footer = ("total", "", "", "", f"{self.parameters:,}", _scaled(self.macs), "", "")
        return header, rows, footer, "<<>>>>><"


@dataclass(frozen=True, repr=False)
class Profile(_Table):
    """The time of each layer. Prints as a table, in a notebook as HTML."""

    rows: tuple[LayerProfile, ...]
    batch: int
    threads: int

    @property
    def seconds(self) -> float:
        """The layers' time together, for the whole batch."""
        return sum(row.seconds for row in self.rows)

    def _cells(self) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str], str]:
        header = ("layer", "op", "kernel", "time (us)", "GFLOP/s", "share")
        rows: list[Sequence[str]] = [
            (
                row.name,
                row.op,
                row.kernel,
                f"{1e6 * row.seconds:,.1f}",
                f"{row.gflops:.1f}" if row.gflops else "-",
                f"{100 * row.share:.1f} %",
            )
            for row in self.rows
        ]
        images = f"{self.batch} image{'s' * (self.batch != 1)}"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        total = f"{1e6 * self.seconds:,.1f}"
        return header, rows, (f"total: {images}, {threads}", "", "", total, "", ""), "<<<>>>"


def _dims(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _scaled(count: int) -> str:
    """Write a count with three digits and a unit, e.g. ``1.81 G``."""
    value, unit = float(count), ""
    for larger in "kMGT":
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:#.3g}".rstrip(".") + f" {unit}" if unit else str(count)


# --- how it is found ------------------------------------------------------------------------------


def summarize(graph: Graph, optimized: Graph, steps: Sequence[Mapping[str, str]]) -> Summary:
    """Describe a network.

    Parameters
    ----------
    graph
        As it was loaded: its nodes are what is counted.
    optimized
        As it runs: its nodes are the rows.
    steps
        The program's steps, with the ``node`` each belongs to and its ``kernel``.
    """
    original = {node.name: node for node in graph.nodes}
    order = {name: position for position, name in enumerate(original)}
    fields = _receptive_fields(graph)
    counted: set[tuple[int, Shape]] = set()
    rows = []
    for node in optimized.nodes:
        parts = [original[name] for name in _names(node)]
        last = max(parts, key=lambda part: order[part.name])
        rows.append(
            LayerSummary(
                name=" + ".join(part.name for part in parts),
                op=" + ".join(part.op for part in parts),
                input_shape=optimized.shapes[node.inputs[0]],
                output_shape=optimized.shapes[node.name],
                parameters=sum(_count_parameters(part, counted) for part in parts),
                macs=sum(graph.macs(part) for part in parts),
                receptive_field=fields[last.name],
                kernel=_kernels_of(node.name, steps),
            )
        )
    return Summary(tuple(rows))


def profile(graph: Graph, optimized: Graph, program: Any, batch: np.ndarray, repeats: int) -> Profile:
    """Time the layers of a program on a batch; `graph` and `optimized` as for `summarize`."""
    original = {node.name: node for node in graph.nodes}
    nodes = {node.name: node for node in optimized.nodes}
    program.run(batch)  # so that memory is there and weights are in the cache
    steps = program.steps
    seconds: dict[str, float] = {}  # of each node, in the order in which they run
    for step, time in zip(steps, program.profile(batch, repeats), strict=True):
        seconds[step["node"]] = seconds.get(step["node"], 0.0) + time
    total = sum(seconds.values())
    rows = []
    for name, time in seconds.items():
        # A step may belong to no node: bringing the images into the layout used inside does.
        parts = [original[part] for part in _names(nodes[name])] if name in nodes else []
        operations = 2 * len(batch) * sum(graph.macs(part) for part in parts)
        rows.append(
            LayerProfile(
                name=" + ".join(part.name for part in parts) or name,
                op=" + ".join(part.op for part in parts),
                kernel=_kernels_of(name, steps),
                seconds=time,
                gflops=operations / time / 1e9 if time else 0.0,
                share=time / total if total else 0.0,
            )
        )
    return Profile(tuple(rows), len(batch), program.threads)


def _names(node: Node) -> tuple[str, ...]:
    return (*node.fused, node.name)


def _kernels_of(name: str, steps: Sequence[Mapping[str, str]]) -> str:
    return ", ".join(dict.fromkeys(step["label"] for step in steps if step["node"] == name))


def _count_parameters(node: Node, counted: set[tuple[int, Shape]]) -> int:
    """Count the trained values of a node that were not `counted` yet (modules used twice)."""
    total = 0
    for role in ("weight", "bias"):
        array = node.weights.get(role)
        if array is not None and (key := (array.ctypes.data, array.shape)) not in counted:
            counted.add(key)
            total += array.size
    return total


@dataclass(frozen=True, slots=True)
class _Field:
    """What one value depends on: `size` pixels of the image; neighbours are `step` pixels apart.

    `extent` is the (H, W) that the values still span: a linear layer over a flattened image sees
    all of it. Sizes are (vertical, horizontal).
    """

    size: tuple[int, int]
    step: tuple[int, int]
    extent: tuple[int, int]

    def window(self, kernel: Sequence[int], stride: Sequence[int], extent: Sequence[int]) -> _Field:
        """Return the field behind a window of `kernel` positions that moves by `stride`."""
        size = (
            self.size[0] + (kernel[0] - 1) * self.step[0],
            self.size[1] + (kernel[1] - 1) * self.step[1],
        )
        step = (self.step[0] * stride[0], self.step[1] * stride[1])
        return _Field(size, step, (extent[0], extent[1]))


def _receptive_fields(graph: Graph) -> dict[str, tuple[int, int] | None]:
    """Return the receptive field of every node; None for all where the input is no image."""
    if len(graph.input_shape) != 3:
        return {node.name: None for node in graph.nodes}
    height, width = graph.input_shape[1:]
    fields = {INPUT: _Field((1, 1), (1, 1), (height, width))}
    for node in graph.nodes:
        sources = [fields[name] for name in node.inputs]
        widest = max(sources, key=lambda field: prod(field.size))
        fields[node.name] = _field(node, widest, graph.shapes[node.name])
    return {node.name: fields[node.name].size for node in graph.nodes}


def _field(node: Node, source: _Field, shape: Shape) -> _Field:
    """Return the field of a node from its input's."""
    attrs = node.attrs
    if node.op == "linear":
        if len(shape) > 1:  # over the last axis only
            return source.window((1, source.extent[1]), (1, 1), (source.extent[0], 1))
        return source.window(source.extent, (1, 1), (1, 1))
    if node.op.startswith("adaptive"):
        # Window i of n over an axis of s positions spans floor(i s / n) .. ceil((i + 1) s / n).
        spans = [
            max((-(-(i + 1) * s // n) - i * s // n for i in range(n)), default=1)
            for s, n in zip(source.extent, shape[1:], strict=True)
        ]
        stride = [max(s // max(n, 1), 1) for s, n in zip(source.extent, shape[1:], strict=True)]
        return source.window(spans, stride, shape[1:])
    if node.op in ("conv2d", "max_pool2d", "avg_pool2d"):
        kernel = node.weights["weight"].shape[2:] if node.op == "conv2d" else attrs["kernel_size"]
        dilation = attrs.get("dilation", (1, 1))
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        return source.window(reach, attrs["stride"], shape[1:])
    extent = (shape[1], shape[2]) if len(shape) == 3 else source.extent
    return _Field(source.size, source.step, extent)
