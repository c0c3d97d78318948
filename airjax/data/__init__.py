"""Data sets by name or path, and their parts: what is trained on and what is held out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from airjax.config import PictureConfig
from airjax.data.cache import cached
from airjax.data.crops import random_crops
from airjax.data.dataset import Dataset, load_dataset
from airjax.data.digits import load_digits
from airjax.data.folder import load_folder
from airjax.data.mnist import load_mnist
from airjax.data.scenes import Pool, SceneConfig, compose
from airjax.data.sprites import load_sprites
from airjax.errors import InputError

Part = Literal["train", "test", "all"]
POOLS: dict[str, Callable[[str, Path | None], Pool]] = {
    "digits": load_digits,
    "multi-mnist": load_mnist,
    "sprites": load_sprites,
}
SCENES = {  # how the scenes of each pool are composed unless asked otherwise
    "digits": SceneConfig(),
    "multi-mnist": SceneConfig(),
    "sprites": SceneConfig(
        height=64, width=64, counts=(0, 1, 2, 3, 4),
        object_size=14, scale_mean=1.0, scale_sd=0.15, overlap="apart",
    ),
}  # fmt: skip
NUM_TEST = 10_000  # held-out scenes of a data set made here


def make(name: str, part: Part, config: SceneConfig, data_dir: Path | None = None) -> Dataset:
    """Composes (or finds in the cache) the scenes of a named pool's train or test part.

    Raises:
        InputError: if there is no pool of that name or part, or its files are damaged.
    """
    if name not in POOLS:
        raise InputError("data", f"must be one of {', '.join(POOLS)}", name)
    if part not in ("train", "test"):
        raise InputError("part", f"must be train or test for {name}", part)
    # the same seed must not place training and test objects alike
    seeded = replace(config, seed=(2 * config.seed + (part == "test")) % 2**32)
    return cached(
        name, part, seeded, lambda: compose(POOLS[name](part, data_dir), seeded, name, part)
    )


def load(
    data: str, part: Part, data_dir: Path | None = None, pictures: PictureConfig | None = None
) -> Dataset:
    """A part of the data set with this name (one of ``POOLS``) or path (an .npz, or a folder of
    pictures, of which broken ones are left out), or random crops of it.

    A named set has 60,000 training scenes and 10,000 test scenes made of other digits. Of an .npz,
    ``train`` is the first nine tenths, ``test`` the rest, ``all`` everything; of a folder's
    pictures, by path, every tenth is held out.

    Raises:
        InputError: if there is no such data set, or it is damaged or too small to be split.
    """
    path, pictures = Path(data), pictures or PictureConfig()
    if data in POOLS:
        scenes = SCENES[data] if part == "train" else replace(SCENES[data], num_scenes=NUM_TEST)
        chosen = make(data, part, scenes, data_dir)
    elif path.is_dir():
        return load_folder(path, pictures, part)[0][0]
    elif path.is_file():
        chosen = load_dataset(path).part_named(part, data)
    else:
        rule = f"must be one of {', '.join(POOLS)}, or the path of an .npz file or of a folder"
        raise InputError("data", rule, data)
    if pictures.crop is None:
        return chosen
    if pictures.crop > min(chosen.image_shape[:2]):
        rule = f"must be at most the images' smaller side, {min(chosen.image_shape[:2])}"
        raise InputError("crop", rule, pictures.crop)
    crops = random_crops(chosen.images, len(chosen), pictures.crop, part)
    return Dataset(crops, name=chosen.name, part=part)
