"""What was read in images: a `Reading`, whichever way it was made."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from airjax.config import LIKELIHOOD_SD
from airjax.inference.explained import VISIBLE

AnyArray = Array | np.ndarray  # JAX's while reading, NumPy's afterwards
NOT_READ: Any = None  # a field of a reading that was not asked for


class Reading(NamedTuple):
    """What was read in N images of at most T objects. Fields are arrays with a row for each image,
    or None if they were not asked for.

    Attributes:
        elbo: ``[N]``, averaged over K paths of the guide, in nats.
        count_probs: ``[N, T + 1]``, posterior over the count, averaged over the same paths.
        sampled_count: ``[N]``, the count of one sample of the guide.
        z_where: ``[N, T, 3]``, of the guide's mean path (every latent at its mean, all steps on),
            or from the second look.
        z_what: ``[N, T, Z]``, of the same path.
        windows: ``[N, T, w, w]``, the objects y_att decoded from z_what.
        window_boxes: ``[N, T, 4]``, outlines of the windows: x0, y0, x1, y1 in pixels.
        tight_boxes: ``[N, T, 4]``, boxes around the pixels in which both object and image are
            visible, and, where objects are added up, this one draws most.
        reconstruction: ``[N, H, W]``, mean of the pixels given the objects of the most probable
            count.
        unexplained: ``[N]``, nats of the likelihood that noise does not account for: what better
            objects could gain at most.
        weakest: ``[N]``, nats of the likelihood that are lost without the object of the most
            probable count that explains least; 0 without any object.
        segments: uint8 ``[N, H, W]``, the object of the most probable count that each pixel shows,
            from 1 in the order of steps; 0 for the background.
    """

    elbo: Float[AnyArray, " N"] = NOT_READ
    count_probs: Float[AnyArray, "N T+1"] = NOT_READ
    sampled_count: Int[AnyArray, " N"] = NOT_READ
    z_where: Float[AnyArray, "N T 3"] = NOT_READ
    z_what: Float[AnyArray, "N T Z"] = NOT_READ
    windows: Float[AnyArray, "N T w w *C"] = NOT_READ
    window_boxes: Float[AnyArray, "N T 4"] = NOT_READ
    tight_boxes: Float[AnyArray, "N T 4"] = NOT_READ
    reconstruction: Float[AnyArray, "N H W *C"] = NOT_READ
    unexplained: Float[AnyArray, " N"] = NOT_READ
    weakest: Float[AnyArray, " N"] = NOT_READ
    segments: UInt8[AnyArray, "N H W"] = NOT_READ

    @property
    def count(self) -> Int[AnyArray, " N"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The most probable count."""
        return self.count_probs.argmax(-1)

    @property
    def scores(self) -> Float[AnyArray, "N T"]:
        """Probability that each object is present, that is, that the count is above t."""
        return (1 - self.count_probs.cumsum(-1)[:, :-1]).clip(0, 1)

    @property
    def present(self) -> Bool[AnyArray, "N T"]:
        """Which objects the most probable count includes."""
        return np.arange(self.count_probs.shape[1] - 1) < self.count[:, None]

    def has_empty_object(self, sd: float) -> Bool[AnyArray, " N"]:
        """Whether a present object has no visible pixel, for a standard deviation of pixels: the
        smaller it is, the fainter are objects that count."""
        peak = self.windows.reshape(*self.windows.shape[:2], -1).max(-1)
        return ((peak <= VISIBLE * min(1.0, sd / LIKELIHOOD_SD)) & self.present).any(-1)

    def has_window_larger_than(self, s: float) -> Bool[AnyArray, " N"]:
        """Whether the window of a present object is larger than one of scale s (the smaller the
        scale, the larger the window)."""
        return np.any((np.abs(self.z_where[..., 0]) < s) & self.present, axis=-1)


# what a user asks for, and what training and `AIR.score` ask for; the rest is then not computed
FOUND = (
    "count_probs",
    "z_where",
    "z_what",
    "window_boxes",
    "tight_boxes",
    "unexplained",
    "weakest",
)
BOUND = ("elbo",)


def joined(parts: Sequence[Any]) -> Any:
    """The results of several chunks together."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
