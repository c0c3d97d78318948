"""What was read in a frame against what tracks predict there: which explains its pixels better."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from airjax.inference.blocks import drawn
from airjax.inference.results import Objects
from airjax.programs.model import Model
from airjax.tracking.fit import Fit, Known, Part, fitted


class Group(NamedTuple):
    """Tracks and objects close to each other that are not all linked.

    Attributes:
        tracks: rows of the linked tracks.
        objects: rows of the objects that they are linked to.
        missing: rows of the tracks without an object.
        new: rows of the objects without a track.
    """

    tracks: Int[np.ndarray, " k"]
    objects: Int[np.ndarray, " k"]
    missing: Int[np.ndarray, " u"]
    new: Int[np.ndarray, " n"]

    @property
    def read(self) -> Int[np.ndarray, " m"]:
        """Rows of its objects."""
        return np.concatenate([self.objects, self.new])

    @property
    def size(self) -> int:
        """How many objects an explanation has at most."""
        return len(self.tracks) + len(self.missing) + len(self.new)


class Explanation(NamedTuple):
    """Objects that may be in the place of a group.

    Attributes:
        tracks: rows of the tracks whose objects they are, first.
        objects: rows of those that were read.
        known: both.
        cost: nats for new objects, and for those that were not read.
    """

    tracks: Int[np.ndarray, " k"]
    objects: Int[np.ndarray, " m"]
    known: Known
    cost: float


class Change(NamedTuple):
    """A better explanation of a group.

    Attributes:
        group: that is replaced.
        by: its objects.
        fit: of these, with places and boxes in pixels of the frame.
        gain: nats by which it is better.
    """

    group: Group
    by: Explanation
    fit: Fit
    gain: float


class Frame(NamedTuple):
    """A frame as the model reads it.

    Attributes:
        pixels: bytes.
        objects: that were read, with boxes in these pixels.
        any_size: whether it may have any size; otherwise it has that of the model's images.
    """

    pixels: UInt8[np.ndarray, "H W *C"]
    objects: Objects
    any_size: bool


def known(objects: Objects) -> Known:
    """Objects that were read."""
    windows = objects.window_boxes.astype(float)
    xy = (windows[:, :2] + windows[:, 2:]) / 2
    return Known(xy, objects.z_where[:, 0].astype(float), objects.z_what.astype(float))


def better(
    model: Model, frame: Frame, groups: list[Group], expected: Known, reach: float
) -> list[Change]:
    """The groups that are better explained otherwise than they were read.

    Args:
        model: trained.
        frame: that they are in.
        groups: of close tracks and objects.
        expected: what each track predicts.
        reach: greatest distance of an object from where it is expected, in pixels.
    """
    price = max(0.0, float(np.log(np.pi * reach**2)))  # log of the number of pixels within reach
    each = [explanations(group, expected, known(frame.objects), price) for group in groups]
    cut, corners, parts = _Cut(model, frame), list[np.ndarray](), list[Part]()
    for group, some in zip(groups, each, strict=True):
        corners.append(cut.corner(np.concatenate([one.known.xy for one in some])))
        others = cut.others(corners[-1], group.read)
        parts += [cut.part(corners[-1], others, one.known, k > 0) for k, one in enumerate(some)]
    fits, changes = iter(fitted(model, parts, reach)), list[Change]()
    for group, some, corner in zip(groups, each, corners, strict=True):
        own = [next(fits) for _ in some]
        values = np.array([fit.log_p - one.cost for fit, one in zip(own, some, strict=True)])
        if (k := int(values.argmax())) > 0:
            shift = corner[::-1].astype(float)
            fit = own[k]._replace(xy=own[k].xy + shift, boxes=own[k].boxes + np.tile(shift, 2))
            changes.append(Change(group, some[k], fit, float(values[k] - values[0])))
    return changes


def explanations(group: Group, expected: Known, found: Known, price: float) -> list[Explanation]:
    """As it was read, which comes first; by the tracks alone; by these and the new objects; as it
    was read, with the objects that are missing.

    Args:
        group: to explain.
        expected: what each track predicts.
        found: the objects that were read.
        price: nats of an object that was not read.
    """

    def one(tracks: np.ndarray, objects: np.ndarray, missing: int) -> Explanation:
        both = expected.some(tracks).and_others(found.some(objects))
        new = found.codes[np.intersect1d(objects, group.new)]
        lost = expected.codes[np.intersect1d(tracks, group.missing)]
        codes = float((new**2).sum() + (lost**2).sum()) / 2
        return Explanation(tracks, objects, both, price * missing + codes)

    none, missing = np.zeros(0, int), len(group.missing)
    every = np.concatenate([group.tracks, group.missing])
    some = [one(none, group.read, 0), one(every, none, missing)]
    if len(group.new):
        some.append(one(every, group.new, missing))
    if missing and len(group.objects):
        some.append(one(group.missing, group.read, missing))
    return some


class _Cut:
    """Cuts parts of the size of the model's images out of a frame."""

    def __init__(self, model: Model, frame: Frame):
        self.size, self.any_size = np.array(model.config.image_size), frame.any_size
        self.pixels = frame.pixels.astype(np.float32) / 255
        self.shape = (*model.config.image_size, *self.pixels.shape[2:])
        self.drawn = drawn(model, frame.objects) if frame.any_size else None

    def corner(self, xy: Float[np.ndarray, "n 2"]) -> Int[np.ndarray, "2"]:
        """Top and left of the part around these places."""
        if not self.any_size:
            return np.zeros(2, int)
        return np.round(xy.mean(0)[::-1] - self.size / 2).astype(int)

    def others(self, corner: np.ndarray, without: np.ndarray) -> Float[np.ndarray, "H W *C"]:
        """The sum of the frame's objects in a part, without some of them."""
        total = np.zeros(self.shape, np.float32)
        if self.drawn is None:
            return total
        shifts = self.drawn[0] - corner
        near = np.flatnonzero((np.abs(shifts) < self.size).all(1))
        for k in np.setdiff1d(near, without):
            to, of = _overlap(shifts[k], self.size)
            total[to] += self.drawn[1][k][of]
        return total

    def part(self, corner: np.ndarray, others: np.ndarray, known: Known, moves: bool) -> Part:
        """The part with this corner, and objects that may explain it."""
        pixels, inside = np.zeros(self.shape, np.float32), np.zeros(self.shape[:2], bool)
        low, high = np.maximum(corner, 0), np.minimum(corner + self.size, self.pixels.shape[:2])
        if (high > low).all():
            to = tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))
            pixels[to] = self.pixels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            inside[to] = True
        known = known._replace(xy=known.xy - corner[::-1])
        return Part(pixels, others, inside, known, moves)


def _overlap(shift: np.ndarray, size: np.ndarray) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a patch lies in a part of the same size, and which of its pixels are there."""
    low, high = np.maximum(shift, 0), np.minimum(shift + size, size)
    to = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return to, tuple(slice(a, b) for a, b in zip(low - shift, high - shift, strict=True))
