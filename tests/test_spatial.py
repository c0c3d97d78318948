"""The spatial transformer against SciPy's bilinear interpolation, its inverse, and its boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.ndimage import map_coordinates

from airjax.programs.spatial import hat, image_to_window, window_boxes, window_to_image

pytestmark = pytest.mark.usefixtures("strict")

Z_WHERE = jnp.array([[3.0, 0.0, 0.0], [2.2, 0.7, -0.4], [4.1, -1.3, 2.0], [1.0, 0.0, 0.0]])


def interpolated(source, scale, shift, shape):
    """``source`` at scale u + shift for pixel centres u of an image of this shape, zero outside."""

    def pixels(n_out, n_in, offset):
        u = (2 * np.arange(n_out) + 1) / n_out - 1
        return ((scale * u + offset + 1) * n_in - 1) / 2

    x, y = shift
    rows = pixels(shape[0], source.shape[0], y)
    columns = pixels(shape[1], source.shape[1], x)
    grid = np.meshgrid(rows, columns, indexing="ij")
    # grid-constant: beyond the last pixel centre the value fades linearly to zero
    return map_coordinates(source, grid, order=1, mode="grid-constant", cval=0.0)


@pytest.mark.parametrize("image_size", [(50, 50), (17, 40)])
def test_a_window_is_placed_as_bilinear_interpolation_does(image_size):
    windows = jax.random.uniform(jax.random.key(0), (4, 20, 20))
    placed = window_to_image(Z_WHERE, windows, image_size)
    for z, window, result in zip(np.asarray(Z_WHERE), windows, placed, strict=True):
        expected = interpolated(np.asarray(window), z[0], z[1:], image_size)
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("image_size", [(50, 50), (17, 40)])
def test_a_window_is_cut_out_by_the_inverse_map(image_size):
    images = jax.random.uniform(jax.random.key(1), (4, *image_size))
    cut = image_to_window(Z_WHERE, images, 20)
    for z, image, result in zip(np.asarray(Z_WHERE), images, cut, strict=True):
        expected = interpolated(np.asarray(image), 1 / z[0], -z[1:] / z[0], (20, 20))
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_gradients_agree_with_finite_differences():
    # of the squares: the sum alone hardly depends on the place
    windows = jax.random.uniform(jax.random.key(2), (1, 4, 4))
    images = jax.random.uniform(jax.random.key(3), (1, 7, 9))
    z_where = jnp.array([[2.13, 0.31, -0.22]])
    check_grads(
        lambda z, w: (window_to_image(jnp.asarray(z), jnp.asarray(w), (7, 9)) ** 2).sum(),
        (z_where, windows), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3,
    )  # fmt: skip
    check_grads(
        lambda z, i: (image_to_window(jnp.asarray(z), jnp.asarray(i), 4) ** 2).sum(),
        (z_where, images), order=1, modes=["rev"], atol=2e-2, rtol=2e-2, eps=1e-3,
    )  # fmt: skip


def test_the_hat_has_the_derivative_that_the_chain_rule_gives():
    x = jnp.linspace(-2, 2, 81) + 0.01  # not its corners
    np.testing.assert_array_equal(hat(x), np.maximum(0, 1 - np.abs(x)))
    theirs = jax.grad(lambda x: jnp.maximum(0, 1 - jnp.abs(x)).sum())(x)
    np.testing.assert_array_equal(jax.grad(lambda x: hat(x).sum())(x), theirs)


def test_the_box_is_where_the_window_is():
    z_where = jnp.array([[2.0, 0.0, 0.0], [2.5, 0.5, -0.25]])
    boxes = window_boxes(z_where, (40, 80))
    np.testing.assert_allclose(boxes[0], [20, 10, 60, 30], atol=1e-4)
    # width W / s centred at (1 - x / s) W / 2, height H / s centred at (1 - y / s) H / 2
    centre, size = ((1 - 0.5 / 2.5) * 40, (1 + 0.25 / 2.5) * 20), (80 / 2.5, 40 / 2.5)
    expected = [centre[0] - size[0] / 2, centre[1] - size[1] / 2,
                centre[0] + size[0] / 2, centre[1] + size[1] / 2]  # fmt: skip
    np.testing.assert_allclose(boxes[1], expected, atol=1e-4)
    placed = window_to_image(z_where, jnp.ones((2, 20, 20)), (40, 80))
    for image, (x0, y0, x1, y1) in zip(np.asarray(placed) > 0.5, np.asarray(boxes), strict=True):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(seen, [x0, y0, x1, y1], atol=1)


def test_colours_are_placed_and_cut_out_as_each_alone():
    windows = jax.random.uniform(jax.random.key(4), (4, 20, 18, 3))
    images = jax.random.uniform(jax.random.key(5), (4, 17, 40, 3))
    placed, cut = (
        window_to_image(Z_WHERE, windows, (17, 40)),
        image_to_window(Z_WHERE, images, 20),
    )
    for c in range(3):
        alone = window_to_image(Z_WHERE, windows[..., c], (17, 40))
        np.testing.assert_allclose(placed[..., c], alone, atol=1e-5)
        alone = image_to_window(Z_WHERE, images[..., c], 20)
        np.testing.assert_allclose(cut[..., c], alone, atol=1e-5)
