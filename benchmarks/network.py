"""Each convolution's kernel exchanged inside its network: ``network.py resnet18``.

A layer alone has its weights in cache; in its network they come from memory, and its neighbours decide in which layout
and with which border it finds its input. So each kernel that can do a layer is put in that layer's place, all others
staying as they are, and the steps of both programs are timed as the network runs (`Program.profile`). To the layer's
own steps is added what its kernel makes other nodes do more, or less: a change of layout, a border. Layers of the same
size and kind, where the same kernel is chosen, are tried once, at the first of them.

The table shows of each layer what is chosen, the least and the median time of each kernel, and which share of the whole
network's time the fastest would save, in all layers of that kind together. What a kernel saves is the median of its
differences to the chosen one within a round; the two programs take turns, in alternating order.

Exit status: 0, or 1 where an answer was wrong or there is no such network.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kernels_layers
import numpy as np
from kernels_timing import WrongAnswerError, blas_threads, check, context, describe, progress
from rich.console import Console
from rich.table import Table

import fastconv
from fastconv.compile import compile_graph, layers_of
from fastconv.compile.conv import candidates
from fastconv.graph import Graph
from fastconv.machine.description import this_machine

WIDTH = 120
"""Of the table where the output is no terminal."""
ROUNDS, QUICK_ROUNDS = 8, 2
TOLERANCE = 1e-4
"""Largest error of a network's right answer, relative to the largest output."""
CLEAR_GAIN = 0.03
"""A kernel counts as the fastest if it gains at least this share of the layer's time; below, chance decides."""


@dataclass
class Place:
    """Layers of one kind, of which the first is tried: what can do it, and the times found.

    Attributes
    ----------
    kernels
        Names; the chosen one is the first.
    seconds
        Kernel -> the layer's time in each round, with what the kernel changes elsewhere.
    saved
        Kernel other than the chosen -> by how much less that was, in each round.
    network_seconds
        The network's time, as compiled, in each round.
    """

    name: str
    what: str
    kernels: list[str]
    count: int = 1
    seconds: dict[str, list[float]] = field(default_factory=dict)
    saved: dict[str, list[float]] = field(default_factory=dict)
    network_seconds: list[float] = field(default_factory=list)

    @property
    def chosen(self) -> str:
        """The kernel that a model has."""
        return self.kernels[0]

    @property
    def fastest(self) -> str:
        """The kernel that saves most; the chosen one, unless another is clearly faster."""
        saved = {kernel: statistics.median(times) for kernel, times in self.saved.items()}
        best = max(saved, key=saved.__getitem__)
        return best if saved[best] > CLEAR_GAIN * statistics.median(self.seconds[self.chosen]) else self.chosen

    @property
    def gain(self) -> float:
        """The share of the network's time that the fastest kernel would save in all layers of this kind."""
        if self.fastest == self.chosen:
            return 0.0
        return self.count * statistics.median(self.saved[self.fastest]) / statistics.median(self.network_seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the entry of the JSON."""
        return {
            "layer": self.name,
            "what": self.what,
            "count": self.count,
            "chosen": self.chosen,
            "fastest": self.fastest,
            "gain": self.gain,
            "network_us": 1e6 * statistics.median(self.network_seconds),
            "kernels": {
                kernel: {"median_us": 1e6 * statistics.median(times), "min_us": 1e6 * min(times)}
                for kernel, times in self.seconds.items()
            },
        }


def places(graph: Graph, only: str, threads: int) -> list[Place]:
    """Return the convolutions whose name contains `only` and that several kernels can do, one for each kind."""
    nodes = {node.name: node for node in graph.nodes}
    found: dict[tuple[str, str], Place] = {}
    for name, (layer, chosen) in layers_of(graph, threads).items():
        if only not in name:
            continue
        what = kernels_layers.describe(graph, nodes[name])
        others = [kernel.name for kernel in candidates(layer, this_machine()) if kernel.name != chosen.name]
        if place := found.get((what, chosen.name)):
            place.count += 1
        else:
            found[what, chosen.name] = Place(name, what, [chosen.name, *others])
    return [place for place in found.values() if len(place.kernels) > 1]


def by_node(program: Any, x: Any) -> dict[str, float]:
    """Return the seconds of each node in one run of the network."""
    spent: dict[str, float] = {}
    for step, seconds in zip(program.steps, program.profile((x,), 1), strict=True):
        spent[step["node"]] = spent.get(step["node"], 0.0) + seconds
    return spent


def labels(program: Any) -> dict[str, tuple[str, ...]]:
    """Return the steps of each node, in words."""
    found: dict[str, tuple[str, ...]] = {}
    for step in program.steps:
        found[step["node"]] = (*found.get(step["node"], ()), step["label"])
    return found


def changed(name: str, base: dict[str, tuple[str, ...]], trial: dict[str, tuple[str, ...]]) -> set[str]:
    """Return the nodes that do other steps in one program than in the other, and the exchanged layer itself."""
    return {node for node in {*base, *trial} if base.get(node) != trial.get(node)} | {name}


def measure(place: Place, graph: Graph, base: Any, x: Any, rounds: int, tick: Callable[[], None]) -> None:
    """Check and time each kernel in the layer's place; `base` is the network as it is compiled."""
    expected, before = base(x), labels(base)
    place.seconds = {kernel: [] for kernel in place.kernels}
    for kernel in place.kernels[1:]:
        trial = compile_graph(graph, threads=base.threads, kernels={place.name: kernel})
        check(f"{place.name}, {kernel}", trial(x), expected, TOLERANCE)
        nodes = changed(place.name, before, labels(trial))
        place.saved[kernel] = []
        turns = [base, trial]
        gc.collect()
        gc.disable()
        try:
            for _ in range(rounds):
                spent = {}
                for program in turns:
                    program.profile((x,), 1)  # the other one's weights make way
                    spent[program is trial] = by_node(program, x)
                turns.reverse()
                saved = sum(spent[False].get(node, 0.0) - spent[True].get(node, 0.0) for node in nodes)
                place.saved[kernel].append(saved)
                place.seconds[kernel].append(spent[False][place.name] - saved)
                place.seconds[place.chosen].append(spent[False][place.name])
                place.network_seconds.append(sum(spent[False].values()))
                tick()
        finally:
            gc.enable()


def table(model: str, found: list[Place]) -> Table:
    """Return a line for each kind of layer, the fastest kernel in bold."""
    title = f"{model}: kernels in their layer's place, least and median µs; ◀ is chosen"
    result = Table(title=title, title_justify="left")
    result.add_column("layer", overflow="fold")
    result.add_column("x", justify="right")
    result.add_column("kernels", min_width=34)
    result.add_column("fastest")
    result.add_column("gain", justify="right")
    for place in found:
        lines = []
        for kernel, times in place.seconds.items():
            line = f"{kernel:13}{1e6 * min(times):9.1f} {1e6 * statistics.median(times):9.1f}"
            line += " ◀" if kernel == place.chosen else ""
            lines.append(f"[bold]{line}[/]" if kernel == place.fastest else line)
        gain = f"{place.gain:.1%}" if place.fastest != place.chosen else ""
        result.add_row(
            f"{place.name}\n{place.what}", str(place.count), "\n".join(lines), place.fastest, gain, end_section=True
        )
    return result


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .npz file, or a network of nets.py such as lenet, resnet18")
    parser.add_argument("--only", metavar="TEXT", default="", help="layers whose name contains TEXT")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two rounds; answers count")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parse(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    where = context(options.threads)
    describe(where, console)
    try:
        found = run(options.model, options, console)
    except (WrongAnswerError, fastconv.FastconvError, ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        run_as_json = {"context": where, "model": options.model, "batch": options.batch}
        text = json.dumps({**run_as_json, "layers": [place.as_json() for place in found]}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def run(model: str, options: argparse.Namespace, console: Console) -> list[Place]:
    """Try the layers of a model, print the table and what all exchanges would gain; return what was found."""
    graph = kernels_layers.read(model).replace(tuned={})
    found = places(graph, options.only, options.threads)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    x = np.random.default_rng(0).random((options.batch, *graph.input_shape), np.float32)
    base = compile_graph(graph, threads=options.threads)
    trials = sum(len(place.kernels) - 1 for place in found)
    with blas_threads(options.threads), progress(model, rounds * trials) as tick:
        for place in found:
            measure(place, graph, base, x, rounds, tick)
    console.print(table(model, found))
    if found:
        whole = 1e3 * statistics.median(seconds for place in found for seconds in place.network_seconds)
        gain = sum(place.gain for place in found)
        console.print(f"The network takes {whole:.3f} ms; the fastest kernel in every place would save {gain:.1%}.")
    return found


if __name__ == "__main__":
    sys.exit(main())
