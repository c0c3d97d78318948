"""Scenes as other papers compose them have the statistics that their sources give."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from airjax.data import DATASETS, painted
from airjax.data.composer import Pool, compose
from airjax.data.dataset import as_npz, load_dataset
from airjax.data.moving import FRAMES, reflected
from airjax.data.recipes import SPRITES
from airjax.errors import InputError

SQUARES = Pool(np.full((2, 8, 8), 200, np.uint8), np.arange(2, dtype=np.int32))


def made(name, n=400, pool=SQUARES, **settings):
    """Scenes of a named data set, of squares where it has a pool."""
    known = DATASETS[name]
    config = replace(known.scenes, num_scenes=n, seed=3, **settings)
    return (known.recipe or compose)(pool, config, name, "test"), config


def plain(config):
    """The same scenes as sums on black."""
    return compose(SQUARES, config).images


def test_noise_has_its_mean_and_its_deviation():
    data, config = made("noisy-mnist", 300)
    value, clean = data.images / 255, plain(config) / 255
    bright = value[clean > 0.7]  # 0.8 x 200 / 255 + 0.1: hardly clipped
    assert clean.max() == pytest.approx(200 / 255)
    mean = 0.8 * clean[clean > 0.7].mean() + 0.1
    assert bright.mean() == pytest.approx(mean, abs=0.02)
    # of a normal at 0.1 with deviation 0.2, clipped at 0: E max(x, 0) and P(x > 0)
    dark = value[clean == 0]
    assert dark.mean() == pytest.approx(0.1396, abs=0.002)
    assert (dark > 0).mean() == pytest.approx(0.691, abs=0.01)


def test_a_grid_has_a_line_every_five_pixels_at_a_random_offset():
    data, config = made("grid-mnist")
    offsets = set()
    for image, clean in zip(data.images, plain(config), strict=True):
        rows, columns = ((image >= 102).all(axis) for axis in (1, 0))
        for lines in (rows, columns):
            assert set(np.diff(np.flatnonzero(lines))) == {5}
        line = rows[:, None] | columns
        np.testing.assert_array_equal(image, np.where(line, np.maximum(clean, 102), clean))
        offsets.add((rows.argmax(), columns.argmax()))
    assert len(offsets) == 25


def test_supairs_sprites_share_no_pixel():
    data, _ = made("supair-sprites", pool=Pool(np.zeros((0, 1, 1), np.uint8), np.zeros(0, int)))
    assert data.images.shape == (400, 50, 50, 3) and set(data.counts) == {0, 1, 2}
    sides = np.concatenate([b[:n] for b, n in zip(data.boxes, data.counts, strict=True)])
    sides = (sides[:, 2:] - sides[:, :2]).max(1)
    assert sides.min() >= 11 and sides.max() == 16
    for image, mask, labels in zip(data.images, data.masks, data.labels, strict=True):
        for i in range(1, mask.max() + 1):
            shown = image[mask == i].astype(int)
            assert (shown.argmax(1) == labels[i - 1]).all()  # red discs, green squares, ...
            assert (np.delete(shown, labels[i - 1], axis=1) == 0).all()


def test_occluded_sprites_hide_each_other_often():
    """Silhouettes are drawn again from classes and boxes; of each, a quarter is visible."""
    data, _ = made("occluded-sprites", pool=Pool(np.zeros((0, 1, 1), np.uint8), np.zeros(0, int)))
    assert data.images.shape == (400, 50, 50, 3) and set(data.counts) == {0, 1, 2, 3}
    assert (data.images[data.masks == 0] < 128).any(-1).all()  # edges of objects on black
    hidden, several = 0, data.counts >= 2
    for mask, image, labels, boxes, n in zip(
        data.masks, data.images, data.labels, data.boxes, data.counts, strict=True
    ):
        shares = []
        for i in range(n):
            x0, y0, x1, y1 = boxes[i]
            full = {"disc": 0.785, "square": 1.0, "diamond": 0.5}[SPRITES[labels[i]]]
            shares.append((mask == i + 1).sum() / (full * (x1 - x0) * (y1 - y0)))
            colours = image[mask == i + 1]
            assert np.median(colours.max(-1)) == 255  # hues at their full value
        assert min(shares, default=1) > 0.22 and max(shares, default=1) < 1.15
        hidden += min(shares, default=1) < 0.85
    assert 0.3 < hidden / several.sum() < 0.9


@pytest.mark.parametrize(("name", "counts"), [
    ("scattered-mnist", {1, 3, 5, 7, 9}), ("scattered-mnist-84", set(range(1, 16))),
])  # fmt: skip
def test_boxes_of_scattered_digits_share_98_pixels_at_most(name, counts):
    data, config = made(name, 150)
    assert set(data.counts) == counts and config.shared == 98
    shared = []
    for boxes, n in zip(data.boxes, data.counts, strict=True):
        assert (boxes[:n, 2:] - boxes[:n, :2] == 14).all()  # squares fill their boxes
        common = 0
        for a, b in combinations(boxes[:n], 2):
            both = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
            common += np.prod(np.maximum(both, 0))
        shared.append(common)
    assert max(shared) <= 98 and max(shared) > 80  # the rule is used


@pytest.mark.parametrize(("name", "least", "far"), [
    ("occluded-mnist", 0.25, 0.25), ("multi-dsprites", 0.1, 0.0625),
])  # fmt: skip
def test_later_objects_hide_earlier_ones(name, least, far):
    data, config = made(name, 300)
    assert data.images.shape == (300, 64, 64, 3) and set(data.counts) == set(config.counts)
    hidden = 0
    for image, mask, n in zip(data.images, data.masks, data.counts, strict=True):
        areas = np.bincount(mask.ravel(), minlength=n + 1)[1:]
        assert (areas > 0).all()
        colours = [np.median(image[mask == i], axis=0) / 255 for i in range(1, n + 1)]
        background = np.median(image[mask == 0], axis=0) / 255
        # a square of 200 / 255 shows some of what is behind it
        assert all(np.square(c - background).sum() > far * 0.5 for c in colours)
        hidden += areas.max() > 2 * areas.min()
    assert hidden > 10


def test_colours_of_multi_dsprites_are_levels():
    data, _ = made("multi-dsprites", 50)
    assert set(np.unique(data.images)) <= {0, 64, 128, 191, 255}


def test_a_fifth_of_a_digit_is_not_enough():
    """With larger objects, more scenes are drawn again; the rule holds for each."""
    data, _ = made("occluded-mnist", 100, counts=(5, 6))
    for mask, boxes, n in zip(data.masks, data.boxes, data.counts, strict=True):
        for i, (x0, y0, x1, y1) in enumerate(boxes[:n]):
            assert (mask == i + 1).sum() >= 0.25 * (x1 - x0) * (y1 - y0)


def test_masks_are_kept_and_checked(tmp_path):
    data, _ = made("occluded-mnist", 12)
    (tmp_path / "scenes.npz").write_bytes(as_npz(data))
    np.testing.assert_array_equal(load_dataset(tmp_path / "scenes.npz").masks, data.masks)
    np.savez(tmp_path / "wrong.npz", images=data.images, masks=data.masks[:, 1:])
    with pytest.raises(InputError, match=r"masks must be uint8 of shape \[12, 64, 64\], got uint8"):
        load_dataset(tmp_path / "wrong.npz")


@pytest.mark.parametrize(("settings", "message"), [
    ({"scale_mean": 2.0}, "scale_mean must be left out: occluded-mnist has its own, got 2.0"),
    ({"counts": (60,)}, "counts must fit 64 x 64 with 25% of each visible within .* draws, got 60"),
    ({"object_size": 20}, "object_size must be left out: occluded-mnist has its own, got 20"),
    ({"height": 22}, "height and width must fit objects of this data set within .*, got 22 x 64"),
])  # fmt: skip
def test_settings_that_painted_scenes_do_not_have(settings, message, monkeypatch):
    monkeypatch.setattr(painted, "ATTEMPTS", 20)  # fewer: each draws 60 objects
    large = Pool(np.full((1, 28, 28), 200, np.uint8), np.zeros(1, np.int32))
    with pytest.raises(InputError, match=message):
        made("occluded-mnist", 1, pool=large, **settings)


def test_boxes_cannot_share_pixels_under_another_rule():
    with pytest.raises(InputError, match="shared must be at least 0, and 0 unless overlap is lim"):
        replace(DATASETS["multi-mnist"].scenes, shared=3)


def test_digits_move_with_constant_speed_and_turn_at_the_border():
    data, _ = made("moving-mnist", 40 * FRAMES)
    assert data.images.shape == (40 * FRAMES, 50, 50) and set(data.counts) == {0, 1, 2}
    np.testing.assert_array_equal(data.sequences, np.repeat(np.arange(40), FRAMES))
    angles, turns, steps = [], 0, 0
    for first in range(0, len(data), FRAMES):
        counts = data.counts[first : first + FRAMES]
        assert (counts == counts[0]).all()
        for j in range(counts[0]):
            boxes = data.boxes[first : first + FRAMES, j]
            assert len(set(data.labels[first : first + FRAMES, j])) == 1
            side = boxes[0, 2] - boxes[0, 0]  # squares fill their boxes
            assert (boxes[:, 2:] - boxes[:, :2] == side).all()
            moved = np.diff(boxes[:, :2], axis=0)
            # x and y each have a constant speed but where they turn, within the rounding of places
            speeds = np.abs(moved)
            usual = np.median(speeds, axis=0)
            turns += (speeds < usual - 1).sum()
            assert (speeds <= usual + 1).all()
            assert np.hypot(*usual) == pytest.approx(0.1 * (50 - side), abs=1)
            angles.append(np.arctan2(*moved[0]))
            steps += moved.size
    assert 0.02 < turns / steps < 0.2
    quarters = np.histogram(angles, 4, (-np.pi, np.pi))[0] / len(angles)
    assert quarters.min() > 0.1  # in all directions


def test_moving_digits_add_up_where_they_cross():
    data, _ = made("moving-mnist", 20 * FRAMES, counts=(2,))
    crossing = 0
    for image, boxes in zip(data.images, data.boxes.astype(int), strict=True):
        seen = np.zeros(image.shape, int)
        for x0, y0, x1, y1 in boxes:
            seen[y0:y1, x0:x1] += 200
        np.testing.assert_array_equal(image, seen.clip(max=255))
        crossing += (seen > 200).any()
    assert 0.3 < crossing / len(data) < 0.95


def test_the_last_video_has_what_is_left():
    data, _ = made("moving-mnist", FRAMES + 3, counts=(1,))
    assert np.bincount(data.sequences).tolist() == [FRAMES, 3]


def test_reflected_places():
    free = np.array([[0.0, 5.0], [4.0, 5.0], [-3.0, 11.0], [23.0, 5.0]])
    want = [[0, 0], [4, 0], [3, 0], [3, 0]]
    np.testing.assert_allclose(reflected(free, np.array([10.0, 0.0])), want, atol=1e-8)


def test_moving_digits_cross():
    with pytest.raises(InputError, match="overlap must be clip: objects of moving-mnist cross"):
        made("moving-mnist", overlap="apart")


def test_sequences_are_kept_and_checked(tmp_path):
    data, _ = made("moving-mnist", FRAMES)
    (tmp_path / "videos.npz").write_bytes(as_npz(data))
    read = load_dataset(tmp_path / "videos.npz")
    np.testing.assert_array_equal(read.sequences, data.sequences)
    np.savez(tmp_path / "wrong.npz", images=data.images, sequences=data.sequences[1:])
    with pytest.raises(InputError, match=r"sequences must have shape \[20\], got \[19\]"):
        load_dataset(tmp_path / "wrong.npz")
