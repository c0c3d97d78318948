"""Straight lines in pictures."""

import numpy as np
import pytest
from scipy import ndimage

from airjax.data import lines
from airjax.data.lines import straight_lines


def brute_force(value: np.ndarray, length: int) -> np.ndarray:
    """The largest intensity that a horizontal or vertical segment exceeds, by its definition."""
    best = np.zeros_like(value)
    for turned, out in ((value, best), (value.T, best.T)):
        for row in range(turned.shape[0]):
            for start in range(turned.shape[1] - length + 1):
                part = slice(start, start + length)
                out[row, part] = np.maximum(out[row, part], turned[row, part].min())
    return best


@pytest.mark.parametrize("length", [5, 6])
def test_each_direction_is_an_opening(length):
    value = np.random.RandomState(0).uniform(0, 1, (17, 23)).astype(np.float32)
    both = np.maximum(
        lines._opening(value, 0.0, float(length)), lines._opening(value.T, 0.0, float(length)).T
    )
    np.testing.assert_array_equal(both, brute_force(value, length))
    found = straight_lines(value, float(length))
    assert (found <= value).all() and (found >= both).all()


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A frame, turned by 3 degrees, with a chain of discs in it; and the discs alone."""
    y, x = np.mgrid[:120, :120].astype(np.float32)
    angle = np.radians(3)
    u = (x - 60) * np.cos(angle) + (y - 60) * np.sin(angle)
    v = (y - 60) * np.cos(angle) - (x - 60) * np.sin(angle)
    away = np.maximum(np.abs(u), np.abs(v))
    frame = 0.8 * ((away > 46) & (away < 52))
    frame = ndimage.gaussian_filter(frame, 0.7)
    discs = np.zeros((120, 120))
    for centre in (40, 49, 58):
        discs = np.maximum(discs, np.hypot(x - centre, y - 50) < 5)
    return np.maximum(frame, discs).astype(np.float32), discs.astype(np.float32)


def test_a_turned_frame_is_found_and_a_chain_of_objects_is_not():
    picture, discs = scene()
    frame = float(np.square(picture - discs).sum())
    residual = picture - straight_lines(picture, 60.0)
    assert float(np.square(residual - discs).sum()) < 0.03 * frame


def test_gaps_of_a_line_that_are_small_are_part_of_it():
    line = np.zeros((40, 100), np.float32)
    line[20, 5:95] = 1
    for start, gap in ((30, 2), (60, 3)):
        broken = line.copy()
        broken[20, start : start + gap] = 0
        found = straight_lines(broken, 72.0)  # gaps of less than 3 pixels
        np.testing.assert_array_equal(found, broken if gap == 2 else 0 * line)


def test_channels_and_small_pictures():
    picture, _ = scene()
    colours = np.stack([picture, 0 * picture], axis=-1)
    np.testing.assert_array_equal(
        straight_lines(colours, 60.0)[..., 0], straight_lines(picture, 60.0)
    )
    assert not straight_lines(picture[:20, :20], 60.0).any()
