"""Tiles of large pictures: they cover them, and what several of them see is found once."""

import numpy as np
import pytest
from conftest import TINY, eager
from hypothesis import given, settings
from hypothesis import strategies as st

from airjax.air import AIR
from airjax.errors import InputError
from airjax.inference.results import Objects
from airjax.inference.tiles import TileObjects, merged, tiles
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
