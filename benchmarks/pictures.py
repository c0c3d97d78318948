"""Folders of pictures, end to end through the command line: makes pictures, trains on them, finds
what is in others, and scores the tables: ``python benchmarks/pictures.py CASE ... --out FOLDER``.

Cases: sprites (RGB, 64 x 64, 0 to 4 sprites), gradient (multi-MNIST on a fixed gradient
background), noise (multi-MNIST and Gaussian noise, sd 0.1), wide (40 x 72), large (512 x 512, 60 to
120 digits, trained on crops). Writes FOLDER/<case>/result-<seed>.json and prints a table.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from airjax import data
from airjax.cli.train import COLLAPSED
from airjax.data.composer import SceneConfig
from airjax.data.dataset import Dataset
from airjax.inference.detection import average_precision

COLUMNS = ("count", "low", "high")  # of counts.csv
AIRJAX = str(Path(sys.executable).with_name("airjax"))


def as_they_are(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Changes nothing."""
    return images


def on_gradient(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """On a background that rises from 0 at the left to 0.6 at the right; clipped at white."""
    background = np.linspace(0, 0.6, images.shape[2])
    return np.clip(images + background, 0, 1)


def with_noise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """With Gaussian noise of sd 0.1 on every pixel, clipped."""
    return np.clip(images + 0.1 * random.standard_normal(images.shape), 0, 1)


@dataclass(frozen=True)
class Case:
    """How pictures are made, and the flags of their training.

    Attributes:
        pool: of the objects.
        scenes: how they are composed.
        flags: of ``airjax train``.
        numbers: of pictures to train on, and of others.
        changed: what is done to the images, floats in [0, 1].
    """

    pool: str
    scenes: SceneConfig
    flags: str
    numbers: tuple[int, int] = (5000, 1000)
    changed: Callable[[np.ndarray, np.random.Generator], np.ndarray] = as_they_are


MULTI_MNIST = SceneConfig()
LARGE = SceneConfig(height=512, width=512, counts=tuple(range(60, 121)), overlap="apart")
CASES = {
    "sprites": Case("sprites", data.DATASETS["sprites"].scenes, "--max-objects 4"),
    "gradient": Case(
        "multi-mnist", MULTI_MNIST, "--background mean --invert no", changed=on_gradient
    ),
    "noise": Case("multi-mnist", MULTI_MNIST, "", changed=with_noise),
    "wide": Case("multi-mnist", replace(MULTI_MNIST, height=40, width=72, counts=(0, 1, 2, 3)), ""),
    "large": Case("multi-mnist", LARGE, "--crop 48 --max-objects 4", (10, 10)),
}


def pictures(case: Case, part: str, folder: Path) -> Dataset:
    """Writes the pictures of a part as PNG, unless they are there; returns the truth."""
    number = case.numbers[part == "test"]
    made = data.make(case.pool, part, replace(case.scenes, num_scenes=number))
    random = np.random.default_rng(part == "test")
    changed = np.round(255 * case.changed(made.images / 255, random)).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(changed):
        Image.fromarray(image).save(folder / f"{i:05}.png")
    return made


def scored(found: Path, truth: Dataset) -> dict:
    """The scores of predictions that were written as tables."""
    with open(found / "counts.csv") as file:
        rows = list(csv.DictReader(file))
    counts, low, high = (np.array([int(row[key]) for row in rows]) for key in COLUMNS)
    boxes: list[list] = [[] for _ in range(len(truth))]
    scores: list[list] = [[] for _ in range(len(truth))]
    with open(found / "objects.csv") as file:
        for row in csv.DictReader(file):
            i = int(Path(row["file"]).stem)
            boxes[i].append([float(row[name]) for name in ("x0", "y0", "x1", "y1")])
            scores[i].append(float(row["score"]))
    true = [b[:n] for b, n in zip(truth.boxes, truth.counts, strict=True)]
    ap50 = average_precision(
        [np.array(b, np.float32).reshape(-1, 4) for b in boxes],
        [np.array(s, np.float32) for s in scores],
        true,
    )
    return {
        "count_accuracy": float(np.mean(counts == truth.counts)),
        "interval_holds": float(np.mean((low <= truth.counts) & (truth.counts <= high))),
        "interval_width": float(np.mean(high - low)),
        "relative_count_error": float(
            np.mean(np.abs(counts - truth.counts)) / np.mean(truth.counts)
        ),
        "ap50": ap50,
    }


def run(name: str, seed: int, extra: str, folder: Path) -> Iterator[dict]:
    """Everything for one case and seed: trained once, read as by default and with a second look."""
    case = CASES[name]
    pictures(case, "train", folder / "train")
    truth = pictures(case, "test", folder / "test")
    line = f"train {folder}/train --out {folder}/run-{seed} --seed {seed} {case.flags} {extra}"
    with open(folder / f"train-{seed}.log", "w") as log:
        train_s = timed(line, log)
    # pictures of any size are compared with one object more anyway
    for look in ("doubtful",) if "--crop" in case.flags else ("doubtful", "all"):
        found = folder / f"found-{seed}-{look}"
        line = f"predict {folder}/run-{seed} {folder}/test --out {found} --draw"
        line += f" --second-look {look}"
        predict_s = timed(line, subprocess.DEVNULL)
        yield {
            "case": name,
            "seed": seed,
            "flags": f"{case.flags} {extra}",
            "second_look": look,
            "train_s": train_s,
            "predict_s": predict_s,
        } | scored(found, truth)


def timed(line: str, log: IO | int) -> float:
    """Runs a command line of airjax; the seconds that it took."""
    begin = time.perf_counter()
    status = subprocess.run([AIRJAX, *line.split()], stdout=log).returncode
    if status not in (0, COLLAPSED):  # bad trainings are scored, too
        raise SystemExit(f"airjax {line} ended with {status}")
    return time.perf_counter() - begin


def row(r: dict) -> str:
    """A result as a row of the table."""
    cells = [
        r["case"],
        f"`{r['flags'].strip()}`" if r["flags"].strip() else "none",
        r["seed"],
        r["second_look"],
        f"{100 * r['count_accuracy']:.1f} %",
        f"{100 * r['relative_count_error']:.1f} %",
        f"{r['ap50']:.3f}",
        f"{r['train_s']:.0f}",
        f"{r['predict_s']:.0f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+", choices=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--flags", default="", help="more flags for airjax train")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(
        "| pictures | flags | seed | second look | count accuracy | error of the count "
        "| AP at IoU 0.5 | train, s | predict, s |"
    )
    print("|---" * 9 + "|")
    for name in arguments.cases:
        for seed in arguments.seeds:
            rows = []
            for r in run(name, seed, arguments.flags, arguments.out / name):
                rows.append(r)
                print(row(r), flush=True)
            path = arguments.out / name / f"result-{seed}.json"
            path.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
