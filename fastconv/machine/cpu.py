"""This machine: instruction-set level, thread count, and what fastconv is running on."""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any, cast

from .._base import level
from ..errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..kernels._kernels import Kernels

__all__ = ["LEVELS", "check_threads", "default_threads", "isa", "kernels", "show_config"]

# Every level that a module may have been built for, lowest first, and the module's package.
LEVELS = {
    "generic": "generic",
    "x86-64-v2": "x86_64_v2",
    "x86-64-v3": "x86_64_v3",
    "x86-64-v4": "x86_64_v4",
}

# How long an OpenMP worker spins after a call before it sleeps: GNU's runtime 300 000 turns by default, 8 to 27 ms of
# CPU time, LLVM's 200 ms. Measured, 2-core Zen 4: 1 000 turns to 300 000 make no difference to calls back to back
# (LeNet with 8 images 25 us, with 256 755 us), 0 makes them slower (60 and 816 us). 30 000 turns, 0.7 ms, also cover a
# pause of that length between two calls. LLVM's counts milliseconds.
_WAIT = {"GOMP_SPINCOUNT": "30000", "KMP_BLOCKTIME": "1"}
_WAIT_ASKED_FOR = (*_WAIT, "OMP_WAIT_POLICY")

_CGROUP = "/proc/self/cgroup"  # the control groups of this process
_CGROUPS = "/sys/fs/cgroup"  # where their files are


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

    Where this loads the OpenMP runtime, its workers' wait between calls is shortened (`_WAIT`), unless the environment
    asks for one. A runtime reads the environment only when it is loaded: the environment is as before afterwards.

    Raises
    ------
    ImportError
        The package was built for another kind of CPU.
    """
    name = isa()
    wait = {} if any(variable in os.environ for variable in _WAIT_ASKED_FOR) else _WAIT
    os.environ.update(wait)
    try:
        module = cast("Kernels", _load(LEVELS.get(name, name)))
    except ImportError as error:
        import platform

        raise ImportError(
            f"fastconv has no kernels for this CPU ({name}, {platform.machine()}): it needs x86-64-v2 or"
            " later, or a build made on this machine (pip install --no-binary fastconv fastconv)"
        ) from error
    finally:
        for variable in wait:
            os.environ.pop(variable, None)  # None: another thread was here at the same time
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=module.pause_threads)
    return module


def _load(folder: str) -> Any:
    """Import a level's module from its file: searching two packages for it would take a quarter of its time."""
    name = f"fastconv.kernels.{folder}._kernels"
    stem = os.path.join(os.path.dirname(os.path.dirname(__file__)), "kernels", folder, "_kernels")
    for suffix in EXTENSION_SUFFIXES:
        if os.path.exists(stem + suffix):
            spec = spec_from_file_location(name, stem + suffix)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError(f"no module {stem}{EXTENSION_SUFFIXES[0]}")


def default_threads() -> int:
    """Return how many threads a model uses by default.

    The least of the CPUs this process may run on, the control group's quota, and OMP_NUM_THREADS; 1 where
    the kernels were built without OpenMP.
    """
    if not kernels().OPENMP:
        return 1
    counts = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        counts.append(int(asked))
    if min(counts) > 1:
        counts.append(_cgroup_cpus() or min(counts))
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
    for files in _quota_files():
        try:
            words = [word for file in files for word in _read(file).split()]
            quota, period = int(words[0]), int(words[1])  # "max" is no number: no quota
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            return max(1, -(-quota // period))
    return None


def _quota_files() -> Iterator[tuple[str, ...]]:
    """The files that may hold quota and period: of version 2, then of version 1; the process's group, then the root."""
    try:
        lines = _read(_CGROUP).decode("utf-8", "replace").splitlines()
    except OSError:
        return
    groups = dict(parts[1:] for line in lines if len(parts := line.split(":", 2)) == 3)
    for folder in dict.fromkeys((groups.get("", "").rstrip("/"), "")):
        yield (f"{_CGROUPS}{folder}/cpu.max",)
    for controllers, group in groups.items():
        if "cpu" in controllers.split(","):
            for folder in dict.fromkeys((group.rstrip("/"), "")):
                path = f"{_CGROUPS}/cpu{folder}/cpu.cfs_"
                yield (path + "quota_us", path + "period_us")


def _read(path: str) -> bytes:
    """A small file's bytes; open() takes three times as long, and every start reads some of these."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)


def show_config() -> dict[str, Any]:
    """Return what fastconv runs on here: versions, instruction-set level, threads, OpenMP and BLAS.

    Returns
    -------
    dict
        Plain values that can be written as JSON. ``openmp`` is None for a build without threads; ``blas`` is None
        where none was found (the packed kernels then serve alone); ``machine`` is what the choice of kernels rests on.
    """
    import platform

    import numpy as np

    from .. import __version__
    from . import blas
    from .description import this_machine

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
        "tile": f"{module.MR}x{module.NR}",
        "machine": this_machine().shown(),
        "threads": default_threads(),
        "openmp": module.OPENMP or None,
        "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        "blas": blas.info(),
    }


def _cpu_name() -> str:
    import platform

    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
