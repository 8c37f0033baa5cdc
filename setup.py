"""Builds the compiled kernels: one source, once per instruction-set level.

The level modules are `fastconv.kernels.<level>._kernels`; only they may carry instruction-set flags, so that
the package imports anywhere and `fastconv.machine.cpu` chooses. Everything else about the package stands in
pyproject.toml.

Environment variables, all meant for developers: FASTCONV_LEVELS (build only these levels, e.g. x86_64_v4),
FASTCONV_OPENMP=0 (build without threads), FASTCONV_DEBUG=1 (keep symbols and line numbers),
FASTCONV_ANNOTATE=1 (write Cython's annotated HTML beside the source).
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from glob import glob

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCE = "fastconv/kernels/_kernels.pyx"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
    # Functions as Python's own builtins, with their signatures: Cython's type for them costs 0.1 ms of every start.
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
}
# Not -ffast-math: linked into a shared library it flushes the whole process's denormals, and it breaks NaN.
FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    # kernels are specialised by constant arguments, which only works if every `cdef inline` is inlined
    "-DCYTHON_INLINE=__inline__ __attribute__((always_inline, unused))",
]
# What runs once for each step of a program, while that is made, and float64 beside what a network computes in float32,
# is compiled for size: a sixth of a module.
WRAPPERS = (
    r"__pyx_pw\w*(?:pack_|pool_|adaptive_|packed_|measure|unpickle|plane_means|blas|attention|products|conv_weight"
    r"|activation_gradient|channel_sums|combine|take|fold|not_finite|profile|peak)"
)
COLD = re.compile(
    rf"^(static .*(?:_kernels_load|__pyx_convert__from_py_struct|__cinit__|_pymod_exec_|_cython__|{WRAPPERS}"
    r"|__pyx_fuse_1__pyx_f\w*_kernels_(?:arithmetic_run|activate_run|reduce_pass|walk_|lstm_gates|gru_gates|gru_reset"
    r"|add_rows|hidden_product|recurrent|gradient_run|weight_|channel_share|combine_share|pool_planes|max_pool_planes"
    r"|spread_plane|regular_|phase_row|sample_grid))\w*\(.*\)"
    # that of several arguments has a prototype of several lines
    rf"|static PyObject \*{WRAPPERS}\w*\([^;{{]*\)); /\*proto\*/$",
    re.M,
)
LEVELS = {
    "generic": [],
    "x86_64_v2": ["-march=x86-64-v2"],
    "x86_64_v3": ["-march=x86-64-v3"],
    "x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
PREFIX = "fastconv.kernels."

DEBUG = os.environ.get("FASTCONV_DEBUG") == "1"
COMMON_FLAGS = ["-fvisibility=hidden", "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION", "-g" if DEBUG else "-g0"]
# C that throws and catches nothing needs no tables to unwind its stack, 3% of a module; a debugger does.
COMMON_FLAGS += [] if DEBUG else ["-fno-asynchronous-unwind-tables"]
# A user has no use for symbols, a fifteenth of a module's size.
LINK_FLAGS = [] if DEBUG else ["-Wl,-x" if sys.platform == "darwin" else "-Wl,-s"]

NEEDS_GNU = """\
fastconv's kernels are written on the vector extensions of GCC and Clang, which this compiler ({name}) lacks.
On Windows use WSL, or build with MinGW-w64's GCC: python setup.py build_ext --compiler=mingw32 (not tested)."""
TOO_OLD = "fastconv: {compiler} does not know {flags}; it needs GCC 11, Clang 12 or later (CC=... chooses another)"
NO_OPENMP = """\
fastconv: {compiler} has no OpenMP. The engine is built WITHOUT THREADS and will use one core only.
Install libgomp (GCC) or libomp (Clang: apt install libomp-dev; macOS: brew install libomp, then point
CFLAGS and LDFLAGS at it) and build again to use all cores. fastconv.show_config()["openmp"] tells which it is."""


def levels_of_this_machine() -> list[str]:
    """The levels to build: every x86-64 one there, the generic one elsewhere."""
    chosen = os.environ.get("FASTCONV_LEVELS")
    if chosen:
        unknown = set(chosen.split(",")) - set(LEVELS)
        if unknown:
            sys.exit(f"FASTCONV_LEVELS: no level {', '.join(sorted(unknown))}; there are {', '.join(LEVELS)}")
        return chosen.split(",")
    if platform.machine().lower() in ("x86_64", "amd64"):
        return ["x86_64_v2", "x86_64_v3", "x86_64_v4"]
    return ["generic"]


def _mark_cold(source: str) -> None:
    """Mark the functions of `COLD` in a generated file; where Cython writes prototypes otherwise, none is."""
    with open(source, encoding="utf-8") as file:
        text = file.read()
    with open(source, "w", encoding="utf-8") as file:
        file.write(COLD.sub(r"\1 __attribute__((cold)); /*proto*/", text))


class BuildKernels(build_ext):
    """Compiles each level in a folder of its own and finds out whether the compiler has OpenMP."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True  # the levels, side by side

    def build_extensions(self) -> None:
        if self.compiler.compiler_type not in ("unix", "mingw32", "cygwin"):
            raise CompileError(NEEDS_GNU.format(name=self.compiler.compiler_type))
        openmp = self._openmp_flags()
        for ext in self.extensions:
            ext.extra_compile_args = [*COMMON_FLAGS]
            ext.extra_link_args = [*LINK_FLAGS]
            if ext.name.startswith(PREFIX):
                self._specialise(ext, openmp)
        super().build_extensions()

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            os.makedirs(os.path.join(*ext.name.split(".")[:-1]), exist_ok=True)
        super().copy_extensions_to_source()

    def _specialise(self, ext: Extension, openmp: list[str]) -> None:
        """Give ext the flags of the level in its name, and a copy of the source."""
        level = ext.name.removeprefix(PREFIX).split(".")[0]
        if not self._compiles("int main(void) { return 0; }\n", LEVELS[level]):
            raise CompileError(TOO_OLD.format(compiler=self._compiler_name(), flags=" ".join(LEVELS[level])))
        ext.extra_compile_args += [*FLAGS, *LEVELS[level], *openmp]
        ext.extra_link_args += openmp
        # One source, several objects: each level compiles a copy, so that the objects do not share a path.
        folder = os.path.join(self.build_temp, level)
        os.makedirs(folder, exist_ok=True)
        ext.sources = [shutil.copy(source, folder) for source in ext.sources]
        for source in ext.sources:
            if source.endswith(".c"):
                _mark_cold(source)

    def _openmp_flags(self) -> list[str]:
        if os.environ.get("FASTCONV_OPENMP") == "0":
            return []
        for flags in (["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]):  # the latter is Apple's Clang
            if self._compiles("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n", flags):
                return flags
        print("*" * 110, NO_OPENMP.format(compiler=self._compiler_name()), "*" * 110, sep="\n", file=sys.stderr)
        return []

    def _compiler_name(self) -> str:
        return " ".join(self.compiler.compiler_so[:1])

    def _compiles(self, source: str, flags: list[str]) -> bool:
        """Whether source compiles and links to a program with these flags."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probe.c")
            with open(path, "w") as file:
                file.write(source)
            command = [
                *self.compiler.compiler_so,
                path,
                "-o",
                os.path.join(folder, "probe"),
                *flags,
                *shlex.split(os.environ.get("LDFLAGS", "")),
            ]
            return subprocess.run(command, capture_output=True).returncode == 0


def extensions() -> list[Extension]:
    """What runs anywhere, and one Extension per level, all of the same C file."""
    sources = [
        Extension("fastconv.kernels._kernels", [SOURCE], include_dirs=[np.get_include(), "fastconv/kernels"]),
        Extension("fastconv._base", ["fastconv/_base.pyx"]),
    ]
    kernels, *anywhere = cythonize(
        sources, compiler_directives=DIRECTIVES, annotate=os.environ.get("FASTCONV_ANNOTATE") == "1"
    )
    return anywhere + [
        Extension(
            f"{PREFIX}{level}._kernels",
            kernels.sources,
            include_dirs=kernels.include_dirs,
            depends=[*kernels.depends, *sorted(glob("fastconv/kernels/*.h"))],
        )
        for level in levels_of_this_machine()
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
