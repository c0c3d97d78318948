"""Omniglot's small split (Lake, Salakhutdinov and Tenenbaum, 2015): handwritten characters, and the
pen strokes that they were drawn with."""

import hashlib
import io
import logging
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from airjax.data.cache import cache_dir, on_disk
from airjax.errors import InputError

SOURCE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
FILES = {
    "train": ("images_background_small1.zip", "strokes_background_small1.zip"),
    "test": ("images_background_small2.zip", "strokes_background_small2.zip"),
}
# both files have Greek and Latin, with the same drawings: they are no test
ALPHABETS = {
    "train": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "test": ("Japanese_(katakana)", "Sanskrit", "Tagalog"),
}
_SHA256 = """
f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4  images_background_small1.zip
3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f  images_background_small2.zip
8cb3960fb6cf4ccf5f064ad83169f828c36c36782a0f6e7faacb7ecfae4468a2  strokes_background_small1.zip
345bf2141efbea062833dbb2828abbc23d9e07825e46f2afdd4daecddfed6e78  strokes_background_small2.zip
"""
SHA256 = {name: digest for digest, name in map(str.split, _SHA256.strip().splitlines())}
MEMBER = re.compile(r"[\w]+/(?P<glyph>(?P<alphabet>[^/]+)/character\d+/\d+_\d+)\.(?:png|txt)")

Stroke = Float[np.ndarray, "points 2"]


class Glyphs(NamedTuple):
    """Characters, each drawn by twenty people.

    Attributes:
        images: 105 x 105, bright ink (255) on black.
        strokes: of each glyph, in the order in which they were drawn: x, y in pixels of the image
            (pixel i covers ``[i, i + 1]``).
        names: of each glyph, ``alphabet/character/character_drawer``.
    """

    images: UInt8[np.ndarray, "N 105 105"]
    strokes: list[list[Stroke]]
    names: list[str]


def load_omniglot(part: str, data_dir: Path | None = None) -> Glyphs:
    """The 2,720 glyphs of five alphabets (``part="train"``), or 2,120 of three others ("test").

    The files are taken from ``data_dir`` (or its folder ``omniglot``), from the folder ``omniglot``
    in ``AIRJAX_DATA_DIR``, or downloaded to the user's cache.

    Raises:
        InputError: if a file is damaged, or not found and cannot be downloaded.
    """
    pictures, texts = (
        dict(_members(_archive(name, data_dir), ALPHABETS[part])) for name in FILES[part]
    )
    names = sorted(pictures)
    images = np.stack([np.asarray(Image.open(io.BytesIO(pictures[name]))) for name in names])
    ink = np.where(images, 0, 255).astype(np.uint8)
    return Glyphs(ink, [strokes_of(texts[name].decode()) for name in names], names)


def strokes_of(text: str) -> list[Stroke]:
    """The strokes in a file of Omniglot: lines ``x,y,milliseconds``, a line BREAK after each
    stroke. There, y falls downwards from 0, and whole numbers are the centres of pixels."""
    strokes = [stroke.split() for stroke in text.replace("START", "").split("BREAK")]
    points = [np.array([line.split(",")[:2] for line in stroke], float) for stroke in strokes[:-1]]
    return [each * (1, -1) + 0.5 for each in points]


def _members(content: bytes, alphabets: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The names of glyphs of these alphabets in an archive, and their files' content."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            match = MEMBER.fullmatch(name)
            if match and match["alphabet"] in alphabets:
                yield match["glyph"], archive.read(name)


def _archive(name: str, data_dir: Path | None) -> bytes:
    """The checked content of a file."""
    path = on_disk("omniglot", name, data_dir)
    if path is None:
        return _download(name)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        rule = f"must be Omniglot's file: its sha256 must be {SHA256[name]}"
        raise InputError(str(path), rule, digest)
    return content


def _download(name: str) -> bytes:
    import pooch  # slow, and needed once

    pooch.get_logger().setLevel(logging.WARNING)
    try:  # pooch downloads a damaged file again, and keeps none whose hash is another
        path = pooch.retrieve(
            SOURCE + name, SHA256[name], fname=name, path=cache_dir() / "omniglot"
        )
    except Exception as error:  # pooch raises errors of requests, urllib3 and ssl
        rule = f"could not be downloaded ({SOURCE}: {type(error).__name__}); put it into a folder"
        rule = f"{rule} and name that folder with data_dir or AIRJAX_DATA_DIR"
        raise InputError(name, rule) from None
    return Path(path).read_bytes()
