"""Data sets by name or path: their parts are apart, and the cache never gives anything else."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from sklearn.datasets import load_digits as bundled_digits

import airjax.data
from airjax.data import NUM_TEST, SceneConfig, load, make
from airjax.data.composer import Pool, compose
from airjax.data.dataset import Dataset, save_dataset
from airjax.data.digits import load_digits
from airjax.errors import InputError

FEW = SceneConfig(num_scenes=3)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no folder of data."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(folder))
    monkeypatch.delenv("AIRJAX_DATA_DIR", raising=False)
    return folder


# names, paths, parts


@pytest.fixture
def npz_of_20(tmp_path):
    images = np.arange(20, dtype=np.uint8).repeat(12).reshape(20, 3, 4)
    save_dataset(Dataset(images, counts=np.arange(20, dtype=np.int32)), tmp_path / "a.npz")
    return str(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("part", "rows"), [("train", range(18)), ("test", range(18, 20)), ("all", range(20))]
)
def test_the_last_tenth_of_a_file_is_held_out(part, rows, npz_of_20):
    data = load(npz_of_20, part)
    assert data.images[:, 0, 0].tolist() == list(rows)
    assert data.counts is not None
    assert data.counts.tolist() == list(rows)
    assert (data.name, data.part) == ("a", part)


def test_too_few_images_cannot_be_split(tmp_path):
    path = str(tmp_path / "a.npz")
    save_dataset(Dataset(np.zeros((9, 3, 4), np.uint8)), tmp_path / "a.npz")
    assert len(load(path, "all")) == 9
    with pytest.raises(InputError) as info:
        load(path, "train")
    assert str(info.value) == "data must hold 10 images or more to hold some out, got 9"


@pytest.mark.parametrize(("part", "number"), [("train", 60_000), ("test", NUM_TEST)])
def test_a_name_gives_the_tutorials_scenes(part, number, monkeypatch):
    made = []

    def record(*arguments):
        made.append(arguments)
        return Dataset(np.zeros((1, 1, 1), np.uint8))

    monkeypatch.setattr(airjax.data, "make", record)
    load("digits", part)
    assert made == [("digits", part, SceneConfig(num_scenes=number), None)]


def test_an_unknown_name_is_an_error():
    with pytest.raises(InputError) as info:
        load("mnits", "train")
    rule = ", or the path of an .npz, .npy or .zarr, or of a folder, got mnits"
    assert str(info.value) == f"data must be one of {', '.join(airjax.data.DATASETS)}{rule}"


def test_a_named_set_has_no_part_all():
    with pytest.raises(InputError, match="part must be train or test for digits, got all"):
        load("digits", "all")


def test_train_and_test_digits_are_the_two_ends_of_one_set():
    train, test = load_digits("train"), load_digits("test")
    images, target = bundled_digits(return_X_y=True)
    assert (len(train.images), len(test.images)) == (1437, 360)
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), target)
    inner = np.concatenate([train.images, test.images])[:, 2:-2, 2:-2]
    np.testing.assert_array_equal(np.round(inner * (16 / 255)).reshape(-1, 64), images)


def test_train_and_test_do_not_place_objects_alike(monkeypatch):
    pool = Pool(np.full((1, 8, 8), 200, np.uint8), np.zeros(1, np.int32))
    known = airjax.data.DATASETS["digits"]._replace(pool=lambda part, data_dir: pool)
    monkeypatch.setitem(airjax.data.DATASETS, "digits", known)
    train, test = (make("digits", part, SceneConfig(num_scenes=40)) for part in ("train", "test"))
    assert not np.array_equal(train.images, test.images)
    assert (train.part, test.part) == ("train", "test")


# the cache


@pytest.fixture
def composed(monkeypatch):
    """The configs that were composed, in order."""
    configs = []

    def counting(pool, config, name, part):
        configs.append(config)
        return compose(pool, config, name, part)

    monkeypatch.setattr(airjax.data, "compose", counting)
    return configs


def same(one, two):
    np.testing.assert_equal(asdict(one), asdict(two))


def test_scenes_are_composed_once(composed):
    first, second = (make("digits", "test", FEW) for _ in range(2))
    assert len(composed) == 1
    same(first, second)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"overlap": "clip"}, {"scale_sd": 0.11}, {"weights": (1.0, 1.0, 1.0)}]
)
def test_other_settings_never_meet_old_scenes(other, composed):
    make("digits", "train", FEW)
    make("digits", "train", replace(FEW, **other))
    assert len(composed) == 2


def test_another_version_never_meets_old_scenes(composed, monkeypatch):
    make("digits", "train", FEW)
    monkeypatch.setattr(airjax, "__version__", "another")
    make("digits", "train", FEW)
    assert len(composed) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"damaged",
        lambda content: content[: len(content) // 2],
        lambda content: content[:200] + b"\xff" * 50 + content[250:],
    ],
    ids=["empty", "no zip", "truncated", "overwritten"],
)
def test_a_damaged_cache_is_replaced(damage, composed, cache):
    first = make("digits", "train", FEW)
    (path,) = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    same(make("digits", "train", FEW), first)
    same(make("digits", "train", FEW), first)
    assert len(composed) == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert len(make("digits", "train", FEW)) == 3
