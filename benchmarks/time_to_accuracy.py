"""Seconds of training until counts are right: ours with the default settings, and Pyro's.

    python benchmarks/time_to_accuracy.py --out FOLDER

The weights are kept every 250 steps. When all trainings have ended, counts are checked with each of
them on 10,000 of the training scenes, one sample of the guide each (the tutorial's measure), and on
10,000 held-out scenes (most probable count, K = 5 paths). The seconds are those of training:
compilation is reported beside them. As in `airjax train`, a training that collapses is started
again, and its seconds count. Pyro's run (the same model, `pyro_air.py`) ends at a time limit; the
time that it would need is extrapolated from the steps of the tutorial's own curve, and marked so.
Writes time_to_accuracy.json and .png.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import common
import numpy as np
import tyro
from matplotlib.figure import Figure

from airjax import data
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.inference.infer import read
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.training import loop
from airjax.training.resolve import resolved
from airjax.training.trainer import Trainer, TrainState

LEVELS = (0.95, 0.98, 0.985, 0.987, 0.99)
SCENES = 10_000
# from the right panel of figure 3 of the tutorial: steps at which its curve passes a level
TUTORIAL_STEPS = {0.95: 8_000, 0.987: 100_000}
Row = dict[str, Any]


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        seeds: seeds of our runs.
        steps: steps of our runs (default: airjax's).
        every: steps between two checks.
        last: step of the last check; the end of the training unless given.
        pyro_seconds: of Pyro's training; 0 leaves it out.
        pyro_rates: learning rates of Pyro's training, of all networks and of the baselines; those
            of the tutorial's line unless given.
        out: folder for the results.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int | None = None
    every: int = 250
    last: int | None = None
    pyro_seconds: float = 300.0
    pyro_rates: tuple[float, float] = (1e-4, 0.1)
    out: Path = Path(".")


class Kept(loop.Record):
    """Keeps the programs on the way. The seconds of trainings that collapsed count."""

    def __init__(self, args: Args):
        super().__init__()
        self.args = args
        self.kept: list[tuple[Row, tuple[Model, Guide]]] = []
        self.before = self.compiling = 0.0

    def add(self, trainer: Trainer, state: TrainState, row: Row) -> None:
        super().add(trainer, state, row)
        self.compiling += row.get("compile_seconds", 0.0)
        last = self.args.last or trainer.config.train.num_steps
        if row["step"] <= last and (row["step"] % self.args.every == 0 or row["step"] == last):
            about = {"compile_seconds": self.compiling, "restarts": self.restarts}
            about["seconds"] = self.before + row["seconds"]
            self.kept.append((row | about, trainer.programs(state)))

    def restart(self, why: str) -> None:
        self.before += self.rows[-1]["seconds"]
        self.kept = []
        super().restart(why)


def ours(args: Args, seed: int, train: Dataset, test: Dataset) -> Kept:
    """One of our trainings."""
    config = Config(
        TrainConfig(data="multi-mnist", seed=seed, steps=args.steps),
        progress=replace(ProgressConfig(), progress_every=args.every, save_every=10**9),
    )
    config, _ = resolved(config, train.images)
    record = Kept(args)
    watched = {"test": test}
    loop.train(config, train, watched, record, report=print, show_progress=False)
    print(f"seed {seed}: {record.kept[-1][0]['seconds']:.1f} s of training", flush=True)
    return record


def checked(name: str, record: Kept, train: Dataset, test: Dataset) -> list[Row]:
    """The counts that are right with the programs that were kept."""
    rows = []
    for row, programs in record.kept:
        rows.append(row | accuracies(programs, train, test))
        print(f"{name}: {line(rows[-1])}", flush=True)
    return rows


def accuracies(programs: tuple[Model, Guide], train: Dataset, test: Dataset) -> dict[str, float]:
    """Shares of the counts that are right."""
    seen = read(*programs, train.images[:SCENES], num_paths=1)
    unseen = read(*programs, test.images[:SCENES], num_paths=5)
    return {
        "train": float(np.mean(seen.sampled_count == train.counts[:SCENES])),
        "test": float(np.mean(unseen.count == test.counts[:SCENES])),
    }


def pyros(args: Args, train: Dataset, test: Dataset) -> list[Row]:
    """The checks of Pyro's run; both accuracies are those of one sample."""
    import pyro_air

    air, run = pyro_air.trainer(common.TUTORIAL, train.images, 64, 0, *args.pyro_rates)
    rows, seconds, step = [], 0.0, 0
    while seconds < args.pyro_seconds:
        begin = time.perf_counter()
        elbo = run(args.every)
        seconds, step = seconds + time.perf_counter() - begin, step + args.every
        right = {
            name: float(np.mean(pyro_air.counts(air, x.images[:SCENES]) == x.counts[:SCENES]))
            for name, x in (("train", train), ("test", test))
        }
        rows.append({"step": step, "seconds": seconds, "elbo": elbo} | right)
        print(f"Pyro: {line(rows[-1])}", flush=True)
    return rows


def line(row: Row) -> str:
    """A check as a line of text."""
    return (
        f"step {row['step']}, {row['seconds']:.1f} s, ELBO {row['elbo']:.1f}, counts right: "
        f"{100 * row['train']:.2f} % of training scenes, {100 * row['test']:.2f} % held out"
    )


def reached(rows: list[Row], part: str, level: float) -> str:
    """Seconds and steps until a level; a dash where it was not reached."""
    row = next((row for row in rows if row[part] >= level), None)
    return "-" if row is None else f"{row['seconds']:.0f} s ({row['step']:,})"


def tables(runs: dict[str, list[Row]]) -> str:
    """When each run reached each level, on training and on held-out scenes."""
    head = ["", *(f"{100 * level:g} %" for level in LEVELS), "at the end", "compilation"]
    texts = []
    for part, title in (("train", "10,000 training scenes"), ("test", "10,000 held-out scenes")):
        lines = []
        for name, rows in runs.items():
            last = rows[-1]
            end = f"{100 * last[part]:.2f} % ({last['seconds']:.0f} s)"
            compiling = rows[0].get("compile_seconds")
            times = [reached(rows, part, level) for level in LEVELS]
            name += f" (restarts: {last['restarts']})" if last.get("restarts") else ""
            lines.append([name, *times, end, "-" if compiling is None else f"{compiling:.1f} s"])
        texts.append(f"{title}\n\n" + common.table(head, lines))
    return "\n\n".join(texts)


def needed(rows: list[Row]) -> str:
    """The time that Pyro's run would need by the tutorial's curve: extrapolated, not measured."""
    each = rows[-1]["seconds"] / rows[-1]["step"]
    parts = (
        f"{100 * level:g} % after about {steps:,} steps, here {steps * each / 3600:.1f} h"
        for level, steps in TUTORIAL_STEPS.items()
    )
    return (
        f"Pyro: {1000 * each:.0f} ms a step, stopped after {rows[-1]['step']:,} steps. NOT "
        f"MEASURED, from the steps of the tutorial's own curve: {'; '.join(parts)}."
    )


def draw(runs: dict[str, list[Row]]) -> Figure:
    """Errors against seconds of training, on logarithmic axes."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, part in zip(figure.subplots(1, 2, sharey=True), ("train", "test"), strict=True):
        for name, rows in runs.items():
            errors = [100 * (1 - row[part]) for row in rows]
            axes.plot([row["seconds"] for row in rows], errors, label=name)
        axes.axhline(1.3, color="grey", linestyle=":", label="98.7 %")
        axes.set(xscale="log", yscale="log", xlabel="seconds of training")
        axes.set(title={"train": "training scenes", "test": "held-out scenes"}[part])
        axes.grid(alpha=0.3, which="both")
    figure.axes[0].set_ylabel("wrong counts, %")
    figure.axes[0].legend(fontsize=8)
    return figure


def main(args: Args) -> None:
    """Trains, prints, draws and writes."""
    train, test = data.load("multi-mnist", "train"), data.load("multi-mnist", "test")
    records = {f"airjax, seed {seed}": ours(args, seed, train, test) for seed in args.seeds}
    peer = {"Pyro": pyros(args, train, test)} if args.pyro_seconds else {}
    print("all trainings have ended", flush=True)
    runs = {name: checked(name, record, train, test) for name, record in records.items()} | peer
    print("\n" + tables(runs))
    if "Pyro" in runs:
        print("\n" + needed(runs["Pyro"]))
    args.out.mkdir(parents=True, exist_ok=True)
    draw(runs).savefig(args.out / "time_to_accuracy.png", dpi=110)
    settings = {k: v for k, v in vars(args).items() if k != "out"}
    settings |= {"config": replace(Config(TrainConfig(data="multi-mnist")))}
    common.write(args.out / "time_to_accuracy.json", settings, runs)


if __name__ == "__main__":
    main(tyro.cli(Args))
