"""The exact sum over counts and kinds in airjax.three_d, against brute force."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers

from airjax.programs.guide import all_on
from airjax.three_d.elbo import KindELBO
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig, SolidsModel
from airjax.three_d.renderer import Camera, table

pytestmark = pytest.mark.slow  # compiles the renderer
CONFIG = SolidsConfig(model_steps=2, camera=Camera(size=12), window=6, hidden=(8,))


def replayed(model, q, images, count, kinds):
    """log p - log q of one count and one combination of kinds, from the programs alone."""
    values = {name: site["value"] for name, site in q.items() if site["type"] == "sample"}
    for t in range(2):
        values[f"z_pres_{t}"] = jnp.full(len(images), float(t < count))
        values[f"z_what_{t}"] = jnp.full(len(images), kinds[t] if t < count else 0)
    p = handlers.trace(handlers.substitute(model, values)).get_trace(images)
    sites = [site for site in p.values() if site["type"] == "sample"]
    log_p = sum(site["fn"].log_prob(site["value"]) for site in sites)
    log_q, weight = 0.0, 1.0
    for t in range(2):
        presence = q[f"z_pres_{t}"]["fn"].probs
        if t < count:
            what = q[f"z_what_{t}"]["fn"].log_prob(values[f"z_what_{t}"])
            log_q = log_q + jnp.log(presence) + what
            of_kinds = q[f"z_where_{t}"]["fn"].base_dist.base_dist
            log_q = log_q + of_kinds.log_prob(values[f"z_where_{t}"])[:, kinds[t]]
            weight = weight * presence * jnp.exp(what)
        elif t == count:
            log_q, weight = log_q + jnp.log1p(-presence), weight * (1 - presence)
    return weight * (log_p - log_q)


def test_the_sum_is_that_of_all_combinations():
    background = table(CONFIG.camera)
    model = SolidsModel(CONFIG, background)
    guide = SolidsGuide(CONFIG, background, key=jax.random.key(0))

    # poses near to where the guide looks, and kinds that are not equally likely
    def biased(b):
        return (2 * b).at[1:4].set(jnp.array([1.0, 0.0, -1.0]))

    guide = eqx.tree_at(lambda g: g.network.layers[-1].weight, guide, replace_fn=lambda w: 0.1 * w)
    guide = eqx.tree_at(lambda g: g.network.layers[-1].bias, guide, replace_fn=biased)
    images = jax.random.uniform(jax.random.key(1), (3, 12, 12, 3), maxval=0.2)
    images = images.at[:, 1:4, 4:7].set(1.0).at[:, 8:11, 4:7].set(0.9)  # far away, and near
    key = jax.random.key(2)
    params = {"guide$params": guide.network}  # drawing them would use the key
    path = handlers.seed(handlers.substitute(guide, params), key)
    path = handlers.substitute(path, substitute_fn=all_on)
    q = handlers.trace(path).get_trace(images)
    terms = [
        replayed(model, q, images, count, kinds)
        for count in range(3)
        for kinds in itertools.product(range(3), repeat=count)
    ]
    # of all combinations, the same object is the farther one
    depths = [
        CONFIG.camera.project(
            jnp.pad(q[f"z_where_{t}"]["value"][..., :2], ((0, 0), (0, 0), (0, 1)))
        )[2]
        for t in range(2)
    ]
    nearer = depths[0][:, :, None] < depths[1][:, None, :]
    assert (nearer == nearer[:, :1, :1]).all()
    exact = KindELBO().per_image(key, params, model, guide, images)
    np.testing.assert_allclose(exact, sum(terms), rtol=2e-5)

    # at a temperature of 11, ten times more of the kinds' divergence from their uniform prior
    apart, present = 0.0, 1.0
    for t in range(2):
        present = present * q[f"z_pres_{t}"]["fn"].probs
        kinds = q[f"z_what_{t}"]["fn"].base_dist.probs
        apart = apart + present * (kinds * jnp.log(3 * kinds)).sum(-1)
    hot = KindELBO(11.0).per_image(key, params, model, guide, images)
    assert (apart > 0.1).all()
    np.testing.assert_allclose(exact - hot, 10 * apart, rtol=0.01)
