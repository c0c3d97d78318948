"""Data sets by name or path, and their parts: what is trained on and what is held out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from airjax.data.cache import cached
from airjax.data.dataset import Dataset, load_dataset
from airjax.data.digits import load_digits
from airjax.data.mnist import load_mnist
from airjax.data.scenes import Pool, SceneConfig, compose
from airjax.errors import InputError

Part = Literal["train", "test", "all"]
POOLS: dict[str, Callable[[str, Path | None], Pool]] = {
    "digits": load_digits,
    "multi-mnist": load_mnist,
}
NUM_TEST = 10_000  # held-out scenes of a data set made here
HELD_OUT = 10  # one in so many images of a file is held out: the last ones


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


def load(data: str, part: Part, data_dir: Path | None = None) -> Dataset:
    """A part of the data set with this name (one of ``POOLS``) or path (an .npz).

    A named set has 60,000 training scenes and 10,000 test scenes made of other digits. Of a file,
    ``train`` is the first nine tenths, ``test`` the rest, ``all`` everything.

    Raises:
        InputError: if there is no such data set, or it is damaged or too small to be split.
    """
    if data in POOLS:
        scenes = SceneConfig() if part == "train" else SceneConfig(num_scenes=NUM_TEST)
        return make(data, part, scenes, data_dir)
    path = Path(data)
    if not path.is_file():
        rule = f"must be one of {', '.join(POOLS)}, or the path of an .npz file"
        raise InputError("data", rule, data)
    whole = load_dataset(path)
    if part == "all":
        return whole
    held_out = len(whole) // HELD_OUT
    if held_out == 0:
        raise InputError(data, f"must hold {HELD_OUT} images or more to hold some out", len(whole))
    rows = slice(None, -held_out) if part == "train" else slice(-held_out, None)
    return replace(whole[rows], part=part)
