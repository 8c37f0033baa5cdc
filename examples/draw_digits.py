"""Draw the ten example digits, ``examples/digits/0.png`` to ``9.png``.

    python examples/draw_digits.py [--out FOLDER]

Each digit is a few pen strokes, given below as points on a 20 x 20 sheet (x to the right, y down)
in the order in which a hand would write them. A smooth curve goes through the points, a round pen
that presses lighter at both ends follows it, and the drawing is made eight times larger than the
28 x 28 picture so that shrinking it smooths the edges. White on black, as in MNIST.

Needs ``pip install pillow``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image, ImageDraw

Point = tuple[float, float]

SIZE = 28
MARGIN = 4.0  # the 20 x 20 sheet lies in the middle of the picture
ZOOM = 8
STEPS = 48  # dabs of the pen between two points of a stroke
TAPER = 0.12  # share of a stroke over which the pressure rises, and falls again
LIGHT = 0.72  # the pen's width at the very ends, as a share of the full width


class Digit:
    """One digit: the pen's width in pixels, the slant to the right, and the strokes."""

    def __init__(self, width: float, slant: float, *strokes: str) -> None:
        self.width = width
        self.slant = slant
        self.strokes = [
            [(float(x), float(y)) for x, y in (point.split(",") for point in stroke.split())] for stroke in strokes
        ]


# A point given twice in a row is a corner: the pen stops there and sets off in a new direction.
DIGITS = (
    Digit(
        2.5,
        0.1,
        "11.8,1.6 7.4,2.2 4.2,6.6 3.7,12.4 6.4,17.6 11,18.2 15.2,14.2 16.2,8.2 14,3.2 10.4,1.3",
    ),
    Digit(
        2.6,
        0.16,
        "9.6,1.2 10,6.8 9.9,12.6 10.2,18.8",
    ),
    Digit(
        2.4,
        0.05,
        "4.2,5.4 6.6,2 11.2,1.3 14.4,4.2 13.4,8.6 9.4,13.2 4,17.9 4,17.9 9.4,17.3 16.6,18",
    ),
    Digit(
        2.4,
        0.06,
        "4.6,3.4 9,1.2 13.6,3.4 12.6,7.4 8.2,9.4 8.2,9.4 13.4,10.6 14.8,14.4 11.4,18 7,18.4 3.8,16.4",
    ),
    Digit(
        2.3,
        0.1,
        "5.6,1.8 4.6,6 3.4,11 3.4,11 9.4,11.2 16.2,10.6",
        "13,2.2 12.6,9 12.2,14.2 12.3,19",
    ),
    Digit(
        2.5,
        0.06,
        "6.2,2.2 5.6,5.4 4.9,8.9 4.9,8.9 9.4,7.8 13.8,10 14.4,14.4 10.8,18 6.4,18.4 3.4,16.8",
        "6,2.3 10.4,2.1 15.6,1.5",
    ),
    Digit(
        2.5,
        0.04,
        "12.8,1.4 8.4,4.6 5.2,9.8 4.9,14.8 7.8,18.3 12.4,17.7 14.6,14.2 12.4,10.9 8.4,11.2 5.4,14.2",
    ),
    Digit(
        2.4,
        0.08,
        "3.6,2.9 9,2.5 15.2,2.2 15.2,2.2 12.2,7.4 9.6,13 8.2,18.9",
    ),
    Digit(
        2.3,
        0.08,
        "14.2,3.8 10.6,1.3 6.4,3.2 6.6,6.9 10.6,9.5 14,13 13.2,17.2 "
        "9.4,18.7 5.6,16.6 6.2,12.8 10.2,9.5 13.6,6.8 14.1,4",
    ),
    Digit(
        2.5,
        0.08,
        "14.2,4.4 10.6,1.5 6.2,3.6 5.4,7.8 8.4,10.4 12.4,8.6 14.3,4.2 14.3,4.2 13.8,9.6 12.6,14.4 11.4,18.8",
    ),
)


def hermite(t: float, before: float, start: float, end: float, after: float) -> float:
    """Return the cubic from ``start`` (t = 0) to ``end`` (t = 1), sloping as its neighbours say."""
    return (
        (2 * t**3 - 3 * t**2 + 1) * start
        + (3 * t**2 - 2 * t**3) * end
        + (t**3 - 2 * t**2 + t) * (end - before) / 2
        + (t**3 - t**2) * (after - start) / 2
    )


def curve(points: list[Point]) -> list[Point]:
    """Return dense points of the Catmull-Rom curve through ``points``."""
    path: list[Point] = []
    for i in range(len(points) - 1):
        start, end = points[i], points[i + 1]
        before = points[max(i - 1, 0)]
        after = points[min(i + 2, len(points) - 1)]
        for step in range(STEPS):
            t = step / STEPS
            x, y = (hermite(t, *axis) for axis in zip(before, start, end, after, strict=True))
            path.append((x, y))
    return [*path, points[-1]]


def draw(digit: Digit) -> Image.Image:
    """Return the digit as a 28 x 28 picture of gray levels, white on black."""
    sheet = Image.new("L", (SIZE * ZOOM, SIZE * ZOOM), 0)
    pen = ImageDraw.Draw(sheet)
    for stroke in digit.strokes:
        path = curve(stroke)
        for i, (x, y) in enumerate(path):
            nearest_end = min(i, len(path) - 1 - i) / (TAPER * len(path))
            pressure = LIGHT + (1 - LIGHT) * math.sin(min(nearest_end, 1.0) * math.pi / 2)
            radius = digit.width / 2 * pressure * ZOOM
            u = (MARGIN + x + digit.slant * (10.0 - y)) * ZOOM
            v = (MARGIN + y) * ZOOM
            pen.ellipse((u - radius, v - radius, u + radius, v + radius), fill=255)
    return sheet.resize((SIZE, SIZE), Image.Resampling.BOX)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the ten example digits.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("digits"))
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for value, digit in enumerate(DIGITS):
        draw(digit).save(folder / f"{value}.png", optimize=True)
    print(f"drew {len(DIGITS)} digits in {folder}")


if __name__ == "__main__":
    main()
