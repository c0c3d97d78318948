"""Images as users have them in Python: arrays, iterables of images, or paths of pictures."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from airjax.config import Config
from airjax.data import load, load_folder
from airjax.data.arrays import is_array
from airjax.data.dataset import Dataset, as_images
from airjax.data.decode import Broken
from airjax.data.files import picture_files
from airjax.data.folder import for_these, read_images
from airjax.data.survey import Survey
from airjax.errors import InputError
from airjax.object_size import pixels
from airjax.picture_config import PictureConfig


def images_of(
    X: Any, name: str, config: Config, object_size: Any = None
) -> tuple[Dataset, Survey | None]:
    """Checked images to train on, and, of picture files, what was decided.

    Args:
        X: images, or the path of an .npz, .npy or .zarr, or of a folder of pictures.
        name: of X, for errors.
        config: of the training.
        object_size: in pixels of the pictures, if it is given.
    """
    if not isinstance(X, str | Path):
        images = as_images(np.asarray(X), name)
        if images.max() == 1:
            rule = "must be integers from 0 to 255 (masks as bool, or times 255)"
            raise InputError(name, rule, "0 to 1")
        return Dataset(images), None
    if not Path(X).exists():
        raise InputError(name, "must be images, or the path of a folder of pictures", X)
    stream = config.train.stream
    if is_array(Path(X)) or not Path(X).is_dir():
        return load(str(X), "all", pictures=config.pictures, stream=stream), None

    def broken(file: Broken) -> None:
        raise InputError(str(file.path), f"cannot be read ({file.why})")

    loaded = load_folder(
        Path(X), config.pictures, "all", background=config.model.background,
        object_size=pixels(object_size), stream=stream, on_broken=broken,
    )  # fmt: skip
    for file in loaded.broken:
        broken(file)
    return loaded.parts[0], loaded.survey


def batches_of(
    X: Any, size: int, pictures: PictureConfig, shape: tuple[int, ...]
) -> Iterator[UInt8[np.ndarray, "_ H W *C"]]:
    """Checked images in batches.

    Args:
        X: an array, an iterable of images ``[H, W]``, or paths of pictures.
        size: of a batch.
        pictures: settings for picture files.
        shape: of the model's images, for pictures.
    """
    if hasattr(X, "shape"):  # a memory map stays one until a batch of it is read
        if len(X.shape) < 3 or len(X) == 0:
            as_images(np.asarray(X), "X")
        for start in range(0, len(X), size):
            yield as_images(np.asarray(X[start : start + size]), "X")
        return
    files = _files(X)
    images = X if files is None else _read(files, pictures, shape)
    batch: list[Any] = []
    first, some = None, False
    for image in images:
        array = np.asarray(image)
        if first is not None and array.shape != first:
            raise InputError("X", f"must hold images of one size, {first}", array.shape)
        first, some = array.shape, True
        batch.append(array)
        if len(batch) == size:
            yield as_images(np.stack(batch), "X")
            batch = []
    if batch or not some:
        yield as_images(np.stack(batch) if batch else np.zeros((0, 0, 0)), "X")


def picture_of(path: Path, pictures: PictureConfig, channels: int) -> UInt8[np.ndarray, "H W *C"]:
    """The image in one picture file, of any size; ``channels`` are the model's."""
    settings = replace(for_these([path], pictures, channels).pictures, crop=1)  # of any size
    for read in read_images([path], settings):
        if isinstance(read, Broken):
            raise InputError(str(path), f"cannot be read ({read.why})")
        return read.image
    raise InputError(str(path), "must hold a picture")


def number_of(X: Any) -> int | None:
    """The number of images; None where that is not known."""
    files = _files(X)
    return len(files) if files is not None else len(X) if hasattr(X, "__len__") else None


def _files(X: Any) -> list[Path] | None:
    """The picture files where X is a path or paths, otherwise None."""
    if isinstance(X, str | Path):
        return picture_files(Path(X), "X").files
    if isinstance(X, list | tuple) and X and all(isinstance(each, str | Path) for each in X):
        return [file for each in X for file in picture_files(Path(each), "X").files]
    return None


def _read(
    files: list[Path], pictures: PictureConfig, shape: tuple[int, ...]
) -> Iterable[UInt8[np.ndarray, "H W *C"]]:
    settings = for_these(files, pictures, 1 if len(shape) == 2 else shape[2]).pictures
    for read in read_images(files, settings, (shape[0], shape[1])):
        if isinstance(read, Broken):
            raise InputError(str(read.path), f"cannot be read ({read.why})")
        yield read.image
