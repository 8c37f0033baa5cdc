from collections.abc import Callable
from typing import Any, TypeAlias

import numpy.typing as npt

Buffer: TypeAlias = bytes | memoryview

def level() -> str:
    """Return the highest instruction-set level this CPU and its operating system support.

    One of ``generic``, ``x86-64``, ``x86-64-v2``, ``x86-64-v3``, ``x86-64-v4``.
    """

def cpuid(leaf: int, index: int) -> tuple[int, int, int, int]: ...
def crc32(data: Buffer, crc: int = 0) -> int:
    """Return the checksum of zip files, as `zlib.crc32` does."""

def trim_memory() -> None:
    """Give freed memory back to the system, where the C library can be asked to."""

def make_record(kernel: str, given: dict[str, Any]) -> bytes:
    """Return a kernel's record from a dict with exactly its fields; ValueError or TypeError where it is another."""

class Call:
    """What calls ``_run``, and for what that does not take ``_run_any``, which the subclass has."""

    _run: Callable[[Any], Any]
    def __call__(self, x: npt.ArrayLike) -> Any: ...
