"""Large pictures, read tile by tile: where tiles lie, and how what they find becomes one result."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from airjax.scenes import Objects, Scenes

SAME = 0.5  # share of the smaller of two boxes: more of it in the other one, and they are the same


class Tile(NamedTuple):
    """A part of a picture; its corner at the top left is pixel ``top``, ``left`` of the picture."""

    top: int
    left: int
    image: np.ndarray


def tiles(picture: np.ndarray, size: tuple[int, int], overlap: float) -> Iterator[Tile]:
    """Tiles that cover a picture, row by row. A picture smaller than a tile is filled up with
    ground.

    Args:
        picture: ``[H, W]`` or ``[H, W, C]``.
        size: height and width of a tile.
        overlap: of neighbours, at least, as a share of the tile's side.
    """
    missing = np.maximum(np.array(size) - picture.shape[:2], 0)
    padding = [(0, missing[0]), (0, missing[1])] + [(0, 0)] * (picture.ndim - 2)
    filled = np.pad(picture, padding) if missing.any() else picture
    for top in _starts(filled.shape[0], size[0], overlap):
        for left in _starts(filled.shape[1], size[1], overlap):
            yield Tile(top, left, filled[top : top + size[0], left : left + size[1]])


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along one axis: evenly, the last one at the end."""
    stride = max(1, int(side * (1 - overlap)))
    number = 1 - (side - length) // stride  # 1 + ceil((length - side) / stride)
    return np.linspace(0, length - side, number).round().astype(int).tolist()


def objects_of(
    scenes: Scenes, corners: Int[np.ndarray, "N 2"], picture: tuple[int, ...]
) -> tuple[Objects, Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The objects of all tiles, their boxes in the picture's pixels; which of them are whole, and
    in which tile each was found.

    Args:
        scenes: of N tiles.
        corners: top and left of each.
        picture: height and width (and more) of the picture.
    """
    tile, t = np.nonzero(scenes.present)
    found = [np.asarray(field)[tile, t] for field in scenes.found[1:]]
    z_where, z_what, windows, boxes = found
    shift = np.tile(corners[tile][:, ::-1], 2).astype(np.float32)
    height, width = scenes.images.shape[1:3]
    # cut, if it reaches a side of the tile that is none of the picture's
    low = (boxes[:, :2] <= 0) & (shift[:, :2] > 0)
    high = (boxes[:, 2:] >= [width, height]) & (
        shift[:, :2] + [width, height] < [picture[1], picture[0]]
    )
    objects = Objects(
        boxes + shift, windows + shift, scenes.probabilities[tile, t], z_where, z_what
    )
    return objects, np.asarray(~(low | high).any(1)), tile


def merged(objects: Objects, whole: Bool[np.ndarray, " n"], tile: Int[np.ndarray, " n"]) -> Objects:
    """Each object once (non-maximum suppression).

    Objects are taken in turn, those that no tile's border cuts first, then by falling presence. One
    is kept unless more than half of its tight box, or of the other's, lies in that of an object
    kept before and found in another tile. The result is ordered by rows of the picture.
    """
    order = np.lexsort((-objects.scores, ~whole))
    boxes, kept = objects.boxes, np.zeros(0, int)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i in order.tolist():
        low = np.maximum(boxes[kept, :2], boxes[i, :2])
        high = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        same = common > SAME * np.minimum(areas[kept], areas[i])
        if not (same & (tile[kept] != tile[i])).any():
            kept = np.append(kept, i)
    kept = kept[np.lexsort((boxes[kept, 0], boxes[kept, 1]))]
    return Objects(*(field[kept] for field in objects))
