"""Predictions as files that other tools read: tables, JSON, COCO; and drawings.

A further format is a class with the methods of `Writer`, and an entry in ``WRITERS``.
"""

import contextlib
import csv
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import airjax
from airjax import storage
from airjax.air import AIR
from airjax.config import PictureConfig
from airjax.console import Decision, tracked
from airjax.data.decode import Broken
from airjax.data.files import picture_files
from airjax.data.folder import ReadImage, for_these, read_images
from airjax.data.placement import Placement
from airjax.errors import InputError
from airjax.inference import plots
from airjax.inference.results import Objects

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how the formulas of spreadsheets begin
LONGEST = 255  # bytes of a file's name
CATEGORY = 1  # COCO's category of all objects: they have no classes here
SHEET = 50  # pictures on a contact sheet
ZOOM, LARGE = 4, 1000  # drawings are enlarged at most this much, and to this many pixels


@dataclass
class Summary:
    """What was written.

    Attributes:
        images: number of pictures read.
        objects: number of objects found.
        broken: files that could not be read.
        passed_over: a line for each kind of files that are no pictures.
        decisions: what was decided for these pictures.
        paths: files and folders written.
        seconds: taken by reading, finding and writing.
    """

    images: int = 0
    objects: int = 0
    broken: list[Broken] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0


class Writer(Protocol):
    """Writes the objects of pictures to a folder, one picture at a time."""

    def __init__(self, out: Path): ...

    def add(self, file: str, page: int | None, size: tuple[int, int], objects: Objects) -> None:
        """Adds the objects of a picture.

        Args:
            file: its path in the folder of pictures.
            page: its index in a file of several pictures, otherwise None.
            size: height and width of the picture as it is stored.
            objects: with boxes in pixels of the file.
        """

    def close(self) -> None:
        """Completes the files."""


class CsvWriter:
    """``objects.csv``, a row an object, and ``counts.csv``, a row a picture.

    Names are written byte for byte. A name that a spreadsheet would take for a formula gets ``./``
    in front: it is still the path of the file.
    """

    def __init__(self, out: Path):
        names = ("objects.csv", "counts.csv")
        how: Any = {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
        self.files = [open(out / name, "w", **how) for name in names]  # noqa: SIM115
        self.objects, self.counts = map(csv.writer, self.files)
        box = ["x0", "y0", "x1", "y1"]
        self.objects.writerow(["file", "page", "object", "count", "probability", *box, "score"])
        self.counts.writerow(["file", "page", "count", "probability", "low", "high"])

    def add(self, file: str, page: int | None, size: tuple[int, int], objects: Objects) -> None:
        """Adds the objects of a picture."""
        count, probability = objects.number, f"{objects.probability:.4f}"
        file = f"./{file}" if file.startswith(FORMULAS) else file
        self.counts.writerow([file, page, count, probability, *objects.interval])
        boxes, scores = objects.tight_boxes.tolist(), objects.scores.tolist()
        for i, (box, score) in enumerate(zip(boxes, scores, strict=True)):
            numbers = [f"{x:.1f}" for x in box]
            row = [file, page, i, count, probability, *numbers, f"{score:.4f}"]
            self.objects.writerow(row)

    def close(self) -> None:
        """Completes the files."""
        for file in self.files:
            file.close()


class JsonWriter:
    """``predictions.json``: a list with everything, a picture an entry."""

    def __init__(self, out: Path):
        self.file = open(out / "predictions.json", "w")  # noqa: SIM115
        self.file.write("[")
        self.between = "\n"

    def add(self, file: str, page: int | None, size: tuple[int, int], objects: Objects) -> None:
        """Adds the objects of a picture."""
        self.file.write(self.between + json.dumps(_as_json(file, page, size, objects)))
        self.between = ",\n"

    def close(self) -> None:
        """Completes the file."""
        self.file.write("\n]\n")
        self.file.close()


class CocoWriter:
    """``coco_results.json``, COCO's detection results, and ``coco_images.json``, the data set that
    their image ids belong to."""

    def __init__(self, out: Path):
        self.out = out
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []

    def add(self, file: str, page: int | None, size: tuple[int, int], objects: Objects) -> None:
        """Adds the objects of a picture."""
        number, (height, width) = len(self.images) + 1, size
        about = {"id": number, "file_name": file, "width": width, "height": height}
        about |= {} if page is None else {"page": page}
        self.images.append(about)
        boxes, scores = objects.tight_boxes.tolist(), objects.scores.tolist()
        for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True):
            found = {"image_id": number, "category_id": CATEGORY, "score": score}
            self.results.append(found | {"bbox": [x0, y0, x1 - x0, y1 - y0]})

    def close(self) -> None:
        """Writes the files."""
        categories = [{"id": CATEGORY, "name": "object"}]
        about = {"description": f"read by airjax {airjax.__version__}"}
        images = {"info": about, "images": self.images, "categories": categories, "annotations": []}
        (self.out / "coco_images.json").write_text(json.dumps(images) + "\n")
        (self.out / "coco_results.json").write_text(json.dumps(self.results) + "\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "json": JsonWriter, "coco": CocoWriter}


def _as_json(
    file: str, page: int | None, size: tuple[int, int], objects: Objects
) -> dict[str, Any]:
    """``file``, ``page``, ``width``, ``height``, ``count``, ``interval``, ``count_probs`` and
    ``objects``, each with the fields of `Objects`. Boxes are in pixels of the file; ``z_where`` is
    of the image that the model read."""
    names = ("tight_box", "window_box", "score", "z_where", "z_what")
    *fields, probs = objects
    rows = zip(*(values.tolist() for values in fields), strict=True)
    return {
        "file": file,
        "page": page,
        "width": size[1],
        "height": size[0],
        "count": objects.number,
        "interval": list(objects.interval),
        "count_probs": probs.tolist(),
        "objects": [dict(zip(names, row, strict=True)) for row in rows],
    }


def write_predictions(
    air: AIR,
    folder: Path,
    settings: PictureConfig,
    out: Path,
    format: str,
    draw: bool = False,
    strict: bool = False,
) -> Summary:
    """Finds the objects in the pictures of a folder and writes them to a new folder, which is
    complete or not there. Pictures of another size than the model's count as broken.

    Args:
        air: trained.
        folder: of pictures, or one picture.
        settings: how pictures become images. With ``crop`` they are read in tiles.
        out: the new folder.
        format: csv, json or coco.
        draw: also write drawings.
        strict: stop at the first broken file.

    Raises:
        InputError: if ``out`` exists or cannot be written, a picture is broken and ``strict``
            holds, or all are broken.
    """
    begin, summary = time.perf_counter(), Summary()
    if out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", out)
    files = _files(folder, summary)
    images = _images(air, files, settings, strict, summary)
    found = tracked(found_in(air, images, bool(settings.crop)), "reading", len(files))
    root = folder if folder.is_dir() else folder.parent
    try:
        with storage.new_folder(out) as temporary:
            _write(found, root, temporary, format, draw, summary)
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror or error})", out) from None
    summary.paths = sorted(out.iterdir())
    summary.seconds = time.perf_counter() - begin
    return summary


def _write(
    found: Iterable[tuple[ReadImage, Objects]],
    root: Path,
    out: Path,
    format: str,
    draw: bool,
    summary: Summary,
) -> None:
    """Writes what was found, one picture after the other."""
    sheet: list[tuple[np.ndarray, Objects]] = []
    with contextlib.closing(WRITERS[format](out)) as writer:
        for read, objects in found:
            file = read.path.relative_to(root).as_posix()
            summary.images += 1
            summary.objects += objects.number
            writer.add(file, read.page, read.placement.file, in_file(objects, read.placement))
            if draw:
                name = file if read.page is None else f"{file}.{read.page}"
                _draw(out / "drawn" / _drawn_name(name), read.image, objects)
                sheet += [(read.image, objects)] if len(sheet) < SHEET else []
    if draw:
        pictures = [image / 255 for image, _ in sheet]
        figure = plots.images(pictures, [objects.tight_boxes for _, objects in sheet])
        plots.save(figure, out / "contact_sheet.png")


def _drawn_name(file: str) -> str:
    """The path of a drawing: a.png and a.jpg have different ones; a name that would become too long
    is cut, with a hash."""
    path = Path(f"{file}.png")
    name = os.fsencode(path.name)
    if len(name) <= LONGEST:
        return str(path)
    digest = hashlib.sha256(name).hexdigest()[:16]
    return str(path.with_name(f"{path.name[:60]}-{digest}.png"))


def in_file(objects: Objects, placement: Placement) -> Objects:
    """The objects with boxes in pixels of the file. Windows may reach beyond the picture."""
    return objects._replace(
        tight_boxes=placement.in_file(objects.tight_boxes),
        window_boxes=placement.in_file(objects.window_boxes, clipped=False),
    )


def _files(folder: Path, summary: Summary) -> list[Path]:
    found = picture_files(folder, "folder")
    summary.passed_over = found.report()
    return found.files


def _images(
    air: AIR, files: list[Path], settings: PictureConfig, strict: bool, summary: Summary
) -> Iterator[ReadImage]:
    """The image of each picture. Broken files are added to the summary."""
    seen = for_these(files, settings, air.model.config.channels)
    summary.decisions = seen.decisions
    for read in read_images(files, seen.pictures, air.model.config.image_size):
        if not isinstance(read, Broken):
            yield read
            continue
        summary.broken.append(read)
        if strict or len(summary.broken) == len(files):
            raise InputError(str(read.path), f"cannot be read ({read.why})")


def found_in(
    air: AIR, images: Iterator[ReadImage], in_tiles: bool
) -> Iterator[tuple[ReadImage, Objects]]:
    """The objects in each of these images, with boxes in pixels of the image."""
    if in_tiles:
        for read in images:
            yield read, air.find(read.image)
        return
    ahead: list[ReadImage] = []  # the reader is ahead of the results

    def pixels() -> Iterator[np.ndarray]:
        for read in images:
            ahead.append(read)
            yield read.image

    for scenes in air.predict_batches(pixels()):
        for objects in scenes:
            yield ahead.pop(0), objects


def _draw(path: Path, image: np.ndarray, objects: Objects) -> None:
    """The picture with the boxes of its objects; small pictures are enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zoom = max(1, min(ZOOM, LARGE // max(image.shape)))
    plots.boxed(image, objects.tight_boxes, zoom).save(path)
