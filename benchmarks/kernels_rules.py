"""The rules of ``fastconv.compile.dispatch`` against the clock: ``kernels.py rules``.

Layers across the space that the rules look at are compiled under each kernel that can do them. The
table sets the gain over the direct tile beside the one that the dispatcher estimates, and says how
much slower its pick is than the fastest. The estimates' constants were fitted to these layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import kernels_layers
import numpy as np
from kernels_layers import MODEL, Layer
from kernels_timing import alternate, progress
from rich.console import Console
from rich.table import Table

from fastconv.compile import dispatch
from fastconv.graph import Graph
from fastconv.graph.builder import GraphBuilder
from fastconv.rewrite import optimize

ROUNDS, QUICK_ROUNDS = 15, 2
DIRECT = "conv_direct"
GAINS: dict[str, Callable[[dispatch.Conv], float]] = {
    "conv_pixels": lambda conv: conv.pixels_gain,
    "conv_winograd": lambda conv: conv.winograd_gain,
}
"""The kernels that are weighed against the direct tile, and the dispatcher's estimates."""
POSSIBLE: dict[str, Callable[[dispatch.Conv], bool]] = {
    "conv_pixels": lambda conv: conv.pixels,
    "conv_winograd": lambda conv: conv.winograd,
}
HEADINGS = {"conv_pixels": "pixels", "conv_winograd": "Winograd"}

# channels in, size, kernel, padding, stride, pooled; channels out
FIRST = [
    ((1, 28, 5, 0, 1, True), (4, 6, 8, 12, 16, 20, 32)),
    ((1, 28, 3, 1, 1, False), (4, 6, 8, 12, 16)),
    ((3, 32, 3, 1, 1, True), (4, 6, 8, 12, 16, 18, 24, 32, 64)),
    ((3, 32, 3, 1, 1, False), (4, 6, 8, 12, 16, 18, 24, 32, 64)),
    ((3, 32, 5, 2, 1, True), (6, 8, 16, 24, 32)),
    ((3, 32, 3, 1, 2, False), (16, 32)),
]
# channels in, channels out, size, stride
LATER = [
    *((c, o, 32, 1) for c, o in ((4, 16), (8, 16), (16, 16), (32, 32))),
    *((c, o, s, 1) for c, o, s in ((32, 64, 16), (64, 64, 7), (32, 32, 6))),
    *((c, c, 4, 1) for c in (16, 64, 256, 512)),
    *((c, c, s, 1) for c, s in ((64, 56), (128, 28), (256, 14), (512, 7))),
    *((c, o, 32, 2) for c, o in ((8, 16), (8, 32), (16, 16), (16, 32))),
    *((c, o, s, 2) for c, o, s in ((32, 64, 16), (32, 32, 16), (24, 48, 30), (64, 64, 28))),
    *((c, c, 8, 2) for c in (64, 256)),
    *((c, 2 * c, s, 2) for c, s in ((16, 14), (64, 56), (128, 28), (256, 14))),
]


@dataclass
class Rule:
    """One layer: the kernels that can do it with their times, and what the dispatcher thinks."""

    layer: Layer
    conv: dispatch.Conv
    us: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the JSON."""
        fastest = min(self.us.values())
        picked = self.us[dispatch.choose(self.conv, dispatch.FASTEST)]
        return {
            "what": self.layer.what,
            "us": self.us,
            "picked": dispatch.choose(self.conv, dispatch.FASTEST),
            "gains": {
                kernel: {"measured": self.us[DIRECT] / self.us[kernel], "estimated": gain(self.conv)}
                for kernel, gain in GAINS.items()
                if kernel in self.us
            },
            "lost": picked / fastest - 1,
        }


@contextmanager
def only(kernel: str) -> Iterator[list[dispatch.Conv]]:
    """Give every convolution one kernel; yields what the rule is asked about."""
    asked: list[dispatch.Conv] = []

    def holds(conv: dispatch.Conv) -> bool:
        if not conv.double:
            asked.append(conv)
        return not conv.double

    rules = ((kernel, (*dispatch.ALGORITHMS, dispatch.FASTEST), holds), *dispatch.CONVOLUTIONS)
    with mock.patch.object(dispatch, "CONVOLUTIONS", rules):
        yield asked


def graphs() -> Iterator[Graph]:
    """Yield a network for each layer: a first one, or one behind another."""
    rng = np.random.default_rng(0)

    def weights(o: int, c: int, k: int) -> dict[str, Any]:
        scale = np.float32(c * k * k) ** -0.5
        return {
            "weight": rng.standard_normal((o, c, k, k), np.float32) * scale,
            "bias": rng.standard_normal(o, np.float32),
        }

    for (c, size, k, padding, stride, pooled), outs in FIRST:
        for o in outs:
            builder = GraphBuilder((c, size, size))
            builder.add("conv2d", weights=weights(o, c, k), padding=padding, stride=stride)
            builder.add("relu")
            if pooled:
                builder.add("max_pool2d", kernel_size=2)
            yield builder.graph()
    for c, o, size, stride in LATER:
        builder = GraphBuilder((c, size, size))
        builder.add("relu")
        builder.add("conv2d", weights=weights(o, c, 3), padding=1, stride=stride)
        builder.add("relu")
        yield builder.graph()


def prepare(graph: Graph) -> Rule:
    """Compile a layer under every kernel that can do it, and check the answers."""
    graph = optimize(graph)
    node = graph.nodes[-1]
    layer = Layer(node.name, kernels_layers.describe(graph, node), graph, 2 * graph.macs(node), [])
    with only(DIRECT) as asked:
        kernels_layers.prepare(layer, 1, 1, (MODEL,))
    rule = Rule(layer, asked[0])
    for kernel, possible in POSSIBLE.items():
        if possible(rule.conv):
            with only(kernel):
                kernels_layers.prepare(layer, 1, 1, (MODEL,))
            layer.trials[-1].candidate.name = kernel
    layer.trials[0].candidate.name = DIRECT
    return rule


def run(quick: bool, console: Console) -> dict[str, Any]:
    """Check and time all layers, print the table, return it for the JSON."""
    rules = [prepare(graph) for graph in graphs()]
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with progress("rules", rounds * len(rules)) as tick:
        for rule in rules:
            candidates = [trial.candidate for trial in rule.layer.trials]
            alternate(candidates, rounds, tick)
            rule.us = {candidate.name: 1e6 * candidate.minimum for candidate in candidates}
    results = [rule.as_json() for rule in rules]
    console.print(_table(results))
    return {"rules": results}


def _table(results: list[dict[str, Any]]) -> Table:
    """Return the table: times, gains measured and estimated, what the pick costs."""
    table = Table(title="Least µs of each kernel, gain over the direct tile: measured (estimated)")
    table.add_column("layer", min_width=30)
    table.add_column("direct", justify="right")
    for kernel in GAINS:
        table.add_column(HEADINGS[kernel], justify="right")
        table.add_column("gain", justify="right")
    table.add_column("picked")
    table.add_column("lost", justify="right")
    for result in results:
        cells = []
        for kernel in GAINS:
            gain = result["gains"].get(kernel)
            cells += [
                f"{result['us'][kernel]:.2f}" if gain else "",
                f"{gain['measured']:.2f} ({gain['estimated']:.2f})" if gain else "",
            ]
        table.add_row(
            result["what"],
            f"{result['us'][DIRECT]:.2f}",
            *cells,
            HEADINGS.get(result["picked"], "direct"),
            f"{result['lost']:.0%}" if result["lost"] > 0.005 else "",
        )
    return table
