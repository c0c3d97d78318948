"""Scenes in colour whose later objects hide earlier ones."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from airjax.data.composer import ATTEMPTS, Pool, SceneConfig, drawn_counts, tight_box
from airjax.data.dataset import Dataset
from airjax.errors import InputError

FIXED = (
    "object_size",
    "scale_mean",
    "scale_sd",
    "overlap",
    "shared",
)  # settings that these scenes do not have
OPAQUE = 128  # of 255: an opacity that hides what is behind it

Random = np.random.RandomState


class Style(NamedTuple):
    """What is painted.

    Attributes:
        shape: draws the opacities of an object, uint8 ``[h, w]``, and its class.
        colour: draws the colour of an object of a class, RGB in [0, 1].
        background: draws the colour of a background.
        contrast: smallest squared distance of an object's colour from the background's.
        visible: smallest share of the pixels of an object that no other hides.
    """

    shape: Callable[[Random, Pool, SceneConfig], tuple[np.ndarray, int]]
    colour: Callable[[Random, int], np.ndarray]
    background: Callable[[Random], np.ndarray]
    contrast: float
    visible: float


class _Object(NamedTuple):
    opacity: np.ndarray
    colour: np.ndarray
    label: int
    top: int
    left: int

    def within(self, image: np.ndarray) -> np.ndarray:
        """The part of an image that it covers."""
        h, w = self.opacity.shape
        return image[self.top : self.top + h, self.left : self.left + w]

    def box(self) -> tuple[int, int, int, int]:
        """The tight box of all of it, hidden or not."""
        x0, y0, x1, y1 = tight_box(self.opacity)
        return self.left + x0, self.top + y0, self.left + x1, self.top + y1


def painted(pool: Pool, config: SceneConfig, name: str, part: str, style: Style) -> Dataset:
    """Composes a data set of painted scenes, with masks. A scene is drawn again unless enough of
    each object is visible.

    Args:
        pool: that shapes are drawn from.
        config: of the scenes; objects lie within the canvas.
        name: of the data set.
        part: of it.
        style: what is painted.

    Raises:
        InputError: if a setting is given that these scenes do not have, or a scene cannot be drawn
            (too many objects).
    """
    for setting in FIXED:
        if getattr(config, setting) != getattr(SceneConfig, setting):
            rule = f"must be left out: {name} has its own"
            raise InputError(setting, rule, getattr(config, setting))
    random, most = np.random.RandomState(config.seed), max(config.counts)
    shape = (config.num_scenes, config.height, config.width)
    images, masks = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
    labels = np.full((config.num_scenes, most), -1, np.int32)
    boxes = np.full((config.num_scenes, most, 4), -1, np.float32)
    counts = drawn_counts(random, config)
    for i, count in enumerate(counts.tolist()):
        below = style.background(random)
        objects, masks[i] = _arranged(random, pool, config, style, count, below)
        images[i] = _composite(below, objects, shape[1:])
        for j, thing in enumerate(objects):
            labels[i, j], boxes[i, j] = thing.label, thing.box()
    return Dataset(images, counts, labels, boxes, name, part, masks=masks)


def _arranged(
    random: Random, pool: Pool, config: SceneConfig, style: Style, count: int, below: np.ndarray
) -> tuple[list[_Object], np.ndarray]:
    """The objects of a scene, and the number of the object that each pixel shows, from 1."""
    for _ in range(ATTEMPTS):
        objects = [_drawn(random, pool, config, style, below) for _ in range(count)]
        mask = np.zeros((config.height, config.width), np.uint8)
        for j, thing in enumerate(objects):
            thing.within(mask)[thing.opacity >= OPAQUE] = j + 1
        seen = np.bincount(mask.ravel(), minlength=count + 1)[1:]
        areas = [int((thing.opacity >= OPAQUE).sum()) for thing in objects]
        if all(s >= max(1, style.visible * area) for s, area in zip(seen, areas, strict=True)):
            return objects, mask
    rule = f"must fit {config.height} x {config.width} with {style.visible:.0%} of each visible"
    raise InputError("counts", f"{rule} within {ATTEMPTS} draws", count)


def _drawn(
    random: Random, pool: Pool, config: SceneConfig, style: Style, below: np.ndarray
) -> _Object:
    for _ in range(ATTEMPTS):
        opacity, label = style.shape(random, pool, config)
        h, w = opacity.shape
        colour = style.colour(random, label)
        alike = np.square(colour - below).sum() < style.contrast
        if alike or h > config.height or w > config.width:
            continue
        top, left = (random.randint(n) for n in (config.height - h + 1, config.width - w + 1))
        return _Object(opacity, colour, label, top, left)
    rule = f"and width must fit objects of this data set within {ATTEMPTS} draws"
    raise InputError("height", rule, f"{config.height} x {config.width}")


def _composite(below: np.ndarray, objects: list[_Object], size: tuple[int, int]) -> np.ndarray:
    image = np.broadcast_to(255 * below, (*size, 3)).copy()
    for thing in objects:
        alpha, under = thing.opacity[..., None] / 255, thing.within(image)
        under[:] = alpha * 255 * thing.colour + (1 - alpha) * under
    return np.round(image).astype(np.uint8)
