"""Scenes are what their config and their truth say, and the same on every machine."""

import hashlib
import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import jaxtyping
import numpy as np
import pytest

from airjax.data import SceneConfig
from airjax.data import composer as scenes
from airjax.data.composer import Pool, compose, tight_box
from airjax.data.digits import load_digits
from airjax.errors import InputError

VALUES = np.array([40, 100, 200], np.uint8)  # of the flat squares, by class
SQUARES = Pool(
    np.broadcast_to(VALUES[:, None, None], (3, 8, 8)).copy(), np.arange(3, dtype=np.int32)
)
FLAT = SceneConfig(num_scenes=40, height=30, width=30, object_size=10, scale_mean=1.0, scale_sd=0.0)


class Scenes(NamedTuple):
    """The arrays of a data set, none of which is missing."""

    images: np.ndarray
    counts: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


def composed(pool, config, **settings):
    """Scenes of this config, but for some settings."""
    data = compose(pool, replace(config, **settings))
    assert data.counts is not None
    assert data.labels is not None
    assert data.boxes is not None
    return Scenes(data.images, data.counts, data.labels, data.boxes)


def square(value):
    """A pool of one flat square."""
    return Pool(np.full((1, 8, 8), value, np.uint8), np.zeros(1, np.int32))


# images and truth


@pytest.mark.parametrize(("counts", "most"), [((0, 3), 3), ((0,), 0)])
def test_arrays_have_the_documented_shapes_and_types(counts, most):
    data = composed(SQUARES, FLAT, height=20, counts=counts)
    assert [array.shape for array in data] == [(40, 20, 30), (40,), (40, most), (40, most, 4)]
    assert [array.dtype for array in data] == [np.uint8, np.int32, np.int32, np.float32]


def test_scenes_without_objects_are_black():
    data = composed(SQUARES, FLAT)
    np.testing.assert_array_equal(data.images.any((1, 2)), data.counts > 0)


def test_labels_and_boxes_are_padded_with_minus_1_beyond_the_count():
    data = composed(SQUARES, FLAT)
    present = np.arange(2) < data.counts[:, None]
    assert set(data.counts) == {0, 1, 2}
    np.testing.assert_array_equal(data.labels >= 0, present)
    assert (data.labels[~present] == -1).all()
    assert (data.boxes[~present] == -1).all()
    assert (data.boxes[present] >= 0).all()


def test_every_object_has_the_label_of_its_picture():
    data = composed(SQUARES, FLAT, counts=(2,), overlap="apart")
    for i, j in np.ndindex(data.labels.shape):
        x0, y0, x1, y1 = data.boxes[i, j].astype(int)
        assert (data.images[i, y0:y1, x0:x1] == VALUES[data.labels[i, j]]).all()


def test_boxes_are_tight_around_pixels_above_a_tenth():
    config = SceneConfig(num_scenes=60, height=40, width=70, counts=(1,))
    data = composed(load_digits("train"), config)
    for image, box in zip(data.images, data.boxes[:, 0], strict=True):
        y, x = np.nonzero(image > 25.5)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_pixel_of_a_tenth_is_not_visible():
    pixels = np.full((4, 5), 25, np.uint8)
    assert tight_box(pixels) == (0, 0, 5, 4)  # of an invisible object: all of it
    pixels[1, 1] = 26
    assert tight_box(pixels) == (1, 1, 2, 2)


# what is drawn


def test_objects_reach_every_edge_of_a_canvas_that_is_no_square():
    data = composed(SQUARES, FLAT, num_scenes=500, height=12, width=20, counts=(1,))
    x0, y0, x1, y1 = data.boxes[:, 0].T
    assert (x0.min(), y0.min(), x1.max(), y1.max()) == (0, 0, 20, 12)


def test_an_object_is_drawn_with_side_int_of_size_over_s():
    boxes = composed(SQUARES, FLAT, object_size=28, scale_mean=1.3, counts=(1,)).boxes
    assert (boxes[..., 2:] - boxes[..., :2] == 21).all()


def test_the_scale_varies_with_its_standard_deviation():
    boxes = composed(square(200), SceneConfig(num_scenes=2000, counts=(1,))).boxes[:, 0]
    scale = 28 / (boxes[:, 2] - boxes[:, 0] + 0.5)  # int() takes half a pixel off on average
    assert abs(scale.mean() - 1.3) < 0.01
    assert abs(scale.std() - 0.1) < 0.01


def test_weights_are_respected():
    config = replace(FLAT, height=2, width=2, object_size=1, overlap="clip")
    data = composed(SQUARES, config, num_scenes=3000, weights=(1.0, 0.0, 3.0))
    assert set(data.counts) == {0, 2}
    assert abs((data.counts == 2).mean() - 0.75) < 0.03


# overlap


def test_redraw_loses_nothing_to_saturation():
    data = composed(square(200), FLAT, counts=(2,))
    assert (data.images.sum((1, 2)) == 2 * 10 * 10 * 200).all()
    clipped = composed(square(200), FLAT, counts=(2,), overlap="clip")
    assert (clipped.images.max((1, 2)) == 255).any()  # so there was something to draw again


@pytest.mark.parametrize(
    ("overlap", "value", "total"), [("redraw", 127, 254), ("clip", 127, 254), ("clip", 200, 255)]
)
def test_overlapping_objects_add_up_to_255_at_most(overlap, value, total):
    data = composed(square(value), FLAT, height=10, width=10, counts=(2,), overlap=overlap)
    assert (data.images == total).all()


def test_boxes_apart_are_disjoint():
    config = replace(FLAT, object_size=13, scale_mean=1.3, scale_sd=0.1)
    for boxes in composed(load_digits("train"), config, counts=(4,), overlap="apart").boxes:
        for a, b in itertools.combinations(boxes, 2):
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


@pytest.mark.parametrize("overlap", ["redraw", "apart"])
def test_too_many_objects_are_an_error(overlap, monkeypatch):
    monkeypatch.setattr(scenes, "ATTEMPTS", 20)
    with pytest.raises(InputError) as info:
        composed(square(200), FLAT, height=10, width=10, counts=(2,), overlap=overlap)
    rule = f"counts must fit a canvas of 10 x 10 with overlap '{overlap}' within 20 draws, got 2"
    assert str(info.value) == rule


# seeds


def test_the_seed_decides_the_scenes():
    one, two, other = (composed(SQUARES, FLAT, seed=seed) for seed in (5, 5, 6))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    assert not np.array_equal(one.images, other.images)


def test_scenes_are_the_same_on_every_machine():
    data = compose(load_digits("train"), SceneConfig(num_scenes=20))
    digest = hashlib.sha256(data.images.tobytes()).hexdigest()
    assert digest == "6d8d38794fa9fecadbe90f09aa60ef091839362f2afdd498b59312a19fd0164d"


# settings


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("num_scenes", 0, "must be at least 1, got 0"),
        ("height", 0, "must be at least 1, got 0"),
        ("width", -1, "must be at least 1, got -1"),
        ("object_size", 0, "must be at least 1, got 0"),
        ("counts", (), "must be one or more numbers >= 0, got []"),
        ("counts", (0, -1), "must be one or more numbers >= 0, got [0, -1]"),
        ("weights", (1.0,), "must be as many as counts (3), got [1.0]"),
        ("weights", (1.0, -1.0, 1.0), "must be >= 0, not all 0, got [1.0, -1.0, 1.0]"),
        ("weights", (0.0, 0.0, 0.0), "must be >= 0, not all 0, got [0.0, 0.0, 0.0]"),
        ("weights", (1.0, np.inf, 1.0), "must be >= 0, not all 0, got [1.0, inf, 1.0]"),
        ("weights", (1.0, np.nan, 1.0), "must be >= 0, not all 0, got [1.0, nan, 1.0]"),
        ("scale_mean", 0.0, "must be positive, got 0.0"),
        ("scale_mean", np.nan, "must be positive, got nan"),
        ("scale_sd", -0.1, "must be at least 0, got -0.1"),
        ("scale_sd", np.inf, "must be at least 0, got inf"),
        ("object_size", 66, "/ scale_mean must be 1 to 49 pixels (the canvas), got 50"),
        ("object_size", 1, "/ scale_mean must be 1 to 49 pixels (the canvas), got 0"),
        ("overlap", "never", "must be one of redraw, clip, apart, limited, got never"),
        ("seed", -1, "must be 0 to 2**32 - 1, got -1"),
        ("seed", 2**32, "must be 0 to 2**32 - 1, got 4294967296"),
    ],
)
def test_rules_of_scenes(argument, value, rule, monkeypatch):
    settings: dict[str, Any] = {"height": 49} | {argument: value}
    # the tests' check of types would come before the rule on names
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as info:
        SceneConfig(**settings)
    assert str(info.value) == f"{argument} {rule}"
