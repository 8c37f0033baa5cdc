"""The kernels one at a time: the register tile, each convolution of a model, the choice among kernels.

    kernels.py tile             the tile against this machine's FMA peak, at every level
    kernels.py layers lenet     each convolution under every algorithm, the pick marked
    kernels.py rules            what is estimated for 60 layers, and what they take

Answers are checked against float64 before anything is timed; candidates take turns within one run.
Times are of single steps (`Program.profile`), so Python has no share in them. The peak is measured
on the same thread between the turns (`fma_peak` in fastconv/kernels/measure.pxi) and multiplied by
the thread count.

Exit status: 0, or 1 where an answer was wrong, the tile missed its share of the peak, or a pick lost too much.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import kernels_layers
import kernels_rules
import kernels_tile
from kernels_timing import WrongAnswerError, context, describe
from rich.console import Console

import fastconv

WIDTH = 140
"""Of the tables where the output is no terminal."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Time the kernels one at a time.")
    commands = parser.add_subparsers(dest="command", required=True)
    tile = commands.add_parser("tile", help="the register tile against the FMA peak")
    tile.add_argument("--level", action="store_true", help="this process's level only, as JSON")
    layers = commands.add_parser("layers", help="each convolution under every algorithm")
    layers.add_argument("model", help="a .npz file, or a network of nets.py such as lenet, cifar_conv")
    layers.add_argument("--only", metavar="TEXT", default="", help="layers whose name contains TEXT")
    layers.add_argument("--batch", type=int, default=1)
    layers.add_argument("--threads", type=int, default=1)
    rules = commands.add_parser("rules", help="the estimates against the clock")
    for command in (tile, layers, rules):
        command.add_argument("--quick", action="store_true", help="a few seconds; answers count")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parse(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    try:
        if options.command == "tile" and options.level:
            json.dump(kernels_tile.measure(options.quick), sys.stdout)
            return 0
        where = context(getattr(options, "threads", 1))
        describe(where, console)
        faults, results = _run(options, console)
    except (WrongAnswerError, fastconv.FastconvError, ValueError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json is not None:
        text = json.dumps({"context": where, **results}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def _run(options: argparse.Namespace, console: Console) -> tuple[list[str], dict[str, Any]]:
    """Run the benchmark that was asked for; return what fell short, and the numbers."""
    if options.command == "layers":
        return [], kernels_layers.run(
            options.model, options.only, options.batch, options.threads, options.quick, console
        )
    if options.command == "rules":
        return kernels_rules.run(options.quick, console)
    results = kernels_tile.run(options.quick, console)
    return [] if options.quick else kernels_tile.missed(results), results


if __name__ == "__main__":
    sys.exit(main())
