"""Images as users have them in Python: small, of any type, or as paths."""

import numpy as np
import pytest
from conftest import TINY, eager
from test_folder import saved

from airjax.air import AIR
from airjax.config import Config, TrainConfig
from airjax.errors import InputError
from airjax.inference.infer import read
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 6)).astype(np.uint8)
CONFIG = Config(TrainConfig(steps=4, batch_size=2), TINY)


@pytest.fixture(scope="module")
def air():
    model, guide = untrained(TINY, 1)
    return AIR.of(model, eager(guide))


def same(a, b):
    np.testing.assert_array_equal(a.images, b.images)
    np.testing.assert_array_equal(a.count_probs, b.count_probs)
    np.testing.assert_array_equal(a.tight_boxes, b.tight_boxes)


@pytest.mark.parametrize(
    "kind", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i2", ">u2", "f2", "f4", "f8", ">f4"]
)
def test_every_type_of_number_is_taken(kind, air):
    images = IMAGES / 255 if np.dtype(kind).kind == "f" else IMAGES
    same(air.predict(images.astype(kind)), air.predict(IMAGES))


def test_masks_are_white_on_black(air):
    masks = IMAGES > 127
    same(air.predict(masks), air.predict(masks * np.uint8(255)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES * np.uint16(16), "got uint16 from 0 to 4080; divide by what is white: X / 4080"),
        (IMAGES.astype("i8") - 128, "got int64 from -128 to 127"),
        ((IMAGES > 9).astype(int), "got int64 from 0 to 1; divide by what is white: X / 1"),
        (IMAGES.astype("f2"), "got float16 from 0 to 255; divide by what is white: X / 255"),
        (np.full((12, 5, 6), np.nan), "got float64 from nan to nan"),
        (np.zeros((0, 5, 6), np.uint8), "must have shape [N, H, W]"),
        ([], "must have shape [N, H, W]"),
        (["nowhere.png"], "X must hold pictures"),
        ("nowhere", "X must hold pictures"),
    ],
)
def test_what_is_not_clear_is_refused_with_the_range_found(images, message, air):
    with pytest.raises(InputError) as error:
        air.predict(images)
    assert message in str(error.value) and str(error.value).startswith("X ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.full((12, 5, 6), 9, np.uint8), "X must show something: all pixels are the same, got 9"),
        ((IMAGES > 99).astype(np.uint8), "X must be integers from 0 to 255 (masks as bool, or"),
        ("nowhere", "X must be images, or the path of a folder of pictures, got nowhere"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(X, message):
    with pytest.raises(InputError) as error:
        AIR(config=CONFIG).fit(X)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_objects": 3.5}, "max_objects must be a whole number, got 3.5"),
        ({"steps": "100"}, "steps must be a whole number, got 100"),
        ({"num_paths": 1.5}, "num_paths must be a whole number, got 1.5"),
    ],
)
def test_a_setting_of_a_wrong_type_is_named(settings, message):
    with pytest.raises(InputError) as error:
        AIR(config=CONFIG).set_params(**settings).fit(IMAGES).predict(IMAGES)
    assert str(error.value) == message


def test_no_images_are_one_line():
    with pytest.raises(InputError, match="images must hold an image or more, got 0"):
        read(*untrained(TINY, 0), np.zeros((0, 5, 6), np.uint8))


@pytest.mark.parametrize("number", [1, 2, 9, 10])
def test_few_images_are_enough(number):
    air = AIR(config=CONFIG, random_state=0).fit(IMAGES[:number])
    assert len(air.predict(IMAGES[:number])) == number


def test_pictures_are_read_from_their_paths(tmp_path, air):
    (tmp_path / "in").mkdir()
    files = [saved(tmp_path / "in" / f"{i:02}.png", image) for i, image in enumerate(IMAGES)]
    dark = AIR.of(air.model, air.guide)
    dark.config = Config(
        model=TINY, pictures=PictureConfig("no", None, "grey", 0, normalise="none")
    )
    want = dark.predict(IMAGES)
    for X in (tmp_path / "in", str(tmp_path / "in"), sorted((tmp_path / "in").iterdir())):
        same(dark.predict(X), want)
    one = dark.find(str(tmp_path / "in/03.png"))
    np.testing.assert_array_equal(one.tight_boxes, dark.find(IMAGES[3]).tight_boxes)
    fitted = AIR(config=dark.config, steps=4).fit(str(tmp_path / "in"))
    again = AIR(config=dark.config, steps=4).fit(IMAGES)
    same(fitted.predict(IMAGES), again.predict(IMAGES))
    assert fitted.config_.pictures.channel == "grey" and len(files) == 12
    (tmp_path / "in/broken.png").write_text("no")
    with pytest.raises(InputError, match=r"broken\.png cannot be read"):
        dark.predict(tmp_path / "in")


def test_a_loaded_air_has_its_settings_its_seed_and_its_history(tmp_path):
    settings = {"max_objects": 2, "steps": 4, "num_paths": 7, "estimator": "iwae"}
    fitted = AIR(config=CONFIG, random_state=9, **settings).fit(IMAGES)
    fitted.save(tmp_path / "air")
    loaded = AIR.load(tmp_path / "air")
    params = fitted.get_params(deep=False) | {"config": fitted.config_}
    assert loaded.get_params(deep=False) == params
    assert loaded.history_ == fitted.history_ and loaded.restarts_ == fitted.restarts_
    assert (loaded.seed_, loaded.random_state, loaded.config_) == (9, 9, fitted.config_)
    assert "num_paths=7" in repr(loaded) and "trained for 4 steps" in str(loaded)
    same(loaded.predict(IMAGES), fitted.predict(IMAGES))
    loaded.save(tmp_path / "again")
    assert AIR.load(tmp_path / "again").history_ == fitted.history_
