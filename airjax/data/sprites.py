"""Coloured sprites: squares, triangles and discs, drawn here."""

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from airjax.data.composer import Pool

SIDE = 28  # pixels of a sprite
FINER = 4  # supersampling factor, for smooth edges
NUMBER = {"train": 3000, "test": 1000}
SHAPES = ("square", "triangle", "disc")


def load_sprites(part: str, data_dir: Path | None = None) -> Pool:
    """3,000 (``part="train"``) or 1,000 other sprites, uint8 ``[M, 28, 28, 3]``, with the index in
    ``SHAPES`` as their class. Hues are random, saturations 0.5 to 1. ``data_dir`` is not used."""
    random = np.random.RandomState(list(NUMBER).index(part))
    labels = random.randint(len(SHAPES), size=NUMBER[part])
    hues, saturations = random.random_sample(len(labels)), random.uniform(0.5, 1, len(labels))
    masks = np.stack([mask(shape) for shape in SHAPES])
    colours = [colorsys.hsv_to_rgb(*hs, 1.0) for hs in zip(hues, saturations, strict=True)]
    sprites = masks[labels][..., None] * np.array(colours)[:, None, None, :]
    return Pool(np.round(sprites).astype(np.uint8), labels.astype(np.int32))


def mask(shape: str, side: int = SIDE) -> np.ndarray:
    """How much of each pixel a shape (of ``SHAPES``, or a diamond) covers: float ``[side, side]``,
    0 to 255."""
    last = FINER * side - 1
    picture = Image.new("L", (last + 1, last + 1))
    pen = ImageDraw.Draw(picture)
    if shape == "square":
        pen.rectangle((0, 0, last, last), fill=255)
    elif shape == "disc":
        pen.ellipse((0, 0, last, last), fill=255)
    elif shape == "diamond":
        middle = last / 2
        pen.polygon(((middle, 0), (last, middle), (middle, last), (0, middle)), fill=255)
    else:
        pen.polygon(((last / 2, 0), (last, last), (0, last)), fill=255)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX), float)
