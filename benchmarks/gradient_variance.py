"""Variance of each estimator's gradient, at three points of training, and its time.

    python benchmarks/gradient_variance.py [--out FOLDER]

A model is trained with the exact count. At each point its parameters are held, the baselines are
trained on their own, and every estimator draws its gradient many times on the same mini-batch. The
variance is that of the gradient per image, summed over the parameters of a group. (The
importance-weighted bound is another objective: its gradient has another mean.)
"""

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from matplotlib.figure import Figure
from numpyro.infer import TraceGraph_ELBO
from numpyro.infer.elbo import ELBO
from rich.console import Console
from rich.table import Table

from airjax import data
from airjax.config import Config, TrainConfig
from airjax.programs.elbo import CountELBO, CountIWAE, ScoreELBO
from airjax.training.resolve import resolved
from airjax.training.trainer import Trainer, to_unit

GROUPS = {
    "decoder": lambda p: p["decoder$params"],
    "recurrent core": lambda p: (p["guide$params"].embed, p["guide$params"].rnn),
    "presence and place": lambda p: p["guide$params"].predict,
    "encoder": lambda p: p["guide$params"].encoder,
}
ESTIMATORS: dict[str, tuple[ELBO, bool]] = {  # and whether the guide has its baseline
    "count": (CountELBO(), False),
    "iwae, K = 5": (CountIWAE(5), False),
    "score, baselines": (ScoreELBO(), True),
    "score": (ScoreELBO(), False),
    "NumPyro's TraceGraph": (TraceGraph_ELBO(), False),
}


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        points: steps of training after which to measure.
        draws: of each gradient.
        batch_size: images in the mini-batch.
        seed: of the training and of the draws.
        out: folder for gradient_variance.json and gradient_variance.png.
    """

    points: tuple[int, ...] = (200, 1000, 4000)
    draws: int = 200
    batch_size: int = 64
    seed: int = 0
    out: Path = Path(".")


def points_of_training(args: Args, images: np.ndarray):
    """Trainer, and its parameters at each point."""
    train = TrainConfig(data="multi-mnist", seed=args.seed, steps=max(args.points))
    trainer = Trainer(resolved(Config(train), images)[0], images)
    state = trainer.init()
    chunk = trainer.compiled(state)
    params, step = {}, 0
    for point in sorted(args.points):
        state, _ = chunk(state, trainer.images, jnp.array(point - step))
        params[point], step = trainer.svi.get_params(state.svi), point
    return trainer, params


def train_baseline(programs, params, images, steps: int = 1000) -> Any:
    """Parameters with a baseline trained for these of guide and model, on ``images``."""
    elbo, adam = ScoreELBO(), optax.adam(1e-3)

    @jax.jit
    def run(baseline, params, images):
        def step(carry, key):
            baseline, state = carry
            rows = jax.random.randint(key, (64,), 0, len(images))

            def loss(baseline):
                every = params | {"baseline$params": baseline}
                return elbo.loss(key, every, *programs, to_unit(images[rows]))

            updates, state = adam.update(jax.grad(loss)(baseline), state)
            return (optax.apply_updates(baseline, updates), state), None

        keys = jax.random.split(jax.random.key(1), steps)
        return jax.lax.scan(step, (baseline, adam.init(baseline)), keys)[0][0]

    return params | {"baseline$params": run(programs[1].baseline, params, jnp.asarray(images))}


def variance(elbo: ELBO, programs, params, images, args: Args) -> tuple[dict[str, float], float]:
    """Of each group, the summed variance of the gradient per image; and seconds a gradient."""

    @jax.jit
    def gradient(params, images, key):  # images as an argument: XLA would fold constants
        return jax.grad(lambda p: elbo.loss(key, p, *programs, images) / len(images))(params)

    @jax.jit
    def add(sums, g):
        return jax.tree.map(lambda s, x: s + x, sums[0], g), jax.tree.map(
            lambda s, x: s + x**2, sums[1], g
        )

    keys = jax.random.split(jax.random.key(args.seed + 1), args.draws)
    zeros = jax.tree.map(jnp.zeros_like, params)
    sums, times = (zeros, zeros), []
    jax.block_until_ready(gradient(params, images, keys[0]))  # compiles
    for key in keys:
        begin = time.perf_counter()
        g = jax.block_until_ready(gradient(params, images, key))
        times.append(time.perf_counter() - begin)
        sums = add(sums, g)
    seconds = statistics.median(times)
    n = args.draws
    variances = jax.tree.map(
        lambda total, squares: float(((squares - total**2 / n) / (n - 1)).sum()), *sums
    )
    return {
        name: float(sum(jax.tree.leaves(group(variances)))) for name, group in GROUPS.items()
    }, seconds


def main(args: Args) -> None:
    """Measures, prints, draws and writes."""
    images = data.load("multi-mnist", "train").images
    trainer, points = points_of_training(args, images)
    train = replace(trainer.config.train, estimator="score", learning_rate=None)
    score = replace(trainer.config, train=train)
    with_baseline = Trainer(score, images[:1])
    batch = to_unit(jnp.asarray(images[: args.batch_size]))
    rows = []
    for step, params in points.items():
        baselined = (trainer.model, with_baseline.guide)
        trained = train_baseline(baselined, params, images)
        for name, (elbo, baseline) in ESTIMATORS.items():
            programs = baselined if baseline else (trainer.model, trainer.guide)
            values = trained if baseline else params
            variances, seconds = variance(elbo, programs, values, batch, args)
            rows.append({"step": step, "estimator": name, "seconds": seconds, **variances})
    Console().print(table(rows))
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    common.write(args.out / "gradient_variance.json", settings, rows)
    draw(rows).savefig(args.out / "gradient_variance.png", dpi=120)


def table(rows: list[dict[str, Any]]) -> Table:
    """Variances and times as a table."""
    made = Table("step", "estimator", *GROUPS, "ms a gradient", title="variance of the gradient")
    for row in rows:
        made.add_row(
            str(row["step"]),
            row["estimator"],
            *(f"{row[group]:.3g}" for group in GROUPS),
            f"{1000 * row['seconds']:.0f}",
        )
    return made


def draw(rows: list[dict[str, Any]]) -> Figure:
    """The variances against the step, a panel each group."""
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, group in zip(figure.subplots(1, len(GROUPS), sharey=True), GROUPS, strict=True):
        for name in ESTIMATORS:
            mine = [row for row in rows if row["estimator"] == name]
            axes.plot([r["step"] for r in mine], [r[group] for r in mine], "o-", label=name)
        axes.set(xscale="log", yscale="log", xlabel="training step", title=group)
        steps = sorted({row["step"] for row in rows})
        axes.set_xticks(steps, [f"{step:,}" for step in steps])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("variance of the gradient")
    figure.axes[-1].legend(fontsize=7)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Args))
