"""Scores against hand-computed cases."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from airjax.data.dataset import Dataset
from airjax.inference.detection import average_precision, iou, mean_iou
from airjax.inference.metrics import ari_foreground, calibration_error, reliability, score
from airjax.inference.reading import Reading
from airjax.programs.compose import segments


def row(*spans):
    """Boxes one pixel high, from their x0 and x1: IoUs of these are lengths' ratios."""
    return np.array([[x0, 0, x1, 1] for x0, x1 in spans], np.float32).reshape(-1, 4)


NONE = row()


# intersection over union


def test_iou_by_hand():
    a = np.array([[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 3.0]])
    b = np.array([[0.0, 0.0, 4.0, 2.0], [2.0, 1.0, 6.0, 3.0], [4.0, 0.0, 6.0, 2.0]])
    expected = [[1, 2 / 14, 0], [2 / 10, 2 / 10, 0]]
    np.testing.assert_allclose(iou(a, b), expected)


def test_iou_of_empty_boxes_is_0():
    assert iou(row((1, 1)), row((1, 1), (0, 2))).tolist() == [[0, 0]]


def test_iou_of_no_boxes_has_no_rows():
    assert iou(NONE, row((0, 1))).shape == (0, 1)


# mean IoU


def test_matching_is_optimal_where_greedy_is_worse():
    found, truth = row((2, 10), (8, 12)), row((4, 12), (2, 6))  # IoUs 0.6, 0.5; 0.5, 0
    assert mean_iou([found], [truth]) == pytest.approx((0.5 + 0.5) / 2)


def test_a_true_box_without_partner_counts_0():
    assert mean_iou([row((0, 4))], [row((0, 4), (5, 9))]) == 0.5


def test_a_found_box_without_partner_costs_nothing():
    assert mean_iou([row((0, 4), (5, 9))], [row((0, 4))]) == 1


def test_the_mean_is_over_boxes_not_images():
    found, truth = [row((0, 2)), NONE], [row((0, 2)), row((0, 1), (2, 3), (4, 5))]
    assert mean_iou(found, truth) == 0.25


def test_images_without_boxes_change_nothing():
    assert mean_iou([row((0, 2)), NONE], [row((0, 2)), NONE]) == 1


@pytest.mark.parametrize("found", [[], [NONE], [row((0, 1))]])
def test_no_mean_iou_without_true_boxes(found):
    assert mean_iou(found, [NONE] * len(found)) is None


# average precision

A, B, ELSEWHERE = (0, 4), (10, 14), (20, 24)


@pytest.mark.parametrize(
    ("found", "scores", "truth", "expected"),
    [
        ([A, B], [0.9, 0.8], [A, B], 1),  # perfect
        ([ELSEWHERE, A], [0.9, 0.8], [A], 1 / 2),  # a false positive ranked first
        ([A, ELSEWHERE], [0.9, 0.8], [A], 1),  # ranked last, it costs nothing
        ([A], [0.9], [A, B], 1 / 2),  # a missing detection
        ([A, A], [0.9, 0.8], [A], 1),  # a duplicate is a false positive
        ([A, A, B], [0.9, 0.8, 0.7], [A, B], 1 / 2 + 1 / 2 * 2 / 3),
        ([B, A, A], [0.7, 0.8, 0.9], [A, B], 1 / 2 + 1 / 2 * 2 / 3),  # taken by falling score
        ([ELSEWHERE, A, B], [0.9, 0.8, 0.7], [A, B], 2 / 3),  # precision made monotonic
        ([], [], [A], 0),
        ([ELSEWHERE], [0.9], [A], 0),
    ],
)
def test_average_precision_by_hand(found, scores, truth, expected):
    ap = average_precision([row(*found)], [np.array(scores)], [row(*truth)])
    assert ap == pytest.approx(expected)


def test_detections_of_all_images_are_ranked_together():
    found, truth = [row(A), row(ELSEWHERE)], [row(A), NONE]
    assert average_precision(found, [np.array([0.9]), np.array([0.8])], truth) == 1
    assert average_precision(found, [np.array([0.8]), np.array([0.9])], truth) == 0.5


def test_a_box_of_another_image_is_no_match():
    found, truth = [row(A), NONE], [NONE, row(A)]
    assert average_precision(found, [np.array([0.9]), np.array([])], truth) == 0


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 1), (0.51, 0)])
def test_the_threshold_itself_is_a_hit(threshold, expected):
    found, truth = [row((0, 2))], [row((0, 4))]
    assert average_precision(found, [np.array([0.9])], truth, threshold) == expected


def test_a_box_takes_the_true_box_it_overlaps_most():
    found, truth = row((0, 10), (0, 6)), row((0, 6), (0, 9))  # taken the other way, one is missed
    assert average_precision([found], [np.array([0.9, 0.8])], [truth]) == 1


def test_inputs_are_left_alone():
    found, scores, truth = [row(A)], [np.array([0.9])], [row(A)]
    average_precision(found, scores, truth)
    assert (found[0].tolist(), scores[0].tolist()) == (row(A).tolist(), [0.9])


@pytest.mark.parametrize("found", [[], [NONE], [row(A)]])
def test_no_average_precision_without_true_boxes(found):
    scores = [np.ones(len(boxes)) for boxes in found]
    assert average_precision(found, scores, [NONE] * len(found)) is None


# the report

# two images of 2 x 2, at most two objects; most probable counts 0 and 1
ARRAYS: dict[str, Any] = {  # NumPy's, as `read` returns them
    "elbo": np.array([-1.0, -3.0], np.float32),
    "count_probs": np.array([[0.8, 0.1, 0.1], [0.1, 0.6, 0.3]], np.float32),
    "sampled_count": np.array([2, 1], np.int32),
    "z_where": np.zeros((2, 2, 3), np.float32),
    "z_what": np.zeros((2, 2, 1), np.float32),
    "windows": np.zeros((2, 2, 1, 1), np.float32),
    "window_boxes": np.stack([row(A, B), row((0, 2), B)]),
    "tight_boxes": np.stack([row(A, B), row(A, B)]),
    "reconstruction": np.array([[[0, 0], [0, 0]], [[0, 0], [0, 1]]], np.float32),
}
READING = Reading(**ARRAYS)
BYTES = np.array([[[0, 0], [0, 255]], [[0, 0], [0, 255]]], np.uint8)


def counts(*numbers):
    return np.array(numbers, np.int32)


def test_without_truth_there_is_only_elbo_and_error():
    assert score(READING, Dataset(BYTES)) == {"elbo": -2, "reconstruction_mse": 0.125}


def test_counts_are_scored():
    report = score(READING, Dataset(BYTES, counts(0, 2)))
    assert report["count_accuracy"] == 0.5
    assert report["count_accuracy_sample"] == 0
    assert report["confusion_matrix"] == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert "window_boxes" not in report


def test_the_confusion_matrix_has_room_for_true_counts_above_the_models():
    report = score(READING, Dataset(BYTES, counts(0, 4)))
    expected = np.zeros((5, 5), int)
    expected[0, 0] = expected[4, 1] = 1
    assert report["confusion_matrix"] == expected.tolist()


def test_as_many_boxes_as_the_most_probable_count_are_scored():
    boxes = np.stack([row((-1, -1), (-1, -1)), row(A, (-1, -1))])
    report = score(READING, Dataset(BYTES, counts(0, 1), boxes=boxes))
    assert report["window_boxes"] == {"mean_iou": 0.5, "ap50": 1}
    assert report["tight_boxes"] == {"mean_iou": 1, "ap50": 1}


def test_boxes_of_unknown_number_are_not_scored():
    report = score(READING, Dataset(BYTES, boxes=np.stack([row(A), row(A)])))
    assert set(report) == {"elbo", "reconstruction_mse"}


def test_detections_are_ranked_by_the_probability_that_they_are_there():
    sure = READING._replace(
        count_probs=np.array([[0.05, 0.9, 0.05], [0.4, 0.6, 0.0]], np.float32),
        tight_boxes=np.stack([row(A, B), row(ELSEWHERE, B)]),
    )
    boxes = np.stack([row(A), row(A)])
    report = score(sure, Dataset(BYTES, counts(1, 1), boxes=boxes))
    assert report["tight_boxes"]["ap50"] == 0.5
    turned = sure._replace(count_probs=sure.count_probs[::-1])
    report = score(turned, Dataset(BYTES, counts(1, 1), boxes=boxes))
    assert report["tight_boxes"]["ap50"] == 0.25


def test_a_calibrated_count_has_no_calibration_error():
    """Confidences of 0.6 and 0.9 that are right so often; then always right."""
    confidence = np.repeat([0.6, 0.9], 1000)
    right = np.arange(2000) % 10 < np.repeat([6, 9], 1000)
    assert calibration_error(confidence, right) == pytest.approx(0, abs=1e-9)
    assert calibration_error(confidence, right | True) == pytest.approx((0.4 + 0.1) / 2)
    bins = reliability(confidence, right)
    assert [(b.n, round(b.accuracy, 6)) for b in bins] == [(1000, 0.6), (1000, 0.9)]
    assert reliability(np.ones(3), np.ones(3, bool)) == [(3, 1.0, 1.0)]  # the last bin has its end


def test_the_index_of_the_foreground_is_that_of_true_objects_only():
    """Names and order of segments do not matter; two objects as one score 0, by its definition."""
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[0, :2], truth[0, 2] = 1, 2
    found = np.where(truth == 1, 2, np.where(truth == 2, 1, 3)).astype(np.uint8)
    assert ari_foreground(found, truth) == 1  # 3 is on the background, and the second has none
    assert ari_foreground(np.ones_like(truth), truth) == 0
    assert ari_foreground(found[1:], truth[1:]) is None


def test_segments_are_what_each_pixel_shows():
    add = np.zeros((2, 3, 4), np.float32)
    add[0, :, :2], add[1, :, 1:3] = 0.5, 0.8
    both = jnp.array([True, True])
    want = [[1, 2, 2, 0]] * 3
    np.testing.assert_array_equal(segments("add", jnp.asarray(add), both, 0.1), want)
    one = segments("add", jnp.asarray(add), jnp.array([True, False]), 0.1)
    np.testing.assert_array_equal(one, [[1, 1, 0, 0]] * 3)
    over = np.stack([0 * add, add / np.float32([[[0.5]], [[0.8]]])], axis=-1)  # opaque, dark
    np.testing.assert_array_equal(
        segments("over", jnp.asarray(over), both, 0.1), [[1, 1, 2, 0]] * 3
    )
