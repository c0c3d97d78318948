"""Long straight lines in pictures: frames, rulings, edges of a well, grids. They are not objects.

They are longer than objects: neither an object nor a chain of objects that touch is bright along a
straight line of the length of several objects.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

DIRECTIONS = 32  # 5.6 degrees apart: a line may be a tenth of its length wide, or more
# in lengths of a segment, which is six objects
GAP = 1 / 24  # of a line that is not interrupted
EDGE = 0.03  # width of a line's edge


def straight_lines(value: Float[np.ndarray, "H W *C"], length: float) -> Float[np.ndarray, "..."]:
    """The intensity of straight lines in a picture: at each pixel, the largest intensity that a
    line segment through it exceeds everywhere, and at least 0.

    This is the maximum of the openings with line segments in ``DIRECTIONS`` directions (Soille and
    Talbot, Directional morphological filtering, 2001), after a closing along them: lines may have
    small gaps. Segments lie within the picture. The blurred edges of lines belong to them.

    Args:
        value: intensities.
        length: of a segment in pixels.
    """
    if value.ndim == 3:
        channels = [straight_lines(each, length) for each in np.moveaxis(value, -1, 0)]
        return np.stack(channels, axis=-1)
    slopes = np.tan(np.pi / 4 * np.linspace(-1, 1, DIRECTIONS // 2 + 1))
    best = np.zeros(value.shape, value.dtype)
    for slope in slopes:
        best = np.maximum(best, _opening(value, slope, length))
    for slope in slopes[1:-1]:  # the diagonals are the same
        best = np.maximum(best, _opening(value.T, slope, length).T)
    wider = ndimage.maximum_filter(best, 1 + 2 * max(1, round(EDGE * length)))
    return np.minimum(wider, np.maximum(value, 0))


def _opening(
    value: Float[np.ndarray, "H W"], slope: float, length: float
) -> Float[np.ndarray, "H W"]:
    """The opening with a segment of a slope of at most 1 in rows a column: columns are shifted, so
    that segments become horizontal."""
    height, width = value.shape
    columns = np.arange(width)
    shift = np.round(-slope * columns).astype(int)
    shift -= shift.min()
    wide = max(3, round(length / np.hypot(1, slope)))
    if wide > width:
        return np.zeros_like(value)
    rows = np.arange(height + shift.max())[:, None] - shift
    inside = (rows >= 0) & (rows < height)
    outside = -np.inf
    level = np.where(
        inside, value[np.clip(rows, 0, height - 1), columns], value.dtype.type(outside)
    )
    level = np.where(inside, _closing(level, round(wide * GAP)), level)
    for extreme in (ndimage.minimum_filter1d, ndimage.maximum_filter1d):
        # a window of even size lies to one side; the second filter has it on the other side
        origin = -1 if extreme is ndimage.maximum_filter1d and wide % 2 == 0 else 0
        level = extreme(level, wide, axis=1, mode="constant", cval=outside, origin=origin)
    return level[np.arange(height)[:, None] + shift, columns]


def _closing(level: Float[np.ndarray, "H W"], wide: int) -> Float[np.ndarray, "H W"]:
    """Rows with gaps that are narrower filled."""
    if wide < 2:
        return level
    higher = ndimage.maximum_filter1d(level, wide, axis=1, mode="nearest")
    origin = -1 if wide % 2 == 0 else 0
    return np.maximum(
        level, ndimage.minimum_filter1d(higher, wide, axis=1, mode="nearest", origin=origin)
    )
