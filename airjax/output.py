"""Predictions as files that other tools read: tables, JSON, COCO; and drawings."""

import contextlib
import csv
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from airjax import plots
from airjax.air import AIR
from airjax.config import PictureConfig
from airjax.data.folder import Broken, decided, picture_files, read_images
from airjax.errors import InputError
from airjax.scenes import Scenes

CATEGORY = 1  # of COCO: objects have no classes here
SHEET = 50  # pictures on a contact sheet


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


class Writer(Protocol):
    """Writes predictions to a folder, batch by batch."""

    def __init__(self, out: Path): ...

    def add(self, names: list[str], scenes: Scenes) -> None:
        """Adds the scenes of these files."""

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

    def add(self, names: list[str], scenes: Scenes) -> None:
        """Adds the scenes of these files."""
        for name, scene in zip(names, rows(scenes), strict=True):
            count, probability = scene["count"], f"{scene['count_probs'][scene['count']]:.4f}"
            self.counts.writerow([name, count, probability])
            for i, found in enumerate(scene["objects"]):
                box = [f"{x:.1f}" for x in found["box"]]
                row = [name, i, count, probability, *box, f"{found['score']:.4f}"]
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

    def add(self, names: list[str], scenes: Scenes) -> None:
        """Adds the scenes of these files."""
        height, width = scenes.images.shape[1:]
        for name, scene in zip(names, rows(scenes), strict=True):
            entry = {"file": name, "width": width, "height": height} | scene
            self.file.write(self.between + json.dumps(entry))
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

    def add(self, names: list[str], scenes: Scenes) -> None:
        """Adds the scenes of these files."""
        height, width = scenes.images.shape[1:]
        for name, scene in zip(names, rows(scenes), strict=True):
            number = len(self.images) + 1
            image = {"id": number, "file_name": name, "width": width, "height": height}
            self.images.append(image)
            for found in scene["objects"]:
                x0, y0, x1, y1 = found["box"]
                box = [x0, y0, x1 - x0, y1 - y0]
                result = {"image_id": number, "category_id": CATEGORY, "bbox": box}
                self.results.append(result | {"score": found["score"]})

    def close(self) -> None:
        """Writes the files."""
        categories = [{"id": CATEGORY, "name": "object"}]
        images = {"images": self.images, "categories": categories, "annotations": []}
        (self.out / "coco_images.json").write_text(json.dumps(images) + "\n")
        (self.out / "coco_results.json").write_text(json.dumps(self.results) + "\n")


WRITERS: dict[str, type[Writer]] = {"csv": CsvWriter, "json": JsonWriter, "coco": CocoWriter}


def rows(scenes: Scenes) -> Iterator[dict[str, Any]]:
    """Each image's ``count``, ``count_probs``, and ``objects``: ``box`` (tight) and ``window``
    (x0, y0, x1, y1 in pixels), ``score`` (probability that the object is there), ``position``
    (scale, x, y) and ``code``."""
    counts, probabilities = scenes.counts, scenes.probabilities
    found = scenes.found
    for i, count in enumerate(counts.tolist()):
        yield {
            "count": count,
            "count_probs": scenes.count_probs[i].tolist(),
            "objects": [
                {
                    "box": found.tight_boxes[i, t].tolist(),
                    "window": found.window_boxes[i, t].tolist(),
                    "score": float(np.clip(probabilities[i, t], 0, 1)),
                    "position": found.z_where[i, t].tolist(),
                    "code": found.z_what[i, t].tolist(),
                }
                for t in range(count)
            ],
        }


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
        settings: how they become images.
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
    config = decided(files, settings)
    root = folder if folder.is_dir() else folder.parent
    names: list[str] = []

    def images() -> Iterator[np.ndarray]:
        for read in read_images(files, config, air.model.config.image_size):
            if not isinstance(read, Broken):
                names.append(read[0].relative_to(root).as_posix())
                yield read[1]
                continue
            told.broken.append(read)
            if strict or len(told.broken) == len(files):
                raise InputError(str(read.path), f"cannot be read ({read.why})")

    batches = air.predict_batches(images())
    batches = itertools.chain([next(batches)], batches)  # what is wrong at once leaves no folder
    try:
        out.mkdir(parents=True)
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror})", out) from None
    sheet: list[Scenes] = []
    with contextlib.closing(WRITERS[format](out)) as writer:
        for scenes in batches:
            batch = names[told.images : told.images + len(scenes)]
            told.images += len(scenes)
            told.objects += int(scenes.counts.sum())
            writer.add(batch, scenes)
            if draw:
                _draw(out / "drawn", batch, scenes)
            sheet += [scenes[i : i + 1] for i in range(min(SHEET - len(sheet), len(scenes)))]
    if draw:
        pictures = [scenes.images[0] / 255 for scenes in sheet]
        figure = plots.images(pictures, [scenes.tight_boxes[0] for scenes in sheet])
        plots.save(figure, out / "contact_sheet.png")
    told.paths = sorted(out.iterdir())
    told.seconds = time.perf_counter() - begin
    return told


def _draw(folder: Path, names: list[str], scenes: Scenes) -> None:
    """Each picture with the boxes of its objects, four times as large."""
    for name, image, boxes in zip(names, scenes.images, scenes.tight_boxes, strict=True):
        path = folder / f"{name}.png"  # the whole name: a.png and a.jpg are two pictures
        path.parent.mkdir(parents=True, exist_ok=True)
        plots.boxed(image, boxes[boxes[:, 2] > boxes[:, 0]]).save(path)
