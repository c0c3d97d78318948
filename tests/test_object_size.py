"""The size of objects, estimated without labels, and the prior made of it."""

import dataclasses

import numpy as np
import pytest

from airjax.config import ModelConfig
from airjax.data import DATASETS, make
from airjax.data.composer import SceneConfig
from airjax.errors import InputError
from airjax.object_size import estimate, fitted, for_objects


def typical(data):
    """The median larger side of the true boxes."""
    width, height = data.boxes[..., 2] - data.boxes[..., 0], data.boxes[..., 3] - data.boxes[..., 1]
    return np.median(np.maximum(width, height)[data.labels >= 0])


@pytest.mark.parametrize("object_size", [16, 28, 48])
@pytest.mark.parametrize("pool", ["digits", "sprites"])
def test_the_size_of_objects_is_seen(pool, object_size):
    config = SceneConfig(
        num_scenes=60, height=100, width=120, counts=(1, 2, 3), object_size=object_size,
        overlap="apart",
    )  # fmt: skip
    data = make(pool, "test", config)
    assert estimate(data.images) == pytest.approx(typical(data), rel=0.2)


def test_noise_and_a_ground_do_not_matter():
    data = make("digits", "test", SceneConfig(num_scenes=100))
    random = np.random.default_rng(0)
    backdrop = np.linspace(0, 0.6, 50)
    noisy = data.images / 255 + backdrop + 0.1 * random.standard_normal(data.images.shape)
    images = np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
    assert estimate(images) == pytest.approx(typical(data), rel=0.2)


def test_nothing_is_seen_in_empty_images():
    assert estimate(np.zeros((10, 20, 20), np.uint8)) is None
    assert estimate(np.full((10, 20, 20, 3), 255, np.uint8)) is None


def test_the_window_at_the_mean_scale_holds_the_object():
    made = for_objects(ModelConfig(), 20.0, (80, 120))
    assert 80 / made.scale_prior_mean == pytest.approx(26, rel=1e-3)
    assert made.window_size == 26
    assert made.scale_prior_sd == pytest.approx(made.scale_prior_mean / 15, rel=1e-2)
    assert for_objects(ModelConfig(), 60.0, (80, 120)).window_size == 28
    assert for_objects(ModelConfig(), 3.0, (80, 120)).window_size == 8


@pytest.mark.parametrize("size", [1.0, 81.0, float("nan")])
def test_objects_must_fit_the_images(size):
    with pytest.raises(InputError, match="object_size must be 2 to 80 pixels, the images' smaller"):
        for_objects(ModelConfig(), size, (80, 120))


def test_sprites_have_a_size_too():
    config = dataclasses.replace(DATASETS["sprites"].scenes, num_scenes=300)
    assert estimate(make("sprites", "train", config).images) == pytest.approx(14, abs=1)


def test_an_estimate_always_fits_the_images():
    """What is longer than the images' smaller side is no mistake of the user."""
    images = np.zeros((5, 20, 60), np.uint8)
    for i, image in enumerate(images):
        image[3 * i : 3 * i + 4, 5:45] = 255
    made, size = fitted(ModelConfig(), None, images)
    assert size == 20
    assert made.scale_prior_mean == pytest.approx(1 / 1.3, rel=1e-2) and made.window_size == 20
    assert fitted(ModelConfig(), None, images[:, :2]) == (ModelConfig(), None)
