"""Scores of counts and boxes against the truth, with the settings that they were made with."""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8
from sklearn.metrics import adjusted_rand_score, confusion_matrix

import airjax
from airjax.data.dataset import Dataset
from airjax.inference.detection import average_precision, mean_iou
from airjax.inference.infer import in_batches, masked, read
from airjax.inference.reading import Reading
from airjax.programs.elbo import CountIWAE
from airjax.programs.guide import Guide
from airjax.programs.likelihood import Likelihood
from airjax.programs.model import Model

EVALUATED = 1000  # images of each data set that progress is measured on
BINS = 15  # of confidence
LARGE = 5  # a window is large if its scale is this many prior deviations below the mean
Row = dict[str, Any]  # of a training's metrics


def score(reading: Reading, data: Dataset) -> dict[str, Any]:
    """Scores a reading of a data set, as far as the set has the truth.

    Returns:
        ``elbo`` (nats an image), ``reconstruction_mse`` (a pixel), with counts also
        ``count_accuracy`` (most probable count), ``count_accuracy_sample`` (one sample of the
        guide), ``confusion_matrix`` (row: true count, column: most probable),
        ``calibration_error`` (`calibration_error` of the count) and ``count_accuracy_sure``
        (without the hundredth of the images whose count is least probable), with boxes also
        ``window_boxes`` and ``tight_boxes`` (``mean_iou`` and ``ap50`` of each), and with masks
        ``ari_fg`` (`ari_foreground`).
    """
    error = data.images / np.float32(255) - reading.reconstruction
    report: dict[str, Any] = {
        "elbo": float(np.mean(reading.elbo)),
        "reconstruction_mse": float(np.mean(error**2)),
    }
    if data.counts is not None:
        count = np.asarray(reading.count)
        sizes = range(max(data.counts.max(), reading.count_probs.shape[1] - 1) + 1)
        report["count_accuracy"] = float(np.mean(count == data.counts))
        report["count_accuracy_sample"] = float(np.mean(reading.sampled_count == data.counts))
        matrix = confusion_matrix(data.counts, count, labels=list(sizes))
        report["confusion_matrix"] = matrix.tolist()
        confidence, right = np.asarray(reading.count_probs).max(-1), count == data.counts
        report["calibration_error"] = calibration_error(confidence, right)
        least = np.argsort(confidence, kind="stable")[: len(right) // 100]
        report["count_accuracy_sure"] = float(np.delete(right, least).mean())
    if data.boxes is not None and data.counts is not None:
        truth = [boxes[:n] for boxes, n in zip(data.boxes, data.counts, strict=True)]
        scores = _of_present(reading.scores, reading)
        for name in ("window_boxes", "tight_boxes"):
            boxes = _of_present(getattr(reading, name), reading)
            report[name] = {
                "mean_iou": mean_iou(boxes, truth),
                "ap50": average_precision(boxes, scores, truth),
            }
    if data.masks is not None:
        report["ari_fg"] = ari_foreground(np.asarray(reading.segments), data.masks)
    return report


class Bin(NamedTuple):
    """The images whose confidence is in an interval: their number, and means."""

    n: int
    confidence: float
    accuracy: float


def reliability(
    confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = BINS
) -> list[Bin]:
    """Images in equal intervals of confidence; empty intervals are left out.

    Args:
        confidence: the probability of the most probable count.
        right: whether it is the true count.
        bins: number of intervals of [0, 1].
    """
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    each = [which == i for i in np.unique(which)]
    return [
        Bin(int(in_bin.sum()), float(confidence[in_bin].mean()), float(right[in_bin].mean()))
        for in_bin in each
    ]


def calibration_error(confidence: Float[np.ndarray, " N"], right: Bool[np.ndarray, " N"]) -> float:
    """The expected calibration error (Guo et al., On calibration of modern neural networks, 2017):
    the mean over images of how far accuracy and confidence are apart in their bin of
    `reliability`."""
    each = reliability(confidence, right)
    return sum(b.n * abs(b.accuracy - b.confidence) for b in each) / len(right)


def ari_foreground(
    found: UInt8[np.ndarray, "N H W"], truth: UInt8[np.ndarray, "N H W"]
) -> float | None:
    """The adjusted Rand index of segmentations (Hubert and Arabie, 1985) on the pixels that show an
    object in truth, as is usual for unsupervised segmentation; averaged over the images with an
    object, None if there is none."""
    pairs = ((f[t > 0], t[t > 0]) for f, t in zip(found, truth, strict=True) if t.any())
    scores = [adjusted_rand_score(t, f) for f, t in pairs]
    return float(np.mean(scores)) if scores else None


def _of_present(values: Any, reading: Reading) -> list[np.ndarray]:
    """The values of the present objects of each image."""
    pairs = zip(np.asarray(values), np.asarray(reading.present), strict=True)
    return [row[present] for row, present in pairs]


def settings(
    reading: Reading, data: Dataset, seed: int, num_paths: int, second_look: bool | None = None
) -> dict[str, Any]:
    """The settings that scores were made with, to be reported beside them."""
    return {
        "data": data.name,
        "part": data.part,
        "n": len(data),
        "seed": seed,
        "num_paths": num_paths,
        "second_look": second_look,
        "model_steps": reading.count_probs.shape[1] - 1,
        "version": airjax.__version__,
    }


def evaluate_quickly(
    model: Model, guide: Guide, data: Dataset, z_pres_prior: Float[Array, " T"]
) -> Row:
    """Evaluates the first images of a data set during training, with one path of the guide.

    Args:
        model: generative program.
        guide: its guide.
        data: of which ``EVALUATED`` images are used.
        z_pres_prior: p_t of the model.

    Returns:
        ``elbo`` (nats an image), ``empty_elbo`` (`empty_elbo`), ``mean_count``, ``empty_objects``
        (share of images with a present object that has no visible pixel), ``large_windows`` (share
        of images with a present object whose scale is more than ``LARGE`` standard deviations below
        the prior's mean) and, if counts are known, ``count_accuracy``.
    """
    data = data[:EVALUATED]
    reading = read(
        model, guide, data.images, num_paths=1, z_pres_prior=z_pres_prior, second_look=False,
        fields=("elbo", "count_probs", "z_where", "windows"),
    )  # fmt: skip
    large = model.config.scale_prior_mean - LARGE * model.config.scale_prior_sd
    row = {
        "elbo": float(np.mean(reading.elbo)),
        "empty_elbo": empty_elbo(data.images, model.likelihood, float(z_pres_prior[0])),
        "mean_count": float(np.mean(reading.count)),
        "empty_objects": float(np.mean(reading.has_empty_object(float(model.likelihood.sd)))),
        "large_windows": float(np.mean(reading.has_window_larger_than(large))),
    }
    if data.counts is not None:
        row["count_accuracy"] = float(np.mean(reading.count == data.counts))
    return row


def empty_elbo(images: UInt8[np.ndarray, "N H W *C"], likelihood: Likelihood, p: float) -> float:
    """The ELBO, in nats an image, of the guess that every image is empty: log p(n = 0) and the
    log-likelihood of an empty canvas.

    Args:
        images: bytes.
        likelihood: of the model.
        p: the prior probability of a first object.
    """
    pixels = images / np.float32(255)
    empty = np.asarray(likelihood.of(jnp.asarray(pixels)).empty)
    squares = np.square(pixels - empty).sum(dtype=float) / len(images)
    sd = float(likelihood.sd)
    log_normal = -math.log(sd) - math.log(2 * math.pi) / 2
    log_p = math.log1p(-p) if p < 1 else -math.inf
    log_likelihood = images[0].size * log_normal - squares / (2 * sd**2)
    return float(log_p + float(likelihood.power) * log_likelihood)


def importance_weighted_bound(
    model: Model,
    guide: Guide,
    images: UInt8[np.ndarray, "N H W *C"],
    num_particles: int,
    seed: int = 0,
) -> Float[np.ndarray, " N"]:
    """A lower bound of log p(x) of each image, in nats, tighter than the ELBO: `CountIWAE` with
    ``num_particles`` paths."""

    def one_batch(images, keys):
        return _bound_batch(*masked(model, guide), images, keys, num_particles)

    return in_batches(one_batch, images, seed)


@eqx.filter_jit
def _bound_batch(
    model: Model,
    guide: Guide,
    images: UInt8[Array, "N H W *C"],
    keys: Key[Array, " N"],
    num_particles: int,
) -> Float[Array, " N"]:
    iwae = CountIWAE(num_particles, vectorize_particles=False)  # one by one: bounds the memory

    def one(image, key):
        return iwae.per_image(key, {}, model, guide, image[None].astype(jnp.float32) / 255)[0]

    return jax.vmap(one)(images, keys)
