"""What was found in a picture as files to download, by the writers of ``airjax predict``. They are
written to a temporary folder, which is removed before the files are handed over."""

import contextlib
import csv
import io
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from airjax.errors import InputError
from airjax.inference.writers import BOX, WRITERS, Picture, no_formula

LONGEST = 40  # characters of a picture's name in the names of its files


class Offer(NamedTuple):
    """A file that is offered.

    Attributes:
        label: of its button.
        format: key of `airjax.inference.writers.WRITERS`.
        written: pattern of the file that the writer makes.
        suffix: its name begins with the picture's, and ends so.
    """

    label: str
    format: str
    written: str
    suffix: str


EVERYTHING, TRUTH = "everything", "truth"
MARK = "-corrected"  # in the names of files with corrections by hand
OFFERS = {
    "objects": Offer("Objects (CSV)", "csv", "objects.csv", "-objects.csv"),
    "count": Offer("Count (CSV)", "csv", "counts.csv", "-count.csv"),
    "mask": Offer("Label mask (TIFF)", "masks", "masks/*", "-mask.tif"),
    "rois": Offer("ROIs (Fiji)", "rois", "rois/*", "-rois.zip"),
    "geojson": Offer("GeoJSON (QuPath)", "geojson", "geojson/*", "-objects.geojson"),
    "json": Offer("JSON", "json", "predictions.json", "-objects.json"),
}


class Download(NamedTuple):
    """A file's name and content."""

    name: str
    content: bytes


def download(picture: Picture, key: str, by_hand: bool = False) -> Download:
    """The file of an offer, or a zip of all of them.

    Args:
        picture: what was found.
        key: of ``OFFERS``, or ``EVERYTHING``.
        by_hand: whether it was corrected by hand; the file's name says so.

    Raises:
        InputError: if there is no such offer, its package is missing, or there is nothing to write:
            without objects there are no regions.
    """
    if key not in (*OFFERS, EVERYTHING):
        raise InputError("download", f"must be one of {', '.join((*OFFERS, EVERYTHING))}", key)
    offers = OFFERS.values() if key == EVERYTHING else [OFFERS[key]]
    stem, files = stem_of(picture.file) + MARK * by_hand, list[Download]()
    # the server's own folder, if there is one, is removed with all that is in it
    with tempfile.TemporaryDirectory(dir=os.environ.get("GRADIO_TEMP_DIR")) as folder:
        out = Path(folder)
        for format in dict.fromkeys(offer.format for offer in offers):
            with contextlib.closing(WRITERS[format](out)) as writer:
                writer.add(picture)
        for offer in offers:
            files += [
                Download(stem + offer.suffix, path.read_bytes()) for path in out.glob(offer.written)
            ]
    if key == EVERYTHING:
        return Download(f"{stem}-found.zip", _zipped(files))
    if not files:
        raise InputError("download", "must have something to hold: no object was found")
    return files[0]


def truth(pictures: list[Picture]) -> Download:
    """The boxes of pictures as a table that ``airjax check`` reads: a row an object; of a picture
    without objects, a row without a box."""
    content = io.StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(["file", "page", *BOX])
    for picture in pictures:
        name = no_formula(picture.file)
        rows = [[round(x, 1) for x in box] for box in picture.objects.tight_boxes.tolist()]
        writer.writerows([name, picture.page, *row] for row in rows or [[""] * len(BOX)])
    return Download("truth.csv", content.getvalue().encode(errors="surrogateescape"))


def stem_of(name: str) -> str:
    """The name of a picture without its suffix, safe as a part of the names of files: letters,
    digits, ``_`` and ``-`` only, and not too long."""
    safe = re.sub(r"[^\w-]+", "_", Path(name).stem).strip("_-")
    return safe[:LONGEST] or "picture"


def _zipped(files: list[Download]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return content.getvalue()
