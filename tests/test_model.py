"""The generative program: its prior on the count, its sites, its masks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from conftest import TINY
from numpyro import handlers

from airjax.programs.model import geom, geometric_like, presence_probs
from airjax.programs.untrained import untrained


def trace(model, images, values, **kwargs):
    program = handlers.substitute(handlers.seed(model, jax.random.key(0)), values)
    return handlers.trace(program).get_trace(images, **kwargs)


def counts_to_z_pres(counts):
    return {f"z_pres_{t}": jnp.array(counts) > t for t in range(2)}


def test_geometric_like_does_not_underflow():
    """Pyro's numbers for k = 0.01 and T = 3; and a k whose powers are 0 in float32."""
    p = geometric_like(0.01, 3)
    np.testing.assert_allclose(p, [0.00999999, 0.00999901, 0.00990099], rtol=1e-6)
    np.testing.assert_allclose(geometric_like(1e-20, 10), np.full(10, 1e-20), rtol=1e-5)


def test_the_raw_prior_is_the_probability_of_each_step():
    config = dataclasses.replace(TINY, z_pres_prior=0.2, z_pres_prior_raw=True)
    np.testing.assert_allclose(presence_probs(config), [0.2, 0.2])
    np.testing.assert_allclose(presence_probs(config, 0.7), [0.7, 0.7])


@pytest.mark.parametrize("k", [1e-5, 0.01, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_geometric_like_has_a_constant_ratio(k, steps):
    p = np.asarray(geometric_like(k, steps), np.float64)
    went_on = np.cumprod([1.0, *p])
    p_n = went_on * np.array([*(1 - p), 1.0])
    assert p_n.sum() == pytest.approx(1, rel=1e-5)
    expected = k ** np.arange(steps + 1) / (k ** np.arange(steps + 1)).sum()
    # 1 - p_t loses digits where p_t is close to 1
    np.testing.assert_allclose(p_n, expected, rtol=1e-4, atol=1e-7)


def test_sites_have_the_papers_names_and_shapes(tiny, tiny_images):
    sites = trace(tiny[0], tiny_images, {})
    shapes = {n: s["value"].shape for n, s in sites.items() if s["type"] == "sample"}
    assert shapes == {
        "z_pres_0": (3,), "z_where_0": (3, 3), "z_what_0": (3, 2),
        "z_pres_1": (3,), "z_where_1": (3, 3), "z_what_1": (3, 2),
        "obs": (3, 5, 6),
    }  # fmt: skip
    assert sites["decoder$params"]["type"] == "param"


def test_objects_are_added_where_present_and_masked_where_not(tiny, tiny_images):
    model, _ = tiny
    z_pres = counts_to_z_pres([0, 1, 2])
    sites = trace(model, tiny_images, {k: v.astype(jnp.float32) for k, v in z_pres.items()})
    canvas = sum(
        np.asarray(z_pres[f"z_pres_{t}"])[:, None, None] * np.asarray(sites[f"y_{t}"]["value"])
        for t in range(2)
    )
    likelihood = dist.Normal(jnp.asarray(canvas), 0.3).log_prob(tiny_images).sum((1, 2))
    obs = sites["obs"]["fn"].log_prob(tiny_images)
    np.testing.assert_allclose(obs, likelihood, rtol=1e-5)
    for t in range(2):
        for name, loc, scale in (
            ("z_where", np.array([3, 0, 0]), np.array([0.2, 1, 1])),
            ("z_what", np.zeros(2), np.ones(2)),
        ):
            site = sites[f"{name}_{t}"]
            z = (np.asarray(site["value"]) - loc) / scale
            log_p = (-0.5 * z**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)).sum(-1)
            expected = np.where(np.asarray(z_pres[f"z_pres_{t}"]), log_p, 0)
            np.testing.assert_allclose(site["fn"].log_prob(site["value"]), expected, rtol=1e-4)


def test_presence_never_comes_back(tiny):
    images = jnp.zeros((2000, 5, 6))
    sites = trace(tiny[0], images, {}, z_pres_prior=jnp.array([0.5, 0.6]))
    first, second = sites["z_pres_0"]["value"], sites["z_pres_1"]["value"]
    assert not np.any((np.asarray(first) == 0) & (np.asarray(second) == 1))
    np.testing.assert_allclose([first.mean(), second.mean()], [0.5, 0.3], atol=0.05)


def test_without_masking_absent_objects_count(tiny_images):
    model, guide = untrained(dataclasses.replace(TINY, masking=False), 0)
    off = {f"z_pres_{t}": jnp.zeros(3) for t in range(2)}
    for program in (model, guide):
        sites = trace(program, tiny_images, off)
        for name in ("z_where_0", "z_what_1"):
            assert np.all(sites[name]["fn"].log_prob(sites[name]["value"]) != 0)


# the unbounded prior


def test_geom_counts_failures():
    draws = [handlers.seed(geom, jax.random.key(i))(0.4) for i in range(400)]
    assert min(draws) == 0
    # mean (1 - p) / p, variance (1 - p) / p^2
    assert abs(np.mean(draws) - 1.5) < 4 * np.sqrt(0.6 / 0.16 / 400)


def test_geom_prior_continues_step_by_step(tiny):
    """As many sites as steps were taken; the canvas holds what they drew."""
    model, _ = tiny
    counts = set()
    for i in range(12):
        program = handlers.seed(model.geom_prior, jax.random.key(i))
        traced = handlers.trace(program)
        canvas = traced(model.decoder, 0.6)
        sites = traced.trace
        n = sum(name.startswith("z_pres") for name in sites) - 1
        assert [float(sites[f"z_pres_{t}"]["value"][0]) for t in range(n + 1)] == [1.0] * n + [0]
        objects = sum((sites[f"y_{t}"]["value"] for t in range(n)), jnp.zeros((1, 5, 6)))
        np.testing.assert_allclose(canvas, objects, atol=1e-6)
        counts.add(n)
    assert max(counts) > TINY.model_steps  # beyond what T allows


def test_geom_prior_in_batches(tiny):
    model, _ = tiny
    p, n = 0.6, 5000
    draw = jax.jit(
        lambda key, n, p, max_steps: model.geom_prior_batch(key, n, p, max_steps), static_argnums=1
    )
    canvas, count = draw(jax.random.key(0), n, p, 200)
    for k in range(5):
        probability = p**k * (1 - p)
        error = np.sqrt(probability * (1 - probability) / n)
        assert abs(np.mean(np.asarray(count) == k) - probability) < 4 * error
    assert count.max() > 8
    seen = np.asarray(canvas).any((1, 2))
    assert not seen[np.asarray(count) == 0].any()
    assert seen[np.asarray(count) > 0].mean() > 0.5  # an object may lie outside the image
    assert draw(jax.random.key(0), n, p, 3)[1].max() == 3
