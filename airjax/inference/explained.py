"""How an image and the objects that were read in it compare: where each object shows, and what they
explain, in nats."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from airjax.programs.compose import composed
from airjax.programs.model import Model
from airjax.programs.spatial import over_pixels

VISIBLE = 0.1  # tight boxes are drawn around the pixels above this intensity
SPARSE = 8  # noise is estimated from every eighth pixel
MEDIAN = 0.4549  # of a squared normal of variance 1


def shown(
    model: Model, image: Float[Array, "H W *C"], y: Float[Array, "T H W *K"], present: Array
) -> Float[Array, "T H W *K"]:
    """Objects in those pixels where the image differs from the background; where they are added up,
    only in those of which each draws more than the others."""
    seen = jnp.abs(model.likelihood.foreground(image)) > VISIBLE
    seen = seen.any(-1, keepdims=y.ndim == 4) if image.ndim == 3 else seen
    if model.config.compose == "over":
        seen = seen if seen.ndim == 3 else seen[..., None]
        return jnp.where(seen, y, 0)
    total = jnp.where(over_pixels(present, y), y, 0).sum(0)
    return jnp.where(seen & (y > total / 2), y, 0)


def unexplained(
    model: Model, image: Float[Array, "H W *C"], mean: Float[Array, "H W *C"]
) -> Float[Array, ""]:
    """What the squared error costs the likelihood, in nats, less what noise costs: its variance is
    estimated from the median of squared errors, since objects cover few pixels."""
    error, likelihood = jnp.square(image - mean), model.likelihood
    noise = jnp.median(error.reshape(-1)[::SPARSE]) / MEDIAN
    return likelihood.power * (error - noise).sum() / (2 * likelihood.sd**2)


def weakest(
    model: Model, image: Float[Array, "H W *C"], y: Float[Array, "T H W *K"], present: Array
) -> Float[Array, ""]:
    """The nats that the likelihood loses without one of the present objects, the least of them;
    0 if there is none."""
    likelihood, on = model.likelihood, present & ~jnp.eye(len(present), dtype=bool)

    def log_p(on: Bool[Array, " T"]) -> Float[Array, ""]:
        error = jnp.square(image - likelihood.mean(composed(model.config.compose, y, on)))
        return -likelihood.power * error.sum() / (2 * likelihood.sd**2)

    losses = log_p(present) - jax.vmap(log_p)(on)
    return jnp.where(present.any(), jnp.where(present, losses, jnp.inf).min(), 0.0)


def tight_boxes(
    objects: Float[Array, "T H W *C"], otherwise: Float[Array, "T 4"]
) -> Float[Array, "T 4"]:
    """Boxes around the visible pixels of each object; ``otherwise`` for objects without any."""
    visible = objects > VISIBLE
    visible = visible.any(-1) if visible.ndim == 4 else visible  # in any channel
    rows, columns = visible.any(2), visible.any(1)
    height, width = objects.shape[1:3]
    boxes = jnp.stack(
        [
            columns.argmax(1),
            rows.argmax(1),
            width - columns[:, ::-1].argmax(1),
            height - rows[:, ::-1].argmax(1),
        ],
        axis=-1,
    )
    return jnp.where(rows.any(1)[:, None], boxes.astype(jnp.float32), otherwise)
