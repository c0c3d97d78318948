"""The spatial transformer (Jaderberg et al., 2015) for z_where = (s, x, y): scale and shift only.

z_where maps image coordinates u in [-1, 1] to window coordinates ``s u + (x, y)``. Without
rotation, bilinear sampling is separable: a window is placed with two small matrix products,
``A_y @ window @ A_x.T``, for each colour channel. The values equal those of PyTorch's
``affine_grid`` and ``grid_sample`` with ``align_corners=False`` and zero padding.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def pixel_centres(n: int) -> Float[Array, " n"]:
    """The centres of n pixels in [-1, 1]: ``(2 i + 1) / n - 1``."""
    return (2 * jnp.arange(n, dtype=jnp.float32) + 1) / n - 1


def over_pixels(
    values: Shaped[Array, "*N"], images: Shaped[Array, "*shape"]
) -> Shaped[Array, "..."]:
    """Values, one for each image, with axes of length 1 for pixels and colours."""
    return values.reshape(*values.shape, *[1] * (images.ndim - values.ndim))


def sampling_matrix(
    scale: Float[Array, " N"], shift: Float[Array, " N"], n_out: int, n_in: int
) -> Float[Array, "N n_out n_in"]:
    """Bilinear sampling along one axis: row i has the weights of the input for output pixel i.

    Output coordinate u reads input coordinate ``scale u + shift``. A row is the hat function
    ``max(0, 1 - |pixel - j|)``.
    """
    coordinate = scale[:, None] * pixel_centres(n_out)[None] + shift[:, None]
    pixel = ((coordinate + 1) * n_in - 1) / 2
    inputs = jnp.arange(n_in, dtype=jnp.float32)
    return hat(pixel[..., None] - inputs[None, None])


@jax.custom_jvp
def hat(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``max(0, 1 - |x|)``, the weights of linear interpolation.

    Its derivative is given explicitly. From the chain rule for a maximum and an absolute value, XLA
    makes three arrays, and a training step takes about 3 % longer.
    """
    return jnp.maximum(0, 1 - jnp.abs(x))


@hat.defjvp
def _hat_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    slope = jnp.where(x < 0, 1.0, -1.0)
    return hat(x), jnp.where(jnp.abs(x) < 1, slope, 0.0) * dx


# jitted: a training step calls it for each object under each count, but traces it once
@partial(jax.jit, static_argnames="image_size")
def window_to_image(
    z_where: Float[Array, "N 3"], window: Float[Array, "N h w *C"], image_size: tuple[int, int]
) -> Float[Array, "N H W *C"]:
    """Places each window in an empty image (the tutorial's ``object_to_image``)."""
    s, x, y = z_where.T
    rows = sampling_matrix(s, y, image_size[0], window.shape[1])
    columns = sampling_matrix(s, x, image_size[1], window.shape[2])
    return _resampled(rows, window, columns)


@partial(jax.jit, static_argnames="window_size")
def image_to_window(
    z_where: Float[Array, "N 3"], image: Float[Array, "N H W *C"], window_size: int
) -> Float[Array, "N w w *C"]:
    """Cuts each window out of its image (the tutorial's ``image_to_object``); the inverse map."""
    s, x, y = z_where.T
    rows = sampling_matrix(1 / s, -y / s, window_size, image.shape[1])
    columns = sampling_matrix(1 / s, -x / s, window_size, image.shape[2])
    return _resampled(rows, image, columns)


def _resampled(
    rows: Float[Array, "N H h"], x: Float[Array, "N h w *C"], columns: Float[Array, "N W w"]
) -> Float[Array, "N H W *C"]:
    """``rows @ x @ columns.T`` of each image, and of each channel where there are several."""
    if x.ndim == 3:
        return rows @ x @ columns.mT
    n, h, w, channels = x.shape
    y = rows @ jnp.swapaxes(x, 2, 3).reshape(n, h, channels * w)
    y = y.reshape(n, -1, w) @ columns.mT
    return jnp.swapaxes(y.reshape(n, -1, channels, columns.shape[1]), 2, 3)


def window_boxes(
    z_where: Float[Array, "*N 3"], image_size: tuple[int, int]
) -> Float[Array, "*N 4"]:
    """The outlines of windows in the image: ``x0, y0, x1, y1`` in pixels, possibly outside it."""
    s, x, y = jnp.moveaxis(z_where, -1, 0)
    height, width = image_size
    left, right = ((-1 - x) / s, (1 - x) / s)  # where s u + x is -1, and 1
    top, bottom = ((-1 - y) / s, (1 - y) / s)
    return jnp.stack(
        [
            (left + 1) * width / 2,
            (top + 1) * height / 2,
            (right + 1) * width / 2,
            (bottom + 1) * height / 2,
        ],
        axis=-1,
    )
