"""What an accelerator is worth here, in one call of under ten minutes:
``python benchmarks/gpu.py --out FILE.json``.

Measures the device's own limits (a matrix product, a copy), training steps against them for several
batch sizes, one training of multi-MNIST until 98.7 % and 99 % of the counts are right, and reading.
It runs on whichever device JAX finds, a CPU, too; the first line names it.
"""

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
import time_to_accuracy
import tyro
from predict import rates

from airjax import AIR, data
from airjax.config import Config, TrainConfig
from airjax.training.resolve import resolved
from airjax.training.trainer import Trainer


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        batches: batch sizes.
        steps: in a turn.
        repeats: turns.
        train_steps: of the training (default: airjax's).
        every: steps of it between two checks.
        images: that are read.
        side: of the matrices that are multiplied.
        megabytes: that are copied.
        out: JSON file for the results.
    """

    batches: tuple[int, ...] = (64, 256, 1024, 4096)
    steps: int = 50
    repeats: int = 5
    train_steps: int | None = None
    every: int = 250
    images: int = 100_000
    side: int = 4096
    megabytes: int = 512
    out: Path | None = None


def limits(args: Args) -> dict[str, float]:
    """FLOP/s of a product of float32 matrices, with JAX's precision for the device, and bytes/s of
    reading and writing memory."""
    square = jnp.ones((args.side, args.side), jnp.float32)
    many = jnp.zeros(args.megabytes * 250_000, jnp.float32)
    product, add = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    seconds = common.in_turn(
        {
            "product": lambda: product(square, square).block_until_ready(),
            "copy": lambda: add(many).block_until_ready(),
        },
        args.repeats,
    )
    return {
        "flops": 2 * args.side**3 / min(seconds["product"]),
        "bytes": 2 * many.nbytes / min(seconds["copy"]),
    }


def stepping(args: Args, batch: int, images: np.ndarray) -> tuple[Callable[[], None], dict]:
    """A turn of training steps, and what XLA counts in one: FLOPs, and bytes, also of what stays
    in caches, so that the share of the memory's rate may be above 1."""
    config, _ = resolved(Config(TrainConfig(data="multi-mnist", batch_size=batch)), images)
    trainer = Trainer(config, images)
    state = trainer.init()
    chunk = trainer.compiled(state)
    cost = jax.jit(trainer.step).lower(state, trainer.images).compile().cost_analysis() or {}

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(chunk(state, trainer.images, jnp.array(args.steps)))

    return run, {"flops": cost.get("flops"), "bytes": cost.get("bytes accessed")}


def steps(args: Args, images: np.ndarray, most: dict[str, float]) -> list[dict[str, Any]]:
    """Step times of each batch size, and the share of the device's limits that they reach."""
    rows = []
    for batch in args.batches:
        run, cost = stepping(args, batch, images)
        seconds = common.in_turn({"step": run}, args.repeats, args.steps)["step"]
        middle = statistics.median(seconds)
        shares = {name: n and n / middle / most[name] for name, n in cost.items()}
        rows.append({"batch": batch, "seconds": seconds, "cost": cost, "shares": shares})
    return rows


def step_table(rows: list[dict[str, Any]]) -> str:
    """Of step times."""

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f} %"

    lines = []
    for row in rows:
        rate = row["batch"] / statistics.median(row["seconds"])
        shares = [percent(row["shares"][name]) for name in ("flops", "bytes")]
        lines.append([row["batch"], common.spread(row["seconds"]), f"{rate:,.0f}", *shares])
    return common.table(["batch", "ms a step", "images/s", "of FLOP/s", "of bytes/s"], lines)


def main(args: Args) -> None:
    """Measures, prints and writes."""
    kind = jax.devices()[0].device_kind
    most = limits(args)
    print(f"{kind}: {most['flops'] / 1e12:.2f} TFLOP/s, {most['bytes'] / 1e9:.0f} GB/s", flush=True)
    train, test = data.load("multi-mnist", "train"), data.load("multi-mnist", "test")
    rows = steps(args, train.images, most)
    print(step_table(rows), flush=True)
    how = time_to_accuracy.Args(steps=args.train_steps, every=args.every)
    record = time_to_accuracy.ours(how, 0, train, test)
    checks = time_to_accuracy.checked("seed 0", record, train, test)
    print(time_to_accuracy.tables({"seed 0": checks}), flush=True)
    read, air = {}, AIR.of(*record.kept[-1][1])
    many = np.resize(test.images, (args.images, *test.image_shape))
    for k in (1, 5):
        air.set_params(num_paths=k)
        air.predict(test.images)  # compiles

        def read_all() -> int:
            return sum(len(scenes) for scenes in air.predict_batches(many))

        found = rates(read_all, len(many), args.repeats)
        read[f"K = {k}"] = found
    lines = [[name, common.spread(found, 1, 0)] for name, found in read.items()]
    print(common.table(["read with", "images/s"], lines))
    results = {"device": kind, "limits": most, "steps": rows, "checks": checks, "reading": read}
    common.write(args.out, dataclasses.asdict(args), results)


if __name__ == "__main__":
    main(tyro.cli(Args))
