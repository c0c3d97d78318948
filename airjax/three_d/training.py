"""Training a guide without labels."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from airjax.programs.networks import MLP
from airjax.three_d.elbo import KindELBO
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig, SolidsModel

CHUNK = 100  # steps in one compiled loop

Report = Callable[[int, float, SolidsGuide], Any]  # of a step, its mean loss, and the guide


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Settings of a training.

    A sphere fits every solid before the guide knows how a cube is turned: if kinds are learned from
    the start, all others are excluded, and stay so. So the kinds' temperature falls slowly.

    Attributes:
        steps: of all.
        batch_size: scenes in a mini-batch.
        learning_rate: at its peak, after 100 steps; it falls along a cosine.
        softness: of the renderer, at first and at last; it is the last one from half-way on.
        temperature: of the kinds (`airjax.three_d.elbo.KindELBO`) at first; it is 1 from 0.8 of
            the steps on.
        seed: of networks, mini-batches and poses.
    """

    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    softness: tuple[float, float] = (0.05, 0.015)
    temperature: float = 100.0
    seed: int = 0

    def at(self, step: Int[Array, ""]) -> tuple[Array, Array]:
        """Softness and exploration at a step."""
        done = step / self.steps
        first, last = self.softness
        softness = jnp.maximum(last, first * (1 - 2 * done))
        exploration = jnp.where(done < 0.8, jnp.maximum(0.05, 1 - done / 0.3), 0.0)
        return softness, exploration

    def temperature_at(self, step: Int[Array, ""]) -> Array:
        """The kinds' temperature at a step."""
        return self.temperature ** jnp.maximum(0.0, 1 - step / (0.8 * self.steps))


def train(
    config: SolidsConfig,
    images: UInt8[np.ndarray, "N H W 3"],
    background: Float[Array, "H W 3"],
    schedule: Schedule | None = None,
    report: Report | None = None,
) -> SolidsGuide:
    """A guide trained on images.

    Args:
        config: of both programs.
        images: to train on.
        background: the empty table.
        schedule: of the training.
        report: called after each chunk with the step, the mean loss and the guide.
    """
    schedule = schedule or Schedule()
    model, data = SolidsModel(config, background), jnp.asarray(images)

    def loss(guide: SolidsGuide, rows: Array, step: Array, key: PRNGKeyArray) -> Any:
        parameters: dict[str, Any] = {"guide$params": guide.network}
        batch = data[rows].astype(float) / 255
        elbo = KindELBO(schedule.temperature_at(step))
        return elbo.loss(key, parameters, model, guide, batch, *schedule.at(step))

    return minimised(loss, config, len(data), background, schedule, report)


def minimised(
    loss: Callable[[SolidsGuide, Array, Array, PRNGKeyArray], Any],
    config: SolidsConfig,
    n: int,
    background: Float[Array, "H W 3"],
    schedule: Schedule,
    report: Report | None = None,
) -> SolidsGuide:
    """A new guide, trained to minimise a loss.

    Args:
        loss: of a guide, rows of the data, the step, and a key; summed over the rows.
        config: of the guide.
        n: number of rows of the data.
        background: the empty table.
        schedule: of the training.
        report: see `train`.
    """
    start_key, training_key = jax.random.split(jax.random.key(schedule.seed))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, schedule.learning_rate, min(100, schedule.steps // 10), schedule.steps
    )
    optimizer = optax.chain(optax.clip_by_global_norm(200.0), optax.adam(rate))
    guide = SolidsGuide(config, background, key=start_key)

    def with_network(network: MLP) -> SolidsGuide:
        return eqx.tree_at(lambda g: g.network, guide, network)

    def update(state: Any, step: Int[Array, ""]):
        network, memory = state
        rows_key, key = jax.random.split(jax.random.fold_in(training_key, step))
        rows = jax.random.randint(rows_key, (schedule.batch_size,), 0, n)
        value, gradient = jax.value_and_grad(
            lambda network: loss(with_network(network), rows, step, key)
        )(network)
        change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(network, change), memory), value

    @functools.partial(jax.jit, static_argnums=2)
    def chunk(state, start: Int[Array, ""], size: int):
        return jax.lax.scan(update, state, start + jnp.arange(size))

    weights: Any = guide.network
    state = weights, optimizer.init(weights)
    for start in range(0, schedule.steps, CHUNK):
        size = min(CHUNK, schedule.steps - start)
        state, losses = chunk(state, jnp.array(start), size)
        if report is not None:
            mean = float(losses.mean()) / schedule.batch_size
            report(start + size, mean, with_network(state[0]))
    return with_network(state[0])
