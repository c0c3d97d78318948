"""The scale at which a picture is read, where each picture has its own: objects of pictures that
were taken at different magnifications then have one size (as in Cellpose; Stringer et al., 2021).
"""

from dataclasses import replace

import numpy as np

from airjax.data.decode import Frame
from airjax.data.signal import as_image
from airjax.object_size import Sizes, sizes
from airjax.picture_config import PictureConfig

CENTRE = 512  # side in pixels of the part of a picture that is measured
OBJECTS = 2.5  # side of the opening that finds the background, in objects
LINES = 6.0  # length of a straight line that is not a row of objects, in objects
# objects larger than the first number of pixels are read with the second
WORKING = 20.0, 16.0
MOST = 2.0  # times that a picture is enlarged


def of_picture(frame: Frame, config: PictureConfig) -> PictureConfig:
    """The settings of one picture: if each has its own scale, that at which its objects have the
    second number of pixels of ``WORKING``. Where nothing is found, the scale is 1."""
    if config.scale != "picture":
        return config
    found = sizes_in(frame, config)
    if found is None:
        return replace(config, scale=None)
    side = None if config.local_background is None else OBJECTS * found.typical
    lines = None if config.lines is None else LINES * found.typical
    scale = round(min(MOST, WORKING[1] / found.typical), 4)
    return replace(config, scale=scale, local_background=side, lines=lines)


def sizes_in(frame: Frame, config: PictureConfig) -> Sizes | None:
    """The sizes of the objects in the middle of a picture, in pixels of the file."""
    image = as_image(middle(frame), replace(config, scale=None, size=None))
    return sizes([image.max(-1) if image.ndim == 3 else image])


def middle(frame: Frame) -> Frame:
    """The middle of a large picture."""
    height, width = frame.pixels.shape[:2]
    top, left = (max(0, (side - CENTRE) // 2) for side in (height, width))
    part = slice(top, top + CENTRE), slice(left, left + CENTRE)
    alpha = None if frame.alpha is None else frame.alpha[part]
    return frame._replace(pixels=np.array(frame.pixels[part]), alpha=alpha)
