"""Tiles of large pictures: they cover them, and what several of them see is found once."""

import itertools

import numpy as np
import pytest
from conftest import TINY, eager
from hypothesis import given, settings
from hypothesis import strategies as st

from airjax.air import AIR
from airjax.errors import InputError
from airjax.inference.results import Objects
from airjax.inference.tiles import TileObjects, merged, poisson_binomial, tiles
from airjax.programs.untrained import untrained


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.floats(0, 0.9),
)
def test_tiles_cover_the_picture_and_overlap(shape, size, overlap):
    picture = np.arange(shape[0] * shape[1]).reshape(shape) + 1
    seen = np.zeros(np.maximum(shape, size), int)
    tops, lefts = set(), set()
    for tile in tiles(picture, size, overlap):
        assert tile.image.shape == size
        here = seen[tile.top : tile.top + size[0], tile.left : tile.left + size[1]]
        assert here.shape == size
        here += 1
        tops.add(tile.top)
        lefts.add(tile.left)
        inside = tile.image[: shape[0] - tile.top, : shape[1] - tile.left]
        want = picture[tile.top : tile.top + size[0], tile.left : tile.left + size[1]]
        np.testing.assert_array_equal(inside[: want.shape[0], : want.shape[1]], want)
    assert seen.min() >= 1
    for starts, side in ((sorted(tops), size[0]), (sorted(lefts), size[1])):
        gaps = np.diff(starts)
        assert (gaps <= max(1, int(side * (1 - overlap)))).all()


# two tiles of 40 x 40, the left half of the second is the right half of the first
CORNERS = np.array([[0, 0], [0, 20]])


def kept(*found):
    """The boxes (and scores) kept of objects that were found: tile, presence, box."""
    boxes = np.array([box for *_, box in found], np.float32).reshape(-1, 4)
    tile, scores = (np.array([f[i] for f in found]) for i in (0, 1))
    empty = np.zeros((len(found), 3), np.float32)
    objects = Objects(boxes, boxes, scores.astype(np.float32), empty, empty, None)
    together = merged(TileObjects(objects, tile.astype(int), CORNERS, (40, 40), (40, 60)))
    return [
        (b, round(s, 3))
        for b, s in zip(together.tight_boxes.tolist(), together.scores.tolist(), strict=True)
    ]


def test_an_object_in_two_tiles_is_one_with_the_mean_presence():
    one, other = [25, 10, 35, 20], [26, 10, 36, 20]
    assert kept((0, 0.8, one), (1, 0.9, other)) == [(other, 0.85)]


def test_an_object_that_only_one_of_two_tiles_finds_needs_all_its_presence():
    box = [25, 10, 35, 20]
    assert kept((0, 0.9, box)) == []
    assert kept((0, 1.0, box)) == [(box, 0.5)]
    alone = [2, 10, 12, 20]  # only the first tile shows it
    assert kept((0, 0.6, alone)) == [(alone, 0.6)]


def test_two_objects_of_one_tile_are_two_however_close():
    found = [(0, 1.0, [2, 10, 12, 20]), (0, 1.0, [3, 10, 13, 20])]
    assert len(kept(*found)) == 2


def test_a_piece_at_the_border_of_a_tile_is_no_object_where_another_shows_it_whole():
    whole, piece = [30, 10, 46, 30], [30, 10, 40, 30]
    assert kept((0, 1.0, piece), (1, 0.9, whole)) == [(whole, 0.9)]
    at_the_picture = [0, 10, 8, 30]
    assert kept((0, 1.0, at_the_picture)) == [(at_the_picture, 1.0)]


def test_an_object_that_no_tile_shows_whole_is_kept_once():
    left, right = [10, 0, 40, 40], [20, 0, 50, 40]
    assert kept((0, 0.9, left), (1, 0.8, right)) == [(left, 0.9)]


def test_objects_come_by_rows():
    boxes = [[5, 9, 6, 10], [1, 9, 2, 10], [9, 0, 10, 1]]
    assert [box for box, _ in kept(*((0, 1.0, box) for box in boxes))] == boxes[2:] + boxes[1::-1]


def test_nothing_is_merged_to_nothing():
    assert kept() == []


@pytest.fixture(scope="module")
def air():
    model, guide = untrained(TINY, 1)
    return AIR.of(model, eager(guide))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4), (17, 23)])
def test_boxes_lie_in_the_picture(air, shape):
    picture = np.random.default_rng(0).random(shape)
    found = air.find(picture)
    n = len(found.tight_boxes)
    assert all(len(field) == n for field in found[:5])
    np.testing.assert_allclose(found.count_probs.sum(), 1, rtol=1e-5)
    assert (found.tight_boxes[:, 0] >= 0).all() or shape == (3, 4)
    if shape == (5, 6):  # one tile: what predict finds
        scenes = air.predict(picture[None])
        want = scenes[0]
        assert sorted(found.tight_boxes.tolist()) == sorted(want.tight_boxes.tolist())
        np.testing.assert_array_equal(found.count_probs, want.count_probs)


def test_mistakes_are_reported(air):
    with pytest.raises(InputError, match=r"overlap must be from 0 to below 1, got 1\.0"):
        air.find(np.zeros((9, 9)), overlap=1.0)
    with pytest.raises(InputError, match=r"picture must have shape \[H, W\] or"):
        air.find(np.zeros(9))


# the number of objects in a picture that was read in tiles


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


def test_a_large_picture_says_how_sure_its_count_is():
    """Ninety-two objects of 0.995 are not one count with probability 0.995."""
    counts = poisson_binomial(np.r_[np.full(92, 0.97), np.full(30, 0.1)])
    found = objects_of(counts, 92)
    assert found.probability < 0.25
    low, high = found.interval
    assert low < 92 <= high and 4 < high - low < 15
    assert counts[low : high + 1].sum() >= 0.9
    assert counts[low + 1 : high + 1].sum() < 0.95 and counts[low:high].sum() < 0.95


def test_a_count_that_is_certain_has_a_narrow_interval():
    assert objects_of(np.float32([0, 0, 1, 0]), 2).interval == (2, 2)
    assert objects_of(np.float32([0.2, 0.6, 0.2]), 1).interval == (0, 2)


def objects_of(count_probs, n):
    nothing = np.zeros((n, 0), np.float32)
    boxes = np.zeros((n, 4), np.float32)
    return Objects(boxes, boxes, np.ones(n), nothing, nothing, count_probs)


def test_a_candidate_that_was_dropped_counts_as_a_doubt():
    """An object that one tile of two shows has a score of one half or less."""
    boxes = np.float32([[5, 5, 9, 9], [25, 5, 29, 9]])
    tile = np.array([0, 0])
    empty = np.zeros((2, 0), np.float32)
    objects = Objects(boxes, boxes, np.float32([0.9, 0.3]), empty, empty, None)
    corners = np.array([[0, 0]])
    found = merged(TileObjects(objects, tile, corners, (40, 40), (40, 40)))
    assert found.number == 1
    np.testing.assert_allclose(found.count_probs, [0.07, 0.66, 0.27], rtol=1e-5)
