"""No kernel reads or writes outside its arrays: every case once under Valgrind.

A store that runs past the end of an output seldom changes a result; it breaks the heap of whoever
comes next. Valgrind knows no AVX-512, so the highest level is not seen.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from checks import engine

LEVELS = ["x86-64-v2", "x86-64-v3"]
SMALL = 60_000  # elements; Valgrind is 50 times slower, and the edges are where small cases are
CALL_ALL = "from test_functional_memory import call_all; call_all()"
# The first two lines of a complaint whose top frame is one of our kernels, wherever it was built.
OUTSIDE = re.compile(r"Invalid (?:read|write) of size \d+\n==\d+== +at .*_kernels.*")


def call_all() -> None:
    """Call every operator on its cases, convolution by every algorithm."""
    for case in cases.ALL:
        if sum(math.prod(shape) for shape in case.shapes) > SMALL:
            continue
        arrays = case.arrays(np.float32)
        engine(case.op, *arrays, **case.attrs)
        if case.op == "conv2d":
            for algorithm in cases.conv_algorithms(case):
                engine(case.op, *arrays, **case.attrs, algorithm=algorithm)
        elif "max_pool" in case.op:
            engine(case.op, *arrays, **case.attrs, return_indices=True)
        engine(case.op, *case.arrays(np.float64), **case.attrs)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("level", LEVELS)
def test_kernels_stay_inside_their_arrays(level: str, threads: int, tmp_path: Path) -> None:
    import fastconv

    levels = ["generic", *LEVELS, "x86-64-v4"]
    if levels.index(level) > levels.index(fastconv.show_config()["isa_of_cpu"]):
        pytest.skip(f"this CPU does not run {level}")
    log = tmp_path / "valgrind.log"
    package = Path(fastconv.__file__).parents[1]
    valgrind = ["valgrind", "--quiet", "--undef-value-errors=no", "--error-limit=no"]
    subprocess.run(
        [*valgrind, f"--log-file={log}", sys.executable, "-c", CALL_ALL],
        env={
            **os.environ,
            "FASTCONV_ISA": level,
            "OMP_NUM_THREADS": str(threads),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONMALLOC": "malloc",  # one block per array, so that its end is known
            "PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parent)]),
        },
        check=True,
    )
    assert OUTSIDE.findall(log.read_text()) == []
