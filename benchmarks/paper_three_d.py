"""Solids on a table, as in the paper's third experiment (Eslami et al., 2016, section 3.3):
``python benchmarks/paper_three_d.py --out FOLDER``.

A guide is trained without labels on scenes of 0 to 3 solids, with a renderer as the decoder. Other
scenes are read, also of 4 and 5 solids, which were never in training. Beside it: a twin of the same
size that learns from labels, and, with the first seed, the paper's own estimator of the gradient. A
seed whose result is in the folder is not run again.
"""

import dataclasses
import itertools
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from solids_peers import compare_estimators, supervised

from airjax.checks import at_least_1
from airjax.errors import InputError
from airjax.three_d.files import is_solids, save
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig
from airjax.three_d.reading import Read, read, score
from airjax.three_d.renderer import ASIDE, Camera, table
from airjax.three_d.scenes import Draw, SolidScenes, drawn, scenes
from airjax.three_d.shapes import KINDS, Shape
from airjax.three_d.training import Schedule, train

TRAIN_SEED, TEST_SEED = 1, 2
MOST = 5  # solids in a scene


@dataclass(frozen=True)
class Args:
    """What to train.

    Attributes:
        kinds: of the solids: blocks of one colour, blocks of three colours, or tableware.
        renderer: of the scenes: the model's own, MuJoCo, or MuJoCo with shadows.
        seeds: number of trainings.
        steps: of a training.
        batch_size: scenes in a mini-batch.
        scenes: to train on.
        size: of an image in pixels.
        tested: scenes that are read, of 0 to 3 solids, and of each count that was never seen.
        draws: of the gradient, for its variance.
        out: folder for a JSON file of each seed and the figure.
    """

    kinds: Literal["blocks", "coloured", "tableware"] = "blocks"
    renderer: Literal["own", "mujoco", "mujoco-shadows"] = "own"
    seeds: int = 5
    steps: int = 2000
    batch_size: int = 32
    scenes: int = 12000
    size: int = 36
    tested: int = 1000
    draws: int = 100
    out: Path = Path("three_d")

    @property
    def camera(self) -> Camera:
        """That sees the scenes."""
        return Camera(size=self.size)

    @property
    def name(self) -> str:
        """Of the files."""
        return f"{self.kinds}_{self.renderer}"


@dataclass(frozen=True)
class Data:
    """Scenes to train on and to test with (of 0 to 3 solids, of 4, of 5), and the empty table."""

    train: SolidScenes
    test: dict[str, SolidScenes]
    table: np.ndarray


def rendered(args: Args) -> Data:
    """The scenes, by one renderer or another."""
    if args.renderer == "own":
        return composed(args, None, np.asarray(table(args.camera)))
    from solids_mujoco import MujocoScenes  # only here: it needs mujoco and libosmesa6

    shadows = args.renderer == "mujoco-shadows"
    mujoco = MujocoScenes(KINDS[args.kinds], MOST, shadows, args.camera)
    data = composed(args, mujoco, mujoco.table())
    mujoco.close()
    return data


def composed(args: Args, draw: Draw | None, empty: np.ndarray) -> Data:
    """The scenes that a renderer draws (None: the model's), on its empty table."""

    def some(n: int, seed: int, counts: tuple[int, ...]) -> SolidScenes:
        return scenes(KINDS[args.kinds], n, seed, counts, args.camera, draw)

    test = {"": some(args.tested, TEST_SEED, (0, 1, 2, 3))}
    test |= {f"_{n}": some(args.tested, TEST_SEED + n, (n,)) for n in (4, MOST)}
    return Data(some(args.scenes, TRAIN_SEED, (0, 1, 2, 3)), test, empty)


def one(args: Args, data: Data, seed: int) -> dict[str, float]:
    """Trains without labels and with them, reads and scores; draws the figure of the first seed."""
    shapes, empty = KINDS[args.kinds], jnp.asarray(data.table)
    config = SolidsConfig(kinds=shapes, camera=args.camera)
    schedule = Schedule(steps=args.steps, batch_size=args.batch_size, seed=seed)
    begin = time.perf_counter()
    guide = train(config, data.train.images, empty, schedule, progress)
    row = {"seconds": time.perf_counter() - begin} | scored(guide, data, shapes)
    begin = time.perf_counter()
    twin = supervised(config, data.train, empty, schedule, progress)
    row["twin_seconds"] = time.perf_counter() - begin
    by_guide = read(guide, data.test[""].images, compare=False)
    row["kind_by_guide"] = score(by_guide, data.test[""])["kind"]
    alone = scored(twin, data, shapes, compare=False)  # it has no model to compare kinds with
    row |= {f"twin_{name}": value for name, value in alone.items()}
    folder = args.out / f"{args.name}_{seed}"
    if not is_solids(folder):  # the same one, if this seed was interrupted
        save(guide, folder)
    if seed == 0:
        truth = data.test[""]
        fig = figure(args, truth, read(guide, truth.images))
        fig.savefig(args.out / f"paper_three_d_{args.name}.png", dpi=80)
        images = jnp.asarray(data.train.images[: args.batch_size], float) / 255
        untrained = SolidsGuide(config, empty, key=jax.random.key(seed))
        both = {"before training": untrained, "after it": guide}
        rows = compare_estimators(both, images, args.draws)
        common.write(args.out / f"{args.name}_gradients.json", dataclasses.asdict(args), rows)
    return row


def scored(
    guide: SolidsGuide, data: Data, shapes: tuple[Shape, ...], compare: bool = True
) -> dict[str, float]:
    """Scores of scenes of 0 to 3 solids; right counts and kinds of scenes of more."""
    turned = tuple(i for i, shape in enumerate(shapes) if shape.name == "cube")
    row = score(read(guide, data.test[""].images, compare=compare), data.test[""], turned)
    for name, truth in data.test.items():
        if name:
            found = read(guide, truth.images, int(truth.counts.max()) + 2, compare)
            more = score(found, truth, turned)
            row |= {f"count{name}": more["count"], f"kind{name}": more["kind"]}
    return row


def progress(step: int, loss: float, _: object) -> None:
    """Prints the negative ELBO, in nats a scene."""
    print(f"step {step}: {loss:.1f} nats", flush=True)


def figure(args: Args, truth: SolidScenes, found: Read, n: int = 8) -> Figure:
    """Scenes, as they were read, and as they were read from another camera."""
    n = min(n, len(truth.images))
    shapes, fig = KINDS[args.kinds], Figure(figsize=(n * 1.2, 3.8))
    first = Read(*(part[:n] for part in found))
    rows = (truth.images[:n], drawn(args.camera, shapes, *first), drawn(ASIDE, shapes, *first))
    axes = fig.subplots(3, n)
    for ax, image in zip(axes.flat, itertools.chain(*rows), strict=True):
        ax.imshow(np.clip(image, 0, 1) if image.dtype != np.uint8 else image)
        ax.set_axis_off()
    for ax, title in zip(axes[:, 0], ("image", "inferred", "from another side"), strict=True):
        ax.set_title(title, fontsize=8, loc="left")
    fig.tight_layout()
    return fig


def main(args: Args) -> None:
    """Trains with each seed and prints a table, and one of the estimators."""
    numbers = {name: n for name, n in dataclasses.asdict(args).items() if isinstance(n, int)}
    at_least_1(**numbers)
    args.out.mkdir(parents=True, exist_ok=True)
    paths = {seed: args.out / f"{args.name}_{seed}.json" for seed in range(args.seeds)}
    todo = [seed for seed, path in paths.items() if not path.exists()]
    data = rendered(args) if todo else None
    for seed in todo:
        assert data is not None
        common.write(paths[seed], dataclasses.asdict(args), one(args, data, seed))
    rows = {seed: results(path) for seed, path in paths.items()}
    names = list(rows[0])
    lines = [[seed, *(f"{row[name]:.3g}" for name in names)] for seed, row in rows.items()]
    mean = [f"{np.mean([row[name] for row in rows.values()]):.3g}" for name in names]
    print(common.table(["seed", *names], [*lines, ["mean", *mean]]))
    gradients = results(args.out / f"{args.name}_gradients.json")
    head = ["variance", "component", "standard_error", "seconds"]
    lines = [
        [when, name, *(f"{row[key]:.3g}" for key in head)]
        for when, rows in gradients.items()
        for name, row in rows.items()
    ]
    print(common.table(["guide", "estimator", *head], lines))


def results(path: Path) -> dict[str, Any]:
    """What a file of an earlier run has."""
    return json.loads(path.read_text())["results"]


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except InputError as error:
        raise SystemExit(str(error)) from None
