"""Reading images: the posterior over the count, boxes, and independence of the batches."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from numpyro import handlers

from airjax.inference import infer
from airjax.inference.explained import tight_boxes
from airjax.inference.infer import read
from airjax.inference.metrics import importance_weighted_bound
from airjax.inference.reading import Reading
from airjax.inference.steps import with_steps
from airjax.programs.elbo import CountELBO, CountIWAE, log_count_probs
from airjax.programs.guide import all_on_trace
from airjax.programs.spatial import window_boxes, window_to_image

IMAGES = np.random.default_rng(1).integers(0, 256, (7, 5, 6)).astype(np.uint8)


@pytest.fixture(scope="module")
def reading(tiny):
    return read(*tiny, IMAGES, seed=3, num_paths=400)


def test_shapes(reading):
    shapes = {name: array.shape for name, array in reading._asdict().items()}
    assert shapes == {
        "elbo": (7,), "count_probs": (7, 3), "sampled_count": (7,), "z_where": (7, 2, 3),
        "z_what": (7, 2, 2), "windows": (7, 2, 3, 3), "window_boxes": (7, 2, 4),
        "tight_boxes": (7, 2, 4), "reconstruction": (7, 5, 6), "unexplained": (7,),
        "weakest": (7,), "segments": (7, 5, 6),
    }  # fmt: skip


@pytest.mark.slow
def test_counts_are_distributed_as_the_guides_samples(tiny, reading):
    _, guide = tiny
    images = jnp.asarray(IMAGES) / 255

    def count(key):
        trace = handlers.trace(handlers.seed(guide, key)).get_trace(images)
        return sum(trace[f"z_pres_{t}"]["value"] for t in range(2))

    counts = np.asarray(jax.vmap(count)(jax.random.split(jax.random.key(9), 20_000)))
    sampled = np.stack([(counts == n).mean(0) for n in range(3)], axis=1)
    np.testing.assert_allclose(reading.count_probs.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(reading.count_probs, sampled, atol=0.02)
    np.testing.assert_allclose(
        reading.scores, np.stack([(counts > t).mean(0) for t in range(2)], axis=1), atol=0.02
    )


def test_one_sample_of_the_count_follows_the_same_distribution(tiny):
    many = np.repeat(IMAGES[:1], 3000, axis=0)
    many[:, 0, 0], many[:, 0, 1] = np.arange(3000) % 256, np.arange(3000) // 256  # own keys
    reading = read(*tiny, many, seed=0, num_paths=1)
    sampled = np.bincount(reading.sampled_count, minlength=3) / 3000
    np.testing.assert_allclose(sampled, reading.count_probs.mean(0), atol=0.04)


def test_results_do_not_depend_on_the_batches(tiny, monkeypatch):
    whole = read(*tiny, IMAGES, seed=5, num_paths=3)
    monkeypatch.setattr(infer, "BATCH", 3)
    parts = read(*tiny, IMAGES, seed=5, num_paths=3)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_boxes_windows_and_reconstruction_belong_together(tiny, reading):
    model, _ = tiny
    for i, count in enumerate(reading.count):
        objects = window_to_image(
            jnp.asarray(reading.z_where[i]), jnp.asarray(reading.windows[i]), TINY.image_size
        )
        np.testing.assert_allclose(reading.reconstruction[i], objects[:count].sum(0), atol=1e-5)
        expected = model.decoder(jnp.asarray(reading.z_what[i]))
        np.testing.assert_allclose(reading.windows[i], expected, atol=1e-5)
    boxes = window_boxes(jnp.asarray(reading.z_where), TINY.image_size)
    np.testing.assert_allclose(reading.window_boxes, boxes, rtol=1e-5)


def test_tight_boxes_are_around_the_visible_pixels():
    objects = np.zeros((2, 6, 8), np.float32)
    objects[0, 1:4, 2] = objects[0, 2, 2:7] = 0.5
    objects[0, 5, 7] = 0.05  # too faint
    otherwise = jnp.array([[0.0, 0.0, 1.0, 1.0], [1.5, 2.5, 3.5, 4.5]])
    boxes = tight_boxes(jnp.asarray(objects), otherwise)
    np.testing.assert_array_equal(boxes, [[2, 1, 7, 4], [1.5, 2.5, 3.5, 4.5]])


def test_an_empty_object_is_one_that_is_counted_and_draws_nothing():
    windows = np.zeros((4, 2, 3, 3))
    windows[0, 0, 1, 1] = windows[1, 1, 0, 2] = windows[3, :, 2, 2] = 0.5
    windows[1, 0] = 0.06  # visible if pixels vary little
    probs = np.eye(3)[[1, 2, 0, 2]]  # the most probable counts
    blank = np.zeros((4, 2, 1))
    reading = Reading(blank, probs, blank, blank, blank, windows, blank, blank, blank)
    assert reading.has_empty_object(0.3).tolist() == [False, True, False, False]
    assert not reading.has_empty_object(0.1).any()


def test_a_large_window_is_one_that_is_counted_and_has_a_small_scale():
    z_where = np.full((5, 2, 3), [3.0, 0.1, 0.1])
    z_where[0, 0, 0], z_where[1, 1, 0], z_where[2, 1, 0], z_where[3, 0, 0] = 1.9, 1.9, 1.9, -1.9
    z_where[4, 0, 0] = -3.0  # mirrored, and no larger than others
    probs = np.eye(3)[[1, 1, 2, 2, 1]]
    blank = np.zeros((5, 2, 1))
    reading = Reading(blank, probs, blank, z_where, blank, blank, blank, blank, blank)
    assert reading.has_window_larger_than(2.0).tolist() == [True, False, True, True, False]


@pytest.mark.slow  # compiles much
def test_importance_weighted_bound_is_the_estimators(tiny):
    values = np.stack([importance_weighted_bound(*tiny, IMAGES, 20, seed=s) for s in range(10)])
    images = jnp.asarray(IMAGES) / 255
    iwae = jax.jit(lambda key: CountIWAE(20).per_image(key, {}, *tiny, images))
    other = np.stack([iwae(jax.random.key(s)) for s in range(10)])
    error = np.sqrt((values.var(0) + other.var(0)) / 10)
    assert np.all(np.abs(values.mean(0) - other.mean(0)) < 5 * error)
    elbo = np.stack([read(*tiny, IMAGES, seed=s, num_paths=5).elbo for s in range(10)])
    assert np.all(values.mean(0) > elbo.mean(0))


def with_p(guide, p):
    """The guide with z_pres_t = 1 of probability p at every step and in every image."""
    layers = guide.networks.predict.mlp.layers
    last = layers[-1]
    bias = last.bias.at[0].set(jnp.log(p) - jnp.log1p(-p))
    new = (last.weight.at[:, 0].set(0.0), bias)
    return eqx.tree_at(
        lambda g: (
            g.networks.predict.mlp.layers[-1].weight,
            g.networks.predict.mlp.layers[-1].bias,
        ),
        guide,
        new,
    )


@pytest.mark.slow  # compiles much
@pytest.mark.parametrize(("p", "steps"), [(1e-4, 1), (0.2, 4), (0.5, 9), (0.99, 30)])
def test_steps_go_on_until_every_image_has_stopped(tiny, p, steps):
    """p^n falls to one in a thousand after 4 steps of p = 0.2, 9 of 0.5; 30 was the limit."""
    model, guide = with_steps(tiny[0], with_p(tiny[1], p), IMAGES, 30)
    assert model.config == guide.config
    assert guide.config.model_steps == steps
    if steps < 10:
        reading = read(model, guide, IMAGES, num_paths=1)
        expected = p ** np.arange(steps + 1) * np.array([*[1 - p] * steps, 1])
        np.testing.assert_allclose(reading.count_probs, np.tile(expected, (7, 1)), rtol=1e-3)


def test_a_program_trained_without_masks_is_read_with_masks(tiny):
    config = dataclasses.replace(TINY, masking=False)
    plain = [dataclasses.replace(program, config=config) for program in tiny]
    for a, b in zip(read(*plain, IMAGES), read(*tiny, IMAGES), strict=True):
        np.testing.assert_array_equal(a, b)


def test_counts_and_elbo_are_means_over_paths(tiny):
    """Each path traced twice: for q(n), and by the estimator."""
    found = read(*tiny, IMAGES, seed=3, num_paths=4, second_look=False)
    model, guide = infer.masked(*tiny)
    keys = infer._split(infer._keys(np.uint32(3), infer._contents(IMAGES)), 4)[:, 1:]
    for i, image in enumerate(IMAGES[:2]):
        some = jnp.asarray(image[None], jnp.float32) / 255
        q_n, elbo = [], []
        for key in keys[i]:
            sites = all_on_trace(guide, some, key)["z_pres"]
            p = jnp.stack([site["fn"].probs for site in sites])
            q_n.append(jnp.exp(log_count_probs(p))[:, 0])
            elbo.append(CountELBO().per_image(key, {}, model, guide, some)[0])
        np.testing.assert_allclose(found.count_probs[i], jnp.stack(q_n).mean(0), rtol=1e-4)
        np.testing.assert_allclose(found.elbo[i], jnp.stack(elbo).mean(), rtol=1e-4)
