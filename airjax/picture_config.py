"""The settings of picture files: a part of `airjax.config.Config`."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from airjax.checks import one_of, positive
from airjax.errors import InputError

Invert = Literal["auto", "yes", "no", "picture"]
Pages = Literal["auto", "each", "first", "max", "mean"]
Normalise = Literal["auto", "none", "folder", "picture"]
CHANNELS = ("auto", "grey", "max", "colour", "all")


@dataclass(frozen=True)
class PictureConfig:
    """How picture files become images: bright objects on a dark background. A run keeps what was
    decided.

    Attributes:
        invert: whether pictures are inverted; auto inverts them if their borders are bright.
            picture, which auto takes where pictures differ, decides for each.
        size: size in pixels that pictures are scaled to, without distortion, padded with
            background. Without it, pictures that are not cropped must have one size.
        channel: the channel that is read: grey (luminance), max (the largest of all), a number from
            0, or colour (red, green and blue) or all as several channels. auto is colour if
            pictures have any, or the one channel that has the signal.
        crop: side in pixels of the random crops that large pictures are trained on; 0 is whole
            pictures. Pictures may then have any size (default: about three objects where there are
            many or pictures have several sizes).
        pages: what the pages of a file are: each a picture, or all together one, the first, the max
            or the mean. auto is max for a z-stack, otherwise each.
        normalise: which intensities become black and white: none is those of the file's type,
            folder the same for all pictures, picture those of each picture.
        scale: pixels of the image for one of the picture. Objects of more than 20 pixels are read
            at a scale at which they have 16 (default: decided from the object size). picture gives
            each picture a scale of its own, by the size of its objects.
        local_background: side in pixels of the opening that finds the background of each picture,
            for the backgrounds "local" and "lines".
        lines: length in pixels of straight lines that are not objects, for the background "lines".
        levels: the values of the file that become black and white, and the gain afterwards, where
            all pictures have the same.
        white_of_type: the value that the type of the files calls white.
        anew: whether what is open here is decided anew for all other pictures, with a scale at
            which their objects have 16 pixels: of ready models (`airjax.models`).

    Raises:
        InputError: if a value breaks its rule.
    """

    invert: Invert = "auto"
    size: str | None = None
    channel: str = "auto"
    crop: int | None = None
    pages: Pages = "auto"
    normalise: Normalise = "auto"
    scale: float | Literal["picture"] | None = None
    local_background: float | None = None
    lines: float | None = None
    levels: tuple[float, float, float] | None = None
    white_of_type: float | None = None
    anew: bool = False

    def __post_init__(self):
        one_of(get_args(Invert), invert=self.invert)
        one_of(get_args(Pages), pages=self.pages)
        one_of(get_args(Normalise), normalise=self.normalise)
        if self.channel not in CHANNELS and not re.fullmatch(r"\d{1,3}", self.channel):
            rule = f"must be one of {', '.join(CHANNELS)}, or a number from 0"
            raise InputError("channel", rule, self.channel)
        if self.crop is not None and self.crop < 0:
            raise InputError("crop", "must be at least 0", self.crop)
        if self.scale is not None and self.scale != "picture":
            positive(scale=self.scale)
        if self.size is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise InputError("size", "must be HxW in pixels, as 64x48", self.size)
        if self.size is not None and self.scale is not None:
            raise InputError("scale", "must be left out where --size is given", self.scale)

    @property
    def ratio(self) -> float:
        """``scale`` as a number. Where each picture has its own, these must be the settings of one
        picture (`airjax.data.working_scale.of_picture`)."""
        assert self.scale != "picture"
        return 1.0 if self.scale is None else self.scale

    @property
    def image_size(self) -> tuple[int, int] | None:
        """H and W, if given."""
        if self.size is None:
            return None
        height, width = self.size.split("x")
        return int(height), int(width)

    @property
    def is_decided(self) -> bool:
        """Whether nothing is open."""
        open_ = (self.invert, self.channel, self.normalise)
        return "auto" not in open_ and self.crop is not None
