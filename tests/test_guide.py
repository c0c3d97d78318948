"""The guide: the model's latent sites, cut windows, learned initial state."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import TINY
from numpyro import handlers
from numpyro.infer import SVI

from airjax.config import ModelConfig
from airjax.programs.elbo import CountELBO, log_count_probs
from airjax.programs.guide import all_on
from airjax.programs.networks import LSTM, LSTMState
from airjax.programs.spatial import image_to_window, window_to_image
from airjax.programs.untrained import GUIDES, untrained


def trace(guide, images):
    return handlers.trace(handlers.seed(guide, jax.random.key(0))).get_trace(images)


@pytest.mark.parametrize("name", GUIDES)
def test_every_guide_has_the_models_latent_sites(name, tiny_images):
    model, guide = untrained(dataclasses.replace(TINY, guide=name), 0)
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
    state = lstm(lstm.image(x), z, LSTMState(h, c))
    weight = np.concatenate([lstm.image.weight, lstm.latents.weight, lstm.hidden.weight])
    gates = np.concatenate([x, z, h], axis=1) @ weight + np.asarray(lstm.image.bias)
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


# the guide that looks where most is left

ATTEND = ModelConfig(
    background="none",
    model_steps=3, window_size=6, encoder_latent_size=3, rnn_hidden_size=8, predict_net=(5,),
    encoder_net=(5,), decoder_net=(5,), embed_net=(5,), guide="attend", image_size=(24, 24),
)  # fmt: skip


def places(guide, images):
    """Where each step looks, in pixels, with windows drawn."""
    guide = eqx.tree_at(lambda g: g.decoder, guide, lambda z_what: jnp.ones((len(z_what), 6, 6)))
    _, state = guide.start(guide.networks, images)
    found = []
    for _ in range(guide.config.model_steps):
        place, *_ = guide.attend(guide.networks, images, jnp.zeros((len(images), 0)), state)
        found.append((np.asarray(place) + 1) * np.array(images.shape[2:0:-1]) / 2 - 0.5)
        # a white square around the attended place
        s = ATTEND.scale_prior_mean
        z_where = jnp.concatenate([jnp.full((len(images), 1), s), -s * place], axis=-1)
        z_what = jnp.zeros((len(images), 3))
        state = state._replace(residual=guide.explained(state, images, None, z_where, z_what)[0])
    return np.stack(found, axis=1)


def squares(*corners, side=5, size=(24, 24)):
    image = np.zeros(size, np.float32)
    for i, (top, left) in enumerate(corners):
        image[top : top + side, left : left + side] = 1 - 0.2 * i
    return jnp.asarray(image[None])


def test_the_guide_looks_at_each_object_the_brightest_first():
    _, guide = untrained(ATTEND, 0)
    found = places(guide, squares((2, 3), (14, 1), (10, 16)))[0]
    np.testing.assert_allclose(found, [[5, 4], [3, 16], [18, 12]], atol=1)


def test_what_is_attended_to_does_not_depend_on_the_place():
    _, guide = untrained(ATTEND, 0)
    here, there = squares((5, 5)), squares((12, 9))
    _, state = guide.start(guide.networks, here)
    place, features, _ = guide.attend(guide.networks, here, jnp.zeros((1, 0)), state)
    _, state = guide.start(guide.networks, there)
    moved, same, _ = guide.attend(guide.networks, there, jnp.zeros((1, 0)), state)
    np.testing.assert_allclose(moved - place, [[4 / 12, 7 / 12]], atol=1e-6)
    np.testing.assert_allclose(features, same, atol=1e-5)


@pytest.mark.parametrize("colours", [1, 3])
def test_the_residual_is_the_image_less_the_objects(colours):
    """As the model draws them, and without a gradient."""
    config = dataclasses.replace(ATTEND, channels=colours)
    model, guide = untrained(config, 0)
    images = jax.random.uniform(jax.random.key(0), (2, *config.image_shape))
    z_where = jnp.array([[3.0, 0.2, -0.5], [2.5, 0.0, 1.0]])
    z_what = jax.random.normal(jax.random.key(1), (2, 3))
    y = window_to_image(z_where, model.decoder(z_what), (24, 24))
    _, start = guide.start(guide.networks, images)
    found, canvas = guide.explained(start, images, None, z_where, z_what)
    np.testing.assert_allclose(found, images - y, atol=1e-6)
    assert canvas is None

    def total(z_what):
        return guide.explained(start, images, None, z_where, z_what)[0].sum()

    np.testing.assert_array_equal(jax.grad(total)(z_what), 0)


def test_it_has_no_memory():
    """A step reads the residual, and neither latents nor presence of the steps before."""
    _, guide = untrained(ATTEND, 0)
    images = squares((2, 3), (14, 1))
    _, state = guide.start(guide.networks, images)
    other = state._replace(z_where=state.z_where + 1, z_what=state.z_what - 1, z_pres=jnp.zeros(1))
    nothing = jnp.zeros((1, 0))
    for x, y in zip(
        guide.attend(guide.networks, images, nothing, state)[:2],
        guide.attend(guide.networks, images, nothing, other)[:2],
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)
    assert guide.networks.rnn is None


@pytest.mark.slow
def test_it_is_a_guide_like_the_others():
    """The same sites, gradients for all weights, and no gradient through the place."""
    images = jnp.concatenate([squares((2, 3)), squares((2, 3), (14, 1))])
    model, guide = untrained(ATTEND, 0)
    theirs = trace(untrained(dataclasses.replace(ATTEND, guide="window"), 0)[1], images)
    ours = trace(guide, images)
    assert [name for name in ours if name != "decoder$params"] == list(theirs)

    def loss(networks):
        changed = dataclasses.replace(guide, networks=networks)
        return CountELBO().loss(jax.random.key(0), {}, model, changed, images)

    gradients = eqx.filter_grad(loss)(guide.networks)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all() and np.any(leaf)


# the guide that reads the residual with an LSTM

DIFFERENCE = dataclasses.replace(TINY, guide="difference")


@pytest.mark.parametrize("settings", [
    {}, {"compose": "over", "encoder_latent_size": 4, "channels": 3},
])  # fmt: skip
def test_the_difference_guide_reads_the_residual(settings):
    """LSTM and encoder, at the second step; with the first object's place and code as drawn."""
    config = dataclasses.replace(DIFFERENCE, **settings)
    model, guide = untrained(config, 0)
    images = jax.random.uniform(jax.random.key(7), (3, *config.image_shape))
    sites = trace(guide, images)
    z_where, z_what = (sites[f"{name}_0"]["value"] for name in ("z_where", "z_what"))
    y = window_to_image(z_where, model.decoder(z_what), config.image_size)
    residual = images - model.likelihood.mean(y)
    what = sites["z_what_1"]["fn"].base_dist.base_dist
    x_att = image_to_window(sites["z_where_1"]["value"], residual, config.window_size)
    np.testing.assert_allclose(what.loc, guide.networks.encoder(x_att)[0], rtol=1e-4, atol=1e-6)

    networks = guide.networks
    latents = jnp.concatenate([z_where, z_what, sites["z_pres_0"]["value"][:, None]], axis=-1)
    _, start = guide.start(networks, images)
    read = [networks.rnn.image(networks.embed(x)) for x in (images, residual)]
    state = networks.rnn(read[1], latents, networks.rnn(read[0], start.latents, start.rnn))
    p, *_ = networks.predict(state.h)
    expected = jnp.where(sites["z_pres_0"]["value"] == 1, p, 0)
    assert expected.any()
    np.testing.assert_allclose(sites["z_pres_1"]["fn"].probs, expected, rtol=1e-4)


@pytest.mark.parametrize(("name", "flows"), [("difference", True), ("attend", False)])
def test_only_the_difference_guide_has_a_gradient_through_the_canvas(name, flows, tiny_images):
    _, guide = untrained(dataclasses.replace(TINY, guide=name), 0)
    _, state = guide.start(guide.networks, tiny_images)
    z_where, z_what = jnp.tile(jnp.array([3.0, 0.2, 0.1]), (3, 1)), jnp.ones((3, 2))

    def left(z_where, z_what, decoder):
        changed = dataclasses.replace(guide, decoder=decoder)
        return (changed.explained(state, tiny_images, None, z_where, z_what)[0] ** 2).sum()

    gradients = jax.tree.leaves(jax.grad(left, argnums=(0, 1, 2))(z_where, z_what, guide.decoder))
    assert all(bool(jnp.any(g != 0)) == flows for g in gradients)
