"""How the objects of a scene make an image: they are added up, or hide what is behind them.

``add`` is the paper's: the canvas is the sum of the objects y_t. With ``over``, an object has an
opacity in each pixel, as a last channel after its colours, which are multiplied by it
(Porter and Duff, Compositing digital images, 1984). Objects are in the order of the steps: the
first one is in front. So a step sees what earlier steps have not explained, and its object lies
behind theirs. A canvas has the channels of objects.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from airjax.config import Compose
from airjax.programs.spatial import over_pixels


def behind(
    compose: Compose, canvas: Float[Array, "*shape"], y: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """A canvas with one more object, which is behind all others."""
    return canvas + (y if compose == "add" else (1 - canvas[..., -1:]) * y)


def composed(
    compose: Compose, objects: Float[Array, "T *shape"], on: Bool[Array, "T *N"]
) -> Float[Array, "*shape"]:
    """The canvas of those objects that are on."""
    objects = jnp.where(over_pixels(on, objects), objects, 0)
    if compose == "add":
        return objects.sum(0)
    canvas = jnp.zeros_like(objects[0])
    for y in objects:
        canvas = behind(compose, canvas, y)
    return canvas


def segments(
    compose: Compose, objects: Float[Array, "T *shape"], on: Bool[Array, " T"], visible: float
) -> Int[Array, "H W"]:
    """Which object each pixel shows, from 1; 0 is the background. Where objects are added up, it is
    the brightest one, if it is brighter than ``visible``; where they hide each other, the one of
    which most is seen, if it is more than is seen of the background."""
    objects = jnp.where(over_pixels(on, objects), objects, 0)
    if compose == "over":
        opacity = objects[..., -1]
        seen = jnp.cumprod(jnp.concatenate([jnp.ones_like(opacity[:1]), 1 - opacity]), axis=0)
        share, background = opacity * seen[:-1], seen[-1]
    else:
        share = objects.max(-1) if objects.ndim == 4 else objects
        background = jnp.full_like(share[0], visible)
    return jnp.concatenate([background[None], share]).argmax(0)


def on_background(
    compose: Compose, canvas: Float[Array, "*canvas"], b: Float[Array, "H W *C"] | None
) -> Float[Array, "*image"]:
    """The mean of the pixels: a canvas over the background b, which is black if it is None.

    Of sums it is ``b + (1 - b) canvas``, so that an object of intensity 1 is white on any
    background.
    """
    if compose == "add":
        return canvas if b is None else b + (1 - b) * canvas
    colours = without_opacity(compose, canvas)
    return colours if b is None else colours + (1 - _opacity(canvas)) * b


def without_opacity(compose: Compose, objects: Float[Array, "*canvas"]) -> Float[Array, "*image"]:
    """Objects, windows or canvases as they look on black."""
    if compose == "add":
        return objects
    return objects[..., 0] if _is_grey(objects) else objects[..., :-1]


def _opacity(canvas: Float[Array, "*canvas"]) -> Float[Array, "*shape"]:
    """The opacity, so that it can be multiplied by an image."""
    return canvas[..., 1] if _is_grey(canvas) else canvas[..., -1:]


def _is_grey(canvas: Float[Array, "*canvas"]) -> bool:
    return canvas.shape[-1] == 2  # images in colours have two channels at least
