"""How well a part of a frame is explained by objects whose codes are known, at the best places near
those that are expected."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float

from airjax.inference.explained import tight_boxes
from airjax.precision import in_32_bits
from airjax.programs.compose import composed
from airjax.programs.model import Model
from airjax.programs.spatial import window_boxes, window_to_image

MOST = 8  # objects that are fitted together
TOGETHER = 8  # parts that are fitted in one call
STEPS = 60  # of the fit


class Known(NamedTuple):
    """n objects: the middle x, y of each window in pixels, its scale s, and its code."""

    xy: Float[np.ndarray, "n 2"]
    scale: Float[np.ndarray, " n"]
    codes: Float[np.ndarray, "n Z"]

    def some(self, rows: np.ndarray) -> "Known":
        """These of them."""
        return Known(*(each[rows] for each in self))

    def and_others(self, others: "Known") -> "Known":
        """They, then others."""
        return Known(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))


class Part(NamedTuple):
    """A part of a frame, of the size of the model's images, and objects that may explain it.

    Attributes:
        pixels: in [0, 1].
        others: the sum of the objects that are not in question.
        inside: which pixels are in the frame.
        known: those in question, with places in this part.
        moves: whether their best places are looked for; otherwise they stay.
    """

    pixels: Float[np.ndarray, "H W *C"]
    others: Float[np.ndarray, "H W *C"]
    inside: Bool[np.ndarray, "H W"]
    known: Known
    moves: bool


class Fit(NamedTuple):
    """Attributes:
    xy: ``[n, 2]``, the best places.
    log_p: log p(pixels | objects at these places), in nats, up to a constant.
    where: ``[n, 3]``, z_where of the objects in the part.
    boxes: ``[n, 2, 4]``, tight boxes and windows in pixels of the part.
    """

    xy: Float[np.ndarray, "n 2"]
    log_p: float
    where: Float[np.ndarray, "n 3"]
    boxes: Float[np.ndarray, "n 2 4"]


def fitted(model: Model, parts: Sequence[Part], reach: float) -> list[Fit]:
    """The best places of the objects of each part.

    Args:
        model: trained.
        parts: each with at most ``MOST`` objects.
        reach: pixels that an object is typically less than a third of off; all steps together reach
            as far.
    """
    found = list[Fit]()
    for start in range(0, len(parts), TOGETHER):
        some = list(parts[start : start + TOGETHER])
        rows = _rows([*some, *[some[0]] * (TOGETHER - len(some))])
        with in_32_bits():
            fits = jax.tree.map(np.asarray, _fit(model, rows, np.float32(reach)))
        for part, xy, log_p, where, boxes in zip(some, *fits, strict=False):
            n = len(part.known.xy)
            found.append(Fit(xy[:n].astype(float), float(log_p), where[:n], boxes[:n]))
    return found


def _rows(parts: Sequence[Part]) -> tuple[np.ndarray, ...]:
    """The parts as arrays, each filled up with objects that are off."""
    on = np.array([np.arange(MOST) < len(part.known.xy) for part in parts])
    known = [
        np.stack([np.pad(field, [(0, MOST - len(field)), *[(0, 0)] * (field.ndim - 1)])
                  for field in each]).astype(np.float32)
        for each in zip(*(part.known for part in parts), strict=True)
    ]  # fmt: skip
    known[1] = np.where(on, known[1], 1)
    pixels, others, inside = (
        np.stack([part[i] for part in parts]).astype(np.float32) for i in range(3)
    )
    return pixels, others, inside, *known, on, np.array([part.moves for part in parts])


@eqx.filter_jit
def _fit(
    model: Model,
    rows: tuple[Array | np.ndarray, ...],
    reach: Float[ArrayLike, ""],
) -> tuple[Array, Array, Array, Array]:
    """The fields of a `Fit` of each part, given those of `_rows`."""
    height, width = size = model.config.image_size

    def one(pixels, others, inside, start, scale, codes, on, moves):
        likelihood, drawn = model.likelihood.of(pixels), model.decoder(codes)
        inside = inside[..., None] if pixels.ndim == 3 else inside

        def where(xy):
            middle = 2 * xy / jnp.array([width, height]) - 1
            return jnp.concatenate([scale[:, None], -scale[:, None] * middle], axis=1)

        def log_p(xy):
            y = window_to_image(where(xy), drawn, size)
            canvas = composed(model.config.compose, y, on) + others
            mean = jnp.minimum(likelihood.mean(canvas), 1)  # a pixel is never more than white
            error = (inside * jnp.square(pixels - mean)).sum()
            return -likelihood.power * error / (2 * likelihood.sd**2)

        def loss(xy):
            off = jnp.square(3 * (xy - start) / reach) * on[:, None]
            return off.sum() / 2 - log_p(xy)

        adam = optax.adam(optax.linear_schedule(2 * reach / STEPS, 0.0, STEPS), 0.8, 0.95)

        def step(_, carry):
            xy, state, least, best = carry
            value, slope = jax.value_and_grad(loss)(xy)
            best, least = jnp.where(value < least, xy, best), jnp.minimum(value, least)
            change, state = adam.update(slope, state)
            return xy + change, state, least, best

        first = (start, adam.init(start), jnp.inf, start)
        best = jax.lax.fori_loop(0, STEPS, step, first)[3]
        best = jnp.where(moves, best, start)
        windows = window_boxes(where(best), size)
        boxes = tight_boxes(window_to_image(where(best), drawn, size), windows)
        return best, log_p(best), where(best), jnp.stack([boxes, windows], axis=1)

    return jax.vmap(one)(*rows)
