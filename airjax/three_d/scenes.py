"""Scenes of solids to train on and to test with."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from airjax.errors import InputError
from airjax.three_d.renderer import Camera, over, render, table
from airjax.three_d.shapes import Shape

FARTHEST = 0.9  # x and y of objects
APART = 0.55  # least distance between objects
NOISE = 0.02  # standard deviation
SOFTNESS = 0.015  # of the renderer
TRIES = 100  # at one more object, before a scene begins anew
CHUNK = 250  # scenes rendered at once

# images in [0, 1] of scenes, given their counts, kinds and poses
Draw = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class SolidScenes(NamedTuple):
    """Images, and what is in them; the first ``counts`` objects of each row are there."""

    images: UInt8[np.ndarray, "N H W 3"]
    counts: Int[np.ndarray, " N"]
    kinds: Int[np.ndarray, "N T"]
    poses: Float[np.ndarray, "N T 3"]


def scenes(
    shapes: tuple[Shape, ...],
    n: int,
    seed: int,
    counts: tuple[int, ...] = (0, 1, 2, 3),
    camera: Camera | None = None,
    draw: Draw | None = None,
) -> SolidScenes:
    """n scenes whose counts are equally likely.

    Args:
        shapes: the kinds.
        n: number of scenes.
        seed: of counts, kinds, poses and noise.
        counts: of objects.
        camera: of the images.
        draw: another renderer.

    Raises:
        InputError: if there are no counts, or more objects than fit on the table.
    """
    if not counts or max(counts) > 6 or min(counts) < 0:
        raise InputError("counts", "must be from 0 to 6", counts)
    camera, rng = camera or Camera(), np.random.default_rng(seed)
    number = rng.choice(counts, n)
    kinds = rng.integers(0, len(shapes), (n, max(counts)))
    poses = np.stack([_poses(rng, max(counts)) for _ in range(n)]).astype(np.float32)
    draw = draw or functools.partial(drawn, camera, shapes)
    images = [
        draw(number[i : i + CHUNK], kinds[i : i + CHUNK], poses[i : i + CHUNK])
        for i in range(0, n, CHUNK)
    ]
    noisy = np.concatenate(images) + rng.normal(0, NOISE, (n, camera.size, camera.size, 3))
    pixels = np.clip(255 * noisy + 0.5, 0, 255).astype(np.uint8)
    return SolidScenes(pixels, number, kinds, poses)


def _poses(rng: np.random.Generator, n: int) -> Float[np.ndarray, "T 3"]:
    """Poses of n objects that do not touch."""
    while True:
        placed: list[np.ndarray] = []
        for _ in range(TRIES):
            here = rng.uniform(-FARTHEST, FARTHEST, 2)
            if len(placed) < n and all(np.hypot(*(here - p)) > APART for p in placed):
                placed.append(here)
        if len(placed) == n:
            angles = rng.uniform(0, 2 * np.pi, (n, 1))
            return np.concatenate([np.reshape(placed, (n, 2)), angles], axis=1)


def drawn(
    camera: Camera,
    shapes: tuple[Shape, ...],
    counts: Int[np.ndarray, " N"],
    kinds: Int[np.ndarray, "N T"],
    poses: Float[np.ndarray, "N T 3"],
) -> Float[np.ndarray, "N H W 3"]:
    """Images in [0, 1] of scenes as a camera sees them, without noise."""
    objects = np.zeros((kinds.shape[1], len(counts), camera.size, camera.size, 4), np.float32)
    for i, shape in enumerate(shapes):
        for t in range(kinds.shape[1]):
            images = np.asarray(render(camera, shape, jnp.asarray(poses[:, t]), SOFTNESS))
            here = (kinds[:, t] == i) & (counts > t)
            objects[t, here] = images[here]
    flat = np.concatenate([poses[..., :2], np.zeros_like(poses[..., :1])], axis=-1)
    order = np.argsort(-np.asarray(camera.project(jnp.asarray(flat))[2]), axis=1).T
    objects = np.take_along_axis(objects, order[..., None, None, None], axis=0)
    return np.asarray(over(table(camera)[None], jnp.asarray(objects)))
