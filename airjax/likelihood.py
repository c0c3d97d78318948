"""From the canvas (the sum of the objects) to the pixels: the ground behind them, and the noise."""

import math
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float, UInt8
from numpyro.contrib.module import eqx_module

from airjax.config import LIKELIHOOD_SD, ModelConfig


class Likelihood(eqx.Module):
    """p(x | canvas) = Normal(b + (1 - b) canvas, sd), with b = 0 where no ground is asked for.

    The objects y_t are added up, as in the paper; 1 - b is what is left between the ground and
    white, so that an object of intensity 1 is white on any ground.

    Attributes:
        background: the ground b, ``[H, W]`` or ``[H, W, C]`` in [0, 1]; None without one.
        log_sd: log sd where it is learned, otherwise None.
        fixed_sd: otherwise.
        learns_background: whether b is a parameter.
    """

    background: Float[Array, "H W *C"] | None
    log_sd: Float[Array, ""] | None
    fixed_sd: float = eqx.field(static=True)
    learns_background: bool = eqx.field(static=True)

    def __init__(self, config: ModelConfig):
        sd, learns_sd = config.likelihood_sd, config.likelihood_sd == "learned"
        self.background = None if config.background == "none" else jnp.zeros(config.image_shape)
        self.log_sd = jnp.array(math.log(LIKELIHOOD_SD)) if learns_sd else None
        self.fixed_sd = LIKELIHOOD_SD if sd == "learned" else sd
        self.learns_background = config.background == "learned"

    def __call__(self, canvas: Float[Array, "n H W *C"]) -> dist.Normal:
        """The distribution of each pixel."""
        fixed = jax.lax.stop_gradient(self.sd)
        # the power is for the objects: the gradient of sd is that of the whole likelihood
        return dist.Normal(self.on_ground(canvas), fixed + (self.sd - fixed) / self.power)

    @property
    def sd(self) -> Float[Array, ""]:
        """The standard deviation of a pixel."""
        return jnp.array(self.fixed_sd) if self.log_sd is None else jnp.exp(self.log_sd)

    @property
    def power(self) -> Float[Array, ""]:
        """The power of the likelihood: ``min(1, (sd / 0.3)^2)`` where sd is learned, else 1.

        The smaller sd, the more nats the same improvement of a picture is worth: what the decoder
        cannot draw of an object would then be worth a further window. With this power, squared
        errors weigh against the priors as they do at 0.3, however small sd becomes; sd itself is
        still learned as the pixels' standard deviation.
        """
        if self.log_sd is None:
            return jnp.array(1.0)
        return jax.lax.stop_gradient(jnp.minimum(1.0, (self.sd / LIKELIHOOD_SD) ** 2))

    @property
    def ground(self) -> Float[Array, "H W *C"] | None:
        """b."""
        if self.background is None:
            return None
        b = jnp.clip(self.background, 0, 1)
        return b if self.learns_background else jax.lax.stop_gradient(b)

    def on_ground(self, canvas: Float[Array, "*N H W"]) -> Float[Array, "*N H W"]:
        """The mean of the pixels."""
        b = self.ground
        return canvas if b is None else b + (1 - b) * canvas

    def less_ground(self, images: Float[Array, "*N H W"]) -> Float[Array, "*N H W"]:
        """What the guide reads; it does not shape the ground."""
        return images if self.ground is None else images - jax.lax.stop_gradient(self.ground)

    def registered(self) -> "Likelihood":
        """In a program: this, as the parameter ``likelihood$params`` if any of it is learned."""
        if not self.learns_background and self.log_sd is None:
            return self
        return cast(Likelihood, eqx_module("likelihood", self))

    def with_mean_of(self, images: UInt8[ArrayLike, "N H W *C"]) -> "Likelihood":
        """This, its ground (if it has one) begun with the mean of images."""
        if self.background is None:
            return self
        mean = jnp.mean(images, axis=0, dtype=jnp.float32) / 255
        return eqx.tree_at(lambda likelihood: likelihood.background, self, mean)
