"""The truth that results are compared with: a table of counts, dots or boxes, COCO's JSON, label
images, or files of other programs with what was marked there."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from airjax.cli.annotations import SUFFIXES as ANNOTATED
from airjax.cli.annotations import (
    Rings,
    annotation_files,
    is_geojson,
    is_napari,
    name_of,
    read_annotations,
)
from airjax.cli.label_images import boxes_of, label_files, numbered, pieces, read_labels
from airjax.cli.tables import Page, Table
from airjax.data.files import SUFFIXES
from airjax.errors import InputError
from airjax.inference.writers import BOX

Kind = Literal["counts", "dots", "boxes", "labels"]
NO_BOXES = np.zeros((0, 4))


class Marked(NamedTuple):
    """The truth of a picture.

    Attributes:
        number: of objects.
        boxes: ``[n, 4]``; a dot is a box without width and height. Of counts, ``[0, 4]``.
        ignored: ``[k, 4]``, boxes of regions that are left out (COCO's crowds, QuPath's classes
            that are ignored).
        labels: the number of the object in each pixel, 1 to n; None without label images.
        outlines: of each object, where they are known.
        size: height and width of the picture; None where it is not known.
    """

    number: float
    boxes: Float[np.ndarray, "n 4"] = NO_BOXES
    ignored: Float[np.ndarray, "k 4"] = NO_BOXES
    labels: Integer[np.ndarray, "H W"] | None = None
    outlines: list[Rings] | None = None
    size: tuple[int, int] | None = None


class Truth(NamedTuple):
    """The truth of pictures.

    Attributes:
        kind: of what is known of them.
        names: of the pictures.
        pages: the pages of a picture, by its name; label images are read now.
        has_pages: whether the pages of a file are separate pictures.
        lines: what was passed over or decided.
        masks: names of label images that are masks without numbers, as far as they were read.
    """

    kind: Kind
    names: list[str]
    pages: Callable[[str], dict[Page, Marked]]
    has_pages: bool
    lines: list[str]
    masks: list[str]


def read_truth(path: Path) -> Truth:
    """Reads a table, COCO's JSON or files of other programs, or finds label images, by the name of
    the file.

    Raises:
        InputError: if it cannot be read, or does not have the form of one of these.
    """
    if not path.exists():
        raise InputError("TRUTH", "must be a file, or a folder of label images", path)
    suffix = path.suffix.lower()
    if path.is_dir() and (files := annotation_files(path)) and not _has_pictures(path):
        return _annotations({file.relative_to(path).as_posix(): file for file in files})
    if path.is_dir() or suffix in SUFFIXES:
        return _labels(path)
    if suffix in ANNOTATED and (suffix != ".csv" or is_napari(Table(path, "TRUTH").columns)):
        return _annotations({path.name: path})
    return _json(path) if suffix == ".json" else _table(path)


def _of_pages(
    kind: Kind, pictures: dict[tuple[str, Page], Marked], lines: list[str] | None = None
) -> Truth:
    files: dict[str, dict[Page, Marked]] = {}
    for (name, page), marked in pictures.items():
        files.setdefault(name, {})[page] = marked
    has_pages = any(page is not None for _, page in pictures)
    return Truth(kind, list(files), files.__getitem__, has_pages, lines or [], [])


# tables


def _table(path: Path) -> Truth:
    table = Table(path, "TRUTH")
    if not table.has("file") or not (
        table.has(*BOX) or table.has("x", "y") or table.has("count")
    ):  # fmt: skip
        rule = "must have a column file and a column count, or x and y, or x0, y0, x1 and y1"
        raise InputError("TRUTH", rule, path)
    if not table.rows:
        raise InputError("TRUTH", "must have a row or more", path)
    if table.has(*BOX):
        return _objects(table, BOX)
    return _objects(table, ("x", "y")) if table.has("x", "y") else _counts(table)


def _counts(table: Table) -> Truth:
    pictures: dict[tuple[str, Page], Marked] = {}
    for row in table.rows:
        picture, (count,) = table.picture(row), table.numbers(row, ("count",))
        if count < 0:
            raise InputError("TRUTH", f"must have counts from 0, of {picture[0]}", row["count"])
        if picture in pictures:
            raise InputError("TRUTH", "must have one row for each picture", picture[0])
        pictures[picture] = Marked(count)
    return _of_pages("counts", pictures)


def _objects(table: Table, columns: tuple[str, ...]) -> Truth:
    """A row an object; a row without numbers is a picture without objects."""
    boxes: dict[tuple[str, Page], list[list[float]]] = {}
    for row in table.rows:
        some = boxes.setdefault(table.picture(row), [])
        if any(row[name] for name in columns):
            box = table.numbers(row, columns)
            box = box if len(box) == 4 else 2 * box
            if box[2] < box[0] or box[3] < box[1]:
                rule = f"must have x0 <= x1 and y0 <= y1, of {row['file']}"
                raise InputError("TRUTH", rule, " ".join(row[name] for name in columns))
            some.append(box)
    found = {name: np.array(some, float).reshape(-1, 4) for name, some in boxes.items()}
    every = np.concatenate(list(found.values()))
    sides = every[:, 2:] - every[:, :2]
    is_dots, lines = len(columns) == 2, list[str]()
    if not is_dots and len(sides) and sides.max() <= 1:
        is_dots, lines = True, ["boxes of one pixel: taken as dots"]
    if is_dots:
        found = {name: np.tile((b[:, :2] + b[:, 2:]) / 2, 2) for name, b in found.items()}
    pictures = {name: Marked(len(some), some) for name, some in found.items()}
    return _of_pages("dots" if is_dots else "boxes", pictures, lines)


# COCO


def _json(path: Path) -> Truth:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError("TRUTH", f"cannot be read as JSON ({why})", path) from None
    return _annotations({path.name: path}) if is_geojson(data) else _coco(data, path)


def _coco(data: Any, path: Path) -> Truth:
    images = data.get("images") if isinstance(data, dict) else None
    annotations = data.get("annotations") if isinstance(data, dict) else None
    if not isinstance(images, list) or not isinstance(annotations, list) or not images:
        rule = "must be a COCO data set, an object with lists of images and annotations"
        raise InputError("TRUTH", rule, path)
    try:
        return _of_coco(images, annotations)
    except InputError:
        raise
    except (KeyError, TypeError, AttributeError, OverflowError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        rule = f"must have the fields of COCO in images and annotations ({why})"
        raise InputError("TRUTH", rule, path) from None


def _of_coco(images: list[Any], annotations: list[Any]) -> Truth:
    about = {image["id"]: image for image in images}
    if len(about) < len(images):
        raise InputError("TRUTH", "must have a different id for each image", len(images))
    boxes: dict[Any, list[list[float]]] = {number: [] for number in about}
    ignored: dict[Any, list[list[float]]] = {number: [] for number in about}
    left_out = 0
    for annotation in annotations:
        number = annotation["image_id"]
        if number not in about:
            raise InputError("TRUTH", "must have the images of its annotations", number)
        is_ignored = bool(annotation.get("iscrowd") or annotation.get("ignore"))
        (ignored if is_ignored else boxes)[number].append(_coco_box(annotation))
        left_out += is_ignored
    pictures: dict[tuple[str, Page], Marked] = {}
    for number, image in about.items():
        name, page, (height, width) = image["file_name"], image.get("page"), _coco_size(image)
        picture = (name.removeprefix("./"), None if page is None else int(page))
        if picture in pictures or not picture[0]:
            raise InputError("TRUTH", "must have one image for each file_name", name)
        here, there = (np.array(some[number], float).reshape(-1, 4) for some in (boxes, ignored))
        size = (height, width) if height and width else None
        pictures[picture] = Marked(len(here), here, there, size=size)
    lines = []
    if left_out:
        lines = [f"annotations with iscrowd or ignore: {left_out}; they, and what is found there, "
                 "are left out"]  # fmt: skip
    return _of_pages("boxes", pictures, lines)


def _coco_size(image: dict[str, Any]) -> tuple[int, int]:
    """Height and width, 0 where they are not given."""
    height, width = image.get("height") or 0, image.get("width") or 0
    if not all(isinstance(side, int | float) and math.isfinite(side) for side in (height, width)):
        raise TypeError(f"size of {image['file_name']}")
    return int(height), int(width)


def _coco_box(annotation: dict[str, Any]) -> list[float]:
    """x0, y0, x1, y1 of an annotation: of its bbox, or of its polygons."""
    box, polygons = annotation.get("bbox"), annotation.get("segmentation")
    if box is None and isinstance(polygons, list) and polygons:
        points = np.array([x for polygon in polygons for x in polygon], float).reshape(-1, 2)
        box = [*points.min(0), *np.ptp(points, axis=0)]
    numbers = [float(x) for x in box] if isinstance(box, list) else []
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[2:]) < 0:
        rule = "must have bbox as [x, y, width, height] in each annotation"
        raise InputError("TRUTH", rule, str(box)[:80])
    x, y, width, height = numbers
    return [x, y, x + width, y + height]


# label images


def _labels(path: Path) -> Truth:
    files, lines = label_files(path)
    masks: list[str] = []

    def pages(name: str) -> dict[Page, Marked]:
        images = read_labels(files[name])
        parts = [pieces(numbered(labels)) for labels in images]
        if any(is_mask for _, is_mask in parts):
            masks.append(name)
        found: dict[Page, Marked] = {}
        for i, (labels, _) in enumerate(parts):
            boxes, page = boxes_of(labels), i if len(images) > 1 else None
            found[page] = Marked(len(boxes), boxes, labels=labels, size=labels.shape)
        return found

    return Truth("labels", list(files), pages, True, lines, masks)


def _has_pictures(folder: Path) -> bool:
    try:
        return bool(label_files(folder)[0])
    except InputError:
        return False


# what was marked in other programs


def _annotations(files: dict[str, Path]) -> Truth:
    """The marks in files, by their path in the folder that was given. Points and outlines together
    are all taken as dots."""
    read = {file: read_annotations(path) for file, path in files.items()}
    marks = [mark for annotated in read.values() for mark in annotated.marks if not mark.is_ignored]
    points, lines = sum(mark.is_point for mark in marks), list[str]()
    if 0 < points < len(marks):
        lines.append(f"points and outlines: {points} and {len(marks) - points}; all taken as dots")
    if skipped := sum(annotated.skipped for annotated in read.values()):
        lines.append(f"passed over: {skipped} marks that are neither points nor outlines")
    if left_out := sum(mark.is_ignored for annotated in read.values() for mark in annotated.marks):
        lines.append(f"marks of ignored classes: {left_out}; they, and what is found there, are "
                     "left out")  # fmt: skip
    pictures: dict[tuple[str, Page], Marked] = {}
    for file, annotated in read.items():
        name, page = name_of(file)
        pages = {mark.page if page is None else page for mark in annotated.marks} or {page}
        if len(pages) > 1 and None in pages:
            raise InputError("TRUTH", "must have a page for each mark, or for none", file)
        for one in pages:
            if (name, one) in pictures:
                raise InputError("TRUTH", "must have one file for each picture", file)
            here = [mark for mark in annotated.marks if page is not None or mark.page == one]
            objects = [mark for mark in here if not mark.is_ignored]
            boxes, outlines = _boxes_of(mark.box for mark in objects), None
            if not points:
                outlines = [mark.rings for mark in objects]
            else:
                boxes = np.tile((boxes[:, :2] + boxes[:, 2:]) / 2, 2)
            ignored = _boxes_of(mark.box for mark in here if mark.is_ignored)
            pictures[name, one] = Marked(len(boxes), boxes, ignored, outlines=outlines)
    return _of_pages("dots" if points else "boxes", pictures, lines)


def _boxes_of(boxes: Iterable[tuple[float, ...]]) -> Float[np.ndarray, "n 4"]:
    return np.array(list(boxes), float).reshape(-1, 4)
