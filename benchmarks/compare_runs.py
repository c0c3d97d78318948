"""Learning curves of several runs in one figure, against steps and against seconds of training.

python benchmarks/compare_runs.py RUN [RUN ...] --out FIGURE.png
"""

from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from airjax.training.runs import Run


def main(runs: tyro.conf.Positional[tuple[Path, ...]], out: Annotated[Path, tyro.conf.arg()]):
    """Draws ELBO and count accuracy on training scenes: above by step, below by time.

    Args:
        runs: Folders of runs.
        out: The picture.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(2, 2)
    for path in runs:
        run = Run.open(path)
        rows = [row for row in run.rows() if "train_count_accuracy" in row]
        name = f"{run.config.train.estimator}, learning rate {run.config.train.learning_rate:g}"
        for line, (x, label) in zip(
            panels, (("step", "training step"), ("seconds", "seconds of training")), strict=True
        ):
            for axes, key, title in zip(
                line,
                ("train_elbo", "train_count_accuracy"),
                ("ELBO (nats an image)", "count accuracy, training scenes"),
                strict=True,
            ):
                axes.plot([row[x] for row in rows], [row[key] for row in rows], label=name)
                axes.set(xlabel=label, title=title)
                axes.grid(alpha=0.3)
    panels[0][0].set_ylim(bottom=500)
    panels[1][0].set_ylim(bottom=500)
    panels[0][1].legend(loc="lower right")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    tyro.cli(main)
