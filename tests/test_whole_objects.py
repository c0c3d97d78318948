"""Trainings in crops begin anew on crops without the objects that their border cuts."""

import itertools
import signal
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_session import learned
from test_whole import a_picture, a_reader, apart

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data import crops
from airjax.data.crops import REGION, Region, random_crops
from airjax.inference import blocks
from airjax.inference.results import Objects
from airjax.inference.slots import added
from airjax.inference.whole import Reader
from airjax.picture_config import PictureConfig
from airjax.training import loop, trainer, whole_objects
from airjax.training.runs import Run
from airjax.training.schedules import exploration
from airjax.training.whole_objects import crops_of_whole_objects, draft_steps

SIDE = 21  # of the crops


def test_regions_are_parts_of_each_picture_and_know_its_ends(monkeypatch):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, shape).astype(np.uint8) for shape in ((600, 300), (40, 50))]
    whole = random_crops(iter(pictures), 2, 16).regions
    for region, picture in zip(whole, pictures, strict=True):
        np.testing.assert_array_equal(region.image, picture)
        assert region.ends == (True, True, True, True)
    monkeypatch.setattr(crops, "REGIONS", 4)  # the first picture is larger than two
    regions = random_crops(iter(pictures), 2, 16).regions
    assert [region.weight for region in regions] == [0.5, 0.5, 1]
    for region in regions[:-1]:
        assert region.image.shape == (REGION, REGION)
        (top, left), *_ = np.argwhere(
            (pictures[0][: 600 - REGION + 1, : 300 - REGION + 1] == region.image[0, 0])
            & (pictures[0][REGION - 1 :, REGION - 1 :] == region.image[-1, -1])
            & (pictures[0][REGION - 1 :, : 300 - REGION + 1] == region.image[-1, 0])
        )
        part = pictures[0][top : top + REGION, left : left + REGION]
        np.testing.assert_array_equal(region.image, part)
        assert region.ends == (top == 0, left == 0, top + REGION == 600, left + REGION == 300)
    assert random_crops(iter(pictures), 2, 16, "test").regions == ()
    small = random_crops(iter(40 * pictures[1:]), 40, 16).regions  # 4 large ones, or 32 small ones
    assert len(small) == 32 and all(region.image.shape == (40, 50) for region in small)


@pytest.mark.slow  # compiles much
def test_objects_are_drawn_where_they_were_found():
    model, guide = a_reader(likelihood_sd=0.1)
    picture = a_picture(apart(12, (60, 90), 8), (60, 90))
    corners, y = blocks.drawn(model, blocks.find(model, guide, picture))
    state = Reader(model, guide).read(jnp.asarray(picture, jnp.float32) / 255, 32)
    canvas = added(jnp.zeros((60 + 42, 90 + 42)), jnp.asarray(corners) + 21, jnp.asarray(y))
    ours = picture / 255 - np.asarray(canvas)[21:-21, 21:-21]
    np.testing.assert_allclose(ours, state.residual[10:70, 10:100], atol=1e-5)


SPOTS = np.array([[4, 5], [20, 9], [11, 30], [33, 33], [30, 12], [47, 40], [46, 2], [2, 47]])


@pytest.fixture
def known(monkeypatch):
    """As if each spot of 3 x 3 pixels were found, wherever it is."""
    spot = np.full((3, 3), 0.5, np.float32)
    boxes = np.concatenate([SPOTS, SPOTS + 3], axis=1)[:, [1, 0, 3, 2]].astype(np.float32)
    patches = np.zeros((len(SPOTS), SIDE, SIDE), np.float32)
    patches[:, 9:12, 9:12] = spot
    none = np.zeros((len(SPOTS), 0))
    found = Objects(boxes, boxes, np.ones(len(SPOTS)), none, none, np.ones(1))
    monkeypatch.setattr(whole_objects, "find_each", lambda *_: itertools.repeat(found))
    monkeypatch.setattr(whole_objects, "drawn", lambda *_: (SPOTS - 9, patches))
    image = np.zeros((50, 50), np.uint8)
    for y, x in SPOTS:
        image[y : y + 3, x : x + 3] = 128
    return image


@pytest.mark.parametrize("ends", [(True, True, True, True), (False, True, False, False)])
def test_crops_hold_whole_objects_only(known, ends):
    model, guide = a_reader()
    regions = [Region(known, ends, 1.0), Region(known, ends, 3.0)]
    made, most = crops_of_whole_objects(model, guide, regions, 80, lambda: False)
    assert made.shape == (80, SIDE, SIDE) and made.dtype == np.uint8
    spots = np.round(made / 128).sum((1, 2)) / 9  # 1 rounds to a level of 0 or 128
    assert (spots == spots.round()).all() and spots.max() >= 2
    assert most == spots.max() + 1  # of so few crops, 99 % are all
    assert 0 < (spots == 0).mean() < 0.3
    # a picture with a seventh of its width left at each inner end
    with pytest.MonkeyPatch.context() as patch:
        corners = []
        patch.setattr(whole_objects, "_without", lambda _, at, *__: corners.append(at) or known)
        crops_of_whole_objects(model, guide, regions, 300)
    low, high = np.min(corners, axis=0), np.max(corners, axis=0)
    inner = 0 if all(ends) else 7
    np.testing.assert_array_equal(low, [inner, 0])
    np.testing.assert_array_equal(high, 50 - SIDE - inner)


def test_crops_of_whole_objects_are_the_same_again_and_can_be_stopped(known):
    model, guide = a_reader()
    regions = [Region(known, (True, True, True, True), 1.0)]
    first, again = (crops_of_whole_objects(model, guide, regions, 20) for _ in range(2))
    np.testing.assert_array_equal(first.images, again.images)
    assert crops_of_whole_objects(model, guide, regions, 20, lambda: True) is None


def test_there_is_a_draft_in_crops_of_pictures_only():
    regions = (Region(np.zeros((9, 9)), (True, True, True, True), 1.0),)
    model = replace(Config().model, guide="attend")
    config = Config(TrainConfig(steps=90), model, pictures=PictureConfig(crop=24))
    assert draft_steps(config, regions) == 30
    assert draft_steps(config, ()) == 0  # whole images
    assert draft_steps(replace(config, pictures=PictureConfig(crop=0)), regions) == 0


def test_counts_are_explored_in_both_parts():
    config = Config(TrainConfig(steps=3000))
    for step in (0, 400, 749, 750, 999, 1000, 1500, 1999, 2499, 2500, 2999):
        part, steps = (step, 1000) if step < 1000 else (step - 1000, 2000)
        alone = Config(TrainConfig(steps=steps))
        assert exploration(config, step, draft=1000) == exploration(alone, part)


class SignalWhenAsked(loop.Interrupt):
    """As if a signal came before the n-th time that somebody asks."""

    n = asked = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def arrived(self):
        SignalWhenAsked.asked += 1
        self.signum = signal.SIGTERM if self.asked >= self.n else None
        return self.signum is not None


FLAGS = (
    "--crop 12 --object-size 4 --steps 30 --batch-size 4 --progress-every 5 --eval-every 10 "
    "--save-every 10 -t 2 --encoder-latent-size 2 --rnn-hidden-size 4 --predict-net 4 "
    "--encoder-net 4 --decoder-net 4 --embed-net 4"
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of three pictures, and a whole run of it."""
    folder, random = tmp_path_factory.mktemp("whole_objects"), np.random.default_rng(2)
    (folder / "in").mkdir()
    for i in range(3):
        array = np.zeros((30 + i, 25), np.uint8)
        for top, left in random.integers(0, 20, (6, 2)):
            array[top : top + 4, left : left + 4] = random.integers(100, 256)
        Image.fromarray(array).save(folder / "in" / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("airjax.data.crops.CROPS", {"train": 40, "test": 10})
        main(f"train {folder}/in --out {folder}/run {FLAGS}".split())
    return folder


# 8 questions in the draft's 10 steps, then one before each of 3 regions
@pytest.mark.slow
@pytest.mark.parametrize(("asked", "step"), [(3, 3), (10, 10), (15, 14), (23, 24)])
def test_a_run_goes_on_as_if_nothing_had_been(pictures, tmp_path, monkeypatch, capsys, asked, step):
    monkeypatch.setattr("airjax.data.crops.CROPS", {"train": 40, "test": 10})
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(trainer, "LONGEST", 0.0)
        patch.setattr(SignalWhenAsked, "n", asked)
        patch.setattr(SignalWhenAsked, "asked", 0)
        patch.setattr(loop, "Interrupt", SignalWhenAsked)
        main(f"train {pictures}/in --out {tmp_path}/run {FLAGS}".split())
    assert end.value.code == 128 + signal.SIGTERM
    out = capsys.readouterr().out
    assert f"stopped at step {step}, everything is saved" in out
    main(f"train --resume {tmp_path}/run".split())
    assert learned(tmp_path / "run") == learned(pictures / "run")
    assert Run.open(tmp_path / "run").is_finished
