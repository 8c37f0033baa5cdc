"""Builds the compiled kernels: one source, once per instruction-set level.

The level modules are `fastconv._isa_<level>._kernels`; only they may carry instruction-set flags, so that
the package imports anywhere and `fastconv._cpu` chooses. Everything else about the package stands in
pyproject.toml.
"""
import os
import platform
import shutil
import sys
import tempfile

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = "fastconv/_kernels.pyx"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "freethreading_compatible": True,
}
# Not -ffast-math: linked into a shared library it flushes the whole process's denormals, and it breaks NaN.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden",
         # kernels are specialised by constant arguments, which only works if every `cdef inline` is inlined
         "-DCYTHON_INLINE=__inline__ __attribute__((always_inline, unused))",
         "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION"]
LEVELS = {
    "generic": [],
    "x86_64_v2": ["-march=x86-64-v2"],
    "x86_64_v3": ["-march=x86-64-v3"],
    "x86_64_v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


def levels_of_this_machine() -> list[str]:
    """The levels to build: every x86-64 one there, the generic one elsewhere."""
    chosen = os.environ.get("FASTCONV_LEVELS")          # for a developer's quick builds
    if chosen:
        return chosen.split(",")
    if platform.machine().lower() in ("x86_64", "amd64"):
        return ["x86_64_v2", "x86_64_v3", "x86_64_v4"]
    return ["generic"]


class BuildKernels(build_ext):
    """Compiles each level in a folder of its own and finds out whether the compiler has OpenMP."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or True       # the levels, side by side

    def build_extensions(self) -> None:
        openmp = self._openmp_flags()
        for ext in self.extensions:
            if "._isa_" not in ext.name:
                continue
            level = ext.name.split(".")[1].removeprefix("_isa_")
            ext.extra_compile_args = [*FLAGS, *LEVELS[level], *openmp]
            ext.extra_link_args = openmp
            # One source, several objects: each level compiles a copy, so that the objects do not share a path.
            folder = os.path.join(self.build_temp, level)
            os.makedirs(folder, exist_ok=True)
            ext.sources = [shutil.copy(source, folder) for source in ext.sources]
        super().build_extensions()

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            os.makedirs(os.path.join(*ext.name.split(".")[:-1]), exist_ok=True)
        super().copy_extensions_to_source()

    def _openmp_flags(self) -> list[str]:
        if os.environ.get("FASTCONV_OPENMP") == "0":
            return []
        candidates = [["-fopenmp"], ["-Xpreprocessor", "-fopenmp", "-lomp"]]
        for flags in candidates:
            if self._compiles("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n", flags):
                return flags
        print("*" * 100, "fastconv: this compiler has no OpenMP. The engine is built WITHOUT THREADS and will use one"
              " core.\nInstall libgomp or libomp (macOS: brew install libomp) and build again to use all cores.",
              "*" * 100, sep="\n", file=sys.stderr)
        return []

    def _compiles(self, source: str, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "probe.c")
            with open(path, "w") as file:
                file.write(source)
            try:
                objects = self.compiler.compile([path], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, os.path.join(folder, "probe"), extra_postargs=flags)
            except Exception:       # whatever the compiler class raises means: no
                return False
        return True


def extensions() -> list[Extension]:
    """One Extension per level, all of the same C file."""
    template = Extension("fastconv._kernels", [SOURCE], include_dirs=[np.get_include(), "fastconv"])
    kernels, isa = cythonize([template, Extension("fastconv._isa", ["fastconv/_isa.pyx"], extra_compile_args=["-g0"])],
                             compiler_directives=DIRECTIVES, annotate=os.environ.get("FASTCONV_ANNOTATE") == "1")
    return [isa] + [Extension(f"fastconv._isa_{level}._kernels", kernels.sources, include_dirs=kernels.include_dirs,
                              depends=[*kernels.depends, "fastconv/_simd.h"])
                    for level in levels_of_this_machine()]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
