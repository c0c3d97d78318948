"""What codes are good for: the sum of two digits, and whether they are in order, learned from few
labels (after Eslami et al., 2016, section 3.2, whose task has three digits).

    python benchmarks/paper_codes.py --seeds 3 --out FOLDER

AIR and an autoencoder are trained on 60,000 scenes of two digits without labels; classifiers get
the labels of some of these scenes. They are tested on scenes of digits that none has seen. "In
order" is: the left digit is smaller than the right one. What FOLDER already has is not run again.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import code_nets
import common
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from airjax.air import AIR
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.composer import Pool, SceneConfig, compose
from airjax.data.mnist import load_mnist
from airjax.programs.guide import all_on_trace

METHODS = {
    "shared": "AIR's codes, one net for both digits, sums only",
    "codes": "AIR's codes, MLP",
    "autoencoder": "autoencoder's codes, MLP",
    "convolutional": "convolutional network",
}
TASKS = ("sum", "order")
MODEL = ModelConfig(guide="attend")
DEV = 55_000  # the training digits from here on are for `--dev`
Labels = Int[np.ndarray, "N 2"]
Method = Literal["shared", "codes", "autoencoder", "convolutional"]


@dataclass(frozen=True)
class Args:
    """What to train.

    Attributes:
        seeds: number of seeds, of the unlabelled trainings, the choice of labels and classifiers.
        first: the first seed.
        labels: numbers of labels.
        methods: to train.
        scenes: without labels.
        tested: scenes of digits never seen.
        steps: of AIR, and of the autoencoder.
        most: steps of a classifier of codes; fewer for few labels.
        most_images: steps of the convolutional network, whatever the labels.
        dev: tests on training digits that were held out, not on test digits: for choosing settings.
        out: folder for the results.
    """

    seeds: int = 5
    first: int = 0
    labels: tuple[int, ...] = (100, 300, 1000, 3000, 10_000)
    methods: tuple[Method, ...] = ("shared", "codes", "autoencoder", "convolutional")
    scenes: int = 60_000
    tested: int = 5000
    steps: int = 6000
    most: int = 3000
    most_images: int = 15_000
    dev: bool = False
    out: Path = Path("codes")


def scenes(pool: Pool, num: int, seed: int) -> tuple[UInt8[np.ndarray, "N H W"], Labels]:
    """Scenes of two digits, and their classes from left to right."""
    data = compose(pool, SceneConfig(num_scenes=num, counts=(2,), seed=seed))
    assert data.labels is not None and data.boxes is not None
    order = data.boxes[:, :, [0, 2]].mean(-1).argsort(1)
    return data.images, np.take_along_axis(data.labels, order, axis=1)


def targets(labels: Labels) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """The sum, and whether the digits are in order."""
    return labels.sum(1), (labels[:, 0] < labels[:, 1]).astype(int)


def codes_of(air: AIR, images: UInt8[np.ndarray, "N H W"]) -> dict[str, np.ndarray]:
    """The first two objects from left to right: ``where`` ``[N, 2, 3]``, and ``what``
    ``[N, 2, 2, Z]``, mean and standard deviation of z_what."""

    @jax.jit
    def read(images):
        key = jax.random.key(0)  # not used: all latents are at their means
        sites = all_on_trace(air.guide, images.astype(jnp.float32) / 255, key, mean=True)
        where = jnp.stack([site["value"] for site in sites["z_where"][:2]], axis=1)
        normals = [site["fn"] for site in sites["z_what"][:2]]
        what = jnp.stack([jnp.stack([d.mean, jnp.sqrt(d.variance)], 1) for d in normals], axis=1)
        order = jnp.argsort(-where[..., 1] / where[..., 0], axis=1)
        return {
            "where": jnp.take_along_axis(where, order[..., None], axis=1),
            "what": jnp.take_along_axis(what, order[..., None, None], axis=1),
        }

    parts = [read(images[i : i + 500]) for i in range(0, len(images), 500)]
    return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}


def flat(codes: dict[str, np.ndarray]) -> Float[np.ndarray, "N features"]:
    """Place and mean code of both objects, a row an image."""
    both = np.concatenate([codes["where"], codes["what"][:, :, 0]], axis=-1)
    return both.reshape(len(both), -1)


def learned(
    args: Args, seed: int, method: str, train: np.ndarray, test: np.ndarray
) -> list[dict[str, np.ndarray]]:
    """Codes of all training and of all test scenes, as this method needs them."""
    if method == "convolutional":
        return [{}, {}]
    who = "autoencoder" if method == "autoencoder" else "air"
    files = [args.out / f"{who}_{seed}_{part}.npz" for part in ("train", "test")]
    if not all(file.exists() for file in files):
        if who == "air":
            config = Config(train=TrainConfig(data="multi-mnist"), model=MODEL)
            air = AIR(3, steps=args.steps, config=config, random_state=seed).fit(train)
            print(f"seed {seed}: restarts {air.restarts_}, collapsed: {air.collapsed_}", flush=True)
            codes = [codes_of(air, images) for images in (train, test)]
        else:
            size = 2 * (3 + MODEL.encoder_latent_size)
            encoder = code_nets.autoencoder(train, size, args.steps, seed)
            codes = [{"flat": code_nets.outputs(encoder, images)} for images in (train, test)]
        for file, code in zip(files, codes, strict=True):
            np.savez(file, **code)
    return [dict(np.load(file)) for file in files]


def accuracies(
    args: Args, seed: int, method: str, num: int, train: tuple, test: tuple
) -> dict[str, float]:
    """The accuracy of a method at each task, given a number of labels.

    Args:
        args: of the benchmark.
        seed: of labels and classifiers.
        method: one of ``METHODS``.
        num: of labels.
        train: images, labels, codes.
        test: the same.
    """
    rows = np.random.default_rng(seed).permutation(len(train[1]))[:num]
    y, want = targets(train[1]), targets(test[1])
    if method == "convolutional":
        few = code_nets.held_out(num)
        split = rows[few:], rows[:few]
        found = code_nets.convolutional(train[0], y, split, args.most_images, seed)(test[0])
    elif method == "shared":
        given = np.full(len(y[0]), -1)
        given[rows] = y[0][rows]
        steps = min(args.most, 1000 + num)
        net = code_nets.SharedDigits(steps, seed=seed).fit(train[2]["what"], given)
        found = net.predict(test[2]["what"]), net.predict_order(test[2]["what"])
    else:
        x, x_test = (
            part[2]["flat"] if "flat" in part[2] else flat(part[2]) for part in (train, test)
        )
        found = [mlp(num, seed).fit(x[rows], task[rows]).predict(x_test) for task in y]
    return {t: float(np.mean(f == w)) for t, f, w in zip(TASKS, found, want, strict=True)}


def mlp(num: int, seed: int) -> Pipeline:
    """A classifier of codes. With few labels, some class may have too few to hold one out."""
    net = MLPClassifier((256, 128), alpha=1.0, early_stopping=num >= 1000, random_state=seed)
    return make_pipeline(StandardScaler(), net)


def results(args: Args) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Of task, method and number of labels, the shares that are right, a number a seed."""
    found: dict = {task: {method: {} for method in METHODS} for task in TASKS}
    for file in sorted(args.out.glob("result_*.json")):
        report = json.loads(file.read_text())
        method = report["settings"]["method"]
        for num, right in report["results"].items():
            for task in TASKS:
                found[task][method].setdefault(num, []).append(right[task])
    return found


def tables(found: dict) -> str:
    """Mean and range over the seeds, in per cent."""
    texts = []
    for task, rows in found.items():
        nums = sorted({int(num) for row in rows.values() for num in row})
        lines = [
            [METHODS[m], *(cell(row.get(str(n), [])) for n in nums)] for m, row in rows.items()
        ]
        texts.append(common.table([task, *(f"{n:,} labels" for n in nums)], lines))
    return "\n\n".join(texts)


def cell(shares: list[float]) -> str:
    """Mean, range and number of seeds."""
    if not shares:
        return "-"
    mean, low, high = (100 * f(shares) for f in (np.mean, np.min, np.max))
    return f"{mean:.1f} ({low:.1f} to {high:.1f}; {len(shares)})"


def draw(found: dict) -> Figure:
    """Shares that are right against the number of labels."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (task, rows) in zip(figure.subplots(1, 2), found.items(), strict=True):
        for method, row in rows.items():
            nums = sorted(row, key=int)
            shares = [100 * float(np.mean(row[num])) for num in nums]
            axes.plot([int(num) for num in nums], shares, "o-", label=METHODS[method])
        axes.set(xscale="log", xlabel="labels", ylabel=f"{task} right, %")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=7)
    return figure


def main(args: Args) -> None:
    """Trains what is missing, prints the tables and draws them."""
    args.out.mkdir(parents=True, exist_ok=True)
    pool, unseen = load_mnist("train"), load_mnist("test")
    if args.dev:
        unseen = Pool(pool.images[DEV:], pool.labels[DEV:])
        pool = Pool(pool.images[:DEV], pool.labels[:DEV])
    train, test = scenes(pool, args.scenes, 0), scenes(unseen, args.tested, 1)
    for seed in range(args.first, args.first + args.seeds):
        for method in args.methods:
            file = args.out / f"result_{seed}_{method}.json"
            done = json.loads(file.read_text())["results"] if file.exists() else {}
            for num in args.labels:
                if str(num) in done:
                    continue
                codes = learned(args, seed, method, train[0], test[0])
                both = (*train, codes[0]), (*test, codes[1])
                done[str(num)] = accuracies(args, seed, method, num, *both)
                print(seed, method, num, done[str(num)], flush=True)
                common.write(file, vars(args) | {"seed": seed, "method": method}, done)
    found = results(args)
    print(tables(found))
    draw(found).savefig(args.out / "paper_codes.png", dpi=100)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
