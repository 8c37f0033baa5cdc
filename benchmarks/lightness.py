"""What an engine costs beside its speed: start-up, memory, size on disk, CPU while idle.

Each engine reads LeNet from its own kind of file and classifies one example digit in a process of
its own, many times, the engines taking turns. A process that only imports NumPy takes its turn as
well: times and memory are what comes on top of it, the median of the differences within a round.
Answers are checked first. PyTorch converts the model for the others; engines that are not
installed are left out.

A run writes ``benchmarks/results/CPU/lightness.json`` and the README's table between its markers; with
``--quick`` it does neither. For each engine the JSON has its ``version`` and:

``start_ms``, ``start_min_ms``
    From the start of the process to the first prediction: import, loading the file, predicting.
    The second is the difference between the two fastest processes. fastconv has both twice: of a
    PyTorch ``state_dict``, and as ``own_start_ms`` and ``own_start_min_ms`` of its own kind of file.
``peak_mib``
    The most physical memory of the process until then (VmHWM).
``size_mb``
    The files that pip installed for the engine, its dependencies not counted; null where fastconv
    is installed in editable mode.
``idle_ms``
    CPU time, of all threads, in the second after a batch of 256 with the default threads. The batch comes 0.3 s after
    the first prediction: the worker that NumPy's OpenBLAS starts at import spins for up to 30 ms, whoever imports it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
import peers_timing
import report
from peers_engines import Array, Artefacts
from PIL import Image
from rich.progress import track

import fastconv

BEGIN, END = "<!-- lightness:begin -->", "<!-- lightness:end -->"
STORED = "lightness"
LENET = report.ROOT / "models" / "lenet.npz"
DIGIT = report.ROOT / "examples" / "digits" / "7.png"
ROUNDS, QUICK_ROUNDS, IDLE_ROUNDS = 21, 3, 5
BASELINE = "NumPy alone"
FASTCONV, OWN_FILE = "fastconv", "fastconv, its own file"
TARGETS = {"start_ms": 8.0, "own_start_ms": 8.0, "peak_mib": 4.0, "size_mb": 4.0, "idle_ms": 5.0}
"""What fastconv is to stay within."""

PACKAGES = {
    FASTCONV: "fastconv",
    "ONNX Runtime": "onnxruntime",
    "ncnn": "ncnn",
    "PyTorch": "torch",
}
SETUPS = {
    BASELINE: "run = lambda x: x",
    FASTCONV: f"""
import fastconv
run = fastconv.load({str(LENET)!r})
""",
    OWN_FILE: """
import fastconv
run = fastconv.load("own.npz")
""",
    "ONNX Runtime": """
import onnxruntime
session = onnxruntime.InferenceSession("net.onnx")
run = lambda x: session.run(None, {"x": x})[0]
""",
    "ncnn": """
import ncnn
net = ncnn.Net()
net.load_param("net.ncnn.param")
net.load_model("net.ncnn.bin")
def run(x):
    for image in x:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        y = np.array(extractor.extract("out0")[1])
    return y
""",
    "PyTorch": """
import torch
net = torch.jit.load("net.pt")
run = torch.inference_mode()(lambda x: net(torch.from_numpy(x)).numpy())
""",
}
"""What defines ``run``, in the plainest way the engine's documentation shows."""

# Nothing that only the report needs is imported before the clock and the memory are read.
CHILD = """
import sys
import numpy as np
{setup}
pixels = np.frombuffer(bytes.fromhex(sys.argv[1]), np.uint8).reshape(1, 1, 28, 28)
x = pixels.astype(np.float32) / np.float32(255)
y = run(x)
import time
now = time.monotonic()
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
idle = 0.0
if sys.argv[2] == "idle":
    time.sleep(0.3)
    run(np.repeat(x, 256, axis=0))
    idle = -time.process_time()
    time.sleep(1)
    idle += time.process_time()
import json
print(json.dumps([now, peak, idle, np.ravel(y).tolist()]))
"""


def convert(names: list[str], x: Array, folder: Path) -> None:
    """Write LeNet into ``folder`` as the other engines read it: for any batch, but ncnn's for one image."""
    import nets
    import torch

    net = nets.lenet().eval()
    artefacts = Artefacts(net, x, folder)
    artefacts.traced.save(str(folder / "net.pt"))
    if "ncnn" in names:
        artefacts.ncnn  # noqa: B018  # converts when asked for
    if "ONNX Runtime" in names:
        any_batch = {"x": {0: "n"}, "y": {0: "n"}}
        torch.onnx.export(
            net,
            (torch.from_numpy(x),),
            str(folder / "net.onnx"),
            input_names=["x"],
            output_names=["y"],
            dynamic_axes=any_batch,
            dynamo=False,
        )


class Runner:
    """Starts the engines' processes in the folder of the converted models."""

    def __init__(self, folder: Path, pixels: str) -> None:
        self.folder = folder
        self.pixels = pixels
        # Nobody's start-up is compiling Python: what pip has not compiled, the first process does for all.
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run(self, name: str, idle: bool = False) -> tuple[float, float, float, Array]:
        """Return start-up in ms, peak in MiB, idle CPU in ms and the outputs, of one process."""
        code = CHILD.format(setup=SETUPS[name])
        command = [sys.executable, "-c", code, self.pixels, "idle" if idle else "-"]
        started = time.monotonic()  # the same clock in every process
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=self.folder, env=self.environment)
        now, peak, idle_s, outputs = json.loads(done.stdout)
        return 1e3 * (now - started), peak / 1024, 1e3 * idle_s, np.array(outputs, np.float32)

    def check(self, names: list[str]) -> None:
        """Raise ValueError where an engine's outputs differ from fastconv's; warms the files, too."""
        answers = {name: self.run(name)[3] for name in names}
        own = answers[FASTCONV]
        for name, outputs in answers.items():
            error = float(np.abs(outputs - own).max() / np.abs(own).max())
            if not error <= peers_timing.OTHERS_TOLERANCE:
                raise ValueError(f"{name}: an output differs by {error:.1e} of the largest")

    def measure(self, names: list[str], rounds: int) -> dict[str, dict[str, float]]:
        """Return the figures of each engine, but for its size and version."""
        shuffler = random.Random(0)
        everyone = [BASELINE, OWN_FILE, *names]
        turns = []
        for _ in track(range(rounds), "start-up", transient=True):
            order = shuffler.sample(everyone, len(everyone))
            turns.append({name: self.run(name) for name in order})
        idle_turns = [
            {name: self.run(name, idle=True) for name in names}
            for _ in track(range(min(rounds, IDLE_ROUNDS)), "idle", transient=True)
        ]

        def start(name: str) -> tuple[float, float]:
            """Return the median of the differences to the baseline, and the difference of the minima, in ms."""
            fastest = min(t[name][0] for t in turns) - min(t[BASELINE][0] for t in turns)
            return statistics.median(t[name][0] - t[BASELINE][0] for t in turns), fastest

        figures: dict[str, dict[str, float]] = {}
        for name in names:
            one = figures[name] = {}
            one["start_ms"], one["start_min_ms"] = start(name)
            if name == FASTCONV:
                one["own_start_ms"], one["own_start_min_ms"] = start(OWN_FILE)
            one["peak_mib"] = statistics.median(t[name][1] - t[BASELINE][1] for t in turns)
            one["idle_ms"] = statistics.median(t[name][2] for t in idle_turns)
        return figures


def installed_mb(package: str) -> float | None:
    """Return the size of what pip installed for ``package``, or None for an editable install."""
    distribution = importlib.metadata.distribution(package)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return None
    files = [Path(str(file.locate())) for file in distribution.files or ()]
    return sum(file.stat().st_size for file in files if file.exists()) / 1e6


def markdown(cpu: str, run: dict[str, Any]) -> str:
    """Return the README's table of one processor, with a line on where it comes from."""
    engines = run["engines"]
    lines = [
        "| over `import numpy` alone | " + " | ".join((FASTCONV, "target", "met", *list(engines)[1:])) + " |",
        "|---" + "|--:" * (len(engines) + 2) + "|",
    ]
    for title, key, form in (
        ("process start to first LeNet prediction, extra ms", "start_ms", ",.1f"),
        ("the same, the fastest processes", "start_min_ms", ",.1f"),
        ("process start to first prediction from fastconv's own file, extra ms", "own_start_ms", ",.1f"),
        ("the same, the fastest processes", "own_start_min_ms", ",.1f"),
        ("extra peak MiB until the first prediction", "peak_mib", ".1f"),
        ("installed size, MB (without dependencies)", "size_mb", ".1f"),
        ("CPU time in the second after a batch of 256, ms", "idle_ms", ".1f"),
    ):
        values = [engine.get(key) for engine in engines.values()]
        own, *others = ["–" if value is None else format(value, form) for value in values]
        target, met = TARGETS.get(key), "–"
        if target is not None and values[0] is not None:
            met = "yes" if values[0] <= target else "**no**"
        bound = "–" if target is None else f"≤ {target:g}"
        lines.append(f"| {title} | {' | '.join((own, bound, met, *others))} |")
    versions = ", ".join(f"{name} {engine['version']}" for name, engine in engines.items())
    machine = run["machine"]
    lines += [
        "",
        f"Medians of {run['rounds']} processes each, taking turns, on {report.where(cpu, machine)}, "
        f"{report.when([run])}, Python {machine['python']}: {versions}. "
        f"{report.load_note(machine)}".rstrip(),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds; stores nothing")
    options = parser.parse_args(arguments)
    if not Path("/proc/self/status").exists():
        print("error: reads peak memory from /proc, which Linux alone has", file=sys.stderr)
        return 1
    installed = {d.metadata["Name"].lower() for d in importlib.metadata.distributions()}
    names = [name for name, package in PACKAGES.items() if package in installed]
    with Image.open(DIGIT) as image:
        digit = np.asarray(image)
    x = digit[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    machine = peers.machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "PyTorch" in names:
            with peers.quiet(folder / "log"):
                convert(names, x, folder)
        else:
            names = [FASTCONV]
        fastconv.load(LENET).save(folder / "own.npz")
        runner = Runner(folder, digit.tobytes().hex())
        runner.check([*names, OWN_FILE])
        begun = peers.busy_seconds()
        engines: dict[str, dict[str, Any]] = {**runner.measure(names, rounds)}
        machine["others_cores"] = peers.others_cores(begun)
    for name in names:
        engines[name]["version"] = importlib.metadata.version(PACKAGES[name])
        engines[name]["size_mb"] = installed_mb(PACKAGES[name])
    run = {"date": peers.now(), "commit": peers.commit(), "machine": machine, "rounds": rounds, "engines": engines}
    cpu = report.cpu_slug(fastconv.show_config())
    print(markdown(cpu, run))
    if not options.quick:
        report.store(cpu, STORED, run)
        report.rewrite(report.section(STORED, markdown), BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
