"""Characters taken apart into strokes, as in the paper's Omniglot experiment (Eslami et al., 2016):
``python benchmarks/paper_strokes.py --out FOLDER``.

Trains on the five alphabets of Omniglot's first small split, and reads the three of the second
split that are not among them. Each part that was found is compared with the pen strokes that the
glyph was drawn with. A seed whose result is in FOLDER is not trained again; no training is left
out. Writes FOLDER/seed-<n>.json, the weights beside it, and FOLDER/paper_strokes.png.
"""

import dataclasses
import functools
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np
import tyro
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.stats import spearmanr
from sklearn.cluster import KMeans

from airjax.air import AIR
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.omniglot import Glyphs, Stroke, load_omniglot
from airjax.inference import infer, plots
from airjax.inference.reading import Reading

SIDE = 50  # pixels of an image
INK = 25  # intensity from which a pixel is ink
MODEL = ModelConfig(
    model_steps=6, guide="attend", background="none", scale_prior_mean=2.0, scale_prior_sd=0.5,
)  # fmt: skip
RESAMPLED = 1000  # bootstrap samples, and permutations
MANY = 5  # strokes, and more
COLUMNS = 24  # glyphs of the figure


@dataclass(frozen=True)
class Args:
    """What to train.

    Attributes:
        out: folder of results, weights and the figure.
        seeds: how many.
        first: the first of them.
        steps: of a training.
        most: glyphs that are read of each part, evenly spread over it; None for all.
    """

    out: Path
    seeds: int = 5
    first: int = 0
    steps: int = 4000
    most: int | None = None


# --- glyphs and pieces of them: images of labels, from 1; 0 is no ink


def shrunk(images: np.ndarray) -> np.ndarray:
    """Images of 105 x 105 at the model's size: each pixel the mean of what it covers."""
    box, size = Image.Resampling.BOX, (SIDE, SIDE)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, box)) for image in images])


def by_pen(image: np.ndarray, strokes: list[Stroke], side: int = 105) -> np.ndarray:
    """Each pixel of ink with the nearest stroke; pens draw in images with this side."""
    paths = [_dense(stroke) for stroke in strokes]
    owner = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
    ys, xs = np.nonzero(image > INK)
    centres = (np.stack([xs, ys], axis=-1) + 0.5) * side / len(image)
    pieces = np.zeros(image.shape, int)
    pieces[ys, xs] = 1 + owner[KDTree(np.concatenate(paths)).query(centres)[1]]
    return pieces


def _dense(stroke: Stroke, spacing: float = 0.25) -> np.ndarray:
    """Points along a stroke, at this spacing in pixels."""
    along = np.insert(np.cumsum(np.linalg.norm(np.diff(stroke, axis=0), axis=1)), 0, 0)
    at = np.linspace(0, along[-1], 1 + int(np.ceil(along[-1] / spacing)))
    return np.stack([np.interp(at, along, values) for values in stroke.T], axis=-1)


def at_random(image: np.ndarray, number: int, random: np.random.RandomState) -> np.ndarray:
    """Ink cut at random into this number of pieces: each pixel goes to the nearest of as many
    random ones."""
    ink = np.argwhere(image > INK)
    chosen = random.choice(len(ink), min(number, len(ink)), replace=False)
    return _labelled(image, lambda: KDTree(ink[chosen]).query(ink)[1] if number else -1)


def by_k_means(image: np.ndarray, number: int, random: np.random.RandomState) -> np.ndarray:
    """Ink in this number of compact pieces."""
    ink = np.argwhere(image > INK)
    means = KMeans(max(1, min(number, len(ink))), n_init=1, random_state=random)
    return _labelled(image, lambda: means.fit_predict(ink) if number else -1)


def by_connection(image: np.ndarray) -> np.ndarray:
    """Ink in its connected components."""
    return ndimage.label(image > INK, np.ones((3, 3)))[0]


def _labelled(image: np.ndarray, labels: Callable[[], Any]) -> np.ndarray:
    pieces = np.zeros(image.shape, int)
    pieces[image > INK] = 1 + labels()
    return pieces


def boxes_of(pieces: np.ndarray) -> np.ndarray:
    """The tight box of each piece, as bool ``[pieces, H, W]``."""
    masks = np.zeros((len(np.unique(pieces[pieces > 0])), *pieces.shape), bool)
    found = [box for box in ndimage.find_objects(pieces) if box is not None]
    for mask, box in zip(masks, found, strict=True):
        mask[box] = True
    return masks


def masks_of(pieces: np.ndarray) -> np.ndarray:
    """The pixels of each piece, as bool ``[pieces, H, W]``."""
    return pieces == np.unique(pieces[pieces > 0])[:, None, None]


def matches(parts: np.ndarray, strokes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The one-to-one match of masks of parts and of strokes with the largest sum of IoU: their
    indices, and the IoU of each pair."""
    both = np.einsum("phw,shw->ps", parts.astype(float), strokes.astype(float))
    union = parts.sum((1, 2))[:, None] + strokes.sum((1, 2)) - both
    iou = both / np.maximum(union, 1)
    part, stroke = linear_sum_assignment(iou, maximize=True)
    return part, stroke, iou[part, stroke]


def agreement(parts: np.ndarray, strokes: np.ndarray) -> float:
    """The mean over strokes of the IoU with the matched part, 0 without one."""
    return float(matches(parts, strokes)[2].sum() / max(1, len(strokes)))


# --- scores


def scores(glyphs: Glyphs, images: np.ndarray, read: Reading, seed: int) -> dict[str, Any]:
    """All scores of what was read in glyphs; IoU of all, and of those of several strokes."""
    random, strokes = np.random.RandomState(seed), np.array([len(s) for s in glyphs.strokes])
    counts, rows = np.asarray(read.count), []
    for image, pens, found, n in zip(images, glyphs.strokes, read.segments, counts, strict=True):
        drawn = by_pen(image, pens)
        pieces = {
            "AIR": np.where(image > INK, found, 0).astype(int),
            "k-means": by_k_means(image, n, random),
            "random cuts": at_random(image, n, random),
            "connected components": by_connection(image),
            "whole glyph": (image > INK).astype(int),
        }
        rows.append({
            name: [agreement(of(p), of(drawn)) for of in (masks_of, boxes_of)]
            for name, p in pieces.items()
        })  # fmt: skip
    ious = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    left = np.square(images / 255 - read.reconstruction).sum() / np.square(images / 255).sum()
    numbers = np.minimum(strokes, MANY)
    characters = np.array([name.rsplit("_", 1)[0] for name in glyphs.names])
    return {
        "glyphs": len(images),
        "several": (strokes > 1).sum(),
        "explained": float(1 - left),
        "parts": float(counts.mean()),
        "strokes": float(strokes.mean()),
        "parts_by_strokes": {n: counts[numbers == n].mean() for n in np.unique(numbers)},
        "iou": {
            name: {
                "masks": iou[:, 0].mean(),
                "masks, several strokes": iou[strokes > 1, 0].mean(),
                "boxes, several strokes": iou[strokes > 1, 1].mean(),
            }
            for name, iou in ious.items()
        },
        "rank": rank(counts, strokes, characters, random),
        "alphabets": by_alphabet(glyphs.names, counts, strokes, (images > INK).sum((1, 2))),
    }


def rank(
    parts: np.ndarray, strokes: np.ndarray, characters: np.ndarray, random: np.random.RandomState
) -> dict[str, float]:
    """Spearman's correlation; its 95 % interval by resampling characters with all their drawings;
    and what permuted glyphs reach in 5 % of the cases."""
    names = np.unique(characters)
    rows = {name: np.flatnonzero(characters == name) for name in names}
    resampled, permuted = [], []
    for _ in range(RESAMPLED):
        some = np.concatenate([rows[name] for name in random.choice(names, len(names))])
        resampled.append(correlation(parts[some], strokes[some]))
        permuted.append(correlation(parts, random.permutation(strokes)))
    low, high = np.percentile(resampled, [2.5, 97.5])
    value = correlation(parts, strokes)
    return {"value": value, "low": low, "high": high, "chance": np.percentile(permuted, 95)}


def by_alphabet(
    names: list[str], parts: np.ndarray, strokes: np.ndarray, ink: np.ndarray
) -> dict[str, dict[str, float]]:
    """The mean numbers in each alphabet, and the rank correlations with the number of strokes."""
    alphabets, rows = np.array([name.split("/")[0] for name in names]), {}
    for alphabet in ("all", *np.unique(alphabets)):
        some = (alphabets == alphabet) | (alphabet == "all")
        rows[alphabet] = {
            "strokes": strokes[some].mean(),
            "parts": parts[some].mean(),
            "rank of parts": correlation(parts[some], strokes[some]),
            "rank of ink": correlation(ink[some], strokes[some]),
        }
    return rows


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; 0 if one of both is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 0.0


# --- trainings


def some_of(glyphs: Glyphs, most: int | None) -> Glyphs:
    """At most so many glyphs, evenly spread."""
    step = 1 if most is None else max(1, len(glyphs.names) // most)
    return Glyphs(glyphs.images[::step], glyphs.strokes[::step], glyphs.names[::step])


def trained(args: Args, seed: int, images: np.ndarray) -> AIR:
    """The model of this seed, from FOLDER if it is there."""
    folder = args.out / f"air-{seed}"
    if folder.exists():
        return AIR.load(folder)
    train = TrainConfig(data="omniglot", steps=args.steps)
    air = AIR(config=Config(model=MODEL, train=train), random_state=seed).fit(images)
    air.save(folder)
    return air


def result(args: Args, seed: int, parts: dict[str, Glyphs]) -> dict[str, Any]:
    """The scores of this seed, from FOLDER if they are there."""
    path = args.out / f"seed-{seed}.json"
    if not path.exists():
        air = trained(args, seed, shrunk(parts["train"].images))
        history = air.history_[-1]
        row = {
            "seed": seed,
            "seconds": history["seconds"],
            "restarts": air.restarts_,
            "wrong": air.collapsed_,
        }
        for part in ("train", "test"):
            few = some_of(parts[part], args.most)
            images = shrunk(few.images)
            read = infer.read(air.model, air.guide, images, seed, second_look=False)
            row["elbo_trained_on" if part == "train" else "elbo"] = float(read.elbo.mean())
        row |= scores(few, images, read, seed)
        settings = {**vars(args), "model": dataclasses.asdict(MODEL)}
        common.write(path, settings, _plain(row))
    return json.loads(path.read_text())["results"]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value.item() if isinstance(value, np.generic) else value


# --- what is shown


def draw(air: AIR, glyphs: Glyphs, path: Path) -> None:
    """The first drawing of the first characters of each alphabet: glyph, reconstruction, parts and
    strokes. A part has the colour of the stroke that it matches; other parts have other colours."""
    first: dict[str, list[int]] = {}
    for i, name in enumerate(glyphs.names):
        alphabet, _, drawing = name.split("/")
        if drawing.endswith("_01"):
            first.setdefault(alphabet, []).append(i)
    chosen = [i for rows in first.values() for i in rows[: COLUMNS // len(first)]]
    images = shrunk(glyphs.images[chosen])
    read = infer.read(air.model, air.guide, images, second_look=False)
    columns = []
    for k, i in enumerate(chosen):
        strokes = by_pen(images[k], glyphs.strokes[i])
        parts = np.where(images[k] > INK, read.segments[k], 0).astype(int)
        grey = (np.stack([x] * 3, axis=-1) for x in (images[k] / 255, read.reconstruction[k]))
        cells = [*grey, *coloured(parts, strokes)]
        columns.append(np.concatenate([np.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=0.4)
                                       for x in cells]))  # fmt: skip
    half = (len(columns) + 1) // 2
    columns += [np.zeros_like(columns[0])] * (2 * half - len(columns))
    rows = [np.concatenate(columns[start : start + half], axis=1) for start in (0, half)]
    figure = Figure(figsize=(0.75 * half + 1, 6.2), layout="constrained")
    for axes, picture in zip(figure.subplots(2), rows, strict=True):
        axes.imshow(np.clip(picture, 0, 1), interpolation="nearest")
        height = len(picture) / 4
        labels = ["glyph", "reconstruction", "parts", "pen strokes"]
        axes.set_yticks([(j + 0.5) * height for j in range(4)], labels)
        axes.set_xticks([])
    figure.savefig(path, dpi=100, bbox_inches="tight")


def coloured(parts: np.ndarray, strokes: np.ndarray) -> list[np.ndarray]:
    """Parts and strokes in colours."""
    from matplotlib.colors import to_rgb

    colours = np.array([to_rgb(name) for name in plots.STEP_COLOURS])
    part, stroke, _ = matches(masks_of(parts), masks_of(strokes))
    number = strokes.max() + np.arange(parts.max() + 1)  # those that no stroke has
    names = np.unique(parts[parts > 0]), np.unique(strokes[strokes > 0])
    number[names[0][part]] = names[1][stroke]
    return [
        np.where(labels[..., None] > 0, colours[(of[labels] - 1) % len(colours)], 0)
        for labels, of in ((parts, number), (strokes, np.arange(strokes.max() + 1)))
    ]


def by_seed(rows: list[dict[str, Any]]) -> str:
    """A table of seeds, and their means."""

    def line(first: Any, rows: list[dict[str, Any]], interval: str, seconds: str) -> list[Any]:
        named = {
            "ELBO, trained on": f"{average(rows, 'elbo_trained_on'):.1f}",
            "ELBO, held out": f"{average(rows, 'elbo'):.1f}",
            "explained": f"{100 * average(rows, 'explained'):.1f} %",
            "parts": f"{average(rows, 'parts'):.2f}",
        }
        for name in ("AIR", "k-means", "random cuts"):
            named[f"IoU of {name}"] = f"{average(rows, 'iou', name, 'masks, several strokes'):.3f}"
        named["rank correlation"] = f"{average(rows, 'rank', 'value'):.2f}{interval}"
        heads[:] = ["seed", *named, "seconds"]
        return [first, *named.values(), seconds]

    heads, lines = list[str](), list[list[Any]]()
    for row in rows:
        interval = f" ({row['rank']['low']:.2f} to {row['rank']['high']:.2f})"
        lines.append(line(row["seed"], [row], interval, f"{row['seconds']:.0f}"))
    lines.append(line("mean", rows, "", ""))
    return common.table(heads, lines)


def average(rows: list[dict[str, Any]], *keys: str) -> float:
    """The mean over seeds of what is found under these keys, one within the other."""
    return float(np.mean([functools.reduce(operator.getitem, keys, row) for row in rows]))


def tables(rows: list[dict[str, Any]]) -> str:
    """The seeds; and, as means over them, the pieces, parts by number of strokes, alphabets."""

    def table(first: str, key: str, columns: list[str], digits: int) -> str:
        lines = [
            [name, *(f"{average(rows, key, name, column):.{digits}f}" for column in columns)]
            for name in rows[0][key]
        ]
        return common.table([first, *columns], lines)

    by_strokes = [
        [
            f"{n}{' or more' if int(n) == MANY else ''}",
            f"{average(rows, 'parts_by_strokes', n):.2f}",
        ]
        for n in rows[0]["parts_by_strokes"]
    ]
    return "\n\n".join([
        f"{rows[0]['glyphs']} held-out glyphs, {rows[0]['several']} of several strokes",
        by_seed(rows),
        table("pieces", "iou", list(rows[0]["iou"]["AIR"]), 3),
        common.table(["strokes", "parts"], by_strokes),
        table("alphabet", "alphabets", list(rows[0]["alphabets"]["all"]), 2),
        f"rank correlation by chance: below {average(rows, 'rank', 'chance'):.3f}",
    ])  # fmt: skip


def main(args: Args) -> None:
    """Trains each seed, prints tables and draws the first seed's parts."""
    args.out.mkdir(parents=True, exist_ok=True)
    parts = {part: load_omniglot(part) for part in ("train", "test")}
    rows = [result(args, seed, parts) for seed in range(args.first, args.first + args.seeds)]
    print(tables(rows))
    draw(AIR.load(args.out / f"air-{args.first}"), parts["test"], args.out / "paper_strokes.png")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
