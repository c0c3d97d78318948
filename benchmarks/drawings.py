"""Drawn digits of many sizes, counted: what scaling them to the size of the training's is good for.

    python benchmarks/drawings.py RUN

Plain lines in the shape of digits are put at random on the canvas of ``airjax demo``, clear of each
other, and read as the page reads them, with and without the tick at "Scale what I draw".
"""

import sys
from pathlib import Path

import numpy as np

from airjax.demo.drawing import Stroke, drawn
from airjax.demo.exhibit import Exhibit
from airjax.runs import Run

SIZES = {1: (0.15, 0.25, 0.35, 0.45, 0.6, 0.8), 2: (0.15, 0.25, 0.35, 0.45)}
DRAWINGS, NUM_PATHS, GAP, WIDTH = 60, 10, 0.06, 0.7
Line = list[tuple[float, float]]


def arc(x: float, y: float, rx: float, ry: float, begin: float = 0.0, end: float = 1.0) -> Line:
    """Part of an ellipse, clockwise; 0 and 1 are its top."""
    angles = 2 * np.pi * np.linspace(begin, end, 25)
    return [(float(x + rx * np.sin(a)), float(y - ry * np.cos(a))) for a in angles]


DIGITS: list[list[Line]] = [  # in a unit square, y down
    [arc(0.5, 0.5, 0.35, 0.5)],
    [[(0.5, 0.0), (0.5, 1.0)]],
    [[*arc(0.5, 0.25, 0.35, 0.25, -0.25, 0.375), (0.15, 1.0), (0.85, 1.0)]],
    [arc(0.45, 0.25, 0.3, 0.25, -0.25, 0.5) + arc(0.45, 0.73, 0.35, 0.26, 0.0, 0.75)],
    [[(0.6, 0.0), (0.1, 0.65), (0.9, 0.65)], [(0.65, 0.35), (0.65, 1.0)]],
    [[(0.8, 0.0), (0.2, 0.0), (0.2, 0.45), *arc(0.45, 0.7, 0.35, 0.3, -0.1, 0.7)]],
    [[(0.6, 0.0), (0.2, 0.5), *arc(0.5, 0.73, 0.32, 0.27, -0.25, 0.75)]],
    [[(0.15, 0.0), (0.85, 0.0), (0.4, 1.0)]],
    [arc(0.5, 0.25, 0.27, 0.25) + arc(0.5, 0.75, 0.33, 0.25)],
    [[*arc(0.5, 0.28, 0.3, 0.28, 0.25, 1.25), (0.75, 1.0)]],
]


def drawing(random: np.random.Generator, n: int, size: float) -> list[Stroke]:
    """n digits, ``size`` of the canvas high."""
    while True:
        corners = random.uniform(0, 1 - size, (n, 2))
        apart = np.abs(corners[:, None] - corners[None]).max(axis=-1) + np.eye(n)
        if apart.min() > size + GAP:
            break
    digits = random.integers(10, size=n)
    return [
        Stroke(np.array(line) * [WIDTH * size, size] + corner)
        for digit, corner in zip(digits, corners, strict=True)
        for line in DIGITS[digit]
    ]


def main(run: Path) -> None:
    """Prints a table."""
    exhibit = Exhibit.of(Run.open(run))
    print(f"| digits | height, of the canvas | counted right of {DRAWINGS}, scaled | as drawn |")
    print("|---|---|---|---|")
    for n, sizes in SIZES.items():
        for size in sizes:
            right = []
            for fit in (True, False):
                random = np.random.default_rng(0)
                drawings = (drawing(random, n, size) for _ in range(DRAWINGS))
                images = (drawn(d, exhibit.brush, exhibit.shape, fit) for d in drawings)
                right.append(sum(int(exhibit.reader(i, NUM_PATHS).counts[0]) == n for i in images))
            print(f"| {n} | {size:.2f} | {right[0]} | {right[1]} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
