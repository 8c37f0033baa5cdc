"""Draw docs/predict.svg: what ``fastconv predict`` shows for the example digits (``make pictures``).

The command is run for real and its output drawn, each image at the end of its line.
"""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "predict.svg"
MODEL, DIGITS = "models/lenet.npz", "examples/digits"
COLUMNS = 64
IMAGE_COLUMN = 60
"""Right of the longest line, which has 58 columns."""
CELL_WIDTH, LINE_HEIGHT = 12.2, 24.4
"""Units of Rich's drawing."""


def run(*arguments: str) -> str:
    """Return what the command prints on a terminal, with its colours."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    command = [sys.executable, "-m", "fastconv.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def with_images(svg: str, files: list[str]) -> str:
    """Return the drawing with image i at the end of line i + 1; line 0 is the command."""
    images = []
    for line, file in enumerate(files, start=1):
        pixels = base64.b64encode((ROOT / file).read_bytes()).decode()
        images.append(
            f'<image x="{IMAGE_COLUMN * CELL_WIDTH:.1f}" y="{line * LINE_HEIGHT + 1.5:.1f}" '
            f'width="{LINE_HEIGHT}" height="{LINE_HEIGHT}" href="data:image/png;base64,{pixels}"/>'
        )
    body, end = svg.rsplit("</g>", 2)[0], svg.rsplit("</g>", 2)[1:]
    return "</g>".join(["".join([body, *images]), *end])


def main() -> None:
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / DIGITS).glob("*.png"))
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(f"[bold]$[/] fastconv predict {MODEL} {DIGITS}/*.png", highlight=False)
    console.print(Text.from_ansi(run("predict", MODEL, *files)))
    svg = console.export_svg(title="fastconv", unique_id="predict")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture loads nothing
    PICTURE.write_text(with_images(svg, files), encoding="utf-8")
    print(f"{PICTURE.relative_to(ROOT)}: {len(files)} digits")


if __name__ == "__main__":
    main()
