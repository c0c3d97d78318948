"""The estimators against brute force, against each other, and against NumPyro's own."""

import dataclasses

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import TINY
from numpyro import handlers
from numpyro.infer import SVI, Trace_ELBO, TraceGraph_ELBO

from airjax.programs.elbo import CountELBO, CountIWAE, ScoreELBO, log_count_probs
from airjax.programs.untrained import untrained


def trace(program, images):
    return handlers.trace(program).get_trace(images)


def log_prob(sites, only=""):
    return sum(
        site["fn"].log_prob(site["value"])
        for name, site in sites.items()
        if site["type"] == "sample" and name.startswith(only)
    )


def each_count_alone(model, guide, images, steps, key):
    """The ELBO of images with a run of guide and model for each count, with the same noise."""
    total = 0.0
    for n in range(steps + 1):
        z_pres = {f"z_pres_{t}": jnp.full(len(images), float(t < n)) for t in range(steps)}
        q = trace(handlers.substitute(handlers.seed(guide, key), z_pres), images)
        values = {k: site["value"] for k, site in q.items() if site["type"] == "sample"}
        p = trace(handlers.substitute(model, values), images)
        total += jnp.exp(log_prob(q, "z_pres")) * (log_prob(p) - log_prob(q))
    return total


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

    brute_force = jax.jit(lambda key: each_count_alone(model, guide, tiny_images, 2, key))
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

    ours, our_error = moments(exact_count, params, 4_000, seed=2)
    theirs, their_error = moments(score_function, params, 20_000, seed=3)
    error = np.sqrt(our_error + their_error)
    assert np.all(np.abs(ours - theirs) <= 4 * error + 1e-6)
    assert np.mean(np.abs(theirs) > 4 * error) > 0.3  # many entries stand out of the noise


def moments(loss, params, draws, seed):
    """Mean over draws of the gradient of ``loss(params, key)``, and its squared error."""

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


# NumPyro's own


@pytest.mark.slow
def test_numpyros_trace_graph_elbo_has_the_same_mean_gradient(tiny, tiny_images, params):
    def loss(elbo):
        return lambda params, key: elbo.loss(key, params, *tiny, tiny_images)

    ours, our_error = moments(loss(CountELBO()), params, 4_000, seed=4)
    theirs, their_error = moments(loss(TraceGraph_ELBO()), params, 20_000, seed=5)
    error = np.sqrt(our_error + their_error)
    assert np.all(np.abs(ours - theirs) <= 4 * error + 1e-6)
    assert np.mean(np.abs(theirs) > 4 * error) > 0.3


# the importance-weighted bound


def draws(elbo, programs, images, params, number, seed):
    loss = jax.jit(jax.vmap(lambda key: elbo.loss(key, params, *programs, images)))
    return -np.asarray(loss(jax.random.split(jax.random.key(seed), number)), np.float64)


def test_iwae_of_one_path_is_the_elbo(tiny, tiny_images, params):
    a, b = (draws(e, tiny, tiny_images, params, 5, 0) for e in (CountELBO(), CountIWAE()))
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_iwae_rises_with_the_paths_to_log_p_of_the_images(tiny, tiny_images, params):
    """log p(x) by plain Monte Carlo from the prior, which shares nothing with the bound."""
    model = handlers.substitute(tiny[0], params)

    def log_likelihood(key):
        return trace(handlers.seed(model, key), tiny_images)["obs"]["fn"].log_prob(tiny_images)

    keys = jax.random.split(jax.random.key(8), 200_000)
    logs = np.asarray(jax.jit(jax.vmap(log_likelihood))(keys), np.float64)
    weights = np.exp(logs - logs.max(0))
    log_p = (np.log(weights.mean(0)) + logs.max(0)).sum()
    error = np.sqrt((weights.var(0) / weights.mean(0) ** 2 / len(keys)).sum())
    means, errors = [], []
    for k in (1, 4, 200):
        values = draws(CountIWAE(k), tiny, tiny_images, params, 3_000 // k + 100, k)
        means.append(values.mean())
        errors.append(values.std() / np.sqrt(len(values)))
    assert means[1] - means[0] > 4 * np.hypot(*errors[:2])
    assert means[2] - means[1] > 4 * np.hypot(*errors[1:])
    assert means[2] < log_p + 4 * np.hypot(errors[2], error)


def test_iwae_gradient_is_that_of_its_value(tiny, tiny_images, params):
    """All its noise is reparameterised: for one key it is a smooth function of the parameters."""
    flat, unflatten = jax.flatten_util.ravel_pytree(params)
    direction = jax.random.normal(jax.random.key(1), flat.shape)
    direction /= jnp.linalg.norm(direction)

    @jax.jit
    def loss(flat):
        return CountIWAE(3).loss(jax.random.key(2), unflatten(flat), *tiny, tiny_images)

    step = 1e-2
    change = (loss(flat + step * direction) - loss(flat - step * direction)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, change, rtol=0.02)


def test_the_scale_of_handlers_is_kept_by_iwae(tiny, tiny_images, params):
    scaled = [handlers.scale(program, scale=2.5) for program in tiny]
    plain, times = (
        draws(CountIWAE(3), programs, tiny_images, params, 1, 0) for programs in (tiny, scaled)
    )
    np.testing.assert_allclose(times, 2.5 * plain, rtol=1e-5)


# score function and baselines


@pytest.fixture(scope="module")
def with_baseline():
    """Programs with a baseline, and parameters of some size."""
    programs = untrained(TINY, 0, baseline=True)
    images = jax.random.uniform(jax.random.key(7), (3, 5, 6))
    svi = SVI(*programs, optax.sgd(1.0), ScoreELBO())
    params = svi.get_params(jax.jit(svi.init)(jax.random.key(0), images))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    leaves = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return programs, jax.tree.unflatten(structure, leaves), images


def test_the_score_loss_is_the_negative_elbo(with_baseline):
    programs, params, images = with_baseline
    for i in range(5):
        key = jax.random.key(i)
        ours = ScoreELBO().loss(key, params, *programs, images)
        guide, model = (handlers.substitute(program, params) for program in programs[::-1])
        q = trace(handlers.seed(guide, key), images)
        values = {k: site["value"] for k, site in q.items() if site["type"] == "sample"}
        p = trace(handlers.substitute(model, values), images)
        np.testing.assert_allclose(ours, (log_prob(q) - log_prob(p)).sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_score_gradient_is_unbiased_with_any_baseline(with_baseline):
    programs, params, images = with_baseline
    others = {k: v for k, v in params.items() if k != "baseline$params"}

    def loss(elbo):
        return lambda others, key: elbo.loss(key, params | others, *programs, images)

    ours, our_error = moments(loss(ScoreELBO()), others, 20_000, seed=6)
    exact, error = moments(loss(CountELBO()), others, 4_000, seed=7)
    error = np.sqrt(our_error + error)
    assert np.all(np.abs(ours - exact) <= 4 * error + 1e-6)
    assert np.mean(np.abs(exact) > 4 * error) > 0.3


@pytest.mark.slow
def test_nothing_leaks_between_baseline_and_guide(with_baseline):
    programs, params, images = with_baseline
    key = jax.random.key(3)

    def baselines(params):
        q = trace(handlers.seed(handlers.substitute(programs[1], params), key), images)
        return jnp.stack([q["baseline_0"]["value"], q["baseline_1"]["value"]])

    def gradient(programs, params):
        return jax.jit(jax.grad(lambda p: ScoreELBO().loss(key, p, *programs, images)))(params)

    # the baseline's values have no gradient in the guide's parameters, nor the model's
    of_values = jax.jit(jax.grad(lambda p: (baselines(p) ** 2).sum()))(params)
    for name, tree in of_values.items():
        zero = all(not leaf.any() for leaf in jax.tree.leaves(tree))
        assert zero == (name != "baseline$params")

    # a baseline that says 0 has an error, but changes nothing for guide and model
    zeros = jax.tree.map(jnp.zeros_like, params["baseline$params"])
    with_zeros = gradient(programs, params | {"baseline$params": zeros})
    without = gradient((programs[0], dataclasses.replace(programs[1], baseline=None)), params)
    for name in ("guide$params", "decoder$params"):
        for a, b in zip(*map(jax.tree.leaves, (with_zeros[name], without[name])), strict=True):
            # but for rounding: the two are compiled apart
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    # and the baseline's gradient is that of its squared error alone
    costs = downstream_costs(programs, params, images, key)
    error = jax.jit(jax.grad(lambda p: ((costs - baselines(p)) ** 2).sum()))(params)
    ours = gradient(programs, params)
    for a, b in zip(*(jax.tree.leaves(g["baseline$params"]) for g in (ours, error)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


def downstream_costs(programs, params, images, key):
    """What z_pres_t can influence, written out: [T, N]."""
    model, guide = (handlers.substitute(program, params) for program in programs)
    q = trace(handlers.seed(guide, key), images)
    values = {k: site["value"] for k, site in q.items() if site["type"] == "sample"}
    p = trace(handlers.substitute(model, values), images)
    steps = [
        sum(
            p[f"{site}_{t}"]["fn"].log_prob(values[f"{site}_{t}"])
            - q[f"{site}_{t}"]["fn"].log_prob(values[f"{site}_{t}"])
            for site in ("z_pres", "z_where", "z_what")
        )
        for t in (0, 1)
    ]
    likelihood = p["obs"]["fn"].log_prob(images)
    return jnp.stack([likelihood + steps[0] + steps[1], likelihood + steps[1]])


def test_the_baseline_of_a_complete_image_is_zero(with_baseline):
    programs, params, images = with_baseline
    guide = handlers.substitute(programs[1], params)
    off = handlers.substitute(handlers.seed(guide, jax.random.key(0)), {"z_pres_0": jnp.zeros(3)})
    q = trace(off, images)
    assert q["baseline_0"]["value"].all() and not q["baseline_1"]["value"].any()


@pytest.mark.slow
def test_a_trained_baseline_lowers_the_variance(with_baseline):
    programs, params, images = with_baseline
    elbo, fixed = ScoreELBO(), {k: v for k, v in params.items() if k != "baseline$params"}
    adam = optax.adam(1e-2)

    @jax.jit
    def train(baseline):
        def step(carry, key):
            baseline, state = carry
            loss = lambda b: elbo.loss(key, fixed | {"baseline$params": b}, *programs, images)  # noqa: E731
            updates, state = adam.update(jax.grad(loss)(baseline), state)
            return (optax.apply_updates(baseline, updates), state), None

        keys = jax.random.split(jax.random.key(0), 1000)
        return jax.lax.scan(step, (baseline, adam.init(baseline)), keys)[0][0]

    def variance(programs, params):
        loss = lambda p, key: elbo.loss(key, params | p, *programs, images)  # noqa: E731
        return moments(loss, {"guide$params": params["guide$params"]}, 2_000, seed=1)[1].sum()

    trained = params | {"baseline$params": train(params["baseline$params"])}
    none = (programs[0], dataclasses.replace(programs[1], baseline=None))
    assert variance(programs, trained) < 0.7 * variance(none, fixed)
