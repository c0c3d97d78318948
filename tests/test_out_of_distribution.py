"""Pictures that look unlike those of the training."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, eager
from PIL import Image

from airjax.air import AIR
from airjax.cli.main import main
from airjax.demo.exhibit import Exhibit
from airjax.demo.uploads import subject_of
from airjax.inference.out_of_distribution import UNKNOWN, Explained, Usual, of_picture, of_scenes
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

USUAL = Usual(Explained(0.04, 0.9), in_crops=False)


@pytest.mark.parametrize(
    ("residual", "share", "number", "why"),
    [
        (0.04, 0.9, 2, ""),
        (0.09, 0.8, 2, ""),
        (0.11, 0.8, 2, "2.8 times the residual"),
        (0.05, 0.3, 2, "explain 30 % of it, of held-out images 90 %"),
        (0.05, 0.0, 0, ""),  # nothing is found in noise: that is no doubt
        (0.0, None, 0, ""),
    ],
)
def test_why_a_picture_is_unlike(residual, share, number, why):
    found = USUAL.unlike(Explained(residual, share), number)
    assert why in found and bool(found) == bool(why)


def test_whole_pictures_leave_less():
    in_crops = USUAL._replace(in_crops=True)
    assert "explain 80 % of it" in in_crops.unlike(Explained(0.03, 0.8), 9)
    assert "1.5 times" in in_crops.unlike(Explained(0.06, 0.9), 9)
    composed = in_crops._replace(composed=True)  # other crowds, other noise
    assert not composed.unlike(Explained(0.09, 0.9), 9)
    assert "2.8 times" in composed.unlike(Explained(0.11, 0.9), 9)
    assert "explain 80 % of it" in composed.unlike(Explained(0.03, 0.8), 9)
    assert not in_crops.unlike(Explained(0.03, 0.9), 9) + UNKNOWN.unlike(Explained(9.0, 0.0), 9)
    assert not USUAL.unlike(None, 9)
    assert not Usual(Explained(0.04, None), in_crops=False).unlike(Explained(0.05, -0.1), 9)


def test_how_well_objects_explain_images(tiny):
    model, guide = tiny
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 6)).astype(np.uint8)
    scenes = AIR.of(model, eager(guide), num_paths=1).predict(images)
    for image, drawn, one in zip(
        images / 255, scenes.reconstructions, of_scenes(scenes), strict=True
    ):
        assert one.residual == pytest.approx(np.sqrt(np.square(image - drawn).mean()), rel=1e-4)
        share = 1 - np.square(image - drawn).sum() / np.square(image).sum()
        assert one.share == pytest.approx(share, rel=1e-3, abs=1e-5)
    assert of_scenes(AIR.of(model, eager(guide), num_paths=1).predict(0 * images))[0].share is None


@pytest.mark.slow
def test_objects_of_a_whole_picture_are_drawn_where_they_are():
    model, guide = untrained(dataclasses.replace(TINY, guide="attend").for_images((6, 6)), 1)
    picture = np.random.default_rng(0).integers(0, 256, (17, 23)).astype(np.uint8)
    objects = AIR.of(model, eager(guide)).find(picture)
    assert objects.number > 3
    nothing = objects.some(np.zeros(objects.number, bool))
    best, none = (of_picture(model, picture, some) for some in (objects, nothing))
    assert best is not None and none is not None and none.share == 0
    assert none.residual == pytest.approx(np.sqrt(np.square(picture / 255).mean()), rel=1e-5)
    assert best.residual < none.residual  # each is worth something where it is


@pytest.mark.slow
def test_predict_and_the_page_say_the_same(run, tmp_path, capsys, monkeypatch):
    found = Run.open(run)
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (5, 6)).astype(np.uint8)).save(folder / name)
    monkeypatch.setattr(Run, "usual", Usual(Explained(0.01, 0.9), in_crops=False))
    main(["predict", str(run), str(folder), "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "unlike what the model was trained on: 2 of 2" in text
    (line,) = (line.strip() for line in text.splitlines() if "a.png:" in line)
    why = line.removeprefix("a.png: ")
    assert why.startswith("the objects leave")
    report = (tmp_path / "out/report.html").read_text()
    assert report.count(f'title="{why}"') == 1 and report.count(">unlike the training</span>") == 2
    exhibit = Exhibit.of(found)
    subject = subject_of(folder / "a.png", found.config.pictures, exhibit.shape)
    (doubt,) = exhibit.found(subject, 5).doubts
    assert why in doubt


def test_what_is_usual_is_read_from_the_run(run):
    found = Run.open(run)
    assert found.usual == UNKNOWN
    scores, health = {"reconstruction_mse": 0.0016}, {"explained": 0.9}
    usual = Usual.of(json.loads(json.dumps(scores)), health, False)
    assert usual.explained == pytest.approx(USUAL.explained)
    assert jnp.isfinite(usual.explained.residual)
    assert usual.density is None and not usual.unlike_number(999, 100)
    usual = Usual.of(scores, health | {"mean_count": 1.5}, False, pixels=100)
    assert usual.density == pytest.approx(0.015)
    assert Usual.of(scores, health | {"mean_count": 0.0}, False, pixels=100).density is None


def test_far_more_or_far_fewer_objects_than_in_the_training():
    usual = Usual(Explained(0.04, 0.9), in_crops=True, density=0.01)
    what = "objects as held-out images of the training have in this area"
    assert usual.unlike_number(320, 10_000) == f"3.2 times as many {what}"
    assert usual.unlike_number(20, 10_000) == f"only 20 % of the {what}"
    assert not usual.unlike_number(190, 10_000) and not usual.unlike_number(60, 10_000)
    assert not usual.unlike_number(9, 100)  # too few to say
    assert not usual._replace(composed=True).unlike_number(320, 10_000)
