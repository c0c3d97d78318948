"""Trains seeds on data sets of the field, through the command line with no other flag, and scores
each: ``python benchmarks/scoreboard.py noisy-mnist multi-dsprites --seeds 5 --out FOLDER``.

No training is left out: one that has collapsed is marked, and counts in every mean. Seeds are
trained in turn; those whose run is in FOLDER and finished are not trained again, an interrupted one
continues. Scores are those of 10,000 held-out scenes, as ``airjax evaluate`` has them. Writes
FOLDER/<data>.json, and prints tables for the docs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import common
import numpy as np

from airjax.cli.train import COLLAPSED
from airjax.data import DATASETS
from airjax.training.runs import Run

AIRJAX = str(Path(sys.executable).with_name("airjax"))
VIDEOS = "moving-mnist"  # for airjax track: its frames are not independent
SCORES = {  # of a report: its name, and how it is shown
    "count_accuracy": ("count accuracy", "{:.2f} %"),
    "count_accuracy_sure": ("without the 1 % most doubtful", "{:.2f} %"),
    "calibration_error": ("calibration error", "{:.2f} %"),
    "ap50": ("AP at IoU 0.5", "{:.3f}"),
    "ari_fg": ("ARI-FG", "{:.3f}"),
    "elbo": ("ELBO", "{:.1f}"),
    "seconds": ("seconds", "{:.0f}"),
    "restarts": ("restarts", "{:.0f}"),
}


def trained(data: str, seed: int, folder: Path, flags: list[str]) -> dict[str, Any]:
    """The report of this seed's run, and how long it trained."""
    run = folder / f"{data}-{seed}"
    if not (run / "evaluation.json").exists():
        start = ["--data", data, "--seed", str(seed), "--out", str(run), *flags]
        arguments = ["--resume", str(run)] if (run / "config.json").exists() else start
        with open(folder / f"{data}-{seed}.log", "a") as log:
            done = subprocess.run([AIRJAX, "train", *arguments], stdout=log, stderr=log)
        if done.returncode not in (0, COLLAPSED):
            raise SystemExit(f"{data}, seed {seed}: see {log.name}")
    report = json.loads((run / "evaluation.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    record = run / "restarts.json"
    return report | {
        "seed": seed,
        "ap50": report["tight_boxes"]["ap50"],
        "seconds": rows[-1]["seconds"],
        "skipped_steps": rows[-1]["skipped_steps"],
        "restarts": len(json.loads(record.read_text())) if record.exists() else 0,
        "collapsed": Run.open(run).collapsed,
    }


def shown(key: str, value: float) -> str:
    """A score for a table."""
    form = SCORES[key][1]
    return form.format(100 * value if form.endswith("%") else value)


def table(data: str, reports: list[dict[str, Any]]) -> str:
    """A table for the docs: a seed a row, their means, the lowest and the highest of each score."""
    known = [key for key in SCORES if key in reports[0]]
    lines = []
    for report in reports:
        mark = " (collapsed)" if report["collapsed"] else ""
        cells = [shown(key, report[key]) for key in known]
        lines.append([f"{report['seed']}{mark}", *cells])
    for name, total in (("mean", np.mean), ("lowest", np.min), ("highest", np.max)):
        cells = [shown(key, total([r[key] for r in reports])) for key in known]
        lines.append([name, *cells])
    return common.table([f"`{data}`, seed", *(SCORES[key][0] for key in known)], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="*", help="names of data sets; all by default")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--out", type=Path, required=True)
    known, flags = parser.parse_known_args()  # all else goes to airjax train
    unknown = [name for name in known.data if name not in DATASETS]
    if unknown:
        parser.error(f"data must be of {', '.join(DATASETS)}, got {unknown[0]}")
    known.out.mkdir(parents=True, exist_ok=True)
    for data in known.data or [name for name in DATASETS if name != VIDEOS]:
        seeds = range(known.first, known.first + known.seeds)
        reports = [trained(data, seed, known.out, flags) for seed in seeds]
        common.write(known.out / f"{data}.json", {"flags": flags}, reports)
        print(table(data, reports), flush=True)


if __name__ == "__main__":
    main()
