"""On paper: what training on several devices or hosts gives, from rates that are measured here or
given, and what reading many pictures takes.

    python benchmarks/scale.py --out FOLDER

A step on n devices takes ``fixed + images / rate`` on each of them, with ``images = batch / n``;
then the gradients are summed: a ring moves ``2 (n - 1) / n`` times their bytes over each link, in
``2 (n - 1)`` messages (Patarasuk and Yuan, 2009). ``fixed`` and ``rate`` are fitted to two sizes of
the mini-batch. Nothing of the sum is hidden behind the computation: the curve is a lower bound.
Writes scale.json and scale.png.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from airjax import data
from airjax.config import Config, TrainConfig
from airjax.data.composer import SceneConfig
from airjax.training.resolve import resolved
from airjax.training.trainer import Trainer

DEVICES = tuple(2**i for i in range(10))
REPEATS = 5
PICTURES = 1_000_000_000


@dataclass(frozen=True)
class Args:
    """What to compute.

    Attributes:
        batches: global sizes of the mini-batch.
        fixed: milliseconds of a step that do not depend on its images (default: measured here).
        rate: images a second of one device in training (default: measured here).
        reading: pictures a second that one core reads, for the last line.
        bandwidth: bytes a second of a link, in one direction: 450e9 is NVLink of one H100, 12.5e9 a
            network of 100 Gbit/s, 1.25e9 one of 10.
        latency: seconds of a message.
        out: folder for the results.
    """

    batches: tuple[int, ...] = (64, 1024, 16384)
    fixed: float | None = None
    rate: float | None = None
    reading: float | None = None
    bandwidth: float = 12.5e9
    latency: float = 20e-6
    out: Path | None = None


class Device(NamedTuple):
    """How fast one device trains: seconds of a step without images, and images a second."""

    fixed: float
    rate: float

    def seconds(self, images: float) -> float:
        """Of the computation of a step."""
        return self.fixed + images / self.rate


def trainer_of(batch: int) -> Trainer:
    """A training at default settings."""
    images = data.make("digits", "train", SceneConfig(num_scenes=2000)).images
    config = Config(TrainConfig(data="digits", batch_size=batch))
    return Trainer(resolved(config, images)[0], images)


def gradient_bytes() -> int:
    """Of what a step moves: a float32 for each weight."""
    trainer = trainer_of(64)
    state = trainer.init()
    assert trainer.svi.constrain_fn is not None
    params = trainer.svi.get_params(state.svi)
    return 4 * sum(np.size(leaf) for leaf in jax.tree.leaves(params))


def measured(batch: int, steps: int = 20) -> float:
    """The median seconds of a training step here."""
    trainer = trainer_of(batch)
    state = trainer.init()
    chunk = trainer.compiled(state)
    taken = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        jax.block_until_ready(chunk(state, trainer.images, jnp.array(steps)))
        taken.append((time.perf_counter() - begin) / steps)
    return float(np.median(taken[1:]))


def fitted(small: tuple[int, float], large: tuple[int, float]) -> Device:
    """The device that takes these seconds for these images."""
    each = (large[1] - small[1]) / (large[0] - small[0])
    return Device(max(0.0, small[1] - small[0] * each), 1 / each)


def sum_seconds(n: int, size: int, bandwidth: float, latency: float) -> float:
    """Of the sum of gradients of this many bytes over a ring of n devices."""
    return 2 * (n - 1) / n * size / bandwidth + 2 * (n - 1) * latency


def speedups(args: Args, device: Device, size: int, batch: int) -> list[float]:
    """How many times as fast a step is on each number of ``DEVICES``."""
    alone = device.seconds(batch)
    return [
        alone / (device.seconds(batch / n) + sum_seconds(n, size, args.bandwidth, args.latency))
        for n in DEVICES
    ]


def main(args: Args) -> None:
    size = gradient_bytes()
    if args.fixed is None or args.rate is None:
        device = fitted((64, measured(64)), (256, measured(256)))
    else:
        device = Device(args.fixed / 1000, args.rate)
    print(
        f"a step moves gradients of {size / 1e6:.2f} MB; one device takes "
        f"{1000 * device.fixed:.1f} ms and trains on {device.rate:,.0f} images/s"
    )
    found = {batch: speedups(args, device, size, batch) for batch in args.batches}
    rows = [[n, *(f"{found[batch][i]:.1f}" for batch in found)] for i, n in enumerate(DEVICES)]
    print(common.table(["devices", *(f"batch {batch:,}" for batch in found)], rows))
    if args.reading is not None:
        hours = PICTURES / args.reading / 3600
        print(f"reading {PICTURES:,} pictures takes {hours:,.0f} core-hours")
    if args.out is not None:
        common.write(args.out / "scale.json", vars(args), {"bytes": size, "speedups": found})
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(DEVICES, DEVICES, ":", color="grey", label="ideal")
        for batch, curve in found.items():
            axes.plot(DEVICES, curve, "o-", label=f"batch {batch:,}")
        axes.set(xscale="log", yscale="log", xlabel="devices", ylabel="times as fast as one")
        axes.legend()
        figure.savefig(args.out / "scale.png", dpi=150)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
