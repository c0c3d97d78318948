"""The guide's attention to colours, for objects that hide others and have about one colour each.

The guide attends to a colour at a place. How much of it is in a pixel (the matte) shows the shape
of that object, whatever hides a part of it or is seen through its holes. All colours are less the
background here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from airjax.programs.spatial import pixel_centres

FAINT = 0.02  # a colour that is nearer to the background has a fainter matte
SIMILAR = 0.1  # standard deviation of the difference between colours that are one


def colour_at(
    place: Float[Array, "N 2"],
    s: float,
    images: Float[Array, "N H W *C"],
    residual: Float[Array, "N H W *C"],
) -> Float[Array, "N C"]:
    """The colour that is attended to at a place: of the pixel with the largest residual, weighted
    less towards the outline of a window of scale s. It has no gradient.

    Args:
        place: x, y in [-1, 1].
        s: scale of the window.
        images: less the background.
        residual: the images where no object is yet, 0 elsewhere.
    """
    n, height, width = images.shape[:3]
    across, down = (
        jnp.maximum(0, 1 - s * jnp.abs(pixel_centres(size)[None] - place[:, axis, None]))
        for axis, size in ((0, width), (1, height))
    )
    light = magnitude(residual) * down[:, :, None] * across[:, None]
    best = light.reshape(n, -1).argmax(-1)
    colours = jnp.take_along_axis(images.reshape(n, height * width, -1), best[:, None, None], 1)
    return jax.lax.stop_gradient(colours[:, 0])


def matte(images: Float[Array, "N H W *C"], colour: Float[Array, "N C"]) -> Float[Array, "N H W"]:
    """How much of a colour is in each pixel, in [0, 1].

    The opacity at which the colour over the background comes nearest to the pixel, times
    ``exp(-d^2 / (2 0.1^2))`` with the distance d that remains: exact where nothing but background
    and an object of this colour is, and near 0 where another colour is.
    """
    pixels = _with_axis(images)
    colour = colour[:, None, None]
    share = (pixels * colour).sum(-1) / (jnp.square(colour).sum(-1) + FAINT**2)
    share = jnp.clip(share, 0, 1)
    distance = jnp.square(pixels - share[..., None] * colour).sum(-1)
    return share * jnp.exp(-distance / (2 * SIMILAR**2))


def magnitude(images: Float[Array, "N H W *C"]) -> Float[Array, "N H W"]:
    """The largest magnitude of each pixel's colours."""
    return jnp.abs(_with_axis(images)).max(-1)


def with_channel(
    images: Float[Array, "N H W *C"], channel: Float[Array, "N H W"]
) -> Float[Array, "N H W K"]:
    """Images with one more channel."""
    return jnp.concatenate([_with_axis(images), channel[..., None]], axis=-1)


def _with_axis(images: Float[Array, "N H W *C"]) -> Float[Array, "N H W K"]:
    return images[..., None] if images.ndim == 3 else images
