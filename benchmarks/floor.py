"""How far a training step is from what the machine can do: the matrix products of one step and the
optimiser's traffic, each timed alone, make the floor; and what the step takes without its parts.

    python benchmarks/floor.py [--out FILE.json]

The products are listed from the settings (forward, and backward for inputs and weights). Each is
timed at its own shape with XLA (the first factor as it is, or kept transposed) and with NumPy's
BLAS, and the fastest counts. That is the floor of products made one after the other; many of them
use one core only. The lower floor has two made at once, as if none had to wait for another,
wherever this is faster. Schedule-free Adam has to read four numbers a parameter (gradient, second
moment, y and z) and to write three; the rate is that of copying arrays of as many numbers as it
reads. All else (sampling, hats of the spatial transformer, likelihoods, non-linearities) is free
here.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
ALONE, AT_ONCE = ("XLA", "transposed", "NumPy"), ("two at once", "transposed, two at once")

Turns = dict[Any, np.ndarray]  # seconds, by what was timed


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
    # the first step's are the same for all images: one row, left out
    yield from _layer("LSTM, latents and state", rows, latents + hidden, gates, t - 1)
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
    """How many products make a turn: an even number."""
    return 2 * max(1, round(TURN / 2 / p.shape.flops))


def factors(p: Product) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays to multiply."""
    random = np.random.default_rng(0)
    a = random.standard_normal((p.b, p.m, p.k), np.float32)
    b = random.standard_normal((p.b, p.k, p.n), np.float32)
    return (a[0], b[0]) if p.b == 1 else (a, b)


@partial(jax.jit, static_argnames=("times", "transposed"))
def looped(a, b, times: int, transposed: bool):
    """So many products, one after the other."""

    def body(_, a):
        c = (a.mT if transposed else a) @ b
        c = jax.lax.optimization_barrier(c)  # all of it, and each time
        return a.at[(0,) * a.ndim].set(c[(0,) * c.ndim])

    return jax.lax.fori_loop(0, times, body, a)


def in_xla(p: Product, transposed: bool = False, at_once: int = 1) -> Callable[[], object]:
    """A turn of such products in a compiled loop, so that no call is counted; if asked, with the
    first factor kept transposed, as gradients for weights have it, and in several threads."""
    a, b = map(jnp.asarray, factors(p))
    a = jnp.copy(a.mT) if transposed else a
    threads = ThreadPoolExecutor(at_once)

    def some(_):
        return jax.block_until_ready(looped(a, b, loops(p) // at_once, transposed))

    return lambda: list(threads.map(some, range(at_once)))


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


def timed(trainer: Trainer, shapes: Sequence[Product], parameters: int, args: Args) -> Turns:
    """Seconds of each turn. Products, copies and steps have theirs one after the other: the
    machine's speed changes within minutes."""
    contenders: dict[Any, Callable[[], object]] = {}
    for p in shapes:
        contenders |= {("XLA", p): in_xla(p), ("transposed", p): in_xla(p, True)}
        two = in_xla(p, at_once=2), in_xla(p, True, at_once=2)
        contenders |= {(way, p): turn for way, turn in zip(AT_ONCE, two, strict=True)}
    contenders |= {"copies": copies(parameters)} | parts(trainer, args)
    contenders |= {("NumPy", p): in_numpy(p) for p in shapes}
    contenders |= {"pause": lambda: time.sleep(1)}  # NumPy's threads wait awake for a while
    seconds = common.in_turn(contenders, args.repeats)
    return {name: np.array(values) for name, values in seconds.items()}


def of_products(listed: Sequence[Product], turns: Turns, ways: Sequence[str]) -> np.ndarray:
    """Seconds of these products in each turn, each in the way that takes the least time in the
    median."""

    def once(p: Product) -> np.ndarray:
        return min((turns[way, p.shape] for way in ways), key=np.median) / loops(p)

    return sum((p.times * once(p) for p in listed), np.zeros(()))


def measure(name: str, model: ModelConfig, args: Args) -> dict:
    """The floors of one architecture, the step, and the step's share, that of steps and floor of
    the same turn; printed as tables."""
    config = Config(TrainConfig(data="multi-mnist", batch_size=args.batch_size), model)
    trainer = Trainer(config, data.load("multi-mnist", "train").images)
    listed = list(products(model, args.batch_size))
    parameters = sum(x.size for x in jax.tree.leaves(trainer.svi.get_params(trainer.init().svi)))
    turns = timed(trainer, list(dict.fromkeys(p.shape for p in listed)), parameters, args)

    adam = ADAM / ADAM_READS / COPIES * turns["copies"]
    floors = [of_products(listed, turns, ways) + adam for ways in (ALONE, ALONE + AT_ONCE)]
    rows = []
    for part in dict.fromkeys(p.part for p in listed):
        mine = [p for p in listed if p.part == part]
        flops = sum(p.flops for p in mine)
        alone, at_once = (np.median(of_products(mine, turns, w)) for w in (ALONE, ALONE + AT_ONCE))
        told = f"{flops / 1e6:.0f}", f"{flops / alone / 1e9:.0f}", f"{1e3 * alone:.2f}"
        rows.append([part, *told, f"{1e3 * at_once:.2f}"])
    total, moved = sum(p.flops for p in listed), 4 * ADAM * parameters
    rate, took = moved / np.median(adam), f"{1e3 * np.median(adam):.2f}"
    traffic = f"{moved / 1e6:.0f} MB", f"{rate / 1e9:.1f} GB/s"
    rows.append([f"Adam, {parameters:,} parameters", *traffic, took, took])
    rows.append(["floor", f"{total / 1e6:.0f}", "", *map(common.spread, floors)])
    print(f"\n{name}, batch {args.batch_size}\n")
    print(common.table(["part", "MFLOP", "GFLOP/s", "ms a step", "two at once"], rows))

    steps = {part: turns[part] / args.steps for part in PARTS}
    ratios = {part: [steps[part] / floor for floor in floors] for part in PARTS}
    lines = [
        [part, common.spread(steps[part]), *(common.spread(r, 1, 2) for r in ratios[part])]
        for part in PARTS
    ]
    head = ["", "ms a step", "times the floor", "times that of two at once"]
    print("\n" + common.table(head, lines))
    return {
        "model": name, "flops": total, "parameters": parameters, "copy_rate": rate, "parts": rows,
        "floors_s": [floor.tolist() for floor in floors], "adam_s": adam.tolist(),
        "steps_s": {part: values.tolist() for part, values in steps.items()},
        "ratios": {part: [r.tolist() for r in both] for part, both in ratios.items()},
    }  # fmt: skip


def main(args: Args) -> None:
    """Measures the tutorial's sizes and the defaults."""
    models = {"the tutorial's sizes": common.TUTORIAL, "default sizes": ModelConfig()}
    results = [measure(name, replace(model), args) for name, model in models.items()]
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    common.write(args.out, settings, results)


if __name__ == "__main__":
    main(tyro.cli(Args))
