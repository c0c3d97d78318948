"""Folders of pictures: PNG, JPEG, TIFF, BMP and WebP files as images of bright objects on a dark
background. Nothing is ever written there."""

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from airjax.config import PictureConfig
from airjax.data.crops import random_crops
from airjax.data.dataset import HELD_OUT, Dataset, part_of
from airjax.data.files import picture_files
from airjax.data.placement import SWAPPED, UPRIGHT, Placement
from airjax.errors import InputError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # decoders of other formats may run other programs
BRIGHT = 0.5  # pictures with a background above this are inverted
COLOURFUL = 0.1, 1e-3  # least difference of a pixel's channels, and least share of such pixels
SAMPLED = 200  # pictures that decide whether to invert, and whether there are colours
WIDE = {"I;16": 65535.0, "I;16B": 65535.0, "I": 65535.0, "F": 1.0}  # modes that are not 8 bit


class Picture(NamedTuple):
    """Intensities, colours (if the file has any) and opacities: float32 ``[H, W]``, ``[H, W, 3]``
    and ``[H, W]``, in [0, 1]; upright. ``orientation`` is EXIF's, of the file."""

    grey: np.ndarray
    colours: np.ndarray | None
    alpha: np.ndarray
    orientation: int = UPRIGHT


class ReadImage(NamedTuple):
    """An image, its file, and where it lies in it."""

    path: Path
    image: np.ndarray
    placement: Placement


class Broken(NamedTuple):
    """A file that cannot be read as a picture, and why."""

    path: Path
    why: str


def read_picture(path: Path, max_pixels: int | None = None) -> Picture | Broken:
    """Reads one file and turns it upright by its EXIF data.

    Args:
        path: of the file; the format is that of its content, not of its name.
        max_pixels: larger pictures are not decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about EXIF data: it can be read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as opened:
                if max_pixels is not None and opened.width * opened.height > max_pixels:
                    size = f"{opened.width} x {opened.height}"
                    raise ValueError(f"must have at most {max_pixels} pixels, has {size}")
                orientation = opened.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
                picture = _as_picture(ImageOps.exif_transpose(opened))
                return picture._replace(orientation=orientation)
    except Exception as error:  # Pillow raises whatever its decoders raise
        return Broken(path, " ".join(str(error).split()) or type(error).__name__)


def _as_picture(image: Image.Image) -> Picture:
    if image.mode in WIDE:
        grey = np.asarray(image, np.float32) / WIDE[image.mode]
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise ValueError("values must be 16 bit, or floats in [0, 1]")
        return Picture(grey, None, np.ones_like(grey))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    else:
        alpha = np.ones((image.height, image.width), np.float32)
    without_colours = image.mode in ("1", "L", "LA")
    image = image.convert("RGB")
    grey = np.asarray(image.convert("L"), np.float32) / 255
    return Picture(grey, None if without_colours else np.asarray(image, np.float32) / 255, alpha)


def is_bright(pictures: Iterable[Picture]) -> bool:
    """Whether the background of pictures is bright: the median of their borders. If all borders are
    transparent: whether the visible pixels are dark."""
    borders, seen = [], []
    for grey, _, alpha, _ in pictures:
        border = np.ones(grey.shape, bool)
        border[1:-1, 1:-1] = False
        borders.append(grey[border & (alpha > 0.5)])
        if not len(borders[-1]):
            seen.append(grey[alpha > 0.5])
    values = np.concatenate(borders) if borders else np.zeros(0)
    if len(values):
        return bool(np.median(values) > BRIGHT)
    values = np.concatenate(seen) if seen else np.zeros(0)
    return bool(len(values) and np.median(values) < BRIGHT)


def is_colourful(picture: Picture) -> bool:
    """Whether a picture has visible colours."""
    if picture.colours is None:
        return False
    spread, share = COLOURFUL
    return bool((np.ptp(picture.colours, axis=-1) * picture.alpha > spread).mean() > share)


def as_image(picture: Picture, config: PictureConfig) -> np.ndarray:
    """The uint8 image, ``[H, W]`` or ``[H, W, 3]``; ``invert`` and ``colour`` must be decided."""
    value, alpha = picture.grey, picture.alpha
    if config.colour == "yes":
        value = np.stack([value] * 3, axis=-1) if picture.colours is None else picture.colours
        alpha = alpha[..., None]
    value = (1 - value if config.invert == "yes" else value) * alpha
    if config.image_size is not None:
        value = _fitted(value, config.image_size)
    return np.round(np.clip(value, 0, 1) * 255).astype(np.uint8)


def placed(picture: Picture, config: PictureConfig) -> Placement:
    """Where the image of `as_image` lies in the file."""
    height, width = picture.grey.shape
    file = (width, height) if picture.orientation in SWAPPED else (height, width)
    if config.image_size is None:
        return Placement(file, picture.orientation)
    fitted_height, fitted_width, top, left = _fit((height, width), config.image_size)
    scale = fitted_height / height, fitted_width / width
    return Placement(file, picture.orientation, scale, (top, left))


def _fit(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Height, width, top and left of a picture that is scaled to fit, and centred."""
    ratio = min(size[0] / shape[0], size[1] / shape[1])
    height = min(max(round(shape[0] * ratio), 1), size[0])
    width = min(max(round(shape[1] * ratio), 1), size[1])
    return height, width, (size[0] - height) // 2, (size[1] - width) // 2


def _fitted(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image scaled to fit ``size`` (Pillow's antialiased bilinear filter), and centred."""
    if value.ndim == 3:
        return np.stack([_fitted(colour, size) for colour in np.moveaxis(value, -1, 0)], axis=-1)
    height, width, top, left = _fit(value.shape, size)
    scaled = Image.fromarray(value).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.zeros(size, np.float32)
    canvas[top : top + height, left : left + width] = np.asarray(scaled)
    return canvas


def decided(files: list[Path], config: PictureConfig) -> PictureConfig:
    """The config with ``invert`` and ``colour`` decided from every n-th picture of the folder."""
    if "auto" not in (config.invert, config.colour):
        return config
    colourful = []

    def some() -> Iterator[Picture]:  # one in memory at a time
        for path in files[:: max(1, len(files) // SAMPLED)]:
            picture = read_picture(path)
            if isinstance(picture, Picture):
                colourful.append(is_colourful(picture))
                yield picture

    found = {"invert": is_bright(some()), "colour": any(colourful)}
    auto = {name: value for name, value in found.items() if getattr(config, name) == "auto"}
    return replace(config, **{name: "yes" if value else "no" for name, value in auto.items()})


def read_images(
    files: Iterable[Path], config: PictureConfig, size: tuple[int, ...] | None = None
) -> Iterator[ReadImage | Broken]:
    """The image of each file, or why it cannot be read.

    Args:
        files: of pictures.
        config: with ``invert`` and ``colour`` decided.
        size: height and width of the model's images; images of another size count as broken. With
            ``crop``, images may have any size that is not smaller. Without it, all must have the
            size of the first one.

    Raises:
        InputError: if ``size`` is None and an image has another size than the first one.
    """
    wanted = size
    for path in files:
        picture = read_picture(path)
        if isinstance(picture, Broken):
            yield picture
            continue
        image = as_image(picture, config)
        got = image.shape[:2]
        if config.crop is not None:
            fits = min(got) >= config.crop
            rule = f"must be {config.crop} x {config.crop} pixels or more (--crop)"
        else:
            wanted = wanted or got
            fits = got == wanted
            others = (
                "as the others (or give --size HxW)" if size is None else "as the model's images"
            )
            rule = f"must be {wanted[0]} x {wanted[1]} pixels {others}"
        if fits:
            yield ReadImage(path, image, placed(picture, config))
        elif size is None:
            raise InputError(str(path), rule, f"{got[0]} x {got[1]}")
        else:
            yield Broken(path, f"{rule}, got {got[0]} x {got[1]}")


class Loaded(NamedTuple):
    """What `load_folder` found.

    Attributes:
        parts: the images asked for.
        config: with ``invert`` and ``colour`` decided.
        broken: files that cannot be read.
        passed_over: a line for each kind of files that are no pictures.
    """

    parts: list[Dataset]
    config: PictureConfig
    broken: list[Broken]
    passed_over: list[str]


def load_folder(folder: Path, config: PictureConfig, *parts: str) -> Loaded:
    """Parts of the pictures in a folder.

    Args:
        folder: of pictures.
        config: how pictures become images. With ``crop``, the parts are random crops.
        parts: ``train``, ``test`` (every tenth picture, by path) or ``all``. With fewer than ten
            pictures, held-out crops are other crops of the same pictures.

    Raises:
        InputError: if there are no pictures, or too few to hold some out, or of several sizes.
    """
    found, name = picture_files(folder), folder.name or str(folder)
    files = found.files
    if len(files) < HELD_OUT and "test" in parts and config.crop is None:
        rule = f"must hold {HELD_OUT} pictures or more to hold some out; of fewer, larger ones, "
        raise InputError("data", f"{rule}--crop trains on parts", len(files))
    config, broken = decided(files, config), dict[Path, Broken]()

    def images(files: list[Path]) -> Iterator[np.ndarray]:
        for read in read_images(files, config):
            if isinstance(read, Broken):
                broken[read.path] = read
            else:
                yield read.image
        if broken.keys() >= set(files):
            raise InputError(str(files[0]), f"cannot be read ({broken[files[0]].why})")

    def crops(part: str) -> Dataset:
        chosen = part_of(len(files), "data", part if len(files) >= HELD_OUT else "all", every=True)
        some = [file for file, is_chosen in zip(files, chosen, strict=True) if is_chosen]
        assert config.crop is not None
        return Dataset(random_crops(images(some), len(some), config.crop, part), name=name)

    if config.crop is not None:
        made = [replace(crops(part), part=part) for part in parts]
    else:
        whole = Dataset(np.stack(list(images(files))), name=name)
        made = [whole.part_named(part, "data", every=True) for part in parts]
    return Loaded(made, config, list(broken.values()), found.report())
