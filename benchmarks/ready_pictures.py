"""What ready models are trained and measured on: round blobs, and digits, bright on dark.

They are trained on crops as ``airjax train`` makes them of pictures: at the working scale, less the
background, with whole objects only (`airjax.training.whole_objects`). Pictures are to measure them
on: there, magnification, density and haze differ from one to the next. In both, blur, noise, size,
shape and brightness differ. Picture i of a seed depends on both only, whatever their number.
"""

import csv
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.special import expit

from airjax.data.dataset import Dataset
from airjax.data.digits import MARGIN, load_digits

CROP, OBJECT = 48, 16.0  # side of a crop, and typical larger side of an object there, in pixels
MOST = 4  # objects in a crop
SIDES = 160, 321  # height and width of a picture in pixels
SIZES = {"blobs": (9.0, 36.0), "digits": (12.0, 40.0)}  # typical object of a picture, in pixels
COVERED = 0.3  # largest share of a picture that boxes of objects cover
EMPTY = 0.03  # share of the pictures without objects
NEAREST = {"blobs": 0.5, "digits": 1.0}  # least distance of two objects, in sums of their radii
NOISE = {"blobs": 0.08, "digits": 0.02}  # largest standard deviation, where objects have 0.3 to 1
HAZE = {"blobs": 0.25, "digits": 0.05}  # brightest
# what may be left of the background of a crop: first and last value. A smooth blob draws it, as an
# object of which nothing is visible; a digit does not
LEFT = {"blobs": (0.0, -0.02), "digits": (-0.02, 0.04)}
TRIES = 30  # places that are tried for an object
VISIBLE = 0.25  # of an object's brightness; tight boxes are drawn around the pixels above this
Random = np.random.RandomState


class Picture(NamedTuple):
    """A composed picture.

    Attributes:
        image: uint8 ``[H, W]``.
        boxes: ``[n, 4]``, tight boxes x0, y0, x1, y1 in pixels.
    """

    image: np.ndarray
    boxes: np.ndarray


def picture(kind: str, seed: int, i: int, part: str = "train") -> Picture:
    """The i-th picture of a seed.

    Args:
        kind: ``blobs`` or ``digits``.
        seed: of all pictures.
        i: which one.
        part: of the digits, ``train`` or ``test``.
    """
    random = Random([seed, i])
    height, width = random.randint(*SIDES, size=2).tolist()
    low, high = SIZES[kind]
    typical, spread = low * (high / low) ** random.random_sample(), random.uniform(0.03, 0.22)
    most = COVERED * random.random_sample() * height * width / typical**2
    number = 0 if random.random_sample() < EMPTY else 1 + int(most)
    draw = _blobs(random) if kind == "blobs" else _digits(random, part)
    crowding = random.random_sample() * 0.6  # share of objects that are put beside another one
    canvas, placed = np.zeros((height, width)), list[tuple[float, float, float]]()
    boxes = list[tuple[int, int, int, int]]()
    for _ in range(number):
        size = typical * np.exp(spread * random.standard_normal())
        place = _place(random, size, placed, (height, width), crowding, NEAREST[kind])
        if place is None:
            continue
        boxes.append(_add(canvas, draw(size), place))
        placed.append((*place, size))
    image = _photographed(random, canvas, typical, kind)
    return Picture(image, np.array(boxes, np.float32).reshape(-1, 4))


def crops(kind: str, seed: int, number: int) -> Dataset:
    """Crops of whole objects, as the model sees them; each is there as it is, and mirrored.

    Args:
        kind: ``blobs`` or ``digits``.
        seed: of all crops.
        number: of different ones.
    """
    images, counts = np.zeros((number, CROP, CROP), np.uint8), np.zeros(number, np.int32)
    boxes = np.full((number, MOST, 4), -1, np.float32)
    for i in range(number):
        random = Random([seed, i])
        canvas, spread = np.zeros((CROP, CROP)), random.uniform(0.03, 0.25)
        draw = _blobs(random) if kind == "blobs" else _digits(random, "train")
        placed, crowding = list[tuple[float, float, float]](), random.random_sample()
        for _ in range(random.randint(MOST + 1)):
            size = OBJECT * np.exp(spread * random.standard_normal())
            place = _place(random, size, placed, canvas.shape, crowding, NEAREST[kind])
            if place is not None:
                boxes[i, len(placed)] = _add(canvas, draw(size), place)
                placed.append((*place, size))
        counts[i] = len(placed)
        canvas = ndimage.gaussian_filter(canvas, random.uniform(0, 0.06) * OBJECT)
        canvas += random.uniform(0, NOISE[kind]) * random.standard_normal(canvas.shape)
        (first, last), gain = LEFT[kind], random.uniform(0.7, 1.2)
        canvas = gain * (canvas + (first + (last - first) * random.random_sample()))
        images[i] = np.round(255 * np.clip(canvas, 0, 1))
    there = boxes[..., :1] >= 0
    mirrored = np.where(there, CROP - boxes[..., [2, 1, 0, 3]], -1)
    mirrored[..., [1, 3]] = boxes[..., [1, 3]]
    # those of one crop stand together, so that held-out crops are others
    images = np.stack([images, images[:, :, ::-1]], axis=1)
    boxes = np.stack([boxes, mirrored], axis=1)
    return Dataset(
        images.reshape(-1, CROP, CROP), np.repeat(counts, 2),
        boxes=boxes.reshape(-1, MOST, 4), name=kind,
    )  # fmt: skip


def write(folder: Path, kind: str, seed: int, number: int, part: str = "train") -> None:
    """Writes pictures, and what is in them, to a new folder: ``images/``, ``counts.csv`` (file,
    count) and ``objects.csv`` (file, x0, y0, x1, y1)."""
    (folder / "images").mkdir(parents=True)
    with open(folder / "counts.csv", "w") as counts, open(folder / "objects.csv", "w") as objects:
        totals, rows = csv.writer(counts), csv.writer(objects)
        totals.writerow(["file", "count"])
        rows.writerow(["file", "x0", "y0", "x1", "y1"])
        for i in range(number):
            name, made = f"{kind}_{i:04d}.png", picture(kind, seed, i, part)
            Image.fromarray(made.image).save(folder / "images" / name)
            totals.writerow([name, len(made.boxes)])
            rows.writerows([name, *box] for box in made.boxes.tolist())


def _place(
    random: Random,
    size: float,
    placed: list[tuple[float, float, float]],
    shape: tuple[int, int],
    crowding: float,
    nearest: float,
) -> tuple[float, float] | None:
    """The centre of an object, y and x: anywhere, or close to another one. None if there is no
    room."""
    others = np.array(placed).reshape(-1, 3)
    for _ in range(TRIES):
        where = random.random_sample(2) * shape
        if len(others) and random.random_sample() < crowding:
            y, x, other = others[random.randint(len(others))]
            angle = random.uniform(0, 2 * np.pi)
            apart = random.uniform(nearest, 1.2) * (size + other) / 2
            where = np.array([y + apart * np.sin(angle), x + apart * np.cos(angle)])
        inside = (where >= size / 2).all() and (where <= np.array(shape) - size / 2).all()
        apart = np.hypot(*(others[:, :2] - where).T)
        if inside and (apart >= nearest * (others[:, 2] + size) / 2).all():
            return float(where[0]), float(where[1])
    return None


def _blobs(random: Random) -> Callable[[float], np.ndarray]:
    """Draws blobs of one picture: ellipses with an uneven outline, a soft edge and a mild
    texture."""
    soft, flattest = random.uniform(0.02, 0.16), random.uniform(0.6, 0.95)
    uneven, texture = random.uniform(0, 0.12), random.uniform(0, 0.2)
    faintest = random.uniform(0.35, 0.9)

    def draw(size: float) -> np.ndarray:
        half = int(np.ceil(size))
        y, x = np.mgrid[-half : half + 1, -half : half + 1] + random.uniform(-0.5, 0.5, (2, 1, 1))
        turn, ratio = random.uniform(0, np.pi), random.uniform(flattest, 1)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        angle, radius = np.arctan2(across, along), np.hypot(along, across / ratio)
        outline = 1 + sum(
            uneven / k * random.standard_normal() * np.cos(k * angle + random.uniform(0, 2 * np.pi))
            for k in (2, 3, 4)
        )
        outside = (radius - size / 2 * outline) / (soft * size / 2 + 0.3)
        inside = expit(-outside)
        grain = ndimage.gaussian_filter(random.standard_normal(x.shape), size / 8) * size / 8 * 3.5
        return random.uniform(faintest, 1) * inside * np.clip(1 + texture * grain, 0.3, 1.7)

    return draw


def _digits(random: Random, part: str) -> Callable[[float], np.ndarray]:
    """Draws the digits of one picture: scikit-learn's, resized."""
    pool, faintest = _pool(part), random.uniform(0.6, 1)

    def draw(size: float) -> np.ndarray:
        digit = Image.fromarray(pool[random.randint(len(pool))])
        side = max(4, round(size))
        pixels = np.asarray(digit.resize((side, side), Image.Resampling.BICUBIC)) / 255
        return random.uniform(faintest, 1) * np.pad(pixels, (1 - side % 2, 0))

    return draw


@functools.cache
def _pool(part: str) -> np.ndarray:
    """Digits without the margin around them."""
    return load_digits(part).images[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def _add(
    canvas: np.ndarray, drawn: np.ndarray, place: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Adds an object to a canvas; its tight box there."""
    height, width = drawn.shape
    top, left = (round(c - n / 2) for c, n in zip(place, drawn.shape, strict=True))
    rows = slice(max(0, -top), min(height, canvas.shape[0] - top))
    columns = slice(max(0, -left), min(width, canvas.shape[1] - left))
    part = drawn[rows, columns]
    top, left = top + rows.start, left + columns.start
    canvas[top : top + part.shape[0], left : left + part.shape[1]] += part
    y, x = np.nonzero(part > VISIBLE * drawn.max())
    return left + int(x.min()), top + int(y.min()), left + int(x.max()) + 1, top + int(y.max()) + 1


def _photographed(random: Random, canvas: np.ndarray, typical: float, kind: str) -> np.ndarray:
    """A canvas as a camera sees it: blurred, hazy, noisy, of some exposure."""
    canvas = ndimage.gaussian_filter(canvas, random.uniform(0, 0.06) * typical)
    haze = ndimage.zoom(random.random_sample((4, 4)), np.array(canvas.shape) / 4, mode="nearest")
    canvas = canvas + random.uniform(0, 0.1) + random.uniform(0, HAZE[kind]) * haze
    canvas = canvas + random.uniform(0.005, NOISE[kind]) * random.standard_normal(canvas.shape)
    exposure = random.uniform(0.4, 1) / max(np.percentile(canvas, 99.8), 0.5)
    return np.round(255 * np.clip(exposure * canvas, 0, 1)).astype(np.uint8)
