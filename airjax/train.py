"""Training: the state, one pure step, and the loop that runs whole chunks of steps compiled."""

import dataclasses
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, UInt8, UInt32
from numpyro.infer import SVI
from numpyro.infer.elbo import ELBO
from numpyro.infer.svi import SVIState
from optax.contrib import ScheduleFreeState, schedule_free, schedule_free_eval_params

from airjax.config import Config, ModelConfig
from airjax.data.dataset import Dataset
from airjax.elbo import ESTIMATORS, ScoreELBO
from airjax.guide import GUIDES, Guide
from airjax.infer import read
from airjax.likelihood import Likelihood
from airjax.model import Model, presence_probs
from airjax.networks import Baseline, Decoder, GuideNetworks
from airjax.traced import traced

WARMUP = 100  # steps in which the learning rate rises, at most a tenth of all
EXPLORING = 0.75  # share of the steps in which the guide explores counts
EVALUATED = 1000  # images of each data set that progress is measured on
LARGE = 5  # standard deviations of the prior by which a window's scale is below its mean
# of the weights that a loop carries: steps are some 3 % faster, with the same results
FEWER_COPIES: dict[str, str | bool] = {"xla_cpu_copy_insertion_use_region_analysis": True}
Row = dict[str, Any]


class TrainState(NamedTuple):
    """All that training changes; equal states go on equally.

    Attributes:
        svi: parameters, optimiser state and random key, as NumPyro keeps them.
        step: number of steps taken.
        skipped_steps: how many of them were not finite, and changed nothing.
    """

    svi: SVIState
    step: Int[Array, ""]
    skipped_steps: Int[Array, ""]

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether parameters and optimiser can be gone on from. What is not finite stays so: Adam's
        means keep it."""
        leaves = jax.tree.leaves(self.svi.optim_state)
        return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))


def untrained(config: ModelConfig, seed: int, baseline: bool = False) -> tuple[Model, Guide]:
    """Model and guide with freshly drawn networks; if asked, with a baseline."""
    return _drawn(config, baseline)(np.uint32(seed))  # an array: one compilation for all seeds


@cache
def _drawn(config: ModelConfig, baseline: bool) -> Callable[..., tuple[Model, Guide]]:
    """`untrained` of a seed, compiled."""

    def drawn(seed: UInt32[ArrayLike, ""]) -> tuple[Model, Guide]:
        keys = jax.random.split(jax.random.key(seed), 2)
        networks, likelihood = GuideNetworks(config, key=keys[1]), Likelihood(config)
        bl = Baseline(config, key=jax.random.fold_in(keys[1], 1)) if baseline else None
        model = Model(config, Decoder(config, key=keys[0]), likelihood)
        return model, GUIDES[config.guide](config, networks, likelihood, bl)

    seed = np.uint32(0)
    return jax.jit(traced(drawn, (seed,), jax.eval_shape(drawn, seed), config, baseline))


def optimizer(config: Config, score: bool) -> optax.GradientTransformation:
    """Schedule-free Adam (Defazio et al., 2024, arXiv:2405.15682): the learning rate rises at first
    and then stays. Steps go from z to z; x is their mean over all of training, and what images are
    read with (`mean_params`); gradients are taken at y = 0.9 x + 0.1 z, which is what NumPyro calls
    the parameters.

    With score functions, under which that was seen to settle on one count for nearly all images,
    Adam as ever: the rate rises and then falls to zero along a cosine; for the baseline, which has
    to follow the others, it is constant and another one.
    """
    steps, rate = config.train.num_steps, config.train.peak_learning_rate
    warmup = min(WARMUP, steps // 10)
    if score:
        falling = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps)
        adams: dict[Hashable, optax.GradientTransformation] = {
            "baseline$params": optax.adam(config.estimator.baseline_learning_rate),
            "other": optax.adam(falling),
        }
        return optax.partition(
            adams, lambda params: {name: name if name in adams else "other" for name in params}
        )
    rising = optax.warmup_constant_schedule(0.0 if warmup else rate, rate, warmup)
    # Adam without its first moment; optax's schedule_free_adamw also reads the weights, for decay
    rms = optax.rmsprop(rising, decay=0.999, eps_in_sqrt=False, bias_correction=True)
    return schedule_free(rms, rising)


def mean_params(optim_state: Any) -> dict[str, Any]:
    """x of `optimizer`, before NumPyro's constraints; with score functions, the parameters."""
    _, (params, state) = optim_state
    if not isinstance(state, ScheduleFreeState):
        return params
    return cast(dict[str, Any], schedule_free_eval_params(state, params))


def annealed(config: Config, step: ArrayLike) -> float | Array:
    """z_pres_prior at a step (may be traced): from its first value to ``anneal_prior_to``."""
    first, anneal = config.model.z_pres_prior, config.anneal
    last = anneal.anneal_prior_to
    done = (jnp.asarray(step) - anneal.anneal_prior_begin) / anneal.anneal_prior_duration
    done = jnp.clip(done, 0, 1)
    values = {
        "none": first,
        "lin": (1 - done) * first + done * last,
        "exp": first * (last / first) ** done,
    }
    return values[anneal.anneal_prior]


def exploration(config: Config, step: ArrayLike) -> Float[Array, ""]:
    """The guide's epsilon at a step (may be traced): from 1 down to the floor, and at last 0.

    The floor keeps every count's windows learning. Without it, an image whose digit was left to the
    second window stays so for ever: the first one, empty, is never asked to hold it.
    """
    falling = 1 - jnp.asarray(step) / config.estimator.exploration_steps
    explores = jnp.asarray(step) < EXPLORING * config.train.num_steps
    return jnp.where(explores, jnp.maximum(falling, config.estimator.exploration_floor), 0.0)


def to_unit(images: UInt8[Array, "N H W *C"]) -> Float[Array, "N H W *C"]:
    """Bytes to intensities in [0, 1]."""
    return images.astype(jnp.float32) / 255


class Trainer:
    """Runs SVI on images that stay on the device as bytes.

    Args:
        config: of the run.
        images: uint8 ``[N, H, W]`` to train on.
        elbo: the estimator; that of the config unless given.
    """

    def __init__(
        self, config: Config, images: UInt8[np.ndarray, "N H W *C"], elbo: ELBO | None = None
    ):
        self.config = config
        self.images = jnp.asarray(images)
        particles = config.estimator.particles
        elbo = elbo or ESTIMATORS[config.train.estimator](num_particles=particles)
        score = isinstance(elbo, ScoreELBO)
        baseline = score and config.estimator.baselines
        model, guide = untrained(config.model, config.train.seed, baseline)
        likelihood = model.likelihood.with_mean_of(images)
        self.model = dataclasses.replace(model, likelihood=likelihood)
        self.guide = dataclasses.replace(guide, likelihood=likelihood)
        self.svi = SVI(self.model, self.guide, optimizer(config, score), elbo)

    def init(self) -> TrainState:
        """The state before the first step."""

        def init(
            programs: tuple[Model, Guide],
            seed: UInt32[ArrayLike, ""],
            images: UInt8[Array, "N H W *C"],
        ) -> tuple[Any, SVIState]:
            # the networks are arguments: as constants they would be compiled, which takes seconds;
            # one step of the programs has all parameters
            one = dataclasses.replace(self.config.model, model_steps=1)
            model, guide = (dataclasses.replace(program, config=one) for program in programs)
            svi = SVI(model, guide, self.svi.optim, self.svi.loss)
            key = jax.random.fold_in(jax.random.key(seed), 1)
            state = svi.init(key, to_unit(images[:1]))
            return svi.constrain_fn, state  # init also notes the parameters' constraints

        programs, seed = (self.model, self.guide), np.uint32(self.config.train.seed)
        self.svi.constrain_fn, svi = eqx.filter_jit(init)(programs, seed, self.images)
        return TrainState(svi, jnp.array(0), jnp.array(0))

    def prior(self, step: ArrayLike) -> Float[Array, " T"]:
        """The prior's p_t at a step of training."""
        return presence_probs(self.config.model, annealed(self.config, step))

    def step(
        self, state: TrainState, images: UInt8[Array, "N H W *C"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """One step on a mini-batch drawn from ``images``; also its ELBO per image."""
        size = self.config.train.batch_size
        key, noise = jax.random.split(state.svi.rng_key)
        rows = jax.random.randint(key, (size,), 0, len(images))
        svi, loss = self.svi.update(
            state.svi._replace(rng_key=noise),
            to_unit(images[rows]),
            z_pres_prior=self.prior(state.step),
            exploration=exploration(self.config, state.step),
        )
        return state._replace(svi=svi, step=state.step + 1), -loss / size

    def careful_step(
        self, state: TrainState, images: UInt8[Array, "N H W *C"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """`step`, but one that is not finite is skipped and counted: nothing changes then but the
        random key, not even the schedule's step."""
        after, elbo = self.step(state, images)
        finite = jnp.isfinite(elbo) & after.is_finite
        optim_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            after.svi.optim_state, state.svi.optim_state,
        )  # fmt: skip
        svi = after.svi._replace(optim_state=optim_state)
        return after._replace(svi=svi, skipped_steps=state.skipped_steps + ~finite), elbo

    def chunk(
        self,
        state: TrainState,
        images: UInt8[Array, "N H W *C"],
        steps: Int[Array, ""],
        careful: bool = False,
    ) -> tuple[TrainState, Float[Array, ""]]:
        """Several steps, and the mean of their ELBOs.

        Nothing is checked in between: the mean is NaN if the state afterwards, or one of the ELBOs,
        is not finite. Then the chunk is to be taken again, with ``careful`` steps; their mean is of
        the ELBOs that are finite. (A check in each step costs a tenth of its time: the optimiser
        has to wait for the last gradient.) The bound of the loop is traced (a shorter last chunk
        must not compile again), so this is a `fori_loop` and not a `scan`.
        """
        step = self.careful_step if careful else self.step

        def body(_, carry):
            state, total, n = carry
            state, elbo = step(state, images)
            counts = jnp.isfinite(elbo) if careful else True
            return state, total + jnp.where(counts, elbo, 0.0), n + counts

        start = (state, jnp.array(0.0), jnp.array(0))
        state, total, n = jax.lax.fori_loop(0, steps, body, start)
        return state, jnp.where(jnp.isfinite(total) & state.is_finite, total / n, jnp.nan)

    def compiled(self, state: TrainState) -> Callable[..., tuple[TrainState, Float[Array, ""]]]:
        """`chunk`, compiled for states like this one and the images trained on."""
        args = (state, self.images, jnp.array(0))
        config = dataclasses.replace(self.config.train, seed=0)  # the state has all of the seed
        config = dataclasses.replace(self.config, train=config)
        ground = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(self.model.likelihood)]
        chunk = traced(self.chunk, args, (state, 0.0), config, ground)
        lowered = jax.jit(chunk).lower(*args)
        try:
            return lowered.compile(compiler_options=FEWER_COPIES)
        except jax.errors.JaxRuntimeError:  # an XLA that does not know the option
            return lowered.compile()

    def programs(self, state: TrainState, config: ModelConfig | None = None) -> tuple[Model, Guide]:
        """Model and guide with the state's mean parameters as their networks' weights.

        Args:
            state: of the training.
            config: of the programs; the run's own, with the count prior of the state's step, unless
                given.
        """
        assert self.svi.constrain_fn is not None  # by `init`
        params = self.svi.constrain_fn(mean_params(state.svi.optim_state))
        if config is None:
            prior = float(annealed(self.config, state.step))
            config = dataclasses.replace(self.config.model, z_pres_prior=prior)
        decoder = eqx.combine(params["decoder$params"], self.model.decoder)
        networks = eqx.combine(params["guide$params"], self.guide.networks)
        baseline = self.guide.baseline
        if baseline is not None:
            baseline = eqx.combine(params["baseline$params"], baseline)
        likelihood = self.model.likelihood
        if "likelihood$params" in params:
            likelihood = eqx.combine(params["likelihood$params"], likelihood)
        guide = type(self.guide)(config, networks, likelihood, baseline)
        return Model(config, decoder, likelihood), guide

    def run(
        self,
        state: TrainState,
        watched: Mapping[str, Dataset] | None = None,
        seconds: float = 0.0,
    ) -> Iterator[tuple[TrainState, Row]]:
        """Trains to the end, chunk by chunk: yields the state and a row of metrics after each.

        Where chunks end depends on the settings alone, so an interrupted run that goes on has the
        rows of one that was not. ``seconds`` are those that the state has been trained for.

        A row has ``step``, ``seconds`` (of training so far, without compilation and evaluation),
        ``elbo`` (mean of the chunk's steps, nats an image), ``skipped_steps`` (so far) and
        ``images_per_second``; the first one also ``compile_seconds``; every ``eval_every`` steps,
        and at the end, also, for each data set that is watched (``test``, say), what
        `evaluate_quickly` finds: ``test_elbo`` and so on.
        """
        train, progress = self.config.train, self.config.progress
        every = (progress.progress_every, progress.eval_every, progress.save_every)
        begin = time.perf_counter()
        chunk, careful_chunk = self.compiled(state), jax.jit(partial(self.chunk, careful=True))
        extra = {"compile_seconds": time.perf_counter() - begin}
        step = int(state.step)
        while step < train.num_steps:
            steps = min(train.num_steps, *(next_multiple(step, n) for n in every)) - step
            begin = time.perf_counter()
            after, elbo = chunk(state, self.images, jnp.array(steps))
            if not np.isfinite(elbo):  # waits for the chunk
                after, elbo = careful_chunk(state, self.images, jnp.array(steps))
            state, elbo = after, float(elbo)
            took = time.perf_counter() - begin
            step, seconds = step + steps, seconds + took
            row = {"step": step, "seconds": seconds, "elbo": elbo}
            row |= {"skipped_steps": int(state.skipped_steps)}
            row |= {"images_per_second": steps * train.batch_size / took} | extra
            extra = {}
            if step % progress.eval_every == 0 or step == train.num_steps:
                # the run's own config, and the prior as an array: nothing compiles again
                programs = self.programs(state, self.config.model)
                for name, dataset in (watched or {}).items():
                    found = evaluate_quickly(*programs, dataset, self.prior(state.step))
                    row |= {f"{name}_{key}": value for key, value in found.items()}
            yield state, row


def next_multiple(step: int, n: int) -> int:
    """The first multiple of n after step."""
    return (step // n + 1) * n


def evaluate_quickly(
    model: Model, guide: Guide, data: Dataset, z_pres_prior: Float[Array, " T"]
) -> Row:
    """What is told of a data set's first images while training, with one path of the guide.

    ``elbo`` (nats an image), ``empty_elbo`` (that of a model without any object), ``mean_count``,
    ``empty_objects`` (share of images that are said to hold an object of which nothing is visible),
    ``large_windows`` (share of those that are said to hold one in a window whose scale is below the
    prior's mean by more than ``LARGE`` of its standard deviations) and, where counts are known,
    ``count_accuracy``.
    """
    data = data[:EVALUATED]
    reading = read(model, guide, data.images, num_paths=1, z_pres_prior=z_pres_prior)
    large = model.config.scale_prior_mean - LARGE * model.config.scale_prior_sd
    row = {
        "elbo": float(np.mean(reading.elbo)),
        "empty_elbo": empty_elbo(data.images, model.likelihood, float(z_pres_prior[0])),
        "mean_count": float(np.mean(reading.count)),
        "empty_objects": float(np.mean(reading.has_empty_object)),
        "large_windows": float(np.mean(reading.has_window_larger_than(large))),
    }
    if data.counts is not None:
        row["count_accuracy"] = float(np.mean(reading.count == data.counts))
    return row


def empty_elbo(images: UInt8[np.ndarray, "N H W *C"], likelihood: Likelihood, p: float) -> float:
    """The ELBO, in nats an image, of saying that no image holds anything: log p(n = 0) and the
    likelihood of an empty canvas.

    Args:
        images: bytes.
        likelihood: of the model.
        p: the prior probability of a first object.
    """
    empty = np.asarray(likelihood.on_ground(jnp.zeros(images.shape[1:])))
    squares = np.square(images / 255.0 - empty).sum() / len(images)
    sd = float(likelihood.sd)
    log_normal = -math.log(sd) - math.log(2 * math.pi) / 2
    log_p = math.log1p(-p) if p < 1 else -math.inf
    log_likelihood = images[0].size * log_normal - squares / (2 * sd**2)
    return float(log_p + float(likelihood.power) * log_likelihood)
