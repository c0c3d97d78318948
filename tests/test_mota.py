"""MOTA by its definition: cases by hand."""

import numpy as np
import pytest

from airjax.tracking.mota import Frame, Mota, mota, total


def at(*objects):
    """A frame of boxes of 10 x 10: track, x, y of each."""
    values = np.array(objects, float).reshape(-1, 3)
    return Frame(values[:, 0].astype(int), np.concatenate([values[:, 1:], values[:, 1:] + 10], 1))


def test_perfect_tracks():
    frames = [(at((0, 0, 0), (1, 30, t)), at((5, 30, t), (9, 0, 0))) for t in range(4)]
    assert mota(frames) == Mota(8, 0, 0, 0) and mota(frames).mota == 1


def test_a_miss_a_false_one_and_a_switch():
    """Four frames of two objects: one is missed once, one object is false, and in the last two
    frames another track follows the second object."""
    true = at((0, 0, 0), (1, 30, 0))
    frames = [
        (true, at((7, 0, 1), (8, 30, 0))),
        (true, at((7, 0, 1), (3, 60, 60))),  # object 1 is missed, track 3 is false
        (true, at((7, 0, 1), (4, 30, 0))),  # object 1 was matched to track 8
        (true, at((7, 0, 1), (4, 30, 0))),
    ]
    score = mota(frames)
    assert score == Mota(8, 1, 1, 1) and score.mota == pytest.approx(1 - 3 / 8)


def test_a_former_match_is_kept_although_another_is_closer():
    true = at((0, 0, 0))
    frames = [(true, at((1, 0, 0))), (true, at((1, 0, 3), (2, 0, 0)))]
    assert mota(frames) == Mota(2, 0, 1, 0)  # IoU 0.54 is enough
    frames = [(true, at((1, 0, 0))), (true, at((1, 0, 4), (2, 0, 0)))]
    assert mota(frames) == Mota(2, 0, 1, 1)  # IoU 0.43 is not


def test_tracks_that_change_places_are_two_switches():
    ends = at((0, 0, 0), (1, 30, 0)), at((0, 30, 0), (1, 0, 0))
    assert mota([(ends[0], ends[0]), (ends[0], ends[1])]) == Mota(4, 0, 0, 2)


def test_as_many_pairs_as_possible():
    """The largest overlap first would leave an object without a match."""
    true, found = at((0, 0, 0), (1, 0, 4)), at((5, 0, 1), (6, 0, -3))
    assert mota([(true, found)]) == Mota(2, 0, 0, 0)


def test_nothing_to_find():
    assert mota([(at(), at((1, 0, 0)))]) == Mota(0, 0, 1, 0)
    assert np.isnan(mota([(at(), at())]).mota)


def test_several_videos_together():
    one = mota([(at((0, 0, 0)), at())])
    assert total([one, one, mota([(at((0, 0, 0)), at((1, 0, 0)))])]) == Mota(3, 2, 0, 0)
    assert total([]) == Mota(0, 0, 0, 0)


def test_against_motmetrics():
    """The definition's reference code, on random tracks with misses, false ones and switches."""
    motmetrics = pytest.importorskip("motmetrics")
    from airjax.inference.detection import iou

    random = np.random.default_rng(0)
    accumulator, frames = motmetrics.MOTAccumulator(auto_id=True), []
    places, names = random.uniform(0, 60, (8, 2)), np.arange(8)
    for _ in range(60):
        places = places + random.normal(0, 2, places.shape)
        if random.random() < 0.3:
            i, j = random.choice(8, 2, replace=False)
            names[[i, j]] = names[[j, i]]
        seen = random.random(8) < 0.85
        noise = random.normal(0, 1.2, places.shape)
        found = [(n + 100, *xy) for n, xy in zip(names[seen], (places + noise)[seen], strict=True)]
        found += [(900 + k, *xy) for k, xy in enumerate(random.uniform(0, 60, (2, 2)))]
        true = at(*((i, *xy) for i, xy in enumerate(places)))
        frames.append((true, at(*found)))
        overlap = iou(true.boxes, frames[-1][1].boxes)
        distance = np.where(overlap >= 0.5, 1 - overlap, np.nan)
        accumulator.update(true.tracks, frames[-1][1].tracks, distance)
    metrics = motmetrics.metrics.create()
    names = ["num_objects", "num_misses", "num_false_positives", "num_switches", "mota"]
    want = metrics.compute(accumulator, metrics=names).iloc[0]
    score = mota(frames)
    assert list(score) == [int(want[name]) for name in names[:4]] and score.switches > 5
    assert score.mota == pytest.approx(want["mota"])
