"""Picture files as arrays of their own values: TIFF by tifffile, everything else by Pillow."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps, ImageSequence

from airjax.data.placement import SWAPPED, UPRIGHT

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # decoders of other formats may run other programs
MAX_PIXELS = 500_000_000  # of a file, all pages together: a header may claim anything
MAX_PAGES = 10_000
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how TIFF and BigTIFF begin
GREY = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
COMBINED = ("max", "mean", "first")  # how pages become one
Contents = Callable[[Path], bytes]  # of files that are elsewhere


class Frame(NamedTuple):
    """One picture of a file, upright.

    Attributes:
        pixels: values of the file, ``[H, W]`` or, with several channels, ``[H, W, C]``.
        alpha: opacity in [0, 1], ``[H, W]``, or None.
        white: the value that the file's type calls white.
        orientation: EXIF's, of the file.
        page: index of the page in the file; None where there is only one picture.
        is_colour: whether three channels are red, green and blue.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None
    white: float
    orientation: int = UPRIGHT
    page: int | None = None
    is_colour: bool = False


class Broken(NamedTuple):
    """A file that cannot be read as a picture, and why."""

    path: Path
    why: str


def decode(
    path: Path,
    pages: str = "auto",
    max_pixels: int = MAX_PIXELS,
    contents: Contents | None = None,
) -> list[Frame] | Broken:
    """Reads one file and turns it upright by its EXIF data.

    Args:
        path: of the file; the format is that of its content, not of its name.
        pages: ``each`` page is a picture, or the ``first``, or the ``max`` or ``mean`` of all.
            ``auto`` is the maximum of a z-stack, and each page otherwise.
        max_pixels: larger files are not decoded.
        contents: gives the bytes of the file, if it is not one of this machine.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example about EXIF data: it can be read
            # by its path, TIFF's reader also finds the other files of a series
            source = path if contents is None else io.BytesIO(contents(path))
            if isinstance(source, Path):
                with open(source, "rb") as file:
                    start, size = file.read(4), source.stat().st_size
            else:
                start, size = source.getvalue()[:4], len(source.getvalue())
            frames = _tiff(source, size, pages, max_pixels) if start in TIFF else None
            return frames or _pillow(source, pages, max_pixels)
    except Exception as error:  # decoders raise anything
        return Broken(path, " ".join(str(error).split()) or type(error).__name__)


def _check_pixels(pixels: int, shape: Any, max_pixels: int) -> None:
    if pixels > max_pixels:
        size = " x ".join(map(str, shape))
        raise ValueError(f"must have at most {max_pixels} pixels, has {size}")


# TIFF


def _tiff(path: Path | io.BytesIO, size: int, pages: str, max_pixels: int) -> list[Frame] | None:
    """The pictures of the file's first series; None where Pillow has to read it (palettes)."""
    with tifffile.TiffFile(path) as file:
        series, first = file.series[0], file.pages.first
        if first.photometric not in GREY:
            return None
        _check_pixels(int(np.prod(series.shape)), series.shape, max_pixels)
        bits, extra = first.bitspersample, first.extrasamples
        needed = np.prod(series.shape) * (bits if isinstance(bits, int) else min(bits)) / 8
        if first.compression == tifffile.COMPRESSION.NONE and needed > size:
            raise ValueError("is cut off: the file is smaller than its pixels")
        values, axes = series.asarray(), series.axes
        tag = first.tags.get("Orientation")
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise ValueError(f"must hold numbers, has {values.dtype}")
    values = values.astype(values.dtype.newbyteorder("="))
    white = _white(values.dtype, bits)
    if first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = white - values.astype(np.float32)
    channels, alpha = "", None
    if "S" in axes:
        values, alpha = _without_alpha(np.moveaxis(values, axes.index("S"), -1), len(extra), white)
        channels, axes = "S", axes.replace("S", "")
    elif "C" in axes:
        values = np.moveaxis(values, axes.index("C"), -1)
        channels, axes = "C", axes.replace("C", "")
    rest = axes.replace("Y", "").replace("X", "")
    order = [axes.index(axis) for axis in (*rest, "Y", "X")]
    values = np.moveaxis(values, order, range(len(order)))
    stack = values.reshape(-1, *values.shape[len(rest) :])
    if alpha is not None:
        alpha = np.moveaxis(alpha, order, range(len(order))).reshape(-1, *stack.shape[1:3])
    stack = stack[..., 0] if channels and stack.shape[-1] == 1 else stack
    if not np.isfinite(stack).all():
        raise ValueError("values must be finite")
    turned = tag.value if tag is not None and tag.value in range(1, 9) else UPRIGHT
    kind = Frame(stack[0], None, white, int(turned), is_colour=channels == "S")
    pages = ("max" if "Z" in rest else "each") if pages == "auto" else pages
    return _frames(stack, alpha, pages, kind)


def _white(dtype: np.dtype, bits: Any) -> float:
    """The largest value of an integer type, of as many bits as the file says; 1 of floats."""
    if dtype.kind == "f":
        return 1.0
    used = bits if isinstance(bits, int) else max(bits)
    return float(
        2 ** min(used, 8 * dtype.itemsize) - 1 if dtype.kind == "u" else np.iinfo(dtype).max
    )


def _without_alpha(
    values: np.ndarray, extra: int, white: float
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples and opacity, which is the last one of two or four samples if the file says so."""
    if not extra or values.shape[-1] not in (2, 4):
        return values, None
    return values[..., :-1], values[..., -1] / np.float32(white)


# all other formats


def _pillow(path: Path | io.BytesIO, pages: str, max_pixels: int) -> list[Frame]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # checked here
    try:
        with Image.open(path, formats=FORMATS) as opened:
            number = getattr(opened, "n_frames", 1)
            shape = (opened.width, opened.height) + ((number,) if number > 1 else ())
            _check_pixels(int(np.prod(shape)), shape, max_pixels)
            if number == 1 or pages == "first":
                orientation = opened.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
                return [_of_image(ImageOps.exif_transpose(opened), orientation)]
            each = [_of_image(image.copy(), UPRIGHT) for image in ImageSequence.Iterator(opened)]
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    stack = np.stack([frame.pixels for frame in each])
    return _frames(stack, None, "each" if pages == "auto" else pages, each[0])


def _of_image(image: Image.Image, orientation: int) -> Frame:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise ValueError("values must be finite")
        return Frame(values, None, 1.0 if image.mode == "F" else 65535.0, orientation)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
    is_grey = image.mode in ("1", "L", "LA")
    return Frame(
        np.asarray(image.convert("L" if is_grey else "RGB")), alpha, 255.0, orientation,
        is_colour=not is_grey,
    )  # fmt: skip


# both


def _frames(stack: np.ndarray, alpha: np.ndarray | None, pages: str, kind: Frame) -> list[Frame]:
    """The pictures of a stack of pages, ``[N, H, W]`` or ``[N, H, W, C]``."""
    if pages in COMBINED and len(stack) > 1:
        one = {"max": stack.max, "mean": stack.mean, "first": lambda _: stack[0]}[pages](0)
        stack, alpha = one[None], None if alpha is None else alpha[:1]
    if len(stack) > MAX_PAGES:
        raise ValueError(f"must have at most {MAX_PAGES} pages, has {len(stack)}")
    frames = []
    for i, pixels in enumerate(stack):
        opacity = None if alpha is None else _upright(alpha[i], kind.orientation)
        turned = _upright(pixels, kind.orientation)
        page = i if len(stack) > 1 else None
        frames.append(kind._replace(pixels=turned, alpha=opacity, page=page))
    return frames


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A picture of TIFF turned by its orientation; Pillow has turned the others."""
    if orientation in SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
