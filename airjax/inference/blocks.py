"""The objects of a picture of any size: it is read in large blocks, each with a margin of context.

A block's objects are those whose centre is nearer to its middle than to that of any other block.
The margin is wider than what one object's inference depends on, so neighbours agree on the objects
between them, and nothing has to be merged.
"""

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from scipy.special import expit

from airjax.console import report
from airjax.inference.explained import tight_boxes
from airjax.inference.results import PER_OBJECT, Objects
from airjax.inference.slots import TOGETHER, Slots
from airjax.inference.whole import Reader
from airjax.precision import in_32_bits
from airjax.programs.attend import AttendGuide
from airjax.programs.model import Model
from airjax.programs.spatial import window_boxes, window_to_image

SIDE = 256  # of a block, in pixels
MARGIN = 2.0  # in windows
NEAREST = 0.7  # least distance of objects that there is room for, in windows
ROOM = 4096  # objects of a block, at most
AHEAD = 4  # blocks for each core that may wait
SOFT = 15.0  # nats of worth that are worth one of log-odds: errors of close pixels are alike


class Block(NamedTuple):
    """A part of a picture.

    Attributes:
        image: ``[SIDE, SIDE]`` or ``[SIDE, SIDE, C]``, padded with black.
        corner: its top and left pixel in the picture.
        low: the first row and column of the picture that the block owns.
        high: those after the last.
    """

    image: UInt8[np.ndarray, "B B *C"]
    corner: tuple[int, int]
    low: tuple[float, float]
    high: tuple[float, float]


def find(model: Model, guide: AttendGuide, picture: UInt8[np.ndarray, "H W *C"]) -> Objects:
    """The objects of one picture, ordered by its rows.

    ``z_where`` of each is in its patch: a square of the size of the model's images around the place
    where it was found. Scores are made of what each object is worth (`Slots.worth`); those of at
    least one half are objects. The count has the distribution of independent objects, without the
    errors of `airjax.inference.simulation`.
    """
    return next(find_each(model, guide, [picture]))


def find_each(
    model: Model, guide: AttendGuide, pictures: Iterable[UInt8[np.ndarray, "H W *C"]]
) -> Iterator[Objects]:
    """`find` of each picture, in bounded memory. On a CPU, as many blocks are read at the same time
    as there are cores: one alone does not keep them busy."""
    reader = Reader(model, guide)
    room = min(ROOM, math.ceil((SIDE / (NEAREST * reader.side)) ** 2 / TOGETHER) * TOGETHER)
    workers = (cores() or 1) if jax.default_backend() == "cpu" else 1
    is_first, waiting = True, deque[list[Future[tuple[Objects, bool]]]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for picture in pictures:
                first, *others = blocks_of(picture, round(MARGIN * reader.side))
                parts = [pool.submit(_objects_of, reader, room, first)]
                if is_first:
                    parts[0].result()  # compiles once, not in each thread
                    is_first = False
                parts += [pool.submit(_objects_of, reader, room, each) for each in others]
                waiting.append(parts)
                while sum(map(len, waiting)) > AHEAD * workers:
                    yield _joined([each.result() for each in waiting.popleft()], room)
            while waiting:
                yield _joined([each.result() for each in waiting.popleft()], room)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int | None:
    """The number of cores that the process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count()


def blocks_of(picture: UInt8[np.ndarray, "H W *C"], margin: int) -> list[Block]:
    """The blocks of a picture, which overlap by twice the margin at least."""
    rows, columns = (_parts(length, SIDE, margin) for length in picture.shape[:2])
    found = list[Block]()
    for top, low, high in rows:
        for left, first, last in columns:
            part = picture[top : top + SIDE, left : left + SIDE]
            missing = [(0, SIDE - n) for n in part.shape[:2]] + [(0, 0)] * (part.ndim - 2)
            found.append(Block(np.pad(part, missing), (top, left), (low, first), (high, last)))
    return found


def _objects_of(reader: Reader, room: int, block: Block) -> tuple[Objects, bool]:
    """The objects of a block, and whether there is no room for more."""
    with in_32_bits():
        read, boxes, used = _read(reader, jnp.asarray(block.image), room)
        read, boxes = jax.tree.map(lambda x, n=int(used): np.asarray(x)[:n], (read, boxes))
    objects = _objects(read, boxes, block.corner)
    centre = (objects.window_boxes[:, :2] + objects.window_boxes[:, 2:])[:, ::-1] / 2
    owned = ((centre >= block.low) & (centre < block.high)).all(1)
    return objects.some(owned & read.on), int(used) == room


def _joined(parts: list[tuple[Objects, bool]], room: int) -> Objects:
    """The objects of the blocks of a picture."""
    full = sum(is_full for _, is_full in parts)
    if full:
        parts_have = "1 part of a picture has" if full == 1 else f"{full} parts of a picture have"
        report(f"{parts_have} {room} objects or more; not all were counted", to_stderr=True)
    rows = {name: np.concatenate([getattr(each, name) for each, _ in parts]) for name in PER_OBJECT}
    boxes = rows["tight_boxes"]
    order = np.lexsort((boxes[:, 0], boxes[:, 1]))
    return parts[0][0]._replace(**rows).some(order)


def drawn(
    model: Model, objects: Objects
) -> tuple[Int[np.ndarray, "n 2"], Float[np.ndarray, "n h w *C"]]:
    """The top left pixels of the objects' patches in the picture, and each object drawn there.

    Args:
        model: that the objects were found with.
        objects: as `find` returns them.
    """
    size, number = model.config.image_size, len(objects.scores)
    where, windows = objects.z_where, objects.window_boxes
    half = np.array(size[::-1]) / 2
    middle = (windows[:, :2] + windows[:, 2:]) / 2 - (1 - where[:, 1:] / where[:, :1]) * half
    together = math.ceil(number / TOGETHER) * TOGETHER  # few compilations
    rows = np.arange(together) % max(1, number)
    with in_32_bits():
        y = _draw(model, jnp.asarray(where[rows]), jnp.asarray(objects.z_what[rows]))
    return middle.round().astype(int)[:, ::-1], np.asarray(y)[:number]


def superposed(
    model: Model, shape: tuple[int, ...], objects: Objects, shift: Int[np.ndarray, "n 2"] | int = 0
) -> Float[np.ndarray, "H W *C"]:
    """The sum of the objects, each drawn in its place, on black.

    Args:
        model: that the objects were found with.
        shape: of the picture.
        objects: as `find` returns them.
        shift: in rows and columns, of each object.
    """
    (height, width, *colour), (h, w) = shape, model.config.image_size
    canvas = np.zeros((height + 2 * h, width + 2 * w, *colour), np.float32)
    if objects.number:
        corners, patches = drawn(model, objects)
        for (top, left), patch in zip(corners + shift, patches, strict=True):
            row, column = int(np.clip(top, -h, height)) + h, int(np.clip(left, -w, width)) + w
            canvas[row : row + h, column : column + w] += patch
    return canvas[h : h + height, w : w + width]


@eqx.filter_jit
def _draw(
    model: Model, where: Float[Array, "n 3"], what: Float[Array, "n Z"]
) -> Float[Array, "n h w *C"]:
    return window_to_image(where, model.decoder(what), model.config.image_size)


def _parts(length: int, side: int, margin: int) -> list[tuple[int, float, float]]:
    """Blocks along one axis: where each starts, and the first and last coordinate that it owns."""
    number = 1 if length <= side else 1 + math.ceil((length - side) / max(1, side - 2 * margin))
    starts = np.linspace(0, max(0, length - side), number).round().astype(int).tolist()
    between = [(a + side + b) / 2 for a, b in pairwise(starts)]
    return list(zip(starts, [-np.inf, *between], [*between, np.inf], strict=True))


@eqx.filter_jit
def _read(
    reader: Reader, block: UInt8[Array, "B B *C"], room: int
) -> tuple[Slots, Float[Array, "M 2 4"], Int[Array, ""]]:
    """The slots of a block, tight boxes and windows in pixels of the block, and the number of slots
    in use. Compiled once."""
    _, slots, used = reader.read(block.astype(jnp.float32) / 255, room)
    windows = window_boxes(slots.seen.where, reader.patch)
    corner = slots.corner - jnp.array(reader.centre)
    shift = jnp.tile(corner[:, ::-1], 2).astype(jnp.float32)
    boxes = jnp.stack([tight_boxes(slots.seen.y, windows), windows], axis=1) + shift[:, None]
    return slots._replace(seen=slots.seen._replace(y=jnp.zeros(0))), boxes, used


def _objects(read: Slots, boxes: np.ndarray, corner: tuple[int, int]) -> Objects:
    """The objects of slots, also of those that are off, with boxes in pixels of the picture."""
    shift = np.array([corner[1], corner[0]] * 2, np.float32)
    tight, windows = np.moveaxis(boxes + shift, 1, 0)
    scores = expit(np.asarray(read.worth) / SOFT).astype(np.float32)
    where, what = np.asarray(read.seen.where), np.asarray(read.seen.what)
    return Objects(tight, windows, scores, where, what, np.ones(1, np.float32))
