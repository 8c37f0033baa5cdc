def level() -> str:
    """Return the highest instruction-set level this CPU and its operating system support.

    One of ``generic``, ``x86-64``, ``x86-64-v2``, ``x86-64-v3``, ``x86-64-v4``.
    """

def cpuid(leaf: int, index: int) -> tuple[int, int, int, int]: ...
