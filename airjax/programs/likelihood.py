"""From the canvas (the sum of the objects) to the pixels: the background, and the noise."""

import math
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float, UInt8
from numpyro.contrib.module import eqx_module

from airjax.checks import one_of
from airjax.config import LIKELIHOOD_SD, Compose, ModelConfig
from airjax.own_background import OWN, own_background
from airjax.programs.compose import on_background


class Likelihood(eqx.Module):
    """p(x | canvas) = Normal(b + (1 - b) canvas, sd) with background b, 0 if there is none.

    This is for objects that are added up, as in the paper; for others see
    `airjax.programs.compose.on_background`.

    Attributes:
        background: b, ``[H, W]`` or ``[H, W, C]`` in [0, 1]; None without a background. Where each
            image has a background of its own, the mean of images, until `of` binds it to some.
        log_sd: log sd if it is learned, otherwise None.
        fixed_sd: sd if it is not learned.
        learns_background: whether b is a parameter.
        own: how each image's own background is estimated; None where all have the same.
        is_grey: whether images have no colours.
        compose: how objects make an image.

    Raises:
        InputError: if the config's background is not decided yet.
    """

    background: Float[Array, "H W *C"] | None
    log_sd: Float[Array, ""] | None
    fixed_sd: float = eqx.field(static=True)
    learns_background: bool = eqx.field(static=True)
    own: str | None = eqx.field(static=True)
    is_grey: bool = eqx.field(static=True)
    compose: Compose = eqx.field(static=True)

    def __init__(self, config: ModelConfig):
        sd, learns_sd = config.likelihood_sd, config.likelihood_sd == "learned"
        one_of(("none", "mean", "learned", *OWN), background=config.background)
        self.background = None if config.background == "none" else jnp.zeros(config.image_shape)
        self.log_sd = jnp.array(math.log(LIKELIHOOD_SD)) if learns_sd else None
        self.fixed_sd = LIKELIHOOD_SD if isinstance(sd, str) else sd
        self.learns_background = config.background == "learned"
        self.own = config.background if config.background in OWN else None
        self.is_grey = config.channels == 1
        self.compose = config.compose

    def __call__(self, canvas: Float[Array, "n H W *K"]) -> dist.Normal:
        """The distribution of each pixel."""
        fixed = jax.lax.stop_gradient(self.sd)
        # the power must not change the gradient of sd: that of the likelihood without power
        return dist.Normal(self.mean(canvas), fixed + (self.sd - fixed) / self.power)

    @property
    def sd(self) -> Float[Array, ""]:
        """The standard deviation of a pixel."""
        return jnp.array(self.fixed_sd) if self.log_sd is None else jnp.exp(self.log_sd)

    @property
    def power(self) -> Float[Array, ""]:
        """The power of the likelihood: ``min(1, (sd / 0.3)^2)`` if sd is learned, otherwise 1.

        The smaller sd is, the more nats the same reduction of the squared error is worth. Without
        the power, the details that the decoder cannot draw would then be worth a further window.
        With it, squared errors have the same weight against the priors as at sd = 0.3. sd itself is
        still learned as the standard deviation of a pixel.
        """
        if self.log_sd is None:
            return jnp.array(1.0)
        return jax.lax.stop_gradient(jnp.minimum(1.0, (self.sd / LIKELIHOOD_SD) ** 2))

    @property
    def clipped_background(self) -> Float[Array, "H W *C"] | None:
        """b in [0, 1], without a gradient unless it is learned."""
        if self.background is None:
            return None
        b = jnp.clip(self.background, 0, 1)
        return b if self.learns_background else jax.lax.stop_gradient(b)

    def mean(self, canvas: Float[Array, "*canvas"]) -> Float[Array, "*image"]:
        """The mean of the pixels: the canvas over the background."""
        return on_background(self.compose, canvas, self.clipped_background)

    @property
    def empty(self) -> Float[Array, "*image"]:
        """The mean of the pixels of a scene without objects; one number if it is black."""
        b = self.clipped_background
        return jnp.array(0.0) if b is None else b

    def foreground(self, images: Float[Array, "*N H W"]) -> Float[Array, "*N H W"]:
        """Images less the background: what the guide reads, without a gradient of b."""
        b = self.clipped_background
        return images if b is None else images - jax.lax.stop_gradient(b)

    def of(self, images: Float[Array, "*image"]) -> "Likelihood":
        """This likelihood of these images, with their own backgrounds if they have such: ``[H, W]``
        or ``[N, H, W]``, or with colours, in [0, 1]."""
        if self.own is None or self.background is None:
            return self
        b = own_background(self.own, images[..., None] if self.is_grey else images)
        b = b[..., 0] if self.is_grey else b
        return eqx.tree_at(lambda likelihood: likelihood.background, self, b)

    def registered(self) -> "Likelihood":
        """This likelihood in a program: a parameter ``likelihood$params`` if part is learned."""
        if not self.learns_background and self.log_sd is None:
            return self
        return cast(Likelihood, eqx_module("likelihood", self))

    def with_mean_of(self, images: UInt8[ArrayLike, "N H W *C"]) -> "Likelihood":
        """This likelihood with the mean of images as its background, if it has one."""
        if self.background is None:
            return self
        mean = jnp.mean(images, axis=0, dtype=jnp.float32) / 255
        return eqx.tree_at(lambda likelihood: likelihood.background, self, mean)
