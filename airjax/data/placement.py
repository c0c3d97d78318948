"""Where an image lies in its picture file, so that boxes can be given in the file's pixels."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

UPRIGHT = 1  # EXIF's orientation of a picture that is stored as it is shown
SWAPPED = (5, 6, 7, 8)  # orientations whose rows are stored as columns
# orientations in which, before the axes are swapped, x runs from the right, or y from the bottom
FROM_RIGHT, FROM_BOTTOM = (2, 3, 7, 8), (3, 4, 6, 7)


class Placement(NamedTuple):
    """How a picture became an image: turned upright, then scaled and padded.

    Attributes:
        file: height and width in the file, as it is stored.
        orientation: EXIF's number, 1 to 8.
        scale: pixels of the image for one of the upright picture, down and across.
        corner: top and left of the picture in the image, in pixels.
    """

    file: tuple[int, int]
    orientation: int = UPRIGHT
    scale: tuple[float, float] = (1.0, 1.0)
    corner: tuple[int, int] = (0, 0)

    def in_file(
        self, boxes: Float[np.ndarray, "n 4"], clipped: bool = True
    ) -> Float[np.ndarray, "n 4"]:
        """Boxes of the image in the file's pixels: x0, y0, x1, y1.

        Args:
            boxes: x0, y0, x1, y1 in the image's pixels.
            clipped: whether they end where the picture ends.
        """
        (height, width), swapped = self.file, self.orientation in SWAPPED
        corner, scale = np.array(self.corner[::-1]), np.array(self.scale[::-1])
        low, high = (boxes[:, :2] - corner) / scale, (boxes[:, 2:] - corner) / scale
        if swapped:
            low, high = low[:, ::-1], high[:, ::-1]
        size = np.array([width, height])
        mirrored = np.array([self.orientation in FROM_RIGHT, self.orientation in FROM_BOTTOM])
        low, high = np.where(mirrored, size - high, low), np.where(mirrored, size - low, high)
        if clipped:
            low, high = np.clip(low, 0, size), np.clip(high, 0, size)
        return np.concatenate([low, high], axis=1).astype(np.float32)
