"""Large pictures: where their tiles lie, and how the objects of all tiles are merged."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from airjax.inference.infer import NOT_READ, AnyArray
from airjax.inference.results import Objects, Scenes

DUPLICATE = 0.5  # boxes that overlap by more than this share of the smaller one are duplicates
UNLIKELY = 0.05  # objects below this probability in their tile are left out
THRESHOLD = 0.5  # least mean score over the tiles that show an object


class Tile(NamedTuple):
    """A part of a picture; its top left pixel is pixel ``top``, ``left`` of the picture."""

    top: int
    left: int
    image: np.ndarray


def tiles(picture: np.ndarray, size: tuple[int, int], overlap: float) -> Iterator[Tile]:
    """Tiles that cover a picture, row by row. A picture smaller than a tile is padded with black.

    Args:
        picture: ``[H, W]`` or ``[H, W, C]``.
        size: height and width of a tile.
        overlap: least overlap of neighbours, as a share of the tile's side.
    """
    missing = np.maximum(np.array(size) - picture.shape[:2], 0)
    padding = [(0, missing[0]), (0, missing[1])] + [(0, 0)] * (picture.ndim - 2)
    filled = np.pad(picture, padding) if missing.any() else picture
    for top in _starts(filled.shape[0], size[0], overlap):
        for left in _starts(filled.shape[1], size[1], overlap):
            yield Tile(top, left, filled[top : top + size[0], left : left + size[1]])


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles begin along one axis: evenly spaced, the last one at the end."""
    stride = max(1, int(side * (1 - overlap)))
    number = 1 - (side - length) // stride  # 1 + ceil((length - side) / stride)
    return np.linspace(0, length - side, number).round().astype(int).tolist()


class TileObjects(NamedTuple):
    """The objects of all tiles of a picture, with boxes in the picture's pixels.

    Attributes:
        objects: the n objects of all tiles, with their probabilities there, and without counts.
        tile: the index, in M tiles, of the tile of each object.
        corners: top and left of each tile.
        size: height and width of a tile.
        picture: height and width of the picture.
    """

    objects: Objects
    tile: Int[np.ndarray, " n"]
    corners: Int[np.ndarray, "M 2"]
    size: tuple[int, int]
    picture: tuple[int, int]

    def whole(
        self, boxes: Float[np.ndarray, "*k 4"], corners: Int[np.ndarray, "k 2"]
    ) -> Bool[np.ndarray, " k"]:
        """Whether boxes (or one box) lie inside the tiles with these corners. They must not touch a
        side of the tile unless it is also a side of the picture."""
        low, high = corners, corners + self.size
        return (
            ((boxes[..., 1::-1] > low) | (low == 0)).all(-1)
            & ((boxes[..., :1:-1] < high) | (high >= self.picture)).all(-1)
            & (boxes[..., :1:-1] <= high).all(-1)
        )


def collected(
    parts: list[tuple[Scenes, Int[np.ndarray, "N 2"]]], picture: np.ndarray
) -> TileObjects:
    """The objects of tiles that were read in several batches, each with its corners."""
    objects, tiles, first = [], [], 0
    for scenes, corners in parts:
        tile, t = np.nonzero(scenes.scores > UNLIKELY)
        shift = np.tile(corners[tile][:, ::-1], 2).astype(np.float32)
        read = scenes.reading  # also of objects that are not in the most probable count

        def of_objects(field: AnyArray, tile: np.ndarray = tile, t: np.ndarray = t) -> np.ndarray:
            return np.asarray(field)[tile, t]

        found = Objects(
            tight_boxes=of_objects(read.tight_boxes) + shift,
            window_boxes=of_objects(read.window_boxes) + shift,
            scores=of_objects(scenes.scores),
            z_where=of_objects(read.z_where),
            z_what=of_objects(read.z_what),
            count_probs=NOT_READ,
        )
        objects.append(found)
        tiles.append(tile + first)
        first += len(scenes)
    together = jax.tree.map(lambda *arrays: np.concatenate(arrays), *objects)
    corners = np.concatenate([corners for _, corners in parts])
    height, width = parts[0][0].images.shape[1:3]
    shape = picture.shape[0], picture.shape[1]
    return TileObjects(together, np.concatenate(tiles), corners, (height, width), shape)


def merged(found: TileObjects) -> Objects:
    """Each object once (non-maximum suppression), if enough tiles agree on it.

    Objects are taken in turn, first those that do not touch the border of their tile, then by
    decreasing score. Objects of other tiles that overlap one that is taken by more than half of the
    smaller tight box are its duplicates. Its score is the mean over the tiles that show it whole,
    with 0 for tiles that did not find it. Objects with a score below one half are dropped; the
    distribution of the count takes them into account. The result is ordered by the rows of the
    picture.
    """
    objects, boxes = found.objects, found.objects.tight_boxes
    own = found.whole(boxes, found.corners[found.tile])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    free, kept, scores = np.ones(len(boxes), bool), [], np.zeros(len(boxes), np.float32)
    for i in np.lexsort((-objects.scores, ~own)).tolist():
        if not free[i]:
            continue
        low, high = np.maximum(boxes[:, :2], boxes[i, :2]), np.minimum(boxes[:, 2:], boxes[i, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        same = (common > DUPLICATE * np.minimum(areas, areas[i])) & (found.tile != found.tile[i])
        same[i] = True
        whole = found.whole(boxes[i], found.corners)
        by_tile = np.zeros(len(whole))
        np.maximum.at(by_tile, found.tile[same], objects.scores[same])
        scores[i] = by_tile[whole].mean() if whole.any() else objects.scores[i]
        free &= ~same
        if scores[i] >= THRESHOLD:
            kept.append(i)
    by_rows = sorted(kept, key=lambda i: (boxes[i, 1], boxes[i, 0]))
    ordered: Objects = jax.tree.map(lambda field: field[by_rows], objects._replace(scores=scores))
    return ordered._replace(count_probs=poisson_binomial(scores))


def poisson_binomial(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    """The distribution of the number of successes of independent trials with probabilities p (Le
    Cam, 1960), by adding one trial after the other."""
    probs = np.ones(1)
    for each in np.clip(p, 0, 1):
        probs = np.append(probs * (1 - each), 0) + np.append(0, probs * each)
    return probs.astype(np.float32)
