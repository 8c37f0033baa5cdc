"""This machine: instruction-set level, thread count, and what fastconv is running on."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import ArgumentError
from ._isa import level

if TYPE_CHECKING:
    from ..kernels._kernels import Kernels

__all__ = ["LEVELS", "check_threads", "default_threads", "isa", "kernels", "show_config"]

# Every level that a module may have been built for, lowest first, and the module's package.
LEVELS = {
    "generic": "generic",
    "x86-64-v2": "x86_64_v2",
    "x86-64-v3": "x86_64_v3",
    "x86-64-v4": "x86_64_v4",
}


def isa() -> str:
    """Return the level that is used: the CPU's highest, or the lower one that FASTCONV_ISA names.

    Raises
    ------
    ArgumentError
        FASTCONV_ISA names no level, or one that this CPU lacks.
    """
    highest = level()
    wanted = os.environ.get("FASTCONV_ISA", "")
    if not wanted:
        return highest
    names = list(LEVELS)
    usable = names[1 : names.index(highest) + 1] if highest in names[1:] else ["generic"]
    if wanted not in usable:
        raise ArgumentError(
            f"FASTCONV_ISA={wanted!r}: this CPU runs {', '.join(usable)}; set one of these, or unset it"
        )
    return wanted


@cache
def kernels() -> Kernels:
    """Return the compiled kernels for this CPU, loaded once.

    Raises
    ------
    ImportError
        The package was built for another kind of CPU.
    """
    name = isa()
    try:
        module = cast("Kernels", import_module(f"fastconv.kernels.{LEVELS[name]}._kernels"))
    except (ImportError, KeyError) as error:
        raise ImportError(
            f"fastconv has no kernels for this CPU ({name}, {platform.machine()}): it needs x86-64-v2 or"
            " later, or a build made on this machine (pip install --no-binary fastconv fastconv)"
        ) from error
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=module.pause_threads)
    return module


def default_threads() -> int:
    """Return how many threads a model uses by default.

    The least of the CPUs this process may run on, the control group's quota, and OMP_NUM_THREADS; 1 where
    the kernels were built without OpenMP.
    """
    if not kernels().OPENMP:
        return 1
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    quota = _cgroup_cpus()
    if quota is not None:
        counts.append(quota)
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        counts.append(int(asked))
    return max(1, min(counts))


def check_threads(threads: int | None) -> int:
    """Return the thread count that `threads` (None: the default) asks for; ArgumentError where it is none."""
    if threads is None:
        return default_threads()
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or not 1 <= int(threads) <= 1024:
        raise ArgumentError(f"threads: needs an integer from 1 to 1024, got {threads!r}; leave it out for the default")
    return int(threads)


@cache
def _cgroup_cpus() -> int | None:
    """CPUs that the control group's quota allows, rounded up; None without a quota."""
    try:
        with open("/proc/self/cgroup") as file:
            groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return None
    pairs = [("/sys/fs/cgroup" + folder.rstrip("/"), "cpu.max", "") for folder in (groups.get("", ""), "")]
    cpu = next((path for names, path in groups.items() if "cpu" in names.split(",")), None)
    if cpu is not None:
        pairs += [
            ("/sys/fs/cgroup/cpu" + folder.rstrip("/"), "cpu.cfs_quota_us", "cpu.cfs_period_us") for folder in (cpu, "")
        ]
    for folder, quota_name, period_name in pairs:
        try:
            with open(f"{folder}/{quota_name}") as file:
                words = file.read().split()
            if period_name:
                with open(f"{folder}/{period_name}") as file:
                    words += file.read().split()
            quota, period = int(words[0]), int(words[1])  # "max" is no number: no quota
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return max(1, -(-quota // period))
    return None


def show_config() -> dict[str, Any]:
    """Return what fastconv runs on here: versions, instruction-set level, threads, OpenMP and BLAS.

    Returns
    -------
    dict
        Plain values that can be written as JSON. ``openmp`` is None for a build without threads; ``blas`` is None
        where none was found (the packed kernels then serve alone).
    """
    from .. import __version__
    from . import blas

    module = kernels()
    return {
        "fastconv": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "isa": module.LEVEL,
        "isa_of_cpu": level(),
        "vector_floats": module.VECTOR,
        "tile": f"{module.TALLEST}x{module.PANEL}",
        "threads": default_threads(),
        "openmp": module.OPENMP or None,
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        "blas": blas.info(),
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
