"""Objects are found where their tracks expect them: a decoder of squares, frames by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.config import ModelConfig
from airjax.inference.results import Objects
from airjax.programs.likelihood import Likelihood
from airjax.programs.model import Model
from airjax.programs.networks import Decoder
from airjax.tracking.compare import Group, explanations
from airjax.tracking.fit import Known, Part, fitted
from airjax.tracking.link import Linking
from airjax.tracking.propagate import Propagation, close

SIDE, WINDOW = 40, 10  # pixels of the model's images and of an object's window
SCALE = SIDE / WINDOW
HOW = Linking(search_range=8.0, steady=True)
BRIGHT, FAINT = (1.0, 0.0), (0.0, 1.0)  # codes


class Squares(Decoder):
    """Draws a square of 8 x 8 pixels, bright or faint."""

    def __call__(self, z_what):
        square = jnp.zeros((WINDOW, WINDOW)).at[1:9, 1:9].set(1.0)
        return (z_what @ jnp.array([0.6, 0.3]))[:, None, None] * square


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(
        image_size=(SIDE, SIDE), encoder_latent_size=2, likelihood_sd=0.1, background="none"
    )
    return Model(config, Squares(config, key=jax.random.key(0)), Likelihood(config))


def frame(*squares, side=SIDE):
    """Pixels with squares at these places, x and y of the middle and a code each."""
    image = np.zeros((side, side))
    for x, y, (bright, faint) in squares:
        image[y - 4 : y + 4, x - 4 : x + 4] += 0.6 * bright + 0.3 * faint
    return np.round(255 * image.clip(0, 1)).astype(np.uint8)


def read(*squares, any_size=False):
    """Objects that were read at these places."""
    xy = np.array([each[:2] for each in squares], np.float32).reshape(-1, 2)
    boxes = np.concatenate([xy - WINDOW / 2, xy + WINDOW / 2], axis=1)
    middle = np.zeros_like(xy) if any_size else 2 * xy / SIDE - 1
    n = len(xy)
    where = np.concatenate([np.full((n, 1), SCALE), -SCALE * middle], axis=1).astype(np.float32)
    codes = np.array([each[2] for each in squares], np.float32).reshape(-1, 2)
    return Objects(boxes, boxes, np.ones(n, np.float32), where, codes, np.ones(1, np.float32))


def places(objects):
    """The middle of each window and its brighter code, in the order of x."""
    xy = (objects.window_boxes[:, :2] + objects.window_boxes[:, 2:]) / 2
    return sorted((*np.round(at, 1).tolist(), int(code.argmax())) for at, code in
                  zip(xy, objects.z_what, strict=True))  # fmt: skip


def looked(model, images, objects, how=HOW, any_size=False):
    look = Propagation(model, how, any_size, images.__getitem__, dict(enumerate(objects)))
    look(range(len(images)))
    look(reversed(range(len(images))))
    return look


def test_the_best_place_is_found(model):
    image, nothing = frame((20, 14, BRIGHT)) / np.float32(255), np.zeros((SIDE, SIDE), np.float32)
    near = Known(np.array([[17.0, 16.0]]), np.array([SCALE]), np.array([BRIGHT]))
    inside = np.ones((SIDE, SIDE), bool)
    parts = [Part(image, nothing, inside, near, moves) for moves in (False, True)]
    stays, moves = fitted(model, parts, 8.0)
    assert stays.xy.tolist() == [[17, 16]] and stays.log_p < -500
    np.testing.assert_allclose(moves.xy, [[20, 14]], atol=0.1)
    np.testing.assert_allclose(moves.boxes[0, 1], [15, 9, 25, 19], atol=0.1)
    assert moves.log_p > -5
    # pixels that are not in the frame say nothing
    (outside,) = fitted(model, [Part(image, nothing, inside & False, near, False)], 8.0)
    assert outside.log_p == 0


def test_objects_that_cross_are_found_where_one_was_read(model):
    """The frames in the middle are read as one bright object, as a union may be."""
    ways = [((10 + 3 * t, 20, BRIGHT), (28 - 3 * t, 20, FAINT)) for t in range(7)]
    objects = [read(*way) for way in ways]
    objects[3] = read((19, 20, BRIGHT))
    look = looked(model, [frame(*way) for way in ways], objects)
    assert places(look.objects[3]) == [(19, 20, 0), (19, 20, 1)]
    assert list(look.propagated) == [3] and look.propagated[3].sum() >= 1
    for t in (0, 1, 2, 4, 5, 6):
        assert look.objects[t] is objects[t]


def test_an_object_that_is_gone_is_not_found(model):
    way = (12, 20, BRIGHT)
    objects = [read(way, (30, 20, BRIGHT))] * 2 + [read(way)] * 3
    images = [frame(way, (30, 20, BRIGHT))] * 2 + [frame(way)] * 3
    assert looked(model, images, objects).propagated == {}


def test_no_more_frames_than_memory(model):
    """The object is there all the time, but read in the first frame alone."""
    way = (12, 20, FAINT)
    for memory in (0, 2, 9):
        how = Linking(search_range=8.0, memory=memory)
        objects = [read(way), *[read()] * 4]
        look = looked(model, [frame(way)] * 5, objects, how)
        assert sorted(look.propagated) == list(range(1, 1 + min(4, memory)))


def test_a_frame_that_cannot_be_read_is_passed_over(model):
    way = (12, 20, FAINT)
    objects = {0: read(way), 2: read(), 3: read(way)}
    look = Propagation(model, HOW, False, lambda i: frame(way), objects)
    look(range(4))
    assert list(look.propagated) == [2] and 1 not in look.objects


def test_in_a_larger_frame_the_other_objects_are_subtracted(model):
    ways = ((50, 60, FAINT), (58, 60, BRIGHT), (4, 90, BRIGHT), (90, 20, BRIGHT))
    all_, some = read(*ways, any_size=True), read(*ways[1:3], any_size=True)
    look = looked(model, [frame(*ways, side=100)] * 3, [all_, some, all_], any_size=True)
    assert places(look.objects[1]) == places(all_)
    assert look.propagated[1].sum() == 2
    scores = look.objects[1].scores[look.propagated[1]]
    assert (scores > 0.9).all()


def test_groups_are_of_close_objects(model):
    found = Known(np.array([[10.0, 10], [14, 10], [80, 80]]), np.full(3, SCALE), np.zeros((3, 2)))
    expected = Known(np.array([[10.0, 10], [81, 80], [50, 50]]), np.full(3, SCALE),
                     np.zeros((3, 2)))  # fmt: skip
    every = Group(np.array([0]), np.array([0]), np.array([1, 2]), np.array([1, 2]))
    groups = close(model, every, expected, found)
    assert sorted(tuple(map(np.ndarray.tolist, group)) for group in groups) == [
        ([], [], [1], [2]), ([], [], [2], []), ([0], [0], [], [1]),
    ]  # fmt: skip


def test_what_explanations_cost():
    found = Known(np.zeros((2, 2)), np.ones(2), np.array([[1.0, 1.0], [2.0, 0.0]]))
    expected = Known(np.ones((2, 2)), np.ones(2), np.zeros((2, 2)))
    group = Group(np.array([0]), np.array([0]), np.array([1]), np.array([1]))
    some = explanations(group, expected, found, 5.0)
    assert [(each.tracks.tolist(), each.objects.tolist(), each.cost) for each in some] == [
        ([], [0, 1], 2.0), ([0, 1], [], 5.0), ([0, 1], [1], 7.0), ([1], [0, 1], 7.0),
    ]  # fmt: skip
