"""What benchmarks/paper_three_d.py compares with, on a tiny scale."""

import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig
from airjax.three_d.renderer import Camera, table
from airjax.three_d.scenes import scenes
from airjax.three_d.shapes import BLOCKS
from airjax.three_d.training import Schedule

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CAMERA = Camera(size=12)
CONFIG = SolidsConfig(kinds=BLOCKS[:2], model_steps=2, camera=CAMERA, window=6, hidden=(8,))
pytestmark = pytest.mark.slow  # compiles the renderer


@pytest.fixture(scope="module")
def some():
    return scenes(BLOCKS[:2], 40, 0, counts=(0, 1, 2), camera=CAMERA)


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import solids_peers

    yield solids_peers
    for name in ("solids_peers", "solids_mujoco"):
        sys.modules.pop(name, None)


def test_the_twin_learns_the_labels(peers, some):
    losses = []
    peers.supervised(
        CONFIG,
        some,
        table(CAMERA),
        Schedule(steps=300, batch_size=16),
        lambda step, loss, _: losses.append(loss),
    )
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 1


def test_the_twin_is_asked_for_each_object_once(peers, some):
    """Objects may be in any order: log q is the same."""
    guide = SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0))
    two = np.flatnonzero(some.counts == 2)[:4]
    images, counts, kinds, poses = (jnp.asarray(part[two]) for part in some)
    images = images.astype(float) / 255
    one = peers.log_q_of_truth(guide, images, counts, kinds, poses)
    other = peers.log_q_of_truth(guide, images, counts, kinds[:, ::-1], poses[:, ::-1])
    np.testing.assert_allclose(one, other, rtol=1e-5)
    # an object beyond the count is not read
    first = peers.log_q_of_truth(guide, images, counts - 1, kinds, poses)
    moved = peers.log_q_of_truth(guide, images, counts - 1, kinds, poses.at[:, 1].add(0.3))
    np.testing.assert_array_equal(first, moved)


def test_estimators_have_one_mean(peers, some):
    """Up to finite differences; score functions have a larger variance."""
    guide = SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0))
    images = jnp.asarray(some.images[:8], float) / 255
    rows = list(peers.compare_estimators(guide, images, 100).values())
    assert rows[1]["variance"] > rows[0]["variance"]
    assert rows[1]["difference"] ** 2 < 0.1 + 3 * rows[1]["variance"] / 100
    assert rows[2]["difference"] ** 2 < 0.1 + 3 * rows[2]["variance"] / 100


def test_mujoco_draws_the_same_scenes(peers, some):
    """From meshes: as the model's renderer does, but for edges and the table's."""
    if find_spec("mujoco") is None or find_library("OSMesa") is None:
        pytest.skip("needs mujoco and libosmesa6")
    from solids_mujoco import MujocoScenes

    other = MujocoScenes(BLOCKS[:2], 2, camera=CAMERA)
    drawn = scenes(BLOCKS[:2], 40, 0, counts=(0, 1, 2), camera=CAMERA, draw=other)
    empty = other.table()
    other.close()
    np.testing.assert_array_equal(drawn.poses, some.poses)
    assert np.abs(empty - np.asarray(table(CAMERA))).mean() < 0.05
    ours = some.images / 255 - np.asarray(table(CAMERA))
    assert np.corrcoef((drawn.images / 255 - empty).ravel(), ours.ravel())[0, 1] > 0.8
