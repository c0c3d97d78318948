"""The generative program: how AIR says that images come about.

At each step, with probability p_t if the step before did, an object appears: its place z_where and
code z_what are drawn, the code is decoded to a small image y_att, that is placed in the image
(y_t), and the sum of these is the mean of the pixels. Site names are those of the paper and the
tutorial.
"""

from typing import cast

import equinox as eqx
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Bool, Float
from numpyro.contrib.module import eqx_module

from airjax.config import ModelConfig
from airjax.networks import Decoder
from airjax.spatial import window_to_image


def geometric_like(k: float, steps: int) -> Float[Array, " T"]:
    """Probabilities p_t of z_pres_t = 1, given the step before, with p(n + 1) / p(n) = k.

    n = 0 .. T is the count they imply; this is the truncated geometric prior of Pyro's AIR example.
    """
    p_n = k ** jnp.arange(steps + 1, dtype=jnp.float32)
    tail = jnp.cumsum(p_n[::-1])[::-1]  # of n >= t, up to a factor
    return tail[1:] / tail[:-1]


def where_prior(config: ModelConfig) -> tuple[Float[Array, "3"], Float[Array, "3"]]:
    """Prior location and scale of z_where = (s, x, y)."""
    loc = jnp.array([config.scale_prior_mean, config.pos_prior_mean, config.pos_prior_mean])
    scale = jnp.array([config.scale_prior_sd, config.pos_prior_sd, config.pos_prior_sd])
    return loc, scale


class Model(eqx.Module):
    """The generative program with its network.

    Called on images ``[N, H, W]`` in [0, 1] it is a NumPyro program with the sites ``z_pres_t``
    [N], ``z_where_t`` [N, 3], ``z_what_t`` [N, Z] (t = 0 .. T-1) and ``obs`` [N, H, W], the
    deterministic ``y_t`` [N, H, W] (the object in its place) and the parameter ``decoder$params``.
    A site is masked (its log-probability counts as zero) where z_pres_t is 0.
    """

    config: ModelConfig = eqx.field(static=True)
    decoder: Decoder

    def __call__(
        self,
        images: Float[Array, "N H W"],
        z_pres_prior: Float[Array, " T"] | None = None,
        exploration: ArrayLike = 0.0,
    ) -> None:
        """The program of latents and images.

        Args:
            images: in [0, 1].
            z_pres_prior: other p_t than those of the config's count prior.
            exploration: the guide's; not used here.
        """
        decoder = cast(Decoder, eqx_module("decoder", self.decoder))
        with numpyro.plate("images", len(images)):
            canvas = self.prior(decoder, len(images), z_pres_prior)
            likelihood = dist.Normal(canvas, self.config.likelihood_sd).to_event(2)
            numpyro.sample("obs", likelihood, obs=images)

    def prior(
        self, decoder: Decoder, n: int, z_pres_prior: Float[Array, " T"] | None = None
    ) -> Float[Array, "n H W"]:
        """Draws n scenes, T steps each, and returns their canvases; to be called in a plate."""
        if z_pres_prior is None:
            z_pres_prior = geometric_like(self.config.z_pres_prior, self.config.model_steps)
        canvas, z_pres = jnp.zeros((n, *self.config.image_size)), jnp.ones(n)
        for t in range(self.config.model_steps):
            canvas, z_pres = self.prior_step(t, decoder, z_pres_prior[t], canvas, z_pres)
        return canvas

    def prior_step(
        self,
        t: int,
        decoder: Decoder,
        p: Float[Array, ""],
        canvas: Float[Array, "n H W"],
        z_pres: Float[Array, " n"],
    ) -> tuple[Float[Array, "n H W"], Float[Array, " n"]]:
        """One step: presence, place, code; the object is added where present."""
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p * z_pres))
        z_pres = jnp.asarray(presence, float)
        y = self.object(t, decoder, z_pres.astype(bool))
        # where, and not a product: under a constant z_pres, XLA drops the branch not taken
        canvas = canvas + jnp.where(z_pres.astype(bool)[:, None, None], y, 0)
        return canvas, z_pres

    def object(self, t: int, decoder: Decoder, present: Bool[Array, " n"]) -> Float[Array, "n H W"]:
        """Draws place and code of one object, and decodes and places it in an empty image."""
        n, z = len(present), self.config.encoder_latent_size
        loc, scale = where_prior(self.config)
        where = dist.Normal(loc, scale).expand((n, 3)).to_event(1).mask(present)
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", where))
        what = dist.Normal(0.0, 1.0).expand((n, z)).to_event(1).mask(present)
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what))
        y = window_to_image(z_where, decoder(z_what), self.config.image_size)
        return jnp.asarray(numpyro.deterministic(f"y_{t}", y))
