"""Write docs/operators.md: every operator, where it is known, and the networks that were run (``make docs``).

The table follows from the tables in the code; ``docs/networks.json`` is what ``make test-zoo`` wrote.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emitted import Emitted

from fastconv import functional
from fastconv.compile import conv
from fastconv.formats.onnx import ops as onnx_ops
from fastconv.formats.torch import ops as torch_ops
from fastconv.graph.builder import GraphBuilder
from fastconv.graph.ops import FAMILIES, OPS, family_of
from fastconv.graph.ops.activation import ACTIVATIONS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "operators.md"
NETWORKS = ROOT / "docs" / "networks.json"
BACKSLASH = "\\"
ALSO = {
    "matmul": ("bmm", "scaled_dot_product_attention"),
    "permute": ("transpose",),
    "cat": ("stack",),
    "expand": ("broadcast_to",),
    "maximum": ("clamp",),
    "minimum": ("clamp",),
}
"""Functions that are called otherwise than the operators that stand for them."""
CONVOLUTION = "convolution"
"""In place of the kernel's name, where one of a convolution's is chosen by cost."""

HEAD = """\
# Operators, and networks that were run

Written by `docs/operators.py` (`make docs`) from the tables in the code; do not edit.

## Operators

What the Graph knows, by family; attributes are in [format.md](format.md). A call of PyTorch or an operator of ONNX
stands in each row that it may become part of, by its arguments: `aten.mul.Tensor` by a constant for each channel is a
`batch_norm`, of two tensors a `mul`. In-place calls (`relu_`) are read as the plain ones.

- **functional**: the functions of `fastconv.functional` on arrays.
- **epilogue**: what is computed as a part of the operator, on what its kernel has just stored: an activation, the
  addition of a residual, a pool. *Is one*: it is an activation, so every kernel with an epilogue computes it.
- **kernels**: what runs (`fastconv/kernels/`), vectorised at every instruction-set level; nothing where no value is
  computed or moved.
"""

CONVOLUTIONS = """\
For `conv2d` one of these is chosen by its estimated cost: {kernels}. `conv_transpose2d` is computed as convolutions
with the parts of its kernel.
"""

WAYS = {"pytorch": "from PyTorch", "onnx": "from ONNX", "onnx, newer": "by PyTorch's newer exporter"}

RUN = """\
## Networks

Run by `make test-zoo` with random weights, from PyTorch and for some of them from an ONNX file too, and compared with
PyTorch: the largest difference of any output, relative to the largest value of that output, and the same class. The
limit is 1e-4. Images are small where the network takes them.
"""


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    titles = list(head)
    return "\n".join(["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *lines]) + "\n"


def code(names: Iterable[str]) -> str:
    """Return names as code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def readings(functions: Mapping[str, Any], families: Iterable[Any], prefix: str = "") -> dict[str, list[str]]:
    """Return operator -> the entries of a format's table that it may come from, in the table's order."""
    emitters = {"emit", "along", "spatial", "trailing", "add"}
    emitted = Emitted("fastconv", emitters, set(OPS), methods={"builder": GraphBuilder})
    means = {prefix + name: ops for family in families for name, ops in family.FUNCTIONS.means.items()}
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, function in functions.items():
        for op in {*means.get(name, ()), *emitted.of(function)}:
            found[op].append(name.removeprefix(prefix))
    return found


def kernels(op: str) -> list[str]:
    """Return the kernels that an operator may be compiled to."""
    source = (ROOT / "fastconv" / "kernels" / "program.pxi").read_text(encoding="utf-8")
    emitted = Emitted("fastconv.compile", {"Step"}, set(re.findall(r'Kernel\("(\w+)"', source)), other=CONVOLUTION)
    lower = import_module(f"fastconv.compile.ops.{family_of(op)}").LOWER[op]
    return sorted(emitted.of(lower, node=SimpleNamespace(op=op)))


def functions(op: str) -> list[str]:
    """Return the names in `functional` of an operator, for images and for signals, and the others that are it."""
    return [
        name for name in dict.fromkeys((op, op.replace("2d", "1d"), *ALSO.get(op, ()))) if name in functional.__all__
    ]


def epilogue(op: str) -> str:
    """Say what may be fused into an operator, or that it may be fused."""
    if op in ACTIVATIONS:
        return "is one"
    spec = OPS[op]
    parts = [name for name in ("activation", "pool") if name in spec.attributes]
    if parts and op in ("conv2d", "linear"):
        parts.insert(0, "residual")
    return ", ".join(parts)


def calls(names: Iterable[str]) -> str:
    """Return ATen calls, with the overloads of each together."""
    overloads: dict[str, list[str]] = {}
    for name in names:
        call, _, overload = name.partition(".")
        overloads.setdefault(call, []).append(overload)
    return code(f"{call}.{'/'.join(kinds)}" for call, kinds in overloads.items())


def operators() -> str:
    """Return the table of operators."""
    aten = readings(torch_ops.FUNCTIONS, torch_ops._FAMILIES, "aten.")
    onnx = readings(onnx_ops.FUNCTIONS, onnx_ops._FAMILIES)
    parts = []
    for family in (*FAMILIES, "activation"):
        ops = FAMILIES.get(family, tuple(ACTIVATIONS))
        rows = [
            (f"`{op}`", code(functions(op)), calls(aten[op]), code(onnx[op]), epilogue(op), code(kernels(op)))
            for op in ops
        ]
        head = ("operator", "functional", "PyTorch (`aten.`)", "ONNX", "epilogue", "kernels")
        parts.append(f"### {family}\n\n{table(head, rows)}")
    return "\n".join(parts)


def networks() -> str:
    """Return the tables of the networks that were run."""
    if not NETWORKS.exists():
        return "Not run yet.\n"
    stored = json.loads(NETWORKS.read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version}" for name, version in stored["versions"].items())
    parts = [f"With {versions}.\n"]
    for source, runs in stored["networks"].items():
        rows = [
            (f"`{name}`", f"{run['size']}", *(shown(run.get(way)) for way in WAYS))
            for name, run in sorted(runs.items())
        ]
        passed = sum(isinstance(run.get("pytorch"), float) for run in runs.values())
        parts.append(f"### {source}: {passed} of {len(runs)}\n")
        parts.append(table(("network", "pixels", *WAYS.values()), rows))
    return "\n".join(parts)


def shown(result: float | str | None) -> str:
    """Return an error as it is written down, or why there is none."""
    if result is None or isinstance(result, float):
        return "" if result is None else f"{result:.0e}"
    return f"refused: `{result.replace(BACKSLASH, '')}`"


def page() -> str:
    """Return all of the page."""
    rows = code(row.name for row in conv.KERNELS)
    return "\n".join([HEAD, operators(), CONVOLUTIONS.format(kernels=rows), RUN, networks()])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
