"""The state of training, one pure step, and compiled chunks of steps."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, UInt8, UInt32
from numpyro.infer import SVI
from numpyro.infer.elbo import ELBO
from numpyro.infer.svi import SVIState

from airjax.config import Config, ModelConfig
from airjax.data.dataset import Dataset
from airjax.data.source import Source
from airjax.inference.metrics import Row, evaluate_quickly
from airjax.programs.elbo import ESTIMATORS, ScoreELBO
from airjax.programs.guide import Guide
from airjax.programs.model import Model, presence_probs
from airjax.programs.untrained import untrained
from airjax.trace_cache import described, traced
from airjax.training.devices import Devices
from airjax.training.schedules import annealed, exploration, mean_params, optimizer
from airjax.training.start import with_networks
from airjax.training.stream import Stream

LONGEST = 2.0  # seconds of steps that nothing can interrupt
# fewer copies of the weights in a loop: steps are about 3 % faster, with the same results
FEWER_COPIES: dict[str, str | bool] = {"xla_cpu_copy_insertion_use_region_analysis": True}


class TrainState(NamedTuple):
    """Everything that training changes: equal states lead to equal trainings.

    Attributes:
        svi: parameters, optimiser state and random key, in NumPyro's form.
        step: number of steps taken.
        skipped_steps: how many of them were not finite, and were skipped.
        elbo_sum: of the finite steps since the last row of metrics, of their mean ELBOs.
        elbo_steps: the number of these steps.
    """

    svi: SVIState
    step: Int[Array, ""]
    skipped_steps: Int[Array, ""]
    elbo_sum: Float[Array, ""]
    elbo_steps: Int[Array, ""]

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """Whether the optimiser state is finite. A value that is not finite stays in Adam's means
        for ever."""
        leaves = jax.tree.leaves(self.svi.optim_state)
        return jnp.all(jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]))


def to_unit(images: UInt8[Array, "N H W *C"]) -> Float[Array, "N H W *C"]:
    """Bytes to intensities in [0, 1]."""
    return images.astype(jnp.float32) / 255


class Trainer:
    """Runs SVI on images that stay on the device as bytes, or are streamed.

    Args:
        config: of the run.
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, to train on; of streamed images, some.
        elbo: the estimator (default: the config's).
        draft: steps after which the training begins anew with other images, see
            `airjax.training.whole_objects`; 0 if it does not.
        devices: to train on.
        source: all images, if they are streamed.
        start: programs whose networks the training begins with, instead of freshly drawn ones.
    """

    def __init__(
        self,
        config: Config,
        images: UInt8[np.ndarray, "N H W *C"],
        elbo: ELBO | None = None,
        draft: int = 0,
        devices: Devices | None = None,
        source: Source | None = None,
        start: tuple[Model, Guide] | None = None,
    ):
        self.config, self.draft, self.devices = config, draft, devices or Devices()
        self.begun = start is not None
        self.images: Any = images
        self.stream: Stream | None = None
        if source is None:
            self.images = self.devices.on_all(jnp.asarray(images))
        else:
            train, most = config.train, config.progress.progress_every
            self.stream = Stream(source, train.batch_size, train.seed, most, self.devices)
        particles = config.estimator.particles
        elbo = elbo or ESTIMATORS[config.train.estimator](num_particles=particles)
        score = isinstance(elbo, ScoreELBO)
        baseline = score and config.estimator.baselines
        model, guide = untrained(config.model, config.train.seed, baseline)
        if start is not None:
            model, guide = with_networks((model, guide), start)
        likelihood = model.likelihood.with_mean_of(images)
        self.model = dataclasses.replace(model, likelihood=likelihood)
        self.guide = dataclasses.replace(guide, likelihood=likelihood)
        self.svi = SVI(self.model, self.guide, optimizer(config, score, draft), elbo)

    def init(self) -> TrainState:
        """The state before the first step."""

        def init(
            programs: tuple[Model, Guide],
            seed: UInt32[ArrayLike, ""],
            images: UInt8[Array, "N H W *C"],
        ) -> tuple[Any, SVIState]:
            # networks are arguments: as constants they would be compiled, which takes seconds.
            # One step of the programs has all parameters.
            one = dataclasses.replace(self.config.model, model_steps=1)
            model, guide = (dataclasses.replace(program, config=one) for program in programs)
            svi = SVI(model, guide, self.svi.optim, self.svi.loss)
            key = jax.random.fold_in(jax.random.key(seed), 1)
            state = svi.init(key, to_unit(images[:1]))
            return svi.constrain_fn, state  # init also determines the constraints

        programs, seed = (self.model, self.guide), np.uint32(self.config.train.seed)
        images = self.images if self.stream is None else jnp.asarray(self.images[:1])
        images = self.devices.on_first(images)
        self.svi.constrain_fn, svi = eqx.filter_jit(init)(programs, seed, images)
        zero = jnp.array(0)
        return TrainState(svi, zero, zero, jnp.array(0.0), zero)

    def use(self, images: UInt8[np.ndarray, "N H W *C"], most: int) -> None:
        """Trains on other images of the same shape from here on, with at most ``most`` steps of the
        programs; for programs whose networks do not depend on that (the guide attend)."""
        self.images = self.devices.on_all(jnp.asarray(images))
        steps = min(most, self.config.model.model_steps)
        few = dataclasses.replace(self.config.model, model_steps=steps)
        model = dataclasses.replace(self.model, config=few)
        guide = dataclasses.replace(self.guide, config=few)
        constrain_fn = self.svi.constrain_fn
        self.svi = SVI(model, guide, self.svi.optim, self.svi.loss)
        self.svi.constrain_fn = constrain_fn

    def close(self) -> None:
        """Ends the reading of a stream."""
        if self.stream is not None:
            self.stream.close()

    def prior(self, step: ArrayLike, config: ModelConfig | None = None) -> Float[Array, " T"]:
        """The prior's p_t at a step of training, for programs of this config (default: the
        run's)."""
        return presence_probs(config or self.config.model, annealed(self.config, step))

    def step(
        self, state: TrainState, images: UInt8[Array, "N H W *C"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """One step on a mini-batch drawn from ``images``, or on ``images`` where they are a
        mini-batch of a stream; also the mean ELBO of its images."""
        size = self.config.train.batch_size
        key, noise = jax.random.split(state.svi.rng_key)
        if self.stream is None:
            images = images[jax.random.randint(key, (size,), 0, len(images))]
        svi, loss = self.svi.update(
            state.svi._replace(rng_key=noise),
            self.devices.divided(to_unit(images)),
            z_pres_prior=self.prior(state.step, self.svi.model.config),
            exploration=exploration(self.config, state.step, self.draft),
        )
        return state._replace(svi=svi, step=state.step + 1), -loss / size

    def careful_step(
        self, state: TrainState, images: UInt8[Array, "N H W *C"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """`step`, but a step that is not finite is skipped and counted: only the random key
        changes, not even the step of the schedule."""
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
    ) -> tuple[TrainState, Bool[Array, ""]]:
        """Several steps, and whether their ELBOs and the state afterwards are finite. ``images``
        are those of `shown`.

        If not, the chunk is to be repeated with ``careful`` steps. (A check in each step would cost
        a tenth of its time, since the optimiser has to wait for the last gradient.) The number of
        steps is traced, so that a shorter last chunk does not compile again: hence a `fori_loop`
        and not a `scan`.
        """
        step = self.careful_step if careful else self.step

        def body(i: Int[Array, ""], state: TrainState) -> TrainState:
            after, elbo = step(state, images if self.stream is None else images[i])
            counts = jnp.isfinite(elbo) if careful else True
            total = state.elbo_sum + jnp.where(counts, elbo, 0.0)
            return after._replace(elbo_sum=total, elbo_steps=state.elbo_steps + counts)

        state = jax.lax.fori_loop(0, steps, body, state)
        return state, jnp.isfinite(state.elbo_sum) & state.is_finite

    def shown(self, step: int) -> Any:
        """The images for `chunk` after ``step`` steps: all of them, or the next mini-batches of a
        stream, ``[n, B, H, W]`` or ``[n, B, H, W, C]``."""
        return self.images if self.stream is None else self.stream.at(step)

    def compiled(self, state: TrainState) -> Callable[..., tuple[TrainState, Bool[Array, ""]]]:
        """`chunk`, compiled for states like this one and for the training images."""
        args = (state, self.shown(int(state.step)), self.devices.on_all(jnp.array(0)))
        config = dataclasses.replace(self.config.train, seed=0)  # the seed is in the state
        config = dataclasses.replace(self.config, train=config)
        likelihood = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(self.model.likelihood)]
        code = described(type(self)), described(self.svi.loss), self.stream is not None
        draft = self.draft, self.svi.model.config.model_steps
        chunk = self.chunk
        if self.devices.number == 1:
            chunk = traced(self.chunk, args, (state, True), *code, config, draft, likelihood)
        lowered = jax.jit(chunk).lower(*args)
        try:
            return lowered.compile(compiler_options=FEWER_COPIES)
        except jax.errors.JaxRuntimeError:  # this XLA does not have the option
            return lowered.compile()

    def programs(self, state: TrainState, config: ModelConfig | None = None) -> tuple[Model, Guide]:
        """Model and guide with the state's mean parameters as their networks' weights.

        Args:
            state: of the training.
            config: of the programs (default: the run's, with the count prior of the state's step).
        """
        assert self.svi.constrain_fn is not None  # by `init`
        state = self.devices.on_first(state)
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
        guide = type(self.guide)(config, networks, likelihood, decoder, baseline)
        return Model(config, decoder, likelihood), guide

    def run(
        self,
        state: TrainState,
        watched: Mapping[str, Dataset] | None = None,
        seconds: float = 0.0,
        started: Callable[[int, float], None] = lambda step, each: None,
        stopped: Callable[[], bool] = lambda: False,
        anew: Callable[[TrainState], TrainState | None] = lambda state: state,
    ) -> Iterator[tuple[TrainState, Row | None]]:
        """Trains to the last step, chunk by chunk; yields state and row of metrics after each.

        Where chunks end depends on the settings only, so that a resumed run has the same rows as an
        uninterrupted one. A slow chunk is run in parts of about ``LONGEST`` seconds.

        Args:
            state: to train from.
            watched: data sets that are evaluated on the way, by name.
            seconds: training time of the state so far.
            started: called before the first step with the steps taken so far, and the seconds that
                a step takes.
            stopped: asked between the parts of a chunk whether training has to stop there.
            anew: called with the state at the end of the draft; changes the images and returns the
                state to go on from, or None if training has to stop.

        Yields:
            the state, and a row with ``step``, ``seconds`` (training time so far, without
            compilation and evaluation), ``elbo`` (mean over the chunk, nats an image),
            ``skipped_steps`` (so far) and ``images_per_second``. The first row also has
            ``compile_seconds``. Every ``eval_every`` steps, and at the end, a row has what
            `airjax.inference.metrics.evaluate_quickly` finds in each watched data set, for example
            ``test_elbo``. If training has to stop between two rows: the state, and None.
        """
        train, progress, hosts = self.config.train, self.config.progress, self.devices.hosts
        every = (progress.progress_every, progress.eval_every, progress.save_every)
        begin, state = time.perf_counter(), self.devices.on_all(state)
        advance = Chunks(self, state)
        extra = {"compile_seconds": time.perf_counter() - begin}
        step = int(state.step)
        if step < train.num_steps:
            started(step, advance.time_one(state))
        while step < train.num_steps:
            if step == self.draft > 0:
                begun = anew(state)
                if begun is None:
                    yield state, None
                    return
                state = self.devices.on_all(begun)
                advance = Chunks(self, state)
            end = self.draft if step < self.draft else train.num_steps
            end, first = min(end, *(next_multiple(step, n) for n in every)), step
            begin = time.perf_counter()
            while step < end:
                state, steps = advance(state, end - step)
                step += steps
                if step < end and stopped():
                    yield state, None
                    return
            took = time.perf_counter() - begin
            seconds += took
            elbo = float(state.elbo_sum / state.elbo_steps)  # NaN if no step was finite
            zeros = self.devices.on_all((jnp.array(0.0), jnp.array(0)))
            state = state._replace(elbo_sum=zeros[0], elbo_steps=zeros[1])
            row = {"step": step, "seconds": seconds, "elbo": elbo}
            row |= {"skipped_steps": int(state.skipped_steps)}
            row |= {"images_per_second": (step - first) * train.batch_size / took} | extra
            extra = {}
            if step % progress.eval_every == 0 or step in (self.draft, train.num_steps):
                # with this config, and the prior as an array, nothing compiles again
                programs = self.programs(state, self.config.model)
                prior = self.prior(self.devices.on_first(state.step))
                for name, dataset in (watched or {}).items() if hosts.is_first else ():
                    found = evaluate_quickly(*programs, dataset, prior)
                    row |= {f"{name}_{key}": value for key, value in found.items()}
            yield state, hosts.agreed(row)


class Chunks:
    """Runs steps of a trainer, as many at a time as take about ``LONGEST`` seconds, so that nobody
    waits longer for an answer to Ctrl-C."""

    def __init__(self, trainer: Trainer, state: TrainState):
        self.trainer = trainer
        self.fast = trainer.compiled(state)
        self.careful = jax.jit(partial(trainer.chunk, careful=True))
        self.seconds = 0.0  # that a step takes

    def time_one(self, state: TrainState) -> float:
        """The seconds that a step takes; its result is dropped."""
        took = []
        for _ in range(4):  # the first one also loads the program
            begin = time.perf_counter()
            images = self.trainer.shown(int(state.step))
            jax.block_until_ready(
                self.fast(state, images, self.trainer.devices.on_all(jnp.array(1)))
            )
            took.append(time.perf_counter() - begin)
        self.seconds = min(took)
        return self.seconds

    def __call__(self, state: TrainState, most: int) -> tuple[TrainState, int]:
        """The state after some steps, at most ``most``, and their number."""
        devices = self.trainer.devices
        steps = max(1, min(most, int(LONGEST / max(self.seconds, 1e-9))))
        begin, stream, step = time.perf_counter(), self.trainer.stream, int(state.step)
        steps = steps if stream is None else min(steps, stream.steps)
        steps = devices.hosts.of_first(steps)  # clocks differ
        images, number = self.trainer.shown(step), devices.on_all(jnp.array(steps))
        after, finite = self.fast(state, images, number)
        if stream is not None and step + steps < self.trainer.config.train.num_steps:
            stream.prepare(step + steps)  # while the device works
        if not finite:  # waits for the chunk
            after, _ = self.careful(state, images, number)
        jax.block_until_ready(after)
        self.seconds = (time.perf_counter() - begin) / steps
        return after, steps


def next_multiple(step: int, n: int) -> int:
    """The first multiple of n after step."""
    return (step // n + 1) * n
