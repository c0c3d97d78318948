"""What ``airjax predict`` wrote, read again; and which truth belongs to which of its pictures."""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from airjax.cli.tables import Page, Table
from airjax.errors import InputError
from airjax.inference.writers import BOX

MARKS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")  # behind the name of a picture


class Seen(NamedTuple):
    """What was found in a picture.

    Attributes:
        interval: count, and the ends of its 90 % interval.
        boxes: ``[n, 4]``, in pixels of the file; of counts alone, ``[0, 4]``.
        centres: ``[n, 2]``, x and y.
        scores: ``[n]``.
    """

    interval: Float[np.ndarray, "3"]
    boxes: Float[np.ndarray, "n 4"]
    centres: Float[np.ndarray, "n 2"]
    scores: Float[np.ndarray, " n"]


Pages = dict[Page, Seen]


def read_found(results: Path, objects: bool) -> dict[str, Pages]:
    """The pages of each file in a folder of results.

    Args:
        results: the folder, with counts.csv.
        objects: whether objects.csv is read, too.

    Raises:
        InputError: if a table cannot be read, lacks a column, or has no row.
    """
    table = Table(results / "counts.csv", "RESULTS").need("file", "count", "low", "high")
    if not table.rows:
        raise InputError("RESULTS", "must have a row or more in counts.csv", table.path)
    rows: dict[tuple[str, Page], list[list[float]]] = {}
    intervals = {table.picture(row): table.numbers(row, ("count", "low", "high"))
                 for row in table.rows}  # fmt: skip
    if objects:
        rows = _objects(results / "objects.csv")
        if extra := [name for name, _ in rows.keys() - intervals.keys()]:
            raise InputError("RESULTS", "must have each picture in counts.csv", extra[0])
    found: dict[str, Pages] = {}
    for (name, page), interval in intervals.items():
        values = np.array(rows.get((name, page), []), float).reshape(-1, 7)
        seen = Seen(np.array(interval), values[:, :4], values[:, 4:6], values[:, 6])
        found.setdefault(name, {})[page] = seen
    return found


def _objects(path: Path) -> dict[tuple[str, Page], list[list[float]]]:
    """Box, centre and score of each object, by picture."""
    table = Table(path, "RESULTS").need("file", *BOX, "score", "x", "y")
    found: dict[tuple[str, Page], list[list[float]]] = {}
    for row in table.rows:
        x0, y0, x1, y1, score = table.numbers(row, (*BOX, "score"))
        if "nan" in (row["x"], row["y"]):  # an object without a pixel in the picture
            centre = [(x0 + x1) / 2, (y0 + y1) / 2]
        else:
            centre = table.numbers(row, ("x", "y"))
        found.setdefault(table.picture(row), []).append([x0, y0, x1, y1, *centre, score])
    return found


def total(pages: Pages) -> Pages:
    """The counts of all pages of a file together."""
    interval = np.sum([seen.interval for seen in pages.values()], axis=0)
    return {None: Seen(interval, np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))}


def truths_of(found: Iterable[str], truth: Iterable[str]) -> dict[str, str]:
    """Which name in the truth belongs to which file of the results: the same path, the same but
    for the suffix of the file, or either without folders. ``MARKS`` behind a name are left out.

    Returns:
        for files of the results that have one, the name in the truth.

    Raises:
        InputError: if a name fits several files, or a file has several names.
    """
    found, pairs = list(found), dict[str, str]()
    by: list[dict[str, list[str]]] = []
    for form in FORMS:
        by.append({})
        for name in found:
            by[-1].setdefault(form(PurePosixPath(name)), []).append(name)
    for name in truth:
        for level, key in _candidates(PurePosixPath(name.replace("\\", "/"))):
            if files := by[level].get(key):
                break
        else:
            continue
        if len(files) > 1:
            rule = f"must tell apart {files[0]} and {files[1]}"
            raise InputError("TRUTH", rule, name)
        if files[0] in pairs:
            rule = f"must have one truth for {files[0]}"
            raise InputError("TRUTH", rule, f"{pairs[files[0]]} and {name}")
        pairs[files[0]] = name
    return pairs


FORMS: tuple[Callable[[PurePosixPath], str], ...] = (
    str, lambda path: str(path.parent / path.stem), lambda path: path.name, lambda path: path.stem,
)  # fmt: skip


def _candidates(path: PurePosixPath) -> list[tuple[int, str]]:
    """What a file of the results may be called, and the index of its form."""
    whole, short = str(path.parent / path.stem), path.stem
    names = [(0, str(path)), (0, whole), (1, whole), (2, path.name), (2, short), (3, short)]
    if (plain := unmarked(short)) != short:  # a.png_mask.tif, or a_mask.tif
        above = str(path.parent / plain)
        names += [(0, above), (1, above), (2, plain), (3, plain)]
    return names


def unmarked(stem: str) -> str:
    """A name without the suffix that marks label images, such as ``_mask``."""
    for mark in MARKS:
        if stem.lower().endswith(mark) and len(stem) > len(mark):
            return stem[: -len(mark)]
    return stem
