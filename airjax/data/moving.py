"""Digits that move: videos of composed scenes, for tracking."""

import numpy as np
from jaxtyping import Float, Int

from airjax.data.composer import Pictures, Pool, SceneConfig, Thing, drawn_counts, scene
from airjax.data.dataset import Dataset
from airjax.errors import InputError

FRAMES = 20  # of a sequence
STEP = 0.1  # what an object moves from a frame to the next, of the room that it has


def moving(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Scenes whose objects move: each has a constant speed and a random direction, bounces off the
    border, and crosses the others; sums are clipped. A sequence has ``FRAMES`` frames; the last
    one is shorter if ``config.num_scenes`` is no multiple of it.

    Source: Srivastava, Mansimov and Salakhutdinov, Unsupervised learning of video representations
    using LSTMs, 2015 (moving MNIST). There, two digits of 28 pixels move on 64 x 64, and the
    brighter one is seen where they cross. Here, scenes begin as those of multi-MNIST, with its
    counts, sizes and canvas, and digits add up. A digit turns where it meets the border; there, it
    stays at the border for the rest of that step.

    Args:
        pool: that objects are drawn from.
        config: of the scenes; ``num_scenes`` is the number of all frames.
        name: of the data set.
        part: of it.

    Returns:
        the frames, with ``sequences``, and in each frame the objects in the same order.

    Raises:
        InputError: if ``config.overlap`` is not clip.
    """
    if config.overlap != "clip":
        rule = f"must be clip: objects of {name} cross each other"
        raise InputError("overlap", rule, config.overlap)
    random, pictures = np.random.RandomState(config.seed), Pictures(pool)
    n, most = config.num_scenes, max(config.counts)
    images = np.zeros((n, config.height, config.width, *pictures.colours), np.uint8)
    labels = np.full((n, most), -1, np.int32)
    boxes = np.full((n, most, 4), -1, np.float32)
    sequences = (np.arange(n) // FRAMES).astype(np.int32)
    counts = drawn_counts(random, config)[sequences]
    for first in range(0, n, FRAMES):
        things, _ = scene(random, pictures, config, int(counts[first]))
        ways = [_way(random, thing, config) for thing in things]
        for t, i in enumerate(range(first, min(first + FRAMES, n))):
            moved = [
                thing._replace(top=int(way[t, 0]), left=int(way[t, 1]))
                for thing, way in zip(things, ways, strict=True)
            ]
            images[i] = _drawn(moved, images[i])
            for j, thing in enumerate(moved):
                labels[i, j], boxes[i, j] = thing.label, thing.box()
    return Dataset(images, counts, labels, boxes, name, part, sequences=sequences)


def _way(
    random: np.random.RandomState, thing: Thing, config: SceneConfig
) -> Int[np.ndarray, "frames 2"]:
    """Top and left of an object in each frame."""
    h, w = thing.pixels.shape[:2]
    room = np.array([config.height - h, config.width - w], float)
    angle = random.uniform(0, 2 * np.pi)
    velocity = STEP * room.min() * np.array([np.sin(angle), np.cos(angle)])
    free = np.array([thing.top, thing.left]) + np.arange(FRAMES)[:, None] * velocity
    return np.round(reflected(free, room)).astype(int)


def reflected(free: Float[np.ndarray, "n k"], room: Float[np.ndarray, " k"]) -> np.ndarray:
    """Places that were reached without borders, as they are if each of 0 and ``room`` reflects."""
    turned = np.mod(free, 2 * np.maximum(room, 1e-9))
    return np.minimum(np.minimum(turned, 2 * room - turned).clip(0), room)


def _drawn(things: list[Thing], black: np.ndarray) -> np.ndarray:
    """The sum of objects, clipped."""
    canvas = black.astype(np.int32)
    for thing in things:
        h, w = thing.pixels.shape[:2]
        canvas[thing.top : thing.top + h, thing.left : thing.left + w] += thing.pixels
    return np.minimum(canvas, 255).astype(np.uint8)
