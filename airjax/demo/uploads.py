"""What the page reads: an uploaded picture as ``airjax predict`` reads it, or an image of the
model's size. The file of an upload is not kept."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from airjax.data.decode import Broken, Frame, decode
from airjax.data.folder import ReadImage, for_these
from airjax.data.placement import Placement
from airjax.data.signal import as_image, placed
from airjax.data.working_scale import of_picture
from airjax.errors import InputError
from airjax.picture_config import PictureConfig

MAX_BYTES = 10 * 2**20  # a larger file is refused while it arrives
MAX_PIXELS = 16_000_000  # a larger picture is not decoded: 20 bytes a pixel are needed on the way


class Subject(NamedTuple):
    """A picture to read.

    Attributes:
        read: the image, with a dark background, and the picture that it was made of.
        channel: of the picture, in which objects are measured.
        any_size: whether the model reads pictures of any size; if not, the image has the model's.
        note: what the user should know about it.
        is_file: whether ``airjax predict`` reads its file in the same way.
    """

    read: ReadImage
    channel: str
    any_size: bool = False
    note: str = ""
    is_file: bool = False

    @property
    def image(self) -> UInt8[np.ndarray, "H W *C"]:
        """The image."""
        return self.read.image


def as_it_is(image: UInt8[np.ndarray, "H W *C"], name: str) -> Subject:
    """An image of the model's size that was not made of a file."""
    size = image.shape[0], image.shape[1]
    return Subject(ReadImage(Path(name), image, Placement(size), Frame(image, None, 255.0)), "all")


def subject_of(path: Path, pictures: PictureConfig, shape: tuple[int, ...]) -> Subject:
    """The picture in a file; of several pages, the first one.

    A picture for a model of crops keeps its size. For other models it is scaled to fit; the note
    says so if ``airjax predict`` would not have done that.

    Args:
        path: of the file.
        pictures: settings of the run; what is not decided there is decided from the picture.
        shape: of the model's images, ``(H, W)`` or ``(H, W, C)``.

    Raises:
        InputError: if it is not a picture, damaged, or larger than ``MAX_PIXELS``.
    """
    frames = decode(path, pictures.pages, MAX_PIXELS)
    if isinstance(frames, Broken):
        why = frames.why.replace(str(path), path.name)
        raise InputError(path.name, f"cannot be read: {why}")
    height, width, *channels = shape
    try:
        settings = for_these([path], pictures, channels[0] if channels else 1).pictures
        if not pictures.crop:
            settings = replace(settings, size=f"{height}x{width}", scale=None)
        settings = of_picture(frames[0], settings)
        image = as_image(frames[0], settings)
    except ValueError as error:
        why = str(error).replace(str(path), path.name)
        raise InputError(path.name, f"cannot be read: {why}") from None
    if image.ndim < len(shape):
        image = np.repeat(image[..., None], channels[0], axis=-1)
    read = ReadImage(path, image, placed(frames[0], settings), frames[0])
    left_out = _left_out(read, pictures, (height, width))
    note = left_out
    if len(frames) > 1:
        pages = (
            f"The file has {len(frames)} pages; only the first was read. airjax predict reads all."
        )
        note = f"{pages} {left_out}".strip()
    return Subject(read, settings.channel, bool(pictures.crop), note, not left_out)


def uploaded(path: Path, pictures: PictureConfig, shape: tuple[int, ...]) -> Subject:
    """As `subject_of`; the file is removed."""
    try:
        return subject_of(path, pictures, shape)
    finally:
        path.unlink(missing_ok=True)


def _left_out(read: ReadImage, pictures: PictureConfig, size: tuple[int, int]) -> str:
    """Why ``airjax predict`` would leave a picture out; "" if it would not."""
    (height, width), had = size, read.frame.pixels.shape[:2]
    if not pictures.crop and pictures.size is None and had != (height, width):
        scaled = f"scaled from {had[1]} x {had[0]} to the model's {width} x {height} pixels"
        return f"The picture was {scaled}; airjax predict leaves out such pictures."
    if pictures.crop and min(read.image.shape[:2]) < pictures.crop:
        return (
            f"The picture is smaller than the model's crops of {pictures.crop} pixels; "
            "airjax predict leaves out such pictures."
        )
    return ""
