"""A data set: images and, where known, their objects; kept as an .npz without pickles."""

import io
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from airjax import storage
from airjax.data.crops import Region
from airjax.data.source import Source
from airjax.errors import InputError

ARRAYS = ("images", "counts", "labels", "boxes", "masks", "sequences")  # of an .npz
HELD_OUT = 10  # every tenth image of a file or folder is held out


@dataclass(frozen=True)
class Dataset:
    """Scenes, and the truth about them where it is known (for scores, never for training).

    Attributes:
        images: uint8 ``[N, H, W]``, or ``[N, H, W, C]`` with C > 1 colours.
        counts: int32 ``[N]``, objects in each image.
        labels: int32 ``[N, max]``, class of each object, padded with -1.
        boxes: float32 ``[N, max, 4]``, tight boxes ``x0, y0, x1, y1`` in pixels (pixel ``i``
            covers ``[i, i + 1]``), padded with -1.
        masks: uint8 ``[N, H, W]``, the object that each pixel shows, from 1 in the order of boxes;
            0 for the background.
        sequences: int32 ``[N]``, of videos, the sequence that each image is a frame of. Frames of a
            sequence follow each other, and object i is the same one in each.
        name: of the data set, for reports.
        part: ``train``, ``test`` or ``all``.
        regions: of crops, what lies around some of them.
        source: all images, where they are streamed; ``images`` are then some that stand for them.
    """

    images: np.ndarray
    counts: np.ndarray | None = None
    labels: np.ndarray | None = None
    boxes: np.ndarray | None = None
    name: str = "images"
    part: str = "all"
    regions: tuple[Region, ...] = ()
    masks: np.ndarray | None = None
    source: Source | None = None
    sequences: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height and width in pixels, and the number of colours if there are several."""
        return self.images.shape[1:]

    @property
    def total(self) -> int:
        """The number of all images, streamed ones too."""
        return len(self.images if self.source is None else self.source)

    def __getitem__(self, rows: slice | np.ndarray) -> "Dataset":
        """The data set of a slice, a mask or indices."""
        arrays = {key: value[rows] for key, value in _arrays(self).items()}
        return replace(self, **arrays, source=None)

    def part_named(self, part: str, argument: str, every: bool = False) -> "Dataset":
        """Its part ``train``, ``test`` or ``all``, see `part_of`; errors name ``argument``."""
        return replace(self[part_of(len(self), argument, part, every)], part=part)


def part_of(n: int, name: str, part: str, every: bool = False) -> np.ndarray:
    """Which of n images are in a part, bool ``[n]``: in ``test`` the last tenth (or every tenth),
    in ``train`` the others, in ``all`` all of them.

    Raises:
        InputError: if there are too few to hold some out; it names ``name``.
    """
    if part == "all":
        return np.ones(n, bool)
    rows, held_out = held_out_rows(n, name, every), np.zeros(n, bool)
    held_out[rows.start : rows.stop : rows.step] = True
    return held_out if part == "test" else ~held_out


def held_out_rows(n: int, name: str, every: bool = False) -> range:
    """Which of n images are held out, see `part_of`."""
    if n < HELD_OUT:
        raise InputError(name, f"must hold {HELD_OUT} images or more to hold some out", n)
    return range(HELD_OUT - 1, n, HELD_OUT) if every else range(n - n // HELD_OUT, n)


def _arrays(data: Dataset) -> dict[str, np.ndarray]:
    named = {k: getattr(data, k) for k in ARRAYS}
    return {key: value for key, value in named.items() if value is not None}


def save_dataset(data: Dataset, path: Path) -> None:
    """Writes or replaces an .npz of the arrays that ``data`` has, atomically."""
    storage.write_file(path, as_npz(data))


def as_npz(data: Dataset) -> bytes:
    """The content of an .npz of the arrays that ``data`` has. The compression is weaker than
    NumPy's: a tenth larger, and read in half the time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in _arrays(data).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def load_dataset(path: Path) -> Dataset:
    """Reads an .npz; nothing in it is executed. Arrays are converted to `Dataset`'s types.

    Raises:
        InputError: if the file is missing, not an .npz, or its arrays are not those of a data set.
    """
    name = str(path)
    try:
        with open(path, "rb") as stream:  # np.load leaves a damaged file open
            if not zipfile.is_zipfile(stream):
                raise InputError(name, "must be a whole .npz archive, or a folder of pictures")
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            arrays = {k: file[k] for k in ARRAYS if k in file}
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(name, "must be a file: there is none") from None
    except Exception as error:  # NumPy raises errors of zipfile, zlib and tokenize
        raise InputError(name, f"must be an .npz without pickles: {error}") from None
    if "images" not in arrays:
        raise InputError(name, "must hold an array `images`")
    arrays["images"] = as_images(arrays["images"], f"{name}: images")
    return _checked_truth(Dataset(**arrays, name=path.stem), name)


def as_images(images: np.ndarray, name: str) -> np.ndarray:
    """Checks images and returns them as uint8. Bytes stay as they are, in whatever integer type
    they come; floats in [0, 1] and booleans become 0 to 255; a last axis of length 1 is dropped.

    Raises:
        InputError: if they are not ``[N, H, W]`` or ``[N, H, W, C]`` with all at least 1, or it is
            not clear what their values mean.
    """
    if images.ndim not in (3, 4) or 0 in images.shape:
        rule = "must have shape [N, H, W] or [N, H, W, C], all at least 1"
        raise InputError(name, rule, list(images.shape))
    if images.ndim == 4 and images.shape[-1] == 1:
        images = images[..., 0]
    if images.dtype == np.uint8:
        return images
    if images.dtype == bool:
        return images * np.uint8(255)
    if np.issubdtype(images.dtype, np.integer):
        low, high = int(images.min()), int(images.max())
        if low >= 0 and (high == 0 or 1 < high < 256):  # 1 may be white, or nearly black
            return images.astype(np.uint8)
    elif np.issubdtype(images.dtype, np.floating):
        low, high = float(images.min()), float(images.max())
        if low >= 0 and high <= 1:  # also false for NaN
            return np.round(images * np.float32(255)).astype(np.uint8)
    else:
        raise InputError(name, "must be integers from 0 to 255, or floats in [0, 1]", images.dtype)
    rule = "must be integers from 0 to 255, or floats in [0, 1]"
    hint = f"; divide by what is white: X / {high:g}" if low >= 0 and np.isfinite(high) else ""
    raise InputError(name, rule, f"{images.dtype} from {low:g} to {high:g}{hint}")


def check_varied(images: np.ndarray, name: str) -> None:
    """Checks that there is something to learn from.

    Raises:
        InputError: if all pixels of all images are the same.
    """
    if (images == images.flat[0]).all():
        raise InputError(name, "must show something: all pixels are the same", images.flat[0])


def _checked_truth(data: Dataset, name: str) -> Dataset:
    """Checks all arrays except the images and returns them as int32 and float32."""
    n = len(data)
    shapes = {"counts": (n,), "labels": (n, -1), "boxes": (n, -1, 4), "sequences": (n,)}
    converted = {}
    for key, shape in shapes.items():
        value = getattr(data, key)
        if value is None:
            continue
        fits = value.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, value.shape, strict=True)
        )
        if not fits:
            text = str(list(shape)).replace("-1", "max")
            raise InputError(f"{name}: {key}", f"must have shape {text}", list(value.shape))
        convert = _as_float32 if key == "boxes" else _as_int32
        converted[key] = convert(value, f"{name}: {key}")
    data = replace(data, **converted)
    if data.counts is not None and data.counts.min() < 0:
        raise InputError(f"{name}: counts", "must be at least 0", data.counts.min())
    for key, padded in (("labels", data.labels), ("boxes", data.boxes)):
        if padded is None or data.counts is None:
            continue
        if data.counts.max() > padded.shape[1]:
            rule = f"must be at most the number of {key} ({padded.shape[1]})"
            raise InputError(f"{name}: counts", rule, data.counts.max())
    if data.masks is not None:
        _check_masks(data.masks, data, name)
    if data.boxes is not None:
        _check_boxes(data.boxes, data.counts, data.image_shape, name)
    return data


def _check_masks(masks: np.ndarray, data: Dataset, name: str):
    want = [len(data), *data.image_shape[:2]]
    if list(masks.shape) != want or masks.dtype != np.uint8:
        rule = f"must be uint8 of shape {want}"
        raise InputError(f"{name}: masks", rule, f"{masks.dtype} {list(masks.shape)}")


def _check_boxes(boxes: np.ndarray, counts: np.ndarray | None, image: tuple[int, ...], name: str):
    """Checks that the boxes of each image lie in it, and that the others are padding."""
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    inside = (x0 >= 0) & (y0 >= 0) & (x0 < x1) & (y0 < y1) & (x1 <= image[1]) & (y1 <= image[0])
    padding = (boxes == -1).all(-1)
    if counts is not None:
        padding &= np.arange(boxes.shape[1])[None] >= counts[:, None]
    wrong = ~inside & ~padding
    if wrong.any():
        i, j = np.argwhere(wrong)[0].tolist()
        rule = f"must be x0 < x1 <= {image[1]}, y0 < y1 <= {image[0]} in image {i}"
        raise InputError(f"{name}: boxes", rule, boxes[i, j].tolist())


def _as_int32(value: np.ndarray, name: str) -> np.ndarray:
    if not np.issubdtype(value.dtype, np.integer):
        raise InputError(name, "must be integers", value.dtype)
    converted = value.astype(np.int32)
    if (converted != value).any():  # astype wraps silently
        raise InputError(name, "must fit int32", value[converted != value][0])
    return converted


def _as_float32(value: np.ndarray, name: str) -> np.ndarray:
    if not np.issubdtype(value.dtype, np.floating):
        raise InputError(name, "must be floats", value.dtype)
    with np.errstate(over="ignore"):
        converted = value.astype(np.float32)
    if not np.isfinite(converted).all():
        raise InputError(name, "must be finite")
    return converted
