"""The health report of a training, which needs no labels; collapses are reported everywhere."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from conftest import TINY
from sklearn.exceptions import ConvergenceWarning
from test_collapse import FLAGS, never_well

from airjax import background
from airjax.air import AIR
from airjax.cli.main import main
from airjax.config import Config, ModelConfig
from airjax.data import make
from airjax.data.composer import SceneConfig
from airjax.demo import views
from airjax.demo.exhibit import Exhibit
from airjax.inference.reading import Reading
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training import health as module
from airjax.training import loop
from airjax.training.health import health, remedy
from airjax.training.resolve import resolved
from airjax.training.runs import Run


def squares(number=200, side=60, size=8, count=2):
    """Images of bright squares on black, and their counts."""
    random = np.random.default_rng(0)
    images = np.zeros((number, side, side), np.uint8)
    counts = random.integers(0, count + 1, number)
    for image, n in zip(images, counts, strict=True):
        for x, y in random.choice(side // (size + 4), (n, 2)) * (size + 4):
            image[y : y + size, x : x + size] = 255
    return images, counts


def noisy(images):
    """SuPAIR's noisy images: 0.8 x + 0.1 + Normal(0, 0.2)."""
    noise = np.random.default_rng(1).normal(0, 0.2, images.shape)
    return np.round(255 * np.clip(0.8 * images / 255 + 0.1 + noise, 0, 1)).astype(np.uint8)


def on_grid(images):
    """The same grid behind all images."""
    grid = np.zeros(images.shape[1:], np.uint8)
    grid[::5] = grid[:, ::5] = 77
    return np.maximum((0.8 * images).astype(np.uint8), grid)


# the background is found without a flag


@pytest.mark.slow
@pytest.mark.parametrize(("change", "found"), [(lambda x: x, "none"), (noisy, "mean"),
                                               (on_grid, "mean")])  # fmt: skip
@pytest.mark.parametrize("pool", ["digits", "sprites"])
def test_a_background_that_is_not_black_is_found(pool, change, found):
    images = change(make(pool, "test", SceneConfig(num_scenes=200)).images)
    assert background.is_visible(images) is (found == "mean")
    config, decisions = resolved(Config(), images)
    assert config.model.background == found
    said = [value for _, value, flag in decisions if flag == "--background"]
    assert len(said) == (found == "mean") and all("% from black" in value for value in said)
    assert AIR()._resolved(images)[0].model == config.model
    given = Config(model=ModelConfig(background="none"))
    assert resolved(given, images)[0].model.background == "none"


def test_the_level_is_the_root_mean_square_of_the_median():
    images = np.zeros((5, 2, 2), np.uint8)
    images[:3, 0] = 51
    assert background.level(images) == pytest.approx(0.2 / np.sqrt(2))
    assert not background.is_visible(images[:2])  # too few to tell


# what may mend a training


@pytest.mark.parametrize(
    ("images", "config", "flag"),
    [
        (noisy(squares()[0]), Config(model=ModelConfig(background="none")), "--background mean"),
        (
            noisy(squares()[0]),
            Config(model=ModelConfig(background="none"), pictures=PictureConfig(crop=40)),
            "--background local (",
        ),
        (squares(side=120)[0], Config(), "--crop 32"),
        (squares(side=32)[0], Config(model=ModelConfig(scale_prior_mean=1.2)), "--object-size 8"),
        (
            squares(side=120)[0],
            Config(model=ModelConfig(scale_prior_mean=5.0), pictures=PictureConfig(crop=40)),
            "--object-size 8",
        ),
        (squares(side=32)[0], Config(model=ModelConfig(scale_prior_mean=3.0)), "--seeds 3"),
    ],
)
def test_the_advice_is_found_by_looking_at_the_images(images, config, flag):
    assert remedy(config, images).startswith(flag)


def reading_of(images, counts, model, size=8.0, scale=None):
    """A reading with these counts, in which all boxes have the same size."""
    n, steps = len(images), model.config.model_steps
    boxes = np.tile(np.float32([4, 4, 4 + size, 4 + size]), (n, steps, 1))
    scale = model.config.scale_prior_mean if scale is None else scale
    return Reading(
        count_probs=np.eye(steps + 1, dtype=np.float32)[counts],
        z_where=np.full((n, steps, 3), scale, np.float32),
        windows=np.ones((n, steps, 8, 8), np.float32),
        tight_boxes=boxes,
        reconstruction=images / np.float32(255),
    )


@pytest.fixture(scope="module")
def model():
    config = dataclasses.replace(
        TINY, model_steps=4, image_size=(60, 60), window_size=8, scale_prior_mean=5.8
    )
    return untrained(config, 0)[0]


def test_a_good_training_has_no_doubts(model, monkeypatch):
    monkeypatch.setattr(module, "remedy", None)  # takes seconds, and is not needed here
    images, counts = squares()
    findings = health(reading_of(images, counts, model), images, model, Config(model=model.config))
    values = {finding.name: finding.value for finding in findings}
    assert not [finding.doubt for finding in findings if finding.doubt]
    assert values["mean_count"] == pytest.approx(counts.mean())
    assert values["box"] == 8 and values["explained"] == 1 and values["full"] == 0
    assert values["threshold_correlation"] > 0.8  # squares may lie upon each other


@pytest.mark.parametrize(
    ("change", "doubted"),
    [
        ({"counts": np.zeros(200, int)}, {"mean_count", "explained"}),
        ({"counts": np.full(200, 4)}, {"full"}),
        ({"counts": 2 - squares()[1]}, {"threshold_correlation"}),
        ({"scale": 1.0}, {"large_windows"}),
        ({"size": 30.0}, {"box"}),
    ],
)
def test_what_is_wrong_is_doubted_and_names_a_flag(change, doubted, model):
    images, counts = squares()
    reading = reading_of(images, **({"counts": counts, "model": model} | change))
    if "explained" in doubted:
        reading = reading._replace(reconstruction=np.zeros(images.shape, np.float32))
    config = Config(model=model.config)
    doubts = {f.name: f.doubt for f in health(reading, images, model, config) if f.doubt}
    assert set(doubts) == doubted
    assert all("--" in doubt for doubt in doubts.values())


def test_crops_may_have_as_many_objects_as_they_can(model):
    """The pictures are read without a limit."""
    images = np.zeros((20, 60, 60), np.uint8)
    reading = reading_of(images, np.full(20, 4), model)
    config = Config(model=model.config, pictures=PictureConfig(crop=60))
    assert "full" not in {finding.name for finding in health(reading, images, model, config)}


def test_constant_images_have_no_variation_to_explain(model):
    images = np.zeros((20, 60, 60), np.uint8)
    reading = reading_of(images, np.zeros(20, int), model)
    findings = {f.name: f for f in health(reading, images, model, Config(model=model.config))}
    assert findings["explained"].value is None and "box" not in findings


# a collapse is said wherever the model is used


@pytest.fixture(scope="module")
def bad(scenes, tmp_path_factory):
    """A run that ended collapsed."""
    path = tmp_path_factory.mktemp("bad") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(loop, "collapse", never_well)
        main(f"train --data {scenes} --out {path} --restarts 0 {FLAGS}".split())
    assert end.value.code == 3
    return path


def test_the_run_ends_with_its_health_and_the_flag_that_may_mend_it(bad, scenes, tmp_path, capsys):
    values = json.loads((bad / "health.json").read_text())
    assert {"mean_count", "full", "large_windows", "empty_objects", "explained"} <= set(values)
    assert values["explained"] <= 0.2 and Run.open(bad).doubts == values["doubts"]
    assert values["doubts"][-1].startswith("share of the images' variation that is explained: ")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(loop, "collapse", never_well)
        main(f"train --data {scenes} --out {tmp_path}/run --background none --restarts 0 "
             f"{FLAGS}".split())  # fmt: skip
    out = capsys.readouterr().out
    assert "without labels, on held-out images:" in out and "objects an image" in out
    # the images are noise on grey
    assert "what may mend it: --background mean (the background of these images" in out
    assert "this training has collapsed: it is a test; try --background mean" in out


def test_evaluate_and_predict_repeat_it(bad, scenes, tmp_path, capsys):
    why = f"airjax: the training of {bad} has collapsed (it is a test): what it finds is probably"
    main(["evaluate", str(bad), "--json"])
    captured = capsys.readouterr()
    assert why in captured.err and json.loads(captured.out)
    (tmp_path / "in").mkdir()
    from PIL import Image

    Image.fromarray(np.load(scenes)["images"][0]).save(tmp_path / "in/a.png")
    main(f"predict {bad} {tmp_path}/in --out {tmp_path}/out".split())
    assert why in capsys.readouterr().err


def test_the_page_says_it(bad):
    exhibit = Exhibit.of(Run.open(bad))
    assert exhibit.facts()["this training has collapsed"] == "it is a test"
    html = views.header("title", "run", "data", exhibit.run.collapsed)
    assert "This training has collapsed: it is a test. What is found is probably wrong" in html
    assert "collapsed" not in views.header("title", "run", "data", None)


def test_a_loaded_air_warns_and_a_saved_one_keeps_it(bad, tmp_path):
    with pytest.warns(ConvergenceWarning, match="has collapsed: it is a test"):
        air = AIR.load(bad)
    air.save(tmp_path / "saved")
    with pytest.warns(ConvergenceWarning, match="has collapsed: it is a test"):
        assert AIR.load(tmp_path / "saved").collapsed_ == "it is a test"


def test_a_good_run_says_nothing(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "collapse", lambda *_: None)
    main(f"train --data {scenes} --out {tmp_path}/run {FLAGS}".split())
    assert Run.open(tmp_path / "run").collapsed is None
    capsys.readouterr()
    main(["evaluate", str(tmp_path / "run")])
    assert "collapsed" not in capsys.readouterr().err
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert AIR.load(tmp_path / "run").collapsed_ is None


def test_one_of_several_seeds_that_collapsed_is_marked(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "collapse", never_well)
    with pytest.raises(SystemExit) as end:
        main(f"train --data {scenes} --out {tmp_path}/run --seeds 2 --restarts 0 {FLAGS}".split())
    assert end.value.code == 3 and Run.open(tmp_path / "run").collapsed == "it is a test"
