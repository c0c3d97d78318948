"""Whether a trained model is likely to be good, judged without labels; and what to try if not."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from airjax import background, object_size
from airjax.config import Config
from airjax.inference.metrics import LARGE
from airjax.inference.reading import Reading
from airjax.programs.model import Model
from airjax.training.collapse import EMPTY, TOO_LARGE

JUDGED = 1000  # images that are looked at
FULL = 0.2  # share of images with the most objects, above which there may be more
UNLIKE = 2.0  # ratio of a box to an object that is doubtful
AGREE = 0.5  # correlation below which a count or a threshold is wrong
LITTLE = 0.2  # of the images' variation; noise cannot be explained
SMALL = 5.0  # objects this many times smaller than the images are better read in crops

Remedy = Callable[[], str]  # that is made only where it is needed


class Finding(NamedTuple):
    """One line of a report.

    Attributes:
        name: of the measure, in files.
        what: it is, in plain words.
        value: None where it cannot be measured.
        shown: the value in words.
        doubt: what may be wrong, and what to try; "" where nothing is.
    """

    name: str
    what: str
    value: float | None
    shown: str
    doubt: str = ""


def health(
    reading: Reading, images: UInt8[np.ndarray, "N H W *C"], model: Model, config: Config
) -> list[Finding]:
    """Measures of a model that need no labels.

    Args:
        reading: of the images.
        images: uint8, held out.
        model: the trained program.
        config: of the training.
    """
    images = images[:JUDGED]
    reading = jax.tree.map(lambda field: field[:JUDGED], reading)
    try_this = cache(lambda: remedy(config, images))  # most trainings need none
    return [
        *_of_counts(np.asarray(reading.count), config, try_this),
        *_of_windows(reading, model, try_this),
        *_beside_a_threshold(reading, images, try_this),
        _explained(reading, images, model, try_this),
    ]


def _of_counts(counts: np.ndarray, config: Config, try_this: Remedy) -> list[Finding]:
    most = config.model.model_steps
    mean, full = float(counts.mean()), float(np.mean(counts == most))
    found = [
        Finding(
            "mean_count", "objects an image, on average", mean, f"{mean:.2f}",
            f"nothing is found: {try_this()}" if mean == 0 else "",
        )
    ]  # fmt: skip
    # one object may be all there is; and pictures of which crops are parts are read without a limit
    if most > 1 and not config.pictures.crop:
        doubt = f"there may be more: --max-objects {2 * most}" if full > FULL else ""
        what = f"images with {most} objects, the most that is counted"
        found.append(Finding("full", what, full, _percent(full), doubt))
    return found


def _of_windows(reading: Reading, model: Model, try_this: Remedy) -> list[Finding]:
    limit = model.config.scale_prior_mean - LARGE * model.config.scale_prior_sd
    large = float(np.mean(reading.has_window_larger_than(limit)))
    empty = float(np.mean(reading.has_empty_object(float(model.likelihood.sd))))
    return [
        Finding(
            "large_windows", "images with a window far larger than an object", large,
            _percent(large), f"one object stands for several: {try_this()}" if large > TOO_LARGE
            else "",
        ),
        Finding(
            "empty_objects", "images with an object of which nothing is visible", empty,
            _percent(empty), "train again: --seeds 3" if empty > EMPTY else "",
        ),
    ]  # fmt: skip


def _beside_a_threshold(reading: Reading, images: np.ndarray, try_this: Remedy) -> list[Finding]:
    boxes = np.asarray(reading.tight_boxes)[np.asarray(reading.present)]
    size = object_size.estimate(images)
    if size is None or not len(boxes):
        return []
    box = float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))
    differs = not 1 / UNLIKE < box / size < UNLIKE
    found = [
        Finding(
            "box", "typical side of a box (of what is bright)", box,
            f"{box:.0f} ({size:.0f}) pixels", f"the sizes differ: {try_this()}" if differs else "",
        )
    ]  # fmt: skip
    blobs = object_size.blobs(images)
    large = blobs.image[blobs.sides > size / 2]  # not the specks of noise
    pair = np.asarray(reading.count), np.bincount(large, minlength=len(images))
    if len(images) > 2 and all(counts.std() > 0 for counts in pair):
        agree = float(np.corrcoef(*pair)[0, 1])
        doubt = "" if agree > AGREE else "one of them is wrong: look at airjax predict --draw"
        what = "correlation of counts with a plain threshold's"
        found.append(Finding("threshold_correlation", what, agree, f"{agree:.2f}", doubt))
    return found


def _explained(reading: Reading, images: np.ndarray, model: Model, try_this: Remedy) -> Finding:
    """1 less the squared error with the objects over that without any."""
    pixels = images / np.float32(255)
    empty = np.asarray(model.likelihood.of(jnp.asarray(pixels)).empty)
    without = float(np.square(pixels - empty).sum())
    what = "share of the images' variation that is explained"
    if without == 0:
        return Finding("explained", what, None, "the images have none")
    share = 1 - float(np.square(pixels - reading.reconstruction).sum()) / without
    doubt = "" if share > LITTLE else f"the objects draw little of what is there: {try_this()}"
    return Finding("explained", what, share, _percent(share), doubt)


def remedy(config: Config, images: UInt8[np.ndarray, "N H W *C"]) -> str:
    """What most likely mends a training on these images, as a flag; found by looking at them."""
    model, smaller = config.model, min(images.shape[1:3])
    if model.background == "none":
        suits, what = background.look(images)
        suits = "local" if suits != "none" and config.pictures.crop else suits
        if suits != "none":
            return f"--background {suits} (the background of these images is not black: {what})"
    size = object_size.estimate(images)
    if size is not None and config.pictures.crop is None and smaller > SMALL * size:
        crop = max(32, 4 * round(size))
        if crop < smaller:
            return f"--crop {crop} (objects are small beside the images)"
    used = smaller / (object_size.MARGIN * model.scale_prior_mean)
    if size is not None and not 1 / 1.5 < used / size < 1.5:
        return f"--object-size {size:.0f} (what is bright has that size; {used:.0f} was used)"
    return "--seeds 3 (the best of three trainings is kept), or more --steps"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
