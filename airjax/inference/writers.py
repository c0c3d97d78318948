"""The files that ``airjax predict`` writes and the page offers, for other tools: a class a format.

A further format is a class with the methods of `Writer`, and an entry in ``WRITERS``. Packages that
only one format needs are imported there.
"""

import csv
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import airjax
from airjax.errors import InputError
from airjax.inference.regions import Region
from airjax.inference.results import PER_OBJECT, Objects

if TYPE_CHECKING:
    import pyarrow

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # how the formulas of spreadsheets begin
BOX = ("x0", "y0", "x1", "y1")  # columns of a box
LONGEST = 255  # bytes of a file's name
CATEGORY = 1  # COCO's category of all objects: they have no classes here
UNSURE = 0.5  # a count that is less probable is marked
# the columns of tables, with Arrow's types
_FILE = {"file": "string", "page": "int64"}
_COUNT = {"count": "int64", "probability": "double"}
OBJECT = {
    **_FILE, "object": "int64", **_COUNT,
    **dict.fromkeys((*BOX, "score", "x", "y"), "double"), "area": "int64",
    **dict.fromkeys(("mean", "total", "eccentricity"), "double"), "at_edge": "bool",
}  # fmt: skip
PICTURE = {
    **_FILE, **_COUNT, "low": "int64", "high": "int64", "at_edge": "int64", "unsure": "bool",
}  # fmt: skip
BROKEN = {"file": "string", "why": "string"}


def no_formula(file: str) -> str:
    """The name of a file for CSV, in which a spreadsheet sees no formula."""
    return f"./{file}" if file.startswith(FORMULAS) else file


def file_named(picture: str, page: int | None, suffix: str) -> str:
    """The name of a file for a picture: a.png and a.jpg have different ones; one that would become
    too long is cut, with a hash."""
    path = Path(picture + ("" if page is None else f".{page}") + suffix)
    name = os.fsencode(path.name)
    if len(name) <= LONGEST:
        return str(path)
    digest = hashlib.sha256(name).hexdigest()[:16]
    return str(path.with_name(f"{path.name[:60]}-{digest}{suffix}"))


@dataclass(frozen=True)
class Picture:
    """What was found in a picture.

    Attributes:
        file: its path in the folder of pictures.
        page: its index in a file of several pictures, otherwise None.
        size: height and width of the picture as it is stored.
        objects: with boxes in pixels of the file.
        regions: of the objects.
    """

    file: str
    page: int | None
    size: tuple[int, int]
    objects: Objects
    regions: list[Region]

    @property
    def name(self) -> str:
        """The file, and its page if it has several."""
        return self.file if self.page is None else f"{self.file}, page {self.page}"

    def file_named(self, suffix: str) -> str:
        """The name of a file for this picture, see `file_named`."""
        return file_named(self.file, self.page, suffix)

    def row(self) -> list[Any]:
        """The columns ``PICTURE``."""
        at_edge = sum(region.at_edge for region in self.regions)
        found, sure = self.objects, self.objects.probability >= UNSURE
        return [self.file, self.page, found.number, round(found.probability, 4), *found.interval,
                at_edge, not sure]  # fmt: skip

    def rows(self) -> list[list[Any]]:
        """The columns ``OBJECT``, a row an object."""
        found = self.objects
        first = [self.file, self.page]
        count = [found.number, round(found.probability, 4)]
        table = zip(found.tight_boxes.tolist(), found.scores.tolist(), self.regions, strict=True)
        return [
            [*first, i, *count, *(round(x, 1) for x in box), round(score, 4),
             *(round(x, 2) for x in region.centre), region.area, round(region.mean, 4),
             round(region.total, 4), round(region.eccentricity, 4), region.at_edge]
            for i, (box, score, region) in enumerate(table)
        ]  # fmt: skip

    def labels(self) -> np.ndarray:
        """The number of the object in each pixel, from 1; 0 where there is none."""
        kind = np.uint16 if self.objects.number < 2**16 else np.uint32
        image = np.zeros(self.size, kind)
        for i, region in enumerate(self.regions, 1):
            image[region.rows, region.columns] = i
        return image


class Writer(Protocol):
    """Writes the objects of pictures to a folder, one picture at a time."""

    def __init__(self, out: Path): ...

    def add(self, picture: Picture) -> None:
        """Adds what was found in a picture."""

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
        self.objects.writerow(OBJECT)
        self.counts.writerow(PICTURE)

    def add(self, picture: Picture) -> None:
        """Adds what was found in a picture."""
        rows = [[no_formula(file), *rest] for file, *rest in (picture.row(), *picture.rows())]
        self.counts.writerow(rows[0])
        self.objects.writerows(rows[1:])

    def close(self) -> None:
        """Completes the files."""
        for file in self.files:
            file.close()


class ParquetWriter:
    """``objects.parquet`` and ``counts.parquet``: the tables of `CsvWriter`, with types."""

    def __init__(self, out: Path):
        needed("pyarrow", "parquet")
        self.out, self.objects, self.counts = out, list[list[Any]](), list[list[Any]]()

    def add(self, picture: Picture) -> None:
        """Adds what was found in a picture."""
        self.counts.append(picture.row())
        self.objects += picture.rows()

    def close(self) -> None:
        """Writes the files."""
        from pyarrow import parquet

        parquet.write_table(arrow(OBJECT, self.objects), self.out / "objects.parquet")
        parquet.write_table(arrow(PICTURE, self.counts), self.out / "counts.parquet")


class JsonWriter:
    """``predictions.json``: a list with everything, a picture an entry."""

    def __init__(self, out: Path):
        self.file = open(out / "predictions.json", "w")  # noqa: SIM115
        self.file.write("[")
        self.between = "\n"

    def add(self, picture: Picture) -> None:
        """Adds what was found in a picture."""
        self.file.write(self.between + json.dumps(_as_json(picture)))
        self.between = ",\n"

    def close(self) -> None:
        """Completes the file."""
        self.file.write("\n]\n")
        self.file.close()


class CocoWriter:
    """``coco_results.json``, COCO's detection results with boxes and polygons, and
    ``coco_images.json``, the data set that their image ids belong to."""

    def __init__(self, out: Path):
        self.out = out
        self.images: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []

    def add(self, picture: Picture) -> None:
        """Adds what was found in a picture."""
        number, (height, width) = len(self.images) + 1, picture.size
        about = {"id": number, "file_name": picture.file, "width": width, "height": height}
        self.images.append(about | ({} if picture.page is None else {"page": picture.page}))
        boxes, scores = (a.tolist() for a in (picture.objects.tight_boxes, picture.objects.scores))
        for i, polygon in outlines(picture):
            (x0, y0, x1, y1), area = boxes[i], picture.regions[i].area
            found = {"image_id": number, "category_id": CATEGORY, "score": scores[i]}
            found |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(area)}
            self.results.append(found | {"segmentation": [polygon.ravel().tolist()]})

    def close(self) -> None:
        """Writes the files."""
        categories = [{"id": CATEGORY, "name": "object"}]
        about = {"description": f"read by airjax {airjax.__version__}"}
        images = {"info": about, "images": self.images, "categories": categories, "annotations": []}
        (self.out / "coco_images.json").write_text(json.dumps(images) + "\n")
        (self.out / "coco_results.json").write_text(json.dumps(self.results) + "\n")


class MasksWriter:
    """``masks/``: for each picture a TIFF with the number of the object in each pixel, from 1; 16
    bit, or 32 bit above 65,535 objects. Later objects cover earlier ones."""

    def __init__(self, out: Path):
        self.out = out / "masks"

    def add(self, picture: Picture) -> None:
        """Writes the file of a picture."""
        import tifffile

        path = _below(self.out, picture.file_named(".tif"))
        tifffile.imwrite(path, picture.labels(), compression="zlib")

    def close(self) -> None:
        """Nothing is left to do."""


class RoiWriter:
    """``rois/``: for each picture a zip of ImageJ's regions of interest, for Fiji's ROI manager."""

    def __init__(self, out: Path):
        needed("roifile", "rois")
        self.out = out / "rois"

    def add(self, picture: Picture) -> None:
        """Writes the file of a picture."""
        import roifile

        found = []
        for i, polygon in outlines(picture):
            roi = roifile.ImagejRoi.frompoints(polygon, name=f"object {i}")
            roi.roitype = roifile.ROI_TYPE.POLYGON
            found.append(roi)
        path = _below(self.out, picture.file_named(".zip"))
        if found:
            roifile.roiwrite(path, found, mode="w")

    def close(self) -> None:
        """Nothing is left to do."""


class GeoJsonWriter:
    """``geojson/``: for each picture the outlines of its objects, as QuPath imports them."""

    def __init__(self, out: Path):
        self.out = out / "geojson"

    def add(self, picture: Picture) -> None:
        """Writes the file of a picture."""
        features = []
        for i, polygon in outlines(picture):
            ring = [*polygon.tolist(), polygon[0].tolist()]
            about = {"objectType": "detection", "name": f"object {i}",
                     "measurements": {"score": float(picture.objects.scores[i])}}  # fmt: skip
            geometry = {"type": "Polygon", "coordinates": [ring]}
            features.append({"type": "Feature", "geometry": geometry, "properties": about})
        path = _below(self.out, picture.file_named(".geojson"))
        path.write_text(json.dumps({"type": "FeatureCollection", "features": features}) + "\n")

    def close(self) -> None:
        """Nothing is left to do."""


WRITERS: dict[str, type[Writer]] = {
    "csv": CsvWriter,
    "parquet": ParquetWriter,
    "json": JsonWriter,
    "coco": CocoWriter,
    "masks": MasksWriter,
    "rois": RoiWriter,
    "geojson": GeoJsonWriter,
}


def arrow(columns: dict[str, str], rows: list[list[Any]]) -> "pyarrow.Table":
    """An Arrow table; names of files that are not UTF-8 have escapes.

    Args:
        columns: names and types, for example ``OBJECT``; the first one is text.
        rows: of values.
    """
    import pyarrow

    fields = [(name, pyarrow.type_for_alias(kind)) for name, kind in columns.items()]
    schema, *values = pyarrow.schema(fields), *(list(row) for row in zip(*rows, strict=True))
    if not rows:
        return schema.empty_table()
    values[0] = [os.fsencode(file).decode(errors="backslashreplace") for file in values[0]]
    arrays = [pyarrow.array(each, field.type) for each, field in zip(values, schema, strict=True)]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def outlines(picture: Picture) -> list[tuple[int, np.ndarray]]:
    """The outline of each object as a polygon ``[k, 2]`` of x and y in pixels; the box of one whose
    shape has fewer than three pixels."""
    from skimage.measure import find_contours  # slow to import

    found = []
    for i, region in enumerate(picture.regions):
        x0, y0, x1, y1 = picture.objects.tight_boxes[i].tolist()
        polygon = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        if region.area >= 3:
            top, left = region.rows.min() - 1, region.columns.min() - 1
            mask = np.zeros((region.rows.max() - top + 2, region.columns.max() - left + 2))
            mask[region.rows - top, region.columns - left] = 1
            longest = max(find_contours(mask, 0.5), key=len)[:-1]
            polygon = longest[:, ::-1] + [left + 0.5, top + 0.5]
        found.append((i, polygon))
    return found


def needed(package: str, format: str) -> None:
    """Checks that the package of a format is installed.

    Raises:
        InputError: if not.
    """
    try:
        __import__(package)
    except ImportError:
        rule = f"{format} needs {package}: pip install 'airjax[formats]'"
        raise InputError("format", rule) from None


def _below(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _as_json(picture: Picture) -> dict[str, Any]:
    """``file``, ``page``, ``width``, ``height``, ``count``, ``interval``, ``count_probs`` and
    ``objects``, each with the fields of `Objects` and of its region. Boxes are in pixels of the
    file; ``z_where`` is of the image that the model read."""
    names = ("tight_box", "window_box", "score", "z_where", "z_what")
    found = picture.objects
    rows = zip(*(getattr(found, name).tolist() for name in PER_OBJECT), strict=True)
    measured = [
        {"centre": list(r.centre) if r.area else None, "area": r.area, "mean": r.mean,
         "total": r.total, "eccentricity": r.eccentricity, "at_edge": r.at_edge}
        for r in picture.regions
    ]  # fmt: skip
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    return {
        "file": picture.file,
        "page": picture.page,
        "width": picture.size[1],
        "height": picture.size[0],
        "count": found.number,
        "interval": list(found.interval),
        "count_probs": found.count_probs.tolist(),
        "objects": [a | b for a, b in zip(objects, measured, strict=True)],
    }
