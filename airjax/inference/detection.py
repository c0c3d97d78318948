"""Objects found against true ones: overlap, matching, precision, recall, average precision."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.optimize import linear_sum_assignment

THRESHOLD = 0.5  # of the IoU of a match
Boxes = Float[np.ndarray, "_ 4"]  # every image has its own number


class Score(NamedTuple):
    """How many objects were found, with their average precision.

    Attributes:
        true: number of true objects.
        found: number of found objects.
        matched: number of pairs of both.
        ap: average precision; None where there is none.
    """

    true: int
    found: int
    matched: int
    ap: float | None = None

    @property
    def precision(self) -> float:
        """The share of found objects that are matched; nan if there are none."""
        return self.matched / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """The share of true objects that are matched; nan if there are none."""
        return self.matched / self.true if self.true else float("nan")

    @property
    def f1(self) -> float:
        """The harmonic mean of both; nan if there are no objects at all."""
        both = self.true + self.found
        return 2 * self.matched / both if both else float("nan")


def iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every box of ``a`` with every box of ``b``."""
    intersection, area_a, area_b = _areas(a, b)
    union = area_a[:, None] + area_b[None] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def covered(
    boxes: Float[np.ndarray, "n 4"], regions: Float[np.ndarray, "m 4"]
) -> Bool[np.ndarray, " n"]:
    """Whether at least half of a box is in one of the regions (COCO's rule for crowds)."""
    intersection, area, _ = _areas(boxes, regions)
    share = intersection / np.maximum(area[:, None], np.finfo(np.float32).tiny)
    return np.asarray((share >= THRESHOLD).any(axis=1))


def _areas(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=-1)
    return intersection, np.prod(a[:, 2:] - a[:, :2], axis=-1), np.prod(b[:, 2:] - b[:, :2], -1)


def label_iou(
    a: Integer[np.ndarray, "H W"], b: Integer[np.ndarray, "H W"], n: int, m: int
) -> Float[np.ndarray, "n m"]:
    """Intersection over union of the objects of two label images.

    Args:
        a: numbers of objects, 1 to ``n``; 0 is background.
        b: the same of others, 1 to ``m``.
        n: number of objects of ``a``. One without a pixel has IoU 0 with all.
        m: number of objects of ``b``.
    """
    pairs = a.astype(np.int64) * (m + 1) + b.astype(np.int64)
    pixels = np.bincount(pairs.ravel(), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    union = pixels.sum(1)[1:, None] + pixels.sum(0)[None, 1:] - pixels[1:, 1:]
    return pixels[1:, 1:] / np.maximum(union, 1)


def matched(
    overlap: Float[np.ndarray, "n m"],
    scores: Float[np.ndarray, " n"],
    threshold: float = THRESHOLD,
) -> Bool[np.ndarray, " n"]:
    """Which of the objects found in an image are matched to a true one, as in COCO.

    By decreasing score, each found object takes the true object with the largest overlap that is
    left, if that overlap is ``threshold`` or more.
    """
    left, hits = overlap.copy(), np.zeros(len(overlap), bool)
    if overlap.shape[1]:
        for i in np.argsort(-scores, kind="stable"):
            best = left[i].argmax()
            if left[i, best] >= threshold:
                hits[i], left[:, best] = True, -1
    return hits


def near(
    a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], limit: float
) -> Bool[np.ndarray, " n"]:
    """Which points of ``a`` are matched one to one to points of ``b`` that are at most ``limit``
    away: as many pairs as possible, then the closest (the Hungarian algorithm)."""
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    # all distances together weigh less than one pair
    closeness = (1 - distance / max(limit, 1e-9)) / (2 * max(1, min(distance.shape)))
    rows, columns = linear_sum_assignment(
        np.where(distance <= limit, 1 + closeness, 0), maximize=True
    )
    hits = np.zeros(len(a), bool)
    hits[rows] = distance[rows, columns] <= limit
    return hits


def mean_iou(found: Sequence[Boxes], truth: Sequence[Boxes]) -> float | None:
    """IoU of each true box with the box matched to it, averaged over all true boxes.

    Found and true boxes of an image are matched one to one so that the sum of IoUs is largest (the
    Hungarian algorithm). A true box without a match counts as 0. None if there is no true box.
    """
    total, number = 0.0, 0
    for f, t in zip(found, truth, strict=True):
        overlap = iou(f, t)
        total += overlap[linear_sum_assignment(overlap, maximize=True)].sum()
        number += len(t)
    return float(total / number) if number else None


def average_precision(
    found: Sequence[Boxes],
    scores: Sequence[Float[np.ndarray, " _"]],
    truth: Sequence[Boxes],
    threshold: float = THRESHOLD,
) -> float | None:
    """Average precision of boxes at an IoU threshold: `matched` in each image, then
    `area_under_curve` of all. None if there is no true box."""
    groups = zip(found, scores, truth, strict=True)
    hits = [matched(iou(f, t), s, threshold) for f, s, t in groups]
    return area_under_curve(hits, scores, sum(map(len, truth)))


def area_under_curve(
    hits: Sequence[Bool[np.ndarray, " _"]], scores: Sequence[Float[np.ndarray, " _"]], number: int
) -> float | None:
    """Average precision as in PASCAL VOC from 2010 on: the area under the precision-recall curve
    of the objects of all images by decreasing score, with precision made monotonic.

    Args:
        hits: of each image, which of its found objects are matched.
        scores: of the same objects.
        number: of true objects in all images. None is returned if it is 0.
    """
    if not number:
        return None
    order = np.argsort(-np.concatenate(list(scores)), kind="stable")
    right = np.concatenate(list(hits))[order]
    recall = np.cumsum(right) / number
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))
