"""The guide (the paper's inference network): a program of the model's latent sites, given images.

A recurrent network reads the image and the latents of the step before. At each step it infers
whether there is a further object (z_pres) and where (z_where). There, a window x_att is cut out of
the image, and an encoder infers the object's code (z_what) from it. (Eslami et al., 2016, section
2.1 and figure 2.) Guides that read what earlier steps have not explained are in
`airjax.programs.difference` and `airjax.programs.attend`.
"""

import dataclasses
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
from airjax.programs.networks import Baseline, Decoder, GuideNetworks, LSTMState
from airjax.programs.spatial import image_to_window

Site = dict[str, Any]  # of a NumPyro trace


class GuideState(NamedTuple):
    """What one step of the guide passes to the next.

    Attributes:
        rnn: state of the LSTM; None in a guide without one.
        log_odds: that the count is explored (drawn uniformly), given the steps so far.
        z_pres: presence at the last step.
        z_where: place at the last step.
        z_what: code at the last step.
        residual: the image less the objects so far; the image in a guide that does not read it.
        canvas: the objects so far, if the residual needs them.
    """

    rnn: LSTMState | None
    log_odds: Float[Array, " N"]
    z_pres: Float[Array, " N"]
    z_where: Float[Array, "N 3"]
    z_what: Float[Array, "N Z"]
    residual: Float[Array, "N H W *C"]
    canvas: Float[Array, "N H W *K"] | None

    @property
    def latents(self) -> Float[Array, "N latents"]:
        """What the recurrent networks read from the step before."""
        return jnp.concatenate([self.z_where, self.z_what, self.z_pres[:, None]], axis=-1)


class Guide(eqx.Module):
    """The paper's guide, with its networks.

    Called on images ``[N, H, W]`` (``[N, H, W, C]`` with colours) in [0, 1] it is a NumPyro program
    with the sites ``z_pres_t`` [N], ``z_where_t`` [N, 3] and ``z_what_t`` [N, Z], masked as
    in the model, and the parameter ``guide$params``. It reads images less the background. With a
    baseline there are also the parameter ``baseline$params`` and the deterministic ``baseline_t``
    [N], the baseline of z_pres_t.

    Attributes:
        config: of both programs.
        networks: of the guide.
        likelihood: of the model, with its background.
        decoder: of the model.
        baseline: of the estimator score, if it has one.
    """

    config: ModelConfig = eqx.field(static=True)
    networks: GuideNetworks
    likelihood: Likelihood
    decoder: Decoder
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
        guide = self.registered().of(images)
        images = guide.likelihood.foreground(images)
        from_image, state = self.start(networks, images, exploration)
        bl_state = None if self.baseline is None else baseline_start(self.baseline, images)
        with numpyro.plate("images", len(images)):
            for t in range(self.config.model_steps):
                if bl_state is not None:
                    bl_state = baseline_step(t, bl_state, state)
                state = guide.step(t, networks, images, from_image, state)

    def registered(self) -> "Guide":
        """This guide in a program, with the parameters of the model that it reads: the background,
        if it is learned."""
        return dataclasses.replace(self, likelihood=self.likelihood.registered())

    def of(self, images: Float[Array, "*image"]) -> "Guide":
        """This guide of these images: with their own backgrounds, if they have such."""
        return dataclasses.replace(self, likelihood=self.likelihood.of(images))

    def start(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        exploration: ArrayLike = 0.0,
    ) -> tuple[Float[Array, "N gates"], GuideState]:
        """What every step reads of the image, and the state before the first step. Apart from the
        residual, that state has one row for all images."""
        epsilon = jnp.asarray(exploration, float)
        z_where, z_what = networks.z_where_init, networks.z_what_init
        state = GuideState(
            rnn=None if networks.rnn is None else networks.rnn.initial_state,
            log_odds=(jnp.log(epsilon) - jnp.log1p(-epsilon))[None],
            z_pres=jnp.ones(1),
            z_where=jnp.zeros((1, 3)) if z_where is None else z_where[None],
            z_what=jnp.zeros((1, self.config.encoder_latent_size))
            if z_what is None
            else z_what[None],
            residual=images,
            canvas=None,
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
        """One step: presence, place, window, code."""
        place, h, rnn = self.attend(networks, images, from_image, last)
        p, where_loc, where_scale = networks.predict(h)

        p_mixed, log_odds = explored(p, last.log_odds, t, self.config.model_steps)
        # where, not a product: the gradient of log(0) would become 0 x infinity
        p_present = jnp.where(last.z_pres.astype(bool), p_mixed, 0)
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p_present))
        z_pres = jnp.asarray(presence, float)
        present = z_pres.astype(bool) | (not self.config.masking)

        where = dist.Normal(*self.where(place, where_loc, where_scale))
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", where.to_event(1).mask(present)))

        what = dist.Normal(*self.encode(networks, h, z_where, images, last.residual))
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what.to_event(1).mask(present)))
        seen = self.explained(last, images, h, z_where, z_what)
        return GuideState(rnn, log_odds, z_pres, z_where, z_what, *seen)

    def embed(self, networks: GuideNetworks, images: Float[Array, "N H W *C"]) -> Array:
        """The image's contribution to the gates of the LSTM, the same at every step."""
        assert networks.rnn is not None
        return networks.rnn.image(networks.embed(images))

    def attend(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        from_image: Array,
        last: GuideState,
    ) -> tuple[Float[Array, "N 2"], Float[Array, "N hidden"], LSTMState | None]:
        """The place that a step attends to (x, y in [-1, 1]), the features that presence and place
        are predicted from, and the new state of the LSTM. In this guide: the centre, and the LSTM's
        output."""
        assert networks.rnn is not None and last.rnn is not None
        rnn = networks.rnn(from_image, last.latents, last.rnn)
        return jnp.zeros((len(images), 2)), rnn.h, rnn

    def where(
        self, place: Float[Array, "N 2"], loc: Float[Array, "N 3"], scale: Float[Array, "N 3"]
    ) -> tuple[Float[Array, "N 3"], Float[Array, "N 3"]]:
        """Location and scale of z_where, from what is predicted relative to the prior (so that
        untrained windows have the size of objects) and to the place."""
        prior_loc, prior_scale = where_prior(self.config)
        loc = prior_loc[None] + loc
        # a window of scale s is centred at the place u where s u + x is 0
        loc = loc.at[:, 1:].add(-loc[:, :1] * place)
        return loc, prior_scale[None] * scale

    def features(
        self,
        networks: GuideNetworks,
        images: Float[Array, "N H W *C"],
        residual: Float[Array, "N H W *C"],
        place: Float[Array, "N 2"],
    ) -> Float[Array, "N hidden"]:
        """The features of image and residual at a place. In this guide, which does not attend to
        places, they are 0."""
        return jnp.zeros((len(images), self.config.rnn_hidden_size))

    def encode(
        self,
        networks: GuideNetworks,
        h: Float[Array, "N hidden"],
        z_where: Float[Array, "N 3"],
        images: Float[Array, "N H W *C"],
        residual: Float[Array, "N H W *C"],
    ) -> tuple[Float[Array, "N Z"], Float[Array, "N Z"]]:
        """Location and scale of z_what. In this guide, from the window x_att of the image."""
        return networks.encoder(image_to_window(z_where, images, self.config.window_size))

    def explained(
        self,
        last: GuideState,
        images: Float[Array, "N H W *C"],
        h: Float[Array, "N hidden"],
        z_where: Float[Array, "N 3"],
        z_what: Float[Array, "N Z"],
    ) -> tuple[Float[Array, "N H W *C"], Float[Array, "N H W *K"] | None]:
        """Residual and canvas after an object was inferred. In this guide they do not change."""
        return last.residual, last.canvas


def explored(
    p: Float[Array, " N"], log_odds: Float[Array, " #N"], t: int, steps: int
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The probability of z_pres_t = 1 when counts are explored, given that z_pres_{t-1} = 1.

    Args:
        p: the guide's own probability.
        log_odds: that the count is explored (drawn uniformly from 0 .. T), given the steps so far.
        t: the step.
        steps: T.

    Returns:
        the probability, and the log-odds given that z_pres_t is 1, too.
    """
    # a uniform count of at least t is above t with this probability
    p_explored = (steps - t) / (steps - t + 1)
    explores = jax.nn.sigmoid(log_odds)
    # in logarithms: a ratio of small probabilities has no finite gradient in float32
    log_p = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
    return (1 - explores) * p + explores * p_explored, log_odds + math.log(p_explored) - log_p


class ResidualGuide(Guide):
    """A guide that reads the residual, for which it needs the model's decoder."""

    def registered(self):
        """This guide with the model's decoder as the parameter ``decoder$params``, too."""
        decoder = eqx_module("decoder", self.decoder)
        return dataclasses.replace(super().registered(), decoder=decoder)

    def embed(self, networks, images):
        """Nothing: every step reads another residual."""
        return jnp.zeros((len(images), 0))


class BasicGuide(Guide):
    """The tutorial's first guide: z_what is inferred from the LSTM's state, not from a window."""

    def encode(self, networks, h, z_where, images, residual):
        """Location and scale of z_what, from the LSTM's output."""
        return networks.encoder(h)


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
