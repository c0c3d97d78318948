"""What a sample of pictures shows of their backgrounds: the same in all, uneven, or lined."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from airjax.background import VISIBLE
from airjax.config import Background
from airjax.data.decode import Frame
from airjax.data.lines import straight_lines
from airjax.data.signal import Levels, extremes, foreground, scaled, shows_something
from airjax.data.signal import channel as channel_of
from airjax.data.working_scale import LINES, OBJECTS, WORKING
from airjax.object_size import Sizes, sizes
from airjax.picture_config import PictureConfig

FEW = 5  # pictures that do not tell what is the same in all
UNEVEN = 0.05  # of white: a background that varies more is subtracted
LINED = 0.1  # share of the sum of squares from which straight lines are subtracted


def local_background(
    frames: Sequence[Frame],
    pictures: PictureConfig,
    size: float,
    found: Sizes | None,
    wanted: Background,
    given: bool,
    in_crops: bool,
) -> tuple[PictureConfig, Sizes | None]:
    """The settings, with a local background if it is uneven or has lines; and the sizes without it.
    In crops, even a background that is the same in all pictures is unknown to the model."""
    scale = min(1.0, WORKING[1] / size)  # coarse enough
    small = replace(whole(pictures), scale=scale if scale < 1 else None)
    values = [scaled(f, small, None) for f in frames] if in_crops else above_common(frames, small)
    small = replace(small, local_background=OBJECTS * size)
    rest = [foreground(value, small) for value in values]
    uneven = np.median([np.percentile(a - b, 95) for a, b in zip(values, rest, strict=True)])
    has_lines = wanted == "lines" or (wanted == "auto" and _have_lines(rest, LINES * size * scale))
    if wanted == "auto" and uneven <= UNEVEN and not has_lines:
        return pictures, found
    for _ in range(2):  # the first size may be that of the background
        lines = LINES * size if has_lines else None
        small = replace(small, local_background=OBJECTS * size, lines=lines)
        values = [foreground(scaled(frame, small, None), small) for frame in frames]
        again = sizes([as_bytes(grey(value)) for value in values])
        if again is None:
            break
        typical, low, high, density, most = again
        found = Sizes(typical / scale, low / scale, high / scale, density * scale**2, most)
        size = found.typical if not given else size
    lines = round(LINES * size, 1) if has_lines else None
    return replace(pictures, local_background=round(OBJECTS * size, 1), lines=lines), found


def _have_lines(values: Sequence[np.ndarray], length: float) -> bool:
    """Whether a noticeable part of what pictures show is straight lines."""
    shown = sum(float(np.square(np.maximum(value, 0)).sum()) for value in values)
    lines = sum(float(np.square(straight_lines(value, length)).sum()) for value in values)
    return lines > LINED * shown


def above_common(frames: Sequence[Frame], pictures: PictureConfig) -> list[np.ndarray]:
    """Intensities of pictures, less what is the same in all of them: a background that the model
    itself can have."""
    if len({frame.pixels.shape[:2] for frame in frames}) > 1 or len(frames) < FEW:
        return [scaled(frame, pictures, None) for frame in frames]
    levels = common_levels(frames, pictures)
    values = [scaled(frame, pictures, levels) for frame in frames]
    common = np.median(values, axis=0)
    return [value - common for value in values]


def has_common_background(frames: Sequence[Frame], pictures: PictureConfig) -> bool:
    """Whether pictures of one size have a background that is the same in all, and not black."""
    if len({frame.pixels.shape[:2] for frame in frames}) > 1 or len(frames) < FEW:
        return False
    levels = common_levels(frames, pictures)
    common = np.median([scaled(frame, pictures, levels) for frame in frames], axis=0)
    return bool(np.sqrt(np.square(common).mean()) > VISIBLE)


def common_levels(frames: Sequence[Frame], pictures: PictureConfig) -> Levels:
    """The levels of all pictures together: the medians of each that shows something."""
    every = [(channel_of(frame, pictures.channel), frame.alpha) for frame in frames]
    each = [extremes(*one) for one in [one for one in every if shows_something(*one)] or every]
    black, white = (float(np.median(level)) for level in list(zip(*each, strict=True))[:2])
    return Levels(black, white if white > black else black + 1e-6)


def whole(pictures: PictureConfig) -> PictureConfig:
    """The settings at the scale of the file."""
    return replace(pictures, size=None, scale=None)


def grey(value: np.ndarray) -> np.ndarray:
    return value.max(-1) if value.ndim == 3 else value


def as_bytes(value: np.ndarray) -> np.ndarray:
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)
