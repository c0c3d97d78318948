"""Counts that were never seen in training, as in the paper (Eslami et al., 2016, section 3.2):
``python benchmarks/paper_counts.py --out FILE.json``.

Trains on scenes of multi-MNIST with some counts, and counts held-out digits in scenes with others.
No training is left out.
"""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import common
import numpy as np
import tyro

from airjax.air import AIR
from airjax.config import Config, GuideName, ModelConfig, TrainConfig
from airjax.data.composer import Pool, SceneConfig, compose
from airjax.data.mnist import load_mnist

MOST = 3  # T


@dataclass(frozen=True)
class Args:
    """What to train and to count.

    Attributes:
        counts: of digits in the scenes of the training.
        tested: counts of the scenes that are read.
        seeds: the first and the last.
        steps: of a training.
        scenes: read of each count.
        guide: of the programs.
        out: JSON file for the results.
    """

    counts: tuple[int, ...] = (0, 1, 2)
    tested: tuple[int, ...] = (0, 1, 2, 3, 4)
    seeds: tuple[int, int] = (0, 4)
    steps: int = 6000
    scenes: int = 500
    guide: GuideName = "attend"
    out: Path | None = None


def trained(args: Args, seed: int, pool: Pool) -> AIR:
    """A model of scenes with these counts."""
    model = ModelConfig(model_steps=MOST, guide=args.guide)
    config = Config(train=TrainConfig(data="multi-mnist"), model=model)
    air = AIR(MOST, steps=args.steps, config=config, random_state=seed)
    return air.fit(compose(pool, SceneConfig(counts=args.counts)).images)


def main(args: Args) -> None:
    """Trains with each seed and prints a table."""
    pool, held_out = load_mnist("train"), load_mnist("test")
    scenes = SceneConfig(num_scenes=args.scenes)
    read = {
        n: compose(held_out, dataclasses.replace(scenes, counts=(n,))).images for n in args.tested
    }
    rows: dict[int, dict[str, float]] = {}
    for seed in range(args.seeds[0], args.seeds[1] + 1):
        begin = time.perf_counter()
        air = trained(args, seed, pool)
        row = {"seconds": time.perf_counter() - begin}
        for n, images in read.items():
            found = np.array([air.find(image).number for image in images])
            row[str(n)] = 100 * float((found == n).mean())
        rows[seed] = row
        common.write(args.out, vars(args), rows)
        print(seed, row, flush=True)
    columns = list(map(str, args.tested))
    lines = [[seed, *(f"{row[n]:.1f}" for n in columns)] for seed, row in rows.items()]
    mean = [f"{np.mean([row[n] for row in rows.values()]):.1f}" for n in columns]
    print(common.table(["seed", *(f"{n} digits" for n in columns)], [*lines, ["mean", *mean]]))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
