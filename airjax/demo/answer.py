"""What the page says of a picture: the objects that were found, less those that the sliders leave
out, with the corrections by hand.

A correction belongs to the picture, not to the sliders: an object that was removed stays removed,
and one that was added is never left out.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from airjax.data.placement import UPRIGHT
from airjax.data.signal import channel
from airjax.demo.uploads import Subject
from airjax.errors import InputError
from airjax.inference.regions import Region, in_file, region_of, stored
from airjax.inference.results import Objects
from airjax.inference.writers import Picture
from airjax.prediction.predictor import KEPT, Kept, only

MOST_EDITS = 10_000  # corrections of one picture

Box = tuple[float, float, float, float]


class Added(NamedTuple):
    """A box that was drawn by hand: x0, y0, x1, y1 in pixels of the upright picture."""

    box: Box


class Removed(NamedTuple):
    """The number of an object that was removed: from 0 of those that were found, and -1, -2, ...
    of those that were added."""

    number: int


Edit = Added | Removed


@dataclass(frozen=True)
class Answer:
    """What was found in a picture, and what is said of it.

    Attributes:
        subject: the picture.
        found: all objects, with boxes in pixels of the image.
        regions: of all objects.
        html: how the image was read.
        doubts: what the user should know, a line each.
        limit: the most objects that can be found in the image; None if there is no limit.
        kept: which objects the sliders leave.
        edits: corrections by hand, in their order.
    """

    subject: Subject
    found: Objects
    regions: list[Region]
    html: str
    doubts: list[str] = field(default_factory=list)
    limit: int | None = None
    kept: Kept = KEPT
    edits: tuple[Edit, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Of the picture's pixels and name."""
        pixels = np.ascontiguousarray(self.subject.read.frame.pixels)
        about = f"{self.subject.read.path.name} {pixels.shape} {pixels.dtype}".encode()
        return hashlib.sha256(about + pixels.tobytes()).hexdigest()

    @cached_property
    def in_pixels(self) -> Objects:
        """All objects that were found, with boxes in pixels of the file."""
        return in_file(self.found, self.subject.read.placement)

    @property
    def added(self) -> list[Box]:
        """All boxes that were added, also those that were removed afterwards."""
        return [edit.box for edit in self.edits if isinstance(edit, Added)]

    @property
    def removed(self) -> set[int]:
        """Numbers of the objects that were removed."""
        return {edit.number for edit in self.edits if isinstance(edit, Removed)}

    @property
    def within(self) -> np.ndarray:
        """Which of the objects that were found the sliders leave."""
        return self.kept.which(self.in_pixels, self.regions)

    @property
    def dropped(self) -> int:
        """How many objects the sliders leave out."""
        return int((~self.within).sum())

    @property
    def numbers(self) -> list[int]:
        """Numbers of the objects in the answer."""
        removed = self.removed
        ours = [int(i) for i in np.flatnonzero(self.within)]
        mine = [-1 - k for k in range(len(self.added))]
        return [i for i in [*ours, *mine] if i not in removed]

    @property
    def boxes(self) -> Float[np.ndarray, "n 4"]:
        """Boxes of the objects in the answer, in pixels of the upright picture."""
        height, width = self.subject.read.frame.pixels.shape[:2]
        upright = self.subject.read.placement._replace(
            orientation=UPRIGHT, file=(height, width)
        ).in_file(self.found.tight_boxes)
        ours = [i for i in self.numbers if i >= 0]
        return np.concatenate([upright[ours], _array(self.by_hand)])

    @property
    def by_hand(self) -> list[Box]:
        """Boxes that were added and not removed afterwards."""
        return [self.added[-1 - i] for i in self.numbers if i < 0]

    @cached_property
    def picture(self) -> Picture:
        """The answer for tables and files. A count that was corrected by hand is certain; objects
        that were added have score 1, and the ellipse in their box as their pixels."""
        read, ours = self.subject.read, np.zeros(self.found.number, bool)
        ours[[i for i in self.numbers if i >= 0]] = True
        objects = only(self.in_pixels, ours)
        shapes = [region for region, keep in zip(self.regions, ours, strict=True) if keep]
        if self.edits:
            objects = _with(objects, stored(_array(self.by_hand), read.placement))
            grey = channel(read.frame, self.subject.channel)
            grey = grey.mean(-1) if grey.ndim == 3 else grey
            pixels = [_ellipse(box, grey.shape) for box in self.by_hand]
            shapes += [region_of(*each, read.placement, grey) for each in pixels]
        return Picture(read.path.name, read.frame.page, read.placement.file, objects, shapes)

    def with_box(self, box: Sequence[int | float]) -> "Answer":
        """Also an object in this box (x0, y0, x1, y1, from any corner), in pixels of the upright
        picture; as much of the box as lies in the picture, and at least one pixel.

        Raises:
            InputError: if it lies outside, or there are too many corrections.
        """
        height, width = self.subject.read.frame.pixels.shape[:2]
        x0, y0, x1, y1 = (float(x) for x in box)
        low, high = np.minimum([x0, y0], [x1, y1]), np.maximum([x0, y0], [x1, y1])
        if (
            not np.isfinite([*low, *high]).all()
            or (high <= 0).any()
            or (low >= [width, height]).any()
        ):
            raise InputError("box", "must lie in the picture", box)
        low, high = np.clip(low, 0, [width, height]), np.clip(high, 0, [width, height])
        high = np.minimum(np.maximum(high, low + 1), [width, height])
        low = np.maximum(np.minimum(low, high - 1), 0)
        (a, b), (c, d) = low.round(2).tolist(), high.round(2).tolist()
        return self._edited(Added((a, b, c, d)))

    def without(self, number: int) -> "Answer":
        """Without one of the objects.

        Raises:
            InputError: if it is not in the answer.
        """
        if number not in self.numbers:
            raise InputError("object", "must be one in the picture", number)
        return self._edited(Removed(number))

    def undone(self) -> "Answer":
        """Without the last correction."""
        return replace(self, edits=self.edits[:-1])

    def _edited(self, edit: Edit) -> "Answer":
        if len(self.edits) >= MOST_EDITS:
            raise InputError("corrections", f"must be at most {MOST_EDITS} in a picture")
        return replace(self, edits=(*self.edits, edit))


def _array(boxes: list[Box]) -> Float[np.ndarray, "n 4"]:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _with(objects: Objects, boxes: Float[np.ndarray, "k 4"]) -> Objects:
    """Also objects in these boxes, in pixels of the file; their number is certain."""
    k, total = len(boxes), objects.number + len(boxes)

    def more(values: np.ndarray, extra: np.ndarray) -> np.ndarray:
        return np.concatenate([values, extra]).astype(np.float32)

    return Objects(
        more(objects.tight_boxes, boxes),
        more(objects.window_boxes, boxes),
        more(objects.scores, np.ones(k)),
        more(objects.z_where, np.zeros((k, objects.z_where.shape[1]))),
        more(objects.z_what, np.zeros((k, objects.z_what.shape[1]))),
        np.eye(total + 1, dtype=np.float32)[total],
    )


def _ellipse(box: Box, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels in the ellipse that fits a box; at least one."""
    x0, y0, x1, y1 = box
    rows = np.arange(int(y0), min(int(np.ceil(y1)), shape[0]))
    columns = np.arange(int(x0), min(int(np.ceil(x1)), shape[1]))
    y = (rows + 0.5 - (y0 + y1) / 2) / max((y1 - y0) / 2, 0.5)
    x = (columns + 0.5 - (x0 + x1) / 2) / max((x1 - x0) / 2, 0.5)
    inside = np.square(y)[:, None] + np.square(x) <= 1
    if not inside.any():
        inside[len(rows) // 2, len(columns) // 2] = True
    down, across = np.nonzero(inside)
    return down + rows[0], across + columns[0]
