"""The exact-count ELBO against brute force, and its gradient against the score function's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO

from airjax.elbo import CountELBO, log_count_probs


def trace(program, images):
    return handlers.trace(program).get_trace(images)


def log_prob(sites, only=""):
    return sum(
        site["fn"].log_prob(site["value"])
        for name, site in sites.items()
        if site["type"] == "sample" and name.startswith(only)
    )


@pytest.fixture(scope="module")
def params(tiny, tiny_images):
    """Parameters far from their initial values, so that counts and places differ by image."""
    svi = SVI(*tiny, optax.sgd(1.0), CountELBO())
    params = svi.get_params(jax.jit(svi.init)(jax.random.key(0), tiny_images))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def test_count_probabilities_of_presence_probabilities():
    p = jnp.array([[0.2, 1.0, 0.0], [0.7, 0.5, 0.3]])
    q = np.exp(log_count_probs(p))
    np.testing.assert_allclose(q[:, 0], [0.8, 0.2 * 0.3, 0.2 * 0.7], rtol=1e-5)
    np.testing.assert_allclose(q[:, 1], [0, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(q[:, 2], [1, 0, 0], atol=1e-6)
    gradient = jax.grad(lambda p: (jnp.exp(log_count_probs(p)) * log_count_probs(p)).sum())(p)
    assert np.isfinite(gradient).all()


def test_value_is_the_sum_over_counts_for_every_draw_of_the_noise(tiny, tiny_images, params):
    """Every count's own run of guide and model, with the noise of the full path."""
    model, guide = (handlers.substitute(program, params) for program in tiny)

    @jax.jit
    def brute_force(key):
        total = 0.0
        for n in range(3):
            z_pres = {f"z_pres_{t}": jnp.full(3, float(t < n)) for t in range(2)}
            q = trace(handlers.substitute(handlers.seed(guide, key), z_pres), tiny_images)
            values = {k: site["value"] for k, site in q.items() if site["type"] == "sample"}
            p = trace(handlers.substitute(model, values), tiny_images)
            total += jnp.exp(log_prob(q, "z_pres")) * (log_prob(p) - log_prob(q))
        return total

    keys = jax.random.split(jax.random.key(0), 20)
    per_image = jax.jit(lambda key: CountELBO().per_image(key, params, *tiny, tiny_images))
    for key in keys:
        np.testing.assert_allclose(per_image(key), brute_force(key), rtol=2e-4)


def test_value_is_unbiased(tiny, tiny_images, params):
    """The mean over many draws agrees with that of NumPyro's estimator, which samples the count."""
    keys = jax.random.split(jax.random.key(1), 10_000)

    def draws(elbo):
        loss = jax.jit(jax.vmap(lambda key: elbo.loss(key, params, *tiny, tiny_images)))
        return np.asarray(loss(keys), np.float64)

    ours, theirs = draws(CountELBO()), draws(Trace_ELBO())
    error = np.sqrt((ours.var() + theirs.var()) / len(keys))
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert ours.var() < theirs.var()


def test_gradient_agrees_with_the_score_functions(tiny, tiny_images, params):
    """Means over many draws, entry by entry, within four standard errors."""

    def score_function(params, key):
        """A surrogate with the gradient of the score-function estimator, no baseline."""
        model, guide = (handlers.substitute(program, params) for program in tiny)
        q = trace(handlers.seed(guide, key), tiny_images)
        values = {k: site["value"] for k, site in q.items() if site["type"] == "sample"}
        elbo = log_prob(trace(handlers.substitute(model, values), tiny_images)) - log_prob(q)
        return -(elbo + jax.lax.stop_gradient(elbo) * log_prob(q, "z_pres")).sum()

    def exact_count(params, key):
        return CountELBO().loss(key, params, *tiny, tiny_images)

    def moments(loss, draws, seed):
        def one(sums, key):
            g = jax.grad(loss)(params, key)
            g = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(g)])
            return (sums[0] + g, sums[1] + g**2), None

        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        zeros = (jnp.zeros(size), jnp.zeros(size))
        keys = jax.random.split(jax.random.key(seed), draws)
        total, squares = jax.jit(lambda keys: jax.lax.scan(one, zeros, keys)[0])(keys)
        mean = np.asarray(total, np.float64) / draws
        return mean, (np.asarray(squares, np.float64) / draws - mean**2) / draws

    ours, our_error = moments(exact_count, 4_000, seed=2)
    theirs, their_error = moments(score_function, 20_000, seed=3)
    error = np.sqrt(our_error + their_error)
    assert np.all(np.abs(ours - theirs) <= 4 * error + 1e-6)
    assert np.mean(np.abs(theirs) > 4 * error) > 0.3  # many entries stand out of the noise


def test_it_works_in_svi_unchanged_and_learns(tiny, tiny_images):
    svi = SVI(*tiny, optax.adam(1e-2), CountELBO())
    result = svi.run(jax.random.key(0), 300, tiny_images, progress_bar=False)
    assert result.losses[-50:].mean() < result.losses[:50].mean() - 1


def test_particles_are_averaged(tiny, tiny_images, params):
    key = jax.random.key(3)
    one, several = (
        jax.jit(lambda key, n=n: CountELBO(n).loss(key, params, *tiny, tiny_images)) for n in (1, 4)
    )
    each = [one(k) for k in jax.random.split(key, 4)]
    np.testing.assert_allclose(several(key), np.mean(each), rtol=1e-5)


def test_the_scale_of_handlers_is_kept(tiny, tiny_images, params):
    scaled = [handlers.scale(program, scale=2.5) for program in tiny]
    key = jax.random.key(4)
    plain, times = (
        jax.jit(lambda programs=programs: CountELBO().loss(key, params, *programs, tiny_images))()
        for programs in (tiny, scaled)
    )
    np.testing.assert_allclose(times, 2.5 * plain, rtol=1e-5)
