"""fastconv.grad beside PyTorch's autograd: a call and the gradients of its arrays, one thread.

Timed as ``functional.py`` does it, with its answers checked first, against PyTorch in float64: fastconv by
``vjp`` and the pullback, PyTorch by the function and ``torch.autograd.grad``. With ``inner`` the gradient by
the input is not asked for, as in a network's first layer. The ratio is PyTorch's median over fastconv's.

A run writes ``benchmarks/results/CPU/grad.json``; with ``--quick``, ``--only`` or ``--json`` it does not.
Exits with 1 where an answer is wrong; ``--strict`` also where fastconv is slower.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import functional as base
import numpy as np
import peers
import report
from functional import OWN, TORCH, Call, Shape
from rich.console import Console

STORED = "grad"
TITLE = "PyTorch's forward and backward over fastconv's, one thread"
TOLERANCE = 2e-5  # of sums of a hundred thousand products


@dataclass(frozen=True)
class Case(base.Case):
    """As the base's, and what only gradients have."""

    classes: int = 0  # the last argument holds as many indices of classes as the input has rows
    first: bool = False  # the gradient by the input is not wanted: a network's first layer

    @property
    def title(self) -> str:
        """What tells the case from the others of its function."""
        return super().title + (", weights alone" if self.first else "")


def _conv(x: Shape, weight: Shape, first: bool = False, **attributes: Any) -> Case:
    return Case("conv2d", (x, weight, weight[:1]), attributes, first=first)


def _linear(rows: int, features: int, out: int) -> Case:
    return Case("linear", ((rows, features), (out, features), (out,)))


LENET = (64, 6, 24, 24), (64, 16, 8, 8)
CIFAR = (64, 32, 32, 32), (64, 64, 16, 16)

CASES = [
    _conv((64, 1, 28, 28), (6, 1, 5, 5), first=True),
    _conv((64, 1, 28, 28), (6, 1, 5, 5)),
    _conv((64, 6, 12, 12), (16, 6, 5, 5)),
    _conv((64, 3, 32, 32), (32, 3, 3, 3), first=True, padding=1),
    _conv((64, 3, 32, 32), (32, 3, 3, 3), padding=1),
    _conv((64, 32, 16, 16), (64, 32, 3, 3), padding=1),
    _conv((8, 64, 56, 56), (64, 64, 3, 3), padding=1),
    _conv((8, 64, 56, 56), (128, 64, 3, 3), padding=1, stride=2),
    _conv((8, 256, 14, 14), (256, 256, 3, 3), padding=1),
    _conv((8, 64, 56, 56), (128, 64, 1, 1)),
    _conv((8, 96, 28, 28), (96, 1, 3, 3), padding=1, groups=96),
    *[Case("max_pool2d", (shape,), {"kernel_size": 2}) for shape in LENET + CIFAR],
    Case("max_pool2d", ((8, 64, 112, 112),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    *[Case("avg_pool2d", (shape,), {"kernel_size": 2}) for shape in LENET + CIFAR],
    Case("adaptive_avg_pool2d", ((8, 512, 7, 7),), {"output_size": 1}),
    *[
        Case("batch_norm", (shape, *((shape[1],),) * 4), {"training": training}, variance=2)
        for shape in ((64, 16, 8, 8), (64, 32, 32, 32), (8, 64, 56, 56))
        for training in (True, False)
    ],
    Case("layer_norm", ((64, 197, 192), (192,), (192,)), {"normalized_shape": (192,)}),
    _linear(64, 256, 120),
    _linear(64, 120, 84),
    _linear(64, 84, 10),
    _linear(64, 4096, 1000),
    Case("cross_entropy", ((64, 10),), classes=10),
    Case("cross_entropy", ((64, 1000),), classes=1000),
    Case("mse_loss", ((64, 10), (64, 10))),
    *[Case("relu", (shape,)) for shape in LENET + CIFAR],
    *[Case(op, (CIFAR[1],)) for op in ("leaky_relu", "sigmoid", "tanh", "silu", "gelu", "hardswish")],
    Case("softmax", ((64, 1000),), {"dim": 1}),
    Case("add", (CIFAR[1], CIFAR[1])),
    Case("mul", (CIFAR[1], (64, 1, 1))),
]


def calls(case: base.Case) -> tuple[dict[str, Call], dict[str, float]]:
    """Return what is timed, by candidate, and the largest error of a gradient."""
    import torch

    import fastconv.functional
    from fastconv.grad import vjp

    assert isinstance(case, Case)
    arrays, attributes = case.arrays(), dict(case.attributes)
    target = np.random.default_rng(base.SEED).integers(0, case.classes, len(arrays[0])) if case.classes else None
    named: list[Any] = []
    if case.function == "layer_norm":  # its shape stands between its arrays
        named, arrays = arrays[1:], arrays[:1]
    own = getattr(fastconv.functional, case.function)
    other = getattr(torch.nn.functional, case.function, None) or getattr(torch, case.function)
    wanted = ("input", "weight", "bias", "other")[int(case.first) :]
    statistics_ = case.function == "batch_norm"

    def forward(function: Any, given: list[Any], kept: list[Any], classes: Any) -> Any:
        extra = dict(zip(("weight", "bias"), kept, strict=True)) if kept else {}
        return function(*given, *(() if classes is None else (classes,)), **attributes, **extra)

    def run_torch(tensors: list[Any], kept: list[Any], g: Any) -> Any:
        y = forward(other, tensors, kept, None if target is None else torch.from_numpy(target))
        leaves = [tensor for tensor in (*tensors, *kept) if tensor.requires_grad]
        return torch.autograd.grad(y, leaves, torch.ones_like(y) if g is None else g)

    def tensors_of(values: list[Any], double: bool) -> list[Any]:
        made = [torch.from_numpy(value.astype(np.float64) if double else value.copy()) for value in values]
        for place, tensor in enumerate(made):
            fixed = (statistics_ and place in (1, 2)) or (case.first and place == 0)
            tensor.requires_grad_(not fixed)
        return made

    y = forward(own, [array.copy() for array in arrays], named, target)
    g = np.asarray(np.random.default_rng(1).standard_normal(y.shape, np.float32)).reshape(y.shape)

    def run_own(_: Any) -> Any:
        _, pullback = forward(lambda *a, **k: vjp(own, *a, **k), arrays, named, target)
        return pullback(g, wrt=_names(own, wanted)) if case.first else pullback(g)

    singles, doubles = tensors_of(arrays, False), tensors_of(arrays, True)
    kept, kept_doubles = tensors_of(named, False), tensors_of(named, True)
    tensor_g = torch.from_numpy(g)

    def run_other(_: Any) -> Any:
        return run_torch(singles, kept, tensor_g)

    reference = [gradient.numpy() for gradient in run_torch(doubles, kept_doubles, tensor_g.double())]
    found = run_own(None)
    listed = [gradient for gradient in (found if isinstance(found, tuple) else (found,)) if gradient is not None]
    errors = {
        OWN: max(base.error_of(gradient, want) for gradient, want in zip(listed, reference, strict=True)),
        TORCH: max(
            base.error_of(gradient.numpy(), want) for gradient, want in zip(run_other(None), reference, strict=True)
        ),
    }
    return {OWN: run_own, TORCH: run_other}, errors


def _names(function: Any, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return those arguments of a function that are wanted."""
    known = function.__code__.co_varnames[: function.__code__.co_argcount]
    return tuple(name for name in wanted if name in known)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = base.parse(arguments)
    if any(os.environ.get(name) != value for name, value in base.ONE_THREAD.items()):
        command = [sys.executable, __file__, *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(command, env={**os.environ, **base.ONE_THREAD}).returncode
    import torch

    torch.set_num_threads(1)
    console = Console(stderr=options.json)
    if not console.is_terminal:
        console.width = 120
    plan = base.QUICK_PLAN if options.quick else base.PLAN
    machine = peers.machine()
    cases: list[base.Case] = [case for case in CASES if (options.only or "") in case.name]
    if not cases:
        console.print(f"No case's name contains {options.only!r}.", style="red")
        return 1
    begun = peers.busy_seconds()
    entries = base.measure(cases, plan, console, calls)
    machine["others_cores"] = peers.others_cores(begun)
    config = peers.fastconv_config("native")
    run = {
        "date": peers.now(),
        "commit": peers.commit(),
        "machine": machine,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "fastconv_config": config,
        "plan": asdict(plan),
        "geometric_mean": round(statistics.geometric_mean(entry["ratio"] for entry in entries), 3),
        "cases": entries,
    }
    if options.json:
        print(json.dumps(run, indent=1, ensure_ascii=False))
    else:
        console.print(base.table(run, TITLE))
        console.print(base.summary(run))
    wrong = [entry for entry in entries if entry[OWN]["error"] > TOLERANCE]
    for entry in wrong:
        console.print(f"wrong: {entry['function']} {entry['case']}: error {entry[OWN]['error']:.1e}", style="red")
    if not (options.quick or options.only or options.json or wrong):
        report.store(report.cpu_slug(config), STORED, run)
    return int(bool(wrong) or (options.strict and min(entry["ratio"] for entry in entries) < 1))


if __name__ == "__main__":
    sys.exit(main())
