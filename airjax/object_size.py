"""The prior of z_where and the size of windows, from the size of objects in pixels."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from scipy import ndimage

from airjax.config import ModelConfig
from airjax.errors import InputError

SAMPLED = 500  # images that the size is estimated from
SPECK = 3  # pixels; smaller parts, on both sides, are not objects
MARGIN = 1.3  # side of a window at the prior's mean scale, in sides of a typical object
SET_BY_SIZE = ("scale_prior_mean", "scale_prior_sd", "window_size")
WINDOWS = (8, 28)  # smallest and largest side of a window in its own pixels


class Blobs(NamedTuple):
    """The bright connected components of images, each at least ``SPECK`` pixels wide.

    Attributes:
        image: ``[n]``, index of the image of each.
        sides: ``[n]``, larger side in pixels.
        areas: ``[n]``, in pixels.
    """

    image: Int[np.ndarray, " n"]
    sides: Int[np.ndarray, " n"]
    areas: Int[np.ndarray, " n"]


def blobs(images: UInt8[np.ndarray, "N H W *C"]) -> Blobs:
    """What a plain threshold finds in images, bright objects on a dark background: the connected
    components above Otsu's threshold of all images (less their median image) together."""
    signed = images.astype(np.int16)
    above = (
        np.abs(signed - np.median(signed, axis=0).astype(np.int16)) if len(images) > 2 else signed
    )
    grey = above.max(-1) if above.ndim == 4 else above
    found: list[tuple[int, int, int]] = []
    for i, image in enumerate(grey > _otsu(grey)):
        parts = np.zeros(image.shape, np.int32)
        ndimage.label(image, np.ones((3, 3)), output=parts)
        counts = np.bincount(parts.ravel())[1:].tolist()
        for box, area in zip(ndimage.find_objects(parts), counts, strict=True):
            side = max(side.stop - side.start for side in box)
            found += [(i, side, area)] if side >= SPECK else []
    return Blobs(*np.array(found, int).reshape(-1, 3).T)


def estimate(images: UInt8[np.ndarray, "N H W *C"]) -> float | None:
    """Estimates the typical size of the objects in images, without labels: the median side of
    `blobs`, each weighted with its area, so that specks have no influence.

    Args:
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, bright objects on a dark background.

    Returns:
        the larger side in pixels, or None where nothing is found.
    """
    _, sides, areas = blobs(images[:: max(1, len(images) // SAMPLED)])
    if not len(sides):
        return None
    order = np.argsort(sides)
    cumulative = np.cumsum(areas[order])
    return float(sides[order][(cumulative >= cumulative[-1] / 2).argmax()])


def fitted(model: ModelConfig, size: Any, images: np.ndarray) -> tuple[ModelConfig, float | None]:
    """The settings for objects of this size in these images, and the size in pixels.

    Args:
        model: the settings so far.
        size: in pixels, or "auto" to estimate it. None is "auto", unless the settings that depend
            on the size are given: then these are kept.
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``.

    Returns:
        the settings, and the size; None where nothing was changed.

    Raises:
        InputError: if ``size`` is not a size, or contradicts settings that are given.
    """
    given = [name for name in SET_BY_SIZE if getattr(model, name) != getattr(ModelConfig, name)]
    if given and size is not None:
        raise InputError("object_size", f"must be left out where {given[0]} is given", size)
    height, width = images.shape[1:3]
    if given or (size is None and min(height, width) < SPECK):
        return model, None
    try:
        number = estimate(images) if size in (None, "auto") else float(size)
    except ValueError:
        raise InputError("object_size", "must be auto or a number of pixels", size) from None
    if number is None:
        return model, None
    if size in (None, "auto"):  # a component may be longer than the images' smaller side
        number = min(number, float(min(height, width)))
    return for_objects(model, number, (height, width)), number


def for_objects(model: ModelConfig, size: float, image_size: tuple[int, int]) -> ModelConfig:
    """The settings for objects of about ``size`` pixels (the larger side): the prior of the scale
    and the size of windows. The ratio of the prior's standard deviation to its mean, 1/15, is the
    paper's.

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
    """The threshold of bytes with the largest variance between the two classes (Otsu, 1979)."""
    counts = np.bincount(values.ravel(), minlength=256).astype(float)
    below = np.cumsum(counts)
    total = np.cumsum(counts * np.arange(len(counts)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
    return int(np.nan_to_num(below * above * gap**2).argmax())
