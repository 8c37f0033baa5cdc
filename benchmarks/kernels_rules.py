"""The choice of convolution kernels against the clock: ``kernels.py rules``.

Layers across the space that the estimates look at are compiled under each kernel that may be chosen for them. The table
sets the gain over the direct tile beside the one that is estimated, and says how much slower the pick is than the
fastest. The first line of each layer is warm, one call behind the other. The second is cold, as a large network finds
it: the caches are emptied, then a layer like it, with weights of its own, runs just before.

The constants of `fastconv.compile.conv` were fitted to these layers. A pick that loses more than `MOST_LOST` is a
fault, unless the run is a quick one: warm where the weights fit a core's own cache, else cold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import kernels_layers
import numpy as np
from kernels_layers import Layer
from kernels_timing import alternate, progress
from rich.console import Console
from rich.table import Table

from fastconv.compile import conv
from fastconv.compile.conv import Layer as Convolution
from fastconv.graph import INPUT, Graph, Node
from fastconv.graph.builder import GraphBuilder
from fastconv.graph.geometry import conv_size
from fastconv.machine.description import this_machine
from fastconv.rewrite import optimize

ROUNDS, QUICK_ROUNDS = 15, 2
DIRECT = "direct"
HEADINGS = {"pixels": "pixels", "winograd_4x4": "F(4x4)", "winograd_2x2": "F(2x2)"}
WEIGHED = (DIRECT, *HEADINGS)
MOST_LOST, MOST_LOST_US = 0.2, 0.5
"""How much longer than the fastest a pick may take; in a layer of a microsecond, half of one."""

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
    """One layer: the kernels that can do it with their times, and what is estimated."""

    layer: Layer
    convolution: Convolution
    weight_bytes: int
    us: dict[str, float] = field(default_factory=dict)
    cold_us: dict[str, float] = field(default_factory=dict)

    @property
    def judged_cold(self) -> bool:
        """Whether the pick is judged by its time with cold weights: those that no core's own cache can keep."""
        return self.weight_bytes > this_machine().l2_bytes

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the JSON."""
        machine = this_machine()
        picked = conv.choose(self.convolution, machine).name
        costs = {
            kernel.name: kernel.cost(self.convolution, machine)
            for kernel in conv.candidates(self.convolution, machine)
            if kernel.name in self.us
        }
        judged = self.cold_us if self.judged_cold else self.us
        return {
            "what": self.layer.what,
            "us": self.us,
            "cold_us": self.cold_us,
            "picked": picked,
            "gains": {
                kernel: {
                    "measured": self.us[DIRECT] / self.us[kernel],
                    "cold": self.cold_us[DIRECT] / self.cold_us[kernel],
                    "estimated": costs[DIRECT] / cost,
                }
                for kernel, cost in costs.items()
                if kernel != DIRECT
            },
            "lost": lost(self.us, picked),
            "cold_lost": lost(self.cold_us, picked),
            "judged": "cold" if self.judged_cold else "warm",
            "judged_lost": lost(judged, picked),
            "judged_lost_us": judged[picked] - min(judged.values()),
        }


def lost(us: dict[str, float], picked: str) -> float:
    """Return how much longer the pick takes than the fastest, as a share of the latter."""
    return us[picked] / min(us.values()) - 1


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
    """Compile a layer under every kernel that may be chosen for it, and check the answers."""
    graph = optimize(graph)
    node = graph.nodes[-1]
    layer = Layer(node.name, kernels_layers.describe(graph, node), graph, 2 * graph.macs(node), [])
    rule = Rule(layer, _convolution(graph, node), 4 * prod(node.weights["weight"].shape))
    for kernel in conv.candidates(rule.convolution, this_machine()):
        if kernel.name in WEIGHED:
            kernels_layers.prepare(layer, 1, 1, {kernel.name: {"kernel": kernel.name}}, cold=True)
    return rule


def _convolution(graph: Graph, node: Node) -> Convolution:
    """Return a layer as kernels judge it."""
    (c, h, w), weight, a = graph.shapes[node.inputs[0]], node.weights["weight"].shape, node.attrs
    out = (weight[0], *conv_size((h, w), weight[2:], a["stride"], a["padding"], a["dilation"]))
    at_hand = {"nchw" if node.inputs[0] == INPUT else "nhwc"}
    return Convolution(node, (c, h, w), out, at_hand, returned=False, double=False)


def run(quick: bool, console: Console) -> tuple[list[str], dict[str, Any]]:
    """Check and time all layers, print the table; return what fell short, and the table for the JSON."""
    rules = [prepare(graph) for graph in graphs()]
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with progress("rules", 2 * rounds * len(rules)) as tick:
        for rule in rules:
            warm = {trial.algorithm: trial.candidate for trial in rule.layer.trials}
            cold = {trial.algorithm: trial.cold for trial in rule.layer.trials if trial.cold is not None}
            for candidates, us in ((warm, rule.us), (cold, rule.cold_us)):
                alternate(list(candidates.values()), rounds, tick)
                us |= {kernel: 1e6 * candidate.minimum for kernel, candidate in candidates.items()}
    results = [rule.as_json() for rule in rules]
    console.print(_table(results))
    faults = [
        f"{result['what']}: {result['picked']} takes {result['judged_lost']:.0%} longer than the fastest, "
        f"{result['judged']}; {MOST_LOST:.0%} is allowed"
        for result in results
        if result["judged_lost"] > MOST_LOST and result["judged_lost_us"] > MOST_LOST_US
    ]
    return [] if quick else faults, {"rules": results}


def _table(results: list[dict[str, Any]]) -> Table:
    """Return the table: times, gains measured and estimated, what the pick costs; the second lines are cold."""
    table = Table(title="Least µs of each kernel, gain over the direct tile: measured (estimated); below, cold")
    table.add_column("layer", min_width=30)
    table.add_column("direct", justify="right")
    for kernel in HEADINGS:
        table.add_column(HEADINGS[kernel], justify="right")
        table.add_column("gain", justify="right")
    table.add_column("picked")
    table.add_column("lost", justify="right")
    for result in results:
        cells = []
        for kernel in HEADINGS:
            gain = result["gains"].get(kernel)
            cells += [
                f"{result['us'][kernel]:.2f}\n{result['cold_us'][kernel]:.2f}" if gain else "",
                f"{gain['measured']:.2f} ({gain['estimated']:.2f})\n{gain['cold']:.2f}       " if gain else "",
            ]
        table.add_row(
            result["what"],
            f"{result['us'][DIRECT]:.2f}\n{result['cold_us'][DIRECT]:.2f}",
            *cells,
            HEADINGS.get(result["picked"], DIRECT),
            "\n".join(f"{share:.0%}" if share > 0.005 else "" for share in (result["lost"], result["cold_lost"])),
        )
    return table
