"""Arrays of images in an .npy or a .zarr, read whole or some images at a time."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from airjax.data.dataset import Dataset, as_images, held_out_rows
from airjax.data.source import Part, is_streamed, sampled
from airjax.errors import InputError

ARRAYS = {"zarr.json": "zarr3", ".zarray": "zarr"}  # what describes an array, and its driver
ZARR = (*ARRAYS, ".zgroup")  # one of them is in a .zarr
SHAPE = "must have shape [N, H, W] or [N, H, W, C], all at least 1"


class ArrayFile:
    """An .npy, of which some images at a time are read. (The pages of a memory map would count as
    memory of the process.)

    Args:
        path: of the file.

    Raises:
        InputError: if it is not a whole .npy without pickles, or is in Fortran's order.
    """

    def __init__(self, path: Path):
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # NumPy raises errors of tokenize, too
            raise InputError(str(path), f"must be a whole .npy without pickles: {error}") from None
        if not isinstance(mapped, np.memmap):  # an .npz by another name
            raise InputError(str(path), "must be an .npy, of one array")
        if not mapped.flags.c_contiguous:
            rule = "must be in C's order (np.ascontiguousarray), not in Fortran's"
            raise InputError(str(path), rule)
        self.path, self.shape, self.dtype = path, mapped.shape, mapped.dtype
        self.start = mapped.offset
        self.descriptor = os.open(path, os.O_RDONLY)  # to open it for each image takes longer
        weakref.finalize(self, os.close, self.descriptor)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Some of the images."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for row, image in zip(rows, found, strict=True):
            read = os.preadv(self.descriptor, [image.data], self.start + row * image.nbytes)
            if read < image.nbytes:
                raise InputError(str(self.path), f"must hold image {row}, but was cut off")
        return found

    def whole(self) -> np.ndarray:
        """All of it."""
        return np.load(self.path, allow_pickle=False)


class ZarrArray:
    """A .zarr: an array, or a group with an array ``images``. Chunks of one image, or a few, are
    best: a chunk is decoded for each image that is read.

    Args:
        path: of its folder.

    Raises:
        InputError: if TensorStore is not installed, or there is no such array.
    """

    def __init__(self, path: Path):
        try:
            import tensorstore
        except ImportError:
            rule = "needs tensorstore: pip install 'airjax[stream]'"
            raise InputError(str(path), rule) from None
        self.path = path
        found = [
            (folder, driver)
            for folder in (path, path / "images")
            for name, driver in ARRAYS.items()
            if (folder / name).is_file()
        ]
        rule = "must be a .zarr of an array, or of a group with an array images"
        error: Exception | None = None
        for folder, driver in found:
            store = {"driver": driver, "kvstore": {"driver": "file", "path": str(folder)}}
            try:
                self.array: Any = tensorstore.open(store, read=True).result()
                self.shape, self.dtype = self.array.shape, self.array.dtype.numpy_dtype
                return
            except Exception as raised:  # ValueError of metadata; others of files and of codecs
                error = raised
        why = "" if error is None else f" ({_one_line(error)})"
        raise InputError(str(path), rule + why)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Some of the images."""
        return self._read(self.array[np.asarray(rows)])

    def whole(self) -> np.ndarray:
        """All of it."""
        return self._read(self.array)

    def _read(self, part: Any) -> np.ndarray:
        try:
            return np.asarray(part.read().result())
        except Exception as error:  # ValueError of a chunk; others of files
            raise InputError(str(self.path), f"must be whole ({_one_line(error)})") from None


class ArraySource:
    """The images of an array. Bytes stay as they are; floats in [0, 1] and booleans become 0 to
    255.

    Args:
        array: of the file.
        path: of the file.

    Raises:
        InputError: if they are not ``[N, H, W]`` or ``[N, H, W, C]``.
    """

    def __init__(self, array: ArrayFile | ZarrArray, path: Path):
        self.array, self.path, shape = array, path, tuple(array.shape)
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(str(path), SHAPE, list(shape))
        self.image_shape: tuple[int, ...] = shape[1:3] if shape[3:] == (1,) else shape[1:]

    def __len__(self) -> int:
        return self.array.shape[0]

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "n H W *C"]:
        """Some of the images."""
        return as_images(self.array.read(rows), f"{self.path}: images")

    def identity(self) -> dict[str, Any]:
        """The shape and type of the array."""
        return {"shape": list(self.array.shape), "type": str(self.array.dtype)}

    def check_streamed(self) -> None:
        """Checks for a type whose values mean the same in each image.

        Raises:
            InputError: if 1 might be white, or nearly black.
        """
        kind = np.dtype(self.array.dtype)
        if kind not in (np.uint8, bool) and not np.issubdtype(kind, np.floating):
            rule = "must be uint8, bool, or floats in [0, 1] to be streamed"
            raise InputError(str(self.path), rule, kind)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def is_array(path: Path) -> bool:
    """Whether there is an .npy or a .zarr."""
    if path.is_dir():
        return any((path / name).exists() for name in ZARR)
    return path.suffix == ".npy" and path.is_file()


def load_array(path: Path, part: str, stream: str = "no") -> Dataset:
    """A part of an .npy or a .zarr: the last tenth is ``test``, the rest ``train``.

    Args:
        path: of the file or folder.
        part: ``train``, ``test`` or ``all``.
        stream: whether images are streamed: ``auto``, ``yes`` or ``no``. Of a streamed part, the
            images are a sample.

    Raises:
        InputError: if it is damaged, its images are not ``[N, H, W]`` or ``[N, H, W, C]`` with
            values of a known meaning, or it is too small to be split.
    """
    name = str(path)
    array = ZarrArray(path) if path.is_dir() else ArrayFile(path)
    source = ArraySource(array, path)
    if not is_streamed(source, stream):
        images = as_images(array.whole(), name)
        return Dataset(images, name=path.stem).part_named(part, "data")
    source.check_streamed()
    first = len(source) if part == "all" else held_out_rows(len(source), "data").start
    rows = range(first, len(source)) if part == "test" else range(first)
    some = Part(source, rows)
    return Dataset(sampled(some), name=path.stem, part=part, source=some)
