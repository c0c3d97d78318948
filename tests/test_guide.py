"""The guide: the model's latent sites, cut windows, learned initial state."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from conftest import TINY
from numpyro import handlers
from numpyro.infer import SVI

from airjax.elbo import CountELBO, all_on, log_count_probs
from airjax.networks import LSTM, LSTMState, linear
from airjax.spatial import image_to_window
from airjax.train import untrained


def trace(guide, images):
    return handlers.trace(handlers.seed(guide, jax.random.key(0))).get_trace(images)


def test_the_guide_has_the_models_latent_sites(tiny, tiny_images):
    model, guide = tiny
    ours = {
        n: s["value"].shape for n, s in trace(guide, tiny_images).items() if s["type"] == "sample"
    }
    program = handlers.seed(model, jax.random.key(0))
    theirs = {
        n: s["value"].shape
        for n, s in handlers.trace(program).get_trace(tiny_images).items()
        if s["type"] == "sample" and not s["is_observed"]
    }
    assert {n: s for n, s in ours.items() if n.startswith("z_")} == theirs


def test_z_what_is_read_off_the_window_at_z_where(tiny, tiny_images):
    _, guide = tiny
    sites = trace(guide, tiny_images)
    x_att = image_to_window(sites["z_where_1"]["value"], tiny_images, TINY.window_size)
    loc, scale = guide.networks.encoder(x_att)
    what = sites["z_what_1"]["fn"].base_dist.base_dist
    np.testing.assert_allclose(what.loc, loc, rtol=1e-6)
    np.testing.assert_allclose(what.scale, scale, rtol=1e-6)


def test_the_recurrent_core_is_an_lstm():
    """Against the equations written out with one concatenated input."""
    lstm = LSTM(5, 3, 4, key=jax.random.key(0))
    x, z, h, c = (jax.random.normal(jax.random.key(i), (2, n)) for i, n in enumerate((5, 3, 4, 4)))
    state = lstm(linear(lstm.image, x), z, LSTMState(h, c))
    weight = np.concatenate([lstm.image.weight, lstm.latents.weight, lstm.hidden.weight], axis=1)
    gates = np.concatenate([x, z, h], axis=1) @ weight.T + np.asarray(lstm.image.bias)
    i, f, g, o = np.split(gates, 4, axis=1)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    expected = sigmoid(f) * np.asarray(c) + sigmoid(i) * np.tanh(g)
    np.testing.assert_allclose(state.c, expected, rtol=1e-5)
    np.testing.assert_allclose(state.h, sigmoid(o) * np.tanh(expected), rtol=1e-5)


def test_every_weight_has_a_gradient(tiny_images):
    """A weight without one would never be learned; the embedding net's too."""
    model, guide = untrained(dataclasses.replace(TINY, embed_net=(6,)), 0)
    svi = SVI(model, guide, optax.sgd(1.0), CountELBO())
    params = svi.get_params(jax.jit(svi.init)(jax.random.key(0), tiny_images))

    @jax.jit
    @jax.grad
    def gradients(params):
        return CountELBO(num_particles=8).loss(jax.random.key(1), params, model, guide, tiny_images)

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(params)):
        assert jnp.any(gradient != 0), jax.tree_util.keystr(path)


def test_exploration_draws_the_count_from_a_mixture_with_the_uniform(tiny_images):
    _, guide = untrained(dataclasses.replace(TINY, model_steps=3), 0)

    def count_probs(epsilon):
        path = handlers.substitute(handlers.seed(guide, jax.random.key(0)), substitute_fn=all_on)
        q = handlers.trace(path).get_trace(tiny_images, exploration=epsilon)
        return jnp.exp(log_count_probs(jnp.stack([q[f"z_pres_{t}"]["fn"].probs for t in range(3)])))

    own = count_probs(0.0)
    np.testing.assert_allclose(count_probs(0.4), 0.6 * own + 0.4 / 4, rtol=1e-5)
    np.testing.assert_allclose(count_probs(1.0), 1 / 4, rtol=1e-5)


def test_gradients_stay_finite_where_an_object_is_out_of_the_question(tiny_images):
    """sigmoid(-60) squared is 0 in float32."""
    model, guide = untrained(TINY, 0)
    bias = guide.networks.predict.mlp.layers[-1].bias
    surely_none = bias.at[0].set(-60.0)
    guide = eqx.tree_at(lambda g: g.networks.predict.mlp.layers[-1].bias, guide, surely_none)
    svi = SVI(model, guide, optax.sgd(1.0), CountELBO())
    params = svi.get_params(jax.jit(svi.init)(jax.random.key(0), tiny_images))

    @jax.jit
    def gradients(epsilon):
        def loss(params):
            return CountELBO().loss(
                jax.random.key(1), params, model, guide, tiny_images, exploration=epsilon
            )

        return jax.grad(loss)(params)

    for epsilon in (0.0, 0.5, 1.0):
        for gradient in jax.tree.leaves(gradients(epsilon)):
            assert np.isfinite(gradient).all()


def test_the_basic_guide_reads_z_what_off_the_lstm(tiny_images):
    """No window: z_what of the first step knows nothing of where z_where was drawn."""
    config = dataclasses.replace(TINY, guide="basic")
    _, guide = untrained(config, 0)
    assert guide.networks.encoder.mlp.sizes[0] == TINY.rnn_hidden_size

    def z_what_loc(z_where):
        program = handlers.substitute(
            handlers.seed(guide, jax.random.key(0)), {"z_where_0": jnp.full((3, 3), z_where)}
        )
        return (
            handlers.trace(program).get_trace(tiny_images)["z_what_0"]["fn"].base_dist.base_dist.loc
        )

    np.testing.assert_array_equal(z_what_loc(1.0), z_what_loc(2.0))
