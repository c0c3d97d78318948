"""Matching, precision, recall and average precision against pycocotools; label images by hand."""

import contextlib
import io
from itertools import permutations

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from airjax.inference.detection import (
    Score,
    area_under_curve,
    average_precision,
    covered,
    iou,
    label_iou,
    matched,
    near,
)


def boxes(random, n):
    low = random.uniform(0, 30, (n, 2))
    return np.concatenate([low, low + random.uniform(3, 12, (n, 2))], axis=1)


def pictures(seed, n=6, crowds=0):
    """True boxes, found ones (most of them true ones, moved), scores, and crowds."""
    random = np.random.default_rng(seed)
    for _ in range(n):
        true = boxes(random, random.integers(0, 12))
        moved = true[random.random(len(true)) < 0.8]
        moved = moved + random.normal(0, 1, moved.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        found = np.concatenate([moved, boxes(random, random.integers(0, 6))])
        yield true, found, random.random(len(found)), boxes(random, crowds)


def evaluated(scenes):
    """pycocotools at IoU 0.5: which found boxes are matched, which are ignored, and its curve."""
    images = [{"id": i} for i in range(len(scenes))]
    true, results = [], []
    for i, (marked, found, scores, crowds) in enumerate(scenes):
        for some, crowd in ((marked, 0), (crowds, 1)):
            for x0, y0, x1, y1 in some.tolist():
                box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
                about = {"id": len(true) + 1, "image_id": i, "category_id": 1, "iscrowd": crowd}
                true.append(about | box)
        for (x0, y0, x1, y1), score in zip(found.tolist(), scores.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            results.append({"image_id": i, "category_id": 1} | box)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"info": {}, "images": images, "annotations": true,
                        "categories": [{"id": 1, "name": "object"}]}  # fmt: skip
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(results), "bbox")
        run.params.iouThrs, run.params.maxDets = np.array([0.5]), [1000]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e9]], ["all"]
        run.evaluate()
        run.accumulate()
    hits, ignored, order = [], [], []
    for one in run.evalImgs:
        hits.append(one["dtMatches"][0] > 0 if one else np.zeros(0, bool))
        ignored.append(one["dtIgnore"][0].astype(bool) if one else np.zeros(0, bool))
        order.append(np.array(one["dtScores"]) if one else np.zeros(0))
    return hits, ignored, order, run.eval["precision"][0, :, 0, 0, 0], run.eval["recall"].item()


@pytest.mark.parametrize("seed", range(8))
def test_pycocotools_matches_the_same_boxes(seed):
    scenes = list(pictures(seed, crowds=seed % 3))
    theirs, ignored, _, curve, recall = evaluated(scenes)
    hits, scores, number = [], [], 0
    for (true, found, score, crowds), their, left_out in zip(scenes, theirs, ignored, strict=True):
        order = np.argsort(-score, kind="stable")
        mine = matched(iou(found, true), score)
        out = ~mine & covered(found, crowds)
        np.testing.assert_array_equal(out[order], left_out)
        np.testing.assert_array_equal(mine[order], their & ~left_out)
        hits.append(mine[~out])
        scores.append(score[~out])
        number += len(true)
    of = Score(number, sum(map(len, hits)), sum(int(h.sum()) for h in hits))
    assert of.recall == pytest.approx(recall, abs=1e-12)
    assert 0 < of.precision < 1
    # COCO reads the curve at 101 recalls: the same curve as a step function
    right = np.concatenate(hits)[np.argsort(-np.concatenate(scores), kind="stable")]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(np.cumsum(right) / number, np.linspace(0, 1, 101))
    read = np.append(precision, 0)[np.minimum(at, len(precision))]
    np.testing.assert_allclose(read, curve, atol=1e-12)
    assert area_under_curve(hits, scores, number) == pytest.approx(curve.mean(), abs=0.02)


def test_average_precision_is_that_of_its_parts():
    scenes = list(pictures(3))
    true, found, scores, _ = zip(*scenes, strict=True)
    hits = [matched(iou(f, t), s) for t, f, s, _ in scenes]
    ap = area_under_curve(hits, scores, sum(map(len, true)))
    assert average_precision(found, scores, true) == ap


def test_scores_without_objects():
    assert np.isnan([Score(0, 0, 0).precision, Score(0, 0, 0).recall, Score(0, 0, 0).f1]).all()
    assert (Score(4, 0, 0).recall, Score(4, 5, 3).f1) == (0, pytest.approx(2 / 3))


def test_label_iou_is_that_of_the_masks():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 4, (2, 9, 7))
    a[a == 2] = 0  # an object that others cover
    values = label_iou(a, b, 3, 4)
    for i in range(3):
        for j in range(4):
            here, there = a == i + 1, b == j + 1
            expected = (here & there).sum() / max((here | there).sum(), 1)
            assert values[i, j] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_dots_are_matched_as_often_as_possible(seed):
    random = np.random.default_rng(seed)
    a, b = random.uniform(0, 10, (4, 2)), random.uniform(0, 10, (5, 2))
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1)
    most = max(
        sum(distance[i, j] <= 3 for i, j in enumerate(some)) for some in permutations(range(5), 4)
    )
    assert near(a, b, 3.0).sum() == most > 0


def test_the_limit_of_dots():
    a, b = np.array([[0.0, 0.0], [9.0, 0.0]]), np.array([[0.0, 2.0], [9.0, 2.1]])
    assert near(a, b, 2.0).tolist() == [True, False]
    assert near(a, b[:0], 2.0).tolist() == [False, False]
