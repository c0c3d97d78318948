"""Whole pictures: blocks that agree, several at the same time, counts and boxes."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, eager
from hypothesis import given, settings
from hypothesis import strategies as st
from test_whole import SMALL, Discs, a_picture, a_reader, apart, centres

from airjax.air import AIR
from airjax.errors import InputError
from airjax.inference import blocks
from airjax.inference.results import poisson_binomial
from airjax.programs.model import where_prior
from airjax.programs.spatial import window_to_image
from airjax.programs.untrained import untrained


@pytest.mark.slow  # compiles much
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


@pytest.mark.slow
def test_the_count_is_uncertain_where_an_object_is():
    model, guide = a_reader(likelihood_sd=0.1, z_pres_prior=math.exp(-13))
    picture = a_picture([(20, 20)], (40, 60)).astype(int)
    dim = a_picture([(45, 20)], (40, 60)) * 0.42 / 0.7  # worth 11 nats
    found = blocks.find(model, guide, (picture + dim).round().astype(np.uint8))
    assert found.number == 2
    assert found.count_probs.shape == (3,) and 0.1 < found.count_probs[1] < 0.5
    assert found.interval == (1, 2)


@pytest.mark.slow  # compiles much
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


@pytest.mark.slow
def test_more_objects_than_there_is_room_for_are_reported(monkeypatch, capsys):
    monkeypatch.setattr(blocks, "ROOM", 32)
    model, guide = a_reader()
    found = blocks.find(model, guide, a_picture(apart(60, (120, 120), 8), (120, 120)))
    assert found.number <= 32
    assert "1 part of a picture has 32 objects or more" in capsys.readouterr().err


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
