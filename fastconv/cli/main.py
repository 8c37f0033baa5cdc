"""The ``fastconv`` command: checks that what it needs is installed, then runs it.

The commands themselves stand in `fastconv.cli.commands`; this module imports nothing that the optional
extra ``fastconv[cli]`` brings, so that it can name what is missing.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line given in ``sys.argv``; never returns."""
    try:
        import click  # noqa: F401  # only to learn whether they are there
        import PIL  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        print(
            f'fastconv: the command line needs click, rich and Pillow ({error}); pip install "fastconv[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)
    # A file name or a bar that the terminal's encoding lacks is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    from .commands import cli

    cli(prog_name="fastconv")
