"""Tiles of large pictures: they cover them, and what several of them see is found once."""

import numpy as np
import pytest
from conftest import TINY, eager
from hypothesis import given, settings
from hypothesis import strategies as st

from airjax.air import AIR
from airjax.errors import InputError
from airjax.scenes import Objects
from airjax.tiles import merged, tiles
from airjax.train import untrained


@settings(max_examples=50, deadline=None)
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


def objects(*boxes, scores=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    n = len(boxes)
    scores = np.ones(n, np.float32) if scores is None else np.array(scores, np.float32)
    return Objects(boxes, boxes, scores, np.zeros((n, 3), np.float32), np.zeros((n, 2), np.float32))


def kept(found, whole, tile):
    return merged(found, np.array(whole), np.array(tile)).boxes.tolist()


def test_an_object_in_two_tiles_is_one():
    found = objects([10, 10, 20, 20], [11, 10, 21, 20], scores=[0.8, 0.9])
    assert kept(found, [True, True], [0, 1]) == [[11, 10, 21, 20]]
    assert kept(found, [True, False], [0, 1]) == [[10, 10, 20, 20]]  # a whole one before a piece


def test_two_objects_of_one_tile_are_two_however_close():
    found = objects([10, 10, 20, 20], [11, 10, 21, 20])
    assert len(kept(found, [True, True], [3, 3])) == 2


def test_a_piece_of_an_object_seen_whole_elsewhere_is_dropped():
    whole, piece, other = [10, 10, 30, 30], [10, 10, 14, 30], [31, 10, 50, 30]
    assert kept(objects(piece, whole, other), [False, True, True], [0, 1, 1]) == [whole, other]


def test_objects_come_by_rows():
    boxes = [[5, 9, 6, 10], [1, 9, 2, 10], [9, 0, 10, 1]]
    assert kept(objects(*boxes), [True] * 3, [0, 1, 2]) == [boxes[2], boxes[1], boxes[0]]


def test_nothing_is_merged_to_nothing():
    assert kept(objects(), np.zeros(0, bool), np.zeros(0, int)) == []


@pytest.fixture(scope="module")
def air():
    model, guide = untrained(TINY, 1)
    return AIR.of(model, eager(guide))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4), (17, 23)])
def test_boxes_lie_in_the_picture(air, shape):
    picture = np.random.default_rng(0).random(shape)
    found = air.find(picture)
    n = len(found.boxes)
    assert all(len(field) == n for field in found)
    assert (found.boxes[:, 0] >= 0).all() or shape == (3, 4)
    if shape == (5, 6):  # one tile: what predict finds
        scenes = air.predict(picture[None])
        want = scenes.objects(0)
        assert sorted(found.boxes.tolist()) == sorted(want.boxes.tolist())


def test_mistakes_are_told(air):
    with pytest.raises(InputError, match="overlap must be from 0 to below 1, got 1.0"):
        air.find(np.zeros((9, 9)), overlap=1.0)
    with pytest.raises(InputError, match=r"picture must have shape \[H, W\] or"):
        air.find(np.zeros(9))
