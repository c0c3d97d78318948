"""The guide (the paper's inference network): a program of the model's latent sites, given images.

A recurrent network reads the image, or the part of it that is attended to, and the latents of the
step before. At each step it infers whether there is a further object (z_pres) and where (z_where).
There, a window x_att is cut out of the image, and an encoder infers the object's code (z_what) from
it. (Eslami et al., 2016, section 2.1 and figure 2.)
"""

import math
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from numpyro import handlers
from numpyro.contrib.module import eqx_module

from airjax.config import ModelConfig
from airjax.programs.likelihood import Likelihood
from airjax.programs.model import where_prior
from airjax.programs.networks import Baseline, GuideNetworks, LSTMState
from airjax.programs.spatial import image_to_window, over_pixels, pixel_centres

Site = dict[str, Any]  # of a NumPyro trace
WIDER = 2  # side of the region that is attended to, in sides of a window


class GuideState(NamedTuple):
    """What one step of the guide passes to the next.

    Attributes:
        rnn: state of the LSTM.
        log_odds: that the count is explored (drawn uniformly), given the steps so far.
        z_pres: presence at the last step.
        z_where: place at the last step.
        z_what: code at the last step.
        residual: what the windows so far do not cover of the image.
    """

    rnn: LSTMState
    log_odds: Float[Array, " N"]
    z_pres: Float[Array, " N"]
    z_where: Float[Array, "N 3"]
    z_what: Float[Array, "N Z"]
    residual: Float[Array, "N H W *C"]

    @property
    def latents(self) -> Float[Array, "N latents"]:
        """What the recurrent networks read from the step before."""
        return jnp.concatenate([self.z_where, self.z_what, self.z_pres[:, None]], axis=-1)


class Guide(eqx.Module):
    """The paper's guide, with its networks.

    Called on images ``[N, H, W]`` (``[N, H, W, C]`` with colours) in [0, 1] it is a NumPyro program
    with the sites ``z_pres_t`` [N], ``z_where_t`` [N, 3] and ``z_what_t`` [N, Z], masked as the
    in the model, and the parameter ``guide$params``. It reads images less the background. With a
    baseline there are also the parameter ``baseline$params`` and the deterministic ``baseline_t``
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
            z_pres_prior: of the model; not used here.
            exploration: epsilon, a probability: the count is drawn from
                ``(1 - epsilon) q(n) + epsilon / (T + 1)`` instead of q(n). So no count is given up
                before the other networks have learned to use it.
        """
        networks = cast(GuideNetworks, eqx_module("guide", self.networks))
        images = self.likelihood.registered().foreground(images)
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
        """What every step reads of the image, and the state before the first step. Apart from the
        residual, that state has one row for all images."""
        epsilon = jnp.asarray(exploration, float)
        state = GuideState(
            rnn=networks.rnn.initial_state,
            log_odds=(jnp.log(epsilon) - jnp.log1p(-epsilon))[None],
            z_pres=jnp.ones(1),
            z_where=networks.z_where_init[None],
            z_what=networks.z_what_init[None],
            residual=images,
        )
        return self.embed(networks, images), state

    def step(
        self,
        t: int,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        from_image: Float[Array, "N gates"],
        last: GuideState,
    ) -> GuideState:
        """One step: recurrent core, presence, place, window, code."""
        place, from_image = self.attend(networks, images, from_image, last)
        rnn = networks.rnn(from_image, last.latents, last.rnn)
        p, where_loc, where_scale = networks.predict(rnn.h)

        # a uniform count that has reached t goes beyond t with the probability p_explored
        p_explored = (self.config.model_steps - t) / (self.config.model_steps - t + 1)
        explores = jax.nn.sigmoid(last.log_odds)
        p_mixed = (1 - explores) * p + explores * p_explored
        # in logarithms: a ratio of small probabilities has no finite gradient in float32
        log_p = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
        log_odds = last.log_odds + math.log(p_explored) - log_p
        # where, not a product: the gradient of log(0) would become 0 x infinity
        p_present = jnp.where(last.z_pres.astype(bool), p_mixed, 0)
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p_present))
        z_pres = jnp.asarray(presence, float)
        present = z_pres.astype(bool) | (not self.config.masking)

        # relative to the prior, so that untrained windows have the size of objects
        loc, scale = where_prior(self.config)
        where_loc = loc[None] + where_loc
        # a window of scale s is centred at the place u where s u + x is 0
        where_loc = where_loc.at[:, 1:].add(-where_loc[:, :1] * place)
        where = dist.Normal(where_loc, scale[None] * where_scale)
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", where.to_event(1).mask(present)))

        what = dist.Normal(*self.encode(networks, rnn, z_where, images))
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what.to_event(1).mask(present)))
        residual = self.uncovered(last.residual, z_where)
        return GuideState(rnn, log_odds, z_pres, z_where, z_what, residual)

    def embed(self, networks: GuideNetworks, images: Float[Array, "N H W *C"]) -> Array:
        """The image's contribution to the gates of the LSTM, the same at every step."""
        return networks.rnn.image(networks.embed(images))

    def attend(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        from_image: Array,
        last: GuideState,
    ) -> tuple[Float[Array, "N 2"], Float[Array, "N gates"]]:
        """The place that a step attends to (x, y in [-1, 1]), and the gates of the LSTM for it. In
        this guide: the centre, and the gates of the whole image."""
        return jnp.zeros((len(images), 2)), from_image

    def uncovered(
        self, residual: Float[Array, "N H W *C"], z_where: Float[Array, "N 3"]
    ) -> Float[Array, "N H W *C"]:
        """The residual after a window was placed. In this guide it does not change."""
        return residual

    def encode(
        self,
        networks: GuideNetworks,
        rnn: LSTMState,
        z_where: Float[Array, "N 3"],
        images: Float[Array, "N H W *C"],
    ) -> tuple[Float[Array, "N Z"], Float[Array, "N Z"]]:
        """Location and scale of z_what, from the window x_att."""
        x_att = image_to_window(z_where, images, self.config.window_size)
        return networks.encoder(x_att)


class AttendGuide(Guide):
    """A guide that attends, at each step, to the place with the largest residual.

    The place is where a window of the prior's scale would cover most of the residual. The LSTM
    reads two wider windows there, of the image and of the residual, and nothing else of the image.
    A window removes what it covers from the residual, less towards its outline. The place is not a
    random variable and has no gradient: the networks learn the offset of the object from it. So an
    object is read in the same way wherever it is, and few images suffice for training.
    """

    def embed(self, networks, images):
        """Nothing: the whole image is not read."""
        return jnp.zeros((len(images), 0))

    def attend(self, networks, images, from_image, last):
        """The place with the largest residual, and the gates of the LSTM for it."""
        s, (height, width) = self.config.scale_prior_mean, self.config.image_size
        light = last.residual.reshape(*images.shape[:3], -1).sum(-1)
        covered = _coverage(height, s) @ light @ _coverage(width, s)
        best = covered.reshape(len(images), -1).argmax(-1)
        u, v = pixel_centres(width)[best % width], pixel_centres(height)[best // width]
        place = jnp.stack([u, v], axis=-1)
        wider = s / WIDER
        where = jnp.insert(-wider * place, 0, wider, axis=-1)
        size, pair = self.config.window_size, (images, last.residual)
        windows = [image_to_window(where, x, size) for x in pair]
        features = networks.embed(jnp.stack(windows, axis=1).reshape(len(images), -1))
        return place, networks.rnn.image(features)

    def uncovered(self, residual, z_where):
        """The residual less what the window covers: its inner half fully, less further out."""
        s, x, y = jax.lax.stop_gradient(z_where).T[..., None]
        rows, columns = (
            jnp.clip(2 - 2 * jnp.abs(s * pixel_centres(n) + shift), 0, 1)
            for n, shift in zip(self.config.image_size, (y, x), strict=True)
        )
        covered = rows[:, :, None] * columns[:, None, :]
        return residual * over_pixels(1 - covered, residual)


def _coverage(n: int, s: float) -> Float[Array, "n n"]:
    """How much a window of scale s, centred at each pixel, covers of each pixel along one axis:
    less towards its outline."""
    u = pixel_centres(n)
    return jnp.maximum(0, 1 - s * jnp.abs(u[:, None] - u[None]))


class BasicGuide(Guide):
    """The tutorial's first guide: z_what is inferred from the LSTM's state, not from a window."""

    def encode(self, networks, rnn, z_where, images):
        """Location and scale of z_what, from the LSTM's state."""
        return networks.encoder(rnn.h)


GUIDES: dict[str, type[Guide]] = {"attend": AttendGuide, "window": Guide, "basic": BasicGuide}


class BaselineState(NamedTuple):
    """What one step of the baseline passes to the next."""

    network: Baseline
    from_image: Float[Array, "N gates"]
    rnn: LSTMState


def baseline_start(baseline: Baseline, images: Float[Array, "N H W *C"]) -> BaselineState:
    """The state before the first step; registers the baseline's parameters."""
    network = cast(Baseline, eqx_module("baseline", baseline))
    from_image = network.rnn.image(network.embed(images))
    return BaselineState(network, from_image, network.rnn.initial_state)


def baseline_step(t: int, state: BaselineState, last: GuideState) -> BaselineState:
    """The baseline of z_pres_t: zero once an image is complete. The guide's latents are detached:
    baseline and guide have different objectives."""
    latents = jax.lax.stop_gradient(last.latents)
    rnn = state.network.rnn(state.from_image, latents, state.rnn)
    numpyro.deterministic(f"baseline_{t}", state.network.value(rnn.h) * last.z_pres)
    return state._replace(rnn=rnn)


def all_on(site: Site) -> Array | None:
    """Sets every z_pres_t to 1, as ``substitute_fn`` of ``handlers.substitute``."""
    if not site["name"].startswith("z_pres_"):
        return None
    return jnp.ones(site["fn"].shape())


def at_mean(site: Site) -> Array | None:
    """Sets every z_pres_t to 1, and every other latent to its mean."""
    on = all_on(site)
    return site["fn"].mean if on is None and site["type"] == "sample" else on


def all_on_trace(
    guide: Guide, images: Float[Array, "N H W *C"], key: PRNGKeyArray, mean: bool = False
) -> dict[str, list[Site]]:
    """The sites of a path of the guide on which every z_pres_t is 1.

    Args:
        guide: of T steps.
        images: in [0, 1].
        key: of the path.
        mean: whether the other latents are at their means instead of drawn.

    Returns:
        for ``z_pres``, ``z_where`` and ``z_what``, the sites of steps 0 .. T-1.
    """
    path = handlers.seed(guide, key)
    path = handlers.substitute(path, substitute_fn=at_mean if mean else all_on)
    trace = handlers.trace(path).get_trace(images)
    steps = range(guide.config.model_steps)
    return {s: [trace[f"{s}_{t}"] for t in steps] for s in ("z_pres", "z_where", "z_what")}
