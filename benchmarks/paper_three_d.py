"""Solids on a table, as in the paper's third experiment (Eslami et al., 2016, section 3.3):
``python benchmarks/paper_three_d.py --out FOLDER``.

A guide is trained without labels on scenes of 0 to 3 solids, with a renderer as the decoder. Other
scenes are read, also of 4 and 5 solids, which were never in training. A seed whose result is in the
folder is not run again.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import common
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure

from airjax.three_d.model import SolidsConfig
from airjax.three_d.renderer import Camera, over, render, table
from airjax.three_d.scenes import SolidScenes, scenes
from airjax.three_d.shapes import KINDS, Shape
from airjax.three_d.training import Read, Schedule, read, score, train

TRAIN_SEED, TEST_SEED = 1, 2
ASIDE = Camera(position=(2.4, -1.6, 2.0), size=72)


@dataclass(frozen=True)
class Args:
    """What to train.

    Attributes:
        kinds: of the solids: blocks of one colour, blocks of three colours, or tableware.
        seeds: number of trainings.
        steps: of a training.
        batch_size: scenes in a mini-batch.
        scenes: to train on.
        tested: scenes that are read, of 0 to 3 solids, and of each count that was never seen.
        out: folder for a JSON file of each seed and the figure.
    """

    kinds: Literal["blocks", "coloured", "tableware"] = "blocks"
    seeds: int = 5
    steps: int = 2000
    batch_size: int = 32
    scenes: int = 12000
    tested: int = 1000
    out: Path = Path("three_d")


def one(args: Args, seed: int) -> dict[str, float]:
    """Trains, reads and scores; draws the figure of the first seed."""
    shapes = KINDS[args.kinds]
    config = SolidsConfig(kinds=shapes)
    data = scenes(shapes, args.scenes, TRAIN_SEED)
    schedule = Schedule(steps=args.steps, batch_size=args.batch_size, seed=seed)
    begin = time.perf_counter()
    guide = train(config, data.images, table(config.camera), schedule, progress)
    row: dict[str, float] = {"seconds": time.perf_counter() - begin}
    turned = tuple(i for i, shape in enumerate(shapes) if shape.name == "cube")
    truth = scenes(shapes, args.tested, TEST_SEED)
    found = read(guide, truth.images)
    row |= score(found, truth, turned)
    for n in (4, 5):
        more = scenes(shapes, args.tested, TEST_SEED + n, counts=(n,))
        row[f"count_{n}"] = score(read(guide, more.images, n + 2), more, turned)["count"]
    if seed == 0:
        figure(shapes, truth, found).savefig(args.out / f"paper_three_d_{args.kinds}.png", dpi=80)
    return row


def progress(step: int, loss: float, _: object) -> None:
    """Prints the negative ELBO, in nats a scene."""
    print(f"step {step}: {loss:.1f} nats", flush=True)


def drawn(camera: Camera, shapes: tuple[Shape, ...], found: Read, i: int) -> np.ndarray:
    """A scene as it was read, seen by a camera."""
    kinds, poses = found.kinds[i, : found.counts[i]], found.poses[i, : found.counts[i]]
    away = np.linalg.norm(np.pad(poses[:, :2], ((0, 0), (0, 1))) - camera.position, axis=1)
    objects = [
        render(camera, shapes[kinds[j]], jnp.asarray(poses[j : j + 1]), 0.015)
        for j in np.argsort(-away)
    ]
    image = table(camera)[None]
    return np.clip(over(image, jnp.stack(objects))[0] if objects else image[0], 0, 1)


def figure(shapes: tuple[Shape, ...], truth: SolidScenes, found: Read, n: int = 8) -> Figure:
    """Scenes, as they were read, and as they were read from another camera."""
    fig = Figure(figsize=(n * 1.2, 3.8))
    axes = fig.subplots(3, n)
    for i in range(n):
        rows = (truth.images[i], drawn(Camera(), shapes, found, i), drawn(ASIDE, shapes, found, i))
        for ax, image in zip(axes[:, i], rows, strict=True):
            ax.imshow(image)
            ax.set_axis_off()
    for ax, title in zip(axes[:, 0], ("image", "inferred", "from another side"), strict=True):
        ax.set_title(title, fontsize=8, loc="left")
    fig.tight_layout()
    return fig


def main(args: Args) -> None:
    """Trains with each seed and prints a table."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows = {}
    for seed in range(args.seeds):
        path = args.out / f"{args.kinds}_{seed}.json"
        if not path.exists():
            common.write(path, dataclasses.asdict(args), one(args, seed))
        rows[seed] = json.loads(path.read_text())["results"]
    names = list(rows[0])
    lines = [[seed, *(f"{row[name]:.3g}" for name in names)] for seed, row in rows.items()]
    mean = [f"{np.mean([row[name] for row in rows.values()]):.3g}" for name in names]
    print(common.table(["seed", *names], [*lines, ["mean", *mean]]))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
