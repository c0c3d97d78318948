"""Counts that were never seen in training, as in the paper (Eslami et al., 2016, section 3.2):
``python benchmarks/paper_counts.py --out FOLDER``.

Trains guides on scenes of multi-MNIST with some counts, and counts held-out digits in scenes with
others. All are trained with T = 3 steps; to read, a guide may take one step more than there are
digits. No training is left out; those whose result is in FOLDER are not run again. Writes
paper_counts.json and paper_counts.png.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import common
import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airjax import data
from airjax.air import AIR
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.composer import SceneConfig
from airjax.inference.infer import looked_again, read_stream
from airjax.inference.reading import FOUND

STEPS = 3  # T of every training
# the guide's mean path; then another look at doubtful images; `AIR.find`, of the guide attend only
LOOKS = ("one pass", "second look", "any size")
DRAWN = 4  # scenes in the figure
COLOURS = {"window": "tab:blue", "difference": "tab:orange", "attend": "tab:green"}


@dataclass(frozen=True)
class Setting:
    """Scenes to train on and to test on: counts, and the side of the images in pixels."""

    seen: tuple[int, ...]
    tested: tuple[int, ...]
    side: int = 50

    def scenes(self, counts: tuple[int, ...], number: int) -> SceneConfig:
        """Scenes of these counts; digits have the same size in pixels in images of any size."""
        return SceneConfig(num_scenes=number, height=self.side, width=self.side, counts=counts)


SETTINGS = {
    "0-2": Setting((0, 1, 2), (0, 1, 2, 3, 4)),
    "0-1-3": Setting((0, 1, 3), (0, 1, 2, 3, 4)),
    "0-2-large": Setting((0, 1, 2), (0, 1, 2, 3, 4, 5, 6), side=80),
}


@dataclass(frozen=True)
class Args:
    """What to train and to count.

    Attributes:
        settings: of ``SETTINGS``.
        guides: of the programs.
        seeds: how many trainings of each guide.
        steps: of a training.
        train_scenes: to train on.
        scenes: read of each count.
        out: folder for the results.
    """

    settings: tuple[Literal["0-2", "0-1-3", "0-2-large"], ...] = ("0-2", "0-1-3", "0-2-large")
    guides: tuple[Literal["window", "difference", "attend"], ...] = tuple(COLOURS)
    seeds: int = 5
    steps: int = 6000
    train_scenes: int = 60_000
    scenes: int = 500
    out: Path = Path(".")


def trained(args: Args, setting: Setting, guide: Any, seed: int) -> AIR:
    """A model of scenes with the counts seen."""
    scenes = data.make("multi-mnist", "train", setting.scenes(setting.seen, args.train_scenes))
    ratio, default = setting.side / 50, ModelConfig()
    model = ModelConfig(
        guide=guide,
        model_steps=STEPS,
        scale_prior_mean=ratio * default.scale_prior_mean,
        scale_prior_sd=ratio * default.scale_prior_sd,
        pos_prior_sd=ratio * default.pos_prior_sd,
    )
    config = Config(train=TrainConfig(data="multi-mnist", steps=args.steps), model=model)
    return AIR(config=config, random_state=seed).fit(scenes.images)


def tested(args: Args, setting: Setting, air: AIR) -> dict[str, Any]:
    """The share of scenes of each count that are counted right, in per cent, at each look; and the
    boxes in the first scenes with 4 digits."""
    config = dataclasses.replace(air.model.config, model_steps=max(setting.tested) + 1)
    model = dataclasses.replace(air.model, config=config)
    guide = dataclasses.replace(air.guide, config=config)
    right: dict[str, dict[str, float]] = {}
    boxes = []
    for n in setting.tested:
        images = data.make("multi-mnist", "test", setting.scenes((n,), args.scenes)).images
        (first,) = read_stream(model, guide, [images], FOUND)
        second = looked_again(model, guide, first, images)
        counts = [first.count, second.count]
        if config.guide == "attend":
            each = air.find_each(images, intervals=False)
            counts.append(np.array([found.number for found in each]))
        for look, found in zip(LOOKS, counts, strict=False):
            right.setdefault(look, {})[str(n)] = 100 * float((found == n).mean())
        if n == 4:
            rows = zip(second.tight_boxes, second.count, strict=True)
            boxes = [found[:count].tolist() for found, count in rows][:DRAWN]
    return {"right": right, "boxes": boxes}


def result(args: Args, name: str, guide: str, seed: int) -> dict[str, Any]:
    """What a training is worth; read from the folder if it is there."""
    path = args.out / f"{name}-{guide}-{seed}.json"
    if not path.exists():
        begin = time.perf_counter()
        air = trained(args, SETTINGS[name], guide, seed)
        row: dict[str, Any] = {"seconds": time.perf_counter() - begin, "restarts": air.restarts_}
        row |= {"collapsed": air.collapsed_} | tested(args, SETTINGS[name], air)
        common.write(path, vars(args), row)
        print(name, guide, seed, {k: v for k, v in row.items() if k != "boxes"}, flush=True)
    return json.loads(path.read_text())["results"]


def table(setting: Setting, results: dict[str, list[dict[str, Any]]]) -> str:
    """Means over seeds, with the lowest and the highest, for each guide and look."""
    lines = []
    for guide, rows in results.items():
        for look in rows[0]["right"]:
            cells = []
            for n in map(str, setting.tested):
                values = [row["right"][look][n] for row in rows]
                cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
            lines.append([guide, look, len(rows), *cells])
    never = {n: "" if n in setting.seen else ", never seen" for n in setting.tested}
    head = ["guide", "read with", "seeds", *(f"{n}{never[n]}" for n in setting.tested)]
    return common.table(head, lines)


def curves(ax: Axes, name: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Accuracy against the number of digits; a point for each seed, their means as lines."""
    setting = SETTINGS[name]
    for n in setting.seen:
        ax.axvspan(n - 0.4, n + 0.4, color="0.92", lw=0)
    for guide, rows in results.items():
        for look, style in zip(LOOKS, (":", "-"), strict=False):
            right = np.array([[row["right"][look][str(n)] for n in setting.tested] for row in rows])
            label = guide if look == LOOKS[1] else None
            ax.plot(setting.tested, right.mean(0), style, color=COLOURS[guide], label=label)
            if look == LOOKS[1]:
                across = np.tile(setting.tested, (len(rows), 1))
                ax.plot(across.T, right.T, ".", color=COLOURS[guide], ms=4)
    ax.set(ylim=(-3, 103), xticks=setting.tested, xlabel="digits in the scene")
    counts = ", ".join(map(str, setting.seen))
    ax.set_title(f"{setting.side} x {setting.side}, trained on {counts}", fontsize=9)


def drawn(ax: Axes, image: np.ndarray, boxes: list[list[float]], title: str) -> None:
    """A scene with the boxes found."""
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    for x0, y0, x1, y1 in boxes:
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, ec="red", fill=False))
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def figure(args: Args, results: dict[str, dict[str, list[dict[str, Any]]]]) -> Figure:
    """Curves of all settings, and scenes of 4 digits with what the first seed found."""
    first = args.settings[0]
    fig = Figure(figsize=(9, 3.2 + 1.5 * len(args.guides)), layout="constrained")
    above, below = fig.subfigures(2, height_ratios=(3.2, 1.5 * len(args.guides)))
    axes = above.subplots(1, len(results), squeeze=False, sharey=True)[0]
    for ax, (name, found) in zip(axes, results.items(), strict=True):
        curves(ax, name, found)
    axes[0].set_ylabel("right counts, %")
    axes[0].legend(fontsize=8, title="solid: second look\ndotted: one pass", title_fontsize=7)
    scenes = SETTINGS[first].scenes((4,), args.scenes)
    images = data.make("multi-mnist", "test", scenes).images
    panels = below.subplots(len(args.guides), DRAWN, squeeze=False)
    for row, guide in zip(panels, args.guides, strict=True):
        seen = results[first][guide][0]["boxes"]
        for ax, image, boxes in zip(row, images, seen, strict=False):
            drawn(ax, image, boxes, f"{guide}: {len(boxes)}")
    return fig


def main(args: Args) -> None:
    """Runs what is missing, prints a table for each setting and draws the figure."""
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name in args.settings:
        rows = results[name] = {guide: [] for guide in args.guides}
        for seed in range(args.seeds):
            for guide in args.guides:
                rows[guide].append(result(args, name, guide, seed))
        print(table(SETTINGS[name], rows), flush=True)
        common.write(args.out / "paper_counts.json", vars(args), results)
    figure(args, results).savefig(args.out / "paper_counts.png", dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
