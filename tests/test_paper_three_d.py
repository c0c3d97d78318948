"""What benchmarks/paper_three_d.py compares with, on a tiny scale."""

import dataclasses
import sys
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.errors import InputError
from airjax.three_d.elbo import KindELBO
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig, SolidsModel
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
    for name in ("solids_peers", "solids_mujoco", "paper_three_d", "common"):
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


def test_estimators_have_one_mean_and_score_functions_a_larger_variance(peers, some):
    guide = SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0))
    images = jnp.asarray(some.images[:8], float) / 255
    rows = peers.compare_estimators({"untrained": guide}, images, 500)
    exact, *others = rows["untrained"].values()
    assert exact["component"] == pytest.approx(1)
    for row in others:
        assert abs(row["component"] - 1) < 4 * row["standard_error"] < 0.6
        assert row["variance"] > exact["variance"]


def test_finite_differences_agree_with_gradients(peers, some, monkeypatch):
    """With the same draws of the poses, and all kinds and counts summed out."""
    monkeypatch.setattr(peers, "STEPS", (5e-4, 5e-4, 1e-3))
    guide = SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0))
    images = jnp.asarray(some.images[:8], float) / 255
    ours, numerical = (
        peers.gradients(KindELBO(), model(CONFIG, table(CAMERA)), [guide], images, 4, 0.05)[0][0]
        for model in (SolidsModel, peers.NumericalModel)
    )
    assert np.linalg.norm(ours - numerical) < 0.05 * np.linalg.norm(ours)
    assert not np.array_equal(ours, numerical)


def test_the_command_prints_its_tables(peers, tmp_path, capsys, monkeypatch):
    import paper_three_d

    monkeypatch.setattr(paper_three_d, "MOST", 4)  # scenes of 5 are read by a program of their own
    args = paper_three_d.Args(
        seeds=1, steps=20, batch_size=4, scenes=30, size=12, tested=10, draws=3, out=tmp_path
    )
    paper_three_d.main(args)
    first = capsys.readouterr().out
    assert "| twin_count |" in first and "the paper's) |" in first
    assert (tmp_path / "paper_three_d_blocks_own.png").exists()
    paper_three_d.main(args)  # nothing is trained again
    again = capsys.readouterr().out
    assert again == first[first.index("| seed |") :]
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        paper_three_d.main(dataclasses.replace(args, steps=0))


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
