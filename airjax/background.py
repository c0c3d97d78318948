"""Whether images have a background that is not black, found by looking at them."""

import numpy as np
from jaxtyping import UInt8

SAMPLED = 500  # images that are looked at
VISIBLE = 0.03  # root mean square; for the model, black images this far off are worth an object


def level(images: UInt8[np.ndarray, "N H W *C"]) -> float:
    """How far the background is from black: the root mean square of the median image.

    In an image of 50 x 50 whose background is 0.03 off, an object that draws the background gains
    2500 x 0.03^2 / (2 x 0.3^2) = 12.5 nats, about what it costs.

    Args:
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``.

    Returns:
        an intensity in [0, 1].
    """
    some = images[:: max(1, len(images) // SAMPLED)]
    return float(np.sqrt(np.mean((np.median(some, axis=0) / 255) ** 2)))


def is_visible(images: UInt8[np.ndarray, "N H W *C"]) -> bool:
    """Whether images have a background that the model has to know of. Fewer than three images do
    not tell."""
    return len(images) > 2 and level(images) > VISIBLE
