"""How much detail objects have, and the model that suits it.

Two close objects differ from one object in the detail of the image: what a Gaussian blur removes,
with a standard deviation of a quarter of an object. Smooth objects (cells, nuclei) have little of
it. With the paper's settings, a pair of them is then drawn as one object: with a standard deviation
of 0.3 two cost more, and a code of 50 numbers can draw any pair. So both follow the detail,
measured in that of a digit in the paper's scenes: the detail of an object is worth as many nats as
a digit's, and the code has as many numbers fewer. Windows are narrower, too.

What lies between objects (texture, shadows, what is out of focus) must not be worth an object. Its
pixels are correlated, while the likelihood takes them for independent. So the standard deviation is
at least that of independent pixels whose sum over the area of an object varies as much.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from airjax.config import LIKELIHOOD_SD
from airjax.object_size import Sizes, contrast, noise, otsu, sizes

BLUR = 4  # objects over the standard deviation of the blur
DIGIT = 29.9  # sum of squares of the detail of a digit, in multi-MNIST
LIGHT = 42.0  # sum of squares of the intensities of a digit there, above Otsu's threshold
SAMPLED = 400  # images
LEAST = 0.05  # standard deviation of a pixel
FREE = 0.1  # clutter is measured if at least this share of a picture is outside its objects
MARGINS = 1.1, 1.5  # sides of a window without any detail, and with that of a digit
CODE = 50, 8  # numbers of the code of a digit, and at least


class Detail(NamedTuple):
    """The detail of objects, and the noise of their images.

    Attributes:
        share: sum of squares over pixels and channels of the detail of one object, without that of
            noise, in that of a digit.
        noise: standard deviation.
        clutter: standard deviation of independent pixels that vary as much over the area of an
            object as what lies between the objects; 0 where objects leave no room.
    """

    share: float
    noise: float
    clutter: float = 0.0


def of_objects(images: Sequence[UInt8[np.ndarray, "_ _ *C"]], sizes: Sizes) -> Detail:
    """The detail of the objects in images.

    Args:
        images: bytes, of any sizes.
        sizes: of the objects, and how many there are to a pixel.
    """
    total, area, noises, between = 0.0, 0, list[float](), list[float]()
    for image in images:
        value = image.astype(np.float32) / 255
        blurred = ndimage.gaussian_filter(value, sizes.typical / BLUR, axes=(0, 1))
        noises.append(noise(value.mean(-1) if value.ndim == 3 else value))
        total += max(0.0, float(np.square(value - blurred).sum()) - value.size * noises[-1] ** 2)
        area += image.shape[0] * image.shape[1]
        between.append(clutter(image, sizes.typical))
    share = total / max(area * sizes.density, 1e-6) / DIGIT
    return Detail(share, float(np.median(noises)), float(np.median(between)))


def clutter(image: UInt8[np.ndarray, "H W *C"], size: float) -> float:
    """`Detail.clutter` of one picture: the standard deviation of sums over squares of the size of
    an object, divided by the square root of the number of their pixels that are free of objects.

    Args:
        image: bytes.
        size: of the objects, in pixels.
    """
    channels, side = image[0, 0].size, max(1, round(size))
    brightest = image.max(-1) if image.ndim == 3 else image
    near = ndimage.maximum_filter(brightest, side // 2 * 2 + 1)
    free = near <= otsu(brightest[None])
    if free.mean() < FREE:
        return 0.0
    value = (image.mean(-1) if image.ndim == 3 else image) / np.float32(255) * channels**0.5
    rest = np.where(free, value - value[free].mean(), np.float32(0))
    share = ndimage.uniform_filter(free.astype(np.float32), side)
    known = share >= 0.5
    sums = side * ndimage.uniform_filter(rest, side)[known] / np.sqrt(share[known])
    return float(sums.std()) if sums.size else 0.0


def likelihood_sd(detail: Detail) -> float:
    """The standard deviation of a pixel for objects with this detail; at least that of noise
    and of clutter."""
    wanted = LIKELIHOOD_SD * np.sqrt(detail.share)
    least = max(LEAST, detail.noise, detail.clutter)
    return round(float(np.clip(wanted, least, LIKELIHOOD_SD)), 3)


def sd_of_objects(images: UInt8[np.ndarray, "N H W *C"]) -> float:
    """The standard deviation of a pixel for bright objects on black: those that are smaller or
    fainter than a digit are worth as many nats as one; not below the noise."""
    images = images[:: max(1, len(images) // SAMPLED)]
    grey = contrast(images)
    level = otsu(grey)
    found = sizes(list(grey), level)
    if found is None or not found.density:
        return LIKELIHOOD_SD
    light = np.square(grey[grey > level] / 255).sum() / (found.density * grey.size)
    noises = [noise(image / np.float32(255)) for image in grey]
    wanted = LIKELIHOOD_SD * np.sqrt(light / LIGHT)
    return round(float(np.clip(wanted, max(LEAST, np.median(noises)), LIKELIHOOD_SD)), 2)


def window_margin(detail: Detail) -> float:
    """The side of a window in objects with this detail. Two smooth objects must not fit into one,
    or it draws both; objects with detail that is cut off would leave it to others."""
    close, wide = MARGINS
    return close + (wide - close) * min(1.0, detail.share)


def latent_size(detail: Detail) -> int:
    """The size of the code of objects with this detail."""
    most, least = CODE
    return int(np.clip(round(most * detail.share), least, most))
