"""An uploaded picture as an image of the model's size. The file is not kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from airjax.config import PictureConfig
from airjax.data.folder import Broken, as_image, is_bright, read_picture
from airjax.errors import InputError

MAX_BYTES = 10 * 2**20  # a larger file is refused while it arrives
MAX_PIXELS = 16_000_000  # a larger picture is not decoded: 20 bytes a pixel are needed on the way


def uploaded(
    path: Path, pictures: PictureConfig, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "H W *C"]:
    """The picture in a file, scaled to fit, with a dark background; the file is removed.

    Args:
        path: of the file.
        pictures: settings of the run; what is not decided there is decided from the picture.
        shape: of the model's images, ``(H, W)`` or ``(H, W, C)``.

    Raises:
        InputError: if it is not a picture, damaged, or larger than ``MAX_PIXELS``.
    """
    try:
        picture = read_picture(path, MAX_PIXELS)
    finally:
        path.unlink(missing_ok=True)
    if isinstance(picture, Broken):
        raise InputError(path.name, f"cannot be read: {picture.why.replace(str(path), path.name)}")
    height, width, *channels = shape
    invert = pictures.invert
    if invert == "auto":
        invert = "yes" if is_bright([picture]) else "no"
    colour = "yes" if channels == [3] else "no"
    config = replace(pictures, invert=invert, colour=colour, size=f"{height}x{width}", crop=None)
    image = as_image(picture, config)
    return image if image.shape == shape else np.repeat(image[..., None], channels[0], axis=-1)
