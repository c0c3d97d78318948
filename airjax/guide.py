"""The guide (the paper's inference network): a program with the model's latent sites, given images.

A recurrent network reads the image, or a part of it that is looked at, and the latents of the step
before. At each step it says whether there is a further object (z_pres) and where (z_where); there a
window x_att is cut out of the image, and an encoder reads the object's code (z_what) off it.
"""

import math
from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float
from numpyro.contrib.module import eqx_module

from airjax.config import ModelConfig
from airjax.likelihood import Likelihood
from airjax.model import where_prior
from airjax.networks import Baseline, GuideNetworks, LSTMState
from airjax.spatial import image_to_window, over_pixels, pixel_centres

WIDER = 2  # how much more than a window is looked at, along each axis


class GuideState(NamedTuple):
    """What one step of the guide hands to the next; ``log_odds``, given the steps so far, are those
    of the count being explored and not the guide's own; ``left`` is what the windows so far leave
    of the image."""

    rnn: LSTMState
    log_odds: Float[Array, " N"]
    z_pres: Float[Array, " N"]
    z_where: Float[Array, "N 3"]
    z_what: Float[Array, "N Z"]
    left: Float[Array, "N H W *C"]

    @property
    def latents(self) -> Float[Array, "N latents"]:
        """What the recurrent networks read of the step before."""
        return jnp.concatenate([self.z_where, self.z_what, self.z_pres[:, None]], axis=-1)


class Guide(eqx.Module):
    """The paper's guide with its networks.

    Called on images ``[N, H, W]`` (``[N, H, W, C]`` with colours) in [0, 1] it is a NumPyro program
    with the sites ``z_pres_t`` [N], ``z_where_t`` [N, 3] and ``z_what_t`` [N, Z], masked as the
    model's, and the parameter ``guide$params``. It reads images less the likelihood's ground. With
    a baseline there are also the parameter ``baseline$params`` and the deterministic ``baseline_t``
    [N], the baseline of z_pres_t.
    """

    config: ModelConfig = eqx.field(static=True)
    networks: GuideNetworks
    likelihood: Likelihood
    baseline: Baseline | None = None

    def __call__(
        self,
        images: Float[Array, "N H W *C"],
        z_pres_prior: Float[Array, " T"] | None = None,
        exploration: ArrayLike = 0.0,
    ) -> None:
        """The program.

        Args:
            images: in [0, 1].
            z_pres_prior: the model's; not used here.
            exploration: epsilon, a probability: the count is drawn from
                ``(1 - epsilon) q(n) + epsilon / (T + 1)`` and not from q(n). So no count is given
                up before the other networks have had time to make something of it.
        """
        networks = cast(GuideNetworks, eqx_module("guide", self.networks))
        images = self.likelihood.registered().less_ground(images)
        from_image, state = self.start(networks, images, exploration)
        bl_state = None if self.baseline is None else baseline_start(self.baseline, images)
        with numpyro.plate("images", len(images)):
            for t in range(self.config.model_steps):
                if bl_state is not None:
                    bl_state = baseline_step(t, bl_state, state)
                state = self.step(t, networks, images, from_image, state)

    def start(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        exploration: ArrayLike = 0.0,
    ) -> tuple[Float[Array, "N gates"], GuideState]:
        """What is read of the image once, and the state before the first step: but for ``left``, it
        has one row, the same for all images."""
        epsilon = jnp.asarray(exploration, float)
        state = GuideState(
            rnn=networks.rnn.initial_state,
            log_odds=(jnp.log(epsilon) - jnp.log1p(-epsilon))[None],
            z_pres=jnp.ones(1),
            z_where=networks.z_where_init[None],
            z_what=networks.z_what_init[None],
            left=images,
        )
        return self.read(networks, images), state

    def step(
        self,
        t: int,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        from_image: Float[Array, "N gates"],
        last: GuideState,
    ) -> GuideState:
        """One step: recurrent core, presence, place, window, code."""
        place, from_image = self.look(networks, images, from_image, last)
        rnn = networks.rnn(from_image, last.latents, last.rnn)
        p, where_loc, where_scale = networks.predict(rnn.h)

        # a uniform count that has reached t goes on with the probability p_explored
        p_explored = (self.config.model_steps - t) / (self.config.model_steps - t + 1)
        explores = jax.nn.sigmoid(last.log_odds)
        p_mixed = (1 - explores) * p + explores * p_explored
        # in logarithms: a ratio of small p's has no finite gradient in float32
        log_p = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
        log_odds = last.log_odds + math.log(p_explored) - log_p
        # where, and not a product: the gradient of log(0) must not get through as 0 x infinity
        p_present = jnp.where(last.z_pres.astype(bool), p_mixed, 0)
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p_present))
        z_pres = jnp.asarray(presence, float)
        present = z_pres.astype(bool) | (not self.config.masking)

        # relative to the prior, so that untrained windows have the size of objects
        loc, scale = where_prior(self.config)
        where_loc = loc[None] + where_loc
        # a window of scale s lies around the place u where s u + x is 0
        where_loc = where_loc.at[:, 1:].add(-where_loc[:, :1] * place)
        where = dist.Normal(where_loc, scale[None] * where_scale)
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", where.to_event(1).mask(present)))

        what = dist.Normal(*self.code(networks, rnn, z_where, images))
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what.to_event(1).mask(present)))
        left = self.leave(last.left, z_where)
        return GuideState(rnn, log_odds, z_pres, z_where, z_what, left)

    def read(self, networks: GuideNetworks, images: Float[Array, "N H W *C"]) -> Array:
        """What every step has of the image: its share of the LSTM's gates."""
        return networks.rnn.image(networks.embed(images))

    def look(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        from_image: Array,
        last: GuideState,
    ) -> tuple[Float[Array, "N 2"], Float[Array, "N gates"]]:
        """Where a step looks (x, y in [-1, 1]), and its share of the LSTM's gates: at the middle,
        and at everything."""
        return jnp.zeros((len(images), 2)), from_image

    def leave(
        self, left: Float[Array, "N H W *C"], z_where: Float[Array, "N 3"]
    ) -> Float[Array, "N H W *C"]:
        """What a window leaves of the image for later steps to look at: all of it."""
        return left

    def code(
        self,
        networks: GuideNetworks,
        rnn: LSTMState,
        z_where: Float[Array, "N 3"],
        images: Float[Array, "N H W *C"],
    ) -> tuple[Float[Array, "N Z"], Float[Array, "N Z"]]:
        """Location and scale of z_what, read off the window x_att."""
        x_att = image_to_window(z_where, images, self.config.window_size)
        return networks.encoder(x_att)


class AttendGuide(Guide):
    """A guide that looks, at each step, where most of the image is left.

    It sees the image and what is left of it through a wider window, around the place where a window
    at the prior's scale would hold most light; the LSTM reads these two, and nothing else of the
    image. What the windows so far hold is taken away, faded towards their outlines. The place is
    no random variable and has no gradient: the networks learn how far the object is off it. So an
    object is read alike wherever it is, and few images suffice.
    """

    def read(self, networks, images):
        """Nothing."""
        return jnp.zeros((len(images), 0))

    def look(self, networks, images, from_image, last):
        """Where most is left, and the gates' share of what is seen there."""
        s, (height, width) = self.config.scale_prior_mean, self.config.image_size
        light = last.left.reshape(*images.shape[:3], -1).sum(-1)
        held = _held(height, s) @ light @ _held(width, s)
        best = held.reshape(len(images), -1).argmax(-1)
        u, v = pixel_centres(width)[best % width], pixel_centres(height)[best // width]
        place = jnp.stack([u, v], axis=-1)
        wider = s / WIDER
        where = jnp.insert(-wider * place, 0, wider, axis=-1)
        seen = [image_to_window(where, x, self.config.window_size) for x in (images, last.left)]
        features = networks.embed(jnp.stack(seen, axis=1).reshape(len(images), -1))
        return place, networks.rnn.image(features)

    def leave(self, left, z_where):
        """All but what the window holds: nothing of its inner half, more and more further out."""
        s, x, y = jax.lax.stop_gradient(z_where).T[..., None]
        rows, columns = (
            jnp.clip(2 - 2 * jnp.abs(s * pixel_centres(n) + shift), 0, 1)
            for n, shift in zip(self.config.image_size, (y, x), strict=True)
        )
        covered = rows[:, :, None] * columns[:, None, :]
        return left * over_pixels(1 - covered, left)


def _held(n: int, s: float) -> Float[Array, "n n"]:
    """How much of each pixel a window of scale s around each pixel holds, less towards its outline;
    along one axis."""
    u = pixel_centres(n)
    return jnp.maximum(0, 1 - s * jnp.abs(u[:, None] - u[None]))


class BasicGuide(Guide):
    """The tutorial's first guide: z_what is read from the LSTM's state, not from a window."""

    def code(self, networks, rnn, z_where, images):
        """Location and scale of z_what, read off the LSTM's state."""
        return networks.encoder(rnn.h)


GUIDES: dict[str, type[Guide]] = {"attend": AttendGuide, "window": Guide, "basic": BasicGuide}


class BaselineState(NamedTuple):
    """What one step of the baseline hands to the next."""

    network: Baseline
    from_image: Float[Array, "N gates"]
    rnn: LSTMState


def baseline_start(baseline: Baseline, images: Float[Array, "N H W *C"]) -> BaselineState:
    """The state before the first step; registers the baseline's parameters."""
    network = cast(Baseline, eqx_module("baseline", baseline))
    from_image = network.rnn.image(network.embed(images))
    return BaselineState(network, from_image, network.rnn.initial_state)


def baseline_step(t: int, state: BaselineState, last: GuideState) -> BaselineState:
    """The baseline of z_pres_t: zero once an image is complete. What it reads of the guide is
    detached, for the two are trained for different ends."""
    latents = jax.lax.stop_gradient(last.latents)
    rnn = state.network.rnn(state.from_image, latents, state.rnn)
    numpyro.deterministic(f"baseline_{t}", state.network.value(rnn.h) * last.z_pres)
    return state._replace(rnn=rnn)
