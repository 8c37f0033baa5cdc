"""What a model is made of: a table for the terminal and the notebook.

Rows are the layers as they run. Where rewriting has fused several nodes into one, the row names all
of them (``conv1 + relu1 + pool1``) and counts their parameters together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from ..graph import Graph, Node, array_id
from ..graph.ops import OPS
from .table import Table, kernels_of, names_of

if TYPE_CHECKING:
    from ..graph.preprocessing import Preprocessing

__all__ = ["LayerSummary", "Summary", "summarize"]

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
        image); None where it depends on no image. Of fields in several images, the largest.
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


@dataclass(frozen=True, repr=False)
class Summary(Table):
    """The layers of a model. Prints as a table, in a notebook as HTML."""

    rows: tuple[LayerSummary, ...]
    preprocessing: Preprocessing | None = None
    dynamic: bool = False
    """Whether images of other sizes are taken too; the table is for the nominal one."""
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    """Name -> shape of one image, of each input."""
    outputs: Mapping[str, Shape] = field(default_factory=dict)
    """Name -> shape for one image, of each output."""

    @property
    def parameters(self) -> int:
        """Trained values of the whole model."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model for one image."""
        return sum(row.macs for row in self.rows)

    def _captions(self) -> list[str]:
        lines = [
            f"{what}: {', '.join(f'{name} {_dims(shape)}' for name, shape in ends.items())}"
            for what, ends in (("inputs", self.inputs), ("outputs", self.outputs))
            if len(ends) > 1
        ]
        if self.preprocessing is not None:
            lines.append(f"images: {self.preprocessing}")
        return [*lines, "dynamic: images of other sizes are taken too"] if self.dynamic else lines

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
        parts = [original[name] for name in names_of(node) if name in original]  # rewriting may add a reshape
        last = max(parts, key=lambda part: order[part.name], default=None)
        rows.append(
            LayerSummary(
                name=" + ".join(part.name for part in parts) or node.name,
                op=" + ".join(part.op for part in parts) or node.op,
                input_shape=optimized.shapes[node.inputs[0]],
                output_shape=optimized.shapes[node.name],
                parameters=sum(_count_parameters(part, counted) for part in parts),
                macs=sum(graph.macs(part) for part in parts),
                receptive_field=None if last is None else fields[last.name],
                kernel=kernels_of(node.name, steps),
            )
        )
    outputs = {label: graph.shapes[name] for label, name in zip(graph.output_names, graph.outputs, strict=True)}
    return Summary(tuple(rows), graph.preprocessing, graph.dynamic, dict(graph.inputs), outputs)


def _count_parameters(node: Node, counted: set[tuple[int, Shape]]) -> int:
    """Count the trained values of a node that were not `counted` yet (modules used twice)."""
    total = 0
    for role, array in node.weights.items():
        if role.startswith(("weight", "bias")) and (key := array_id(array)) not in counted:
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
        """Return the field behind windows of `kernel` positions that move by `stride`."""
        size = (
            self.size[0] + (kernel[0] - 1) * self.step[0],
            self.size[1] + (kernel[1] - 1) * self.step[1],
        )
        step = (self.step[0] * stride[0], self.step[1] * stride[1])
        return _Field(size, step, (extent[0], extent[1]))


def _receptive_fields(graph: Graph) -> dict[str, tuple[int, int] | None]:
    """Return the receptive field of every node; None for those that depend on no image."""
    fields = {
        name: _Field((1, 1), (1, 1), (shape[1], shape[2])) for name, shape in graph.inputs.items() if len(shape) == 3
    }
    for node in graph.nodes:
        sources = [fields[name] for name in node.inputs if name in fields]
        if not sources:
            continue
        widest = max(sources, key=lambda field: prod(field.size))
        window = OPS[node.op].field(node.attrs, node.weights, widest.extent, graph.shapes[node.name])
        fields[node.name] = widest.window(*window)
    return {node.name: fields[node.name].size if node.name in fields else None for node in graph.nodes}
