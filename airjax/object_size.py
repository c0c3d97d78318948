"""The prior of z_where and the size of windows, from the size of objects in pixels."""

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from airjax.config import ModelConfig
from airjax.errors import InputError

LOOKED_AT = 500  # images that the size is estimated from
SPECK = 3  # pixels; what is smaller on both sides is no object
MARGIN = 1.3  # the side of a window at the prior's mean scale, in sides of a typical object
SET_BY_IT = ("scale_prior_mean", "scale_prior_sd", "window_size")
WINDOWS = (8, 28)  # sides of windows in their own pixels, at least and at most


def estimate(images: np.ndarray) -> float | None:
    """The typical larger side, in pixels, of the objects in images, without labels.

    What is brighter than Otsu's threshold (of all images together, less their median image) falls
    into connected parts; the result is the median side of these, each weighted with its area, so
    that specks do not matter. None where nothing is seen.

    Args:
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, bright objects on a dark ground.
    """
    some = images[:: max(1, len(images) // LOOKED_AT)].astype(np.int16)
    above = np.abs(some - np.median(some, axis=0).astype(np.int16)) if len(some) > 2 else some
    grey = above.max(-1) if above.ndim == 4 else above
    bright = grey > _otsu(grey)
    sides, areas = [], []
    for image in bright:
        parts = np.zeros(image.shape, np.int32)
        ndimage.label(image, np.ones((3, 3)), output=parts)
        counts = np.bincount(parts.ravel())[1:]
        for box, area in zip(ndimage.find_objects(parts), counts, strict=True):
            sides.append(max(side.stop - side.start for side in box))
            areas.append(area)
    sides, areas = np.array(sides), np.array(areas)
    seen = sides >= SPECK
    if not seen.any():
        return None
    order = np.argsort(sides[seen])
    heavier = np.cumsum(areas[seen][order]) >= areas[seen].sum() / 2
    return float(sides[seen][order][heavier.argmax()])


def fitted(model: ModelConfig, size: Any, images: np.ndarray) -> ModelConfig:
    """The settings for objects of this size in these images.

    Args:
        model: the settings so far.
        size: in pixels; "auto" for an `estimate`; None for an estimate only where the model's
            settings are those of the paper.
        images: ``[N, H, W]`` or ``[N, H, W, C]``.

    Raises:
        InputError: if the size is none, or the scale's prior or the windows are given too.
    """
    given = [name for name in SET_BY_IT if getattr(model, name) != getattr(ModelConfig, name)]
    if given and size is not None:
        raise InputError("object_size", f"must be left out where {given[0]} is given", size)
    try:
        number = estimate(images) if size in (None, "auto") else float(size)
    except ValueError:
        raise InputError("object_size", "must be auto or a number of pixels", size) from None
    height, width = images.shape[1:3]
    if given or number is None or min(height, width) < SPECK:
        return model
    if size in (None, "auto"):  # what is seen may be longer than the images' smaller side
        number = min(number, float(min(height, width)))
    return for_objects(model, number, (height, width))


def for_objects(model: ModelConfig, size: float, image_size: tuple[int, int]) -> ModelConfig:
    """The settings for objects of about ``size`` pixels (the larger side): the prior of the scale
    (its standard deviation a fifteenth of the mean, as the paper's) and the windows.

    Raises:
        InputError: if such objects do not fit the images.
    """
    smaller = min(image_size)
    if not 2 <= size <= smaller:
        rule = f"must be 2 to {smaller} pixels, the images' smaller side"
        raise InputError("object_size", rule, size)
    mean = round(smaller / (MARGIN * size), 3)
    window = int(np.clip(round(MARGIN * size), WINDOWS[0], min(WINDOWS[1], smaller)))
    return dataclasses.replace(
        model, scale_prior_mean=mean, scale_prior_sd=round(mean / 15, 3), window_size=window
    )


def _otsu(values: np.ndarray) -> int:
    """The threshold of bytes that parts them into two classes with the largest variance between
    (Otsu, 1979)."""
    counts = np.bincount(values.ravel(), minlength=256).astype(float)
    below = np.cumsum(counts)
    total = np.cumsum(counts * np.arange(len(counts)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
    return int(np.nan_to_num(below * above * gap**2).argmax())
