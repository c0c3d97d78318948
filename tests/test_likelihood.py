"""The background behind the objects, and the noise of pixels: fixed or learned."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from numpyro import handlers
from numpyro.infer.util import log_density

from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.inference.metrics import empty_elbo
from airjax.programs.elbo import CountELBO
from airjax.programs.likelihood import Likelihood
from airjax.programs.model import presence_probs
from airjax.programs.untrained import untrained
from airjax.training.trainer import Trainer

BACKGROUND = np.linspace(0, 0.6, 30, dtype=np.float32).reshape(5, 6)


def with_ground(background="mean", sd=0.3):
    config = dataclasses.replace(TINY, background=background, likelihood_sd=sd)
    images = np.round(255 * BACKGROUND)[None].astype(np.uint8)
    return Likelihood(config).with_mean_of(images)


def test_without_a_ground_the_canvas_is_the_mean():
    likelihood = Likelihood(TINY)
    canvas = jax.random.uniform(jax.random.key(0), (2, 5, 6))
    np.testing.assert_array_equal(likelihood(canvas).mean, canvas)
    np.testing.assert_array_equal(likelihood.foreground(canvas), canvas)
    assert jax.tree.leaves(likelihood) == []


def test_objects_stand_between_the_ground_and_white():
    likelihood = with_ground()
    np.testing.assert_allclose(likelihood.mean(jnp.zeros((1, 5, 6)))[0], BACKGROUND, atol=2e-3)
    np.testing.assert_allclose(likelihood.mean(jnp.ones((1, 5, 6)))[0], 1)
    half = likelihood.mean(jnp.full((1, 5, 6), 0.5))[0]
    np.testing.assert_allclose(half, (1 + BACKGROUND) / 2, atol=2e-3)
    np.testing.assert_allclose(likelihood.foreground(jnp.asarray(BACKGROUND[None])), 0, atol=2e-3)


def test_the_mean_of_the_images_is_the_background():
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6), np.uint8)
    config = dataclasses.replace(TINY, background="mean")
    backdrop = Likelihood(config).with_mean_of(images).clipped_background
    np.testing.assert_allclose(backdrop, images.mean(0) / 255, rtol=1e-5)


@pytest.mark.parametrize(
    ("background", "sd", "learned"),
    [
        ("none", 0.3, []),
        ("mean", 0.3, []),
        ("mean", "learned", ["log_sd"]),
        ("learned", 0.3, ["background"]),
        ("learned", "learned", ["background", "log_sd"]),
    ],
)
def test_only_what_is_learned_has_a_gradient(background, sd, learned, tiny_images):
    config = dataclasses.replace(TINY, background=background, likelihood_sd=sd)
    model, guide = untrained(config, 0)
    likelihood = model.likelihood.with_mean_of(np.full((1, 5, 6), 100, np.uint8))
    model = dataclasses.replace(model, likelihood=likelihood)
    guide = dataclasses.replace(guide, likelihood=likelihood)
    params = {"likelihood$params": likelihood}
    traced = handlers.trace(handlers.seed(model, 0)).get_trace(tiny_images)
    assert ("likelihood$params" in traced) == bool(learned)

    def loss(params):
        return CountELBO().loss(jax.random.key(1), params, model, guide, tiny_images)

    if learned:
        gradient = jax.grad(loss)(params)["likelihood$params"]
        for name in ("background", "log_sd"):
            values = getattr(gradient, name)
            moves = values is not None and bool(np.any(values))
            assert moves == (name in learned), name


def test_the_gradient_of_the_noise_agrees_with_a_finite_difference(tiny_images):
    config = dataclasses.replace(TINY, likelihood_sd="learned")
    model, guide = untrained(config, 0)

    def loss(log_sd):
        likelihood = eqx.tree_at(lambda x: x.log_sd, model.likelihood, log_sd)
        params = {"likelihood$params": likelihood}
        return CountELBO().loss(jax.random.key(1), params, model, guide, tiny_images)

    at, step = jnp.array(-1.0), 1e-2
    difference = (loss(at + step) - loss(at - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(at), difference, rtol=1e-2)


def test_ground_and_noise_are_learned_and_kept():
    random = np.random.default_rng(0)
    pixels = BACKGROUND + 0.05 * random.standard_normal((200, 5, 6))
    images = np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8)
    model = dataclasses.replace(TINY, background="learned", likelihood_sd="learned")
    config = Config(
        TrainConfig("noise", steps=600, batch_size=32, learning_rate=1e-2),
        model,
        progress=ProgressConfig(600, 600, 600),
    )
    trainer = Trainer(config, images)
    *_, (state, _) = trainer.run(trainer.init())
    likelihood = trainer.programs(state)[0].likelihood
    assert 0.04 < float(likelihood.sd) < 0.07  # it falls from 0.3
    np.testing.assert_allclose(likelihood.clipped_background, images.mean(0) / 255, atol=0.05)


@pytest.mark.slow
def test_squared_errors_weigh_as_at_the_default_however_small_sd_becomes(tiny_images):
    config = dataclasses.replace(TINY, likelihood_sd="learned")
    model, guide = untrained(config, 0)

    def loss(params, sd):
        learned = eqx.tree_at(lambda x: x.log_sd, model.likelihood, jnp.log(sd))
        params = params | {"likelihood$params": learned}
        return CountELBO().loss(jax.random.key(1), params, model, guide, tiny_images)

    params = {"decoder$params": model.decoder, "guide$params": guide.networks}
    want = jax.grad(loss)(params, 0.3)
    for sd, equal in ((0.15, True), (0.05, True), (0.6, False)):
        found = jax.grad(loss)(params, sd)
        close = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-3, atol=1e-3), found, want)
        assert all(jax.tree.leaves(close)) == equal, sd


def test_the_power_of_the_likelihood_has_no_gradient():
    config = dataclasses.replace(TINY, likelihood_sd="learned")

    def power(log_sd):
        return eqx.tree_at(lambda x: x.log_sd, Likelihood(config), log_sd).power

    assert power(jnp.log(0.1)) == pytest.approx(1 / 9)
    assert power(jnp.log(0.6)) == 1
    assert jax.grad(power)(jnp.log(0.1)) == 0
    assert Likelihood(TINY).power == 1


def test_the_empty_model_is_scored_with_the_same_power(tiny_images):
    """What a training is compared with when it is watched is the model's own ELBO of no object."""
    config = dataclasses.replace(TINY, likelihood_sd="learned")
    model, _ = untrained(config, 0)
    learned = eqx.tree_at(lambda x: x.log_sd, model.likelihood, jnp.log(0.1))
    model = dataclasses.replace(model, likelihood=learned)
    bytes_ = np.round(255 * np.asarray(tiny_images)).astype(np.uint8)
    none = {f"z_pres_{t}": jnp.zeros(3) for t in range(config.model_steps)}
    program = handlers.substitute(handlers.seed(model, 0), none)
    log_p = log_density(program, (jnp.asarray(bytes_) / 255,), {}, {})[0] / 3
    p = float(presence_probs(config)[0])
    np.testing.assert_allclose(empty_elbo(bytes_, learned, p), log_p, rtol=1e-4)
