"""Strokes drawn by hand, as an image like those that the model was trained on.

AIR expects objects of the size that it was trained on; larger or smaller ones would be miscounted.
So strokes get the thickness of the run's objects, and figures of touching strokes get their size.
"""

import json
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageColor, ImageDraw
from scipy.ndimage import distance_transform_edt, label

from airjax.errors import InputError
from airjax.inference.results import Scenes

FINER = 8  # supersampling factor, for smooth edges
NEAR = 0.05  # strokes closer than this, in image sides, belong to one figure
SKETCH = (100, 100)  # resolution at which figures are separated
SPREAD = 1.1  # figures may be larger or smaller than the typical one by this factor
MOST_SCALED = 5.0  # largest factor of scaling; smaller figures are dots
MOST_STROKES, MOST_POINTS = 200, 20_000  # in one drawing


class Stroke(NamedTuple):
    """A line drawn without lifting the pen.

    Attributes:
        points: ``[n, 2]``, x to the right and y down, in [0, 1] of the image's width and height.
        colour: as ``#rrggbb``.
    """

    points: Float[np.ndarray, "n 2"]
    colour: str = "#ffffff"


class Brush(NamedTuple):
    """The typical object, in pixels of the image.

    Attributes:
        size: of an object's larger side.
        thickness: of its strokes; for solid objects, nearly their size.
    """

    size: float
    thickness: float

    @classmethod
    def of(cls, scenes: Scenes) -> "Brush":
        """Typical values of the objects that were found in images."""
        boxes = scenes.tight_boxes[scenes.present]
        sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        config = scenes.model.config
        expected = min(config.image_size) / config.scale_prior_mean
        size = float(np.median(sides)) if len(sides) else expected
        images = scenes.images if scenes.images.ndim == 3 else scenes.images.max(axis=-1)
        return cls(size, _thickness(images > 127, otherwise=size / 6))


def _thickness(bright: Bool[np.ndarray, "N H W"], otherwise: float) -> float:
    """The width of bright strips, from the mean distance of their pixels to the dark: 1 for strips
    that are two pixels wide, 1.5 for four pixels, and so on."""
    distances = np.concatenate(
        [np.asarray(distance_transform_edt(image))[image] for image in bright]
    )
    found = 4 * (float(distances.mean()) - 0.5) if len(distances) else otherwise
    return max(1.0, found)


def strokes_from_json(text: str) -> list[Stroke]:
    """Strokes from the page: ``[{"colour": "#rrggbb", "points": [[x, y], ...]}, ...]``.

    Raises:
        InputError: if the text is anything else, or there are too many strokes or points.
    """
    try:
        found = json.loads(text or "[]")
        strokes = [
            Stroke(np.asarray(s["points"], np.float64).reshape(-1, 2), str(s["colour"]))
            for s in found
        ]
        for stroke in strokes:
            ImageColor.getrgb(stroke.colour)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("drawing", f"must be strokes as JSON: {error}") from None
    points = sum(len(stroke.points) for stroke in strokes)
    if len(strokes) > MOST_STROKES or points > MOST_POINTS:
        rule = f"must have at most {MOST_STROKES} strokes and {MOST_POINTS} points"
        raise InputError("drawing", rule, f"{len(strokes)} and {points}")
    if not all(np.isfinite(stroke.points).all() for stroke in strokes):
        raise InputError("drawing", "must have finite points")
    return [s._replace(points=np.clip(s.points, 0, 1)) for s in strokes if len(s.points)]


def drawn(
    strokes: list[Stroke], brush: Brush, shape: tuple[int, ...], fit: bool = True
) -> UInt8[np.ndarray, "H W *C"]:
    """The image of strokes: bright on a dark background.

    Args:
        strokes: in any order.
        brush: of the run's objects.
        shape: ``(H, W)`` or ``(H, W, C)``; colours are used if C is 3.
        fit: whether figures are scaled to the size of objects.
    """
    height, width, *channels = shape
    sides = np.array([width, height])
    canvas = np.zeros(shape, np.float32)
    if fit:
        strokes = fitted(strokes, brush, (width, height))
    for stroke in strokes:
        covered = _covered(stroke.points * sides, brush.thickness, (width, height))
        if not channels:
            ink = covered
        elif channels == [3]:
            ink = covered[..., None] * np.array(ImageColor.getrgb(stroke.colour)[:3]) / 255
        else:
            ink = np.repeat(covered[..., None], channels[0], axis=-1)
        canvas = np.maximum(canvas, ink)
    return np.round(canvas * 255).astype(np.uint8)


def _covered(
    points: Float[np.ndarray, "n 2"], thickness: float, size: tuple[int, int]
) -> Float[np.ndarray, "H W"]:
    """How much of each pixel a line with round ends covers; points in pixels."""
    picture = Image.new("L", (FINER * size[0], FINER * size[1]))
    pen, radius = ImageDraw.Draw(picture), FINER * thickness / 2
    path = [tuple(point) for point in (FINER * points).tolist()]
    pen.line(path, fill=255, width=max(1, round(2 * radius)))
    for x, y in path:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32) / 255


def fitted(strokes: list[Stroke], brush: Brush, size: tuple[int, int]) -> list[Stroke]:
    """The strokes, with each figure scaled about its centre to about the brush's size, and moved
    into the image if it would extend beyond it. ``size`` is the image's width and height in
    pixels."""
    if not strokes:
        return []
    figures, placed, sides = figures_of(strokes), list(strokes), np.array(size)
    for figure in range(int(figures.max()) + 1):
        members = np.flatnonzero(figures == figure)
        points = np.concatenate([strokes[i].points for i in members]) * sides
        low, high = points.min(axis=0), points.max(axis=0)
        side = float((high - low).max()) + brush.thickness
        wanted = np.clip(side, brush.size / SPREAD, brush.size * SPREAD)
        ratio = np.clip((wanted - brush.thickness) / max(side - brush.thickness, 1e-6), 0, np.inf)
        ratio = ratio if ratio < MOST_SCALED else 1.0
        middle, half = (low + high) / 2, ratio * (high - low) / 2 + brush.thickness / 2
        target = np.where(2 * half < sides, np.clip(middle, half, sides - half), sides / 2)
        for i in members:
            moved = (strokes[i].points * sides - middle) * ratio + target
            placed[i] = strokes[i]._replace(points=moved / sides)
    return placed


def figures_of(strokes: list[Stroke]) -> Int[np.ndarray, " n"]:
    """The index of the figure of each stroke. A figure is a set of connected strokes: strokes that
    touch or nearly touch."""
    side = SKETCH[0]
    covered = [_covered(stroke.points * side, NEAR * side, SKETCH) for stroke in strokes]
    sketch = np.max(covered, axis=0) > 0
    labels, _ = cast(tuple[np.ndarray, int], label(sketch, structure=np.ones((3, 3))))
    firsts = np.array([stroke.points[0] for stroke in strokes])
    columns, rows = np.minimum(firsts * side, side - 1).astype(int).T
    return np.unique(labels[rows, columns], return_inverse=True)[1]
