"""Pictures of any size, read by the guide that attends: objects, residual, worth, blocks."""

import dataclasses
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, eager
from hypothesis import given, settings
from hypothesis import strategies as st
from numpyro import handlers
from scipy import stats

from airjax.air import AIR
from airjax.config import ModelConfig
from airjax.errors import InputError
from airjax.inference import blocks, looks, moves, whole
from airjax.inference.results import poisson_binomial
from airjax.inference.slots import TOGETHER, Slots, State, added, cut, drawn, middles, start
from airjax.inference.whole import Reader
from airjax.programs.model import where_prior
from airjax.programs.spatial import pixel_centres, window_to_image
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


def test_several_pictures_are_read_at_the_same_time_in_their_order(monkeypatch):
    model, guide = a_reader()
    monkeypatch.setattr(blocks, "SIDE", 64)
    shapes = [(50, 60), (150, 130), (64, 64), (20, 90), (100, 70)]
    pictures = [a_picture(apart(8, shape, 8, seed=i), shape) for i, shape in enumerate(shapes)]
    alone = [blocks.find(model, guide, picture) for picture in pictures]
    monkeypatch.setattr(blocks, "cores", lambda: 3)
    monkeypatch.setattr(blocks, "AHEAD", 1)
    taken = []
    together = blocks.find_each(model, guide, (taken.append(1) or each for each in pictures))
    assert next(together).number == alone[0].number and len(taken) == 2  # no more than must be
    for a, b in zip(alone[1:], together, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


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


@pytest.mark.parametrize(("shape", "number"), [((60, 90), 12), ((300, 280), 150), ((9, 14), 1)])
def test_each_object_is_found_once_in_pictures_of_any_size(shape, number):
    model, guide = a_reader(likelihood_sd=0.1)
    places = apart(number, shape, 8)
    found = blocks.find(model, guide, a_picture(places, shape))
    assert found.number == number
    far = np.linalg.norm(centres(found)[:, None] - places[None], axis=-1)
    assert (far.min(1) < 1).all() and sorted(far.argmin(1)) == list(range(number))
    assert (np.diff(found.tight_boxes[:, 1]) >= 0).all()  # by rows
    assert (found.scores > 0.9).all() and found.count_probs.argmax() == number
    assert blocks.find(model, guide, np.zeros(shape, np.uint8)).number == 0


def test_the_count_is_uncertain_where_an_object_is():
    model, guide = a_reader(likelihood_sd=0.1, z_pres_prior=math.exp(-13))
    picture = a_picture([(20, 20)], (40, 60)).astype(int)
    dim = a_picture([(45, 20)], (40, 60)) * 0.42 / 0.7  # worth 11 nats
    found = blocks.find(model, guide, (picture + dim).round().astype(np.uint8))
    assert found.number == 2
    assert found.count_probs.shape == (3,) and 0.1 < found.count_probs[1] < 0.5
    assert found.interval == (1, 2)


def test_blocks_agree_on_what_lies_between_them(monkeypatch):
    model, guide = a_reader()
    places = apart(60, (150, 200), 8, seed=1)
    picture = a_picture(places, (150, 200))
    at_once = blocks.find(model, guide, picture)
    monkeypatch.setattr(blocks, "SIDE", 64)
    in_parts = blocks.find(model, guide, picture)
    assert at_once.number == in_parts.number == 60
    np.testing.assert_allclose(centres(at_once), centres(in_parts), atol=0.2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 5000), st.integers(20, 600), st.integers(0, 100))
def test_each_pixel_belongs_to_one_block_that_shows_it_with_a_margin(length, side, margin):
    parts = blocks._parts(length, side, margin)
    assert parts[0][1] == -np.inf and parts[-1][2] == np.inf
    for (start_, _, high), (following, low, _) in itertools.pairwise(parts):
        assert high == low
        assert following <= low <= start_ + side  # both show the border between them
        if side > 2 * margin + 1:
            assert low - following >= margin - 1 and start_ + side - high >= margin - 1
    assert parts[0][0] == 0 and parts[-1][0] + side >= length


def test_more_objects_than_there_is_room_for_are_reported(monkeypatch, capsys):
    monkeypatch.setattr(blocks, "ROOM", 32)
    model, guide = a_reader()
    found = blocks.find(model, guide, a_picture(apart(60, (120, 120), 8), (120, 120)))
    assert found.number <= 32
    assert "1 parts of a picture have 32 objects or more" in capsys.readouterr().err


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


def test_windows_are_drawn_where_they_are_said_to_be():
    """The patch of an object and the picture have the same pixels."""
    model, guide = a_reader()
    places = np.array([[30.0, 22.0]])
    found = blocks.find(model, guide, a_picture(places, (50, 60)))
    x0, y0, x1, y1 = found.window_boxes[0]
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], places[0], atol=0.3)
    s = where_prior(SMALL)[0][0]
    np.testing.assert_allclose([x1 - x0, y1 - y0], 21 / s, rtol=0.05)
    y = window_to_image(jnp.array([[3.0, 0.0, 0.0]]), Discs()(jnp.zeros((1, 2))), (21, 21))
    assert float(y.max()) == pytest.approx(0.7, abs=0.05)


def test_what_cannot_be_read_is_refused(tmp_path):
    model, guide = untrained(TINY, 1)
    air = AIR.of(model, eager(guide))
    with pytest.raises(InputError, match=r"picture must have shape \[H, W\] or"):
        air.find(np.zeros(9))
    with pytest.raises(InputError, match=r"picture must have the model's size \(5, 6\), as its"):
        air.find(np.zeros((9, 9)))
    same = np.random.default_rng(0).random((5, 6))
    np.testing.assert_array_equal(air.find(same).scores, air.predict(same[None])[0].scores)


# the number of independent objects


def test_the_distribution_of_independent_trials():
    """Against the sum over all outcomes."""
    p = np.random.default_rng(0).random(9)
    want = np.zeros(10)
    for outcome in itertools.product((0, 1), repeat=9):
        on = np.array(outcome)
        want[on.sum()] += np.prod(np.where(on, p, 1 - p))
    np.testing.assert_allclose(poisson_binomial(p), want, rtol=1e-4)
    np.testing.assert_array_equal(poisson_binomial(np.zeros(0)), [1])
    np.testing.assert_array_equal(poisson_binomial(np.ones(3)), [0, 0, 0, 1])
