"""Whether the probability of a count is how often it is right: ``python benchmarks/calibration.py
RUN RUN --out FILE.png``.

Reads the held-out images of runs, as ``airjax evaluate`` does, pools them, and draws a reliability
diagram and the accuracy without the most doubtful images. Prints the same as a table.
"""

import argparse
from pathlib import Path

import common
import numpy as np
from matplotlib.figure import Figure

from airjax.inference import plots
from airjax.inference.infer import read
from airjax.inference.metrics import calibration_error, reliability
from airjax.training.runs import Run

LEFT_OUT = (0, 0.002, 0.005, 0.01, 0.02, 0.05)  # shares of images, the most doubtful ones


def counted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of each held-out image of a run: the probability of its count, and whether it is right."""
    run = Run.open(path)
    images = run.data(None, "test", None)
    reading = read(*run.load(), images.images)
    return np.asarray(reading.count_probs).max(-1), np.asarray(reading.count) == images.counts


def drawn(confidence: np.ndarray, right: np.ndarray) -> Figure:
    """The reliability diagram, and the selective curve."""
    figure = Figure((8, 3.6), layout="constrained")
    diagram, selective = figure.subplots(1, 2)
    bins = reliability(confidence, right)
    diagram.plot([0.3, 1], [0.3, 1], color="0.7")
    sizes = [20 + 200 * np.sqrt(b.n / len(right)) for b in bins]
    diagram.scatter([b.confidence for b in bins], [b.accuracy for b in bins], sizes, alpha=0.7)
    diagram.set_xlabel("probability of the most probable count")
    diagram.set_ylabel("share that is right")
    order = np.argsort(-confidence, kind="stable")
    kept = np.arange(1, len(right) + 1)
    share = 100 * (1 - kept / len(right))
    wrong = 100 * (1 - np.cumsum(right[order]) / kept)
    selective.plot(share[len(right) // 2 :], wrong[len(right) // 2 :])
    selective.set_xlabel("most doubtful images left out, %")
    selective.set_ylabel("wrong counts of the others, %")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    known = parser.parse_args()
    pairs = [counted(path) for path in known.runs]
    confidence, right = (np.concatenate(each) for each in zip(*pairs, strict=True))
    plots.save(drawn(confidence, right), known.out)
    errors = [calibration_error(*pair) for pair in pairs]
    print(f"calibration error: {100 * np.mean(errors):.2f} % (mean of {len(pairs)} runs)")
    order = np.argsort(confidence, kind="stable")
    rows = []
    for share in LEFT_OUT:
        kept = order[int(share * len(order)) :]
        rows.append([f"{100 * share:.1f} %", f"{100 * right[kept].mean():.2f} %"])
    print(common.table(["most doubtful left out", "counts right"], rows))


if __name__ == "__main__":
    main()
