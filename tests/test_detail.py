"""The detail of objects decides the standard deviation of a pixel, codes, and windows."""

import numpy as np
import pytest
from scipy import ndimage

from airjax.config import ModelConfig
from airjax.data import make
from airjax.data.composer import SceneConfig
from airjax.detail import (
    BLUR,
    DIGIT,
    LIGHT,
    Detail,
    clutter,
    latent_size,
    likelihood_sd,
    of_objects,
    sd_of_objects,
    window_margin,
)
from airjax.object_size import Sizes


def blobs(sigma, contrast=0.7, noise=0.0, number=40):
    """Pictures of 60 x 60 with one Gaussian blob each, as bytes."""
    random = np.random.default_rng(0)
    images = np.zeros((number, 60, 60))
    images[:, 30, 30] = 1
    images = ndimage.gaussian_filter(images, (0, sigma, sigma))
    images = contrast * images / images.max() + random.normal(0, noise, images.shape)
    return np.round(255 * np.clip(images, 0, 1)).astype(np.uint8)


def test_the_detail_of_a_blob_is_that_of_the_difference_of_two_gaussians():
    """Against the integral: blurring turns the sigma s into sqrt(s^2 + b^2)."""
    sigma, size = 4.0, 16.0
    b = size / BLUR
    wide = sigma**2 + b**2
    square = 0.7**2 * np.pi * (sigma**2 + sigma**4 / wide - 4 * sigma**4 / (sigma**2 + wide))
    sizes = Sizes(size, size, size, 1 / 3600, 1)
    found = of_objects(list(blobs(sigma)), sizes)
    assert found.share * DIGIT == pytest.approx(square, rel=0.03)
    assert found.noise == pytest.approx(0, abs=0.01)


def test_noise_is_no_detail():
    sizes = Sizes(16.0, 16.0, 16.0, 1 / 3600, 1)
    clear, noisy = (of_objects(list(blobs(2.0, noise=n) // 2 + 60), sizes) for n in (0.0, 0.02))
    assert noisy.noise > 0.003 > clear.noise
    assert noisy.share == pytest.approx(clear.share, rel=0.25)


@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("sigma", [0.0, 2.0])
def test_clutter_is_that_of_independent_pixels(sigma, channels):
    """Against the integral of the autocorrelation exp(-u^2 / 4 sigma^2) of smooth noise, times the
    share 1 - u / side of a square that is seen at a distance u; of white noise it is the noise."""
    side, random = 12, np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(300, 400)), sigma, mode="wrap")
    exact = 0.04 * (2 * sigma * np.pi**0.5 - 4 * sigma**2 / side if sigma else 1.0)
    picture = 0.3 + 0.04 * smooth / smooth.std()
    for x, y in random.integers(0, 300, (30, 2)):  # objects are no clutter
        picture[x : x + side, y : y + side] = 0.95
    picture = np.round(255 * picture).astype(np.uint8)
    if channels is not None:  # each has the same: evidence is counted for each of them
        picture, exact = np.repeat(picture[..., None], channels, -1), exact * channels**0.5
    assert clutter(picture, float(side)) == pytest.approx(exact, rel=0.15)


def test_where_objects_leave_no_room_there_is_no_clutter():
    crowded = np.zeros((60, 60), np.uint8)
    crowded[::8, ::8] = 255
    assert clutter(crowded, 16.0) == 0
    assert clutter(np.zeros((60, 60), np.uint8), 16.0) == 0
    assert clutter(blobs(4.0)[0], 16.0) < 0.03


def test_a_digit_has_the_detail_of_a_digit():
    scenes = make("digits", "train", SceneConfig(num_scenes=400, counts=(1,)))
    sizes = Sizes(20.0, 20.0, 20.0, 1 / 2500, 1)
    assert of_objects(list(scenes.images), sizes).share == pytest.approx(1, rel=0.35)


@pytest.mark.parametrize(
    ("detail", "sd", "latents", "margin"),
    [
        (Detail(1.0, 0.01), 0.3, 50, 1.5),
        (Detail(4.0, 0.01), 0.3, 50, 1.5),
        (Detail(0.25, 0.01), 0.15, 12, 1.2),
        (Detail(0.25, 0.2), 0.2, 12, 1.2),
        (Detail(0.0, 0.0), 0.05, 8, 1.1),
        (Detail(0.0, 0.9), 0.3, 8, 1.1),
        (Detail(0.04, 0.01, 0.13), 0.13, 8, 1.116),
        (Detail(0.25, 0.01, 0.13), 0.15, 12, 1.2),
    ],
)
def test_sd_codes_and_windows_follow_the_detail(detail, sd, latents, margin):
    assert window_margin(detail) == pytest.approx(margin)
    assert likelihood_sd(detail) == pytest.approx(sd)
    assert latent_size(detail) == latents
    ModelConfig(likelihood_sd=likelihood_sd(detail), encoder_latent_size=latent_size(detail))


@pytest.mark.slow
def test_small_and_faint_objects_are_worth_as_many_nats_as_a_digit():
    def squares(side, value):
        images = np.zeros((8, 40, 40), np.uint8)
        for i, image in enumerate(images):
            image[2 * i : 2 * i + side, 3 * i : 3 * i + side] = round(255 * value)
        return images

    large, small, faint = squares(9, 1.0), squares(4, 1.0), squares(8, 0.4)
    assert sd_of_objects(large) == 0.3
    assert sd_of_objects(small) == pytest.approx(0.3 * (16 / LIGHT) ** 0.5, abs=0.006)
    assert sd_of_objects(faint) == pytest.approx(0.3 * (64 * 0.16 / LIGHT) ** 0.5, abs=0.006)
    assert sd_of_objects(np.zeros((3, 40, 40), np.uint8)) == 0.3
    noise = np.random.default_rng(0).integers(0, 256, (20, 24, 24)).astype(np.uint8)
    assert sd_of_objects(noise) == 0.3  # nothing of the size of an object


@pytest.mark.slow
def test_the_scenes_of_small_digits_have_a_smaller_sd():
    paper, small = (make("digits", "train", SceneConfig(num_scenes=400, object_size=side))
                    for side in (28, 14))  # fmt: skip
    assert sd_of_objects(paper.images) == pytest.approx(0.3, abs=0.01)
    assert sd_of_objects(small.images) == pytest.approx(0.15, abs=0.05)
