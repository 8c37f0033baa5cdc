"""A process that has used OpenMP forks: its children compute, with threads, and do not hang."""

from __future__ import annotations

import os
import sys

import pytest
from processes import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="forks processes")

SETUP = """
import os
import signal
import threading
import time
import warnings

import networks
import numpy as np
from fastconv.model import Model

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork with threads
THREADS = 2
model = Model(networks.cifar_conv(), threads=THREADS)
x = np.random.default_rng(0).standard_normal((24, 3, 32, 32)).astype(np.float32)
expected = model(x)


def right():
    return np.array_equal(model(x), expected)


def tasks():
    return len(os.listdir("/proc/self/task"))


def child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)  # a child that hangs is killed, and counts as wrong
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return pid


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def script(code: str, timeout: float = 120) -> str:
    return run("-c", SETUP + code, timeout=timeout)


def _children(count: int) -> None:
    code = f"""
for k in range({count}):
    assert status(child(right)) == 0, k
    assert right()
print("done")
"""
    assert script(code, timeout=60 + count) == "done\n"


def test_children_compute() -> None:
    _children(40)


@pytest.mark.long
def test_many_children_compute() -> None:
    _children(200)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="counts threads in /proc")
def test_children_have_threads_of_their_own() -> None:
    code = """
def work():
    before = tasks()
    return right() and tasks() - before == THREADS - 1

assert [status(child(work)) for _ in range(5)] == [0] * 5
print("done")
"""
    assert script(code) == "done\n"


def test_children_at_once() -> None:
    code = """
pids = [child(right) for _ in range(12)]
assert right()
assert [status(pid) for pid in pids] == [0] * 12
print("done")
"""
    assert script(code) == "done\n"


def test_children_of_children() -> None:
    code = """
def work():
    return right() and status(child(right)) == 0 and right()

assert status(child(work)) == 0
print("done")
"""
    assert script(code) == "done\n"


def test_a_fork_while_another_thread_computes() -> None:
    code = """
stop = threading.Event()
faults = []

def compute():
    while not stop.is_set():
        if not right():
            faults.append("wrong")

workers = [threading.Thread(target=compute) for _ in range(2)]
for worker in workers:
    worker.start()
results = []
for _ in range(15):
    time.sleep(0.003)
    results.append(status(child(right)))
stop.set()
for worker in workers:
    worker.join()
assert results == [0] * 15 and not faults, (results, faults)
print("done")
"""
    assert script(code) == "done\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path: object) -> None:
    path = f"{tmp_path}/job.py"
    code = f"""
import multiprocessing

def work(job):
    model, x = job
    return model(x)

if __name__ == "__main__":
    {SETUP.strip().replace(chr(10), chr(10) + "    ")}
    with multiprocessing.get_context("{method}").Pool(3) as pool:
        results = pool.map_async(work, [(model, x)] * 9).get(90)
    assert all(np.array_equal(y, expected) for y in results)
    print("done")
"""
    with open(path, "w") as file:
        file.write(code)
    assert run(path, timeout=150) == "done\n"
