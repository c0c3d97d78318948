"""Pictures of tracks: the way of each object over the first frame."""

import colorsys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from airjax.tracking.frames import DRAWN
from airjax.tracking.tracks import Tracks, places_of

LARGE = 1000  # pixels that the larger side is enlarged to, at most
ZOOM = 4
COLUMNS, BORDER = 5, 4  # of the videos in one picture
GOLDEN = 0.618  # of the circle of hues, from a track to the next: neighbours differ
Way = Float[np.ndarray, "n 2"]


def picture(tracks: Tracks) -> Image.Image:
    """The tracks over the first frame of their video; of several videos, the first ``DRAWN``."""
    frames, drawn = tracks.frames, list[Image.Image]()
    for sequence in frames.sequences[:DRAWN]:
        ways: dict[int, list[np.ndarray]] = {}
        for i in sequence:
            if i in frames.pictures:
                for xy, track in zip(places_of(frames.pictures[i]), tracks.links[i].particle,
                                     strict=True):  # fmt: skip
                    ways.setdefault(int(track), []).append(xy)
        size = next(iter(frames.pictures.values())).size
        image = frames.images.get(sequence.start, np.zeros(size, np.uint8))
        several = COLUMNS if len(frames.sequences) > 1 else 1
        zoom = max(1, min(ZOOM, LARGE // (several * max(size))))
        drawn.append(_over(image, {track: np.array(way) for track, way in ways.items()}, zoom))
    return drawn[0] if len(drawn) == 1 else _sheet(drawn)


def _over(image: UInt8[np.ndarray, "H W"], ways: dict[int, Way], zoom: int) -> Image.Image:
    """An enlarged, darkened picture with a line for each track, and a dot where it ends."""
    height, width = image.shape
    made = Image.fromarray(image // 2 + image // 8).convert("RGB")
    made = made.resize((zoom * width, zoom * height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(made)
    for track, way in ways.items():
        bright = colorsys.hsv_to_rgb(GOLDEN * track % 1, 0.7, 1.0)
        colour = tuple(round(255 * part) for part in bright)
        points = [(float(x), float(y)) for x, y in zoom * way]
        if len(points) > 1:
            pen.line(points, fill=colour, width=1 if zoom == 1 else 2)
        x, y = points[-1]
        pen.ellipse((x - zoom / 2, y - zoom / 2, x + zoom / 2, y + zoom / 2), fill=colour)
    return made


def _sheet(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size in rows of ``COLUMNS``."""
    width, height = (side + BORDER for side in pictures[0].size)
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (min(len(pictures), COLUMNS) * width, rows * height), "grey")
    for i, each in enumerate(pictures):
        sheet.paste(each, (i % COLUMNS * width, i // COLUMNS * height))
    return sheet
