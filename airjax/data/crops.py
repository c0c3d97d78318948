"""Random crops of large pictures, to train on."""

from collections.abc import Iterable

import numpy as np

CROPS = {"train": 20_000, "test": 2_000, "all": 20_000}  # of all pictures together


def random_crops(
    pictures: Iterable[np.ndarray], number: int, side: int, part: str = "train"
) -> np.ndarray:
    """``CROPS[part]`` random squares of pictures ``[H, W]`` or ``[H, W, 3]``, with the same number
    from each picture, or one more or less. They are the same in every call.

    Args:
        pictures: read one at a time.
        number: of pictures.
        side: of the crops in pixels; smaller pictures are padded with black.
        part: ``train``, ``test`` or ``all``.
    """
    random = np.random.RandomState(list(CROPS).index(part))
    total, crops = CROPS[part], []
    for i, picture in enumerate(pictures):
        missing = [(0, max(0, side - n)) for n in picture.shape[:2]]
        picture = np.pad(picture, missing + [(0, 0)] * (picture.ndim - 2))
        some = (i + 1) * total // number - i * total // number
        room = np.array(picture.shape[:2]) - side + 1
        corners = (random.random_sample((some, 2)) * room).astype(int)
        # a copy, so that the picture can be freed
        crops += [picture[y : y + side, x : x + side].copy() for y, x in corners]
    return np.stack(crops)
