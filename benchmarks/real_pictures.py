"""Counts in real pictures beside classical methods: ``python benchmarks/real_pictures.py FOLDER
--out FILE.json``.

FOLDER has a folder for each set, with ``images/``, ``counts.csv`` (file, count) and ``objects.csv``
(file, x0, y0, x1, y1; a dot is a box of one pixel). Of each set all pictures are counted: by airjax
through its command line (trained on the same pictures, without labels), and by scikit-image (Otsu's
threshold and connected components; the same with a watershed of the distance transform; Laplacian
of a Gaussian as it comes, and with threshold and scales tuned on half of the labels, scored on the
other half).
"""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import common
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from skimage import feature, filters, io, measure, segmentation

from airjax.inference.detection import average_precision, near

HAND_COUNTS, REPEATS = 10, 50  # pictures that a line is fitted to, and how often they are drawn
SCALES = [(1, 10), (2, 10), (3, 15), (5, 30), (10, 60)]  # tried for LoG: sigmas
THRESHOLDS = [0.02, 0.05, 0.1, 0.2, 0.3]


@dataclass(frozen=True)
class Args:
    """What to count.

    Attributes:
        folder: of the sets.
        sets: their names; all by default.
        seeds: trainings of airjax, with seeds 0, 1, ...
        flags: further flags of ``airjax train``.
        tune: whether LoG is tuned as well, which takes an hour for large objects.
        out: JSON file for the results.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    sets: tuple[str, ...] = ()
    seeds: int = 1
    flags: tuple[str, ...] = ()
    tune: bool = True
    out: Path | None = None


@dataclass(frozen=True)
class Truth:
    """What was counted by hand: counts and boxes (or dots) by file."""

    counts: dict[str, int]
    boxes: dict[str, np.ndarray]

    @property
    def are_dots(self) -> bool:
        """Whether objects are marked by a pixel each."""
        boxes = np.concatenate(list(self.boxes.values()))
        return bool((boxes[:, 2:] - boxes[:, :2] <= 1).all())


def read_truth(folder: Path) -> Truth:
    """The counts and boxes of a set."""
    with open(folder / "counts.csv") as file:
        counts = {row["file"]: int(row["count"]) for row in csv.DictReader(file)}
    boxes: dict[str, list[list[float]]] = {name: [] for name in counts}
    with open(folder / "objects.csv") as file:
        for row in csv.DictReader(file):
            boxes[row["file"]].append([float(row[key]) for key in ("x0", "y0", "x1", "y1")])
    arrays = {name: np.array(each, np.float32).reshape(-1, 4) for name, each in boxes.items()}
    return Truth(counts, arrays)


Found = dict[str, tuple[np.ndarray, np.ndarray]]  # boxes and scores of each file


def by_airjax(images: Path, seed: int, flags: tuple[str, ...]) -> Found:
    """Trains on the pictures and reads them, as a user does."""
    with tempfile.TemporaryDirectory() as folder:
        run, out = Path(folder, "run"), Path(folder, "out")
        airjax = [sys.executable, "-m", "airjax"]
        train = [*airjax, "train", images, "--seed", seed, "--out", run, *flags]
        done = subprocess.run(list(map(str, train)), stdout=subprocess.DEVNULL)
        if done.returncode not in (0, 3):  # 3: it says itself that it is doubtful
            raise SystemExit(done.returncode)
        predict = [*airjax, "predict", run, images, "--out", out]
        subprocess.run(list(map(str, predict)), check=True, stdout=subprocess.DEVNULL)
        found: dict[str, list[list[float]]] = {}
        with open(out / "counts.csv") as file:
            found = {row["file"]: [] for row in csv.DictReader(file)}
        with open(out / "objects.csv") as file:
            for row in csv.DictReader(file):
                keys = ("x0", "y0", "x1", "y1", "score")
                found[row["file"]].append([float(row[key]) for key in keys])
    arrays = {name: np.array(each, np.float32).reshape(-1, 5) for name, each in found.items()}
    return {name: (each[:, :4], each[:, 4]) for name, each in arrays.items()}


def grey(path: Path) -> np.ndarray:
    """A picture from 0 to 1 between its percentiles 1 and 99.8, its objects bright."""
    picture = io.imread(path).astype(float)
    picture = picture[..., :3].max(-1) if picture.ndim == 3 else picture
    low, high = np.percentile(picture, [1, 99.8])
    picture = np.clip((picture - low) / max(high - low, 1e-6), 0, 1)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return 1 - picture if np.median(border) > 0.5 else picture


def with_scores(boxes: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes x0, y0, x1, y1 with equal scores."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return array, np.ones(len(array), np.float32)


def otsu(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components above Otsu's threshold."""
    labels = measure.label(picture > filters.threshold_otsu(picture))
    boxes = [(*each.bbox[1::-1], *each.bbox[:1:-1]) for each in measure.regionprops(labels)]
    return with_scores(boxes)


def watershed(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Otsu's threshold, and a watershed of the distance transform from its maxima."""
    from scipy.ndimage import distance_transform_edt

    mask = picture > filters.threshold_otsu(picture)
    distance = distance_transform_edt(mask)
    peaks = feature.peak_local_max(distance, min_distance=3, labels=measure.label(mask))
    markers = np.zeros(mask.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = segmentation.watershed(-distance, markers, mask=mask)
    boxes = [(*each.bbox[1::-1], *each.bbox[:1:-1]) for each in measure.regionprops(labels)]
    return with_scores(boxes)


def log(
    picture: np.ndarray, sigmas: tuple[float, float] = (1, 50), threshold: float = 0.2
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of the Laplacian of a Gaussian in scale space; scikit-image's settings by default."""
    found = feature.blob_log(picture, min_sigma=sigmas[0], max_sigma=sigmas[1], threshold=threshold)
    boxes = [(x - 1.4 * s, y - 1.4 * s, x + 1.4 * s, y + 1.4 * s) for y, x, s in found]
    return with_scores(boxes)


def scored(found: Found, truth: Truth, seconds: float) -> dict[str, float | None]:
    """Errors of the counts, and how well objects are located."""
    names = [name for name in truth.counts if name in found]
    a = np.array([len(found[name][0]) for name in names], float)
    b = np.array([truth.counts[name] for name in names], float)
    boxes = [found[name][0] for name in names]
    true = [truth.boxes[name] for name in names]
    row: dict[str, float | None] = {
        "pictures": len(names), "true": b.mean(), "bias": (a - b).mean(),
        "error": np.abs(a - b).mean(), "correlation": None, "after_ten": after_ten(a, b),
        "precision": None, "recall": None, "ap": None, "seconds_a_picture": seconds / len(names),
    }  # fmt: skip
    if a.std() > 0 and b.std() > 0:
        row["correlation"] = float(np.corrcoef(a, b)[0, 1])
    if truth.are_dots:
        sides = [np.diff(each.reshape(-1, 2, 2), axis=1).max() for each in boxes if len(each)]
        limit = statistics.median(sides) / 2 if sides else 1.0
        middle = (
            [np.stack([x[:, :2], x[:, 2:]]).mean(0) for x in boxes],
            [np.stack([x[:, :2], x[:, 2:]]).mean(0) for x in true],
        )
        hits = sum(near(x, y, limit).sum() for x, y in zip(*middle, strict=True))
        row |= {"precision": hits / max(a.sum(), 1), "recall": hits / b.sum()}
    else:
        row["ap"] = average_precision(boxes, [found[name][1] for name in names], true)
    return {key: None if x is None else float(x) for key, x in row.items()}


def after_ten(found: np.ndarray, true: np.ndarray) -> float | None:
    """The mean error of the other pictures after a line is fitted to ten hand counts."""
    random, errors = np.random.RandomState(0), []
    for _ in range(REPEATS):
        order = random.permutation(len(found))
        some, rest = order[:HAND_COUNTS], order[HAND_COUNTS:]
        line = (
            np.polyfit(found[some], true[some], 1)
            if np.ptp(found[some])
            else (0, true[some].mean())
        )
        errors.append(np.abs(np.polyval(line, found[rest]) - true[rest]).mean())
    return float(np.mean(errors))


def tuned(pictures: dict[str, np.ndarray], truth: Truth) -> tuple[dict[str, Any], set[str]]:
    """The settings of LoG that count the first half of the pictures best, and that half."""
    half = set(sorted(pictures)[::2])

    def error(sigmas: tuple[float, float], threshold: float) -> float:
        counts = [(len(log(pictures[n], sigmas, threshold)[0]), truth.counts[n]) for n in half]
        return float(np.mean([abs(a - b) for a, b in counts]))

    tried = [(error(s, t), s, t) for s in SCALES for t in THRESHOLDS]
    _, sigmas, threshold = min(tried)
    return {"sigmas": sigmas, "threshold": threshold}, half


def main(args: Args) -> None:
    """Counts every set by every method and prints a table."""
    names = args.sets or tuple(sorted(p.name for p in args.folder.iterdir() if p.is_dir()))
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        truth, images = read_truth(args.folder / name), args.folder / name / "images"
        rows = results.setdefault(name, {})
        for seed in range(args.seeds):
            begin = time.perf_counter()
            found = by_airjax(images, seed, args.flags)
            rows[f"airjax, seed {seed}"] = scored(found, truth, time.perf_counter() - begin)
        pictures = {n: grey(images / n) for n in truth.counts if (images / n).exists()}
        methods: dict[str, Callable[..., Any]] = {
            "Otsu": otsu, "Otsu, watershed": watershed, "LoG": log,
        }  # fmt: skip
        for method, count in methods.items():
            begin = time.perf_counter()
            found = {n: count(picture) for n, picture in pictures.items()}
            rows[method] = scored(found, truth, time.perf_counter() - begin)
        if args.tune:
            settings, half = tuned(pictures, truth)
            others = {n: picture for n, picture in pictures.items() if n not in half}
            begin = time.perf_counter()
            found = {n: log(picture, **settings) for n, picture in others.items()}
            rows["LoG, tuned"] = scored(found, truth, time.perf_counter() - begin) | settings
        Console(width=140).print(table(name, rows))
        common.write(args.out, vars(args), results)


def table(name: str, rows: dict[str, dict[str, Any]]) -> Table:
    """The results of a set."""
    columns = ("error", "bias", "correlation", "after_ten", "precision", "recall", "ap",
               "seconds_a_picture")  # fmt: skip
    true = next(iter(rows.values()))["true"]
    shown = Table("method", *columns, title=f"{name}: {true:.1f} objects a picture")
    for method, row in rows.items():
        cells = ("" if row[key] is None else f"{row[key]:.3g}" for key in columns)
        shown.add_row(method, *cells)
    return shown


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
