"""Steps and seconds to the same accuracy, from freshly drawn networks and from those of a ready
model: ``python benchmarks/from_ready.py FOLDER --sets nuclei vgg_cells --out FILE.json``.

FOLDER is as for ``real_pictures.py``. Labels only measure. Seconds are those of the training, with
the time in which it makes new crops, without compilation before it and without reading.
"""

import csv
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import common
import numpy as np
import tyro

from airjax.air import AIR
from airjax.config import Config, TrainConfig
from airjax.data.decode import Broken
from airjax.data.files import picture_files
from airjax.inference.metrics import Row
from airjax.models import READY, folder_of
from airjax.picture_config import PictureConfig
from airjax.prediction.predictor import Predictor
from airjax.training import loop
from airjax.training.runs import Run
from airjax.training.session import Session
from airjax.training.trainer import Trainer, TrainState

NEAR = 1.05  # times the final error, that counts as the same accuracy


@dataclass(frozen=True)
class Args:
    """What to compare.

    Attributes:
        folder: of the sets.
        sets: their names.
        start: a ready model, or the folder of a run.
        fresh: numbers of steps of trainings from freshly drawn networks. The end of the first one
            is the accuracy to reach.
        begun: numbers of steps of trainings from the networks of ``start``.
        every: steps between two readings, a multiple of 100.
        seed: of the trainings.
        out: JSON file for the results.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    sets: tuple[str, ...] = ("nuclei", "vgg_cells")
    start: str = "blobs"
    fresh: tuple[int, ...] = (6000,)
    begun: tuple[int, ...] = (2000,)
    every: int = 500
    seed: int = 0
    out: Path | None = None


class Watch(loop.Record):
    """Reads the pictures of a set on the way, and compares the counts.

    Attributes:
        points: steps, seconds of training so far, and mean error of the counts.
    """

    def __init__(self, folder: Path, pictures: PictureConfig, every: int):
        super().__init__()
        self.folder, self.pictures, self.every = folder, pictures, every
        self.points, self.begin, self.reading = list[dict[str, float]](), 0.0, 0.0

    def add(self, trainer: Trainer, state: TrainState, row: Row) -> None:
        """Reads the pictures after every ``every`` steps, and after the last one."""
        super().add(trainer, state, row)
        if row["step"] % self.every and row["step"] != trainer.config.train.num_steps:
            return
        seconds = time.perf_counter() - self.begin - self.reading - self.rows[0]["compile_seconds"]
        begin = time.perf_counter()
        error = self.error(AIR.of(*trainer.programs(state)))
        self.reading += time.perf_counter() - begin
        self.points.append({"step": row["step"], "seconds": seconds, "error": error})
        print(self.folder.name, self.points[-1], flush=True)

    def error(self, air: AIR) -> float:
        """The mean error of the counts."""
        predictor = Predictor(air, self.pictures)
        images = predictor.images(picture_files(self.folder / "images").files)
        read = (image for image in images if not isinstance(image, Broken))
        found = {each.read.path.name: each.objects.number for each in predictor.each(read)}
        with open(self.folder / "counts.csv") as file:
            true = {row["file"]: int(row["count"]) for row in csv.DictReader(file)}
        return float(np.mean([abs(found[name] - count) for name, count in true.items()]))


def measured(
    folder: Path, steps: int, every: int, seed: int, start: Run | None
) -> list[dict[str, float]]:
    """Trains on the pictures of a set, and reads them on the way."""
    config = Config(TrainConfig(steps=steps, seed=seed))
    with tempfile.TemporaryDirectory() as temporary:
        session = Session.begin(folder / "images", config, out=Path(temporary, "run"), start=start)
        run = session.run
        record = Watch(folder, run.config.pictures, every)
        record.begin = time.perf_counter()
        loop.train(
            run.config, session.train_data, {}, record, report=print, show_progress=False,
            start=run.start,
        )  # fmt: skip
    return record.points


def reached(points: list[dict[str, float]], goal: float) -> dict[str, float] | None:
    """The first time that it is as accurate."""
    return next((point for point in points if point["error"] <= goal), None)


def main(args: Args) -> None:
    """Compares on each set, and prints tables."""
    path = folder_of(args.start) if args.start in READY else Path(args.start)
    start, results = Run.open(path, "start"), dict[str, Any]()
    contenders = [("fresh", steps, None) for steps in args.fresh]
    contenders += [(args.start, steps, start) for steps in args.begun]
    for name in args.sets:
        rows: dict[str, list[dict[str, float]]] = {}
        results[name] = rows
        for key, steps, of in contenders:
            each = measured(args.folder / name, steps, args.every, args.seed, of)
            rows[f"{key}, {steps} steps"] = each
            common.write(args.out, vars(args), results)
        cells = [[key, point["step"], f"{point['seconds']:.0f}", f"{point['error']:.2f}"]
                 for key, each in rows.items() for point in each]  # fmt: skip
        print(f"\n{name}\n" + common.table(["training", "step", "seconds", "mean error"], cells))
        goal = NEAR * next(iter(rows.values()))[-1]["error"]
        for key, each in rows.items():
            print(f"{name}, {key}: at most {goal:.2f} after {reached(each, goal)}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
