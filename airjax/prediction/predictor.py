"""Finds the objects in picture files with a trained model: what ``airjax predict`` does with each
picture, and a function for engines that call it on many machines."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from airjax.air import AIR
from airjax.data.cache import keep_programs
from airjax.data.decode import Broken, Contents
from airjax.data.folder import ReadImage, for_these, read_images
from airjax.data.signal import channel
from airjax.inference.out_of_distribution import Explained, of_picture, of_scenes
from airjax.inference.regions import Region, in_file, regions
from airjax.inference.results import Objects
from airjax.inference.writers import BROKEN, OBJECT, PICTURE, Picture, arrow
from airjax.picture_config import PictureConfig

if TYPE_CHECKING:
    import pyarrow

AHEAD = 64  # pictures in memory


@dataclass(frozen=True)
class Kept:
    """Which of the objects that were found are written.

    Attributes:
        threshold: least score.
        min_size: least larger side in pixels of the file.
        max_size: largest larger side.
        exclude_edges: leave out objects that touch the border of the picture.
    """

    threshold: float = 0.0
    min_size: float = 0.0
    max_size: float = float("inf")
    exclude_edges: bool = False

    def which(self, objects: Objects, found: list[Region]) -> np.ndarray:
        """Whether each object is kept: its score, its box in pixels of the file, its region."""
        boxes = objects.tight_boxes
        sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0.0)
        at_edge = np.array([region.at_edge for region in found], bool)
        return (
            (objects.scores >= self.threshold)
            & (sides >= self.min_size)
            & (sides <= self.max_size)
            & ~(at_edge & self.exclude_edges)
        )

    def flags(self) -> str:
        """The flags that leave objects out."""
        given = [
            f"--{f.name.replace('_', '-')}" + ("" if value is True else f" {value:g}")
            for f in fields(self)
            if (value := getattr(self, f.name)) != f.default
        ]
        return " ".join(given)


KEPT = Kept()  # all objects


def only(objects: Objects, kept: np.ndarray) -> Objects:
    """Some of the objects, or all with the distribution that their number has."""
    return objects if kept.all() else objects.some(kept)


class Prediction(NamedTuple):
    """What was found in a picture.

    Attributes:
        picture: for the writers of files.
        read: its image.
        objects: those kept, in pixels of the image.
        dropped: how many were left out.
        explained: how well all objects explain the image, computed when it is called.
    """

    picture: Picture
    read: ReadImage
    objects: Objects
    dropped: int
    explained: Callable[[], Explained | None]


class Tables(NamedTuple):
    """What was found in several pictures, as Arrow tables.

    Attributes:
        counts: a row a picture.
        objects: a row an object.
        broken: a row a file that cannot be read: ``file`` and ``why``.
        dropped: the number of objects that were left out.
    """

    counts: "pyarrow.Table"
    objects: "pyarrow.Table"
    broken: "pyarrow.Table"
    dropped: int


@dataclass(frozen=True)
class Predictor:
    """A trained model with everything that was decided for a kind of pictures. It can be pickled,
    so that Ray, Spark, Dask or Daft can call it on other machines:

        predictor = Predictor.of("runs/cells", ["a.tif", "b.tif"])
        tables = predictor(["c.tif", "d.tif"])

    The same pictures give the same rows, however they are divided into calls.

    Attributes:
        air: trained.
        pictures: how pictures become images, with everything decided.
        kept: which objects are in the results.
        intervals: as in `airjax.air.AIR.find_each`.
    """

    air: AIR
    pictures: PictureConfig
    kept: Kept = KEPT
    intervals: bool = True

    @classmethod
    def of(
        cls,
        run: str | Path,
        sample: Iterable[str | Path],
        num_paths: int = 5,
        second_look: bool | None = None,
        kept: Kept = KEPT,
    ) -> "Predictor":
        """The predictor of a run.

        Args:
            run: its folder.
            sample: some of the pictures: what the run left open is decided from them, for all.
            num_paths: K, the paths of the guide that counts are averaged over.
            second_look: see `airjax.air.AIR`.
            kept: which objects are in the results (default: all).

        Raises:
            InputError: if there is no such run, or none of the pictures can be read.
        """
        air = AIR.load(run)
        air.num_paths, air.second_look = num_paths, second_look
        settings = air.config.pictures if air.config is not None else PictureConfig()
        files = [Path(file) for file in sample]
        seen = for_these(files, settings, air.model.config.channels)
        return cls(air, seen.pictures, kept)

    def __call__(
        self, files: Iterable[str | Path], contents: Mapping[str, bytes] | None = None
    ) -> Tables:
        """What is found in these pictures. Files that cannot be read cost only themselves.

        Args:
            files: paths or other names, which are in the tables as they are given.
            contents: the bytes of each, by name, if they are not files of this machine.
        """
        named = {Path(file): str(file) for file in files}  # a Path is not always the name of a URL
        read = None if contents is None else lambda path: contents[named[path]]
        return self.tables(self.images(named, read), named.__getitem__)

    def images(
        self, files: Iterable[Path], contents: Contents | None = None
    ) -> Iterator[ReadImage | Broken]:
        """The images of each file, or why it cannot be read: the part of the work that needs no
        accelerator."""
        return read_images(files, self.pictures, self.air.model.config.image_size, contents)

    def tables(
        self, images: Iterable[ReadImage | Broken], name_of: Callable[[Path], str] = Path.as_posix
    ) -> Tables:
        """What is found in these images.

        Args:
            images: or why files cannot be read.
            name_of: gives the name of a file in the tables.
        """
        keep_programs()
        broken: list[Broken] = []

        def whole() -> Iterator[ReadImage]:
            for read in images:
                if isinstance(read, Broken):
                    broken.append(read)
                else:
                    yield read

        found = list(self.each(whole(), name_of))
        counts = [one.picture.row() for one in found]
        objects = [row for one in found for row in one.picture.rows()]
        left_out = [[name_of(path), why] for path, why in broken]
        dropped = sum(one.dropped for one in found)
        return Tables(
            arrow(PICTURE, counts), arrow(OBJECT, objects), arrow(BROKEN, left_out), dropped
        )

    def each(
        self, images: Iterator[ReadImage], name_of: Callable[[Path], str] = Path.as_posix
    ) -> Iterator[Prediction]:
        """What is found in each of these images, in bounded memory; ``name_of`` as in `tables`."""
        first = next(images, None)
        if first is None:  # all files are broken
            return
        images = itertools.chain([first], images)
        for read, objects, explained in found_in(
            self.air, images, bool(self.pictures.crop), self.intervals
        ):
            picture, which = self.picture(read, objects, name_of(read.path))
            dropped = int((~which).sum())
            yield Prediction(picture, read, only(objects, which), dropped, explained)

    def picture(self, read: ReadImage, objects: Objects, file: str) -> tuple[Picture, np.ndarray]:
        """The objects of an image as they are in its file, and which of them are kept."""
        values = channel(read.frame, self.pictures.channel)
        shapes = regions(self.air.model, objects, read.placement, values)
        in_pixels = in_file(objects, read.placement)
        which = self.kept.which(in_pixels, shapes)
        some = [region for region, keep in zip(shapes, which, strict=True) if keep]
        kept, size = only(in_pixels, which), read.placement.file
        return Picture(file, read.frame.page, size, kept, some), which


def found_in(
    air: AIR, images: Iterator[ReadImage], any_size: bool, intervals: bool = True
) -> Iterator[tuple[ReadImage, Objects, Callable[[], Explained | None]]]:
    """The objects in each of these images, with boxes in pixels of the image; and a function that
    computes how well they explain it."""
    ahead: list[ReadImage] = []  # the reader is ahead of the results

    def pixels() -> Iterator[np.ndarray]:
        for read in images:
            ahead.append(read)
            yield read.image

    if any_size:
        for objects in air.find_each(pixels(), intervals):
            read = ahead.pop(0)
            yield read, objects, functools.partial(of_picture, air.model, read.image, objects)
        return
    for scenes in air.predict_batches(pixels(), AHEAD):
        together = functools.cache(functools.partial(of_scenes, scenes))
        for i, objects in enumerate(scenes):
            yield ahead.pop(0), objects, lambda i=i, of=together: of()[i]


def below(root: Path) -> Callable[[Path], str]:
    """The function that gives the name of a file in a folder. It can be pickled."""
    return functools.partial(_below, root)


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()
