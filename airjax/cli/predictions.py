"""Reads the pictures of a folder with a model, and writes what it finds to a new folder."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from airjax import storage
from airjax.air import AIR
from airjax.cli.report import About, Report
from airjax.console import Decision, tracked
from airjax.data.decode import Broken
from airjax.data.files import picture_files
from airjax.data.folder import ReadImage, for_these, read_images
from airjax.data.signal import channel
from airjax.errors import InputError
from airjax.inference import plots
from airjax.inference.regions import Region, in_file, regions
from airjax.inference.results import Objects, poisson_binomial
from airjax.inference.writers import WRITERS, Picture
from airjax.picture_config import PictureConfig

SHEET = 50  # pictures on a contact sheet
ZOOM, LARGE = 4, 1000  # drawings are enlarged at most this much, and to this many pixels
AHEAD = 64  # pictures in memory


@dataclass
class Summary:
    """What was written.

    Attributes:
        images: number of pictures read.
        objects: number of objects found and kept.
        dropped: number of objects found and left out.
        broken: files that could not be read.
        passed_over: a line for each kind of files that are no pictures.
        decisions: what was decided for these pictures.
        paths: files and folders written.
        seconds: taken by reading, finding and writing.
    """

    images: int = 0
    objects: int = 0
    dropped: int = 0
    broken: list[Broken] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0


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
    """Some of the objects. If they are not all, the distribution of their number is that of
    independent objects with their scores."""
    if kept.all():
        return objects
    names = Objects._fields[:-1]
    chosen = objects._replace(**{name: getattr(objects, name)[kept] for name in names})
    return chosen._replace(count_probs=poisson_binomial(chosen.scores))


def write_predictions(
    air: AIR,
    folder: Path,
    settings: PictureConfig,
    out: Path,
    about: About,
    formats: tuple[str, ...],
    draw: bool = False,
    strict: bool = False,
    kept: Kept = KEPT,
) -> Summary:
    """Finds the objects in the pictures of a folder and writes them to a new folder, which is
    complete or not there. Pictures of another size than the model's count as broken.

    Args:
        air: trained.
        folder: of pictures, or one picture.
        settings: how pictures become images. With ``crop`` they may have any size.
        out: the new folder.
        about: what the report says besides.
        formats: keys of `airjax.inference.writers.WRITERS`.
        draw: also write drawings.
        strict: stop at the first broken file.
        kept: which objects are written (default: all).

    Raises:
        InputError: if ``out`` exists or cannot be written, a picture is broken and ``strict``
            holds, or all are broken.
    """
    begin, summary = time.perf_counter(), Summary()
    if out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", out)
    found = picture_files(folder, "folder")
    summary.passed_over = found.report()
    seen = for_these(found.files, settings, air.model.config.channels)
    summary.decisions = seen.decisions
    images = _images(air, found.files, seen.pictures, strict, summary)
    read = tracked(found_in(air, images, bool(settings.crop)), "reading", len(found.files))
    root = folder if folder.is_dir() else folder.parent
    name = seen.pictures.channel
    pictures = (_picture(air, each, objects, root, name, kept, summary) for each, objects in read)
    page = Report(about.with_pictures(seen.pictures), name)
    try:
        with storage.new_folder(out) as temporary:
            _write(pictures, temporary, formats, draw, page, summary)
            page.write(temporary / "report.html", _left_out(summary, root, kept))
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror or error})", out) from None
    summary.paths = sorted(out.iterdir())
    summary.seconds = time.perf_counter() - begin
    return summary


def _picture(
    air: AIR,
    read: ReadImage,
    objects: Objects,
    root: Path,
    name: str,
    kept: Kept,
    summary: Summary,
) -> tuple[Picture, ReadImage, Objects]:
    """What is written of a picture, its image, and the objects in pixels of the image."""
    found = regions(air.model, objects, read.placement, channel(read.frame, name))
    in_pixels = in_file(objects, read.placement)
    which = kept.which(in_pixels, found)
    summary.dropped += int((~which).sum())
    some = [region for region, keep in zip(found, which, strict=True) if keep]
    file = read.path.relative_to(root).as_posix()
    size = read.placement.file
    picture = Picture(file, read.frame.page, size, only(in_pixels, which), some)
    return picture, read, only(objects, which)


def _left_out(summary: Summary, root: Path, kept: Kept) -> dict[str, list[str]]:
    """What is not among the results, and why, by kind."""
    broken = [f"{path.relative_to(root)}: {why}" for path, why in summary.broken]
    dropped = [f"{summary.dropped:,} by {kept.flags()}"] if summary.dropped else []
    passed_over = [line.removeprefix("passed over: ") for line in summary.passed_over]
    return {"Pictures that cannot be read": broken, "Objects": dropped, "Passed over": passed_over}


def _write(
    pictures: Iterable[tuple[Picture, ReadImage, Objects]],
    out: Path,
    formats: tuple[str, ...],
    draw: bool,
    page: Report,
    summary: Summary,
) -> None:
    """Writes what was found, one picture after the other."""
    sheet: list[tuple[np.ndarray, Objects]] = []
    with contextlib.ExitStack() as stack:
        made = [WRITERS[format](out) for format in dict.fromkeys(formats)]
        writers = [stack.enter_context(contextlib.closing(writer)) for writer in made]
        for picture, read, objects in pictures:
            summary.images += 1
            summary.objects += picture.objects.number
            for writer in writers:
                writer.add(picture)
            page.add(picture, read, objects)
            if draw:
                _draw(out / "drawn" / picture.file_named(".png"), read.image, objects)
                sheet += [(read.image, objects)] if len(sheet) < SHEET else []
    if draw:
        images = [image / 255 for image, _ in sheet]
        figure = plots.images(images, [objects.tight_boxes for _, objects in sheet])
        plots.save(figure, out / "contact_sheet.png")


def _images(
    air: AIR, files: list[Path], config: PictureConfig, strict: bool, summary: Summary
) -> Iterator[ReadImage]:
    """The image of each picture. Broken files are added to the summary."""
    for read in read_images(files, config, air.model.config.image_size):
        if not isinstance(read, Broken):
            yield read
            continue
        summary.broken.append(read)
        if strict or len(summary.broken) == len(files):
            raise InputError(str(read.path), f"cannot be read ({read.why})")


def found_in(
    air: AIR, images: Iterator[ReadImage], any_size: bool
) -> Iterator[tuple[ReadImage, Objects]]:
    """The objects in each of these images, with boxes in pixels of the image."""
    ahead: list[ReadImage] = []  # the reader is ahead of the results

    def pixels() -> Iterator[np.ndarray]:
        for read in images:
            ahead.append(read)
            yield read.image

    if any_size:
        for objects in air.find_each(pixels()):
            yield ahead.pop(0), objects
        return
    for scenes in air.predict_batches(pixels(), AHEAD):
        for objects in scenes:
            yield ahead.pop(0), objects


def _draw(path: Path, image: np.ndarray, objects: Objects) -> None:
    """The picture with the boxes of its objects; small pictures are enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zoom = max(1, min(ZOOM, LARGE // max(image.shape)))
    plots.boxed(image, objects.tight_boxes, zoom).save(path)
