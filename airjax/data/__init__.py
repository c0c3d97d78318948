"""Data sets by name or path, and their parts: what is trained on and what is held out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from airjax.config import GuideName
from airjax.data.arrays import is_array, load_array
from airjax.data.cache import cached
from airjax.data.composer import Pool, SceneConfig, compose
from airjax.data.crops import random_crops
from airjax.data.dataset import Dataset, load_dataset
from airjax.data.digits import load_digits
from airjax.data.folder import load_folder
from airjax.data.mnist import load_mnist
from airjax.data.moving import moving
from airjax.data.recipes import (
    multi_dsprites,
    no_pool,
    noisy,
    occluded_digits,
    occluded_sprites,
    on_grid,
    supair_sprites,
)
from airjax.data.sprites import load_sprites
from airjax.errors import InputError
from airjax.picture_config import PictureConfig

Part = Literal["train", "test", "all"]
NUM_TEST = 10_000  # held-out scenes of a data set composed here


class NamedData(NamedTuple):
    """A data set that is composed here.

    Attributes:
        pool: reads the small images of a part, given a folder with downloaded files or None.
        scenes: how its scenes are composed by default.
        guide: the guide that is trained on it by default.
        steps: number of gradient steps by default.
        recipe: composes scenes, see `airjax.data.recipes`; None for sums of objects on black.
        is_paper: whether settings are those of the paper; of other data sets they are decided from
            the images, as they are of images of one's own.
    """

    pool: Callable[[str, Path | None], Pool]
    scenes: SceneConfig
    guide: GuideName = "attend"
    steps: int = 6000
    recipe: Callable[[Pool, SceneConfig, str, str], Dataset] | None = None
    is_paper: bool = False


SCATTERED = SceneConfig(
    num_scenes=25_000, height=48, width=48, counts=(1, 3, 5, 7, 9),
    object_size=14, scale_mean=1.0, scale_sd=0.0, overlap="limited", shared=98,
)  # fmt: skip
DATASETS: dict[str, NamedData] = {
    "digits": NamedData(load_digits, SceneConfig(), steps=1000, is_paper=True),
    "multi-mnist": NamedData(load_mnist, SceneConfig(), guide="window", is_paper=True),
    "moving-mnist": NamedData(
        load_mnist, SceneConfig(overlap="clip"), guide="window", recipe=moving, is_paper=True
    ),
    "sprites": NamedData(
        load_sprites,
        SceneConfig(
            height=64, width=64, counts=(0, 1, 2, 3, 4),
            object_size=14, scale_mean=1.0, scale_sd=0.15, overlap="apart",
        ),
        is_paper=True,
    ),
    "noisy-mnist": NamedData(load_mnist, SceneConfig(), recipe=noisy),
    "grid-mnist": NamedData(load_mnist, SceneConfig(), recipe=on_grid),
    "supair-sprites": NamedData(no_pool, SceneConfig(), recipe=supair_sprites),
    # where objects hide others, counts hardly change between 1,500 and 2,000 steps
    "occluded-sprites": NamedData(
        no_pool, SceneConfig(counts=(0, 1, 2, 3)), steps=2000, recipe=occluded_sprites
    ),
    # scattered digits (Crawford and Pineau, SPAIR, 2019); its larger canvas has EMNIST's characters
    "scattered-mnist": NamedData(load_mnist, SCATTERED),
    "scattered-mnist-84": NamedData(
        load_mnist, replace(SCATTERED, height=84, width=84, counts=tuple(range(1, 16)))
    ),
    "occluded-mnist": NamedData(
        load_mnist,
        SceneConfig(height=64, width=64, counts=(2, 3, 4)), steps=2000, recipe=occluded_digits,
    ),
    "multi-dsprites": NamedData(
        no_pool,
        SceneConfig(height=64, width=64, counts=(1, 2, 3, 4)), steps=2000, recipe=multi_dsprites,
    ),
}  # fmt: skip


def make(name: str, part: Part, config: SceneConfig, data_dir: Path | None = None) -> Dataset:
    """Composes the scenes of a named data set's train or test part, or finds them in the cache.

    Raises:
        InputError: if there is no data set of that name or part, or its files are damaged.
    """
    if name not in DATASETS:
        raise InputError("data", f"must be one of {', '.join(DATASETS)}", name)
    if part not in ("train", "test"):
        raise InputError("part", f"must be train or test for {name}", part)
    # the same seed must not place training and test objects alike
    seeded = replace(config, seed=(2 * config.seed + (part == "test")) % 2**32)
    known = DATASETS[name]
    recipe = known.recipe or compose
    return cached(
        name, part, seeded, lambda: recipe(known.pool(part, data_dir), seeded, name, part)
    )


def load(
    data: str,
    part: Part,
    data_dir: Path | None = None,
    pictures: PictureConfig | None = None,
    stream: str = "no",
) -> Dataset:
    """A part of a data set, or random crops of it.

    A named set has 60,000 training scenes, and 10,000 test scenes of other digits or sprites. In an
    .npz, .npy or .zarr, ``train`` is the first nine tenths, ``test`` the rest, ``all`` everything.
    In a folder, every tenth picture, by path, is held out; pictures that cannot be read are left
    out.

    Args:
        data: a name in ``DATASETS``, or the path of an .npz, .npy or .zarr, or of a folder of
            pictures or of ArrayRecord files of pictures.
        part: ``train``, ``test`` or ``all``.
        data_dir: folder with downloaded files.
        pictures: how picture files become images, and whether images are cropped.
        stream: whether images on disk are streamed: ``auto``, ``yes`` or ``no``. The data set's
            images are then a sample.

    Raises:
        InputError: if there is no such data set, or it is damaged or too small to be split.
    """
    path, pictures = Path(data), pictures or PictureConfig()
    if data in DATASETS:
        scenes = DATASETS[data].scenes
        scenes = scenes if part == "train" else replace(scenes, num_scenes=NUM_TEST)
        chosen = make(data, part, scenes, data_dir)
    elif is_array(path):
        if pictures.crop and stream == "yes":
            rule = "must be auto or no with crops, which fit in memory"
            raise InputError("stream", rule, stream)
        chosen = load_array(path, part, "auto" if pictures.crop else stream)
    elif path.is_dir():
        return load_folder(path, pictures, part, stream=stream).parts[0]
    elif path.is_file():
        chosen = load_dataset(path).part_named(part, "data")
    else:
        rule = (
            f"must be one of {', '.join(DATASETS)}, or the path of an .npz, .npy or .zarr, or of a "
            "folder"
        )
        raise InputError("data", rule, data)
    if not pictures.crop:
        return chosen
    if pictures.crop > min(chosen.image_shape[:2]):
        rule = f"must be at most the images' smaller side, {min(chosen.image_shape[:2])}"
        raise InputError("crop", rule, pictures.crop)
    images, source = iter(chosen.images), chosen.source
    if source is not None:
        images = (source.read([i])[0] for i in range(len(source)))
    crops = random_crops(images, chosen.total, pictures.crop, part)
    return Dataset(crops.images, name=chosen.name, part=part, regions=crops.regions)
