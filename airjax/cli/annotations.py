"""Objects marked in other programs: ImageJ's regions of interest, QuPath's GeoJSON, napari's tables
of points and shapes. A file is of one picture, whose name it has."""

import csv
import json
import re
import zipfile
from collections.abc import Callable, Iterable
from math import ceil, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from airjax.cli.found import MARKS
from airjax.data.files import SUFFIXES as PICTURES
from airjax.data.files import is_hidden
from airjax.errors import InputError

SUFFIXES = (".zip", ".roi", ".geojson", ".csv")
ROLES = ("_points", "_boxes", "_shapes")  # behind the name of a picture, of napari's layers
CENTRE = 0.5  # napari has the centre of the first pixel at 0
IGNORED = "*"  # QuPath's classes that are left out end so
Point = tuple[float, float]
Rings = list[list[Point]]  # the outlines of the pieces of an object, and of its holes


class Mark(NamedTuple):
    """An object, or a region that is left out.

    Attributes:
        box: x0, y0, x1, y1 in pixels; of a point, twice the same.
        page: index in a file of several pictures, or None.
        rings: its outlines in pixels; none of a point.
        is_ignored: whether it is a region that is left out.
    """

    box: tuple[float, float, float, float]
    page: int | None
    rings: Rings
    is_ignored: bool = False

    @property
    def is_point(self) -> bool:
        """Whether it has no outline."""
        return not self.rings


class Annotations(NamedTuple):
    """What is in a file.

    Attributes:
        marks: objects and regions that are left out.
        skipped: the number of things that are neither, such as lines.
    """

    marks: list[Mark]
    skipped: int


def annotation_files(folder: Path) -> list[Path]:
    """The files of such marks in a folder and in folders below it."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and not is_hidden(path.name) and path.is_file()
    ]


def name_of(path: str) -> tuple[str, int | None]:
    """The picture that a file is of, with or without its suffix, and the page: ``a.tif.3.zip``, as
    ``airjax predict`` names the third page, ``a_points.csv``, as napari names a layer."""
    stem, _, _ = path.rpartition(".")
    for role in (*ROLES, *MARKS):
        stem = stem.removesuffix(role)
    name, _, page = stem.rpartition(".")
    if page.isdecimal() and Path(name).suffix.lower() in PICTURES:
        return name, int(page)
    return stem, None


def read_annotations(path: Path) -> Annotations:
    """Reads a file.

    Raises:
        InputError: if it cannot be read, or has another form.
    """
    readers: dict[str, Callable[[Path], Annotations]] = {
        ".zip": _rois, ".roi": _rois, ".csv": _napari,
    }  # fmt: skip
    try:
        return readers.get(path.suffix.lower(), _geojson)(path)
    except InputError:
        raise
    except ImportError:
        rule = "with ROIs needs roifile: pip install 'airjax[formats]'"
        raise InputError("TRUTH", rule, path) from None
    except Exception as error:  # decoders raise anything
        why = error.strerror if isinstance(error, OSError) else None
        why = why or " ".join(str(error).split()) or type(error).__name__
        raise InputError(str(path), f"cannot be read ({why})") from None


def labels_of(objects: list[Rings], size: tuple[int, int]) -> Integer[np.ndarray, "H W"]:
    """The number of the object in each pixel, from 1 in their order; later ones cover earlier ones.
    An object has the pixels whose centres are inside an odd number of its rings."""
    from skimage.draw import polygon  # slow to import

    labels = np.zeros(size, np.int64)
    for number, rings in enumerate(objects, 1):
        points = np.array([point for ring in rings for point in ring])
        left, top = np.floor(points.min(0)).astype(int).clip(0)
        part = labels[top : max(top, ceil(points[:, 1].max())),
                      left : max(left, ceil(points[:, 0].max()))]  # fmt: skip
        inside = np.zeros(part.shape, bool)
        for ring in rings:
            x, y = np.array(ring).T
            inside[polygon(y - top - CENTRE, x - left - CENTRE, part.shape)] ^= True
        part[inside] = number
    return labels


def _mark(rings: Rings, page: int | None, is_ignored: bool = False, is_point: bool = False) -> Mark:
    xs, ys = zip(*(point for ring in rings for point in ring), strict=True)
    if not all(map(isfinite, (*xs, *ys))):
        raise ValueError("coordinates must be finite")
    box = min(xs), min(ys), max(xs), max(ys)
    return Mark(box, page, [] if is_point else rings, is_ignored)


def _ring(points: Iterable[Any]) -> list[Point]:
    return [(float(x), float(y)) for x, y, *_ in points]


# ImageJ


def _rois(path: Path) -> Annotations:
    import roifile

    if path.suffix.lower() == ".zip" and not zipfile.ZipFile(path).namelist():
        return Annotations([], 0)
    found = roifile.roiread(path)
    marks, skipped = list[Mark](), 0
    for roi in found if isinstance(found, list) else [found]:
        some = _of_roi(roi, roifile.ROI_TYPE)
        marks, skipped = marks + some, skipped + (not some)
    return Annotations(marks, skipped)


def _of_roi(roi: Any, kinds: Any) -> list[Mark]:
    """An area is an object, and so is each point; lines and angles are not."""
    areas = (kinds.POLYGON, kinds.RECT, kinds.OVAL, kinds.FREEHAND, kinds.TRACED)
    slice_ = max(roi.position, roi.z_position, roi.t_position)  # from 1; 0 is none
    page = slice_ - 1 if slice_ else None
    if roi.roitype == kinds.POINT:
        own = roi.counter_positions  # of each point, in a stack
        points = _ring(roi.coordinates())
        pages = [page] * len(points) if own is None else [int(p) - 1 if p else page for p in own]
        return [_mark([[xy]], on, is_point=True) for xy, on in zip(points, pages, strict=True)]
    if roi.roitype not in areas:
        return []
    if roi.roitype == kinds.RECT and roi.subpixelrect and not roi.composite:
        x0, y0, x1, y1 = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
        return [_mark([_ring([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])], page)]
    rings = [ring for points in roi.coordinates(multi=True) if (ring := _ring(points))]
    return [_mark(rings, page)] if rings else []


# QuPath


def is_geojson(data: Any) -> bool:
    """Whether JSON has the form of GeoJSON, as QuPath writes it: features, or a list of them."""
    first = data[0] if isinstance(data, list) and data else data
    return isinstance(first, dict) and first.get("type") in ("FeatureCollection", "Feature")


def _geojson(path: Path) -> Annotations:
    data = json.loads(path.read_bytes())
    if data != [] and not is_geojson(data):
        rule = "must be GeoJSON, a FeatureCollection or a list of features"
        raise InputError("TRUTH", rule, path)
    data = data if isinstance(data, list) else data.get("features", [data])
    marks, skipped = list[Mark](), 0
    try:
        for feature in data:
            some = _of_feature(feature)
            marks, skipped = marks + some, skipped + (not some)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(str(path), f"must have GeoJSON's features ({why})") from None
    planes = {mark.page for mark in marks}
    if planes <= {0}:  # of QuPath's only plane
        marks = [mark._replace(page=None) for mark in marks]
    return Annotations(marks, skipped)


def _of_feature(feature: dict[str, Any]) -> list[Mark]:
    """A polygon, of one piece or of several, is an object, and so is each point."""
    geometry, about = feature["geometry"], feature.get("properties") or {}
    kind, places = geometry["type"], geometry.get("coordinates", [])
    plane = geometry.get("plane") or {}
    page = max(int(plane.get("z", 0)), int(plane.get("t", 0)))
    named = str((about.get("classification") or {}).get("name", ""))
    ignored = named.endswith(IGNORED)
    if kind in ("Point", "MultiPoint"):
        points = [places] if kind == "Point" else places
        return [_mark([[xy]], page, ignored, is_point=True) for xy in _ring(points)]
    if kind not in ("Polygon", "MultiPolygon"):
        return []
    pieces = [places] if kind == "Polygon" else places
    rings = [_ring(ring) for piece in pieces for ring in piece]
    return [_mark(rings, page, ignored)] if rings else []


# napari


def is_napari(columns: list[str]) -> bool:
    """Whether a table is one of napari's points or shapes."""
    return {"index", "axis-0", "axis-1"} <= set(columns)


def _napari(path: Path) -> Annotations:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    axes = [name for name in columns if re.fullmatch(r"axis-\d", name)]
    if not is_napari(columns) or len(axes) > 3:
        rule = "must be napari's table of points or shapes: index, axis-0, axis-1 (and axis-2)"
        raise InputError(str(path), rule, ", ".join(columns)[:80])
    shapes = dict[str, list[dict[str, str]]]()
    for row in rows:
        shapes.setdefault(row["index"], []).append(row)
    marks, skipped, *first, y, x = list[Mark](), 0, *axes
    for some in shapes.values():
        page = round(float(some[0][first[0]])) if first else None
        ring = [(float(row[x]) + CENTRE, float(row[y]) + CENTRE) for row in some]
        kind = some[0].get("shape-type")
        if kind in (None, "rectangle", "ellipse", "polygon"):
            ring = _in_box(ring) if kind == "ellipse" else ring
            marks.append(_mark([ring], page, is_point=kind is None))
        else:
            skipped += 1
    return Annotations(marks, skipped)


def _in_box(corners: list[Point]) -> list[Point]:
    """The ellipse in a rectangle, which may be turned."""
    first, second, third, fourth = np.array(corners)
    middle, angles = (first + third) / 2, np.linspace(0, 2 * np.pi, 64, endpoint=False)[:, None]
    ring = middle + np.cos(angles) * (second - first) / 2 + np.sin(angles) * (fourth - first) / 2
    return _ring(ring.tolist())
