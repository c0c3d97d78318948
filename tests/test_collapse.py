"""Collapses are detected without labels; a collapsed training starts again; several seeds."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from numpyro import distributions as dist
from test_session import FLAGS, learned, stop_after

from airjax.cli.main import main
from airjax.config import (
    Config,
    EstimatorConfig,
    ModelConfig,
    ProgressConfig,
    TrainConfig,
    TriesConfig,
)
from airjax.inference.metrics import empty_elbo
from airjax.programs.likelihood import Likelihood
from airjax.training import loop
from airjax.training.collapse import collapse
from airjax.training.runs import Run
from airjax.training.trainer import Trainer

EXPLORES = EstimatorConfig(exploration_steps=100)
CONFIG = Config(TrainConfig(steps=400), ModelConfig(model_steps=3), EXPLORES)
GOOD = {
    "test_elbo": 5.0,
    "test_empty_elbo": 1.0,
    "test_mean_count": 1.2,
    "test_empty_objects": 0.01,
    "test_large_windows": 0.05,
}


def rows(*evaluated, skipped=0):
    """Metrics with an evaluation every 100 steps."""
    return [
        {"step": 100 * (i + 1), "skipped_steps": skipped * (i + 1)} | GOOD | row
        for i, row in enumerate(evaluated)
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"test_mean_count": 0.0}, "it counts no object in any held-out image"),
        ({"test_mean_count": 3.0}, "it counts 3 objects, the most it can, in every held-out"),
        (
            {"test_empty_objects": 0.02},
            "in 2.0% of the held-out images it counts an object of which nothing is visible",
        ),
        (
            {"test_large_windows": 0.06},
            "in 6.0% of the held-out images it counts an object in a window far larger than the",
        ),
        ({"test_elbo": math.nan}, "the ELBO is not finite"),
        ({"test_elbo": -math.inf}, "the ELBO is not finite"),
        (
            {"test_elbo": 0.9},
            "the ELBO of held-out images, 0.9, is below that of a model without any object, 1.0",
        ),
    ],
)
def test_a_collapse_is_reported_at_two_evaluations_in_a_row(bad, message):
    assert collapse(rows(bad, bad), CONFIG).startswith(message)
    assert collapse(rows({}, bad, {}, bad), CONFIG) is None
    assert collapse(rows({}, bad), CONFIG) is None
    assert collapse([*rows(bad, bad), {"step": 250, "skipped_steps": 0}], CONFIG) is None


def test_nothing_is_judged_in_the_first_quarter():
    bad, config = {"test_mean_count": 0.0}, Config(TrainConfig(steps=1000), estimator=EXPLORES)
    assert collapse(rows(bad, bad, bad), config) is None
    assert collapse(rows(bad, bad, bad, bad), config) is not None


def test_nothing_is_judged_while_most_counts_are_drawn_at_random():
    bad = {"test_mean_count": 0.0}
    config = Config(TrainConfig(steps=400), estimator=EstimatorConfig(exploration_steps=300))
    assert collapse(rows(bad, bad, bad), config) is None
    assert collapse(rows(bad, bad, bad, bad), config) is not None


def test_a_good_training_is_none():
    assert collapse(rows({}, {}, {}), CONFIG) is None


def test_one_object_everywhere_is_no_collapse_where_there_may_be_one_at_most():
    config = Config(TrainConfig(steps=400), ModelConfig(model_steps=1), EXPLORES)
    assert collapse(rows(*2 * [{"test_mean_count": 1.0}]), config) is None


def test_a_chunk_without_a_finite_step_is_a_collapse_at_once():
    assert collapse(rows({}, skipped=99), CONFIG) is None
    assert collapse(rows({}, skipped=100), CONFIG) == "no step since 0 had a finite gradient"


def test_the_empty_models_elbo_is_that_of_its_distributions():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6)).astype(np.uint8)
    log_prob = dist.Normal(np.zeros((5, 6)), 0.3).to_event(2).log_prob(images / 255).mean()
    likelihood = Likelihood(TINY)
    found = empty_elbo(images, likelihood, 0.2)
    np.testing.assert_allclose(found, log_prob + np.log(0.8), rtol=1e-5)
    assert empty_elbo(images, likelihood, 1.0) == -math.inf
    on_ground = Likelihood(dataclasses.replace(TINY, background="mean")).with_mean_of(images)
    log_prob = dist.Normal(images.mean(0) / 255, 0.3).to_event(2).log_prob(images / 255).mean()
    found = empty_elbo(images, on_ground, 0.2)
    np.testing.assert_allclose(found, log_prob + np.log(0.8), rtol=1e-5)


# whole runs


@pytest.mark.slow
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)
    trainer = Trainer(Config(TrainConfig(steps=10, batch_size=2), TINY), images)
    chunk = jax.jit(trainer.chunk, static_argnames="careful")
    state, _ = chunk(trainer.init(), trainer.images, jnp.array(2))
    with monkeypatch.context() as patch:
        patch.setattr("airjax.training.trainer.to_unit", lambda images: images * jnp.nan)
        after, elbo = jax.jit(trainer.careful_step)(state, trainer.images)
        assert not np.isfinite(elbo) and int(after.skipped_steps) == 1 and int(after.step) == 3
        afresh = jax.jit(lambda *args: trainer.chunk(*args))  # not what was traced before
        _, finite = afresh(state, trainer.images, jnp.array(2))
        assert not finite
    optim_state = [leaves(s.svi.optim_state) for s in (after, state)]
    np.testing.assert_equal(*optim_state)
    again, finite = chunk(after, trainer.images, jnp.array(1), careful=True)
    assert finite and int(again.skipped_steps) == 1
    assert not np.array_equal(leaves(again.svi.optim_state)[1], leaves(after.svi.optim_state)[1])


@pytest.mark.slow  # compiles much
def test_careful_steps_are_the_steps_where_all_is_finite():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)
    trainer = Trainer(Config(TrainConfig(steps=10, batch_size=2), TINY), images)
    chunk = jax.jit(trainer.chunk, static_argnames="careful")
    state = trainer.init()
    (fast, _), (careful, finite) = (
        chunk(state, trainer.images, jnp.array(6), careful=careful) for careful in (False, True)
    )
    np.testing.assert_allclose(fast.elbo_sum, careful.elbo_sum, rtol=1e-5)
    assert finite and int(fast.elbo_steps) == int(careful.elbo_steps) == 6
    assert int(careful.skipped_steps) == 0 and careful.is_finite
    params = [leaves(trainer.svi.get_params(s.svi)) for s in (fast, careful)]
    for one, other in zip(*params, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_chunk_with_an_infinite_gradient_is_repeated_and_training_continues(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)
    progress = ProgressConfig(progress_every=4, eval_every=8, save_every=8)
    config = Config(TrainConfig(steps=8, batch_size=2), TINY, progress=progress)
    trainer, step = Trainer(config, images), Trainer.step

    def bad_at_five(self, state, images):  # a gradient that the ELBO does not show
        after, elbo = step(self, state, images)
        bad = jnp.where(state.step == 5, jnp.inf, 1.0)
        optim_state = jax.tree.map(
            lambda x: x * bad if jnp.issubdtype(x.dtype, jnp.floating) else x,
            after.svi.optim_state,
        )
        return after._replace(svi=after.svi._replace(optim_state=optim_state)), elbo

    monkeypatch.setattr(Trainer, "step", bad_at_five)
    states, rows = zip(*trainer.run(trainer.init()), strict=True)
    assert [row["skipped_steps"] for row in rows] == [0, 1]
    assert [int(state.step) for state in states] == [4, 8]  # and the first is still to be read
    assert states[-1].is_finite and np.isfinite([row["elbo"] for row in rows]).all()


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A file of small images."""
    path = tmp_path_factory.mktemp("data") / "scenes.npz"
    images = np.random.default_rng(0).integers(0, 256, (60, 10, 12)).astype(np.uint8)
    np.savez(path, images=images)
    return path


def never_well(rows, *_):
    """As if every training collapsed after its second evaluation."""
    return "it is a test" if rows[-1]["step"] >= 20 else None


def line(scenes, run, *more):
    return ["train", "--data", str(scenes), "--out", str(run), *FLAGS.split(), *more]


def collapsed(arguments):
    """A training that ends collapsed: its exit status says so."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 3


@pytest.mark.slow  # compiles much
def test_a_collapsed_training_starts_again_and_keeps_the_record(
    scenes, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(loop, "collapse", never_well)
    collapsed(line(scenes, tmp_path / "run", "--restarts", "2"))
    out = capsys.readouterr().out
    assert out.count("step 20: collapsed: it is a test") == 3
    assert "(restart 2 of at most 2)" in out
    run = Run.open(tmp_path / "run")
    record = run.restarts()
    assert [r["why"] for r in record] == 2 * ["it is a test"]
    assert [[row["step"] for row in r["rows"]] for r in record] == 2 * [[5, 10, 15, 20]]
    assert len({r["seed"] for r in record} | {run.attempt_config().train.seed}) == 3
    assert len({r["rows"][0]["elbo"] for r in record} | {run.rows()[0]["elbo"]}) == 3
    assert [row["step"] for row in run.rows()][-1] == 40


@pytest.mark.slow
def test_a_restarted_run_is_resumed_bit_for_bit(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "collapse", never_well)
    collapsed(line(scenes, tmp_path / "whole", "--restarts", "1"))
    stop_after(5, line(scenes, tmp_path / "run", "--restarts", "1"))  # in the second training
    assert len(Run.open(tmp_path / "run").restarts()) == 1
    collapsed(["train", "--resume", str(tmp_path / "run")])
    assert "continuing from step 10" in capsys.readouterr().out
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")


def test_restarts_can_be_turned_off(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "collapse", never_well)
    collapsed(line(scenes, tmp_path / "run", "--restarts", "0"))
    out = capsys.readouterr().out
    assert out.count("step 20: collapsed") == 1 and "starting again" not in out
    assert not (tmp_path / "run" / "restarts.json").exists()


@pytest.mark.slow
def test_of_several_seeds_the_best_elbo_is_kept(scenes, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = line(scenes, run, "--seeds", "3", "--seed", "4", "--restarts", "0")
    stop_after(11, arguments)  # in the second seed
    main(["train", "--resume", str(run)])
    assert "continuing from step" in capsys.readouterr().out
    message = json.loads((run / "seeds.json").read_text())
    elbos = {int(seed): report["elbo"] for seed, report in message["seeds"].items()}
    assert set(elbos) == {4, 5, 6} and message["best"] == max(elbos, key=elbos.get)
    assert learned(run) == learned(run / f"seed_{message['best']}")
    alone = line(scenes, tmp_path / "alone", "--seed", "5", "--restarts", "0")
    main(alone)
    assert learned(tmp_path / "alone") == learned(run / "seed_5")
    main(["evaluate", str(run)])
    assert Run.open(run).is_finished and Run.open(run).config.tries == TriesConfig(3, 0)
