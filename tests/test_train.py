"""Training: it learns, gives the same for the same seed, and compiles once."""

import dataclasses
import logging

import jax
import numpy as np
import pytest
from conftest import TINY

from airjax.config import Config, TrainConfig
from airjax.data.dataset import Dataset
from airjax.train import Trainer, next_multiple

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
TRAIN = TrainConfig(steps=25, batch_size=4, progress_every=10, eval_every=20)


def run(config=Config(TRAIN, TINY), held_out=None):  # noqa: B008
    trainer = Trainer(config, IMAGES)
    state, rows = trainer.init(), []
    for after, row in trainer.run(state, held_out):
        state = after
        rows.append(row)
    return trainer, state, rows


@pytest.fixture(scope="module")
def finished():
    return run(held_out=Dataset(IMAGES, counts=np.ones(40, np.int32)))


def test_rows_come_at_the_multiples_asked_for_and_at_the_end(finished):
    _, state, rows = finished
    assert [row["step"] for row in rows] == [10, 20, 25]
    assert int(state.step) == 25
    assert [("test_elbo" in row) for row in rows] == [False, True, True]
    assert [("compile_seconds" in row) for row in rows] == [True, False, False]
    for row in rows:
        assert np.isfinite(list(row.values())).all()


def test_the_same_seed_gives_the_same_run_and_another_another(finished):
    _, state, rows = finished
    _, again, rows_again = run()
    for a, b in zip(jax.tree.leaves(state.svi), jax.tree.leaves(again.svi), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
    assert [row["elbo"] for row in rows] == [row["elbo"] for row in rows_again]
    _, _, other = run(Config(dataclasses.replace(TRAIN, seed=1), TINY))
    assert other[0]["elbo"] != rows[0]["elbo"]


def test_chunks_do_not_change_the_result(finished):
    _, state, _ = finished
    train = dataclasses.replace(TRAIN, progress_every=7, eval_every=9)
    _, other, _ = run(Config(train, TINY))
    a, b = (jax.tree.leaves(s.svi.optim_state) for s in (state, other))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_nothing_is_compiled_after_the_first_chunk(caplog):
    """A step compiles once, a shorter last chunk included."""
    trainer = Trainer(Config(TRAIN, TINY), IMAGES)
    rows = trainer.run(trainer.init())
    next(rows)
    with jax.log_compiles(), caplog.at_level(logging.DEBUG):
        assert len(list(rows)) == 2
    compiled = [r.getMessage() for r in caplog.records if "compil" in r.getMessage().lower()]
    assert compiled == []


def test_the_programs_have_the_trained_weights(finished):
    trainer, state, _ = finished
    params = trainer.svi.get_params(state.svi)
    model, guide = trainer.programs(state)
    trained = params["decoder$params"].mlp.layers[0].weight
    np.testing.assert_array_equal(model.decoder.mlp.layers[0].weight, trained)
    untrained = trainer.model.decoder.mlp.layers[0].weight
    assert not np.array_equal(model.decoder.mlp.layers[0].weight, untrained)
    assert not np.array_equal(guide.networks.rnn.h_init, trainer.guide.networks.rnn.h_init)


def test_next_multiple():
    assert [next_multiple(step, 10) for step in (0, 9, 10, 11)] == [10, 10, 20, 20]
