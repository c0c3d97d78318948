"""Label images as truth: integers, the number of the object in each pixel, 0 for background."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from airjax.cli.found import MARKS, unmarked
from airjax.data.decode import MAX_PIXELS, TIFF
from airjax.data.files import picture_files
from airjax.errors import InputError

FORMATS = ("PNG", "BMP")  # and TIFF; the others change values
GREY = ("1", "L", "P", "I", "I;16", "I;16B")  # of a palette, the indices


def label_files(path: Path) -> tuple[dict[str, Path], list[str]]:
    """The label images in a folder, by their path in it, or the one that is given, and a line for
    each kind of files that are passed over. If some are marked as labels by their names, the others
    are taken to be pictures.

    Raises:
        InputError: if there is none.
    """
    if not path.is_dir():
        return {path.name: path}, []
    try:
        found = picture_files(path, "TRUTH")
    except InputError:
        raise InputError("TRUTH", "must hold label images; there are none", path) from None
    marked = [file for file in found.files if unmarked(file.stem) != file.stem]
    if marked and (rest := [file for file in found.files if file not in marked]):
        found.passed_over[f"names without {' or '.join(MARKS)}"] = rest
    files = {file.relative_to(path).as_posix(): file for file in marked or found.files}
    return files, found.report()


def read_labels(path: Path) -> list[Integer[np.ndarray, "H W"]]:
    """The pages of a label image as they are stored.

    Raises:
        InputError: if the file cannot be read, or holds other values than labels.
    """
    try:
        values = _values(path)
    except InputError:
        raise
    except Exception as error:  # decoders raise anything
        why = error.strerror if isinstance(error, OSError) else None
        why = why or " ".join(str(error).split()) or type(error).__name__
        raise InputError(str(path), f"cannot be read ({why})") from None
    return [_checked(path, page) for page in values]


def numbered(labels: Integer[np.ndarray, "H W"]) -> Integer[np.ndarray, "H W"]:
    """The labels with objects numbered from 1 without gaps."""
    known, numbers = np.unique(labels, return_inverse=True)
    first = 0 if len(known) and known[0] == 0 else 1  # no background at all
    return numbers.reshape(labels.shape).astype(np.int64) + first


def boxes_of(labels: Integer[np.ndarray, "H W"]) -> Float[np.ndarray, "n 4"]:
    """The boxes of labels 1 to n: x0, y0, x1, y1 in pixels."""
    from scipy import ndimage  # slow to import

    slices: Iterable[Any] = ndimage.find_objects(labels)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in slices]
    return np.array(boxes, float).reshape(-1, 4)


def pieces(labels: Integer[np.ndarray, "H W"]) -> tuple[Integer[np.ndarray, "H W"], bool]:
    """The labels; or, if a single label has several pieces, those of the pieces, and True: it is a
    mask whose objects have no numbers."""
    from scipy import ndimage

    if labels.max(initial=0) != 1:
        return labels, False
    parts: Any = ndimage.label(labels, np.ones((3, 3)))
    return parts[0].astype(np.int64), parts[1] > 1


def _values(path: Path) -> np.ndarray:
    """Pages of one channel, ``[N, H, W]``, as they are stored."""
    import tifffile

    with open(path, "rb") as file:
        is_tiff = file.read(4) in TIFF
    if is_tiff:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            _check_size(path, int(np.prod(series.shape)))
            kept = [(n, axis) for n, axis in zip(series.shape, series.axes, strict=True) if n > 1
                    or axis in "YX"]  # fmt: skip
            axes = "".join(axis for _, axis in kept)
            if "S" in axes or "C" in axes or not axes.endswith("YX"):
                raise _no_labels(path, f"axes {series.axes}")
            return series.asarray().reshape(-1, *(n for n, _ in kept[-2:]))
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # checked here
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(path, image.width * image.height)
            if image.mode not in GREY:
                raise _no_labels(path, image.mode)
            return np.asarray(image)[None]
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _checked(path: Path, values: np.ndarray) -> Integer[np.ndarray, "H W"]:
    if values.dtype.kind not in "biuf":
        raise _no_labels(path, values.dtype)
    if values.dtype.kind == "f" and not (np.isfinite(values) & (values == np.rint(values))).all():
        raise _no_labels(path, "fractions")
    if values.size and not 0 <= float(values.min()) <= float(values.max()) < 2**63:
        raise _no_labels(path, f"{values.min()} to {values.max()}")
    return values.astype(np.int64)


def _no_labels(path: Path, got: object) -> InputError:
    return InputError(str(path), "must be labels: integers from 0 in one channel", got)


def _check_size(path: Path, pixels: int) -> None:
    if pixels > MAX_PIXELS:
        raise InputError(str(path), f"must have at most {MAX_PIXELS} pixels", pixels)
