"""The targets that set fastconv against itself: two threads against one, predict against a call.

``threads=2`` may never be slower than ``threads=1`` by more than 3 %, and ``predict`` of a uint8
image may cost at most 1.5 µs more than ``model(x)``. Measured as ``peers.py`` measures: shuffled,
interleaved bursts in one process, medians. Exits with 1 where a target is missed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import nets
import numpy as np
import peers_timing
from peers_engines import Array, Call

import fastconv

SLOWER_ALLOWED = 1.03
PREDICT_ALLOWED_US = 1.5
BATCHES = (1, 2, 8, 32, 256)
NETWORKS = ("lenet", "lenet5", "cifar_conv", "cifar_vgg", "cifar_allconv")
PLAN = peers_timing.Plan(rounds=30, burst_s=0.01)
PROBE_CALLS = 5


def medians_us(calls: dict[str, Call], x: Array) -> dict[str, float]:
    """Return the median of each of ``calls`` on ``x`` in µs, interleaved."""
    candidates = []
    for name, call in calls.items():
        once_s = min(peers_timing.burst(call, x, PROBE_CALLS)) / 1e9
        count = PLAN.calls_in(PLAN.burst_s, once_s)
        candidates.append(peers_timing.Candidate(name, name, call, 0.0, 1.0, count))
    for _ in peers_timing.measure(candidates, x, PLAN, nets.SEED):
        pass
    return {candidate.name: candidate.median_us for candidate in candidates}


def compare_threads() -> bool:
    """Print two threads against one for every network and batch; say whether all met the target."""
    print(f"{'network':16}{'batch':>6}{'1 thread µs':>14}{'2 threads µs':>14}{'2 / 1':>8}")
    good = True
    for name in NETWORKS:
        network = nets.NETWORKS[name]
        module = nets.build(name)
        models: dict[str, Call] = {str(n): fastconv.from_torch(module, network.input_shape, threads=n) for n in (1, 2)}
        for batch in BATCHES:
            times = medians_us(models, nets.images(nets.Case(name, batch, 1)))
            share = times["2"] / times["1"]
            met = share <= SLOWER_ALLOWED
            good &= met
            line = f"{name:16}{batch:6}{times['1']:14.2f}{times['2']:14.2f}{share:8.3f}"
            print(line if met else f"{line}  missed (at most {SLOWER_ALLOWED})", flush=True)
    return good


def predict_cost_us() -> float:
    """Return by how many µs ``predict`` of a uint8 28x28 image exceeds ``model(x)``."""
    model = fastconv.from_torch(nets.build("lenet"), nets.NETWORKS["lenet"].input_shape, threads=1)
    image = np.random.default_rng(nets.SEED).integers(0, 256, (28, 28), np.uint8)
    x = (image / np.float32(255))[None, None]

    def fixed(function: Callable[[Any], Any], argument: Any) -> Call:
        return lambda _: function(argument)

    calls = {"model(x)": fixed(model, x), "predict(img)": fixed(model.predict, image)}
    times = medians_us(calls, x)
    return times["predict(img)"] - times["model(x)"]


def main() -> int:
    """Run both comparisons; return 0 where every target is met."""
    cost = predict_cost_us()
    print(f"predict(img) - model(x): {cost:.2f} µs (at most {PREDICT_ALLOWED_US})", flush=True)
    good = compare_threads()
    return int(not good or cost > PREDICT_ALLOWED_US)


if __name__ == "__main__":
    sys.exit(main())
