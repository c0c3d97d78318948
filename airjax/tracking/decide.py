"""Decides how objects are linked, from what was found in the frames."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from airjax.console import Decision
from airjax.tracking.link import Linking, Places

LEAST = 20  # pairs that something is decided from


class Decided(NamedTuple):
    """How objects are linked, what was decided of it, and what it was decided from.

    Attributes:
        linking: with everything decided.
        decisions: with the flags that change them.
        spacing: median distance of an object to its nearest neighbour in pixels; None where no
            frame has two objects.
    """

    linking: Linking
    decisions: list[Decision]
    spacing: float | None


def decided(
    videos: Sequence[Sequence[Places]],
    size: float,
    memory: int = 3,
    search_range: float | None = None,
    motion: str = "auto",
    code_weight: float | None = None,
) -> Decided:
    """Decides what is not given.

    The search range is half of the typical distance of neighbours, so that an object which moves
    less is nearer to itself than to others; or the size of objects, where that is more. Motion is
    steady if velocities predict places better than the last places do. The weight of the code is
    the share by which the codes of an object in two frames are closer than those of two objects.

    Args:
        videos: the frames of each.
        size: typical larger side of an object in pixels.
        memory: see `Linking`.
        search_range: see `Linking`.
        motion: ``auto``, ``random`` or ``steady``.
        code_weight: see `Linking`.
    """
    decisions = list[Decision]()
    spacing = _spacing(videos)
    if search_range is None:
        half = 0.0 if spacing is None else spacing / 2
        search_range = max(half, size)
        why = "the size of objects"
        if spacing is not None and half > size:
            why = f"half of {spacing:.1f}, the typical distance of neighbours"
        decisions.append(Decision("search range", f"{search_range:.1f} pixels, {why}",
                                  "--search-range"))  # fmt: skip
    steps = list(_steps(videos, search_range))
    steady = motion == "steady"
    if motion == "auto":
        plain, predicted, n = _errors(videos, steps)
        steady = n >= LEAST and predicted < plain
        how = f"off by {predicted:.2f} pixels with the last velocity, {plain:.2f} without"
        name = "steady" if steady else "random"
        decisions.append(Decision("motion", f"{name}: {how}" if n >= LEAST else name, "--motion"))
    own, other = _code_distances(videos, steps)
    if code_weight is None:
        code_weight = max(0.0, 1 - own / other) if other > 0 else 0.0
        how = f": {own:.2f} apart in one object, {other:.2f} in two" if other > 0 else ""
        decisions.append(Decision("weight of the code", f"{code_weight:.2f}{how}", "--code-weight"))
    linking = Linking(search_range, memory, steady, code_weight, other if other > 0 else 1.0)
    return Decided(linking, decisions, spacing)


def _spacing(videos: Sequence[Sequence[Places]]) -> float | None:
    """The median distance to the nearest neighbour in a frame."""
    nearest = [
        KDTree(places.xy).query(places.xy, 2)[0][:, 1]
        for frames in videos
        for places in frames
        if len(places.xy) > 1
    ]
    typical = float(np.median(np.concatenate(nearest))) if nearest else 0.0
    return typical if typical > 0 else None


def _steps(
    videos: Sequence[Sequence[Places]], search_range: float
) -> Iterator[list[Int[np.ndarray, "k 2"]]]:
    """Of each video, for each frame but the last, its objects and those of the next one that are
    each other's nearest within the search range."""
    for frames in videos:
        pairs = list[np.ndarray]()
        for a, b in pairwise(frames):
            if not len(a.xy) or not len(b.xy):
                pairs.append(np.zeros((0, 2), int))
                continue
            distance, to = map(np.asarray, KDTree(b.xy).query(a.xy))
            back, i = np.asarray(KDTree(a.xy).query(b.xy)[1]), np.arange(len(a.xy))
            mutual = (back[to] == i) & (distance <= search_range)
            pairs.append(np.stack([i[mutual], to[mutual]], axis=1))
        yield pairs


def _errors(
    videos: Sequence[Sequence[Places]], steps: Sequence[Sequence[np.ndarray]]
) -> tuple[float, float, int]:
    """How far objects are typically from where they were last, and from where their velocity put
    them; and from how many objects."""
    plain, predicted = [np.zeros(0)], [np.zeros(0)]
    for frames, pairs in zip(videos, steps, strict=True):
        for t, (first, second) in enumerate(pairwise(pairs)):
            _, i, j = np.intersect1d(first[:, 1], second[:, 0], return_indices=True)
            a, b = frames[t].xy[first[i, 0]], frames[t + 1].xy[first[i, 1]]
            c = frames[t + 2].xy[second[j, 1]]
            plain.append(np.linalg.norm(c - b, axis=1))
            predicted.append(np.linalg.norm(c - 2 * b + a, axis=1))
    still, moving = np.concatenate(plain), np.concatenate(predicted)
    if not len(still):
        return 0.0, 0.0, 0
    return float(np.median(still)), float(np.median(moving)), len(still)


def _code_distances(
    videos: Sequence[Sequence[Places]], steps: Sequence[Sequence[np.ndarray]]
) -> tuple[float, float]:
    """The median distance of the codes of an object in successive frames, and of two objects in a
    frame; 0 and 0 where there are too few."""
    own, other = [np.zeros(0)], [np.zeros(0)]
    for frames, pairs in zip(videos, steps, strict=True):
        for t, pair in enumerate(pairs):
            own.append(_apart(frames[t].codes[pair[:, 0]], frames[t + 1].codes[pair[:, 1]]))
        for places in frames:  # each object and the next one, in the order that they were found in
            other.append(_apart(places.codes, np.roll(places.codes, 1, axis=0))[1:])
    one, two = np.concatenate(own), np.concatenate(other)
    if len(one) < LEAST or len(two) < LEAST:
        return 0.0, 0.0
    return float(np.median(one)), float(np.median(two))


def _apart(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " n"]:
    return np.linalg.norm(a - b, axis=1)
