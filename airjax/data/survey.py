"""What a sample of pictures shows: how they become images, and how large their objects are.

Everything that is ``auto`` in the settings of pictures is decided here, once, without labels.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from airjax.config import Background
from airjax.console import Decision
from airjax.data.backgrounds import (
    FEW,
    above_common,
    as_bytes,
    common_levels,
    grey,
    has_common_background,
    local_background,
    whole,
)
from airjax.data.decode import Broken, Contents, Frame, decode
from airjax.data.signal import (
    BRIGHT,
    VISIBLE_ALPHA,
    as_image,
    brightness,
    extremes,
    foreground,
    is_sure,
    off_tint,
    peak,
    scaled,
)
from airjax.data.signal import channel as channel_of
from airjax.data.working_scale import OBJECTS, WORKING, middle, of_picture, sizes_in
from airjax.detail import Detail, of_objects
from airjax.errors import InputError
from airjax.object_size import SMALLEST, Sizes, noise, sizes
from airjax.picture_config import PictureConfig

SAMPLED = 20  # pictures that decide
COARSE = 200  # pixels on the smaller side that tell a bright background
COLOURFUL = 0.1, 1e-3  # least range of a pixel's channels beside the tint, and share of such pixels
LOOKED_AT = 100_000  # pixels of a picture whose colours are compared
ALONE = 0.35  # a channel has the signal if the others have less than this share of its contrast
DIFFER = 0.05  # share of pictures of the other polarity from which each decides for itself
CLEAR = 8.0  # times the noise: the peak of a picture that shows something
VARY = 2.0  # ratio of the peaks of pictures from which each has its own levels
FULL = 0.97  # a peak above this share of white needs no stretching
DIFFERENT = 1.6  # ratio of the quartiles of pictures' sizes from which each has a scale of its own
CROP = 2.0, 3.0  # least and most side of a crop, in objects
IN_CROP = 3.0  # mean number of objects from which crops are smaller: guides are trained on few
WIDE = 12.0  # objects this many times smaller than the pictures are read in crops
LEAST_CROP, MOST_CROP = 24, 64
MOST_OBJECTS = 10  # in a crop
CROWDED = 2.0  # times the mean number of objects


class Survey(NamedTuple):
    """What was decided from a sample of pictures.

    Attributes:
        pictures: settings, with everything decided.
        background: of the model, or "local" if it is subtracted from each picture.
        sizes: of the objects in pixels of the images; None where nothing was found.
        decisions: what was decided, with its flags.
        detail: of the objects, where pictures are read in crops; otherwise None.
    """

    pictures: PictureConfig
    background: Background
    sizes: Sizes | None
    decisions: list[Decision]
    detail: Detail | None = None

    @property
    def image_object_size(self) -> float | None:
        """The typical size of an object in pixels of the images."""
        return None if self.sizes is None else self.sizes.typical

    @property
    def max_objects(self) -> int | None:
        """The number of objects that an image shows, with room; None where nothing was found."""
        if self.sizes is None:
            return None
        if not self.pictures.crop:
            return int(np.clip(self.sizes.most + 1, 3, MOST_OBJECTS))
        crowded = CROWDED * self.objects_in_crop
        return int(np.clip(np.ceil(crowded + 2 * np.sqrt(crowded) + 1), 3, MOST_OBJECTS))

    @property
    def objects_in_crop(self) -> float:
        """The mean number of objects in a crop; 0 for whole pictures."""
        if self.sizes is None or not self.pictures.crop:
            return 0.0
        return self.sizes.density * self.pictures.crop**2


class Sample(NamedTuple):
    """Some of the pictures.

    Attributes:
        middles: the middle of each.
        coarse: a few of the pixels of all of each.
        shapes: height and width of each.
    """

    middles: list[Frame]
    coarse: list[Frame]
    shapes: list[tuple[int, ...]]


def sample(files: Sequence[Path], pages: str, contents: Contents | None = None) -> Sample:
    """Some of the pictures, drawn at random (always the same ones): files may be of two kinds in
    turn.

    Raises:
        InputError: if none can be read.
    """
    order = np.random.RandomState(0).permutation(len(files))
    middles, coarse, shapes = list[Frame](), list[Frame](), list[tuple[int, ...]]()
    broken: Broken | None = None
    for i in order.tolist():
        found = decode(files[i], pages, contents=contents)
        if isinstance(found, Broken):
            broken = broken or found
            continue
        some = found[:: max(1, len(found) // 4)][:4]  # of many pages, a few
        shapes += [frame.pixels.shape[:2] for frame in some]
        middles += [middle(frame) for frame in some]
        coarse += [_thinned(frame) for frame in some]
        if len(middles) >= SAMPLED:
            break
    if not middles and broken is not None:
        raise InputError(str(broken.path), f"cannot be read ({broken.why})")
    return Sample(middles[:SAMPLED], coarse[:SAMPLED], shapes[:SAMPLED])


def survey(
    files: Sequence[Path],
    pictures: PictureConfig,
    background: Background = "none",
    object_size: float | None = None,
    size_matters: bool = True,
    contents: Contents | None = None,
    different: float = DIFFERENT,
) -> Survey:
    """Decides everything that is open.

    Args:
        files: of pictures.
        pictures: settings; what is given is kept.
        background: of the model; "auto" and "local" are decided here.
        object_size: in pixels of the file, if it is given.
        size_matters: whether the size of objects, and what depends on it, is decided.
        contents: gives the bytes of files that are not of this machine.
        different: ratio of the quartiles of pictures' sizes from which each has its own scale.

    Raises:
        InputError: if none can be read, the size of objects is none in these pictures, crops are
            smaller than an object, or whole pictures would have scales of their own.
    """
    frames, coarse, shapes = sample(files, pictures.pages, contents)
    side = max(map(min, shapes))
    if object_size is not None and not SMALLEST <= object_size <= side:
        rule = f"must be {SMALLEST} to {side} pixels, the smaller side of the largest picture"
        raise InputError("object_size", rule, object_size)
    decisions: list[Decision] = []

    def decided(what: str, value: object, flag: str) -> None:
        decisions.append(Decision(what, str(value), flag))

    pages = Counter("each page" if f.page is not None else "one page" for f in frames)
    if pages["each page"]:
        decided("pages", "each is a picture", "--pages")
    if pictures.channel == "auto":
        pictures = replace(pictures, channel=find_channel(frames))
    decided("channel", pictures.channel, "--channel")
    if pictures.invert == "auto":
        pictures = replace(pictures, invert=find_polarity(coarse, pictures.channel))
    decided("dark on bright", pictures.invert, "--invert")
    if not size_matters:
        return Survey(with_levels(frames, pictures, decided), background, None, decisions)
    found = sizes([as_bytes(grey(each)) for each in above_common(frames, whole(pictures))])
    size = object_size if object_size is not None or found is None else found.typical
    if size is not None and background in ("auto", "local", "lines"):
        most = 0 if found is None else found.most
        in_crops = pictures.crop or (pictures.crop is None and are_wide(shapes, size, most))
        pictures, found = local_background(
            frames, pictures, size, found, background, object_size is not None,
            in_crops=bool(in_crops),
        )  # fmt: skip
        if pictures.local_background is not None:
            background, what = "local", "local: subtracted from each picture"
            if pictures.lines is not None:
                background = "lines"
                what = (
                    f"lines: local, and straight lines of {pictures.lines:.0f} pixels, subtracted"
                )
            decided("background", what, "--background")
            size = size if object_size is not None or found is None else found.typical
    pictures = with_levels(frames, pictures, decided)
    if size is not None:
        if object_size is None and found is not None:
            text = f"{size:.0f} pixels ({found.low:.0f} to {found.high:.0f})"
            decided("object size", text, "--object-size")
        found = found._replace(typical=size) if found else Sizes(size, size, size, 0.0, 0)
    if found is not None:  # of whole pictures
        area = max(map(math.prod, shapes))
        found = found._replace(most=max(found.most, round(found.density * area)))
    is_open = object_size is None and pictures.scale is None and pictures.size is None
    if found is not None and is_open and pictures.crop != 0:  # whole pictures keep one size
        typical = [each.typical for f in frames if (each := sizes_in(f, pictures)) is not None]
        low, high = np.percentile(typical or [found.typical], [25, 75])
        if len(typical) >= FEW and high > different * low:
            pictures = replace(pictures, scale="picture")
            seen = [as_image(frame, of_picture(frame, pictures)) for frame in frames]
            found = sizes([image.max(-1) if image.ndim == 3 else image for image in seen]) or found
            text = (
                f"each picture (objects of {low:.0f} to {high:.0f} pixels become {WORKING[1]:.0f})"
            )
            decided("working scale", text, "--scale")
    pictures = with_sizes(shapes, pictures, found, decided)
    if found is not None and isinstance(pictures.scale, float):
        typical, low, high, density, most = found
        scale = pictures.scale
        found = Sizes(typical * scale, low * scale, high * scale, density / scale**2, most)
    detail = None
    if found is not None and pictures.crop:
        images = [as_image(frame, of_picture(frame, pictures)) for frame in frames]
        detail = of_objects(images, found)
    return Survey(pictures, background, found, decisions, detail)


def find_channel(frames: Sequence[Frame]) -> str:
    """The channel of the signal, as its number; "colour" if several have it, and not only as one
    tint; otherwise "grey"."""
    several = [frame for frame in frames if frame.pixels.ndim == 3]
    if not several:
        return "grey"
    number = Counter(frame.pixels.shape[-1] for frame in several).most_common(1)[0][0]
    several = [frame for frame in several if frame.pixels.shape[-1] == number]
    contrasts, pixels = [], []
    for frame in several:
        values = channel_of(frame, "all")
        levels = [extremes(values[..., c], frame.alpha) for c in range(number)]
        contrasts.append([white - black for black, white, _ in levels])
        seen = (
            np.ones(values.shape[:2], bool) if frame.alpha is None else frame.alpha > VISIBLE_ALPHA
        )
        some = values[seen][:: seen.size // LOOKED_AT + 1]
        if len(some):
            pixels.append(some / max(max(level.white for level in levels), 1e-6))
    mean = np.median(contrasts, axis=0)
    best = int(np.argmax(mean))
    if np.delete(mean, best).max() < ALONE * mean[best]:
        return str(best)
    spread, share = COLOURFUL
    if not pixels or not any(
        (each > spread).sum() > share * len(each) for each in off_tint(pixels)
    ):
        return "grey"
    return "colour" if several[0].is_colour and number == 3 else "max"


def find_polarity(frames: Sequence[Frame], channel: str) -> str:
    """Whether objects are dark on bright: "yes", "no", or "picture" where pictures differ."""
    found = [brightness(channel_of(frame, channel), frame.alpha) for frame in frames]
    varied = [each for each in found if each != BRIGHT] or [0.0]  # not by pictures of one value
    bright = sum(each > BRIGHT for each in varied if is_sure(each))
    dark = sum(each < BRIGHT for each in varied if is_sure(each))
    if min(bright, dark) > DIFFER * len(varied):
        return "picture"
    return "yes" if np.median(varied) > BRIGHT else "no"


def with_levels(
    frames: Sequence[Frame], pictures: PictureConfig, decided: Callable[..., None]
) -> PictureConfig:
    """The settings with the levels of intensities decided."""
    white_of_type = max(frame.white for frame in frames)
    common = common_levels(frames, pictures)
    black, white, _ = common
    peaks, side = [], pictures.local_background
    scale = 1.0 if side is None else min(1.0, OBJECTS * WORKING[1] / side)
    small = replace(whole(pictures), scale=scale if scale < 1 else None)
    for frame in frames:
        value = foreground(scaled(frame, small, common), small)
        found = peak(value)
        if found is not None and found > CLEAR * noise(grey(value)):
            peaks.append(found)
    gain = float(np.median(peaks)) if peaks else 1.0
    if side is None and has_common_background(frames, small):  # which must not be clipped
        white = max(white, *(extremes(channel_of(f, pictures.channel)).white for f in frames))
        gain = 1.0
    normalise = pictures.normalise
    if normalise == "auto":
        vary = len(peaks) > 2 and np.percentile(peaks, 90) > VARY * np.percentile(peaks, 10)
        dark = black <= (1 - FULL) * white_of_type
        top = (black + gain * (white - black)) / white_of_type
        as_is = pictures.local_background is None and dark and top >= FULL
        if pictures.invert == "yes":  # the background is to become black, the objects white
            as_is = white >= FULL * white_of_type and gain * (white - black) >= FULL * white_of_type
        normalise = "picture" if vary else "none" if as_is and top <= 1.01 else "folder"
    levels = (black, white, gain) if normalise == "folder" else None
    pictures = replace(pictures, normalise=normalise, levels=levels, white_of_type=white_of_type)
    text = normalise if levels is None else (
        f"{normalise}: {black:.4g} becomes black, {black + gain * (white - black):.4g} white"
    )  # fmt: skip
    decided("intensities", text, "--normalise")
    return pictures


def are_wide(shapes: Sequence[tuple[int, ...]], size: float, most: int) -> bool:
    """Whether pictures are read in crops: many objects, small ones, or several sizes."""
    wide = min(map(min, shapes)) > WIDE * size
    return wide or most >= MOST_OBJECTS or len(set(shapes)) > 1


def with_sizes(
    shapes: Sequence[tuple[int, ...]],
    pictures: PictureConfig,
    found: Sizes | None,
    decided: Callable[..., None],
) -> PictureConfig:
    """The settings with working scale and crops decided. Crops are as large as `CROP` objects, or
    smaller where objects are dense."""
    if pictures.size is not None or found is None:
        return replace(pictures, crop=pictures.crop or 0)
    size, side = found.typical, CROP[1]
    if found.density > 0:
        side = float(np.clip(np.sqrt(IN_CROP / found.density) / size, *CROP))
    if pictures.scale is None and size > WORKING[0]:
        pictures = replace(pictures, scale=round(WORKING[1] / size, 4))
    if pictures.scale == "picture":
        if pictures.crop == 0:
            rule = "must be a number with --crop 0: whole pictures have one size"
            raise InputError("scale", rule, pictures.scale)
        crop = int(np.clip(round(side * WORKING[1]), LEAST_CROP, MOST_CROP))
        _check_crop(pictures, WORKING[1])
        pictures = replace(pictures, crop=crop if pictures.crop is None else pictures.crop)
        decided("images", f"crops of {pictures.crop}", "--crop")
        return pictures
    scale = 1.0 if pictures.scale is None else pictures.scale
    if scale != 1.0:
        decided("working scale", f"{scale:.3g} (objects of {size * scale:.0f} pixels)", "--scale")
    _check_crop(pictures, size * scale)
    if pictures.crop is None:
        smaller = int(min(map(min, shapes)) * scale)
        crop = int(np.clip(round(side * size * scale), LEAST_CROP, MOST_CROP))
        wide = are_wide(shapes, size, found.most)
        pictures = replace(pictures, crop=min(crop, smaller) if wide else 0)
    decided("images", f"crops of {pictures.crop}" if pictures.crop else "whole pictures", "--crop")
    return pictures


def _check_crop(pictures: PictureConfig, size: float) -> None:
    """No crop that is given is smaller than an object, whose size is in pixels of the crop."""
    if pictures.crop and not pictures.anew and pictures.crop < size:
        rule = (
            f"must be at least {math.ceil(size)}, the size of an object; --object-size changes it"
        )
        raise InputError("crop", rule, pictures.crop)


def _thinned(frame: Frame) -> Frame:
    """Every n-th pixel of a large picture."""
    n = max(1, min(frame.pixels.shape[:2]) // COARSE)
    alpha = None if frame.alpha is None else frame.alpha[::n, ::n]
    return frame._replace(pixels=frame.pixels[::n, ::n].copy(), alpha=alpha)
