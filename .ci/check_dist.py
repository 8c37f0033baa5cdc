"""Check the distributions in a folder: what they hold, how large they are, and that the wheel predicts.

    python .ci/check_dist.py dist

The wheel is installed into a virtual environment of its own and tried there, outside this folder, so that
nothing but the wheel can answer. Exits with 1 and a sentence for each fault.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INSTALLED_LIMIT = 4_000_000  # bytes; what the README promises
SOURCES = ("LICENSE", "setup.py", "pyproject.toml", "README.md", "fastconv/py.typed", "models/lenet.npz")
SOURCE_FOLDERS = {"fastconv": (".py", ".pyx", ".pxd", ".pxi", ".h", ".pyi"), "tests": (".py",)}
ALLOWED_IN_WHEEL = (".py", ".pyi", ".so", ".pyd", "py.typed")
TRY_IT = """
import sys
import numpy as np
import fastconv
model = fastconv.load(sys.argv[1])
digits = np.load(sys.argv[2])
classes = model.predict(digits).tolist()
assert classes == list(range(10)), classes
print("installed from the wheel:", fastconv.__version__, fastconv.show_config()["isa"], classes)
"""


def sdist_faults(path: Path) -> list[str]:
    """Say what the source distribution lacks of this folder, and what it holds too much."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = set(SOURCES)
    for folder, endings in SOURCE_FOLDERS.items():
        files = (file for file in (ROOT / folder).rglob("*") if file.suffix in endings)
        wanted |= {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}
    faults = [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
    unwanted = [name for name in names if name.endswith((".c", ".so", ".pyc"))]
    return faults + [f"{path.name} holds {name}" for name in sorted(unwanted)]


def wheel_faults(path: Path) -> list[str]:
    """Say what does not belong into the wheel, and whether it is too large."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    package = [e.filename for e in entries if e.filename.startswith("fastconv/")]
    faults = [f"{path.name} holds {n}" for n in package if not n.endswith(ALLOWED_IN_WHEEL)]
    for needed in ("fastconv/py.typed", "fastconv/kernels/_kernels.pyi"):
        if needed not in package:
            faults.append(f"{path.name} lacks {needed}")
    if not any(e.filename.endswith("licenses/LICENSE") for e in entries):
        faults.append(f"{path.name} lacks the licence")
    size = sum(e.file_size for e in entries)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {size / 1e6:.2f} MB installed")
    if size > INSTALLED_LIMIT:
        faults.append(f"{path.name} takes {size} bytes installed, more than {INSTALLED_LIMIT}")
    return faults


def try_wheel(path: Path) -> None:
    """Install the wheel, with its dependencies alone, and read the example digits with it."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", path.resolve()], check=True)
        digits = [np.asarray(Image.open(ROOT / f"examples/digits/{d}.png")) for d in range(10)]
        np.save(Path(folder, "digits.npy"), np.stack(digits))
        command = [str(python), "-c", TRY_IT, str(ROOT / "models/lenet.npz"), "digits.npy"]
        subprocess.run(command, cwd=folder, check=True)


def main() -> int:
    """Run the command; return its exit status."""
    folder = Path(sys.argv[1])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    faults = sdist_faults(sdist) + wheel_faults(wheel)
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if not faults:
        try_wheel(wheel)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
