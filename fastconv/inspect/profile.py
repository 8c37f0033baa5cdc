"""Where a model's time goes: a table for the terminal and the notebook; rows are those of ``summary``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Graph
from .table import Table, kernels_of, names_of

__all__ = ["LayerProfile", "Profile", "profile"]


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """The time of one layer.

    Attributes
    ----------
    name, op, kernel
        As in :class:`~fastconv.inspect.summary.LayerSummary`; op is empty for what belongs to no
        layer, e.g. changing the layout.
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


@dataclass(frozen=True, repr=False)
class Profile(Table):
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


def profile(graph: Graph, optimized: Graph, program: Any, batches: tuple[np.ndarray, ...], repeats: int) -> Profile:
    """Time the layers of a program on a batch of each input; `graph` and `optimized` as for `summarize`."""
    images = len(batches[0])
    original = {node.name: node for node in graph.nodes}
    nodes = {node.name: node for node in optimized.nodes}
    program.run_all(batches)  # so that memory is there and weights are in the cache
    steps = program.steps
    seconds: dict[str, float] = {}  # of each node, in the order in which they run
    for step, time in zip(steps, program.profile(batches, repeats), strict=True):
        seconds[step["node"]] = seconds.get(step["node"], 0.0) + time
    total = sum(seconds.values())
    rows = []
    for name, time in seconds.items():
        # A step may belong to no node: bringing the images into the layout used inside does.
        parts = [original[part] for part in names_of(nodes[name]) if part in original] if name in nodes else []
        operations = 2 * images * sum(graph.macs(part) for part in parts)
        rows.append(
            LayerProfile(
                name=" + ".join(part.name for part in parts) or name,
                op=" + ".join(part.op for part in parts),
                kernel=kernels_of(name, steps),
                seconds=time,
                gflops=operations / time / 1e9 if time else 0.0,
                share=time / total if total else 0.0,
            )
        )
    return Profile(tuple(rows), images, program.threads)
