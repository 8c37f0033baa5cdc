"""The register tile against the machine's FMA peak, at every level: ``kernels.py tile``.

Each product (M, N, K) is that of a 3x3 convolution, so it is computed as the engine computes it:
the tile reads the image in place. That is what the target counts. Beside it the same convolution
by im2col blocks feeding the tile and by im2col blocks feeding BLAS; and, without a convolution,
tile and BLAS multiplying a ready (M, K) matrix, which at 7 MB comes from the third-level cache.
BLAS chooses its own instruction set, so only at the highest level is it a like for like.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from kernels_timing import Candidate, alternate, blas_threads, check, context, progress
from rich.console import Console
from rich.table import Table

from fastconv._base import level
from fastconv.compile import compile_graph
from fastconv.graph import INPUT, Graph, Node
from fastconv.machine.cpu import LEVELS, kernels

PRODUCTS = ((3136, 64, 576), (784, 128, 1152))
"""(M, N, K) of the 3x3 layers at 56x56x64 and 28x28x128: M pixels, N outputs, K = 9 N taps."""

TARGET = 0.95
"""Share of the peak that the tile must reach in its best round..."""
TARGET_LEVELS = ("x86-64-v3", "x86-64-v4")
"""...at these levels. v2 has no FMA and no broadcasting load: its front end is the limit."""

TOLERANCE = 1e-5
ROUNDS, QUICK_ROUNDS = 150, 5
TILE, MATRIX, BLAS = "tile", "tile, ready matrix", "BLAS, ready matrix"
CONVOLUTIONS = {"direct": TILE, "packed": "im2col + tile", "im2col": "im2col + BLAS"}


def _profiled(program: Any, x: Any, node: str) -> Callable[[], float]:
    """Return a burst that gives the seconds of the steps that compute `node`, layouts left out."""
    steps = [k for k, step in enumerate(program.steps) if step["node"] == node and not step["label"].startswith("to ")]
    return lambda: sum(program.profile((x,))[k] for k in steps)


def _product(m: int, n: int, k: int) -> list[Candidate]:
    """Build the candidates for one product and check what they compute."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k), np.float32)
    weight = rng.standard_normal((n, k), np.float32)
    graph = Graph((m, k), (Node("product", "linear", (INPUT,), {}, {"weight": weight}),), ("product",))
    program = compile_graph(graph, threads=1)
    expected = a.astype(np.float64) @ weight.T.astype(np.float64)
    check(MATRIX, program(a[np.newaxis])[0], expected, TOLERANCE)
    b = np.ascontiguousarray(weight.T)
    y = np.empty((m, n), np.float32)

    def blas() -> float:
        start = time.perf_counter()
        kernels().blas_product(a, b, y)
        return time.perf_counter() - start

    candidates = [
        *_convolutions(math.isqrt(m), k // 9, n),
        Candidate(MATRIX, _profiled(program, a[np.newaxis], "product")),
        Candidate(BLAS, blas),
    ]
    blas()
    check(BLAS, y, expected, TOLERANCE)
    return candidates


def _convolutions(size: int, channels: int, outputs: int) -> list[Candidate]:
    """Build the 3x3 convolution of a size x size image under each algorithm, checked."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((outputs, channels, 3, 3), np.float32)
    x = rng.standard_normal((1, channels, size, size), np.float32)
    node = Node("conv", "conv2d", (INPUT,), {"padding": 1}, {"weight": weight})
    wide = node.replace(weights={"weight": weight.astype(np.float64)})
    expected = compile_graph(Graph(x.shape[1:], (wide,), ("conv",)))(x.astype(np.float64))
    candidates = []
    for algorithm, name in CONVOLUTIONS.items():
        graph = Graph(x.shape[1:], (node,), ("conv",))
        program = compile_graph(graph, threads=1, algorithm=algorithm)
        check(name, program(x), expected, TOLERANCE)
        candidates.append(Candidate(name, _profiled(program, x, "conv")))
    return candidates


def measure(quick: bool) -> dict[str, Any]:
    """Measure this process's level; return what `run` prints."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    products = []
    name = kernels().LEVEL
    with blas_threads(1), progress(name, rounds * len(PRODUCTS)) as tick:
        for m, n, k in PRODUCTS:
            candidates = _product(m, n, k)
            peak = alternate(candidates, rounds, tick)
            flops = 2e-9 * m * n * k
            products.append(
                {
                    "product": [m, n, k],
                    "peak_gflops": peak,
                    "gflops": {c.name: {"median": flops / c.median, "best": flops / c.minimum} for c in candidates},
                }
            )
    return {"level": name, "context": context(1), "products": products}


def levels_here() -> list[str]:
    """Return the levels that this CPU runs and that are built, lowest first."""
    names = list(LEVELS)
    lower = names[1 : names.index(level()) + 1] if level() in names[1:] else ["generic"]
    probe = "import fastconv.machine.cpu; fastconv.machine.cpu.kernels()"
    return [
        name
        for name in lower
        if not subprocess.run(
            [sys.executable, "-c", probe],
            env={**os.environ, "FASTCONV_ISA": name},
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
    ]


def run(quick: bool, console: Console) -> dict[str, Any]:
    """Measure every level in a process of its own, print a table each; return all for the JSON."""
    results = []
    for name in levels_here():
        command = [sys.executable, os.path.join(os.path.dirname(__file__), "kernels.py"), "tile"]
        command += ["--level", *(["--quick"] if quick else [])]
        child = subprocess.run(command, env={**os.environ, "FASTCONV_ISA": name}, stdout=subprocess.PIPE, check=True)
        result = json.loads(child.stdout)
        results.append(result)
        console.print(_table(result))
    return {"levels": results}


def missed(result: dict[str, Any]) -> list[str]:
    """Return a line for every product whose tile stays below the target."""
    return [
        f"{entry['level']} {'x'.join(map(str, product['product']))}: "
        f"{product['gflops'][TILE]['best'] / product['peak_gflops']:.1%} of the peak, "
        f"needs {TARGET:.0%}"
        for entry in result["levels"]
        if entry["level"] in TARGET_LEVELS
        for product in entry["products"]
        if product["gflops"][TILE]["best"] < TARGET * product["peak_gflops"]
    ]


def _table(result: dict[str, Any]) -> Table:
    """Return one level's table: GFLOP/s and share of the peak, a line for each product and way."""
    table = Table(title=f"{result['level']}, one thread", title_justify="left")
    table.add_column("M x N x K")
    table.add_column("what")
    for heading in ("GFLOP/s median", "best", "of peak: median", "best"):
        table.add_column(heading, justify="right")
    for product in result["products"]:
        peak = product["peak_gflops"]
        size = " x ".join(map(str, product["product"]))
        table.add_row(size, "FMA peak, measured", "", f"{peak:.1f}", "", "", style="dim")
        for name, gflops in product["gflops"].items():
            table.add_row(
                "",
                name,
                f"{gflops['median']:.1f}",
                f"{gflops['best']:.1f}",
                f"{gflops['median'] / peak:.1%}",
                f"{gflops['best'] / peak:.1%}",
                style="bold" if name == TILE else "",
            )
    return table
