"""An uploaded picture as an image for the model, as ``airjax predict`` makes one. The file is not
kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from airjax.data.decode import Broken, decode
from airjax.data.folder import for_these
from airjax.data.signal import as_image
from airjax.errors import InputError
from airjax.picture_config import PictureConfig

MAX_BYTES = 10 * 2**20  # a larger file is refused while it arrives
MAX_PIXELS = 16_000_000  # a larger picture is not decoded: 20 bytes a pixel are needed on the way


def uploaded(
    path: Path, pictures: PictureConfig, shape: tuple[int, ...]
) -> tuple[UInt8[np.ndarray, "H W *C"], str]:
    """The picture in a file, with a dark background, and a note; the file is removed.

    A picture for a model of crops keeps its size. For other models it is scaled to fit; the note
    says so if ``airjax predict`` would not have done that.

    Args:
        path: of the file.
        pictures: settings of the run; what is not decided there is decided from the picture.
        shape: of the model's images, ``(H, W)`` or ``(H, W, C)``.

    Raises:
        InputError: if it is not a picture, damaged, or larger than ``MAX_PIXELS``.
    """
    try:
        found = decode(path, pictures.pages, MAX_PIXELS)
        if isinstance(found, Broken):
            why = found.why.replace(str(path), path.name)
            raise InputError(path.name, f"cannot be read: {why}")
        height, width, *channels = shape
        settings = for_these([path], pictures, channels[0] if channels else 1).pictures
        if not pictures.crop:
            settings = replace(settings, size=f"{height}x{width}", scale=None)
        image = as_image(found[0], settings)
        if image.ndim < len(shape):
            image = np.repeat(image[..., None], channels[0], axis=-1)
    finally:
        path.unlink(missing_ok=True)
    had, note = found[0].pixels.shape[:2], ""
    if not pictures.crop and pictures.size is None and had != (height, width):
        scaled = f"scaled from {had[1]} x {had[0]} to the model's {width} x {height} pixels"
        note = f"The picture was {scaled}; airjax predict leaves out such pictures."
    return image, note
