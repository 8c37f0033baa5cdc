"""Threads of the caller and of the engine: safe, as many as asked for, none when idle, no leaks."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import networks
import numpy as np
import pytest
from checks import assert_close
from interpreter import run_graph
from processes import run

from fastconv.compile import compile_graph
from fastconv.machine import cpu
from fastconv.model import Model
from fastconv.rewrite import optimize

needs_proc = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="counts threads and memory in Linux's /proc"
)

SETUP = """
import os
import threading
import time

import networks
import numpy as np
from fastconv.model import Model


def tasks():
    return len(os.listdir("/proc/self/task"))


def images(network, count):
    shape = networks.NETWORKS[network]().input_shape
    return np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)


def model(network, threads):
    return Model(networks.NETWORKS[network](), threads=threads)
"""


def script(code: str, **options: Any) -> str:
    """Run code behind `SETUP` in a process of its own, whose OpenMP pool is not yet started."""
    return run("-c", SETUP + code, **options)


# --- callers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_callers_do_not_disturb_each_other(threads: int) -> None:
    model = Model(networks.lenet(), threads=threads)
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((count, 1, 28, 28)).astype(np.float32) for count in (1, 2, 9, 33, 120)]
    expected = [model(x) for x in inputs]

    def call(index: int) -> bool:
        k = index % len(inputs)
        return all(np.array_equal(model(inputs[k]), expected[k]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(40)))


def test_predictions_of_callers_do_not_mix() -> None:
    net = networks.Net(1, 8, 8)
    net.add("flatten")
    net.add("linear", weights={"weight": np.eye(64, dtype=np.float32)})  # the brightest pixel
    model = Model(net.graph(), threads=1)
    pixels = np.eye(64, dtype=np.uint8).reshape(64, 8, 8) * 255
    with ThreadPoolExecutor(8) as pool:
        classes = list(pool.map(lambda k: model.predict(pixels[k % 64]), range(6400)))
    assert classes == list(range(64)) * 100


@pytest.mark.parametrize("call", ["model", "profile"])
def test_others_run_during_a_call(call: str) -> None:
    program = compile_graph(optimize(networks.large_images()), threads=1)
    x = np.zeros((64, 8, 64, 64), np.float32)
    function = program if call == "model" else lambda x: program.profile((x,))

    def attempt() -> tuple[float, float]:
        """Return how long this thread needed for a nap during a call, and the call's length."""
        spans: list[float] = []

        def work() -> None:
            begun.set()
            start = time.perf_counter()
            function(x)
            spans.append(time.perf_counter() - start)

        begun = threading.Event()
        worker = threading.Thread(target=work)
        worker.start()
        begun.wait()
        start = time.perf_counter()
        time.sleep(0.001)
        nap = time.perf_counter() - start
        worker.join()
        return nap, spans[0]

    function(x)
    # With the GIL held the nap lasts as long as the call. A busy machine may do the same, seldom.
    assert any(nap < span / 4 for nap, span in (attempt() for _ in range(10)))


# --- the engine's threads -------------------------------------------------------------------------


@needs_proc
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_as_many_threads_run_as_asked_for(threads: int) -> None:
    code = f"""
before = tasks()
model("cifar_conv", {threads})(images("cifar_conv", 60))
model("large_images", {threads})(images("large_images", 1))
print(tasks() - before)
"""
    assert script(code) == f"{threads - 1}\n"


@needs_proc
def test_a_small_call_wakes_no_thread() -> None:
    code = """
before = tasks()
lenet = model("lenet", 2)
for count in (1, 2, 1):
    lenet(images("lenet", count))
lenet.predict(np.zeros((28, 28), np.uint8))
print(tasks() - before)
"""
    assert script(code) == "0\n"


@needs_proc
def test_the_environment_decides_the_default() -> None:
    code = """
before = tasks()
lenet = model("lenet", None)
lenet(images("lenet", 300))
print(lenet.threads, tasks() - before)
"""
    assert script(code, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1") == "1 0\n"


def test_other_users_of_openmp_keep_their_setting() -> None:
    code = """
import ctypes
import threadpoolctl

model("lenet", 1)(images("lenet", 1))
before = {lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info()}
assert before
model("cifar_conv", 3)(images("cifar_conv", 60))
after = {lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info()}
print(before == after)
"""
    assert script(code) == "True\n"


def test_nothing_runs_after_a_call() -> None:
    code = """
cifar_conv = model("cifar_conv", 2)
x = images("cifar_conv", 60)
cifar_conv(x)
time.sleep(0.2)
start = time.process_time()
time.sleep(0.5)
print(time.process_time() - start)
"""
    assert float(script(code)) < 0.01


@pytest.mark.parametrize(
    ("asked", "turns"),
    [
        ({}, "30000"),  # machine.cpu's
        ({"GOMP_SPINCOUNT": "77"}, "77"),
        ({"OMP_WAIT_POLICY": "passive"}, "0"),
        ({"KMP_BLOCKTIME": "200"}, "300000"),  # GNU's default: whoever asks for anything gets just that
    ],
)
def test_workers_wait_briefly_unless_asked_otherwise(asked: dict[str, str], turns: str) -> None:
    code = """
import ctypes
before = dict(os.environ)
lenet = model("lenet", 2)
lenet(images("lenet", 60))
print(dict(os.environ) == before)
print([ctypes.CDLL(None).getenv(name) != 0 for name in (b"GOMP_SPINCOUNT", b"KMP_BLOCKTIME")])
"""
    shown = script(code, OMP_DISPLAY_ENV="VERBOSE", **asked)  # GNU's runtime prints what it was told, when it is loaded
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("reads what GNU's OpenMP says of itself")
    assert f"GOMP_SPINCOUNT = '{turns}'" in shown
    assert shown.endswith(f"True\n{['GOMP_SPINCOUNT' in asked, 'KMP_BLOCKTIME' in asked]}\n")


def test_the_environment_is_as_before_when_loading_fails() -> None:
    code = """
import fastconv.machine.cpu as cpu
before = dict(os.environ)
cpu.LEVELS.clear()
try:
    cpu.kernels()
except ImportError as error:
    print("no kernels" in str(error), dict(os.environ) == before)
"""
    assert script(code, FASTCONV_ISA="") == "True True\n"


# --- the number of threads ------------------------------------------------------------------------

VERSION_1 = {"proc": "3:cpu,cpuacct:/a/b\n2:memory:/\n", "cpu/a/b/cpu.cfs_period_us": "100000\n"}
VERSION_2 = {"proc": "0::/a/b\n"}


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({}, 8),
        ({"proc": "nonsense\n"}, 8),
        (VERSION_2, 8),
        ({**VERSION_2, "a/b/cpu.max": "max 100000\n"}, 8),
        ({**VERSION_2, "a/b/cpu.max": "200000 100000\n"}, 2),
        ({**VERSION_2, "a/b/cpu.max": "200001 100000\n"}, 3),  # rounded up
        ({**VERSION_2, "a/b/cpu.max": "1000 100000\n"}, 1),
        ({**VERSION_2, "cpu.max": "300000 100000\n"}, 3),  # a container sees its own group as the root
        ({**VERSION_2, "a/b/cpu.max": "1600000 100000\n"}, 8),  # more than the CPUs there are
        ({**VERSION_2, "a/b/cpu.max": "0 0\n"}, 8),
        ({**VERSION_1, "cpu/a/b/cpu.cfs_quota_us": "400000\n"}, 4),
        ({**VERSION_1, "cpu/a/b/cpu.cfs_quota_us": "-1\n"}, 8),
        ({**VERSION_1, "cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_the_control_group_s_quota_bounds_the_default(
    files: dict[str, str], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpu, "_CGROUP", str(tmp_path / "proc"))
    monkeypatch.setattr(cpu, "_CGROUPS", str(tmp_path))
    monkeypatch.setattr(cpu, "_cgroup_cpus", cpu._cgroup_cpus.__wrapped__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cpu.default_threads() == threads


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("3,2", 3), ("99", 8), ("0", 8), ("x", 8), ("", 8)])
def test_the_environment_bounds_the_default(asked: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_cgroup_cpus", lambda: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cpu.default_threads() == threads


# --- memory ---------------------------------------------------------------------------------------

RESIDENT = """
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


@needs_proc
def test_memory_does_not_grow_with_calls() -> None:
    code = """
lenet, mixed = model("lenet", 2), model("mixed", 1)
few, many, odd = images("lenet", 1), images("lenet", 40), images("mixed", 1)
digit = np.zeros((28, 28), np.uint8)

def calls(count):
    for k in range(count):
        lenet(few)
        lenet.predict(digit)
        if k % 20 == 0:
            lenet(many)
            mixed(odd)
            lenet.predict_proba(digit)

calls(1000)
before = resident()
calls(20_000)
print(resident() - before)
"""
    assert int(script(RESIDENT + code)) < 512 * 1024


@needs_proc
def test_memory_does_not_grow_with_callers_that_came_and_went() -> None:
    code = """
lenet = model("lenet", 1)
x = images("lenet", 40)

def crowd():
    threads = [threading.Thread(target=lenet, args=(x,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

for _ in range(20):
    crowd()
before = resident()
for _ in range(200):
    crowd()
print(resident() - before)
"""
    assert int(script(RESIDENT + code)) < 2 * 1024 * 1024


@needs_proc
def test_memory_of_a_model_goes_with_it() -> None:
    code = """
x = images("large_images", 1)
for _ in range(20):
    model("large_images", 1)(x)
before = resident()
for _ in range(60):
    model("large_images", 1)(x)
print(resident() - before, model("large_images", 1)._program.workspace_bytes)
"""
    growth, workspace = map(int, script(RESIDENT + code).split())
    assert growth < 10 * workspace


# --- floating-point state -------------------------------------------------------------------------

TINY = np.float32(1e-40)  # denormal


@pytest.fixture(params=[1, 2])
def tiny_products(request: pytest.FixtureRequest) -> Any:
    """Return a program, on one or two threads, whose products are denormal for inputs of 1e-20."""
    net = networks.Net(16, 32, 32)
    weights = {"weight": np.full((64, 16, 3, 3), 1e-20, np.float32)}
    net.add("conv2d", weights=weights, padding=1)
    return compile_graph(net.graph(), threads=request.param)


def test_denormals_are_zero_inside_and_only_there(tiny_products: Any) -> None:
    x = np.full((4, 16, 32, 32), 1e-20, np.float32)
    assert np.float32(1e-20) * np.float32(1e-20) > 0
    assert not tiny_products(x).any()
    assert np.float32(1e-20) * np.float32(1e-20) > 0
    assert TINY * np.float32(0.5) > 0
    assert (np.full(100, TINY) + np.full(100, TINY) > 0).all()


def test_denormal_inputs_count_as_zero() -> None:
    net = networks.Net(4, 8, 8)
    net.conv(8, 1)
    program = compile_graph(net.graph(), threads=1)
    x = np.full((1, 4, 8, 8), TINY, np.float32)
    assert np.array_equal(program(x), program(np.zeros_like(x)))
    assert (x == TINY).all()


def test_denormals_cost_no_time() -> None:
    program = compile_graph(optimize(networks.cifar_conv()), threads=1)

    def seconds(value: float) -> float:
        x = np.full((1, 3, 32, 32), value, np.float32)
        times = []
        for _ in range(50):
            start = time.perf_counter()
            program(x)
            times.append(time.perf_counter() - start)
        return min(times)

    assert seconds(1e-40) < 3 * seconds(1.0)


# --- NaN and infinity -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["exact", "im2col", "packed", "direct"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spreads_as_far_as_it_should(value: float, algorithm: str) -> None:
    net = networks.Net(3, 20, 17)
    net.conv(19, 3)
    net.relu()
    net.pool()
    net.conv(8, 3)
    graph = net.graph()
    x = np.random.default_rng(0).standard_normal((5, 3, 20, 17)).astype(np.float32)
    broken = x.copy()
    broken[3, 1, 11, 4] = value
    (expected,) = run_graph(graph, broken)
    assert not np.isfinite(expected[3]).all()
    others = [0, 1, 2, 4]
    for version in (graph, optimize(graph)):
        for threads in (1, 2):
            program = compile_graph(version, threads=threads, algorithm=algorithm)
            y = program(broken)
            assert_close(y, expected, 1e-5)
            assert np.array_equal(y[others], program(x)[others])
