"""The same images have the same settings, whoever trains on them."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from conftest import mistake
from test_decode import scene
from test_survey import folder_of, haze

from airjax.air import AIR
from airjax.cli.main import main
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data import DATASETS
from airjax.data.inputs import images_of
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.resolve import resolved
from airjax.training.runs import Run
from airjax.training.session import Session


@pytest.fixture
def images():
    """Squares of 10 pixels."""
    images = np.zeros((40, 40, 60), np.uint8)
    for i, image in enumerate(images):
        image[i % 20 : i % 20 + 10, i : i + 10] = 255
    return images


@pytest.mark.slow  # compiles much
def test_air_and_the_command_line_decide_alike(images, tmp_path):
    """Also where a config is given for something else (background, here)."""
    np.savez(tmp_path / "images.npz", images=images)
    begun = Session.begin(tmp_path / "images.npz", out=tmp_path / "run").run.config
    ways = [AIR(), AIR(config=Config()), AIR(config=Config(TrainConfig(seed=4)))]
    for found in [begun, *(air._resolved(images)[0] for air in ways)]:
        assert (found.model.guide, found.train.steps, found.train.learning_rate) == (
            "attend", 6000, 2e-3,
        )  # fmt: skip
        assert found.model == begun.model
    mean = AIR(config=Config(model=ModelConfig(background="mean")))._resolved(images)[0]
    assert mean.model == replace(begun.model, background="mean") and mean.train.steps == 6000


@pytest.mark.parametrize(
    ("name", "guide", "steps"),
    [("digits", "attend", 1000), ("multi-mnist", "window", 6000), ("sprites", "attend", 6000)],
)
def test_named_data_sets_keep_the_papers_priors(name, guide, steps, images):
    config, _ = resolved(Config(TrainConfig(data=name)), images)
    assert (config.model.guide, config.train.steps) == (guide, steps)
    want = replace(ModelConfig(guide=guide, background="none"), image_size=(40, 60))
    assert config.model == want and name in DATASETS
    assert AIR(config=Config(TrainConfig(data=name)))._resolved(images)[0].model == want


def test_what_is_given_is_kept(images):
    model = ModelConfig(guide="basic", background="learned", scale_prior_mean=2.0)
    config, decisions = resolved(Config(TrainConfig(steps=7, learning_rate=0.1), model), images)
    assert (config.train.steps, config.train.learning_rate) == (7, 0.1)
    assert config.model == replace(model, image_size=(40, 60)) and decisions == []


def test_every_decision_names_its_flag(images):
    _, decisions = resolved(Config(), images)
    assert decisions == [
        ("steps", "6000", "--steps"),
        ("guide", "attend", "--guide"),
        ("object size", "10 pixels", "--object-size"),
    ]
    assert resolved(*resolved_args(images))[1] == []


def resolved_args(images):
    """Settings that are decided already, and the images."""
    return resolved(Config(), images)[0], images


def test_programs_want_a_decided_guide():
    with pytest.raises(InputError, match=r"guide must be one of attend, .*, got auto"):
        untrained(ModelConfig(), 0)
    with pytest.raises(InputError, match="steps must be given, or decided by"):
        _ = TrainConfig().num_steps


def test_a_data_set_is_named_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = mistake("train digits --data multi-mnist", capsys)
    assert message == "--data must be left out where PICTURES is given, got multi-mnist"


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 8.0, "6-10"])
def test_a_folder_is_the_same_for_air_and_the_command_line(size, tmp_path):
    """Also where a background is subtracted from each picture."""
    scenes = [0.45 * scene(seed, (120, 160), 25) + haze(seed) + 0.05 for seed in range(12)]
    path = folder_of([np.round(60000 * s.clip(0, 1)).astype(np.uint16) for s in scenes],
                     tmp_path / "in")  # fmt: skip
    begun = Session.begin(path, out=tmp_path / "run", object_size=size).run.config
    assert begun.pictures.local_background is not None and begun.model.background == "none"
    air = AIR(object_size=size)
    data, seen = images_of(path, "X", Config(), size)
    images = data.images
    config, decisions = air._resolved(images, seen)
    assert config.model == begun.model and config.pictures == begun.pictures
    assert ("most objects", str(begun.model.model_steps), "--max-objects") in decisions
    assert AIR(2, object_size=size)._resolved(images, seen)[0].model.model_steps == 2
    three = Session.begin(path, out=tmp_path / "three", object_size=size, max_objects=3)
    assert three.run.config.model.model_steps == 3
    assert begun.model.z_pres_prior == 0.1 and begun.model.encoder_latent_size != 50
    flags = f"train {path} --out {tmp_path}/kept --z-pres-prior 0.01 --encoder-latent-size 50"
    with pytest.MonkeyPatch.context() as patch:  # given, although they are the defaults
        patch.setattr(Session, "train", lambda *_, **__: signal.SIGTERM)  # stopped at once
        with pytest.raises(SystemExit):
            main(f"{flags} --object-size {size or 'auto'}".split())
    kept = Run.open(tmp_path / "kept").config.model
    assert kept.z_pres_prior == 0.01 and kept.encoder_latent_size == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guide": "window"}, "guide must be attend with crops: other guides"),
        ({"background": "mean"}, "background must be none, local or lines with crops: others"),
    ],
)
def test_crops_need_programs_for_pictures_of_any_size(settings, message):
    """Before training, not when the pictures are read."""
    images = np.zeros((4, 24, 24), np.uint8)
    images[:, 4:9, 4:9] = 200
    config = Config(model=ModelConfig(**settings), pictures=PictureConfig(crop=24))
    with pytest.raises(InputError, match=message):
        resolved(config, images, 5.0)
    digits = Config(train=TrainConfig(data="digits"), pictures=PictureConfig(crop=24))
    assert resolved(digits, images)[0].model.guide == "attend"  # not the data set's
    grey = resolved(Config(pictures=PictureConfig(crop=24)), images + 55, 5.0)[0]
    assert grey.model.background == "none" and grey.model.guide == "attend"
