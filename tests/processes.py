"""Python in a process of its own: for what the environment decides at import, and what may hang."""

from __future__ import annotations

import os
import subprocess
import sys

PATH = os.pathsep.join(path or os.getcwd() for path in sys.path)


def run(*arguments: str, timeout: float = 120, **environment: str) -> str:
    """Run Python with these arguments and variables; return what it prints.

    It fails, with all its output, where the status is not zero or the time is up.
    """
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": PATH, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert result.returncode == 0, f"status {result.returncode}:\n{result.stdout}"
    return result.stdout
