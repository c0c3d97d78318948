"""Predictions as files that other tools read: tables, JSON, COCO; and drawings."""

import contextlib
import csv
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from airjax import plots
from airjax.air import AIR
from airjax.config import PictureConfig
from airjax.data.folder import Broken, decided, picture_files, read_images
from airjax.errors import InputError
from airjax.scenes import Objects

CATEGORY = 1  # of COCO: objects have no classes here
SHEET = 50  # pictures on a contact sheet
ZOOM, LARGE = 4, 1000  # how much drawings are enlarged, at most, and to how many pixels


@dataclass
class Told:
    """What was written.

    Attributes:
        images: number of pictures read.
        objects: number of objects found.
        broken: files that could not be read.
        paths: files and folders written.
        seconds: taken by reading, finding and writing.
    """

    images: int = 0
    objects: int = 0
    broken: list[Broken] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Result:
    """What was found in one picture.

    Attributes:
        file: its path in the folder.
        image: uint8 ``[H, W]`` or ``[H, W, 3]``.
        objects: those found.
        count_probs: posterior over their number, ``[T + 1]``; None for a picture read in tiles.
    """

    file: str
    image: np.ndarray
    objects: Objects
    count_probs: np.ndarray | None = None

    @property
    def count(self) -> int:
        """The number of objects."""
        return len(self.objects.boxes)

    @property
    def probability(self) -> float:
        """That of the count; of a picture read in tiles, that all objects are there, were they
        independent."""
        if self.count_probs is None:
            return float(np.prod(self.objects.scores))
        return float(self.count_probs[self.count])

    def about(self) -> dict[str, Any]:
        """``file``, ``width``, ``height``, ``count``, ``count_probs`` and ``objects``: ``box``
        (tight) and ``window`` (x0, y0, x1, y1 in pixels), ``score``, ``position`` and ``code``."""
        names = ("box", "window", "score", "position", "code")
        columns = (field.tolist() for field in self.objects)
        return {
            "file": self.file,
            "width": self.image.shape[1],
            "height": self.image.shape[0],
            "count": self.count,
            "count_probs": None if self.count_probs is None else self.count_probs.tolist(),
            "objects": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
        }


class Writer(Protocol):
    """Writes results to a folder, one by one."""

    def __init__(self, out: Path): ...

    def add(self, result: Result) -> None:
        """Adds a picture's."""

    def close(self) -> None:
        """Completes the files."""


class CsvWriter:
    """``objects.csv``, a row an object, and ``counts.csv``, a row a picture."""

    def __init__(self, out: Path):
        names = ("objects.csv", "counts.csv")
        self.files = [open(out / name, "w", newline="") for name in names]  # noqa: SIM115
        self.objects, self.counts = map(csv.writer, self.files)
        box = ["x0", "y0", "x1", "y1"]
        self.objects.writerow(["file", "object", "count", "probability", *box, "score"])
        self.counts.writerow(["file", "count", "probability"])

    def add(self, result: Result) -> None:
        """Adds a picture's."""
        count, probability = result.count, f"{result.probability:.4f}"
        self.counts.writerow([result.file, count, probability])
        boxes, scores = result.objects.boxes.tolist(), result.objects.scores.tolist()
        for i, (box, score) in enumerate(zip(boxes, scores, strict=True)):
            numbers = [f"{x:.1f}" for x in box]
            row = [result.file, i, count, probability, *numbers, f"{score:.4f}"]
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

    def add(self, result: Result) -> None:
        """Adds a picture's."""
        self.file.write(self.between + json.dumps(result.about()))
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

    def add(self, result: Result) -> None:
        """Adds a picture's."""
        number, (height, width) = len(self.images) + 1, result.image.shape[:2]
        image = {"id": number, "file_name": result.file, "width": width, "height": height}
        self.images.append(image)
        boxes, scores = result.objects.boxes.tolist(), result.objects.scores.tolist()
        for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True):
            found = {"image_id": number, "category_id": CATEGORY, "score": score}
            self.results.append(found | {"bbox": [x0, y0, x1 - x0, y1 - y0]})

    def close(self) -> None:
        """Writes the files."""
        categories = [{"id": CATEGORY, "name": "object"}]
        images = {"images": self.images, "categories": categories, "annotations": []}
        (self.out / "coco_images.json").write_text(json.dumps(images) + "\n")
        (self.out / "coco_results.json").write_text(json.dumps(self.results) + "\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "json": JsonWriter, "coco": CocoWriter}


def write_predictions(
    air: AIR,
    folder: Path,
    settings: PictureConfig,
    out: Path,
    format: str,
    draw: bool = False,
    strict: bool = False,
) -> Told:
    """Finds the objects in a folder's pictures and writes them to a new folder.

    Args:
        air: trained.
        folder: of pictures, or one picture.
        settings: how they become images. With ``crop`` they are read in tiles.
        out: the new folder.
        format: csv, json or coco.
        draw: also drawings.
        strict: end at the first broken file.

    Raises:
        InputError: if ``out`` exists, a picture has another size than the model's, or is broken and
            ``strict`` holds, or all are broken.
    """
    begin, told = time.perf_counter(), Told()
    if out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", out)
    files = picture_files(folder)
    colour = "no" if air.model.config.channels == 1 else "yes"  # as the model was trained
    config = decided(files, replace(settings, colour=colour))
    root = folder if folder.is_dir() else folder.parent

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for read in read_images(files, config, air.model.config.image_size):
            if not isinstance(read, Broken):
                yield read[0].relative_to(root).as_posix(), read[1]
                continue
            told.broken.append(read)
            if strict or len(told.broken) == len(files):
                raise InputError(str(read.path), f"cannot be read ({read.why})")

    found = found_in(air, images(), in_tiles=config.crop is not None)
    found = itertools.chain([next(found)], found)  # what is wrong at once leaves no folder
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror})", out) from None
    sheet: list[Result] = []
    with contextlib.closing(WRITERS[format](out)) as writer:
        for result in found:
            told.images += 1
            told.objects += result.count
            writer.add(result)
            if draw:
                _draw(out / "drawn" / f"{result.file}.png", result)  # a.png and a.jpg are two
                sheet += [result] if len(sheet) < SHEET else []
    if draw:
        pictures = [result.image / 255 for result in sheet]
        figure = plots.images(pictures, [result.objects.boxes for result in sheet])
        plots.save(figure, out / "contact_sheet.png")
    told.paths = sorted(out.iterdir())
    told.seconds = time.perf_counter() - begin
    return told


def found_in(
    air: AIR, images: Iterator[tuple[str, np.ndarray]], in_tiles: bool
) -> Iterator[Result]:
    """What is found in each of these named images."""
    if in_tiles:
        for name, image in images:
            yield Result(name, image, air.find(image))
        return
    names: list[str] = []

    def unnamed() -> Iterator[np.ndarray]:
        for name, image in images:
            names.append(name)
            yield image

    first = 0
    for scenes in air.predict_batches(unnamed()):
        for i, name in enumerate(names[first : first + len(scenes)]):
            yield Result(name, scenes.images[i], scenes.objects(i), scenes.count_probs[i])
        first += len(scenes)


def _draw(path: Path, result: Result) -> None:
    """The picture with the boxes of its objects; small ones enlarged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    zoom = max(1, min(ZOOM, LARGE // max(result.image.shape)))
    plots.boxed(result.image, result.objects.boxes, zoom).save(path)
