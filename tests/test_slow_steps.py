"""Trainings whose steps are slow: they stop soon, and say how long they will take."""

import dataclasses
import signal

import numpy as np
import pytest
from conftest import TINY
from test_session import learned

from airjax.cli.main import main
from airjax.config import Config, ModelConfig, ProgressConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.picture_config import PictureConfig
from airjax.training import checkpoint, loop, trainer
from airjax.training.loop import faster
from airjax.training.runs import Run
from airjax.training.trainer import Trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)
CONFIG = Config(
    TrainConfig(steps=20, batch_size=2), TINY,
    progress=ProgressConfig(progress_every=10, eval_every=10, save_every=10),
)  # fmt: skip


@pytest.mark.slow  # compiles much
def test_a_slow_chunk_is_run_in_parts_with_the_same_results(monkeypatch):
    train = Trainer(CONFIG, IMAGES)
    whole = list(train.run(train.init()))
    monkeypatch.setattr(trainer, "LONGEST", 0.0)  # one step at a time
    asked = []
    parts = list(train.run(train.init(), stopped=lambda: bool(asked.append(1))))
    assert len(asked) == 18  # before each step but the first of a chunk
    for (a, row), (b, same) in zip(whole, parts, strict=True):
        assert (row["step"], row["elbo"]) == (same["step"], same["elbo"])
        arrays = (checkpoint.state_arrays(state).values() for state in (a, b))
        for x, y in zip(*arrays, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.slow  # compiles much
def test_a_training_stops_within_a_chunk(monkeypatch):
    monkeypatch.setattr(trainer, "LONGEST", 0.0)
    train = Trainer(CONFIG, IMAGES)
    answers = iter([False, False, True])
    *_, (state, row) = train.run(train.init(), stopped=lambda: next(answers))
    assert row is None and int(state.step) == 3 and int(state.elbo_steps) == 3
    again, first = next(train.run(state))
    assert first["step"] == 10 and int(again.elbo_steps) == 0
    whole = next(train.run(train.init()))[1]
    assert first["elbo"] == whole["elbo"]


class SignalWithinAChunk(loop.Interrupt):
    """As if a signal came within the second chunk."""

    asked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def arrived(self):
        SignalWithinAChunk.asked += 1
        if self.asked == 13:
            self.signum = signal.SIGTERM
        return self.signum is not None


@pytest.mark.slow
def test_a_run_that_stops_within_a_chunk_goes_on_as_if_nothing_had_been(
    tmp_path, monkeypatch, capsys
):
    flags = (
        "--steps 20 --batch-size 2 --progress-every 10 --eval-every 10 --save-every 10 -t 2 "
        "--window-size 3 --encoder-latent-size 2 --rnn-hidden-size 4 --predict-net 4 "
        "--encoder-net 4 --decoder-net 4 --embed-channels 2 --embed-net 4 --object-size auto"
    ).replace("--object-size auto", "")
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 6)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    main(f"train {tmp_path}/a.npz --out {tmp_path}/whole {flags}".split())
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(trainer, "LONGEST", 0.0)
        patch.setattr(loop, "Interrupt", SignalWithinAChunk)
        main(f"train {tmp_path}/a.npz --out {tmp_path}/run {flags}".split())
    assert end.value.code == 128 + signal.SIGTERM
    assert "stopped at step 14, everything is saved" in capsys.readouterr().out
    main(f"train --resume {tmp_path}/run".split())
    assert "continuing from step 14" in capsys.readouterr().out
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")
    assert Run.open(tmp_path / "run").is_finished


def test_a_long_training_says_so_before_it_starts(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(trainer.Chunks, "time_one", lambda self, state: 40.0)
    lines = []
    loop.train(CONFIG, Dataset(IMAGES), {}, loop.Record(), report=lines.append, show_progress=False)
    assert lines == [
        "training will take about 13 min; fewer steps (--steps, now 20) would make it shorter"
    ]
    monkeypatch.setattr(trainer.Chunks, "time_one", lambda self, state: 20.0)
    loop.train(CONFIG, Dataset(IMAGES), {}, loop.Record(), report=lines.append, show_progress=False)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("model", "pictures", "named"),
    [
        (ModelConfig(), PictureConfig(), ["--steps"]),
        (ModelConfig(scale_prior_mean=9.0, image_size=(300, 400)), PictureConfig(),
         ["--steps", "--crop"]),
        (ModelConfig(model_steps=12, scale_prior_mean=9.0), PictureConfig(crop=50),
         ["--steps", "--crop, now 50", "--max-objects, now 12"]),
    ],
)  # fmt: skip
def test_what_would_make_it_shorter(model, pictures, named):
    line = faster(dataclasses.replace(CONFIG, model=model, pictures=pictures))
    assert all(flag in line for flag in named)
    assert line.count("--") == len(named)
