"""Crops of whole objects, for the second part of a training in crops.

A crop cuts most of the objects in it. A model that is trained on such crops learns that pieces are
objects, and finds some in objects that it does not draw well. So the first third of the steps is a
draft. With its programs, regions of the pictures are read, and new crops are cut out of them, less
the objects that are not wholly in the crop. On these the training begins anew. As they have fewer
objects, the programs have fewer steps, too: the same networks are trained in less time. A training
that begins with the networks of another run needs no draft: these are its programs.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from airjax.config import Config
from airjax.data.crops import Region
from airjax.inference.blocks import drawn, find_each
from airjax.programs.attend import AttendGuide
from airjax.programs.guide import Guide
from airjax.programs.model import Model

DRAFT = 1 / 3  # share of the steps
EMPTY = 0.1  # share of the crops without a whole object that are kept
NEAR = 0.5  # pixels that a box may leave the crop by
MOST = 0.99  # share of the crops that have at most one object fewer than there may be


class WholeObjects(NamedTuple):
    """Crops of whole objects.

    Attributes:
        images: uint8 ``[number, H, W]`` or ``[number, H, W, C]``.
        most: how many objects there may be in one.
    """

    images: UInt8[np.ndarray, "number H W *C"]
    most: int


def uses_whole_objects(config: Config, regions: Sequence[Region]) -> bool:
    """Whether a training, or its second part, is on crops of whole objects."""
    return bool(config.pictures.crop) and config.model.guide == "attend" and len(regions) > 0


def draft_steps(config: Config, regions: Sequence[Region], begun: bool = False) -> int:
    """The steps of the draft; 0 where none is needed, as in a training that begins with the
    networks of another run."""
    is_needed = uses_whole_objects(config, regions) and not begun
    return round(DRAFT * config.train.num_steps) if is_needed else 0


def crops_of_whole_objects(
    model: Model,
    guide: Guide,
    regions: Sequence[Region],
    number: int,
    stopped: Callable[[], bool] = lambda: False,
) -> WholeObjects | None:
    """Random crops of regions, less the objects that are not wholly in them.

    Args:
        model: of the draft.
        guide: of the draft, an `AttendGuide`.
        regions: of the training pictures.
        number: of crops.
        stopped: asked before each region whether to stop.

    Returns:
        the crops; None if it was stopped.
    """
    assert isinstance(guide, AttendGuide)
    random, side = np.random.RandomState(len(regions)), model.config.image_size[0]
    weights = np.cumsum([region.weight for region in regions])
    ends = np.round(number * weights / weights[-1]).astype(int)
    crops, counts = list[np.ndarray](), list[int]()
    found = find_each(model, guide, (region.image for region in regions))
    for region, end in zip(regions, ends.tolist(), strict=True):
        if stopped():
            return None
        objects = next(found)
        corners, y = drawn(model, objects)
        boxes = _within(objects.tight_boxes, region)
        margin = round(side / model.config.scale_prior_mean)
        while len(crops) < end:
            top, left = _corner(region, side, margin, random)
            low, high = np.array([left, top]) - NEAR, np.array([left, top]) + side + NEAR
            whole = ((boxes[:, :2] >= low) & (boxes[:, 2:] <= high)).all(1)
            if whole.any() or random.random_sample() < EMPTY:
                counts.append(int(whole.sum()))
                crops.append(_without(region.image, (top, left), side, corners[~whole], y[~whole]))
    return WholeObjects(np.stack(crops), int(np.quantile(counts, MOST, method="higher")) + 1)


def _within(boxes: Float[np.ndarray, "n 4"], region: Region) -> Float[np.ndarray, "n 4"]:
    """Boxes that end where the picture ends."""
    height, width = region.image.shape[:2]
    top, left, bottom, right = region.ends
    low = np.where([left, top], 0, -np.inf)
    high = np.where([right, bottom], [width, height], np.inf)
    return np.concatenate([np.maximum(boxes[:, :2], low), np.minimum(boxes[:, 2:], high)], axis=1)


def _corner(
    region: Region, side: int, margin: int, random: np.random.RandomState
) -> tuple[int, int]:
    """The top left pixel of a random crop, some way from where a region ends within a picture: the
    objects there were not seen as a whole."""
    insets = np.where(region.ends, 0, margin)
    room = np.array(region.image.shape[:2]) - insets[:2] - insets[2:] - side + 1
    top, left = insets[:2] + (random.random_sample(2) * room).astype(int)
    return int(top), int(left)


def _without(
    image: UInt8[np.ndarray, "h w *C"],
    corner: tuple[int, int],
    side: int,
    corners: Int[np.ndarray, "n 2"],
    y: Float[np.ndarray, "n s s *C"],
) -> UInt8[np.ndarray, "side side *C"]:
    """A crop less some objects."""
    top, left = corner
    crop = image[top : top + side, left : left + side] / np.float32(255)
    for (row, column), each in zip(corners - corner, y, strict=True):
        if abs(row) < side and abs(column) < side:
            ours = slice(max(0, row), side + row), slice(max(0, column), side + column)
            its = slice(max(0, -row), side - row), slice(max(0, -column), side - column)
            crop[ours[0], ours[1]] -= each[its[0], its[1]]
    return np.round(255 * np.clip(crop, 0, 1)).astype(np.uint8)
