"""Time of one training step: estimators and architectures, and another program, in turn in one run.

    python benchmarks/step_time.py [--peer PROGRAM.py]

A peer is a Python file with NumPyro programs ``model`` and ``guide`` of images [N, 50, 50] and an
ELBO class ``CountELBO``; it is trained with Adam on the same images. Prints a table and writes it
as JSON; nothing else should run meanwhile.
"""

import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import tyro
from numpyro.infer import SVI
from rich.console import Console
from rich.table import Table

import airjax
from airjax import data
from airjax.config import Config, EstimatorConfig, ModelConfig, TrainConfig
from airjax.train import Trainer, to_unit

Run = Callable[[int], None]  # takes so many steps, and returns when they are done
TUTORIAL = ModelConfig(embed_channels=0, embed_net=())


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        peer: Python file with another program.
        batch_size: images a step.
        repeats: how often each contender has its turn.
        steps: steps a turn.
        out: JSON file for the results.
    """

    peer: Path | None = None
    batch_size: int = 64
    repeats: int = 9
    steps: int = 40
    out: Path | None = None


def ours(config: Config, images: np.ndarray) -> Run:
    """Training with these settings, as `airjax train` does it."""
    trainer = Trainer(config, images)
    chunk, state = jax.jit(trainer.chunk, donate_argnums=0), trainer.init()

    def run(steps: int) -> None:
        nonlocal state
        state, elbo = chunk(state, trainer.images, jnp.array(steps))
        elbo.block_until_ready()

    return run


def peer(path: Path, batch_size: int, images: np.ndarray) -> Run:
    """The peer's programs under SVI, in a compiled loop like ours."""
    spec = importlib.util.spec_from_file_location("peer", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    adam = numpyro.optim.optax_to_numpyro(optax.adam(1e-3))
    svi = SVI(program.model, program.guide, adam, program.CountELBO())
    on_device = jnp.asarray(images)
    state = svi.init(jax.random.key(0), to_unit(on_device[:batch_size]))

    @jax.jit
    def chunk(state, key, images, steps):
        def body(i, state):
            rows = jax.random.randint(jax.random.fold_in(key, i), (batch_size,), 0, len(images))
            return svi.update(state, to_unit(images[rows]))[0]

        return jax.lax.fori_loop(0, steps, body, state)

    def run(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(chunk(state, jax.random.key(1), on_device, steps))

    return run


def main(args: Args) -> None:
    """Measures, prints and writes."""
    images = data.load("multi-mnist", "train").images
    train = TrainConfig(data="multi-mnist", batch_size=args.batch_size)
    score = replace(train, estimator="score")
    iwae = replace(train, estimator="iwae")
    contenders: dict[str, Run] = {
        "count, tutorial's sizes": ours(Config(train, TUTORIAL), images),
        "count": ours(Config(train), images),
        "score": ours(Config(score), images),
        "score, tutorial's sizes": ours(Config(score, TUTORIAL), images),
        "iwae, K = 5": ours(Config(iwae, estimator=EstimatorConfig(particles=5)), images),
    }
    if args.peer:
        contenders = {args.peer.stem: peer(args.peer, args.batch_size, images)} | contenders
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(args.repeats + 1):  # the first turn compiles, and does not count
        for name, run in contenders.items():
            begin = time.perf_counter()
            run(args.steps)
            if repeat:
                seconds[name].append((time.perf_counter() - begin) / args.steps)
    report(args, seconds)


def report(args: Args, seconds: dict[str, list[float]]) -> None:
    """The table: medians, spread, and the median of the paired ratios to the first contender."""
    first = next(iter(seconds))
    table = Table("", "ms a step (median)", "lowest to highest", f"ratio to {first}")
    results = {}
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds[first], strict=True))
        ms = [1000 * value for value in values]
        table.add_row(
            name, f"{statistics.median(ms):.1f}", f"{min(ms):.1f} to {max(ms):.1f}", f"{ratio:.2f}"
        )
        results[name] = {"seconds": values, "median_ratio": ratio}
    Console().print(table)
    settings = {
        "batch_size": args.batch_size,
        "steps": args.steps,
        "machine": platform.platform(),
        "cpus": os.cpu_count(),
        "airjax": airjax.__version__,
        "jax": jax.__version__,
    }
    if args.out:
        args.out.write_text(json.dumps({"settings": settings, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Args))
