"""Instruction-set levels: which one runs, that a lower one can be forced, that each is right."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import run

import fastconv
from fastconv._base import level
from fastconv.errors import ArgumentError
from fastconv.machine import cpu

TESTS = Path(__file__).parent
NAMES = list(cpu.LEVELS)
LANES = {"generic": 4, "x86-64-v2": 4, "x86-64-v3": 8, "x86-64-v4": 16}

# What this CPU can run: every x86-64 level up to its own, or the generic one.
HERE = NAMES[1 : NAMES.index(level()) + 1] if level() != "generic" else ["generic"]
BUILT = [name for name in HERE if find_spec(f"fastconv.kernels.{cpu.LEVELS[name]}")]
LOWER = [name for name in BUILT if name != level()]

SHOW = """
import json
import fastconv
from fastconv.machine.cpu import kernels

module = kernels()
print(json.dumps([fastconv.show_config()["isa"], module.LEVEL, module.VECTOR]))
"""


@pytest.mark.parametrize("name", BUILT)
def test_the_level_asked_for_runs(name: str) -> None:
    shown, loaded, lanes = json.loads(run("-c", SHOW, FASTCONV_ISA=name))
    assert shown == loaded == name
    assert lanes == LANES[name]


def test_by_default_the_highest_level_runs() -> None:
    assert json.loads(run("-c", SHOW, FASTCONV_ISA=""))[:2] == [level(), level()]
    assert fastconv.show_config()["isa_of_cpu"] == level()


@pytest.mark.parametrize("name", ["avx2", "v3", "x86-64-v5", "X86-64-V3", "native"])
def test_an_unknown_level_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTCONV_ISA", name)
    with pytest.raises(ArgumentError, match=rf"'{name}'.*{level()}.*unset it"):
        cpu.isa()


@pytest.mark.parametrize(
    ("highest", "asked"),
    [
        ("x86-64-v2", "x86-64-v3"),
        ("x86-64-v3", "x86-64-v4"),
        ("generic", "x86-64-v2"),
        ("x86-64-v4", "generic"),
    ],
)
def test_a_level_that_the_cpu_lacks_is_refused(highest: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "level", lambda: highest)
    monkeypatch.setenv("FASTCONV_ISA", asked)
    with pytest.raises(ArgumentError, match=rf"'{asked}'.*this CPU runs .*{highest}"):
        cpu.isa()


def test_the_refusal_reaches_the_user() -> None:
    code = "import fastconv\ntry: fastconv.show_config()\nexcept fastconv.FastconvError: print('no')"
    assert run("-c", code, FASTCONV_ISA="x86-64-v9") == "no\n"


def test_a_level_that_was_not_built_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "isa", lambda: "x86-64-v3")
    monkeypatch.setitem(cpu.LEVELS, "x86-64-v3", "nowhere")
    with pytest.raises(ImportError, match=r"no kernels for this CPU \(x86-64-v3"):
        cpu.kernels.__wrapped__()


# This process runs the highest level. Tests that compare with the oracle run the others, in processes of their own:
# every level has register tiles, remainders and Winograd transforms of its own.
PARTS = {
    "operators": [
        "test_functional_conv.py::test_float32",
        "test_functional.py",
        "test_functional_nonfinite.py",
        "-k",
        "not torch",
    ],
    "networks": ["test_compile.py", "test_compile_random.py", "test_winograd.py"],
    "invariants": ["test_invariants.py", "-k", "lenet or cifar_conv or anywhere"],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", LOWER)
def test_a_lower_level_is_right(name: str, part: str) -> None:
    words = [str(TESTS / word) if ".py" in word else word for word in PARTS[part]]
    arguments = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *words)
    shown = run(*arguments, timeout=3600, FASTCONV_ISA=name, OMP_NUM_THREADS="2")
    assert " passed" in shown
    assert " skipped" not in shown
