"""Scores of counts and boxes against the truth, reported with the settings they were made with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix

import airjax
from airjax.data.dataset import Dataset
from airjax.infer import Reading

Boxes = Float[np.ndarray, "_ 4"]  # every image has its own number


def score(reading: Reading, data: Dataset) -> dict[str, Any]:
    """Scores a reading of a data set; what the set has no truth for is left out.

    Returns:
        ``elbo`` (nats an image), ``reconstruction_mse`` (a pixel), with counts also
        ``count_accuracy`` (most probable count), ``count_accuracy_sample`` (one sample of the
        guide) and ``confusion_matrix`` (row: true count, column: most probable), with boxes also
        ``windows`` and ``tight_boxes`` (``mean_iou`` and ``ap50`` each).
    """
    error = data.images / np.float32(255) - reading.reconstruction
    report: dict[str, Any] = {
        "elbo": float(np.mean(reading.elbo)),
        "reconstruction_mse": float(np.mean(error**2)),
    }
    if data.counts is not None:
        count = np.asarray(reading.count)
        sizes = range(max(data.counts.max(), reading.count_probs.shape[1] - 1) + 1)
        report["count_accuracy"] = float(np.mean(count == data.counts))
        report["count_accuracy_sample"] = float(np.mean(reading.sampled_count == data.counts))
        matrix = confusion_matrix(data.counts, count, labels=list(sizes))
        report["confusion_matrix"] = matrix.tolist()
    if data.boxes is not None and data.counts is not None:
        truth = [boxes[:n] for boxes, n in zip(data.boxes, data.counts, strict=True)]
        for name, found in (
            ("windows", reading.window_boxes),
            ("tight_boxes", reading.tight_boxes),
        ):
            pairs = zip(found, np.asarray(reading.count), strict=True)
            boxes = [np.asarray(b)[:n] for b, n in pairs]
            pairs = zip(reading.presence, np.asarray(reading.count), strict=True)
            scores = [np.asarray(p)[:n] for p, n in pairs]
            report[name] = {
                "mean_iou": mean_iou(boxes, truth),
                "ap50": average_precision(boxes, scores, truth),
            }
    return report


def settings(
    reading: Reading, data: Dataset, seed: int, num_paths: int, second_look: bool = False
) -> dict[str, Any]:
    """What scores were made with, and belongs beside them."""
    return {
        "data": data.name,
        "part": data.part,
        "n": len(data),
        "seed": seed,
        "num_paths": num_paths,
        "second_look": second_look,
        "model_steps": reading.count_probs.shape[1] - 1,
        "version": airjax.__version__,
    }


def iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every box of ``a`` with every box of ``b``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.prod(np.maximum(high - low, 0), axis=-1)
    area_a = np.prod(a[:, 2:] - a[:, :2], axis=-1)
    area_b = np.prod(b[:, 2:] - b[:, :2], axis=-1)
    union = area_a[:, None] + area_b[None] - intersection
    return intersection / np.maximum(union, np.finfo(np.float32).tiny)


def mean_iou(found: Sequence[Boxes], truth: Sequence[Boxes]) -> float | None:
    """IoU of each true box with the box matched to it, averaged over all true boxes.

    Found and true boxes of an image are matched one to one so that the sum of IoUs is largest (the
    Hungarian algorithm); a true box without a partner counts as 0. None where there is no true box.
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
    threshold: float = 0.5,
) -> float | None:
    """Average precision at an IoU threshold, as in PASCAL VOC from 2010 on.

    Found boxes of all images are taken by falling score; each takes the free true box of its image
    that it overlaps most, if by ``threshold`` or more. The result is the area under precision over
    recall, precision being made monotonic. None where there is no true box.
    """
    number = sum(map(len, truth))
    if not number:
        return None
    image = np.repeat(np.arange(len(found)), [len(f) for f in found])
    row = np.concatenate([np.arange(len(f)) for f in found]) if len(found) else np.zeros(0, int)
    order = np.argsort(-np.concatenate(list(scores)), kind="stable")
    overlaps = [iou(f, t) for f, t in zip(found, truth, strict=True)]
    hits = np.zeros(len(order))
    for k, index in enumerate(order):
        overlap = overlaps[image[index]]
        candidates = overlap[row[index]]
        if candidates.size and candidates.max() >= threshold:
            hits[k] = 1
            overlap[:, candidates.argmax()] = -1  # taken
    recall = np.cumsum(hits) / number
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))
