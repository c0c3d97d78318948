"""A run from Python: begun, stopped and resumed in three lines, as the command line does it."""

import signal

import numpy as np
import pytest
from test_session import FLAGS, InterruptedAfter, learned

from airjax.cli.main import main
from airjax.config import Config, ModelConfig, ProgressConfig, TrainConfig, TriesConfig
from airjax.errors import InputError
from airjax.training import loop
from airjax.training.runs import Run
from airjax.training.session import Session

CONFIG = Config(  # as FLAGS
    TrainConfig(steps=40, batch_size=8),
    ModelConfig(
        model_steps=2, window_size=6, encoder_latent_size=3, rnn_hidden_size=8, predict_net=(5,),
        bl_predict_net=(5,), encoder_net=(5,), decoder_net=(5,), embed_net=(5,), embed_channels=2,
    ),
    progress=ProgressConfig(progress_every=5, eval_every=10, save_every=10),
)  # fmt: skip


@pytest.mark.slow  # trains
@pytest.mark.parametrize("chunks", [pytest.param(None, marks=pytest.mark.slow), 3])
def test_it_is_the_run_of_the_command_line(chunks, scenes, tmp_path, monkeypatch):
    main(f"train {scenes} --out {tmp_path}/line {FLAGS}".split())
    session = Session.begin(scenes, CONFIG, out=tmp_path / "python")
    assert session.run.config == Run.open(tmp_path / "line").config
    if chunks is not None:
        with monkeypatch.context() as patch:
            patch.setattr(InterruptedAfter, "left", chunks, raising=False)
            patch.setattr(loop, "Interrupt", InterruptedAfter)
            assert session.train() == signal.SIGTERM
        assert not session.run.is_finished
        session = Session.resume(tmp_path / "python")
    assert session.train() is None and session.run.is_finished
    assert learned(tmp_path / "python") == learned(tmp_path / "line")
    with pytest.raises(InputError, match="resume must be a run that is not finished"):
        Session.resume(tmp_path / "python")


def test_a_folder_of_pictures_needs_no_setting(tmp_path, capsys):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for i in range(20):
        array = np.zeros((20, 24), np.uint8)
        array[i % 10 : i % 10 + 6, 2 * (i % 8) : 2 * (i % 8) + 6] = 255
        Image.fromarray(array).save(tmp_path / "pictures" / f"{i:02}.png")
    session = Session.begin(tmp_path / "pictures", out=tmp_path / "run")
    out = capsys.readouterr().out
    for line in (
        "channel grey --channel", "dark on bright no --invert", "intensities none --normalise",
        "images whole pictures --crop", "steps 6000 --steps", "guide attend --guide",
    ):  # fmt: skip
        assert line in [" ".join(row.split()) for row in out.splitlines()]
    assert "object size 6 pixels (6 to 6) --object-size" in " ".join(out.split())
    assert session.run.config.pictures.invert == "no"
    assert (len(session.train_data), len(session.held_out)) == (18, 2)


def test_the_loop_keeps_what_it_has_if_a_signal_meets_a_collapse(scenes, tmp_path, monkeypatch):
    """In memory, as for `AIR.fit`: the restart that would follow is not begun."""
    session = Session.begin(scenes, CONFIG, out=tmp_path / "run")
    monkeypatch.setattr(loop, "collapse", lambda rows, *_: "bad" if len(rows) == 2 else None)
    monkeypatch.setattr(InterruptedAfter, "left", 0, raising=False)
    monkeypatch.setattr(loop, "Interrupt", InterruptedAfter)
    lines = []
    monkeypatch.setattr(InterruptedAfter, "left", 1)
    config, data = session.run.config, session.train_data
    record = loop.Record()
    outcome = loop.train(
        config, data, {"test": session.held_out}, record,
        report=lines.append, show_progress=False,
    )  # fmt: skip
    assert outcome.signum == signal.SIGTERM and not outcome.is_complete
    assert int(outcome.state.step) == 10 and outcome.collapsed == "bad"
    assert "step 10: collapsed: bad" in lines[0]


def test_a_callback_ends_a_training(scenes, tmp_path):
    session = Session.begin(scenes, CONFIG, out=tmp_path / "run")
    record = loop.Record()
    outcome = loop.train(
        session.run.config, session.train_data, {}, record,
        report=print, show_progress=False, callback=lambda row: row["step"] >= 15,
    )  # fmt: skip
    assert [row["step"] for row in record.rows] == [5, 10, 15]
    assert outcome.signum is None and not outcome.is_complete


@pytest.mark.slow  # compiles much
def test_several_seeds_from_python(scenes, tmp_path):
    from dataclasses import replace

    config = replace(CONFIG, tries=TriesConfig(seeds=2, restarts=0))
    session = Session.begin(scenes, config, out=tmp_path / "run")
    assert session.train() is None
    assert (tmp_path / "run/seed_1/evaluation.json").exists() and session.run.is_finished
