"""Folders of pictures: PNG, JPEG, TIFF, BMP and WebP files as images of bright objects on a dark
ground. Nothing is ever written there."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from airjax.config import PictureConfig
from airjax.data.dataset import Dataset
from airjax.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
BRIGHT = 0.5  # a ground above this is inverted
LOOKED_AT = 200  # pictures that decide whether to invert
WIDE = {"I;16": 65535.0, "I;16B": 65535.0, "I": 65535.0, "F": 1.0}  # modes that are not 8 bit


class Picture(NamedTuple):
    """Intensities and opacities, float32 ``[H, W]`` in [0, 1]."""

    grey: np.ndarray
    alpha: np.ndarray


class Broken(NamedTuple):
    """A file that is no picture, and why."""

    path: Path
    why: str


def picture_files(folder: Path) -> list[Path]:
    """All picture files in a folder and those below it, by path; a file is the only one of itself.

    Raises:
        InputError: if there is none.
    """
    if folder.is_file():
        return [folder]
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = sorted((path for path in found if path.is_file()), key=lambda p: p.as_posix())
    if not files:
        rule = f"must hold pictures ({', '.join(SUFFIXES)}) or be an .npz file; there are none"
        raise InputError("data", rule, folder)
    return files


def read_picture(path: Path) -> Picture | Broken:
    """One file, turned upright as its EXIF data say, colours as grey."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a decompression bomb, say
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                return _as_picture(image)
    except Exception as error:  # Pillow passes on whatever its decoders raise
        return Broken(path, " ".join(str(error).split()) or type(error).__name__)


def _as_picture(image: Image.Image) -> Picture:
    if image.mode in WIDE:
        grey = np.asarray(image, np.float32) / WIDE[image.mode]
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise ValueError("values must be 16 bit, or floats in [0, 1]")
        return Picture(grey, np.ones_like(grey))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    else:
        alpha = np.ones((image.height, image.width), np.float32)
    grey = np.asarray(image.convert("RGB").convert("L"), np.float32) / 255
    return Picture(grey, alpha)


def is_bright(pictures: Iterable[Picture]) -> bool:
    """Whether the ground of pictures is bright: the median of their borders. Where all borders are
    transparent: whether what can be seen is dark."""
    borders, seen = [], []
    for grey, alpha in pictures:
        border = np.ones(grey.shape, bool)
        border[1:-1, 1:-1] = False
        borders.append(grey[border & (alpha > 0.5)])
        if not len(borders[-1]):
            seen.append(grey[alpha > 0.5])
    values = np.concatenate(borders)
    if len(values):
        return bool(np.median(values) > BRIGHT)
    values = np.concatenate(seen) if seen else np.zeros(0)
    return bool(len(values) and np.median(values) < BRIGHT)


def as_image(picture: Picture, config: PictureConfig) -> np.ndarray:
    """The uint8 image ``[H, W]``; ``config.invert`` must be decided."""
    grey = 1 - picture.grey if config.invert == "yes" else picture.grey
    value = grey * picture.alpha
    if config.image_size is not None:
        value = _fitted(value, config.image_size)
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def _fitted(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scaled (with Pillow's antialiased bilinear filter) to fit ``size``, in its middle."""
    ratio = min(size[0] / value.shape[0], size[1] / value.shape[1])
    height = min(max(round(value.shape[0] * ratio), 1), size[0])
    width = min(max(round(value.shape[1] * ratio), 1), size[1])
    scaled = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.zeros(size, np.float32)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas[top : top + height, left : left + width] = np.asarray(scaled)
    return canvas


def decided(files: list[Path], config: PictureConfig) -> PictureConfig:
    """The config with ``invert`` decided, by pictures from all over the folder."""
    if config.invert != "auto":
        return config
    some = files[:: max(1, len(files) // LOOKED_AT)]
    pictures = (read_picture(path) for path in some)
    bright = is_bright(picture for picture in pictures if isinstance(picture, Picture))
    return replace(config, invert="yes" if bright else "no")


def read_images(
    files: Iterable[Path], config: PictureConfig, size: tuple[int, int] | None = None
) -> Iterator[tuple[Path, np.ndarray] | Broken]:
    """Each file's image, or why there is none.

    Args:
        files: of pictures.
        config: with ``invert`` decided.
        size: that images must have; that of the first one unless given.

    Raises:
        InputError: if an image has another size.
    """
    for path in files:
        picture = read_picture(path)
        if isinstance(picture, Broken):
            yield picture
            continue
        image = as_image(picture, config)
        size = size or image.shape
        if image.shape != size:
            rule = f"must be {size[0]} x {size[1]} pixels as the others (or give --size HxW)"
            raise InputError(str(path), rule, f"{image.shape[0]} x {image.shape[1]}")
        yield path, image


def load_folder(folder: Path, config: PictureConfig) -> tuple[Dataset, PictureConfig, list[Broken]]:
    """All pictures of a folder, by path; the settings with ``invert`` decided; and broken files.

    Raises:
        InputError: if there is no picture, or they have several sizes.
    """
    files = picture_files(folder)
    config = decided(files, config)
    images, broken = [], []
    for read in read_images(files, config):
        if isinstance(read, Broken):
            broken.append(read)
        else:
            images.append(read[1])
    if not images:
        raise InputError(str(broken[0].path), f"cannot be read ({broken[0].why})")
    return Dataset(np.stack(images), name=folder.name or str(folder)), config, broken
