"""Data sets by name or path, and their parts: what is trained on and what is held out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from airjax.config import PictureConfig
from airjax.data.cache import cached
from airjax.data.dataset import Dataset, load_dataset
from airjax.data.digits import load_digits
from airjax.data.folder import load_folder
from airjax.data.mnist import load_mnist
from airjax.data.scenes import Pool, SceneConfig, compose
from airjax.errors import InputError

Part = Literal["train", "test", "all"]
POOLS: dict[str, Callable[[str, Path | None], Pool]] = {
    "digits": load_digits,
    "multi-mnist": load_mnist,
}
NUM_TEST = 10_000  # held-out scenes of a data set made here
HELD_OUT = 10  # one in so many images of a file or folder is held out


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
    pictures, of which broken ones are left out).

    A named set has 60,000 training scenes and 10,000 test scenes made of other digits. Of an .npz,
    ``train`` is the first nine tenths, ``test`` the rest, ``all`` everything; of a folder's
    pictures, by path, every tenth is held out.

    Raises:
        InputError: if there is no such data set, or it is damaged or too small to be split.
    """
    if data in POOLS:
        scenes = SceneConfig() if part == "train" else SceneConfig(num_scenes=NUM_TEST)
        return make(data, part, scenes, data_dir)
    path = Path(data)
    if path.is_dir():
        return split(load_folder(path, pictures or PictureConfig())[0], data, part, every=True)
    if not path.is_file():
        rule = f"must be one of {', '.join(POOLS)}, or the path of an .npz file or of a folder"
        raise InputError("data", rule, data)
    return split(load_dataset(path), data, part)


def split(whole: Dataset, name: str, part: Part, every: bool = False) -> Dataset:
    """A part of a data set: the last tenth is held out, or every tenth.

    Raises:
        InputError: if it is too small to be split; it names ``name``.
    """
    if part == "all":
        return whole
    held_out = np.zeros(len(whole), bool)
    n = len(whole) // HELD_OUT
    if n == 0:
        raise InputError(name, f"must hold {HELD_OUT} images or more to hold some out", len(whole))
    if every:
        held_out[HELD_OUT - 1 :: HELD_OUT] = True
    else:
        held_out[-n:] = True
    return replace(whole[held_out if part == "test" else ~held_out], part=part)
