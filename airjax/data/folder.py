"""Folders of pictures as images of bright objects on a dark background. Nothing is ever written
there."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from airjax.config import Background
from airjax.data.crops import random_crops
from airjax.data.dataset import HELD_OUT, Dataset, part_of
from airjax.data.decode import Broken, Contents, Frame, decode
from airjax.data.files import picture_files
from airjax.data.placement import Placement
from airjax.data.signal import as_image, placed
from airjax.data.survey import Survey, survey
from airjax.data.working_scale import of_picture
from airjax.errors import InputError
from airjax.picture_config import PictureConfig


class ReadImage(NamedTuple):
    """An image, its file, where it lies in it, and the picture that it was made of."""

    path: Path
    image: np.ndarray
    placement: Placement
    frame: Frame


def read_images(
    files: Iterable[Path],
    config: PictureConfig,
    size: tuple[int, ...] | None = None,
    contents: Contents | None = None,
) -> Iterator[ReadImage | Broken]:
    """The images of each file, or why it cannot be read.

    Args:
        files: of pictures.
        config: with everything decided.
        size: height and width of the model's images; images of another size count as broken. With
            ``crop``, images may have any size. Without it, all must have the size of the first one.
        contents: gives the bytes of files that are not of this machine.

    Raises:
        InputError: if ``size`` is None and an image has another size than the first one.
    """
    wanted = size
    for path in files:
        frames = decode(path, config.pages, contents=contents)
        if isinstance(frames, Broken):
            yield frames
            continue
        for frame in frames:
            try:
                own = of_picture(frame, config)
                image = as_image(frame, own)
            except ValueError as error:
                yield Broken(path, str(error))
                break
            got = image.shape[:2]
            fits, rule = True, ""
            if not config.crop:
                wanted = wanted or got
                fits = got == wanted
                others = (
                    "as the others (or give --size HxW)"
                    if size is None
                    else "as the model's images"
                )
                rule = f"must be {wanted[0]} x {wanted[1]} pixels {others}"
            if fits:
                yield ReadImage(path, image, placed(frame, own), frame)
            elif size is None:
                raise InputError(str(path), rule, f"{got[0]} x {got[1]}")
            else:
                yield Broken(path, f"{rule}, got {got[0]} x {got[1]}")
                break


def for_these(
    files: Sequence[Path],
    config: PictureConfig,
    channels: int,
    contents: Contents | None = None,
) -> Survey:
    """The settings of a run for other pictures; what the run has decided is kept. Intensities are
    decided anew if these files are of another type: the values of the run mean nothing there.

    Args:
        files: of pictures.
        config: of the run.
        channels: of the model's images.
        contents: gives the bytes of files that are not of this machine.
    """
    if config.channel == "auto":  # of a model without a run
        config = replace(config, channel="colour" if channels == 3 else "grey")
    if config.crop is None:
        config = replace(config, crop=0)
    if not config.is_decided:
        return survey(files, config, size_matters=False, contents=contents)
    as_given = Survey(config, "none", None, [])
    if config.normalise == "picture" or config.white_of_type is None:
        return as_given
    anew = replace(config, normalise="auto", levels=None)
    again = survey(files, anew, size_matters=False, contents=contents)
    return as_given if again.pictures.white_of_type == config.white_of_type else again


class Loaded(NamedTuple):
    """What `load_folder` found.

    Attributes:
        parts: the images asked for.
        survey: what was decided.
        broken: files that cannot be read.
        passed_over: a line for each kind of files that are no pictures.
    """

    parts: list[Dataset]
    survey: Survey
    broken: list[Broken]
    passed_over: list[str]


def load_folder(
    folder: Path,
    config: PictureConfig,
    *parts: str,
    background: Background = "none",
    object_size: float | None = None,
) -> Loaded:
    """Parts of the pictures in a folder.

    Args:
        folder: of pictures.
        config: how pictures become images. With ``crop``, the parts are random crops.
        parts: ``train``, ``test`` (every tenth picture, by path) or ``all``. With fewer than ten
            pictures, held-out crops are other crops of the same pictures.
        background: of the model; see `airjax.data.survey.survey`.
        object_size: in pixels of the files, if it is given.

    Raises:
        InputError: if there are no pictures, or too few to hold some out, or of several sizes.
    """
    found, name = picture_files(folder), folder.name or str(folder)
    files, broken = found.files, dict[Path, Broken]()
    seen = Survey(config, background, None, [])
    if not config.is_decided:
        seen = survey(files, config, background, object_size)
        config = seen.pictures
    if len(files) < HELD_OUT and "test" in parts and not config.crop:
        rule = f"must hold {HELD_OUT} pictures or more to hold some out; of fewer, larger ones, "
        raise InputError("data", f"{rule}--crop trains on parts", len(files))

    def images(files: list[Path]) -> Iterator[np.ndarray]:
        for read in read_images(files, config):
            if isinstance(read, Broken):
                broken[read.path] = read
            else:
                yield read.image
        if broken.keys() >= set(files):
            raise InputError(str(files[0]), f"cannot be read ({broken[files[0]].why})")

    def crops(part: str) -> Dataset:
        chosen = part_of(len(files), "data", part if len(files) >= HELD_OUT else "all", every=True)
        some = [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
        assert config.crop
        made = random_crops(images(some), len(some), config.crop, part)
        return Dataset(made.images, name=name, regions=made.regions)

    if config.crop:
        made = [replace(crops(part), part=part) for part in parts]
    else:
        whole = Dataset(np.stack(list(images(files))), name=name)
        made = [whole.part_named(part, "data", every=True) for part in parts]
    return Loaded(made, seen, list(broken.values()), found.report())
