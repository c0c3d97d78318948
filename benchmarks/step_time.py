"""Time of one training step: every estimator, and the same model in Pyro, in turn in one run; and
how it grows with the batch, the steps T and the image.

    python benchmarks/step_time.py --out FOLDER [--peer PROGRAM.py]

All have the tutorial's sizes, but for those named "default sizes". Pyro's is `pyro_air.py`, trained
as the tutorial trains it (the score function with baselines). A further peer is a Python file with
NumPyro programs ``model`` and ``guide`` of images [N, 50, 50] and an ELBO class ``CountELBO``.
Nothing else should run meanwhile. Writes step_time.json and step_time.png.
"""

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import common
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import optax
import tyro
from matplotlib.figure import Figure
from numpyro.infer import SVI

from airjax import data
from airjax.config import Config, EstimatorConfig, EstimatorName, ModelConfig, TrainConfig
from airjax.data.composer import SceneConfig
from airjax.training.resolve import resolved
from airjax.training.trainer import Trainer, to_unit

Run = Callable[[int], None]  # takes so many steps, and returns when they are done
PYRO = "Pyro, score"
SIZES = ((32, 3, 50), (64, 3, 50), (128, 3, 50), (256, 3, 50), (512, 3, 50))
STEPS = ((64, 6, 50), (64, 10, 50))
IMAGES = ((64, 3, 100), (64, 3, 200))


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        peer: Python file with another program, for batches of 64.
        pyro: measure Pyro.
        growth: measure how the time grows, too.
        repeats: how often each contender has its turn.
        steps: steps a turn (Pyro: a tenth of that, at least one).
        out: folder for the results.
    """

    peer: Path | None = None
    pyro: bool = True
    growth: bool = True
    repeats: int = 7
    steps: int = 20
    out: Path | None = None


def ours(config: Config, images: np.ndarray) -> Run:
    """Training with these settings, as `airjax train` does it."""
    trainer = Trainer(resolved(config, images)[0], images)
    state = trainer.init()
    chunk = trainer.compiled(state)

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


def pyros(model: ModelConfig, batch_size: int, images: np.ndarray) -> Run:
    """Pyro's program; one step of it counts as ten of ours, so that turns are of a length."""
    import pyro_air

    step = pyro_air.trainer(model, images, batch_size)[1]

    def run(steps: int) -> None:
        step(max(1, steps // 10))

    return run


def settings_of(
    batch: int, estimator: EstimatorName, model: ModelConfig, particles: int = 1
) -> Config:
    """Of one training step."""
    train = TrainConfig(data="multi-mnist", batch_size=batch, estimator=estimator)
    return Config(train, model, EstimatorConfig(particles))


def contenders(args: Args, batch: int, model: ModelConfig, images: np.ndarray) -> dict[str, Run]:
    """All that are compared at one size."""
    runs = {PYRO: pyros(model, batch, images)} if args.pyro else {}
    runs["count"] = ours(settings_of(batch, "count", model), images)
    runs["score"] = ours(settings_of(batch, "score", model), images)
    return runs


def estimators(args: Args, images: np.ndarray) -> dict[str, Run]:
    """Those compared at batch 64 alone."""
    runs = contenders(args, 64, common.TUTORIAL, images)
    runs["iwae, K = 5"] = ours(settings_of(64, "iwae", common.TUTORIAL, 5), images)
    for name in ("count", "score"):
        config = settings_of(64, name, ModelConfig(background="none"))
        runs[f"{name}, default sizes"] = ours(config, images)
    if args.peer:
        runs[args.peer.stem] = peer(args.peer, 64, images)
    return runs


def timed(args: Args, runs: dict[str, Run]) -> dict[str, list[float]]:
    """Seconds a step, at each turn."""
    turns = common.in_turn(
        {name: lambda run=run: run(args.steps) for name, run in runs.items()}, args.repeats
    )
    taken = {name: max(1, args.steps // 10) if name == PYRO else args.steps for name in runs}
    return {name: [s / taken[name] for s in seconds] for name, seconds in turns.items()}


def lines(seconds: dict[str, list[float]]) -> Iterator[list[str]]:
    """Of each contender: name, milliseconds, and how many times as long the first one takes."""
    first = next(iter(seconds))
    for name, values in seconds.items():
        yield [
            name,
            common.spread(values),
            f"{common.median_ratio(seconds[first], values):.2f}",
        ]


def growth(args: Args) -> list[dict]:
    """The times at other sizes of the batch, of T and of images."""
    found = []
    for batch, steps, side in (*SIZES, *STEPS, *IMAGES):
        scenes = SceneConfig(num_scenes=2000, height=side, width=side)
        images = data.make("multi-mnist", "train", scenes).images
        model = replace(common.TUTORIAL, model_steps=steps, image_size=(side, side))
        seconds = timed(args, contenders(args, batch, model, images))
        found.append({"batch": batch, "T": steps, "image": side, "seconds": seconds})
        times = "; ".join(f"{name} {ms}" for name, ms, _ in lines(seconds))
        print(f"batch {batch}, T = {steps}, image {side}: {times}", flush=True)
    return found


def growth_table(found: list[dict]) -> str:
    """Medians, a size a line."""
    rows = []
    for row in found:
        seconds = row["seconds"]
        medians = [f"{1000 * statistics.median(v):.1f}" for v in seconds.values()]
        ratio = []
        if PYRO in seconds:
            ratio = [f"{common.median_ratio(seconds[PYRO], seconds['count']):.1f}"]
        size = [row["batch"], row["T"], f"{row['image']} x {row['image']}"]
        rows.append([*size, *medians, *ratio])
    names = [f"{name}, ms" for name in found[0]["seconds"]]
    last = ["Pyro / count"] if PYRO in found[0]["seconds"] else []
    return common.table(["batch", "T", "image", *names, *last], rows)


def draw(found: list[dict]) -> Figure:
    """Medians against batch, T and image."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = (("batch", SIZES), ("T", (SIZES[1], *STEPS)), ("image", (SIZES[1], *IMAGES)))
    for axes, (key, sizes) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        rows = [row for row in found if (row["batch"], row["T"], row["image"]) in sizes]
        for name in rows[0]["seconds"]:
            ms = [1000 * statistics.median(row["seconds"][name]) for row in rows]
            axes.plot([row[key] for row in rows], ms, "o-", label=name)
        axes.set(xscale="log", yscale="log", xlabel=key)
        axes.set_xticks([row[key] for row in rows], [str(row[key]) for row in rows])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms a step")
    figure.axes[0].legend(fontsize=8)
    return figure


def main(args: Args) -> None:
    """Measures, prints, draws and writes."""
    images = data.load("multi-mnist", "train").images
    seconds = timed(args, estimators(args, images))
    first = next(iter(seconds))
    head = ["", "ms a step: median (lowest to highest)", f"{first} / this"]
    print(common.table(head, list(lines(seconds))), flush=True)
    found = growth(args) if args.growth else []
    if found:
        print("\n" + growth_table(found))
    if args.out is not None:
        settings = {k: v for k, v in vars(args).items() if k != "out"}
        results = {"estimators": seconds, "growth": found}
        common.write(args.out / "step_time.json", settings, results)
        if found:
            draw(found).savefig(args.out / "step_time.png", dpi=110)


if __name__ == "__main__":
    main(tyro.cli(Args))
