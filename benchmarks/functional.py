"""fastconv.functional beside torch.nn.functional: every function, small to large, one thread.

Both are called the way their users call them: fastconv on NumPy arrays, PyTorch on tensors made
beforehand and under ``inference_mode``, so that no conversion counts against it. Answers are checked
first, against PyTorch in float64. Then the two take turns in shuffled short bursts in one process,
with a pause before each (``peers_timing``). The ratio is PyTorch's median over fastconv's: above 1,
fastconv leads.

A run writes ``benchmarks/results/CPU/functional.json`` and the README's table between its markers; with
``--quick``, ``--only`` or ``--json`` it does neither. The JSON has ``date``, ``commit``, ``machine`` (with the
load at the start and the cores that others kept busy), ``versions``, ``fastconv_config``, ``plan``,
``geometric_mean`` and ``cases``, a list; each has ``function``, ``case``, ``ratio`` and, under
``fastconv`` and ``torch``, ``median_us``, ``min_us`` and ``error`` (relative to the largest output).

Exits with 1 where an answer is wrong; ``--strict`` also where fastconv is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import peers
import peers_timing
import report
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

BEGIN, END = "<!-- functional:begin -->", "<!-- functional:end -->"
STORED = "functional"
OWN, TORCH = "fastconv", "torch"
TOLERANCE = 1e-5
PLAN = peers_timing.Plan(rounds=15, burst_s=0.008)
QUICK_PLAN = peers_timing.Plan(rounds=3, burst_s=0.005)
PROBE_CALLS = 5
SEED = 0
REFRESH_S = 0.2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Shape = tuple[int, ...]
Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """One call: the function, the shapes of its arrays in the order of its arguments, the rest by name."""

    function: str
    shapes: tuple[Shape, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    variance: int | None = None  # which of the arrays must be positive
    truths: bool = False  # the first array holds bools
    listed: bool = False  # the arrays are one argument

    @property
    def title(self) -> str:
        """What tells the case from the others of its function."""
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes[:2])
        attributes = ", ".join(f"{name}={value}" for name, value in self.attributes.items())
        return f"{shapes}, {attributes}" if attributes else shapes

    @property
    def name(self) -> str:
        """Function and title."""
        return f"{self.function} {self.title}"

    def arrays(self) -> list[Any]:
        """Make the same float32 arrays in every run."""
        rng = np.random.default_rng(SEED)
        arrays: list[Any] = [rng.standard_normal(shape, np.float32) for shape in self.shapes]
        if self.variance is not None:
            arrays[self.variance] = np.abs(arrays[self.variance]) + np.float32(0.1)
        if self.truths:
            arrays[0] = arrays[0] > 0
        return arrays


CallsOf = Callable[[Case], tuple[dict[str, Call], dict[str, float]]]

SMALL, MEDIUM, BATCH, LARGE = (1, 16, 12, 12), (1, 32, 56, 56), (8, 16, 32, 32), (1, 64, 112, 112)


def _each(function: str, shapes: tuple[Shape, ...], **attributes: Any) -> list[Case]:
    return [Case(function, (shape,), attributes) for shape in shapes]


def _conv(x: Shape, weight: Shape, **attributes: Any) -> Case:
    return Case("conv2d", (x, weight, weight[:1]), attributes)


def _linear(rows: int, features: int, out: int) -> Case:
    return Case("linear", ((rows, features), (out, features), (out,)))


_ENDS = (SMALL, LARGE)
_PRODUCTS = (
    *(((16, 32), (32, 24)), ((64, 256), (256, 120)), ((1, 4096), (4096, 1000)), ((256, 1024), (1024, 1024))),
    *(((64, 256), (256,)), ((8, 64, 64), (8, 64, 64)), ((8, 197, 192), (192, 576))),
)

CASES = [
    _conv((1, 1, 28, 28), (6, 1, 5, 5)),
    _conv((1, 6, 12, 12), (16, 6, 5, 5)),
    _conv((1, 16, 12, 12), (32, 16, 3, 3), padding=1),
    _conv((1, 32, 28, 28), (32, 1, 3, 3), padding=1, groups=32),
    _conv((8, 16, 32, 32), (32, 16, 3, 3), padding=1),
    _conv((1, 64, 56, 56), (64, 64, 3, 3), padding=1),
    _conv((1, 64, 112, 112), (32, 64, 1, 1)),
    _linear(1, 256, 120),
    _linear(64, 256, 120),
    _linear(8, 784, 300),
    _linear(1, 4096, 1000),
    _linear(256, 1024, 1024),
    *_each("max_pool2d", (SMALL, BATCH, LARGE), kernel_size=2),
    *_each("max_pool2d", (MEDIUM, LARGE), kernel_size=3, stride=2, padding=1),
    *_each("max_pool2d", (SMALL, BATCH), kernel_size=2, return_indices=True),
    *_each("avg_pool2d", (SMALL, MEDIUM, LARGE), kernel_size=2),
    *_each("adaptive_avg_pool2d", (SMALL, MEDIUM, LARGE), output_size=1),
    *_each("adaptive_avg_pool2d", (MEDIUM,), output_size=7),
    *_each("adaptive_max_pool2d", (SMALL, MEDIUM), output_size=4),
    *_each("relu", (SMALL, BATCH, LARGE)),
    *_each("relu6", (SMALL, LARGE)),
    *_each("hardtanh", (SMALL,)),
    *_each("leaky_relu", (SMALL, LARGE)),
    *_each("sigmoid", (SMALL, BATCH, LARGE)),
    *_each("tanh", (SMALL, BATCH, LARGE)),
    *_each("softmax", (SMALL, LARGE), dim=1),
    *_each("softmax", ((64, 1000),), dim=-1),
    *_each("log_softmax", ((1, 10), (64, 1000)), dim=-1),
    *[Case("batch_norm", (x, *((x[1],),) * 4), variance=2) for x in (SMALL, BATCH, LARGE)],
    *_each("pad", (SMALL, LARGE), pad=(1, 1, 1, 1)),
    *_each("pad", (MEDIUM,), pad=(1, 1, 1, 1), mode="reflect"),
    *_each("unfold", (SMALL, MEDIUM), kernel_size=3, padding=1),
    *_each("fold", ((1, 144, 144),), output_size=12, kernel_size=3, padding=1),
    *_each("fold", ((1, 288, 3136),), output_size=56, kernel_size=3, padding=1),
    *[Case(op, (x, x)) for op in ("add", "mul", "div", "maximum", "remainder", "le", "logical_and") for x in _ENDS],
    *[Case("pow", (x, x), variance=0) for x in _ENDS],
    *[Case("add", (x, (x[1], 1, 1))) for x in _ENDS],
    Case("add", ((64, 1000), (1000,))),
    *_each("mul", _ENDS, other=2.0),
    *_each("lt", _ENDS, other=0.5),
    *_each("clamp", _ENDS, min=-0.5, max=0.5),
    *[Case("where", (x, x, x), truths=True) for x in _ENDS],
    *[Case("matmul", shapes) for shapes in _PRODUCTS],
    Case("bmm", ((12, 197, 64), (12, 64, 197))),
    *[Case("scaled_dot_product_attention", (x, x, x)) for x in ((1, 4, 16, 32), (1, 12, 197, 64), (2, 8, 512, 64))],
    *_each("glu", (SMALL, MEDIUM), dim=1),
    *_each("flip", _ENDS, dims=(-1,)),
    *_each("flip", _ENDS, dims=(2,)),
    *_each("roll", _ENDS, shifts=(1, 1), dims=(2, 3)),
    *[Case("cat", (x, x), {"dim": 1}, listed=True) for x in _ENDS],
    *[Case("stack", (x, x), {"dim": 0}, listed=True) for x in _ENDS],
]


def first(result: Any) -> Any:
    """Return the values of a result that has indices as well."""
    return result[0] if isinstance(result, tuple) else result


def error_of(answer: Any, reference: Any) -> float:
    """Return max|answer - reference| / max|reference|; infinite where the shapes differ."""
    answer, reference = (np.asarray(first(values), np.float64) for values in (answer, reference))
    if answer.shape != reference.shape:
        return float("inf")
    error = np.abs(answer - reference).max() / np.abs(reference).max()
    return float(error) if np.isfinite(error) else float("inf")


def calls(case: Case) -> tuple[dict[str, Call], dict[str, float]]:
    """Return what is timed, by candidate, and the error of each."""
    import torch

    import fastconv.functional

    arrays = case.arrays()
    tensors: list[Any] = [torch.from_numpy(array) for array in arrays]
    own = getattr(fastconv.functional, case.function)
    other = getattr(torch.nn.functional, case.function, None) or getattr(torch, case.function)
    attributes = case.attributes
    doubles: list[Any] = [tensor if tensor.dtype == torch.bool else tensor.double() for tensor in tensors]
    if case.listed:
        arrays, tensors, doubles = [arrays], [tensors], [doubles]
    reference = first(other(*doubles, **attributes)).numpy()
    errors = {
        OWN: error_of(own(*arrays, **attributes), reference),
        TORCH: error_of(first(other(*tensors, **attributes)).numpy(), reference),
    }

    def call_own(_: Any) -> Any:
        return own(*arrays, **attributes)

    def call_other(_: Any) -> Any:
        return other(*tensors, **attributes)

    return {OWN: call_own, TORCH: call_other}, errors


def run_case(
    case: Case, plan: peers_timing.Plan, tick: Callable[[], None], candidates_of: CallsOf = calls
) -> dict[str, Any]:
    """Check and time one case; return its entry for the JSON."""
    functions, errors = candidates_of(case)
    entry: dict[str, Any] = {"function": case.function, "case": case.title}
    nothing = np.empty(0, np.float32)
    candidates = []
    for name, call in functions.items():
        once_s = min(peers_timing.burst(call, nothing, PROBE_CALLS)) / 1e9
        count = plan.calls_in(plan.burst_s, once_s)
        candidates.append(peers_timing.Candidate(name, name, call, errors[name], 1.0, count))
    for _ in peers_timing.measure(candidates, nothing, plan, SEED):
        tick()
    for candidate in candidates:
        entry[candidate.name] = {
            "median_us": round(candidate.median_us, 3),
            "min_us": round(candidate.min_us, 3),
            "error": float(f"{candidate.error:.2e}"),
        }
    entry["ratio"] = round(entry[TORCH]["median_us"] / entry[OWN]["median_us"], 3)
    return entry


TITLE = "torch.nn.functional over fastconv.functional, one thread"


def table(run: dict[str, Any], title: str = TITLE) -> Table:
    """Return every case's line for the terminal."""
    result = Table(title=title, title_justify="left")
    result.add_column("function", no_wrap=True)
    result.add_column("case", overflow="fold")
    for heading in ("fastconv µs", "min", "torch µs", "min", "ratio"):
        result.add_column(heading, justify="right")
    for entry in run["cases"]:
        result.add_row(
            entry["function"],
            entry["case"],
            *[report.microseconds(entry[name][key]) for name in (OWN, TORCH) for key in ("median_us", "min_us")],
            report.times(entry["ratio"]),
            style="" if entry["ratio"] >= 1 else "red",
        )
    return result


def summary(run: dict[str, Any]) -> str:
    """Return one sentence: how many lead, the geometric mean, and which miss."""
    slower = [f"{e['function']} {e['case']} ({report.times(e['ratio'])})" for e in run["cases"] if e["ratio"] < 1]
    text = (
        f"{len(run['cases']) - len(slower)} of {len(run['cases'])} cases are no slower than PyTorch's; the geometric "
        f"mean of the ratios is {run['geometric_mean']:.2f}"
    )
    return text + (f". Slower: {'; '.join(slower)}." if slower else ".")


def markdown(cpu: str, run: dict[str, Any]) -> str:
    """Return the README's table of one processor: by function, the cases' ratios, smallest first."""
    lines = ["| function | cases | ratio, least to greatest | geometric mean |", "|---|--:|--:|--:|"]
    functions = dict.fromkeys(entry["function"] for entry in run["cases"])
    for function in functions:
        ratios = sorted(entry["ratio"] for entry in run["cases"] if entry["function"] == function)
        shown = report.times(ratios[0]) if len(ratios) == 1 else " – ".join(map(report.times, (ratios[0], ratios[-1])))
        lines.append(f"| `{function}` | {len(ratios)} | {shown} | {statistics.geometric_mean(ratios):.2f} |")
    machine = run["machine"]
    note = report.load_note(machine)
    lines += [
        "",
        f"{summary(run)} PyTorch's median over fastconv's for one call, one thread, float32, shapes from 1x16x12x12 to "
        f"1x64x112x112, on {report.where(cpu, machine)}, {report.when([run])}, PyTorch {run['versions']['torch']} on "
        f"tensors under `inference_mode`.{' ' + note if note else ''}",
    ]
    return "\n".join(lines)


def measure(
    cases: list[Case], plan: peers_timing.Plan, console: Console, candidates_of: CallsOf = calls
) -> list[dict[str, Any]]:
    """Run the cases under a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    entries = []
    # No refresh from a thread of its own: it would run during the bursts.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=len(cases) * plan.rounds * 2)
        shown = 0.0

        def tick() -> None:
            nonlocal shown
            progress.update(task, advance=1)
            if time.perf_counter() - shown > REFRESH_S:
                progress.refresh()
                shown = time.perf_counter()

        for case in cases:
            progress.update(task, description=case.name)
            entries.append(run_case(case, plan, tick, candidates_of))
    return entries


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", help="only cases whose name contains TEXT; stores nothing")
    parser.add_argument("--quick", action="store_true", help="few rounds; stores nothing")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table; stores nothing")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where fastconv is slower")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parse(arguments)
    if any(os.environ.get(name) != value for name, value in ONE_THREAD.items()):
        # The libraries read these when they are loaded, which has happened here.
        command = [sys.executable, __file__, *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(command, env={**os.environ, **ONE_THREAD}).returncode
    import torch

    torch.set_num_threads(1)
    console = Console(stderr=options.json)
    if not console.is_terminal:
        console.width = 120
    plan = QUICK_PLAN if options.quick else PLAN
    machine = peers.machine()
    if machine["load_at_start"] > report.BUSY_LOAD:
        console.print(f"The machine is busy (load {machine['load_at_start']}): expect noise.", style="yellow")
    cases = [case for case in CASES if (options.only or "") in case.name]
    if not cases:
        console.print(f"No case's name contains {options.only!r}.", style="red")
        return 1
    begun = peers.busy_seconds()
    with torch.inference_mode():
        entries = measure(cases, plan, console)
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
        console.print(table(run))
        console.print(summary(run))
    wrong = [e for e in entries if max(e[OWN]["error"], e[TORCH]["error"]) > TOLERANCE]
    for entry in wrong:
        console.print(f"wrong: {entry['function']} {entry['case']}: error {entry[OWN]['error']:.1e}", style="red")
    if not (options.quick or options.only or options.json or wrong):
        report.store(report.cpu_slug(config), STORED, run)
        report.rewrite(report.section(STORED, markdown), BEGIN, END)
    return int(bool(wrong) or (options.strict and min(entry["ratio"] for entry in entries) < 1))


if __name__ == "__main__":
    sys.exit(main())
