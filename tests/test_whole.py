"""Pictures of any size, read by the guide that attends: objects, residual, worth, blocks."""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from scipy import stats

from airjax.config import ModelConfig
from airjax.inference import looks, moves, whole
from airjax.inference.slots import TOGETHER, Slots, State, added, cut, drawn, middles, start
from airjax.inference.whole import Reader
from airjax.programs.spatial import pixel_centres
from airjax.programs.untrained import untrained

SMALL = ModelConfig(
    guide="attend", background="none", model_steps=3, z_pres_prior=0.5, window_size=7,
    scale_prior_mean=3.0, encoder_latent_size=2, rnn_hidden_size=8, predict_net=(5,),
    encoder_net=(5,), decoder_net=(5,), embed_net=(5,), image_size=(21, 21),
)  # fmt: skip


class Discs(eqx.Module):
    """Draws the same disc for each code, brighter or darker with the first latent."""

    def __call__(self, z_what):
        u = pixel_centres(SMALL.window_size)
        disc = jnp.exp(-4 * (u[:, None] ** 2 + u[None] ** 2))
        return jnp.clip(0.7 + 0.3 * z_what[:, :1, None], 0, 1) * disc


class Centroid(eqx.Module):
    """Of what is in the window, and how much there is."""

    def __call__(self, windows):
        size, wide = SMALL.window_size, pixel_centres(SMALL.window_size) * 2
        light = jnp.clip(windows.reshape(-1, 2, size, size)[:, 1], 0, 1)
        light = light * jnp.exp(-3 * (wide[:, None] ** 2 + wide[None] ** 2))
        total = light.sum((1, 2)) + 1e-6
        x, y = (light * wide[None, None]).sum((1, 2)), (light * wide[None, :, None]).sum((1, 2))
        return jnp.stack([total, x / total, y / total], axis=1)


class Bright(eqx.Module):
    """A disc is present if the window is bright, at the centroid."""

    def __call__(self, h):
        # a window of scale s is centred at u where s u + x = 0; h is in sides of half a window
        where = jnp.stack([0 * h[:, 0], -h[:, 1], -h[:, 2]], axis=1)
        return jax.nn.sigmoid(20 * (h[:, 0] - 0.5)), where, jnp.full_like(where, 0.1)


class NoCode(eqx.Module):
    """All discs are alike."""

    def __call__(self, windows):
        return jnp.zeros((len(windows), 2)), jnp.ones((len(windows), 2))


def a_reader(**settings):
    """Programs that find discs."""
    model, guide = untrained(dataclasses.replace(SMALL, **settings), 0)
    model = eqx.tree_at(lambda m: m.decoder, model, Discs())
    return model, eqx.tree_at(
        lambda g: (g.networks.embed, g.networks.predict, g.networks.encoder, g.decoder),
        guide, (Centroid(), Bright(), NoCode(), Discs()),
    )  # fmt: skip


def a_picture(centres, shape):
    """Discs at these places (x, y, in pixels), as bytes."""
    x, y = np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5
    picture = np.zeros(shape)
    for u, v in centres:
        r = ((x - u) / 3.5) ** 2 + ((y[:, None] - v) / 3.5) ** 2
        picture += 0.7 * np.exp(-4 * r) * (r < 2)
    return np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)


def apart(number, shape, least, seed=0):
    """Random places with a least distance."""
    random, found = np.random.default_rng(seed), []
    while len(found) < number:
        at = random.uniform((2, 2), (shape[1] - 2, shape[0] - 2))
        if all(np.hypot(*(at - other)) > least for other in found):
            found.append(at)
    return np.array(found)


def centres(objects):
    return (objects.window_boxes[:, :2] + objects.window_boxes[:, 2:]) / 2


@pytest.mark.slow
def test_what_has_changed_around_an_object():
    """Only there are objects inferred again."""
    reader = Reader(*a_reader())
    picture = a_picture([(15, 15), (45, 15), (15, 45)], (60, 60))
    image = jnp.pad(jnp.asarray(picture, jnp.float32) / 255, [(10, 21), (10, 21)])
    state = reader.read(jnp.asarray(picture, jnp.float32) / 255, 32)
    assert state.slots.on[:3].all() and not reader.changed(state, state.residual)[:3].any()
    assert reader.changed(state, jnp.full_like(image, jnp.inf))[:3].all()
    sd = float(reader.model.likelihood.sd)
    at = np.asarray(state.slots.corner + (middles(state.slots.seen.where)[:, ::-1] + 1) * 10.5)[:3]
    second = np.linalg.norm(at - [10 + 15, 10 + 45], axis=1).argmin()  # row, column of the block
    for size, expected in ((0.9, []), (1.1, [second])):
        before = state.residual.at[10 + 15, 10 + 45].add(size * whole.UNCHANGED * sd)
        assert np.flatnonzero(reader.changed(state, before)[:3]).tolist() == expected


class Nothing(eqx.Module):
    """Draws nothing."""

    def __call__(self, z_what):
        return jnp.zeros((len(z_what), SMALL.window_size, SMALL.window_size))


def test_the_search_ends_if_the_guide_finds_what_the_model_does_not_draw():
    """It must not find the same object at the same place until there is no room."""
    model, guide = a_reader()
    model = eqx.tree_at(lambda m: m.decoder, model, Nothing())
    reader = Reader(model, guide)
    image = jnp.pad(jnp.asarray(a_picture([(20, 20)], (40, 40)) / 255.0), [(10, 21), (10, 21)])
    state = start(image, 64, 2, reader.patch)
    middle = jnp.zeros((1, 2))
    here = cut(image, jnp.array([[20, 20]]), reader.patch)
    assert float(reader.look(here, here, middle).p[0]) > 0.5  # the guide is sure
    assert int(reader.search(image, (40, 40), state, jnp.array(True)).used) == 0


# one step of reading


@pytest.fixture(scope="module")
def read_by_chance():
    """A state of untrained networks, which find something everywhere, and the block."""
    model, guide = untrained(dataclasses.replace(SMALL, z_pres_prior=1.0), 3)
    reader = Reader(model, guide)
    block = jax.random.uniform(jax.random.key(1), (40, 50)) ** 3
    image = jnp.pad(block, [(10, 21), (10, 21)])
    state = start(image, 64, 2, (21, 21))
    return reader, block, image, reader.search(image, block.shape, state, jnp.array(False))


def on_canvas(state, shape):
    """The sum of all objects."""
    return added(jnp.zeros(shape), state.slots.corner, drawn(state.slots))


@pytest.mark.parametrize("step", ["search", "sweep", "split", "drop", "prune"])
def test_the_residual_is_the_image_less_all_objects(read_by_chance, step):
    reader, _, image, state = read_by_chance
    assert int(state.slots.on.sum()) > 5
    if step != "search":
        take = getattr(moves if step in ("split", "drop") else Reader, step)
        args = (state,) if step == "prune" else (image, state)
        args += (state.slots.on,) if step in ("sweep", "split") else ()
        state = eqx.filter_jit(take)(reader, *args)
    assert isinstance(state, State)
    rest = image - on_canvas(state, image.shape)
    np.testing.assert_allclose(state.residual, rest, atol=1e-5)


def test_worth_is_the_change_of_the_log_probability_and_the_volume(read_by_chance):
    """Against the log-probabilities of the model's own sites, in nats."""
    reader, _, _, state = read_by_chance
    slots, others = state.chunk(jnp.arange(TOGETHER), reader.patch)
    k = int(slots.on.argmax())
    model = reader.model
    config = dataclasses.replace(model.config, model_steps=1, z_pres_prior=1.0)
    one = dataclasses.replace(model, config=config)
    where, what = slots.seen.where[k][None], slots.seen.what[k][None]

    def log_p(n):
        values = {"z_pres_0": jnp.full(1, float(n)), "z_where_0": where, "z_what_0": what}
        traced = handlers.trace(handlers.substitute(one, values)).get_trace(others[k][None])
        return float(traced["obs"]["fn"].log_prob(others[k][None])[0])

    want = log_p(1) - log_p(0) - float(slots.seen.cost[k])
    np.testing.assert_allclose(reader.worth(others, slots.seen)[k], want, rtol=1e-4)


def test_the_cost_of_latents_gives_the_exact_evidence_of_a_linear_model():
    """x = a z + noise with z ~ N(m, s^2): Laplace's approximation is exact."""
    a, m, s, sd = np.array([[1.5, 0.2], [-0.4, 0.9], [0.3, 0.0]]), 0.3, 0.8, 0.5
    a, _ = np.linalg.qr(a)  # so that the posterior's covariance is diagonal, as the guide's is
    x = np.array([0.7, -1.1, 0.4])
    precision = 1 / s**2 + 1 / sd**2
    mean = (m / s**2 + a.T @ x / sd**2) / precision
    scale = np.full_like(mean, precision**-0.5)
    cost = looks._cost(jnp.array(mean)[None], jnp.array(scale)[None], m, s)[0]
    approximate = stats.norm.logpdf(x, a @ mean, sd).sum() - float(cost)
    covariance = s**2 * a @ a.T + sd**2 * np.eye(3)
    exact = stats.multivariate_normal.logpdf(x, a @ np.full(2, m), covariance)
    assert approximate == pytest.approx(exact, abs=1e-5)


def test_a_sweep_raises_the_worth_of_objects_that_are_alone():
    model, guide = a_reader()
    reader = Reader(model, guide)
    image = jnp.pad(jnp.asarray(a_picture([(20.4, 18.8)], (40, 40)) / 255.0), [(10, 21), (10, 21)])
    state = reader.search(image, (40, 40), start(image, 32, 2, (21, 21)), jnp.array(True))
    assert int(state.slots.on.sum()) == 1
    before = float(state.slots.worth[0])
    after = [before]
    for _ in range(3):
        state = reader.sweep(image, state, state.slots.on)
        after.append(float(state.slots.worth[0]))
    assert all(b >= a - 1e-3 for a, b in itertools.pairwise(after))


def placed(reader, image, where):
    """A state with discs at these places of the block (x, y, in pixels)."""
    state = start(image, 32, 2, reader.patch)
    for x, y in where:
        corner = jnp.array([[int(y), int(x)]])
        middle = jnp.stack([pixel_centres(n)[n // 2] for n in reader.patch[::-1]])[None]
        here = cut(state.residual, corner, reader.patch)
        seen = reader.look_in(here, here, middle)
        state = state.with_more(Slots(corner, seen, reader.worth(here, seen), jnp.array([True])))
    return state


def test_one_object_over_two_becomes_two():
    model, guide = a_reader(likelihood_sd=0.1)
    reader = Reader(model, guide)
    image = jnp.asarray(a_picture([(16, 20), (23, 20)], (40, 40)) / 255.0)
    image = jnp.pad(image, [(10, 21), (10, 21)])
    state = placed(reader, image, [(19, 20)])
    state = moves.split(reader, image, state, state.slots.on)
    assert int(state.slots.on.sum()) == 2
    x = (middles(state.slots.seen.where)[:2, 0] + 1) * 10.5 + state.slots.corner[:2, 1] - 10
    np.testing.assert_allclose(np.sort(x), [16, 23], atol=1.5)


def test_two_objects_over_one_become_one():
    model, guide = a_reader(likelihood_sd=0.1)
    reader = Reader(model, guide)
    image = jnp.asarray(a_picture([(20, 20)], (40, 40)) / 255.0)
    image = jnp.pad(image, [(10, 21), (10, 21)])
    state = placed(reader, image, [(18, 20), (22, 20)])
    assert int(state.slots.on.sum()) == 2
    state = moves.drop(reader, image, state)
    assert int(state.slots.on.sum()) == 1
    rest = image - on_canvas(state, image.shape)
    np.testing.assert_allclose(state.residual, rest, atol=1e-5)


def test_one_of_three_objects_over_two_is_removed():
    """The other two are inferred again."""
    model, guide = a_reader(likelihood_sd=0.1)
    reader = Reader(model, guide)
    image = jnp.asarray(a_picture([(16, 20), (24, 20)], (40, 40)) / 255.0)
    image = jnp.pad(image, [(10, 21), (10, 21)])
    state = placed(reader, image, [(16, 20), (23, 20), (26, 20)])
    state = moves.drop(reader, image, state)
    assert int(state.slots.on.sum()) == 2
    for _ in range(3):
        state = reader.sweep(image, state, state.slots.on)
    x = (middles(state.slots.seen.where)[:3, 0] + 1) * 10.5 + state.slots.corner[:3, 1] - 10
    np.testing.assert_allclose(np.sort(x[state.slots.on[:3]]), [16, 24], atol=1)


def test_those_that_are_close_are_never_updated_together(read_by_chance):
    reader, _, _, state = read_by_chance
    turns = np.asarray(reader.turns(state, state.slots.on))
    on = np.asarray(state.slots.on)
    half = np.array(reader.patch) / 2
    at = np.asarray(state.slots.corner + (middles(state.slots.seen.where)[:, ::-1] + 1) * half)
    far = np.linalg.norm(at[:, None] - at[None], axis=-1)
    pair = on[:, None] & on[None] & np.tri(len(on), k=-1, dtype=bool)
    together = (turns[:, None] == turns[None]) & pair
    assert together.any() and far[together].min() >= 2 * reader.side
    earlier = (far < 2 * reader.side) & pair
    assert (turns[:, None] > turns[None])[earlier].all()


def test_an_object_that_explains_nothing_is_removed():
    model, guide = a_reader()
    reader = Reader(model, guide)
    image = jnp.zeros((71, 71))
    state = reader.prune(placed(reader, image, [(15, 15)]))
    assert not state.slots.on.any()
    np.testing.assert_allclose(state.residual, 0, atol=1e-6)


# the number of independent objects
