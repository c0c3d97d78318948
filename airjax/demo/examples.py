"""Held-out pictures of the run's own data, to click on."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from airjax.data.dataset import HELD_OUT, part_of
from airjax.data.files import picture_files
from airjax.demo.uploads import Subject, as_it_is, subject_of
from airjax.errors import InputError
from airjax.picture_config import PictureConfig

MOST = 6
SIDE = 160  # pixels of a thumbnail's larger side, at least; at most twice as many


class Example(NamedTuple):
    """A held-out picture.

    Attributes:
        name: of the picture.
        thumbnail: uint8 ``[h, w]`` or ``[h, w, C]``.
        subject: reads it.
    """

    name: str
    thumbnail: UInt8[np.ndarray, "h w *C"]
    subject: Callable[[], Subject]


def of_images(images: UInt8[np.ndarray, "N H W *C"]) -> list[Example]:
    """Some of these images, evenly spaced."""
    chosen = np.unique(np.linspace(0, len(images) - 1, MOST).round().astype(int)).tolist()
    return [_example(as_it_is(images[i], f"scene-{i}")) for i in chosen]


def of_files(folder: Path, pictures: PictureConfig, shape: tuple[int, ...]) -> list[Example]:
    """Some of the held-out pictures in a folder, evenly spaced, whole and as they are uploaded. Of
    fewer than ten pictures none is held out: then of all. Files that cannot be read are left out.

    Args:
        folder: of the pictures that the run was trained on.
        pictures: settings of the run.
        shape: of the model's images.
    """
    files, found = picture_files(folder).files, list[Example]()
    held_out = part_of(len(files), "data", "test" if len(files) >= HELD_OUT else "all", every=True)
    files = [file for file, is_held_out in zip(files, held_out, strict=True) if is_held_out]
    for file in files[:: max(1, len(files) // MOST)]:
        try:
            subject = subject_of(file, pictures, shape)
        except InputError:
            continue
        # read again when it is asked for: large pictures are not kept in memory
        read = lambda file=file: subject_of(file, pictures, shape)  # noqa: E731
        found.append(_example(subject)._replace(subject=read))
    return found[:MOST]


def _example(subject: Subject) -> Example:
    image = subject.image
    step = max(1, max(image.shape[:2]) // SIDE)
    return Example(subject.read.path.name, image[::step, ::step], lambda: subject)
