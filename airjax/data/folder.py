"""Folders of pictures as images of bright objects on a dark background. Nothing is ever written
there."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from airjax.config import Background
from airjax.data.crops import random_crops
from airjax.data.dataset import HELD_OUT, Dataset, part_of
from airjax.data.decode import Broken, Contents, Frame, decode
from airjax.data.files import picture_files
from airjax.data.placement import Placement
from airjax.data.ready import ASKED, Asked, for_ready_model
from airjax.data.records import Records, archives
from airjax.data.signal import as_image, placed
from airjax.data.source import Rows, digest, is_streamed, sampled
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
    asked: Asked = ASKED,
) -> Survey:
    """The settings of a run for other pictures; what the run has decided is kept. Intensities are
    decided anew if these files are of another type: the values of the run mean nothing there. For a
    ready model, everything is decided anew.

    Args:
        files: of pictures.
        config: of the run.
        channels: of the model's images.
        contents: gives the bytes of files that are not of this machine.
        asked: what is given for a ready model.
    """
    if config.anew:
        return for_ready_model(files, config, channels, contents, asked)
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


class Stored(NamedTuple):
    """What is in a folder.

    Attributes:
        files: the pictures, by path.
        contents: gives the bytes of pictures in archives; None where each is a file.
        stored: the files that they are in.
        passed_over: a line for each kind of files that are no pictures.
    """

    files: Sequence[Path]
    contents: Contents | None
    stored: Sequence[Path]
    passed_over: list[str]

    @classmethod
    def in_folder(cls, folder: Path) -> "Stored":
        """The pictures in ArrayRecord files, if there are such, or picture files.

        Raises:
            InputError: if there are no pictures, or an archive is damaged.
        """
        stored = archives(folder)
        if stored:
            records = Records(stored)
            return cls(records, records.contents, stored, [])
        pictures = picture_files(folder)
        return cls(pictures.files, None, pictures.files, pictures.report())


class PictureSource:
    """Pictures with one image each, as an `airjax.data.source.Source`. One that cannot be read is
    replaced by the next one that can.

    Args:
        folder: that they are in.
        found: all pictures there.
        files: these pictures.
        config: with everything decided, and without crops.
        shape: of an image.
        on_broken: called once with each picture that cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        found: Stored,
        files: Sequence[Path],
        config: PictureConfig,
        shape: tuple[int, ...],
        on_broken: Callable[[Broken], None],
    ):
        self.folder, self.found, self.files = folder, found, files
        self.config, self.image_shape, self.on_broken = config, shape, on_broken
        self.broken = dict[Path, Broken]()
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "n H W *C"]:
        """Some of the images."""
        return np.stack([self._image(i) for i in rows])

    def _image(self, i: int) -> UInt8[np.ndarray, "H W *C"]:
        for k in range(len(self)):
            path = self.files[(i + k) % len(self)]
            if path in self.broken:
                continue
            image = self._read(path)
            if not isinstance(image, Broken):
                return image
            with self.lock:
                is_new = self.broken.setdefault(path, image) is image
            if is_new:
                self.on_broken(image)
        path, why = self.broken[self.files[0]]
        raise InputError(str(path), f"cannot be read ({why})")

    def _read(self, path: Path) -> np.ndarray | Broken:
        size = self.image_shape[:2]
        found = list(read_images([path], self.config, size, self.found.contents))
        if isinstance(found[0], Broken):
            return found[0]
        if len(found) > 1:
            return Broken(path, f"must have one page to be streamed, has {len(found)} (--pages)")
        return found[0].image

    def part(self, part: str) -> "PictureSource":
        """Those of ``train``, of ``test`` (every tenth), or ``all``."""
        rows = np.flatnonzero(part_of(len(self), "data", part, every=True))
        files = Rows[Path](self.files, rows)
        how = self.config, self.image_shape, self.on_broken
        return PictureSource(self.folder, self.found, files, *how)

    def identity(self) -> dict[str, Any]:
        """The number of pictures, and a hash of the names and sizes of the files in the folder."""
        stored = self.found.stored
        lines = (f"{path.relative_to(self.folder)} {path.stat().st_size}" for path in stored)
        return {"length": len(self), "names_and_sizes": digest(lines)}


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
    stream: str = "no",
    on_broken: Callable[[Broken], None] = lambda broken: None,
) -> Loaded:
    """Parts of the pictures in a folder.

    Args:
        folder: of pictures, or of ArrayRecord files of pictures.
        config: how pictures become images. With ``crop``, the parts are random crops.
        parts: ``train``, ``test`` (every tenth picture, by path) or ``all``. With fewer than ten
            pictures, held-out crops are other crops of the same pictures.
        background: of the model; see `airjax.data.survey.survey`.
        object_size: in pixels of the files, if it is given.
        stream: whether whole pictures are streamed: ``auto``, ``yes`` or ``no``. The images of the
            parts are then a sample.
        on_broken: of streamed pictures, called with each that cannot be read, when it is met.

    Raises:
        InputError: if there are no pictures, or too few to hold some out, or of several sizes.
    """
    found, name = Stored.in_folder(folder), folder.name or str(folder)
    files, seen = found.files, Survey(config, background, None, [])
    if not config.is_decided:
        seen = survey(files, config, background, object_size, contents=found.contents)
        config = seen.pictures
    if len(files) < HELD_OUT and "test" in parts and not config.crop:
        rule = f"must hold {HELD_OUT} pictures or more to hold some out; of fewer, larger ones, "
        raise InputError("data", f"{rule}--crop trains on parts", len(files))
    source = _source(folder, found, config, stream, on_broken)
    if source is not None:
        streamed = [(part, source.part(part)) for part in parts]
        made = [Dataset(sampled(s), name=name, part=part, source=s) for part, s in streamed]
        return Loaded(made, seen, [], found.passed_over)
    broken = dict[Path, Broken]()
    images = partial(_images, found=found, config=config, broken=broken)
    if config.crop:
        made = [_crops(files, images, config.crop, part, name) for part in parts]
    else:
        whole = Dataset(np.stack(list(images(files))), name=name)
        made = [whole.part_named(part, "data", every=True) for part in parts]
    return Loaded(made, seen, list(broken.values()), found.passed_over)


def _source(
    folder: Path,
    found: Stored,
    config: PictureConfig,
    stream: str,
    on_broken: Callable[[Broken], None],
) -> PictureSource | None:
    """The pictures to stream; None where they are read into memory."""
    if stream == "no" or (config.crop and stream == "auto"):
        return None
    if config.crop:
        rule = "must be auto or no with crops, which fit in memory (--crop 0: whole pictures)"
        raise InputError("stream", rule, stream)
    for path in found.files:
        images = list(read_images([path], config, contents=found.contents))
        if isinstance(images[0], Broken):
            continue
        if len(images) > 1:  # how many there are is not known before all are read
            if stream == "auto":
                return None
            rule = "must be auto or no where pages of files are pictures of their own (--pages)"
            raise InputError("stream", rule, stream)
        shape = images[0].image.shape
        source = PictureSource(folder, found, found.files, config, shape, on_broken)
        return source if is_streamed(source, stream) else None
    return None  # none can be read


def _images(
    files: Sequence[Path], found: Stored, config: PictureConfig, broken: dict[Path, Broken]
) -> Iterator[np.ndarray]:
    """The images in files; those that cannot be read are added to ``broken``."""
    for read in read_images(files, config, contents=found.contents):
        if isinstance(read, Broken):
            broken[read.path] = read
        else:
            yield read.image
    if broken.keys() >= set(files):
        raise InputError(str(files[0]), f"cannot be read ({broken[files[0]].why})")


def _crops(
    files: Sequence[Path],
    images: Callable[[Sequence[Path]], Iterator[np.ndarray]],
    side: int,
    part: str,
    name: str,
) -> Dataset:
    """Random crops of a part of pictures; of few pictures, of all of them."""
    chosen = part_of(len(files), "data", part if len(files) >= HELD_OUT else "all", every=True)
    some = [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
    made = random_crops(images(some), len(some), side, part)
    return Dataset(made.images, name=name, part=part, regions=made.regions)
