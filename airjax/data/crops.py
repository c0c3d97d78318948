"""Random crops of large pictures, to train on."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

CROPS = {"train": 20_000, "test": 2_000, "all": 20_000}  # of all pictures together
REGIONS = 128  # of all pictures together; so much of them is read for whole objects
SMALL = 8  # times as many, if pictures are smaller than a region
REGION = 256  # side of a region in pixels
CROPS_A_SIDE = 4  # in a region, at least


class Region(NamedTuple):
    """A picture, or a part of it that is much larger than a crop.

    Attributes:
        image: ``[h, w]`` or ``[h, w, 3]``.
        ends: whether the picture ends at the top, left, bottom and right of the region.
        weight: relative number of crops that are taken from here; 1 for a whole picture.
    """

    image: np.ndarray
    ends: tuple[bool, bool, bool, bool]
    weight: float


class Crops(NamedTuple):
    """Crops, and regions around some of them.

    Attributes:
        images: the crops.
        regions: of the same pictures, for `airjax.training.whole_objects`.
    """

    images: np.ndarray
    regions: tuple[Region, ...]


def random_crops(
    pictures: Iterable[np.ndarray], number: int, side: int, part: str = "train"
) -> Crops:
    """``CROPS[part]`` random squares of pictures ``[H, W]`` or ``[H, W, 3]``, with the same number
    from each picture, or one more or less. They are the same in every call.

    Args:
        pictures: read one at a time.
        number: of pictures.
        side: of the crops in pixels; smaller pictures are padded with black.
        part: ``train``, ``test`` or ``all``. Only parts to train on have regions.
    """
    random = np.random.RandomState(list(CROPS).index(part))
    total, crops, regions = CROPS[part], [], list[Region]()
    for i, picture in enumerate(pictures):
        missing = [(0, max(0, side - n)) for n in picture.shape[:2]]
        picture = np.pad(picture, missing + [(0, 0)] * (picture.ndim - 2))
        some = _share(total, i, number)
        corners = _corners(picture, some, side, random)
        # a copy, so that the picture can be freed
        crops += [picture[y : y + side, x : x + side].copy() for y, x in corners]
        if part != "test":
            regions += _regions(picture, side, i, number)
    return Crops(np.stack(crops), tuple(regions))


def _share(total: int, i: int, number: int) -> int:
    """How many of a total the i-th of a number of pictures has."""
    return (i + 1) * total // number - i * total // number


def _corners(
    picture: np.ndarray, number: int, side: int, random: np.random.RandomState
) -> np.ndarray:
    """The top left pixels of random squares, ``[number, 2]``."""
    room = np.array(picture.shape[:2]) - side + 1
    return (random.random_sample((number, 2)) * room).astype(int)


def _regions(picture: np.ndarray, side: int, i: int, number: int) -> list[Region]:
    """The i-th of a number of pictures as a whole, if its share of ``REGIONS`` is not smaller;
    otherwise random regions of it, or none."""
    size = max(REGION, CROPS_A_SIDE * side)
    height, width = picture.shape[:2]
    area = min(size**2, height * width)  # of a region here
    most = _share(min(SMALL * REGIONS, REGIONS * size**2 // area), i, number)
    if height * width <= most * area or (most > 0 and max(height, width) <= size):
        return [Region(picture.copy(), (True, True, True, True), 1.0)]
    room = np.maximum(0, np.array([height, width]) - size) + 1
    corners = (np.random.RandomState(i).random_sample((most, 2)) * room).astype(int)
    found = list[Region]()
    for y, x in corners.tolist():
        image = picture[y : y + size, x : x + size].copy()
        ends = (y == 0, x == 0, y + size >= height, x + size >= width)
        found.append(Region(image, ends, 1 / most))
    return found
