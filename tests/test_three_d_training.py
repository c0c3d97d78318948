"""Scenes of solids, a short training, and its scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.errors import InputError
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig
from airjax.three_d.reading import Read, likelier_kinds, read, score
from airjax.three_d.renderer import Camera, table
from airjax.three_d.scenes import APART, NOISE, scenes
from airjax.three_d.shapes import BLOCKS, SYMMETRY
from airjax.three_d.training import Schedule, train

CAMERA = Camera(size=12)
pytestmark = pytest.mark.slow  # compiles the renderer


@pytest.fixture(scope="module")
def some():
    return scenes(BLOCKS, 40, 0, counts=(0, 1, 2), camera=CAMERA)


def test_solids_do_not_touch_and_an_empty_scene_is_the_table(some):
    assert set(some.counts) == {0, 1, 2} and some.images.shape == (40, 12, 12, 3)
    gaps = np.linalg.norm(some.poses[:, 0, :2] - some.poses[:, 1, :2], axis=1)
    assert gaps.min() > APART and np.abs(some.poses[..., :2]).max() <= 0.9
    empty = some.images[some.counts == 0].mean(0) / 255
    np.testing.assert_allclose(empty, table(CAMERA), atol=4 * NOISE)
    again = scenes(BLOCKS, 40, 0, counts=(0, 1, 2), camera=CAMERA)
    np.testing.assert_array_equal(again.images, some.images)
    with pytest.raises(InputError, match=r"counts must be from 0 to 6, got \(7,\)"):
        scenes(BLOCKS, 2, 0, counts=(7,))


def test_scores_of_the_truth_and_of_a_turned_cube(some):
    right = Read(some.counts, some.kinds, some.poses)
    assert score(right, some) == {
        "count": 100, "found": 100, "kind": 100, "position": 0, "angle": pytest.approx(0, abs=1e-4),
    }  # fmt: skip
    turned = some.poses + np.array([0, 0, np.pi / 2 + np.radians(10)], np.float32)
    off = score(Read(np.maximum(some.counts - 1, 0), some.kinds, turned), some)
    assert off["angle"] == pytest.approx(10, abs=0.01) and off["found"] < 100
    assert off["count"] == 100 * np.mean(some.counts == 0)


def test_a_short_training_lowers_the_loss_and_reads(some):
    config = SolidsConfig(model_steps=2, camera=CAMERA, window=6, hidden=(8,))
    losses = []
    schedule = Schedule(steps=200, batch_size=8)
    guide = train(
        config, some.images, table(CAMERA), schedule, lambda step, loss, _: losses.append(loss)
    )
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    found = read(guide, some.images, 3)
    assert found.kinds.shape == (40, 3) and found.counts.max() <= 3
    np.testing.assert_array_equal(read(guide, some.images, 3).poses, found.poses)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("first", range(3))
def test_kinds_are_those_that_explain_the_image(first):
    """Given the true poses, whatever kinds the comparison begins with."""
    camera = Camera(size=24)
    truth = scenes(BLOCKS, 40, 1, counts=(1, 2, 3), camera=camera)
    config = SolidsConfig(kinds=BLOCKS, camera=camera)
    guide = SolidsGuide(config, table(camera), key=jax.random.key(0))
    turn = SYMMETRY * truth.poses[..., 2:]
    where = np.concatenate([truth.poses[..., :2], np.cos(turn), np.sin(turn)], axis=-1)
    z_where = jnp.broadcast_to(where[:, :, None], (40, 3, 3, 4))
    begin = jnp.full((40, 3), first)
    counts = jnp.asarray(truth.counts)
    found = likelier_kinds(guide, jnp.asarray(truth.images) / 255, counts, begin, z_where)
    there = np.arange(3) < truth.counts[:, None]
    assert (np.asarray(found) == truth.kinds)[there].mean() > 0.97
    assert (np.asarray(begin) == truth.kinds)[there].mean() < 0.5
