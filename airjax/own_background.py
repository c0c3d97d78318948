"""Backgrounds that each image has of its own, estimated from its pixels."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

OWN = ("flat", "lines")  # the backgrounds that are estimated here
LINE = 0.8  # length of a line, in sides of the image


def own_background(kind: str, images: Float[Array, "*N H W C"]) -> Float[Array, "*N H W C"]:
    """The background of each image, without a gradient.

    Args:
        kind: "flat", one colour for each image, or "lines", horizontal and vertical lines on black.
        images: with an axis of colours.
    """
    estimate = flat if kind == "flat" else lines
    return lax.stop_gradient(estimate(images))


def flat(images: Float[Array, "*N H W C"]) -> Float[Array, "*N H W C"]:
    """The colour of each image's background: the median of its border in each channel."""
    sides = images[..., 0, :, :], images[..., -1, :, :], images[..., 0, :], images[..., -1, :]
    border = jnp.concatenate(sides, axis=-2)
    # of an even number the lower one of the middle two: a colour that is there
    middle = jnp.sort(border, axis=-2)[..., (border.shape[-2] - 1) // 2, :]
    return jnp.broadcast_to(middle[..., None, None, :], images.shape)


def lines(images: Float[Array, "*N H W C"]) -> Float[Array, "*N H W C"]:
    """The lines in each image: the largest intensity that a horizontal or vertical line of most of
    the image through a pixel exceeds everywhere (the maximum of two morphological openings)."""
    return jnp.maximum(_opened(images, images.ndim - 3), _opened(images, images.ndim - 2))


def _opened(images: Array, axis: int) -> Array:
    """The opening with a line along an axis; lines lie within the image."""
    n = images.shape[axis]
    length = max(2, round(LINE * n))
    lowest = _over_runs(jnp.minimum, images, axis, length)
    padding = [(length - 1, length - 1) if i == axis else (0, 0) for i in range(images.ndim)]
    return _over_runs(jnp.maximum, jnp.pad(lowest, padding, constant_values=-jnp.inf), axis, length)


def _over_runs(extreme, values: Array, axis: int, length: int) -> Array:
    """The extreme of each run of this length: by runs of 1, 2, 4, .. values."""
    have = 1
    while have < length:
        more = min(have, length - have)
        n = values.shape[axis]
        first = lax.slice_in_dim(values, 0, n - more, axis=axis)
        values = extreme(first, lax.slice_in_dim(values, more, n, axis=axis))
        have += more
    return values
