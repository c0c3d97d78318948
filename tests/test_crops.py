"""Random crops of large pictures."""

import numpy as np
import pytest

from airjax.data import crops, load
from airjax.data.crops import random_crops
from airjax.errors import InputError
from airjax.picture_config import PictureConfig


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(crops, "CROPS", {"train": 40, "test": 10, "all": 40})


def test_crops_are_parts_from_all_over_each_picture():
    pictures = [np.arange(30 * 50).reshape(30, 50), 5000 + np.arange(12 * 9).reshape(12, 9)]
    made = random_crops(iter(pictures), 2, 8).images
    assert made.shape == (40, 8, 8)
    for crop, picture in ((made[0], pictures[0]), (made[20], pictures[1])):
        top, left = np.argwhere(picture == crop[0, 0])[0]
        np.testing.assert_array_equal(crop, picture[top : top + 8, left : left + 8])
    rows, columns = np.divmod(made[:20, 0, 0], 50)
    assert rows.min() < 6 and rows.max() > 16 and columns.min() < 10 and columns.max() > 32
    assert set(made[20:, 0, 0].ravel() - 5000) <= {9 * i + j for i in range(5) for j in range(2)}


def test_crops_are_the_same_whenever_asked_for_and_others_in_each_part():
    picture = [np.random.default_rng(0).random((40, 40, 3))]
    first, again = (random_crops(picture, 1, 8, "train").images for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 8, 8, 3)
    assert not np.array_equal(first[:10], random_crops(picture, 1, 8, "test").images)


def test_crops_of_a_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 18), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, counts=np.ones(20, np.int32))
    data = load(str(tmp_path / "a.npz"), "test", None, PictureConfig(crop=9))
    assert data.images.shape == (10, 9, 9) and data.counts is None and data.part == "test"
    with pytest.raises(InputError, match="crop must be at most the images' smaller side, 16"):
        load(str(tmp_path / "a.npz"), "train", None, PictureConfig(crop=17))


def test_there_are_as_many_crops_as_are_said():
    """Also of more pictures than crops (once, 25,000 pictures had 25,000)."""
    for number in (1, 3, 7, 55):
        made = random_crops(iter([np.full((9, 9), i) for i in range(number)]), number, 4).images
        assert len(made) == 40
        each = np.bincount(made[:, 0, 0], minlength=number)
        assert np.ptp(each) <= 1
