"""Training a guide without labels, and reading scenes with it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from numpyro import handlers
from scipy.optimize import linear_sum_assignment

from airjax.programs.elbo import log_count_probs
from airjax.programs.guide import Site, all_on
from airjax.programs.networks import MLP
from airjax.three_d.elbo import KindELBO
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig, SolidsModel, pose_of
from airjax.three_d.scenes import SolidScenes
from airjax.three_d.shapes import SYMMETRY

CHUNK = 100  # steps in one compiled loop
NEAR = 0.25  # an object is found if it is not farther from the true one

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


class Read(NamedTuple):
    """What a guide reads: the most probable counts and kinds, and poses (x, y, angle)."""

    counts: Int[np.ndarray, " N"]
    kinds: Int[np.ndarray, "N T"]
    poses: Float[np.ndarray, "N T 3"]


def read(guide: SolidsGuide, images: UInt8[np.ndarray, "N H W 3"], steps: int = 3) -> Read:
    """Reads images with up to ``steps`` objects, which may be more than in training."""
    config = dataclasses.replace(guide.config, model_steps=steps)
    # the network does not depend on the number of steps
    other = SolidsGuide(config, guide.background, key=jax.random.key(0))
    guide = eqx.tree_at(lambda g: g.network, other, guide.network)
    parts = [_read(guide, jnp.asarray(images[i : i + 250])) for i in range(0, len(images), 250)]
    return Read(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def likeliest(site: Site) -> Array | None:
    """Every object is present, at the mean of its pose, and of its most probable kind."""
    if site["type"] != "sample" or site["name"].startswith("z_pres_"):
        return all_on(site)
    base = site["fn"].base_dist
    return base.probs.argmax(-1) if site["name"].startswith("z_what_") else base.base_dist.mean


@eqx.filter_jit
def _read(guide: SolidsGuide, images: UInt8[Array, "N H W 3"]) -> tuple[Array, Array, Array]:
    path = handlers.substitute(handlers.seed(guide, jax.random.key(0)), substitute_fn=likeliest)
    trace = handlers.trace(path).get_trace(images.astype(float) / 255)
    steps = range(guide.config.model_steps)
    p = jnp.stack([trace[f"z_pres_{t}"]["fn"].probs for t in steps])
    kinds = jnp.stack([trace[f"z_what_{t}"]["value"] for t in steps], axis=1)
    z_where = jnp.stack([trace[f"z_where_{t}"]["value"] for t in steps], axis=1)
    of_kinds = jnp.take_along_axis(z_where, kinds[..., None, None], axis=2)[:, :, 0]
    return log_count_probs(p).argmax(0), kinds, pose_of(of_kinds)


def score(found: Read, truth: SolidScenes, turned: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Share of right counts, and of the objects that were found (within ``NEAR``) the share of
    right kinds, the median error of the position, and of the angle in degrees.

    Args:
        found: by a guide.
        truth: of the same images.
        turned: kinds whose angle is seen.
    """
    kinds, errors, angles, objects = [], [], [], 0
    for c, k, p, n, true_k, true_p in zip(*found, *truth[1:], strict=True):
        k, p, true_k, true_p = k[:c], p[:c], true_k[:n], true_p[:n]
        objects += n
        apart = np.linalg.norm(p[:, None, :2] - true_p[None, :, :2], axis=-1)
        for i, j in zip(*linear_sum_assignment(apart), strict=True):
            if apart[i, j] > NEAR:
                continue
            kinds.append(k[i] == true_k[j])
            errors.append(apart[i, j])
            if true_k[j] in turned:
                turn = np.exp(1j * SYMMETRY * (p[i, 2] - true_p[j, 2]))
                angles.append(abs(np.degrees(np.angle(turn))) / SYMMETRY)
    return {
        "count": 100 * float((found.counts == truth.counts).mean()),
        "found": 100 * len(errors) / max(objects, 1),
        "kind": 100 * float(np.mean(kinds)) if kinds else float("nan"),
        "position": float(np.median(errors)) if errors else float("nan"),
        "angle": float(np.median(angles)) if angles else float("nan"),
    }
