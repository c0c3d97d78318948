"""Training: it learns, gives the same for the same seed, and compiles once."""

import dataclasses
import logging
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from airjax.config import AnnealConfig, Config, EstimatorConfig, ProgressConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.inference.metrics import evaluate_quickly
from airjax.training.schedules import annealed, exploration, mean_params
from airjax.training.trainer import Trainer, next_multiple

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
TRAIN = TrainConfig(steps=25, batch_size=4)
PROGRESS = ProgressConfig(progress_every=10, eval_every=20)
SMALL = Config(TRAIN, TINY, progress=PROGRESS)


def run(config=SMALL, watched=None):
    trainer = Trainer(config, IMAGES)
    state, rows = trainer.init(), []
    for after, row in trainer.run(state, watched):
        state = after
        rows.append(row)
    return trainer, state, rows


@pytest.fixture(scope="module")
def finished():
    return run(watched={"test": Dataset(IMAGES, counts=np.ones(40, np.int32))})


def test_rows_come_at_the_multiples_asked_for_and_at_the_end(finished):
    _, state, rows = finished
    assert [row["step"] for row in rows] == [10, 20, 25]
    assert int(state.step) == 25
    assert [("test_elbo" in row) for row in rows] == [False, True, True]
    assert [("compile_seconds" in row) for row in rows] == [True, False, False]
    for row in rows:
        assert np.isfinite(list(row.values())).all()


def test_an_evaluation_has_all_that_collapse_judges(finished, monkeypatch):
    trainer, state, rows = finished
    message = {"elbo", "empty_elbo", "mean_count", "empty_objects", "large_windows"}
    assert {f"test_{name}" for name in message} <= set(rows[-1])
    config, asked = trainer.config.model, []
    reading = SimpleNamespace(
        elbo=np.zeros(4),
        count=np.ones(4),
        has_empty_object=lambda sd: np.array([sd == np.float32(0.3), False, False, False]),
        has_window_larger_than=lambda s: asked.append(s) or np.array([True, True, False, True]),
    )
    monkeypatch.setattr("airjax.inference.metrics.read", lambda *args, **kwargs: reading)
    row = evaluate_quickly(*trainer.programs(state), Dataset(IMAGES[:4]), trainer.prior(25))
    assert (row["empty_objects"], row["large_windows"]) == (0.25, 0.75)
    assert asked == [config.scale_prior_mean - 5 * config.scale_prior_sd]


def test_the_same_seed_gives_the_same_run_and_another_another(finished):
    _, state, rows = finished
    _, again, rows_again = run()
    for a, b in zip(jax.tree.leaves(state.svi), jax.tree.leaves(again.svi), strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)
    assert [row["elbo"] for row in rows] == [row["elbo"] for row in rows_again]
    _, _, other = run(dataclasses.replace(SMALL, train=dataclasses.replace(TRAIN, seed=1)))
    assert other[0]["elbo"] != rows[0]["elbo"]


@pytest.mark.slow
def test_the_option_of_xla_changes_rounding_at_most_and_may_be_unknown(finished, monkeypatch):
    monkeypatch.setattr("airjax.training.trainer.FEWER_COPIES", {"xla_no_such_option": True})
    _, state, _ = finished
    _, without, _ = run()
    a, b = (jax.tree.leaves(s.svi.optim_state) for s in (state, without))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_chunks_do_not_change_the_result(finished):
    _, state, _ = finished
    progress = ProgressConfig(progress_every=7, eval_every=9)
    _, other, _ = run(dataclasses.replace(SMALL, progress=progress))
    a, b = (jax.tree.leaves(s.svi.optim_state) for s in (state, other))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_nothing_is_compiled_after_the_first_chunk(caplog):
    """A step compiles once, a shorter last chunk included."""
    trainer = Trainer(SMALL, IMAGES)
    rows = trainer.run(trainer.init())
    next(rows)
    with jax.log_compiles(), caplog.at_level(logging.DEBUG):
        assert len(list(rows)) == 2
    compiled = [r.getMessage() for r in caplog.records if "compil" in r.getMessage().lower()]
    assert compiled == []


def test_the_programs_have_the_trained_weights(finished):
    trainer, state, _ = finished
    params = mean_params(state.svi.optim_state)
    model, guide = trainer.programs(state)
    trained = params["decoder$params"].mlp.layers[0].weight
    np.testing.assert_array_equal(model.decoder.mlp.layers[0].weight, trained)
    untrained = trainer.model.decoder.mlp.layers[0].weight
    assert not np.array_equal(model.decoder.mlp.layers[0].weight, untrained)
    assert not np.array_equal(guide.networks.rnn.h_init, trainer.guide.networks.rnn.h_init)


@pytest.mark.parametrize("warmup", [1, 3])
def test_images_are_read_with_the_mean_of_where_the_steps_went(warmup):
    """Schedule-free Adam against its definition: z moves as Adam's without a first moment, x is the
    mean of all z, weighted with the square of the learning rate, and y lies between them."""
    rate, b2 = 1e-2, 0.999
    train = dataclasses.replace(TRAIN, steps=10 * warmup, learning_rate=rate)
    svi = Trainer(Config(train, TINY), IMAGES).svi
    x = z = np.float64(1.0)
    params = {"guide$params": jnp.array(1.0)}
    state, squares, weights, grads = svi.optim.init(params), 0.0, 0.0, [0.3, 2.0, -0.1, 0.9]
    for t, grad in enumerate(grads):
        state = svi.optim.update({"guide$params": jnp.array(grad)}, state, jnp.array(0.0))
        squares = b2 * squares + (1 - b2) * grad**2
        z -= rate * min(t / warmup, 1) * grad / (np.sqrt(squares / (1 - b2 ** (t + 1))) + 1e-8)
        weight = (rate * min((t + 1) / warmup, 1)) ** 2
        weights += weight
        x += weight / weights * (z - x)
        y = svi.optim.get_params(state)["guide$params"]
        np.testing.assert_allclose(y, 0.9 * x + 0.1 * z, rtol=1e-6)
        np.testing.assert_allclose(mean_params(state)["guide$params"], x, rtol=1e-6)
    assert abs(x - z) > rate / 10


@pytest.mark.slow
def test_with_score_functions_images_are_read_with_the_parameters_as_they_are():
    train = dataclasses.replace(TRAIN, estimator="score", steps=2)
    trainer, state, _ = run(dataclasses.replace(SMALL, train=train))
    params = trainer.svi.get_params(state.svi)
    a, b = (jax.tree.leaves(x) for x in (params, mean_params(state.svi.optim_state)))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("steps", [1, 10])
def test_short_trainings_move_too(steps):
    """However short the warm-up. (Of 10 steps the first one has the rate 0.)"""
    train = dataclasses.replace(TRAIN, steps=steps)
    trainer, state, _ = run(dataclasses.replace(SMALL, train=train))
    begun, trained = (
        mean_params(s.svi.optim_state)["decoder$params"].mlp.layers[0].weight
        for s in (trainer.init(), state)
    )
    assert np.abs(np.asarray(trained - begun)).max() > 1e-5


def test_next_multiple():
    assert [next_multiple(step, 10) for step in (0, 9, 10, 11)] == [10, 10, 20, 20]


# the prior, changing


def test_annealing():
    steps = np.array([0, 100, 150, 200, 300, 1000])
    for kind, expected in (
        ("none", [0.3] * 6),
        ("lin", [0.3, 0.3, 0.225, 0.15, 0.003 / 2000, 0.003 / 2000]),
        ("exp", [0.3, 0.3, 0.3 * (5e-6) ** 0.25, 0.3 * (5e-6) ** 0.5, 1.5e-6, 1.5e-6]),
    ):
        anneal = AnnealConfig(kind, 1.5e-6, 100, 200)
        config = dataclasses.replace(SMALL, anneal=anneal)
        values = [float(annealed(config, step)) for step in steps]
        np.testing.assert_allclose(values, expected, rtol=1e-4)


@pytest.mark.slow
def test_an_annealed_run_ends_with_the_prior_of_its_last_step(caplog):
    """The model that is kept has it; and nothing compiles again on the way."""
    anneal = AnnealConfig("exp", 0.003, 0, 50)
    held_out = Dataset(IMAGES[:8])
    trainer = Trainer(dataclasses.replace(SMALL, anneal=anneal), IMAGES)
    rows = trainer.run(trainer.init(), {"test": held_out})
    next(rows), next(rows)
    with jax.log_compiles(), caplog.at_level(logging.DEBUG):
        ((state, _),) = rows
    compiled = [r.getMessage() for r in caplog.records if "compil" in r.getMessage().lower()]
    assert compiled == []
    model, _ = trainer.programs(state)
    assert model.config.z_pres_prior == pytest.approx(0.3 * 0.1 ** (2 * 25 / 50), rel=1e-4)


def test_exploration_falls_to_its_floor_and_ends():
    train = dataclasses.replace(TRAIN, steps=1000)
    config = dataclasses.replace(
        SMALL,
        train=train,
        estimator=EstimatorConfig(1, exploration_steps=200, exploration_floor=0.1),
    )
    values = [float(exploration(config, step)) for step in (0, 100, 180, 300, 749, 750, 999)]
    np.testing.assert_allclose(values, [1, 0.5, 0.1, 0.1, 0.1, 0, 0], rtol=1e-6)


# estimators by name


@pytest.mark.slow  # compiles much
@pytest.mark.parametrize("estimator", ["score", "iwae"])
def test_other_estimators_train(estimator):
    train = dataclasses.replace(TRAIN, estimator=estimator)
    config = dataclasses.replace(SMALL, train=train, estimator=EstimatorConfig(particles=2))
    trainer, state, rows = run(config)
    assert np.isfinite([row["elbo"] for row in rows]).all()
    _, guide = trainer.programs(state)
    assert (guide.baseline is not None) == (estimator == "score")


def test_without_baselines():
    train = dataclasses.replace(TRAIN, estimator="score", steps=2)
    config = dataclasses.replace(SMALL, train=train, estimator=EstimatorConfig(baselines=False))
    trainer, state, _ = run(config)
    assert trainer.programs(state)[1].baseline is None


def test_the_baseline_has_a_learning_rate_of_its_own():
    """Adam's first step is its learning rate; at step 0 the others' is still 0 (warm-up)."""
    train = dataclasses.replace(TRAIN, estimator="score", steps=1000)
    estimator = EstimatorConfig(baseline_learning_rate=0.05)
    trainer = Trainer(Config(train, TINY, estimator), IMAGES)
    before = trainer.init()
    after, _ = jax.jit(trainer.step)(before, trainer.images)
    a, b = (trainer.svi.get_params(state.svi) for state in (before, after))
    for name, rate in (("guide$params", 0), ("decoder$params", 0), ("baseline$params", 0.05)):
        moved = [
            np.abs(np.asarray(y - x)).max()
            for x, y in zip(*(jax.tree.leaves(p[name]) for p in (a, b)), strict=True)
        ]
        np.testing.assert_allclose(max(moved), rate, rtol=1e-3)
