"""The prior of z_where and the size of windows, from the size of objects in pixels."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy import ndimage

from airjax.background import contrast
from airjax.config import ModelConfig
from airjax.errors import InputError

SAMPLED = 100  # images that the size is estimated from
STEP = 2**0.25  # ratio of the scales that are looked at
SIGMAS = [STEP**i for i in range(1, 26)]  # diameters from 3 to 215 pixels
ABOVE = 4.0  # times the response to noise
# standard deviation of the response to noise of 1, at sigma 1; it falls as 1 / sigma
RESPONSE = 1 / math.sqrt(2 * math.pi)
QUARTILE = 1.006  # of what smoothing removes of noise of 1
LEAST = 0.03  # contrast of a blob, of white
FAINT = 0.05  # blobs with a smaller share of the weight of the strongest ones are left out
BLOB = 0.6  # components are objects if they are this large beside a blob
ALIKE = 1.35  # ratio of sizes that are alike
SMALLEST = 2  # pixels of an object
SPECK = 3  # pixels; smaller parts, on both sides, are not objects
# side of a window at the prior's mean scale, in sides of a typical object
MARGIN = 1.3
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


class Sizes(NamedTuple):
    """The larger sides of the objects in images, in pixels.

    Attributes:
        typical: the median.
        low: a tenth of the objects is smaller.
        high: a tenth of the objects is larger.
        density: objects a pixel.
        most: the largest number of objects in a picture.
    """

    typical: float
    low: float
    high: float
    density: float
    most: int


def blobs(images: UInt8[np.ndarray, "N H W *C"]) -> Blobs:
    """What a plain threshold finds in images, bright objects on a dark background: the connected
    components above Otsu's threshold of all images (less their median image) together."""
    grey = contrast(images)
    found: list[tuple[int, int, int]] = []
    for i, image in enumerate(grey > otsu(grey)):
        sides, areas = _components(image)
        found += [(i, *each) for each in zip(sides, areas, strict=True)]
    return Blobs(*np.array(found, int).reshape(-1, 3).T)


def estimate(images: UInt8[np.ndarray, "N H W *C"]) -> float | None:
    """Estimates the typical size of the objects in images, without labels; see `sizes`.

    Args:
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, bright objects on a dark background.

    Returns:
        the larger side in pixels, or None where nothing is found.
    """
    grey = contrast(images[:: max(1, len(images) // SAMPLED)])
    found = sizes(list(grey), otsu(grey))
    return None if found is None else found.typical


def sizes(
    pictures: Sequence[UInt8[np.ndarray, "_ _"]], threshold: int | None = None
) -> Sizes | None:
    """Measures the objects in pictures, without labels.

    Bright blobs of any size are found as maxima in scale space (Lindeberg, 1998). Their typical
    diameter is not affected by objects that touch, but for objects drawn with strokes it is the
    width of a stroke. So the result is the median side of the connected components above Otsu's
    threshold that are not much smaller than such a blob. Where most objects touch, that median is
    too large: if it exceeds twice the diameter of the blobs, and less than half of the area belongs
    to components of that size, the diameter of the blobs is used instead.

    Args:
        pictures: bright objects on a dark background, of any sizes.
        threshold: of the components; by default, each picture has its own.

    Returns:
        None where nothing is found.
    """
    found = [scale_space(picture / np.float32(255)) for picture in pictures]
    diameters, weights = np.concatenate(found, axis=1)
    if not len(diameters):
        return None
    blob = weighted_median(diameters, weights)
    parts = [_components(picture > _level(picture, threshold)) for picture in pictures]
    sides, areas = np.concatenate([np.array(part) for part in parts], axis=1)
    large = sides >= BLOB * blob
    typical = float(np.median(sides[large])) if large.any() else blob
    near = np.abs(np.log(sides / typical)) < math.log(ALIKE)
    if typical > 2 * blob and areas[near].sum() < areas.sum() / 2:
        typical = blob
    alike = sides[(sides > typical / 2) & (sides < 2 * typical)]
    low, high = np.percentile(alike, [10, 90]) if len(alike) else (typical, typical)
    area = max(float(np.median(areas[near])), 1.0) if near.any() else typical**2
    of_picture = np.repeat(np.arange(len(pictures)), [len(part[0]) for part in parts])
    totals = np.bincount(of_picture[large], areas[large], len(pictures)) / area
    density = totals.sum() / sum(picture.size for picture in pictures)
    return Sizes(typical, float(low), float(high), float(density), round(totals.max()))


def _level(picture: UInt8[np.ndarray, "_ _"], threshold: int | None) -> float:
    """Otsu's threshold of a picture, unless one is given; at least above its noise."""
    above = ABOVE * 255 * noise(picture / np.float32(255))
    return float(max(otsu(picture) if threshold is None else threshold, above))


def noise(picture: Float[np.ndarray, "H W"]) -> float:
    """The standard deviation of a picture's noise, from the upper quartile of what smoothing
    removes: the edges of objects are few, and noise may be clipped at black."""
    removed = picture - ndimage.gaussian_filter(picture, 1)
    return float(np.percentile(np.abs(removed), 75) / QUARTILE)


def scale_space(picture: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "2 n"]:
    """Bright blobs of any size in a picture: their diameters in pixels, and their weights.

    A blob is a maximum of the Laplacian of a Gaussian, normalised by its scale, over place and
    scale. Of blobs that lie upon each other, the one with the largest contrast squared times
    diameter to the power 1.5 is kept; that is its weight, too. Maxima that noise may have made are
    left out.
    """
    levels, of_noise = [], ABOVE * noise(picture)
    for sigma in SIGMAS:
        if 6 * sigma > min(picture.shape):
            break
        f = max(1, int(sigma / 4))  # coarse scales are found on a smaller picture
        height, width = picture.shape[0] // f, picture.shape[1] // f
        parts = picture[: height * f, : width * f].reshape(height, f, width, f)
        response = ndimage.gaussian_laplace(parts.mean((1, 3)), sigma / f, mode="nearest")
        levels.append((f, sigma, -((sigma / f) ** 2) * response))
    maxima = [_maxima(*levels[i - 1 : i + 2]) for i in range(1, len(levels) - 1)]
    if not maxima:
        return np.zeros((2, 0), np.float32)
    y, x, diameter, contrast = np.concatenate(maxima, axis=1)
    real = contrast > of_noise * RESPONSE * 2 * math.sqrt(2) / diameter
    y, x, diameter, contrast = y[real], x[real], diameter[real], contrast[real]
    weight = contrast**2 * diameter**1.5
    kept, free = [], np.ones(len(weight), bool)
    order = np.argsort(-weight)
    least = FAINT * np.median(weight[order[:10]]) if len(order) else 0
    for i in order.tolist():
        if weight[i] < least:
            break
        if free[i]:
            kept.append(i)
            apart = np.hypot(y - y[i], x - x[i])
            free &= apart > 0.5 * np.maximum(diameter[i], diameter)
    total = max(
        weight[kept].sum() / max(len(kept), 1), 1e-12
    )  # each picture has a say, also a dim one
    return np.stack([diameter[kept], weight[kept] / total]).astype(np.float32)


def _maxima(below: Any, here: Any, above: Any) -> np.ndarray:
    """Maxima of a level of scale space that are not exceeded at the levels below and above: y, x,
    diameter and contrast, ``[4, n]``."""
    f, sigma, response = here
    y, x = np.nonzero((ndimage.maximum_filter(response, 3) == response) & (response > LEAST))
    place = (y + 0.5) * f, (x + 0.5) * f

    def at(level: Any) -> np.ndarray:
        f, _, response = level
        rows, columns = ((axis / f).astype(int) for axis in place)
        height, width = response.shape
        return response[rows.clip(0, height - 1), columns.clip(0, width - 1)]

    a, b, c = at(below), response[y, x], at(above)
    shift = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)  # of a parabola's maximum
    diameter = 2 * math.sqrt(2) * sigma * STEP ** np.clip(shift, -0.5, 0.5)
    return np.stack([*place, diameter, b])[:, (b >= a) & (b >= c)]


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight is."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def _components(mask: np.ndarray) -> tuple[list[int], list[int]]:
    """Larger sides and areas of the connected components of a mask that are no specks."""
    parts = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=parts)
    counts = np.bincount(parts.ravel())[1:].tolist()
    sides = [max(s.stop - s.start for s in box) for box in ndimage.find_objects(parts)]
    kept = [(side, area) for side, area in zip(sides, counts, strict=True) if side >= SPECK]
    return [side for side, _ in kept], [area for _, area in kept]


def fitted(
    model: ModelConfig,
    size: Any,
    images: np.ndarray,
    estimated: float | None = None,
    margin: float = MARGIN,
) -> tuple[ModelConfig, float | None]:
    """The settings for objects of this size in these images, and the size in pixels.

    Args:
        model: the settings so far.
        size: in pixels, or "auto" to estimate it. None is "auto", unless the settings that depend
            on the size are given: then these are kept.
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``.
        estimated: size that was estimated already.
        margin: side of a window in sides of an object.

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
        number = estimated if size in (None, "auto") else in_pixels(size)
        number = estimate(images) if number is None else number
    except ValueError:
        raise InputError(
            "object_size", "must be auto, a number of pixels, or a range as 8-14", size
        ) from None
    if number is None:
        return model, None
    if size in (None, "auto"):  # a component may be longer than the images' smaller side
        number = min(number, float(min(height, width)))
    return for_objects(model, number, (height, width), margin), number


def in_pixels(size: Any) -> float:
    """A typical size from a number, or from a range as ``8-14``: its middle.

    Raises:
        ValueError: if it is neither.
    """
    low, dash, high = str(size).partition("-")
    return (float(low) + float(high)) / 2 if dash and low else float(size)


def pixels(size: Any) -> float | None:
    """A size if it is given as a number or a range; `fitted` refuses anything else."""
    try:
        found = in_pixels(size)
    except (TypeError, ValueError):
        return None
    return found if 0 < found < math.inf else None


def for_objects(
    model: ModelConfig, size: float, image_size: tuple[int, int], margin: float = MARGIN
) -> ModelConfig:
    """The settings for objects of about ``size`` pixels (the larger side): the prior of the scale
    and the size of windows. The ratio of the prior's standard deviation to its mean, 1/15, is the
    paper's.

    Raises:
        InputError: if such objects do not fit the images.
    """
    smaller = min(image_size)
    if not SMALLEST <= size <= smaller:
        rule = f"must be {SMALLEST} to {smaller} pixels, the images' smaller side"
        raise InputError("object_size", rule, size)
    mean = round(smaller / (margin * size), 3)
    window = int(np.clip(round(margin * size), WINDOWS[0], min(WINDOWS[1], smaller)))
    return dataclasses.replace(
        model, scale_prior_mean=mean, scale_prior_sd=round(mean / 15, 3), window_size=window
    )


def otsu(values: np.ndarray) -> int:
    """The threshold of bytes with the largest variance between the two classes (Otsu, 1979)."""
    counts = np.bincount(values.ravel(), minlength=256).astype(float)
    below = np.cumsum(counts)
    total = np.cumsum(counts * np.arange(len(counts)))
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = total / below - (total[-1] - total) / above
    return int(np.nan_to_num(below * above * gap**2).argmax())
