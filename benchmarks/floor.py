"""How far a training step is from what the machine can do: the matrix products of one step and the
optimiser's traffic, each timed alone, make the floor; and what the step takes without its parts.

    python benchmarks/floor.py [--out FILE.json]

The products are listed from the settings (forward, and backward for inputs and weights). Each is
timed at its own shape with XLA and with NumPy's BLAS, and the faster one counts. Adam has to read
four numbers a parameter (weight, gradient, two moments) and to write three; the rate is that of
copying arrays of the same size. All else (sampling, hats of the spatial transformer, likelihoods,
non-linearities) is free in this floor.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from airjax import data
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.train import Trainer, exploration, to_unit

ADAM = 7  # numbers read and written a parameter


class Product(NamedTuple):
    """``[b, m, k] @ [b, k, n]``, so many times a step."""

    part: str
    b: int
    m: int
    k: int
    n: int
    times: int

    @property
    def flops(self) -> int:
        """Of all times."""
        return 2 * self.b * self.m * self.k * self.n * self.times


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        batch_size: images a step.
        repeats: turns of each measurement; medians are told.
        steps: training steps a turn.
        out: JSON file for the results.
    """

    batch_size: int = 64
    repeats: int = 9
    steps: int = 40
    out: Path | None = None


def products(config: ModelConfig, n: int) -> Iterator[Product]:
    """The matrix products of one step of the exact count on n images (guide window)."""
    t, (height, width), w = config.model_steps, config.image_size, config.window_size
    hidden, z, pixels = config.rnn_hidden_size, config.encoder_latent_size, w * w
    gates, latents = 4 * hidden, 3 + z + 1
    size, rows = height * width, n
    if config.embed_channels:
        stride = max(1, w // 4)
        cells = -(-height // stride) * -(-width // stride)
        yield from _layer("embed", cells * n, (2 * stride) ** 2, config.embed_channels, 1, False)
        size = cells * config.embed_channels
    first = not config.embed_channels
    for i, o in zip((size, *config.embed_net), config.embed_net, strict=False):
        yield from _layer("embed", rows, i, o, 1, not first)
        size, first = o, False
    yield from _layer("LSTM, image", rows, size, gates, 1, not first)
    yield from _layer("LSTM, latents and state", rows, latents + hidden, gates, t)
    for part, sizes in (
        ("predict", (hidden, *config.predict_net, 7)),
        ("encoder", (pixels, *config.encoder_net, 2 * z)),
        ("decoder", (z, *config.decoder_net, pixels)),
    ):
        for i, o in itertools.pairwise(sizes):
            yield from _layer(part, rows, i, o, t)
    yield from _resampling("window out of image", n, (height, width), (w, w), t, False)
    yield from _resampling("window into image", n, (w, w), (height, width), t, True)


def _layer(
    part: str, rows: int, i: int, o: int, times: int, inputs: bool = True
) -> Iterator[Product]:
    """A linear layer, and its gradients; for its inputs if they are not data."""
    yield Product(part, 1, rows, i, o, times)
    yield Product(part, 1, o, rows, i, times)
    if inputs:
        yield Product(part, 1, rows, o, i, times)


def _resampling(
    part: str, n: int, source: tuple[int, int], target: tuple[int, int], t: int, inputs: bool
) -> Iterator[Product]:
    """``rows @ x @ columns.T``, and its gradients; for x if it is not data."""
    (h, w), (high, wide) = source, target
    yield Product(part, n, high, h, w, t)  # rows @ x
    yield Product(part, n, high, w, wide, t)  # that, @ columns.T
    yield Product(part, n, high, wide, w, t)  # of the first product
    yield Product(part, n, wide, high, w, t)  # of columns
    yield Product(part, n, high, w, h, t)  # of rows
    if inputs:
        yield Product(part, n, h, high, w, t)


def timed(run: Callable[[], object], repeats: int, least: float = 2e-3) -> float:
    """Median seconds of a call, from turns of at least ``least`` seconds."""
    run()
    begin = time.perf_counter()
    run()
    calls = max(1, math.ceil(least / (time.perf_counter() - begin)))
    turns = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for _ in range(calls):
            run()
        turns.append((time.perf_counter() - begin) / calls)
    return statistics.median(turns)


def product_seconds(p: Product, repeats: int) -> float:
    """One such product: in a compiled loop, so that no call is counted, or in NumPy."""
    random = np.random.default_rng(0)
    a = random.standard_normal((p.b, p.m, p.k), np.float32)
    b = random.standard_normal((p.b, p.k, p.n), np.float32)
    a, b = (a[0], b[0]) if p.b == 1 else (a, b)
    loops = max(1, round(2e8 / (p.flops / p.times)))

    @jax.jit
    def looped(a, b):
        def body(_, carry):
            a, c = carry
            c = a @ b
            return a.at[(0,) * a.ndim].set(c[(0,) * c.ndim]), c  # so that none is left out

        return jax.lax.fori_loop(0, loops, body, (a, a @ b))

    on_device = jnp.asarray(a), jnp.asarray(b)
    xla = timed(lambda: jax.block_until_ready(looped(*on_device)), repeats) / (loops + 1)
    return min(xla, timed(lambda: a @ b, repeats))


def copy_rate(numbers: int, repeats: int) -> float:
    """Bytes read and written a second when arrays of so many numbers are copied."""
    copy = jax.jit(lambda x: x + 1)
    x = jnp.zeros(numbers)
    return 8 * numbers / timed(lambda: copy(x).block_until_ready(), repeats)


def parts(trainer: Trainer, args: Args) -> dict[str, Callable[[], None]]:
    """The step, and the step without some of its parts, each in a compiled loop."""
    state = trainer.init()
    params, images = trainer.svi.get_params(state.svi), trainer.images
    prior, epsilon = trainer.prior(0), exploration(trainer.config, 0)
    elbo, programs = trainer.svi.loss, (trainer.model, trainer.guide)

    def batch(key):
        rows = jax.random.randint(key, (args.batch_size,), 0, len(images))
        return to_unit(images[rows])

    def loss(params, key):
        return elbo.loss(
            key, params, *programs, batch(key), z_pres_prior=prior, exploration=epsilon
        )

    def forward(params, key):
        return params, loss(params, key)

    def gradient(params, key):
        value, g = jax.value_and_grad(loss)(params, key)
        # the gradients are used, and all of them: as Adam does, but with the least traffic
        return jax.tree.map(lambda p, x: p - 1e-9 * x, params, g), value

    def in_a_loop(step):
        @jax.jit
        def run(params):
            def body(i, carry):
                params, total = carry
                params, value = step(params, jax.random.fold_in(jax.random.key(0), i))
                return params, total + value

            return jax.lax.fori_loop(0, args.steps, body, (params, 0.0))

        return lambda: jax.block_until_ready(run(params))

    chunk = trainer.compiled(state)
    return {
        "the step": lambda: jax.block_until_ready(chunk(state, images, jnp.array(args.steps))),
        "gradient, plain descent in place of Adam": in_a_loop(gradient),
        "value only": in_a_loop(forward),
    }


def measure(name: str, model: ModelConfig, args: Args) -> dict:
    """The floor of one architecture, the step, and the step's share; printed as tables."""
    images = data.load("multi-mnist", "train").images
    config = Config(TrainConfig(data="multi-mnist", batch_size=args.batch_size), model)
    trainer = Trainer(config, images)
    listed = list(products(model, args.batch_size))
    seconds = {p: product_seconds(p, args.repeats) for p in {p._replace(part="") for p in listed}}
    parameters = sum(x.size for x in jax.tree.leaves(trainer.svi.get_params(trainer.init().svi)))
    rate = copy_rate(parameters, args.repeats)
    rows, floor = [], 0.0
    for part in dict.fromkeys(p.part for p in listed):
        mine = [p for p in listed if p.part == part]
        took = sum(p.times * seconds[p._replace(part="")] for p in mine)
        flops = sum(p.flops for p in mine)
        rows.append([part, f"{flops / 1e6:.0f}", f"{flops / took / 1e9:.0f}", f"{1e3 * took:.2f}"])
        floor += took
    adam = 4 * ADAM * parameters / rate
    told = f"{4 * ADAM * parameters / 1e6:.0f} MB", f"{rate / 1e9:.1f} GB/s", f"{1e3 * adam:.2f}"
    rows.append(["Adam, " + f"{parameters:,} parameters", *told])
    floor += adam
    total = sum(p.flops for p in listed)
    rows.append(["floor", f"{total / 1e6:.0f}", "", f"{1e3 * floor:.2f}"])
    print(f"\n{name}, batch {args.batch_size}\n")
    print(common.table(["part", "MFLOP", "GFLOP/s", "ms a step"], rows))
    turns = common.in_turn(parts(trainer, args), args.repeats, args.steps)
    step = statistics.median(turns["the step"])
    lines = [[part, common.spread(values), f"{statistics.median(values) / floor:.2f}"]
             for part, values in turns.items()]  # fmt: skip
    print("\n" + common.table(["", "ms a step", "times the floor"], lines))
    return {
        "model": name, "floor_s": floor, "adam_s": adam, "flops": total, "step_s": step,
        "parameters": parameters, "copy_rate": rate, "turns_s": turns,
        "ratio": step / floor, "parts": rows,
    }  # fmt: skip


def main(args: Args) -> None:
    """Measures the tutorial's sizes and the defaults."""
    models = {"the tutorial's sizes": common.TUTORIAL, "default sizes": ModelConfig()}
    results = [measure(name, replace(model), args) for name, model in models.items()]
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    common.write(args.out, settings, results)


if __name__ == "__main__":
    main(tyro.cli(Args))
