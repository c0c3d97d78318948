"""What a second look changes: ``python benchmarks/second_look.py RUN ... --out FOLDER``.

Each run's held-out scenes are read as by default, K = 10 paths, and with a second look. Prints how
many counts are right each way, which became right and which wrong, and how well objects are
located; writes second_look.json, and second_look.png: the first scenes of the first run whose count
is another one, what was read, and what with a second look.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import common
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airjax.data.dataset import Dataset
from airjax.infer import Reading, read
from airjax.metrics import score
from airjax.plots import STEP_COLOURS
from airjax.runs import Run


@dataclass(frozen=True)
class Args:
    """What to look at.

    Attributes:
        runs: folders of runs on scenes with true counts and boxes.
        shown: scenes in the picture, at most.
        out: folder for the results.
    """

    runs: Annotated[list[Path], tyro.conf.Positional]
    shown: int = 14
    out: Path = Path(".")


def picture(scenes: Dataset, once: Reading, again: Reading, shown: int) -> Figure:
    """Scenes whose count is another one after a second look, those made right and wrong as they
    come."""
    changed = np.flatnonzero(np.asarray(once.count) != np.asarray(again.count))[:shown]
    n = max(1, len(changed))
    figure = Figure(figsize=(0.95 * n + 0.4, 3.2), layout="constrained")
    axes = figure.subplots(3, n, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for column, i in zip(axes.T, changed, strict=False):
        for ax, reading in zip(column, (None, once, again), strict=True):
            image = scenes.images[i] / 255 if reading is None else reading.reconstruction[i]
            ax.imshow(image, cmap="gray", vmin=0, vmax=1)
            boxes = [] if reading is None else reading.window_boxes[i][: reading.count[i]]
            for (x0, y0, x1, y1), colour in zip(boxes, STEP_COLOURS, strict=False):
                ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour))
        column[0].set_title(f"{np.asarray(scenes.counts)[i]}", fontsize=8)
    for ax, name in zip(axes[:, 0], ("scene", "read", "second look"), strict=True):
        ax.set_ylabel(name, fontsize=8)
    return figure


def main(args: Args) -> None:
    """Reads, prints, draws and writes."""
    args.out.mkdir(parents=True, exist_ok=True)
    rows, results = [], {}
    for path in args.runs:
        run = Run.open(path)
        programs, scenes = run.load(), run.data(None, None, None)
        readings = [read(*programs, scenes.images, second_look=look) for look in (False, True)]
        once, again = (score(reading, scenes) for reading in readings)
        right = [np.asarray(reading.count) == scenes.counts for reading in readings]
        results[str(path)] = {"once": once, "again": again}
        rows.append([
            f"{scenes.name}, {run.config.train.steps:,} steps, seed {run.config.train.seed}",
            f"{100 * once['count_accuracy']:.2f} %",
            f"{100 * again['count_accuracy']:.2f} %",
            f"{np.sum(right[1] & ~right[0])}",
            f"{np.sum(right[0] & ~right[1])}",
            f"{once['tight_boxes']['ap50']:.3f}",
            f"{again['tight_boxes']['ap50']:.3f}",
        ])  # fmt: skip
        if path == args.runs[0]:
            figure = picture(scenes, *readings, args.shown)
            figure.savefig(args.out / "second_look.png", dpi=90)
    head = ["training", "right", "second look", "made right", "made wrong", "AP", "second look"]
    print(common.table(head, rows))
    common.write(args.out / "second_look.json", {"runs": args.runs}, results)


if __name__ == "__main__":
    main(tyro.cli(Args))
