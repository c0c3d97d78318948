"""What trained programs infer at places of patches, and what the objects there are worth."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from airjax.inference.slots import TOGETHER, Seen, Slots, middles
from airjax.programs.attend import AttendGuide
from airjax.programs.model import Model, where_prior
from airjax.programs.spatial import window_to_image

FIXED = 0.1  # sd of places that are given, in prior standard deviations

Patches = Float[Array, "K h w *C"]


class Looks(eqx.Module):
    """Trained programs that look at patches of a block.

    Attributes:
        model: without a background.
        guide: of the same training.
    """

    model: Model
    guide: AttendGuide

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of the model's images."""
        return self.model.config.image_size

    @property
    def side(self) -> float:
        """The smaller side of a window of the prior's scale, in pixels."""
        return min(self.patch) / self.model.config.scale_prior_mean

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the middle pixel of a patch."""
        return self.patch[0] // 2, self.patch[1] // 2

    def look(self, images: Patches, residuals: Patches, place: Float[Array, "K 2"]) -> Seen:
        """What the guide infers at a place of each patch."""
        networks = self.guide.networks
        h = self.guide.features(networks, images, residuals, place)
        p, loc, scale = networks.predict(h)
        where, where_scale = self.guide.where(place, loc, scale)
        return self.decoded(images, residuals, where, where_scale, p)

    def look_in(self, images: Patches, residuals: Patches, place: Float[Array, "K 2"]) -> Seen:
        """What is in the window of the prior's scale at a given place of each patch."""
        s = self.model.config.scale_prior_mean
        where = jnp.insert(-s * place, 0, s, axis=-1)
        scale = jnp.broadcast_to(FIXED * where_prior(self.model.config)[1], where.shape)
        return self.decoded(images, residuals, where, scale, jnp.full(len(place), 0.5))

    def decoded(
        self,
        images: Patches,
        residuals: Patches,
        where: Float[Array, "K 3"],
        where_scale: Float[Array, "K 3"],
        p: Float[Array, " K"],
    ) -> Seen:
        """The objects in windows, with codes inferred from these windows."""
        guide, prior = self.guide, where_prior(self.model.config)
        features = jnp.zeros((len(where), 0))  # not read by this guide's encoder
        what, what_scale = guide.encode(guide.networks, features, where, images, residuals)
        cost = _cost(where, where_scale, *prior) + _cost(what, what_scale, 0.0, 1.0)
        y = window_to_image(where, self.model.decoder(what), self.patch)
        return Seen(where, what, cost, y, p)

    def worth(self, others: Patches, seen: Seen) -> Float[Array, " K"]:
        """Nats by which each object raises the log evidence, given the residual of all others, in
        Laplace's approximation: what it raises the log-likelihood by, less what its latents and one
        object more cost."""
        return self.gain(others, seen.y) - seen.cost + jnp.log(self.model.config.z_pres_prior)

    def gain(self, residual: Patches, y: Patches) -> Float[Array, " K"]:
        """Nats by which drawing y raises the log-likelihood."""
        likelihood = self.model.likelihood
        change = jnp.square(residual) - jnp.square(residual - y)
        total = change.reshape(len(y), -1).sum(-1)
        return likelihood.power * total / (2 * jnp.square(likelihood.sd))

    def close(self, some: Slots, windows: float = 2.0) -> Bool[Array, "K K"]:
        """Which pairs of objects are less than two windows apart, so that each changes what the
        other is worth."""
        half = jnp.array(self.patch, jnp.float32) / 2
        at = some.corner + (middles(some.seen.where)[:, ::-1] + 1) * half
        far = jnp.square(at[:, None] - at[None]).sum(-1)
        return (far < (windows * self.side) ** 2) & some.on[:, None] & some.on[None]

    def alone(
        self, which: Bool[Array, " K"], some: Slots, windows: float = 2.0
    ) -> Bool[Array, " K"]:
        """Those that have no earlier one of them close by."""
        earlier = jnp.arange(TOGETHER)[:, None] > jnp.arange(TOGETHER)
        return which & ~(self.close(some, windows) & earlier & which[None]).any(1)


def _cost(
    loc: Float[Array, "K n"],
    scale: Float[Array, "K n"],
    prior_loc: Float[Array, " n"] | float,
    prior_scale: Float[Array, " n"] | float,
) -> Float[Array, " K"]:
    """Nats that latents take off the log evidence: minus their log prior density at the means of a
    normal posterior, and minus the logarithm of the volume of that posterior (MacKay, Information
    Theory, Inference, and Learning Algorithms, 2003, chapter 27)."""
    z = (loc - prior_loc) / prior_scale
    return (jnp.square(z) / 2 - jnp.log(scale / prior_scale)).sum(-1)
