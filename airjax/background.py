"""Which background images have, found by looking at them."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from airjax.own_background import OWN, flat, lines, own_background

SAMPLED = 500  # images that are looked at
FEW = 3  # fewer images do not tell what they have in common
EVEN = 0.25  # a border varies this much less than from image to image where images are flat
THIN = 0.1  # width, in sides of the image, from which what is bright is no line
LINED = 0.1  # share of the sum of squares from which lines are a background
VISIBLE = 0.03  # root mean square; for the model, black images this far off are worth an object


class Found(NamedTuple):
    """The background of images: a setting, and what was seen."""

    background: str
    seen: str


def look(images: UInt8[np.ndarray, "N H W *C"]) -> Found:
    """The setting of the background that suits images: "flat", "lines", "mean" or "none"."""
    some = images[:: max(1, len(images) // SAMPLED)] / np.float32(255)
    some = some[..., None] if some.ndim == 3 else some
    if len(some) >= FEW:
        colours = np.asarray(flat(jnp.asarray(some)))[:, 0, 0]
        border = np.abs(_border(some) - colours[:, None])
        differs = float(np.sqrt(np.square(colours - colours.mean(0)).mean()))
        if differs > VISIBLE and float(np.median(border.mean((1, 2)))) < EVEN * differs:
            return Found("flat", f"colours of images differ by {100 * differs:.0f} %")
        above = np.maximum(some - np.median(some, axis=0), 0)
        wide = max(3, round(THIN * min(some.shape[1:3])))
        thin = above - ndimage.grey_opening(above, (1, wide, wide, 1))
        lined = float(np.square(lines(jnp.asarray(thin))).mean())
        share = lined / max(float(np.square(above).mean()), 1e-9)
        if np.sqrt(lined) > VISIBLE and share > LINED:
            return Found("lines", f"{100 * share:.0f} % of what images show")
    if is_visible(images):
        return Found("mean", f"{100 * level(images):.0f} % from black")
    return Found("none", "black")


def contrast(images: UInt8[np.ndarray, "N H W *C"]) -> UInt8[np.ndarray, "N H W"]:
    """How far images are from their background, in the channel in which they are farthest."""
    if len(images) < FEW:
        return images.max(-1) if images.ndim == 4 else images
    kind = look(images).background
    if kind in OWN:
        value = images / np.float32(255)
        value = value[..., None] if value.ndim == 3 else value
        far = 255 * np.abs(value - np.asarray(own_background(kind, jnp.asarray(value))))
        return np.round(far).astype(np.uint8).max(-1)
    signed = images.astype(np.int16)
    signed = np.abs(signed - np.median(signed, axis=0).astype(np.int16))
    return (signed.max(-1) if signed.ndim == 4 else signed).astype(np.uint8)


def _border(some: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "N border C"]:
    sides = some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1]
    return np.concatenate(sides, axis=1)


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
