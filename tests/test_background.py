"""Backgrounds of images' own are estimated exactly, found by looking, and used by the programs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from airjax.background import contrast, look
from airjax.own_background import flat, lines
from airjax.programs.elbo import CountELBO
from airjax.programs.untrained import untrained


def coloured(n=20, size=24, seed=0):
    """Images of two dark or bright squares, each on a colour of its own; and the colours."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (n, 1, 1, 3)).astype(np.uint8)
    images = np.broadcast_to(colours, (n, size, size, 3)).copy()
    for image in images:
        for y, x in random.integers(0, size - 6, (2, 2)):
            image[y : y + 6, x : x + 6] = random.integers(0, 256, 3)
    return images, colours


def ruled(n=20, size=24, seed=0):
    """Images of a square over lines of 100 at random offsets; and the lines."""
    random = np.random.default_rng(seed)
    backgrounds = np.zeros((n, size, size), np.uint8)
    for background, (top, left) in zip(backgrounds, random.integers(0, 6, (n, 2)), strict=True):
        background[top::6] = background[:, left::6] = 100
    images = backgrounds.copy()
    for image, (y, x) in zip(images, random.integers(0, size - 8, (n, 2)), strict=True):
        image[y : y + 8, x : x + 8] = 220
    return images, backgrounds


def test_flat_is_the_colour_behind_the_objects():
    images, colours = coloured()
    estimate = np.asarray(flat(jnp.asarray(images / np.float32(255))))
    np.testing.assert_array_equal(
        estimate, np.broadcast_to(colours, images.shape) / np.float32(255)
    )


def test_lines_are_those_behind_the_objects():
    images, backgrounds = ruled()
    estimate = lines(jnp.asarray(images[..., None] / np.float32(255)))
    np.testing.assert_array_equal(np.asarray(estimate)[..., 0], backgrounds / np.float32(255))


def test_lines_are_the_openings_of_scipy():
    from scipy import ndimage

    image = np.random.default_rng(0).random((20, 15)).astype(np.float32)
    padded = np.pad(image, 20, constant_values=-1)  # lines lie within the image
    openings = [ndimage.grey_opening(padded, size) for size in ((1, 12), (16, 1))]
    want = np.maximum(*openings)[20:-20, 20:-20]
    np.testing.assert_array_equal(np.asarray(lines(jnp.asarray(image[..., None])))[..., 0], want)


@pytest.mark.parametrize(("images", "want"), [
    (coloured()[0], "flat"),
    (ruled()[0], "lines"),
    (np.full((9, 12, 12), 60, np.uint8), "mean"),
    (np.zeros((9, 12, 12), np.uint8), "none"),
    (coloured()[0][:2], "none"),  # too few to tell
])  # fmt: skip
def test_the_background_is_found_by_looking(images, want):
    assert look(images).background == want


def test_photographs_are_not_flat():
    """Their borders vary as much as the pictures do from each other."""
    random = np.random.default_rng(0)
    slopes = np.linspace(0, 1, 24)[None, :, None] * random.random((20, 1, 1))
    images = 255 * (0.6 * slopes + 0.4 * random.random((20, 1, 1)) + np.zeros((1, 1, 24)))
    images = images.astype(np.uint8)
    assert look(images).background == "mean"


def test_contrast_is_the_distance_from_the_background():
    images, colours = coloured()
    far = np.abs(images.astype(int) - colours).max(-1)
    np.testing.assert_allclose(contrast(images), far, atol=1)
    images, backgrounds = ruled()
    np.testing.assert_allclose(contrast(images), images - backgrounds, atol=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flat", "lines"])
def test_an_image_of_its_background_is_explained_without_objects(kind):
    """log p(x | n = 0) is that of exact pixels; and the guide reads a black image."""
    flat_ones = np.broadcast_to(coloured(4)[1], (4, 24, 24, 3))
    images = jnp.asarray((flat_ones if kind == "flat" else ruled(4)[1]) / np.float32(255))
    config = dataclasses.replace(TINY, background=kind).for_images(images.shape[1:])
    model, guide = untrained(config, 0)
    bound = model.likelihood.of(images)
    np.testing.assert_array_equal(np.asarray(bound.foreground(images)), 0)
    exact = bound(jnp.zeros((4, *config.canvas_shape))).log_prob(images)
    np.testing.assert_allclose(exact, -np.log(0.3 * np.sqrt(2 * np.pi)), rtol=1e-5)
    elbo = CountELBO().per_image(jax.random.key(0), {}, model, guide, images)
    assert (
        np.isfinite(elbo).all() and elbo.max() < exact.sum((1, 2) + (3,) * (exact.ndim - 3)).max()
    )
