"""Reads the pictures of a folder with a model, and writes what it finds to a new folder."""

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from airjax import storage
from airjax.air import AIR
from airjax.cli.report import About, Report
from airjax.cli.runs import LOOKS
from airjax.console import Decision, tracked
from airjax.data.decode import Broken
from airjax.data.files import picture_files
from airjax.data.folder import ReadImage, for_these
from airjax.data.ready import ASKED, Asked
from airjax.errors import InputError
from airjax.inference import plots
from airjax.inference.infer import which_look
from airjax.inference.out_of_distribution import UNKNOWN, Usual
from airjax.inference.results import Objects
from airjax.inference.writers import WRITERS
from airjax.picture_config import PictureConfig
from airjax.prediction.predictor import KEPT, Kept, Prediction, Predictor, below
from airjax.training.runs import Run, unused

FOUND = Path("found")  # folder of results unless another one is given
SHEET = 50  # pictures on a contact sheet
ZOOM, LARGE = 4, 1000  # drawings are enlarged at most this much, and to this many pixels


@dataclass
class Summary:
    """What was written.

    Attributes:
        images: number of pictures read.
        objects: number of objects found and kept.
        dropped: number of objects found and left out.
        missed: number of objects missed in simulated pictures (`airjax.inference.results.Errors`).
        extra: number of objects found too many there.
        unlike: why pictures look unlike those of the training, a line each.
        broken: files that could not be read.
        passed_over: a line for each kind of files that are no pictures.
        decisions: what was decided for these pictures.
        paths: files and folders written.
        seconds: taken by reading, finding and writing.
    """

    images: int = 0
    objects: int = 0
    dropped: int = 0
    missed: float = 0.0
    extra: float = 0.0
    unlike: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0


def air_of(run: Run, num_paths: int, second_look: str, seed: int) -> tuple[AIR, dict[str, Any]]:
    """The model of a run, and the flags that it reads with; ``second_look`` is a key of `LOOKS`."""
    programs = run.load()
    look = which_look(programs[1], LOOKS[second_look])
    name = next(name for name, value in LOOKS.items() if value is look)
    flags = {"num_paths": num_paths, "second_look": name, "seed": seed}
    return AIR.of(*programs, num_paths, look, seed), flags


def check_there(pictures: Path) -> None:
    """Checks that there are pictures at a path.

    Raises:
        InputError: if there is nothing.
    """
    if not pictures.exists():
        raise InputError("folder", "must be a folder of pictures, or a picture", pictures)


def new_results(pictures: str, folder: Path = FOUND) -> Path:
    """A new folder in ``folder`` for the results of pictures at a path or URL."""
    stem = Path(os.path.abspath(pictures)).stem or "pictures"
    return unused(folder, f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")


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
    usual: Usual = UNKNOWN,
    asked: Asked = ASKED,
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
        usual: how well objects explained the held-out images of the training.
        asked: what is given for these pictures, with a ready model.

    Raises:
        InputError: if ``out`` exists or cannot be written, a picture is broken and ``strict``
            holds, or all are broken.
    """
    begin, summary = time.perf_counter(), Summary()
    if out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", out)
    found = picture_files(folder, "folder")
    summary.passed_over = found.report()
    seen = for_these(found.files, settings, air.model.config.channels, asked=asked)
    summary.decisions = seen.decisions
    predictor = Predictor(air, seen.pictures, kept)
    root = folder if folder.is_dir() else folder.parent
    images = _images(predictor, found.files, strict, summary)
    pictures = tracked(predictor.each(images, below(root)), "reading", len(found.files))
    page = Report(about.with_pictures(seen.pictures), seen.pictures.channel)
    try:
        with storage.new_folder(out) as temporary:
            _write(pictures, temporary, formats, draw, page, summary, usual)
            summary.missed, summary.extra = page.missed, page.extra
            page.write(temporary / "report.html", _left_out(summary, root, kept))
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror or error})", out) from None
    summary.paths = sorted(out.iterdir())
    summary.seconds = time.perf_counter() - begin
    return summary


def _left_out(summary: Summary, root: Path, kept: Kept) -> dict[str, list[str]]:
    """What is not among the results, and why, by kind."""
    broken = [f"{path.relative_to(root)}: {why}" for path, why in summary.broken]
    dropped = [f"{summary.dropped:,} by {kept.flags()}"] if summary.dropped else []
    passed_over = [line.removeprefix("passed over: ") for line in summary.passed_over]
    return {"Pictures that cannot be read": broken, "Objects": dropped, "Passed over": passed_over}


def _write(
    pictures: Iterable[Prediction],
    out: Path,
    formats: tuple[str, ...],
    draw: bool,
    page: Report,
    summary: Summary,
    usual: Usual,
) -> None:
    """Writes what was found, one picture after the other."""
    sheet: list[tuple[np.ndarray, Objects]] = []
    with contextlib.ExitStack() as stack:
        made = [WRITERS[format](out) for format in dict.fromkeys(formats)]
        writers = [stack.enter_context(contextlib.closing(writer)) for writer in made]
        for picture, read, objects, dropped, explained in pictures:
            why = usual.unlike(explained(), objects.number + dropped) if usual.explained else ""
            summary.unlike += [f"{picture.name}: {why}"] if why else []
            summary.images += 1
            summary.objects += picture.objects.number
            summary.dropped += dropped
            for writer in writers:
                writer.add(picture)
            page.add(picture, read, objects, why)
            if draw:
                _draw(out / "drawn" / picture.file_named(".png"), read.image, objects)
                sheet += [(read.image, objects)] if len(sheet) < SHEET else []
    if draw:
        images = [image / 255 for image, _ in sheet]
        figure = plots.images(images, [objects.tight_boxes for _, objects in sheet])
        plots.save(figure, out / "contact_sheet.png")


def _images(
    predictor: Predictor, files: list[Path], strict: bool, summary: Summary
) -> Iterator[ReadImage]:
    """The image of each picture. Broken files are added to the summary."""
    for read in predictor.images(files):
        if not isinstance(read, Broken):
            yield read
            continue
        summary.broken.append(read)
        if strict or len(summary.broken) == len(files):
            raise InputError(str(read.path), f"cannot be read ({read.why})")


def _draw(path: Path, image: np.ndarray, objects: Objects) -> None:
    """The picture with the boxes of its objects; small pictures are enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zoom = max(1, min(ZOOM, LARGE // max(image.shape)))
    plots.boxed(image, objects.tight_boxes, zoom).save(path)
