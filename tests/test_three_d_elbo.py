"""The exact sum over counts and kinds in airjax.three_d, against brute force."""

import itertools

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
            log_q = log_q + q[f"z_where_{t}"]["fn"].log_prob(values[f"z_where_{t}"])
            weight = weight * presence * jnp.exp(what)
        elif t == count:
            log_q, weight = log_q + jnp.log1p(-presence), weight * (1 - presence)
    return weight * (log_p - log_q)


def test_the_sum_is_that_of_all_combinations():
    background = table(CONFIG.camera)
    model = SolidsModel(CONFIG, background)
    guide = SolidsGuide(CONFIG, background, key=jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 12, 12, 3))
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
    exact = KindELBO().per_image(key, params, model, guide, images)
    np.testing.assert_allclose(exact, sum(terms), rtol=2e-5)
