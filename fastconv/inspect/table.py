"""What the tables share: rows of strings as text and as HTML, and how layers are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from ..graph import Node

__all__ = ["Table", "kernels_of", "names_of"]


class Table:
    """Rows of strings under a header, as aligned text and as HTML."""

    def _captions(self) -> list[str]:
        """Return lines to stand above the table."""
        return []

    def _cells(self) -> tuple[Sequence[str], list[Sequence[str]], Sequence[str], str]:
        """Return header, rows, footer and the columns' alignment, a ``<`` or ``>`` for each."""
        raise NotImplementedError

    def __str__(self) -> str:
        header, rows, footer, alignment = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, footer, strict=True)]

        def line(cells: Iterable[str]) -> str:
            aligned = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, alignment, widths, strict=True))
            return "  ".join(aligned).rstrip()

        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        return "\n".join([*self._captions(), line(header), rule, *map(line, rows), rule, line(footer)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        header, rows, footer, alignment = self._cells()
        sides = ["left" if side == "<" else "right" for side in alignment]

        def line(cells: Iterable[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align: {side}">{escape(cell)}</{tag}>'
                for cell, side in zip(cells, sides, strict=True)
            )

        body = "".join(f"<tr>{line(row, 'td')}</tr>\n" for row in rows)
        above = "<br>".join(map(escape, self._captions()))
        caption = f"<caption>{above}</caption>\n" if above else ""
        return (
            f"<table>\n{caption}<thead><tr>{line(header, 'th')}</tr></thead>\n<tbody>\n{body}</tbody>\n"
            f"<tfoot><tr>{line(footer, 'th')}</tr></tfoot>\n</table>"
        )


def names_of(node: Node) -> tuple[str, ...]:
    """Return the names of all nodes that one does the work of."""
    return (*node.fused, node.name)


def kernels_of(name: str, steps: Sequence[Mapping[str, str]]) -> str:
    """Return what computes a node, each kernel once."""
    return ", ".join(dict.fromkeys(step["label"] for step in steps if step["node"] == name))
