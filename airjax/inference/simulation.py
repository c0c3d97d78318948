"""How many objects a model misses, and finds too many, in a picture as crowded as one that it read.

The objects found are drawn again, each moved at random by about half of its size, with the noise of
the picture, and read again: the parametric bootstrap (Efron and Tibshirani, 1993, section 6.5). In
this simulated picture the truth is known, so its errors can be counted, and no label is needed.
They are errors of crowding and of noise: the simulated objects are drawn by the model, so those
of its assumptions (an object that looks like two, or like nothing that it can draw) do not show.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import tee
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import KDTree

from airjax.inference import blocks
from airjax.inference.results import Errors, Objects, distribution
from airjax.object_size import noise
from airjax.programs.attend import AttendGuide
from airjax.programs.model import Model

MOVED = 0.5  # standard deviation of a move, in objects of median size
NEAR = 0.5  # farthest distance of an object that is found again, in objects of median size


class Simulated(NamedTuple):
    """A picture whose objects are known.

    Attributes:
        image: bytes, of the size of the picture that was read.
        centres: of the objects' boxes: x, y in pixels.
        size: the median size of an object in pixels.
    """

    image: UInt8[np.ndarray, "H W *C"]
    centres: Float[np.ndarray, "n 2"]
    size: float


def find_each(
    model: Model,
    guide: AttendGuide,
    pictures: Iterable[UInt8[np.ndarray, "H W *C"]],
    seed: int,
) -> Iterator[Objects]:
    """As `airjax.inference.blocks.find_each`, with the errors in a simulated picture of each. They
    do not depend on the other pictures.

    Args:
        model: trained.
        guide: trained with it.
        pictures: bytes.
        seed: of the simulation.
    """
    waiting = deque[tuple[Objects, Simulated]]()

    def simulations() -> Iterator[UInt8[np.ndarray, "H W *C"]]:
        read, known = tee(pictures)
        for objects, picture in zip(blocks.find_each(model, guide, read), known, strict=True):
            random = np.random.default_rng(seed)
            waiting.append((objects, simulated(model, picture, objects, random)))
            yield waiting[-1][1].image

    for again in blocks.find_each(model, guide, simulations()):
        objects, truth = waiting.popleft()
        errors = compared(truth, again)
        probs = distribution(objects.scores, errors)
        yield objects._replace(errors=errors, count_probs=probs)


def simulated(
    model: Model,
    picture: UInt8[np.ndarray, "H W *C"],
    objects: Objects,
    random: np.random.Generator,
) -> Simulated:
    """A picture with the objects and the noise of another one, each object moved at random. One
    that would leave the picture is reflected at its border."""
    boxes, (height, width) = objects.tight_boxes, picture.shape[:2]
    size = float(np.median((boxes[:, 2:] - boxes[:, :2]).mean(1))) if objects.number else 0.0
    before, most = _centres(boxes), np.array([width, height]) - 1
    after = np.abs(before + random.normal(0, MOVED * size, before.shape))
    shift = np.round(np.clip(most - np.abs(most - after), 0, most) - before).astype(int)
    mean = blocks.superposed(model, picture.shape, objects, shift[:, ::-1])
    channels = np.moveaxis(np.atleast_3d(picture), 2, 0) / np.float32(255)
    sd = np.array([noise(channel) for channel in channels], np.float32)
    noisy = mean + sd.reshape(picture.shape[2:] or ()) * random.standard_normal(
        mean.shape, np.float32
    )
    image = np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)
    return Simulated(image, before + shift, size)


def compared(truth: Simulated, found: Objects) -> Errors:
    """The errors of a reading of a simulated picture: as many objects as possible are matched one
    to one to those found near them (Hopcroft and Karp, 1973)."""
    centres = _centres(found.tight_boxes)
    pairs = KDTree(truth.centres).sparse_distance_matrix(
        KDTree(centres), NEAR * truth.size, output_type="ndarray"
    )
    places = (pairs["i"], pairs["j"])
    close = coo_array((np.ones(len(pairs)), places), (len(truth.centres), len(centres))).tocsr()
    matched = int((maximum_bipartite_matching(close, perm_type="column") >= 0).sum())
    return Errors(float(len(truth.centres) - matched), float(len(centres) - matched))


def _centres(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 2"]:
    return (boxes[:, :2] + boxes[:, 2:]).astype(float) / 2
