"""How far a training step is from what the machine can do: the matrix products of one step and the
optimiser's traffic, each timed alone, make the floor; and what the step takes without its parts.

    python benchmarks/floor.py [--out FILE.json]

The products are listed from the settings (forward, and backward for inputs and weights). Each is
timed at its own shape with XLA (the first factor as it is, or kept transposed) and with NumPy's
BLAS, and the fastest counts. Adam has to read four numbers a parameter (weight, gradient, two
moments) and to write three; the rate is that of copying arrays of as many numbers as it reads. All
else (sampling, hats of the spatial transformer, likelihoods, non-linearities) is free here.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
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

ADAM, ADAM_READS = 7, 4  # numbers read and written a parameter; those read
TURN, COPIES = 2e9, 20  # floating-point operations, and copies, a turn
PARTS = ("the step", "gradient, plain descent in place of Adam", "value only")


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

    @property
    def shape(self) -> "Product":
        """One such product, of whatever part."""
        return self._replace(part="", times=1)


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        batch_size: images a step.
        repeats: turns of all measurements; medians are told.
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


def loops(p: Product) -> int:
    """How many products make a turn."""
    return max(1, round(TURN / p.shape.flops))


def factors(p: Product) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays to multiply."""
    random = np.random.default_rng(0)
    a = random.standard_normal((p.b, p.m, p.k), np.float32)
    b = random.standard_normal((p.b, p.k, p.n), np.float32)
    return (a[0], b[0]) if p.b == 1 else (a, b)


def in_xla(p: Product, transposed: bool = False) -> Callable[[], object]:
    """A turn of such products in a compiled loop, so that no call is counted; if asked, with the
    first factor kept transposed, as gradients for weights have it."""
    a, b = map(jnp.asarray, factors(p))

    @jax.jit
    def looped(a, b):
        def body(_, a):
            c = (a.mT if transposed else a) @ b
            c = jax.lax.optimization_barrier(c)  # all of it, and each time
            return a.at[(0,) * a.ndim].set(c[(0,) * c.ndim])

        return jax.lax.fori_loop(0, loops(p), body, a)

    a = jnp.copy(a.mT) if transposed else a
    return lambda: jax.block_until_ready(looped(a, b))


def in_numpy(p: Product) -> Callable[[], object]:
    """The same by NumPy's BLAS."""
    a, b = factors(p)
    return lambda: [a @ b for _ in range(loops(p))]


def copies(numbers: int) -> Callable[[], None]:
    """A turn of copies, there and back, in a compiled loop: of two arrays that have, together, as
    many numbers as Adam reads."""

    @partial(jax.jit, donate_argnums=0)  # nothing is allocated
    def looped(arrays):
        def body(_, carry):
            x, y = carry
            y = jax.lax.optimization_barrier(x + 1)
            return jax.lax.optimization_barrier(y + 1), y

        return jax.lax.fori_loop(0, COPIES // 2, body, arrays)

    arrays = [jnp.zeros(ADAM_READS * numbers // 2) for _ in range(2)]

    def turn():
        arrays[:] = jax.block_until_ready(looped(tuple(arrays)))

    return turn


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
    runs = (
        lambda: jax.block_until_ready(chunk(state, images, jnp.array(args.steps))),
        in_a_loop(gradient),
        in_a_loop(forward),
    )
    return dict(zip(PARTS, runs, strict=True))


def measure(name: str, model: ModelConfig, args: Args) -> dict:
    """The floor of one architecture, the step, and the step's share; printed as tables.

    Products, copies and steps have their turns one after the other, and the share is that of steps
    and floor of the same turn: the machine's speed changes within minutes.
    """
    images = data.load("multi-mnist", "train").images
    config = Config(TrainConfig(data="multi-mnist", batch_size=args.batch_size), model)
    trainer = Trainer(config, images)
    listed = list(products(model, args.batch_size))
    parameters = sum(x.size for x in jax.tree.leaves(trainer.svi.get_params(trainer.init().svi)))
    shapes = list(dict.fromkeys(p.shape for p in listed))
    contenders = {("XLA", p): in_xla(p) for p in shapes}
    contenders |= {("transposed", p): in_xla(p, True) for p in shapes}
    contenders |= {"copies": copies(parameters)} | parts(trainer, args)
    contenders |= {("NumPy", p): in_numpy(p) for p in shapes}
    contenders |= {"pause": lambda: time.sleep(1)}  # NumPy's threads wait awake for a while
    turns = common.in_turn(contenders, args.repeats)
    ways = "XLA", "transposed", "NumPy"
    of_product = {p: min((turns[way, p] for way in ways), key=statistics.median) for p in shapes}
    traffic = ADAM / ADAM_READS / COPIES  # of Adam, in turns of copies

    def floor(part: str | None = None) -> np.ndarray:
        """Seconds in each turn of the products of a part, or of all."""
        mine = [p for p in listed if part in (None, p.part)]
        return sum(p.times / loops(p) * np.array(of_product[p.shape]) for p in mine)

    adam = traffic * np.array(turns["copies"])
    rows = []
    for part in dict.fromkeys(p.part for p in listed):
        took, flops = np.median(floor(part)), sum(p.flops for p in listed if p.part == part)
        rows.append([part, f"{flops / 1e6:.0f}", f"{flops / took / 1e9:.0f}", f"{1e3 * took:.2f}"])
    total, moved = sum(p.flops for p in listed), 4 * ADAM * parameters
    rate = moved / np.median(adam)
    told = f"{moved / 1e6:.0f} MB", f"{rate / 1e9:.1f} GB/s", f"{1e3 * np.median(adam):.2f}"
    rows.append([f"Adam, {parameters:,} parameters", *told])
    all_of_it = floor() + adam
    rows.append(["floor", f"{total / 1e6:.0f}", "", common.spread(all_of_it.tolist())])
    print(f"\n{name}, batch {args.batch_size}\n")
    print(common.table(["part", "MFLOP", "GFLOP/s", "ms a step"], rows))
    steps = {part: np.array(turns[part]) / args.steps for part in PARTS}
    ratios = {part: steps[part] / all_of_it for part in PARTS}
    lines = [
        [part, common.spread(steps[part].tolist()), common.spread(ratios[part].tolist(), 1, 2)]
        for part in PARTS
    ]
    print("\n" + common.table(["", "ms a step", "times the floor"], lines))
    return {
        "model": name, "flops": total, "parameters": parameters, "copy_rate": rate, "parts": rows,
        "floor_s": all_of_it.tolist(), "adam_s": adam.tolist(),
        "steps_s": {part: values.tolist() for part, values in steps.items()},
        "ratios": {part: values.tolist() for part, values in ratios.items()},
    }  # fmt: skip


def main(args: Args) -> None:
    """Measures the tutorial's sizes and the defaults."""
    models = {"the tutorial's sizes": common.TUTORIAL, "default sizes": ModelConfig()}
    results = [measure(name, replace(model), args) for name, model in models.items()]
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    common.write(args.out, settings, results)


if __name__ == "__main__":
    main(tyro.cli(Args))
