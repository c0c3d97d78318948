"""Large pictures, read tile by tile: where tiles lie, and how what they find becomes one result."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from airjax.scenes import Objects, Scenes

SAME = 0.5  # share of the smaller of two boxes: more of it in the other one, and they are the same
ENOUGH = 0.5  # mean presence over the tiles that show an object


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


class Seen(NamedTuple):
    """The objects of all tiles of a picture, their boxes in the picture's pixels.

    Attributes:
        objects: of all tiles, n in all.
        tile: in which of the M tiles each was found.
        corners: top and left of each tile.
        size: height and width of a tile.
        picture: those of the picture.
    """

    objects: Objects
    tile: Int[np.ndarray, " n"]
    corners: Int[np.ndarray, "M 2"]
    size: tuple[int, int]
    picture: tuple[int, int]

    def whole(
        self, boxes: Float[np.ndarray, "*k 4"], corners: Int[np.ndarray, "k 2"]
    ) -> Bool[np.ndarray, " k"]:
        """Whether boxes (or one box) are shown uncut by the tiles with these corners: no side of
        the tile touches it, but where it is one of the picture's."""
        low, high = corners, corners + self.size
        return (
            ((boxes[..., 1::-1] > low) | (low == 0)).all(-1)
            & ((boxes[..., :1:-1] < high) | (high >= self.picture)).all(-1)
            & (boxes[..., :1:-1] <= high).all(-1)
        )


def seen(parts: list[tuple[Scenes, Int[np.ndarray, "N 2"]]], picture: np.ndarray) -> Seen:
    """The objects of tiles that were read in several batches, each with its corners."""
    objects, tiles, first = [], [], 0
    for scenes, corners in parts:
        tile, t = np.nonzero(scenes.present)
        shift = np.tile(corners[tile][:, ::-1], 2).astype(np.float32)
        z_where, z_what, windows, boxes = (np.asarray(f)[tile, t] for f in scenes.found[1:])
        scores = scenes.probabilities[tile, t]
        objects.append(Objects(boxes + shift, windows + shift, scores, z_where, z_what))
        tiles.append(tile + first)
        first += len(scenes)
    together = Objects(*(np.concatenate(fields) for fields in zip(*objects, strict=True)))
    corners = np.concatenate([corners for _, corners in parts])
    height, width = parts[0][0].images.shape[1:3]
    shape = picture.shape[0], picture.shape[1]
    return Seen(together, np.concatenate(tiles), corners, (height, width), shape)


def merged(found: Seen) -> Objects:
    """Each object once (non-maximum suppression), if enough tiles agree on it.

    Objects are taken in turn, those first that no border of their tile touches, then by falling
    presence. Those of other tiles that have more than half of the smaller tight box in common with
    one that is taken are the same object. Its score is its mean presence over the tiles that show
    it whole, 0 in those where it was not found; it is kept from one half on. The result is ordered
    by rows of the picture.
    """
    objects, boxes = found.objects, found.objects.boxes
    own = found.whole(boxes, found.corners[found.tile])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    free, kept, scores = np.ones(len(boxes), bool), [], []
    for i in np.lexsort((-objects.scores, ~own)).tolist():
        if not free[i]:
            continue
        low, high = np.maximum(boxes[:, :2], boxes[i, :2]), np.minimum(boxes[:, 2:], boxes[i, 2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        same = (common > SAME * np.minimum(areas, areas[i])) & (found.tile != found.tile[i])
        same[i] = True
        whole = found.whole(boxes[i], found.corners)
        presence = np.zeros(len(whole))
        np.maximum.at(presence, found.tile[same], objects.scores[same])
        score = presence[whole].mean() if whole.any() else objects.scores[i]
        free &= ~same
        if score >= ENOUGH:
            kept.append(i)
            scores.append(score)
    chosen = Objects(*(field[kept] for field in objects))
    chosen = chosen._replace(scores=np.array(scores, np.float32))
    rows = np.lexsort((chosen.boxes[:, 0], chosen.boxes[:, 1]))
    return Objects(*(field[rows] for field in chosen))
