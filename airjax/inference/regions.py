"""The pixels of each object in its picture file, from the shape that the model decodes, and what is
measured there."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import ndimage

from airjax.data.placement import UPRIGHT, Placement
from airjax.inference.explained import VISIBLE
from airjax.inference.infer import ROWS
from airjax.inference.results import Objects
from airjax.precision import in_32_bits
from airjax.programs.model import Model
from airjax.programs.networks import Decoder

# of the mean of an object's visible pixels: where its outline is. Not of its peak: few pixels of a
# blurred object are near it, and outlines would hold little more than half of a nucleus
HALF = 0.5


class Region(NamedTuple):
    """The pixels of one object, in the file as it is stored.

    Attributes:
        rows: ``[k]``, rows of its pixels.
        columns: ``[k]``, their columns.
        mean: mean intensity of these pixels, in the file's own values.
        total: their sum.
        eccentricity: of the ellipse with the same second moments; 0 for a circle.
        at_edge: whether it touches the border of the picture.
    """

    rows: Int[np.ndarray, " k"]
    columns: Int[np.ndarray, " k"]
    mean: float
    total: float
    eccentricity: float
    at_edge: bool

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return len(self.rows)

    @property
    def centre(self) -> tuple[float, float]:
        """x and y of its centroid in pixels; nan if it has none."""
        if not self.area:
            return float("nan"), float("nan")
        return float(self.columns.mean() + 0.5), float(self.rows.mean() + 0.5)


def regions(
    model: Model, objects: Objects, placement: Placement, values: Float[np.ndarray, "H W *C"]
) -> list[Region]:
    """The region of each object: the pixels of its decoded window above half of the mean of those
    that are visible.

    Args:
        model: whose decoder draws the objects.
        objects: with boxes in pixels of the image.
        placement: of the image in the file.
        values: of the upright picture; the mean of its channels is measured.
    """
    grey = values.mean(-1) if values.ndim == 3 else values
    upright = placement._replace(orientation=UPRIGHT, file=(grey.shape[0], grey.shape[1]))
    boxes = upright.in_file(objects.window_boxes, clipped=False)
    found = []
    for window, box in zip(_windows(model.decoder, objects.z_what), boxes, strict=True):
        rows, columns = _pixels(window, box, grey.shape)
        found.append(region_of(rows, columns, placement, grey))
    return found


def region_of(
    rows: Int[np.ndarray, " k"],
    columns: Int[np.ndarray, " k"],
    placement: Placement,
    grey: Float[np.ndarray, "H W"],
) -> Region:
    """The region of these pixels of the upright picture.

    Args:
        rows: of its pixels.
        columns: of its pixels.
        placement: of the image in the file.
        grey: values of the upright picture, which are measured.
    """
    seen = grey[rows, columns]
    mean, total = (float(seen.mean()), float(seen.sum())) if len(seen) else (0.0, 0.0)
    at_edge = bool(
        len(rows)
        and (rows.min() == 0 or columns.min() == 0
             or rows.max() == grey.shape[0] - 1 or columns.max() == grey.shape[1] - 1)
    )  # fmt: skip
    corners = np.stack([columns, rows, columns + 1, rows + 1], axis=1).astype(np.float32)
    x, y = stored(corners, placement)[:, :2].T.astype(int)
    return Region(y, x, mean, total, _eccentricity(rows, columns), at_edge)


def stored(boxes: Float[np.ndarray, "n 4"], placement: Placement) -> Float[np.ndarray, "n 4"]:
    """Boxes in pixels of the upright picture, in those of the file as it is stored."""
    return placement._replace(scale=(1.0, 1.0), corner=(0, 0)).in_file(boxes)


def in_file(objects: Objects, placement: Placement) -> Objects:
    """The objects with boxes in pixels of the file. Windows may reach beyond the picture."""
    return objects._replace(
        tight_boxes=placement.in_file(objects.tight_boxes),
        window_boxes=placement.in_file(objects.window_boxes, clipped=False),
    )


def _windows(decoder: Decoder, z_what: np.ndarray) -> Float[np.ndarray, "n w w"]:
    """The decoded objects; of several channels, the brightest. Compiled once."""
    parts = [np.zeros((0, 1, 1), np.float32)]
    for start in range(0, len(z_what), ROWS):
        some = z_what[start : start + ROWS]
        filled = np.pad(some, [(0, ROWS - len(some)), (0, 0)])
        with in_32_bits():
            drawn = np.asarray(_decoded(decoder, jnp.asarray(filled)))[: len(some)]
        parts = [*parts, drawn.max(-1) if drawn.ndim == 4 else drawn]
    return np.concatenate(parts[1:]) if len(parts) > 1 else parts[0]


@eqx.filter_jit
def _decoded(decoder: Decoder, z_what: Float[Array, "n Z"]) -> Float[Array, "n w w *C"]:
    return decoder(z_what)


def _pixels(
    window: Float[np.ndarray, "w w"], box: Float[np.ndarray, "4"], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that a window covers with more than half of the mean of its
    visible pixels."""
    low = np.floor(box[:2]).astype(int).clip(0)
    high = np.minimum(np.ceil(box[2:]).astype(int), shape[1::-1])
    if (high <= low).any() or window.max() <= VISIBLE:
        return np.zeros(0, int), np.zeros(0, int)
    sides = (box[2:] - box[:2]) / window.shape[::-1]
    x, y = (
        (np.arange(a, b) + 0.5 - start) / side - 0.5
        for a, b, start, side in zip(low, high, box[:2], sides, strict=True)
    )
    drawn = ndimage.map_coordinates(window, np.meshgrid(y, x, indexing="ij"), order=1)
    rows, columns = np.nonzero(drawn > HALF * window[window > VISIBLE].mean())
    return rows + low[1], columns + low[0]


def _eccentricity(rows: np.ndarray, columns: np.ndarray) -> float:
    if len(rows) < 2:
        return 0.0
    small, large = np.linalg.eigvalsh(np.cov(np.stack([rows, columns])) + np.eye(2) / 12)
    return float(np.sqrt(max(0.0, 1 - small / large)))
