"""The generative program: how an image comes about (Eslami et al., 2016, section 2).

At each step t, an object appears with probability p_t if one appeared at the step before. Its place
z_where and its code z_what are drawn. The code is decoded to a small image y_att, which is placed
in the image (y_t). The sum of the y_t is the mean of the pixels (or they hide what is behind them:
`airjax.programs.compose`). Sites are named as in the paper and the tutorial.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray
from numpyro import handlers
from numpyro.contrib.module import eqx_module

from airjax.config import ModelConfig
from airjax.programs.compose import behind
from airjax.programs.likelihood import Likelihood
from airjax.programs.networks import Decoder
from airjax.programs.spatial import over_pixels, window_to_image


def geometric_like(k: ArrayLike, steps: int) -> Float[Array, " T"]:
    """Probabilities p_t of z_pres_t = 1, given the step before, with p(n + 1) / p(n) = k.

    n = 0 .. T is the count that they imply. This is the truncated geometric prior of Pyro's AIR
    example.
    p_t = k S_k(T - t - 1) / S_k(T - t) with S_k(m) = 1 + k + ... + k^m; for k > 1 in powers of 1/k,
    so that nothing underflows or overflows.
    """
    ratio = jnp.asarray(k, float)
    inverse = jnp.minimum(ratio, 1 / ratio)
    sums = jnp.cumsum(inverse ** jnp.arange(steps + 1))
    return jnp.minimum(ratio, 1) * (sums[:-1] / sums[1:])[::-1]


def presence_probs(config: ModelConfig, k: ArrayLike | None = None) -> Float[Array, " T"]:
    """The prior's p_t: geometric-like with ratio k, or, if the config says so, each k itself.

    Args:
        config: of the model.
        k: replaces the config's ``z_pres_prior``; may be traced.
    """
    k = config.z_pres_prior if k is None else k
    if config.z_pres_prior_raw:
        return jnp.full(config.model_steps, k)
    return geometric_like(k, config.model_steps)


def geom(p: float, num_trials: int = 0) -> int:
    """The tutorial's geometric distribution as a program: trials x0, x1, ... until one succeeds.

    Run it under NumPyro's ``seed`` handler. Returns the number of failures.
    """
    x = jnp.asarray(numpyro.sample(f"x{num_trials}", dist.Bernoulli(p)))
    return num_trials if x else geom(p, num_trials + 1)


def where_prior(config: ModelConfig) -> tuple[Float[Array, "3"], Float[Array, "3"]]:
    """Prior location and scale of z_where = (s, x, y)."""
    loc = jnp.array([config.scale_prior_mean, config.pos_prior_mean, config.pos_prior_mean])
    scale = jnp.array([config.scale_prior_sd, config.pos_prior_sd, config.pos_prior_sd])
    return loc, scale


class Model(eqx.Module):
    """The generative program with its network.

    Called on images ``[N, H, W]`` (``[N, H, W, C]`` with colours) in [0, 1] it is a NumPyro program
    with the sites ``z_pres_t`` [N], ``z_where_t`` [N, 3], ``z_what_t`` [N, Z] (t = 0 .. T-1) and
    ``obs`` [N, H, W], the deterministic ``y_t`` [N, H, W] (the object in its place; with opacity,
    one channel more), the parameter ``decoder$params`` and, if background or noise are learned,
    ``likelihood$params``. Unless the config turns masking off, the log-probability of z_where_t
    and z_what_t is zero where z_pres_t is 0.
    """

    config: ModelConfig = eqx.field(static=True)
    decoder: Decoder
    likelihood: Likelihood

    def __call__(
        self,
        images: Float[Array, "N H W *C"],
        z_pres_prior: Float[Array, " T"] | None = None,
        exploration: ArrayLike = 0.0,
    ) -> None:
        """The program of latents and images.

        Args:
            images: in [0, 1].
            z_pres_prior: p_t (default: `presence_probs` of the config).
            exploration: of the guide; not used here.
        """
        decoder = cast(Decoder, eqx_module("decoder", self.decoder))
        likelihood = self.likelihood.registered().of(images)
        with numpyro.plate("images", len(images)):
            canvas = self.prior(decoder, len(images), z_pres_prior)
            pixels = likelihood(canvas).to_event(images.ndim - 1)
            with handlers.scale(scale=likelihood.power):
                numpyro.sample("obs", pixels, obs=images)

    def prior(
        self, decoder: Decoder, n: int, z_pres_prior: Float[Array, " T"] | None = None
    ) -> Float[Array, "n H W *K"]:
        """Draws n scenes of T steps each and returns their canvases. Call it in a plate."""
        if z_pres_prior is None:
            z_pres_prior = presence_probs(self.config)
        canvas, z_pres = jnp.zeros((n, *self.config.canvas_shape)), jnp.ones(n)
        for t in range(self.config.model_steps):
            canvas, z_pres = self.prior_step(t, decoder, z_pres_prior[t], canvas, z_pres)
        return canvas

    def scenes(
        self, key: PRNGKeyArray, n: int, z_pres_prior: Float[Array, " T"]
    ) -> Float[Array, "n H W *C"]:
        """n scenes drawn from the prior, as the mean of their pixels."""
        with handlers.seed(rng_seed=key):
            return self.likelihood.mean(self.prior(self.decoder, n, z_pres_prior))

    def prior_step(
        self,
        t: int,
        decoder: Decoder,
        p: ArrayLike,
        canvas: Float[Array, "n H W *K"],
        z_pres: Float[Array, " n"],
    ) -> tuple[Float[Array, "n H W *K"], Float[Array, " n"]]:
        """One step: presence, place and code; the object is in the canvas where present."""
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p * z_pres))
        z_pres = jnp.asarray(presence, float)
        y = self.object(t, decoder, z_pres.astype(bool))
        # where, not a product: if z_pres is constant, XLA drops the branch that is not taken
        y = jnp.where(over_pixels(z_pres.astype(bool), y), y, 0)
        return behind(self.config.compose, canvas, y), z_pres

    def object(
        self, t: int, decoder: Decoder, present: Bool[Array, " n"]
    ) -> Float[Array, "n H W *K"]:
        """Draws place and code of one object, and decodes and places it in an empty image."""
        n, z = len(present), self.config.encoder_latent_size
        present = present | (not self.config.masking)
        loc, scale = where_prior(self.config)
        where = dist.Normal(loc, scale).expand((n, 3)).to_event(1).mask(present)
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", where))
        what = dist.Normal(0.0, 1.0).expand((n, z)).to_event(1).mask(present)
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what))
        y = window_to_image(z_where, decoder(z_what), self.config.image_size)
        return jnp.asarray(numpyro.deterministic(f"y_{t}", y))

    def geom_prior(
        self,
        decoder: Decoder,
        p: float,
        step: int = 0,
        canvas: Float[Array, "1 H W *K"] | None = None,
    ) -> Float[Array, "1 H W *K"]:
        """The tutorial's image from the unbounded geometric prior: steps until one has no object.

        Run it under NumPyro's ``seed`` handler. p, below 1, is the probability of a further object.
        """
        canvas = jnp.zeros((1, *self.config.canvas_shape)) if canvas is None else canvas
        canvas, z_pres = self.prior_step(step, decoder, p, canvas, jnp.ones(1))
        return self.geom_prior(decoder, p, step + 1, canvas) if z_pres[0] else canvas

    def geom_prior_batch(
        self, key: PRNGKeyArray, n: int, p: ArrayLike, max_steps: ArrayLike
    ) -> tuple[Float[Array, "n H W *C"], Int[Array, " n"]]:
        """n images of the geometric prior at once, and their counts. Steps are taken until every
        image has stopped, or up to ``max_steps``. Can be compiled."""

        def unfinished(state):
            t, _, z_pres, _ = state
            return z_pres.any() & (t < max_steps)

        def body(state):
            t, canvas, z_pres, count = state
            with handlers.seed(rng_seed=jax.random.fold_in(key, t)):
                canvas, z_pres = self.prior_step(0, self.decoder, p, canvas, z_pres)
            return t + 1, canvas, z_pres, count + z_pres.astype(int)

        canvas = jnp.zeros((n, *self.config.canvas_shape))
        state = (jnp.array(0), canvas, jnp.ones(n), jnp.zeros(n, int))
        _, canvas, _, count = jax.lax.while_loop(unfinished, body, state)
        return self.likelihood.mean(canvas), count
