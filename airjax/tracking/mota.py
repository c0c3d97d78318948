"""MOTA: how well tracks agree with true ones (Bernardin and Stiefelhagen, Evaluating multiple
object tracking performance: the CLEAR MOT metrics, 2008)."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from airjax.inference.detection import THRESHOLD, iou


class Frame(NamedTuple):
    """The objects of a frame: numbers of tracks, and boxes x0, y0, x1, y1 in pixels."""

    tracks: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]


class Mota(NamedTuple):
    """Errors of tracks.

    Attributes:
        objects: number of true objects in all frames.
        misses: of these, how many have no match.
        false_positives: number of found objects without a match.
        switches: how often a true object is matched to another track than before.
    """

    objects: int
    misses: int
    false_positives: int
    switches: int

    @property
    def mota(self) -> float:
        """1 less the errors in a true object; may be negative, nan without any object."""
        errors = self.misses + self.false_positives + self.switches
        return 1 - errors / self.objects if self.objects else float("nan")


def mota(pairs: Iterable[tuple[Frame, Frame]], threshold: float = THRESHOLD) -> Mota:
    """The errors of one video.

    A true object keeps the track that it was matched to last as long as their boxes overlap enough.
    The other objects are matched so that there are as many pairs as possible, then so that overlaps
    are largest.

    Args:
        pairs: true and found objects of each frame, in order.
        threshold: least IoU of a match.
    """
    last = dict[int, int]()  # the track that each true object was matched to
    objects = misses = false_positives = switches = 0
    for truth, found in pairs:
        overlap = iou(truth.boxes, found.boxes)
        which = matched(truth.tracks, found.tracks, overlap, last, threshold)
        for i, j in which.items():
            true, track = int(truth.tracks[i]), int(found.tracks[j])
            switches += last.get(true, track) != track
            last[true] = track
        objects += len(truth.tracks)
        misses += len(truth.tracks) - len(which)
        false_positives += len(found.tracks) - len(which)
    return Mota(objects, misses, false_positives, switches)


def total(each: Iterable[Mota]) -> Mota:
    """The errors of several videos together."""
    sums = np.array([tuple(one) for one in each], int).reshape(-1, 4).sum(0)
    return Mota(*sums.tolist())


def matched(
    truth: Int[np.ndarray, " n"],
    found: Int[np.ndarray, " m"],
    overlap: Float[np.ndarray, "n m"],
    last: dict[int, int],
    threshold: float = THRESHOLD,
) -> dict[int, int]:
    """Which found object each true one is matched to, by row; see `mota`.

    Args:
        truth: numbers of the true objects.
        found: numbers of the tracks of found ones.
        overlap: IoU of each with each.
        last: the track that a true object was matched to last.
        threshold: least IoU.
    """
    fits, pairs = overlap >= threshold, dict[int, int]()
    of_track = {int(track): j for j, track in enumerate(found)}
    for i, true in enumerate(truth.tolist()):
        j = of_track.get(last.get(true, -1))
        if j is not None and fits[i, j] and j not in pairs.values():
            pairs[i] = j
    free = fits.copy()
    free[list(pairs)] = False
    free[:, list(pairs.values())] = False
    gain = np.where(free, 1 + overlap / (2 * max(1, min(overlap.shape))), 0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return pairs | {int(i): int(j) for i, j in zip(rows, columns, strict=True) if free[i, j]}
