"""What is true of the installed package rather than of its functions: modules, flags, stubs."""

from __future__ import annotations

import ast
import ctypes
import ctypes.util
import inspect
import platform
import re
import shutil
import subprocess
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from processes import run

import fastconv
from fastconv import _base
from fastconv.machine import cpu

PACKAGE = Path(fastconv.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
LENET = ROOT / "models" / "lenet.npz"
X86_LEVELS = ("x86-64-v2", "x86-64-v3", "x86-64-v4")
WIDEST_REGISTER = {"x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}
"""The widest registers a level has; a module that names wider ones dies where they are missing."""
MXCSR_OFFSET, MXCSR_CONTROL = 28, 0xFFC0
"""In glibc's fenv_t on x86-64; the bits below are sticky flags, which any arithmetic may raise."""


def module_file(level: str) -> Path:
    """The compiled module of a level; the test is skipped where that level was not built."""
    spec = find_spec(f"fastconv.kernels.{cpu.LEVELS[level]}._kernels") if _built(level) else None
    if spec is None or spec.origin is None:
        pytest.skip(f"built without {level}")
    return Path(spec.origin)


def _built(level: str) -> bool:
    return find_spec(f"fastconv.kernels.{cpu.LEVELS[level]}") is not None


def registers_of(file: Path) -> set[str]:
    """Which of the vector registers xmm, ymm and zmm the module's instructions name."""
    objdump = shutil.which("objdump")
    if objdump is None or platform.machine() != "x86_64":
        pytest.skip("needs objdump on x86-64")
    command = [objdump, "--disassemble", "--no-show-raw-insn", str(file)]
    code = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "ret" in code
    return {name for name in ("xmm", "ymm", "zmm") if f"%{name}" in code}


def control_word() -> int:
    """This thread's MXCSR without its sticky flags: rounding, masks, flush-to-zero."""
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = ctypes.create_string_buffer(64)
    assert libm.fegetenv(environment) == 0
    return ctypes.c_uint32.from_buffer(environment, MXCSR_OFFSET).value & MXCSR_CONTROL


@pytest.mark.parametrize("level", X86_LEVELS)
def test_no_module_needs_more_than_its_level(level: str) -> None:
    # The widest one being there shows that the flags reached the compiler at all.
    used = registers_of(module_file(level))
    assert WIDEST_REGISTER[level] in used
    order = list(WIDEST_REGISTER.values())
    assert not used & set(order[order.index(WIDEST_REGISTER[level]) + 1 :])


def test_the_module_that_asks_the_cpu_runs_on_any() -> None:
    assert _base.__file__ is not None
    assert not registers_of(Path(_base.__file__)) & {"ymm", "zmm"}


@pytest.mark.skipif(
    platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc",
    reason="knows the place of MXCSR in glibc's fenv_t on x86-64 only",
)
def test_a_call_leaves_the_caller_s_control_word_alone() -> None:
    # -ffast-math, linked into a shared library, would set flush-to-zero when the library is loaded.
    model = fastconv.load(LENET, threads=2)
    states = []

    def run() -> None:
        states.append(control_word())
        model(np.full((64, 1, 28, 28), 1e-40, np.float32))
        model.predict(np.zeros((28, 28), np.uint8))
        states.append(control_word())

    run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert states == [0x1F80] * 4  # the ABI's: round to nearest, all masked, nothing flushed


def test_the_stub_names_what_the_kernels_hold() -> None:
    tree = ast.parse((PACKAGE / "kernels" / "_kernels.pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    module = cpu.kernels()
    assert _members(classes["Kernels"]) == _own_names(module)
    assert _members(classes["Program"]) == {"__init__", "__call__"} | _own_names(module.Program)


def test_the_stub_s_arguments_are_the_kernels() -> None:
    tree = ast.parse((PACKAGE / "kernels" / "_kernels.pyi").read_text(encoding="utf-8"))
    (stub,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Kernels")
    functions = [node for node in stub.body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        described = [argument.arg for argument in function.args.args[1:]]
        actual = inspect.signature(getattr(cpu.kernels(), function.name)).parameters
        assert list(actual) == described, function.name


OWN_FILE, STATE_DICT = "fastconv's own file", "a state_dict"
STANDARD_LIBRARY = {
    OWN_FILE: {"_json"},
    STATE_DICT: set(),
}
"""What a start may import beside NumPy's own imports and fastconv: each costs every start from 0.1 to 1 ms."""
MODULES = {
    "": "_base compile errors formats graph machine model preprocessing rewrite",
    "compile": "conv lowering ops tensors",
    "compile.conv": "direct pixels",
    "compile.ops": "conv linear shape",
    "formats": "npz",
    "formats.npz": "archive zip",
    "graph": "attributes checks geometry ops",
    "graph.ops": "activation conv linear pool shape spec",
    "machine": "cpu description",
    "rewrite": "draft fuse",
}
"""What a start from either kind of file loads of fastconv, to a LeNet's first class: each costs from 0.07 to 0.2 ms."""
READERS = {OWN_FILE: {"formats.npz.model"}, STATE_DICT: {"formats.state_dict", "graph.builder"}}
START = """
import sys
import numpy as np
before = set(sys.modules)
import fastconv
fastconv.load(sys.argv[1]).predict(np.zeros((28, 28), np.uint8))
names = {name for name in set(sys.modules) - before if sys.modules[name].__spec__}
names -= {"numpy._core", "numpy._core._multiarray_umath"}  # aliases, which Cython's import_array asks NumPy 1.26 for
print(*sorted(names if sys.argv[2:] else {name.split(".")[0] for name in names}))
"""


def file_of(kind: str, folder: Path) -> str:
    """A LeNet's file of either kind."""
    if kind == STATE_DICT:
        return str(LENET)
    fastconv.load(LENET).save(folder / "own.npz")
    return str(folder / "own.npz")


@pytest.mark.parametrize("kind", [OWN_FILE, STATE_DICT])
def test_a_start_imports_no_more_than_it_needs(kind: str, tmp_path: Path) -> None:
    names = set(run("-c", START, file_of(kind, tmp_path)).split()) - {"fastconv"}
    assert {name for name in names if "cython" not in name} <= STANDARD_LIBRARY[kind]


@pytest.mark.parametrize("kind", [OWN_FILE, STATE_DICT])
def test_a_start_loads_these_modules_of_fastconv(kind: str, tmp_path: Path) -> None:
    names = run("-c", START, file_of(kind, tmp_path), "all").split()
    loaded = {name.removeprefix("fastconv.") for name in names if name.startswith("fastconv.")}
    known = {f"{folder}.{name}".lstrip(".") for folder, files in MODULES.items() for name in files.split()}
    level = {name for name in loaded if name.startswith("kernels.")}
    assert level
    assert loaded - level == known | READERS[kind]


def test_a_start_imports_no_part_that_it_does_not_use() -> None:
    names = run("-c", START, str(LENET), "all").split()
    assert "fastconv.model" in names
    unused = (
        "cli",
        "functional",
        "images",
        "inspect",
        "machine.blas",
        "formats.torch",
        "formats.onnx",
        "grad",
        "server",
        "train",
    )
    assert not [name for name in names if name.removeprefix("fastconv.").startswith(unused)]


def test_the_classifiers_name_the_versions_that_were_run() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rows = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8").splitlines()
    passed = {row.split(" | ")[0].lstrip("| ") for row in rows if " passed" in row and "FAILED" not in row}
    named = re.findall(r'"Programming Language :: Python :: (\d+\.\d+)"', text)
    assert named
    assert set(named) == {".".join(version.split(".")[:2]) for version in passed}


def _members(node: ast.ClassDef) -> set[str]:
    """The names that a class in a stub declares."""
    functions = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
    variables = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
    return functions | {target.id for target in variables if isinstance(target, ast.Name)}


def _own_names(holder: object) -> set[str]:
    """The public names that the Cython source defines, without what it imports or reduces."""
    imported = {"np", "Prepared", "Workspace"}
    return {name for name in vars(holder) if not name.startswith("_")} - imported
