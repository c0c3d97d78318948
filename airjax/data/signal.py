"""From the values in a picture file to an image of bright objects on a dark background: channel,
intensities, polarity, background, size."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy import ndimage

from airjax.data.decode import Frame
from airjax.data.lines import straight_lines
from airjax.data.placement import SWAPPED, Placement
from airjax.errors import InputError
from airjax.object_size import noise, otsu
from airjax.picture_config import PictureConfig

LUMINANCE = (0.299, 0.587, 0.114)  # of ITU-R BT.601
COLOURS = ("colour", "all")  # channels that stay several
DARKEST, BRIGHTEST = 1, 99.8  # percentiles that the levels of a picture are
RARE = 0.02  # of a hundred, on both sides: where the others are of noise, since objects are few
PEAK = 95  # percentile of the foreground that becomes white
NOISE = 8.0  # times its noise, what becomes white in a picture with levels of its own
BRIGHT = 0.5  # a border above this, between darkest and brightest, is a bright background
UNSURE = 0.1  # brightness of a background that is neither dark nor bright
VISIBLE_ALPHA = 0.5
WHITE_BYTE = 255.0  # of the formats that have opacities


class Levels(NamedTuple):
    """Two values of the file, and what becomes of them.

    Attributes:
        black: value that becomes 0.
        white: value that becomes 1 before the gain.
        gain: intensity, after the background is subtracted, that becomes white.
    """

    black: float
    white: float
    gain: float = 1.0


def channel(frame: Frame, name: str) -> Float[np.ndarray, "H W *C"]:
    """The channel of a picture that is read, as the file's values; or three or more channels.

    Raises:
        InputError: if there is no such channel.
    """
    pixels = frame.pixels.astype(np.float32)
    if pixels.ndim == 2:
        return np.stack([pixels] * 3, axis=-1) if name == "colour" else pixels
    if name == "colour" and pixels.shape[-1] != 3:
        rule = f"must be another one for pictures of {pixels.shape[-1]} channels"
        raise InputError("channel", rule, name)
    if name in COLOURS:
        return pixels
    if name == "max":
        return pixels.max(-1)
    if name == "grey":
        return pixels @ np.array(LUMINANCE, np.float32) if frame.is_colour else pixels.mean(-1)
    if int(name) >= pixels.shape[-1]:
        rule = f"must be below {pixels.shape[-1]}, the number of channels"
        raise InputError("channel", rule, name)
    return pixels[..., int(name)]


def extremes(values: Float[np.ndarray, "H W *C"], alpha: np.ndarray | None = None) -> Levels:
    """The levels of a picture: nearly its darkest and its brightest value. Where there is only
    noise between them, those of fewer pixels."""
    seen = values if alpha is None else values[alpha > VISIBLE_ALPHA]
    if seen.size == 0:
        return Levels(0.0, 1.0)
    black, white = (float(x) for x in np.percentile(seen, [DARKEST, BRIGHTEST]))
    if white - black <= NOISE * noise(values.mean(-1) if values.ndim == 3 else values):
        black, white = (float(x) for x in np.percentile(seen, [RARE, 100 - RARE]))
    if white <= black:
        black, white = float(seen.min()), float(seen.max())
    return Levels(black, white if white > black else black + 1e-6)


def shows_something(values: Float[np.ndarray, "H W *C"], alpha: np.ndarray | None = None) -> bool:
    """Whether the levels of a picture are not those of noise, or of one value."""
    black, white, _ = extremes(values, alpha)
    grey = values.mean(-1) if values.ndim == 3 else values
    return bool(np.ptp(values) > 0 and white - black > NOISE * noise(grey))


def off_tint(pictures: Sequence[Float[np.ndarray, "_ C"]]) -> list[Float[np.ndarray, " _"]]:
    """How much the colour of each pixel is another one than a tint that all pictures share: the
    range over channels of what the first principal component leaves of the differences from each
    picture's median. Near 0 where one signal is in all channels, as in brown light, or with a
    colour map of one colour."""
    differences = [picture - np.median(picture, axis=0) for picture in pictures]
    tint = np.linalg.eigh(sum(each.T @ each for each in differences))[1][:, -1]
    tint = np.maximum(tint * np.sign(tint.sum()), 0)  # all channels darken, or brighten, together
    tint /= max(np.linalg.norm(tint), 1e-6)
    return [np.ptp(each - np.outer(each @ tint, tint), axis=-1) for each in differences]


def brightness(
    values: Float[np.ndarray, "H W *C"],
    alpha: np.ndarray | None = None,
    levels: Levels | None = None,
) -> float:
    """How bright the background of a picture is: the median of its border, from 0 (dark) to 1. If
    the border is transparent, the background is taken to be the opposite of what is visible; 0 if
    nothing is visible.

    Args:
        values: of the file.
        alpha: opacities.
        levels: that are 0 and 1; by default nearly the darkest and the brightest value of the
            picture, or, where these do not tell, since they are noise, its very darkest and
            brightest one. Of a picture of one value only, the background is neither dark nor
            bright.
    """
    grey = values.mean(-1) if values.ndim == 3 else values
    border = np.ones(grey.shape, bool)
    border[1:-1, 1:-1] = False
    visible = np.ones(grey.shape, bool) if alpha is None else alpha > VISIBLE_ALPHA
    if not visible.any():
        return 0.0
    if not (border & visible).any():
        return float(np.median(grey[visible]) < WHITE_BYTE / 2)
    background = float(np.median(grey[border & visible]))
    if levels is not None:
        return _between(background, *levels[:2])
    darkest, brightest = float(grey[visible].min()), float(grey[visible].max())
    if brightest <= darkest:
        return BRIGHT
    found = _between(background, *extremes(grey, alpha)[:2])
    return found if is_sure(found) else _between(background, darkest, brightest)


def _between(value: float, black: float, white: float) -> float:
    return (value - black) / (white - black)


def is_sure(brightness: float) -> bool:
    """Whether a background is clearly dark or clearly bright."""
    return abs(brightness - BRIGHT) > UNSURE


def scaled(
    frame: Frame, config: PictureConfig, levels: Levels | None
) -> Float[np.ndarray, "H W *C"]:
    """The picture as intensities: levels, polarity and size, before the background is subtracted.

    Args:
        frame: of the file.
        config: with channel, ``invert`` and ``scale`` decided.
        levels: of all pictures; None where each picture has its own.
    """
    values = channel(frame, config.channel)
    black, white, _ = levels or extremes(values, frame.alpha)
    value = (values - black) / (white - black)
    bright = config.invert == "yes"
    if config.invert == "picture":
        own = brightness(values, frame.alpha)
        if not is_sure(own) and levels is not None:  # nothing is in it, or not much
            own = brightness(values, frame.alpha, levels)
        bright = own > BRIGHT
    value = np.float32(1) - value if bright else value
    if frame.alpha is not None:
        value = value * (frame.alpha[..., None] if value.ndim == 3 else frame.alpha)
    if config.image_size is not None:
        return _fitted(value, config.image_size)
    if config.scale is not None:
        return _resized(value, *_working_size(value.shape, config.ratio))
    return value


def foreground(
    value: Float[np.ndarray, "H W *C"], config: PictureConfig
) -> Float[np.ndarray, "H W *C"]:
    """A picture at the scale of the settings, less the background that they subtract from each."""
    if config.local_background is not None:
        value = without_background(value, config.local_background * config.ratio)
    if config.lines is not None:
        value = value - straight_lines(value, config.lines * config.ratio)
    return value


def without_background(
    value: Float[np.ndarray, "H W *C"], side: float
) -> Float[np.ndarray, "H W *C"]:
    """A picture less what varies slowly in it: an opening with a square, smoothed.

    Args:
        value: intensities.
        side: of the square in pixels; objects must be smaller.
    """
    if value.ndim == 3:
        channels = [without_background(each, side) for each in np.moveaxis(value, -1, 0)]
        return np.stack(channels, axis=-1)
    width = min(max(3, round(side)), min(value.shape))
    smooth = ndimage.gaussian_filter(value, side / 16)
    opened = ndimage.grey_opening(smooth, size=(width, width))
    return value - ndimage.gaussian_filter(opened, side / 3)


def peak(value: Float[np.ndarray, "H W *C"]) -> float | None:
    """The intensity of the brighter pixels of the foreground of a picture; None where it is
    constant."""
    grey = value.max(-1) if value.ndim == 3 else value
    low, high = float(grey.min()), float(grey.max())
    if not high > low:
        return None
    levels = np.clip((grey - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    found = float(np.percentile(grey[levels > otsu(levels)], PEAK))
    return found if found > 0 else None


def levels_of(frame: Frame, config: PictureConfig) -> Levels | None:
    """The levels that the settings ask for; None where each picture has its own."""
    if config.normalise == "none":
        return Levels(0.0, frame.white)
    return None if config.levels is None else Levels(*config.levels)


def as_image(frame: Frame, config: PictureConfig) -> UInt8[np.ndarray, "H W *C"]:
    """The image of bright objects on a dark background.

    Args:
        frame: of the file.
        config: with everything decided.
    """
    levels = levels_of(frame, config)
    value = scaled(frame, config, levels)
    value = foreground(value, config)
    if levels is not None:
        return np.round(np.clip(value / levels.gain, 0, 1) * 255).astype(np.uint8)
    value = value - _floor(value)
    # of its own levels: noise must not become white where nothing is seen
    grey = value.max(-1) if value.ndim == 3 else value
    gain = max(peak(value) or 1.0, NOISE * noise(grey))
    return np.round(np.clip(value / gain, 0, 1) * 255).astype(np.uint8)


def _floor(value: Float[np.ndarray, "H W *C"]) -> float:
    """The level of a noisy background: its median, since the darkest pixels are the noise's."""
    grey = value.max(-1) if value.ndim == 3 else value
    levels = np.clip(grey * 255, 0, 255).astype(np.uint8)
    return float(np.median(grey[levels <= otsu(levels)]))


def placed(frame: Frame, config: PictureConfig) -> Placement:
    """Where the image of `as_image` lies in the file."""
    height, width = frame.pixels.shape[:2]
    file = (width, height) if frame.orientation in SWAPPED else (height, width)
    if config.image_size is not None:
        fitted_height, fitted_width, top, left = _fit((height, width), config.image_size)
        scale = fitted_height / height, fitted_width / width
        return Placement(file, frame.orientation, scale, (top, left))
    if config.scale is not None:
        new_height, new_width = _working_size((height, width), config.ratio)
        return Placement(file, frame.orientation, (new_height / height, new_width / width))
    return Placement(file, frame.orientation)


def _working_size(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _fit(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Height, width, top and left of a picture that is scaled to fit, and centred."""
    ratio = min(size[0] / shape[0], size[1] / shape[1])
    height = min(max(round(shape[0] * ratio), 1), size[0])
    width = min(max(round(shape[1] * ratio), 1), size[1])
    return height, width, (size[0] - height) // 2, (size[1] - width) // 2


def _resized(value: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's antialiased bilinear filter."""
    if value.shape[:2] == (height, width):
        return value
    if value.ndim == 3:
        channels = [_resized(each, height, width) for each in np.moveaxis(value, -1, 0)]
        return np.stack(channels, axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(value, np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _fitted(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The picture scaled to fit ``size``, and centred."""
    height, width, top, left = _fit(value.shape, size)
    canvas = np.zeros((*size, *value.shape[2:]), np.float32)
    canvas[top : top + height, left : left + width] = _resized(value, height, width)
    return canvas
