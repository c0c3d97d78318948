"""Scenes as other papers compose them, made here from their descriptions; each function names its
source. Where a pool needs a download, or is not free, MNIST's digits or our own shapes take its
place, and the function says so."""

import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from airjax.data.composer import Pool, SceneConfig, compose, tight_box
from airjax.data.dataset import Dataset
from airjax.data.painted import Random, Style, painted
from airjax.data.sprites import mask

LINES = 5  # pixels from a line of a grid to the next
LEVELS = np.array([0, 0.25, 0.5, 0.75, 1])  # of each channel of a colour of multi-dSprites
SPRITES = ("disc", "square", "diamond")
SHAPES = ("square", "ellipse", "heart")
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of dSprites' shapes
TURNS = 40  # orientations of dSprites' shapes
HALF = 11.0  # pixels, half a side of the square at scale 1


def noisy(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Scenes with noise: ``0.8 x + 0.1 + Normal(0, 0.2)``, clipped to [0, 1].

    Source: Stelzner, Peharz and Kersting, Faster Attend-Infer-Repeat with tractable probabilistic
    models, 2019 (SuPAIR).
    """
    scenes = compose(pool, config, name, part)
    random, images = np.random.RandomState([config.seed, 1]), np.empty_like(scenes.images)
    for i, image in enumerate(scenes.images):  # one by one: bounds the memory
        value = 0.8 * (image / 255) + 0.1 + random.normal(0, 0.2, image.shape)
        images[i] = np.round(np.clip(value, 0, 1) * 255)
    return replace(scenes, images=images)


def on_grid(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Scenes over a grid: ``max(x, 0.4)`` on lines of one pixel every five pixels, whose offset is
    random in each scene. Source: SuPAIR, as `noisy`."""
    scenes = compose(pool, config, name, part)
    offsets = np.random.RandomState([config.seed, 1]).randint(LINES, size=(len(scenes), 2))
    images = scenes.images.copy()
    for image, (top, left) in zip(images, offsets, strict=True):
        for line in (image[top::LINES], image[:, left::LINES]):
            np.maximum(line, round(0.4 * 255), out=line)
    return replace(scenes, images=images)


def no_pool(part: str, data_dir: Path | None = None) -> Pool:
    """An empty pool, for shapes that are drawn; no argument is used."""
    return Pool(np.zeros((0, 1, 1), np.uint8), np.zeros(0, np.int32))


def supair_sprites(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Red discs, green squares and blue diamonds on black, 12 to 16 pixels wide, that share no
    pixel. Source: SuPAIR, as `noisy`."""
    colours = np.eye(3)

    def shape(random: Random, pool: Pool, config: SceneConfig) -> tuple[np.ndarray, int]:
        label, side = random.randint(len(SPRITES)), random.randint(12, 17)
        return np.round(mask(SPRITES[label], side)).astype(np.uint8), label

    style = Style(shape, lambda _, label: colours[label], lambda _: np.zeros(3), 0.0, 1.0)
    return painted(pool, config, name, part, style)


def occluded_sprites(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Discs, squares and diamonds on black, 14 to 20 pixels wide, of which later ones hide earlier
    ones; a quarter of each is visible. Hues are random, saturations 0.5 to 1. Our own."""

    def shape(random: Random, pool: Pool, config: SceneConfig) -> tuple[np.ndarray, int]:
        label, side = random.randint(len(SPRITES)), random.randint(14, 21)
        return np.round(mask(SPRITES[label], side)).astype(np.uint8), label

    def colour(random: Random, label: int) -> np.ndarray:
        return np.array(colorsys.hsv_to_rgb(random.uniform(), random.uniform(0.5, 1), 1.0))

    style = Style(shape, colour, lambda _: np.zeros(3), 0.0, 0.25)
    return painted(pool, config, name, part, style)


def occluded_digits(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Digits, cropped to their tight box and scaled by U(1, 1.5), of which later ones hide earlier
    ones; a quarter of each is visible. Colours of digits and background are random, at a squared
    distance of at least 0.25.

    Source: Yuan, Li and Xue, Generative modeling of infinite occluded objects for compositional
    scene representation, 2019, and the data sets of the same group (Fudan University).
    """

    def shape(random: Random, pool: Pool, config: SceneConfig) -> tuple[np.ndarray, int]:
        index, scale = random.randint(len(pool.labels)), random.uniform(1, 1.5)
        x0, y0, x1, y1 = tight_box(pool.images[index])
        size = round((x1 - x0) * scale), round((y1 - y0) * scale)
        crop = Image.fromarray(pool.images[index][y0:y1, x0:x1])
        return np.asarray(crop.resize(size, Image.Resampling.BILINEAR)), int(pool.labels[index])

    def colour(random: Random, label: int = 0) -> np.ndarray:
        return random.uniform(size=3)

    style = Style(shape, colour, colour, 0.25, 0.25)
    return painted(pool, config, name, part, style)


def multi_dsprites(pool: Pool, config: SceneConfig, name: str, part: str) -> Dataset:
    """Squares, ellipses and hearts of six sizes and any of 40 orientations, of which later ones
    hide earlier ones, in 5^3 colours that differ from the background's. A tenth of each is visible,
    so that the count can be seen.

    Source: Engelcke et al., GENESIS, 2020, whose shapes are those of dSprites (Matthey et al.,
    2017); these are drawn here, with the same sizes, orientations and hard edges.
    """

    def shape(random: Random, pool: Pool, config: SceneConfig) -> tuple[np.ndarray, int]:
        label, scale = random.randint(len(SHAPES)), SCALES[random.randint(len(SCALES))]
        return _turned(SHAPES[label], scale, 2 * np.pi * random.randint(TURNS) / TURNS), label

    def colour(random: Random, label: int = 0) -> np.ndarray:
        return LEVELS[random.randint(len(LEVELS), size=3)]

    style = Style(shape, colour, colour, 0.01, 0.1)
    return painted(pool, config, name, part, style)


def _turned(shape: str, scale: float, angle: float) -> np.ndarray:
    """A shape as opacities, 0 or 255, in its tight box."""
    reach = int(np.ceil(1.5 * HALF * scale))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] / (HALF * scale)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if shape == "square":
        inside = np.maximum(np.abs(u), np.abs(v)) <= 1
    elif shape == "ellipse":
        inside = u**2 + (1.5 * v) ** 2 <= 1.3
    else:
        inside = (u**2 + v**2 - 1) ** 3 + u**2 * v**3 <= 0
    x0, y0, x1, y1 = tight_box(inside * 255)
    return (inside * np.uint8(255))[y0:y1, x0:x1]
