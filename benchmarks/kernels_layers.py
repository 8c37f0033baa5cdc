"""Each convolution of a model under every algorithm: ``kernels.py layers MODEL``.

Every layer is compiled by itself with its own weights and epilogues, behind a node that leaves its
input as the layer finds it in the network: in PyTorch's order for the first one, channels last for
the others. What is timed is all that the layer makes necessary: layout changes of its input,
borders, im2col, the product, activation and pool; not the change back to PyTorch's order, which no
network makes between layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import nets
import numpy as np
from kernels_timing import Candidate, alternate, blas_threads, check, evict, progress
from rich.console import Console
from rich.table import Table

import fastconv
from fastconv.compile import ALGORITHMS, compile_graph
from fastconv.errors import UnsupportedOperatorError
from fastconv.graph import INPUT, Graph, Node
from fastconv.rewrite import optimize

MODEL = "auto"
"""What a model is compiled with."""
TOLERANCE, WINOGRAD_TOLERANCE = 1e-5, 5e-5
"""Largest error of a right answer, relative to the layer's largest output."""
ROUNDS, QUICK_ROUNDS = 40, 3
BURST_S = 0.002
"""A burst repeats a short layer for about so long and counts the median."""
MAX_REPEATS = 1000
BACK = "to NCHW"
"""The step that only the measurement needs."""
TWIN = "twin"
"""The node that runs before a layer whose weights are to be cold."""


@dataclass
class Trial:
    """One layer under one algorithm: the kernel that came of it, and its times."""

    algorithm: str
    kernel: str
    candidate: Candidate
    cold: Candidate | None
    """The same with the weights out of the caches, where that was asked for."""


@dataclass
class Layer:
    """One convolution: a network of its own, and the trials that can do it."""

    name: str
    what: str
    graph: Graph
    work: int
    """Floating-point operations of one image; an addition and a multiplication count as two."""
    trials: list[Trial]

    @property
    def picked(self) -> str:
        """The kernel that is chosen."""
        return next(trial.kernel for trial in self.trials if trial.algorithm == MODEL)


def read(model: str) -> Graph:
    """Return the optimised graph of a ``.npz`` file or of a network in ``nets.NETWORKS``."""
    if model.endswith(".npz"):
        return optimize(fastconv.load(model).graph)
    if model == "lenet" and Path(nets.LENET_WEIGHTS).exists():  # without torch
        return optimize(fastconv.load(nets.LENET_WEIGHTS).graph)
    if model not in nets.NETWORKS:
        raise ValueError(f"{model!r} is neither a .npz file nor one of {', '.join(nets.NETWORKS)}")
    network = nets.build(model)
    return optimize(fastconv.from_torch(network, nets.NETWORKS[model].input_shape).graph)


def alone(graph: Graph, node: Node) -> Graph:
    """Return the network of one convolution, with its input, and its residual, made before it."""
    shape = graph.shapes[node.inputs[0]]
    nodes: list[Node] = []
    source = INPUT
    if node.inputs[0] != INPUT:
        source = "input, channels last"
        nodes.append(Node(source, "relu", (INPUT,), {}, {}))
    inputs = [source]
    if len(node.inputs) > 1:  # of the output's shape: the input, cut or widened
        wanted = graph.shapes[node.name]
        widths = [w for a, b in zip(shape[::-1], wanted[::-1], strict=True) for w in (0, b - a)]
        nodes.append(Node("residual", "pad", (source,), {"padding": tuple(widths)}, {}))
        inputs.append("residual")
    nodes.append(node.replace(inputs=tuple(inputs)))
    return Graph(shape, tuple(nodes), (node.name,))


def describe(graph: Graph, node: Node) -> str:
    """Return a layer in a few words, such as ``3x3 s2 g32 32→64 @ 16x16 + relu + max pool``."""
    outputs, _, kh, kw = node.weights["weight"].shape
    channels, height, width = graph.shapes[node.inputs[0]]
    words = [f"{kh}x{kw}"]
    if node.attrs["stride"] != (1, 1):
        words.append("s{}".format("x".join(map(str, dict.fromkeys(node.attrs["stride"])))))
    if node.attrs["dilation"] != (1, 1):
        words.append("d{}".format("x".join(map(str, dict.fromkeys(node.attrs["dilation"])))))
    if node.attrs["groups"] > 1:
        words.append(f"g{node.attrs['groups']}")
    words.append(f"{channels}→{outputs} @ {height}x{width}")
    if len(node.inputs) > 1:
        words.append("+ residual")
    if node.attrs["activation"]:
        words.append(f"+ {node.attrs['activation'][0]}")
    if node.attrs["pool"]:
        words.append(f"+ {node.attrs['pool'][0]} pool")
    return " ".join(words)


def layers_of(graph: Graph, only: str) -> list[Layer]:
    """Return the convolutions whose name contains `only`; equal ones (of a deep network) once."""
    layers: dict[str, Layer] = {}
    for node in graph.nodes:
        if node.op != "conv2d" or only not in node.name:
            continue
        what = describe(graph, node)
        if what not in layers:
            name = " + ".join((*node.fused, node.name))
            layers[what] = Layer(name, what, alone(graph, node), 2 * graph.macs(node), [])
    return list(layers.values())


def _steps(program: Any, before: str) -> list[int]:
    """Return the steps behind the node `before` ("": all), but neither a twin's nor the way back."""
    nodes = [step["node"] for step in program.steps]
    skip = nodes.index(before) + 1 if before else 0
    return [k for k in range(skip, len(nodes)) if nodes[k] != TWIN and program.steps[k]["label"] != BACK]


def _candidate(program: Any, x: Any, before: str) -> Candidate:
    """Return what times a layer one call behind the other."""
    steps = _steps(program, before)
    once = sum(program.profile((x,), 3)[k] for k in steps)
    repeats = max(1, min(MAX_REPEATS, ceil(BURST_S / max(once, 1e-9))))
    return Candidate("", lambda: sum(program.profile((x,), repeats)[k] for k in steps))


def _cold_candidate(program: Any, x: Any, before: str) -> Candidate:
    """Return what times a layer with its weights out of the caches, behind its twin in the same program."""
    steps = _steps(program, before)

    def burst() -> float:
        evict()
        seconds: list[float] = program.profile((x,), 1)
        return sum(seconds[k] for k in steps)

    return Candidate("", burst)


def with_twin(graph: Graph) -> Graph:
    """Return a layer's network with another such layer just before it, which has weights of its own.

    It leaves input, code and scratch in the caches, as the layers of a network do.
    """
    *before, node = graph.nodes
    weights = {role: array.copy() for role, array in node.weights.items()}
    twin = node.replace(name=TWIN, weights=weights)
    return Graph(graph.input_shape, (*before, twin, node), (*graph.outputs, TWIN))


BY_ALGORITHM = {algorithm: {"algorithm": algorithm} for algorithm in ALGORITHMS}


def prepare(
    layer: Layer, batch: int, threads: int, ways: Mapping[str, dict[str, str]] = BY_ALGORITHM, cold: bool = False
) -> None:
    """Compile the layer in each way (name -> arguments of `compile_graph`) that can do it, and check the answers.

    cold: to be timed with its weights out of the caches, too.
    """
    graph = layer.graph
    x = np.random.default_rng(0).standard_normal((batch, *graph.input_shape), np.float32)
    wide = [node.replace(weights={k: v.astype(np.float64) for k, v in node.weights.items()}) for node in graph.nodes]
    expected = compile_graph(Graph(graph.input_shape, tuple(wide), graph.outputs))(x.astype(np.float64))
    before = graph.nodes[-2].name if len(graph.nodes) > 1 else ""
    for algorithm, options in ways.items():
        try:
            program = compile_graph(graph, threads=threads, **options)  # type: ignore[arg-type]
        except UnsupportedOperatorError:
            continue
        own = [step["label"] for step in program.steps if step["node"] == layer.graph.outputs[0]]
        kernel = " + ".join(name for name in own if name != BACK)
        tolerance = WINOGRAD_TOLERANCE if "winograd" in kernel.lower() else TOLERANCE
        check(f"{layer.name}, {algorithm}", program(x), expected, tolerance)
        trial = Trial(algorithm, kernel, _candidate(program, x, before), None)
        if cold:
            program = compile_graph(with_twin(graph), threads=threads, **options)  # type: ignore[arg-type]
            trial.cold = _cold_candidate(program, x, before)
        layer.trials.append(trial)


def run(model: str, only: str, batch: int, threads: int, quick: bool, console: Console) -> dict[str, Any]:
    """Check and time the layers of a model, print a table of each; return all for the JSON."""
    layers = layers_of(read(model), only)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    results = []
    with blas_threads(threads), progress(model, rounds * len(layers)) as tick:
        for layer in layers:
            prepare(layer, batch, threads)
        for layer in layers:
            candidates = [trial.candidate for trial in layer.trials]
            peak = threads * alternate(candidates, rounds, tick, threads)
            results.append(_result(layer, batch, peak))
    for result in results:
        console.print(_table(result))
    return {"model": model, "batch": batch, "layers": results}


def _result(layer: Layer, batch: int, peak: float) -> dict[str, Any]:
    """Return one layer's entry of the JSON."""
    return {
        "layer": layer.name,
        "what": layer.what,
        "mflop": layer.work * batch / 1e6,
        "peak_gflops": peak,
        "picked": layer.picked,
        "trials": [
            {
                "algorithm": trial.algorithm,
                "kernel": trial.kernel,
                "median_us": 1e6 * trial.candidate.median,
                "min_us": 1e6 * trial.candidate.minimum,
                "gflops": 1e-9 * layer.work * batch / trial.candidate.median,
                "share_of_peak": 1e-9 * layer.work * batch / trial.candidate.median / peak,
            }
            for trial in layer.trials
        ],
    }


def _table(result: dict[str, Any]) -> Table:
    """Return one layer's table, the pick marked, the fastest in bold."""
    title = f"{result['layer']}: {result['what']}, {result['mflop']:.2f} MFLOP"
    table = Table(title=title, title_justify="left")
    table.add_column("algorithm", min_width=12)
    table.add_column("kernel", min_width=30)
    for heading in ("median µs", "min µs", "GFLOP/s", "of peak"):
        table.add_column(heading, justify="right")
    fastest = min(trial["median_us"] for trial in result["trials"])
    for trial in result["trials"]:
        picked = trial["kernel"] == result["picked"]
        table.add_row(
            f"{trial['algorithm']}{' ◀' if picked else ''}",
            trial["kernel"],
            f"{trial['median_us']:.2f}",
            f"{trial['min_us']:.2f}",
            f"{trial['gflops']:.1f}",
            f"{trial['share_of_peak']:.0%}",
            style="bold" if trial["median_us"] == fastest else "",
        )
    return table
