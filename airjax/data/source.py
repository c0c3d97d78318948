"""Images that are read one at a time, where there are more of them than memory holds."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

import numpy as np
from jaxtyping import UInt8

LARGE = 2**31  # bytes of images from which they are streamed
SAMPLE = 10_000  # images that stand for all of them
SAMPLE_BYTES = 2**28  # and no more than this

T = TypeVar("T")


@runtime_checkable
class Source(Protocol):
    """Images on disk, all of one size. Several threads may read at the same time."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """``(H, W)``, or ``(H, W, C)`` with colours."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "n H W *C"]:
        """Some of the images, in this order. They are the same each time."""
        ...

    def identity(self) -> dict[str, Any]:
        """What identifies the images, without reading all of them; as JSON."""
        ...


class Rows(Sequence[T]):
    """Some of the items of a sequence, which are read when they are asked for.

    Args:
        items: all of them.
        rows: which of them, in order.
    """

    def __init__(self, items: Sequence[T], rows: Sequence[int] | np.ndarray):
        self.items, self.rows = items, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> "Rows[T]": ...
    def __getitem__(self, i: int | slice) -> "T | Rows[T]":
        if isinstance(i, slice):
            return Rows(self.items, self.rows[i])
        return self.items[int(self.rows[i])]


class Part:
    """Some of the images of a source, as a `Source`.

    Args:
        source: all of them.
        rows: which of them, in order.
    """

    def __init__(self, source: Source, rows: range):
        self.source, self.rows = source, rows

    @property
    def image_shape(self) -> tuple[int, ...]:
        """``(H, W)``, or ``(H, W, C)`` with colours."""
        return self.source.image_shape

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Sequence[int]) -> UInt8[np.ndarray, "n H W *C"]:
        """Some of the images, in this order."""
        return self.source.read([self.rows[i] for i in rows])

    def identity(self) -> dict[str, Any]:
        """That of all, and the number of these."""
        return self.source.identity() | {"of": len(self.source), "length": len(self)}


def size_of(source: Source) -> int:
    """Of all images in memory, in bytes."""
    return len(source) * int(np.prod(source.image_shape))


def is_streamed(source: Source, stream: str) -> bool:
    """Whether images are streamed, where the setting is ``auto``, ``yes`` or ``no``."""
    return stream == "yes" or (stream == "auto" and size_of(source) > LARGE)


def sampled(source: Source) -> UInt8[np.ndarray, "n H W *C"]:
    """All images in their order, if they are few; otherwise random ones, always the same, that
    stand for all."""
    most = min(SAMPLE, max(1, SAMPLE_BYTES // int(np.prod(source.image_shape))))
    rows = range(len(source))
    if len(source) > most:
        rows = np.random.default_rng(0).choice(len(source), most, replace=False).tolist()
    return source.read(rows)


def digest(lines: Iterable[str]) -> str:
    """A hash of lines, for `Source.identity`."""
    found = hashlib.sha256()
    for line in lines:
        found.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()
