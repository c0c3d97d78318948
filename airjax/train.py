"""Training: the state, one pure step, and the loop that runs whole chunks of steps compiled."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8
from numpyro.infer import SVI
from numpyro.infer.elbo import ELBO
from numpyro.infer.svi import SVIState

from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.elbo import CountELBO
from airjax.guide import Guide
from airjax.infer import read
from airjax.model import Model
from airjax.networks import Decoder, GuideNetworks

WARMUP = 100  # steps in which the learning rate rises, at most a tenth of all
EVALUATED = 1000  # held-out images that progress is measured on
Row = dict[str, Any]


class TrainState(NamedTuple):
    """All that training changes; equal states go on equally.

    Attributes:
        svi: parameters, optimiser state and random key, as NumPyro keeps them.
        step: number of steps taken.
    """

    svi: SVIState
    step: Int[Array, ""]


@eqx.filter_jit
def untrained(config: ModelConfig, seed: int) -> tuple[Model, Guide]:
    """Model and guide with freshly drawn networks."""
    keys = jax.random.split(jax.random.key(seed), 2)
    return (
        Model(config, Decoder(config, key=keys[0])),
        Guide(config, GuideNetworks(config, key=keys[1])),
    )


def optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Adam, its learning rate rising at first and then falling to zero along a cosine."""
    warmup = min(WARMUP, config.num_steps // 10)
    rate = optax.warmup_cosine_decay_schedule(0.0, config.learning_rate, warmup, config.num_steps)
    return optax.adam(rate)


def to_unit(images: UInt8[Array, "N H W"]) -> Float[Array, "N H W"]:
    """Bytes to intensities in [0, 1]."""
    return images.astype(jnp.float32) / 255


class Trainer:
    """Runs SVI on images that stay on the device as bytes.

    Args:
        config: of the run.
        images: uint8 ``[N, H, W]`` to train on.
        elbo: the estimator; `CountELBO` unless given.
    """

    def __init__(
        self, config: Config, images: UInt8[np.ndarray, "N H W"], elbo: ELBO | None = None
    ):
        self.config = config
        self.images = jnp.asarray(images)
        self.model, self.guide = untrained(config.model, config.train.seed)
        self.svi = SVI(self.model, self.guide, optimizer(config.train), elbo or CountELBO())

    def init(self) -> TrainState:
        """The state before the first step."""
        key = jax.random.fold_in(jax.random.key(self.config.train.seed), 1)
        return TrainState(jax.jit(self.svi.init)(key, to_unit(self.images[:1])), jnp.array(0))

    def step(
        self, state: TrainState, images: UInt8[Array, "N H W"]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """One step on a mini-batch drawn from ``images``; also its ELBO per image."""
        size = self.config.train.batch_size
        key, noise = jax.random.split(state.svi.rng_key)
        rows = jax.random.randint(key, (size,), 0, len(images))
        exploration = jnp.maximum(0, 1 - state.step / self.config.train.exploration_steps)
        svi, loss = self.svi.update(
            state.svi._replace(rng_key=noise), to_unit(images[rows]), exploration=exploration
        )
        return TrainState(svi, state.step + 1), -loss / size

    def chunk(
        self, state: TrainState, images: UInt8[Array, "N H W"], steps: Int[Array, ""]
    ) -> tuple[TrainState, Float[Array, ""]]:
        """Several steps, and the mean of their ELBOs. The bound of the loop is traced (a shorter
        last chunk must not compile again), so this is a `fori_loop` and not a `scan`."""

        def body(_, carry):
            state, total = carry
            state, elbo = self.step(state, images)
            return state, total + elbo

        state, total = jax.lax.fori_loop(0, steps, body, (state, jnp.array(0.0)))
        return state, total / steps

    def programs(self, state: TrainState) -> tuple[Model, Guide]:
        """Model and guide with the state's parameters as their networks' weights."""
        params = self.svi.get_params(state.svi)
        decoder = eqx.combine(params["decoder$params"], self.model.decoder)
        networks = eqx.combine(params["guide$params"], self.guide.networks)
        return Model(self.config.model, decoder), Guide(self.config.model, networks)

    def run(
        self, state: TrainState, held_out: Dataset | None = None
    ) -> Iterator[tuple[TrainState, Row]]:
        """Trains to the end, chunk by chunk: yields the state and a row of metrics after each.

        A state is good until the next one is asked for: its memory is used again. A row has
        ``step``, ``seconds`` (of training so far, without compilation and evaluation), ``elbo``
        (mean of the chunk's steps, nats an image) and ``images_per_second``; the first one also
        ``compile_seconds``; every ``eval_every`` steps, and at the end, also the held-out
        ``test_elbo`` and, where counts are known, ``test_count_accuracy``.
        """
        train, seconds = self.config.train, 0.0
        begin = time.perf_counter()
        chunk = jax.jit(self.chunk, donate_argnums=0)
        compiled = chunk.lower(state, self.images, jnp.array(0)).compile()
        extra = {"compile_seconds": time.perf_counter() - begin}
        step = int(state.step)
        while step < train.num_steps:
            ends = (next_multiple(step, n) for n in (train.progress_every, train.eval_every))
            steps = min(train.num_steps, *ends) - step
            begin = time.perf_counter()
            state, elbo = compiled(state, self.images, jnp.array(steps))
            elbo = float(elbo)  # waits for the chunk
            took = time.perf_counter() - begin
            step, seconds = step + steps, seconds + took
            row = {"step": step, "seconds": seconds, "elbo": elbo}
            row |= {"images_per_second": steps * train.batch_size / took} | extra
            extra = {}
            if held_out is not None and (step % train.eval_every == 0 or step == train.num_steps):
                row |= evaluate_quickly(*self.programs(state), held_out)
            yield state, row


def next_multiple(step: int, n: int) -> int:
    """The first multiple of n after step."""
    return (step // n + 1) * n


def evaluate_quickly(model: Model, guide: Guide, held_out: Dataset) -> Row:
    """Held-out ELBO and count accuracy on the first scenes, with one path of the guide."""
    data = held_out[:EVALUATED]
    reading = read(model, guide, data.images, num_paths=1)
    row = {"test_elbo": float(np.mean(reading.elbo))}
    if data.counts is not None:
        row["test_count_accuracy"] = float(np.mean(reading.count == data.counts))
    return row
