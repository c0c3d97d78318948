"""Composes scenes: images of a pool, resized, placed on an empty canvas and added up.

With the default settings and MNIST as the pool this is the multi-MNIST of the Pyro tutorial.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from airjax.checks import a_seed, at_least_1, fields, one_of, positive
from airjax.data.dataset import Dataset
from airjax.errors import InputError

Overlap = Literal["redraw", "clip", "apart", "limited"]
ATTEMPTS = 10_000  # largest number of draws of a scene (with "apart", of an object)
VISIBLE = 0.1 * 255  # tight boxes are drawn around the pixels above this


class Pool(NamedTuple):
    """Small images to compose scenes from: uint8 ``[M, h, w]``, or ``[M, h, w, 3]`` in colour, with
    int32 ``[M]`` classes."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class SceneConfig:
    """How scenes are composed.

    Attributes:
        num_scenes: number of scenes.
        height: canvas height in pixels.
        width: canvas width in pixels.
        counts: possible numbers of objects.
        weights: relative probability of each of ``counts``; equally likely when empty.
        object_size: side in pixels of an object at scale 1; at scale s, ``int(object_size / s)``.
        scale_mean: mean of s, which is Normal.
        scale_sd: standard deviation of s.
        overlap: "redraw" draws a scene again if the sum of its objects exceeds 255 (as in the
            tutorial); "clip" lets objects overlap and clips the sum; "apart" draws an object again
            until its box overlaps no other; "limited" draws each place among those where the boxes,
            as resized, share at most ``shared`` pixels in all, and clips the sum.
        shared: largest number of pixels that boxes share, summed over pairs, where limited.
        seed: random seed; the scenes are the same on every machine.
    """

    num_scenes: int = 60_000
    height: int = 50
    width: int = 50
    counts: tuple[int, ...] = (0, 1, 2)
    weights: tuple[float, ...] = ()
    object_size: int = 28
    scale_mean: float = 1.3
    scale_sd: float = 0.1
    overlap: Overlap = "redraw"
    shared: int = 0
    seed: int = 0

    def __post_init__(self):
        at_least_1(**fields(self, "num_scenes", "height", "width", "object_size"))
        if not self.counts or min(self.counts) < 0:
            raise InputError("counts", "must be one or more numbers >= 0", list(self.counts))
        if self.weights and len(self.weights) != len(self.counts):
            rule = f"must be as many as counts ({len(self.counts)})"
            raise InputError("weights", rule, list(self.weights))
        if self.weights and (min(self.weights) < 0 or not 0 < sum(self.weights) < np.inf):
            raise InputError("weights", "must be >= 0, not all 0", list(self.weights))
        positive(scale_mean=self.scale_mean)
        if not 0 <= self.scale_sd < np.inf:
            raise InputError("scale_sd", "must be at least 0", self.scale_sd)
        side = int(self.object_size / self.scale_mean)
        if not 1 <= side <= min(self.height, self.width):
            rule = f"/ scale_mean must be 1 to {min(self.height, self.width)} pixels (the canvas)"
            raise InputError("object_size", rule, side)
        one_of(get_args(Overlap), overlap=self.overlap)
        if self.shared < 0 or (self.shared and self.overlap != "limited"):
            rule = "must be at least 0, and 0 unless overlap is limited"
            raise InputError("shared", rule, self.shared)
        a_seed(self.seed)


class Pictures:
    """A pool whose images are converted for Pillow once: that takes as long as resizing.

    Args:
        pool: of images.
    """

    def __init__(self, pool: Pool):
        self.labels = pool.labels
        self.colours = pool.images.shape[3:]  # () or (3,)
        self.picture = functools.cache(lambda index: Image.fromarray(pool.images[index]))


class _NoRoom(Exception):
    """An object finds no place beside the others of a scene."""


class Thing(NamedTuple):
    """An object on the canvas: its pixels, its class, the pixel of its top left corner."""

    pixels: np.ndarray
    label: int
    top: int
    left: int

    def box(self) -> tuple[int, int, int, int]:
        """The tight box on the canvas."""
        x0, y0, x1, y1 = tight_box(self.pixels)
        return self.left + x0, self.top + y0, self.left + x1, self.top + y1


def compose(pool: Pool, config: SceneConfig, name: str = "scenes", part: str = "all") -> Dataset:
    """Composes a data set of scenes from a pool.

    Scenes are the same on every machine: NumPy's legacy ``RandomState`` has a frozen stream, and
    Pillow's 8-bit resampling is integer arithmetic.

    Raises:
        InputError: if a scene cannot be drawn under the overlap rule (too many objects).
    """
    random = np.random.RandomState(config.seed)
    most = max(config.counts)
    pictures = Pictures(pool)
    shape = (config.num_scenes, config.height, config.width, *pictures.colours)
    images = np.zeros(shape, np.uint8)
    labels = np.full((config.num_scenes, most), -1, np.int32)
    boxes = np.full((config.num_scenes, most, 4), -1, np.float32)
    counts = drawn_counts(random, config)
    for i, count in enumerate(counts.tolist()):
        things, images[i] = scene(random, pictures, config, count)
        for j, thing in enumerate(things):
            labels[i, j], boxes[i, j] = thing.label, thing.box()
    return Dataset(images, counts, labels, boxes, name, part)


def drawn_counts(random: np.random.RandomState, config: SceneConfig) -> np.ndarray:
    """The number of objects in each scene, int32 ``[N]``."""
    weights = np.array(config.weights or [1.0] * len(config.counts))
    counts = random.choice(config.counts, config.num_scenes, p=weights / weights.sum())
    return counts.astype(np.int32)


def scene(
    random: np.random.RandomState, pool: Pictures, config: SceneConfig, count: int
) -> tuple[list[Thing], np.ndarray]:
    """Draws one scene of ``count`` objects by the overlap rule: its objects, and its image.

    Raises:
        InputError: if it cannot be drawn (too many objects).
    """
    for _ in range(ATTEMPTS):
        things: list[Thing] = []
        try:
            for _ in range(count):
                things.append(_thing(random, pool, config, things))
        except _NoRoom:
            continue
        canvas = np.zeros((config.height, config.width, *pool.colours), np.int32)
        for thing in things:
            h, w = thing.pixels.shape[:2]
            canvas[thing.top : thing.top + h, thing.left : thing.left + w] += thing.pixels
        if config.overlap != "redraw" or canvas.max() <= 255:
            return things, np.minimum(canvas, 255).astype(np.uint8)
    raise _too_full(config, count)


def _thing(
    random: np.random.RandomState, pool: Pictures, config: SceneConfig, others: list[Thing]
) -> Thing:
    """Draws one object that the rule of overlap allows beside ``others``."""
    largest = min(config.height, config.width)
    for _ in range(ATTEMPTS):
        index, top, left = random.random_sample(3)
        scale = random.normal(config.scale_mean, config.scale_sd)
        side = int(config.object_size / scale) if scale > 0 else 0
        if not 1 <= side <= largest:
            continue
        index = int(index * len(pool.labels))
        image = pool.picture(index).resize((side, side), Image.Resampling.BICUBIC)
        pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(side, side, *pool.colours)
        thing = Thing(
            pixels,
            int(pool.labels[index]),
            int(top * (config.height - side + 1)),
            int(left * (config.width - side + 1)),
        )
        if config.overlap == "limited":
            return thing._replace(**_free_place(top, side, config, others))
        if config.overlap != "apart" or not any(_meet(thing.box(), o.box()) for o in others):
            return thing
    raise _too_full(config, len(others) + 1)


def _free_place(u: float, side: int, config: SceneConfig, others: list[Thing]) -> dict[str, int]:
    """Of all places of a square that share few enough pixels with the others, the one at u, a
    number in [0, 1); ``_NoRoom`` if there is none."""
    boxes = np.array([(o.top, o.left, *o.pixels.shape[:2]) for o in others]).reshape(-1, 4)
    top, left, h, w = boxes.T
    pairs = _common(top[:, None], h[:, None], top, h) * _common(left[:, None], w[:, None], left, w)
    height, width = config.height - side + 1, config.width - side + 1
    rows = _common(np.arange(height)[:, None], side, top, h)
    columns = _common(np.arange(width)[:, None], side, left, w)
    free = np.flatnonzero(rows @ columns.T <= config.shared - np.triu(pairs, 1).sum())
    if not len(free):
        raise _NoRoom
    top, left = divmod(int(free[int(u * len(free))]), width)
    return {"top": top, "left": left}


def _common(begin: Any, length: Any, other: Any, other_length: Any) -> np.ndarray:
    """The length that each interval has in common with each other one."""
    return np.maximum(
        0, np.minimum(begin + length, other + other_length) - np.maximum(begin, other)
    )


def tight_box(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """``x0, y0, x1, y1`` around the visible pixels of ``[h, w]`` or ``[h, w, 3]``; around the whole
    image if none is visible."""
    h, w = pixels.shape[:2]
    visible = (pixels.reshape(h, w, -1) > VISIBLE).any(-1)
    rows, columns = np.any(visible, axis=1), np.any(visible, axis=0)
    if not rows.any():
        return 0, 0, w, h
    return (
        int(columns.argmax()),
        int(rows.argmax()),
        w - int(columns[::-1].argmax()),
        h - int(rows[::-1].argmax()),
    )


def _meet(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _too_full(config: SceneConfig, count: int) -> InputError:
    rule = f"must fit a canvas of {config.height} x {config.width} with overlap {config.overlap!r}"
    return InputError("counts", f"{rule} within {ATTEMPTS} draws", count)
