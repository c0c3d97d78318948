"""One training run from its data to its pictures: what ``airjax train`` does."""

import json

from airjax import plots
from airjax.checkpoint import Checkpoints
from airjax.console import TrainingProgress, console, report_tables
from airjax.data.dataset import Dataset
from airjax.infer import read
from airjax.interrupt import Interrupt
from airjax.metrics import score, settings
from airjax.runs import Run
from airjax.train import Trainer, TrainState

NUM_PATHS, SEED = 10, 0  # of the evaluation at the end


def run_to_the_end(run: Run, train_data: Dataset, held_out: Dataset) -> None:
    """Trains from the run's newest checkpoint or from the start, then scores and draws.

    Raises:
        SystemExit: with 128 + n if the process was asked to stop by the signal n; a checkpoint of
            the last step taken is there.
    """
    console.print(
        f"training on {len(train_data)} images of {train_data.name}, "
        f"{run.config.train.num_steps} steps of {run.config.train.batch_size}, "
        f"seed {run.config.train.seed}; {len(held_out)} images held out",
        soft_wrap=True,
    )
    trainer = Trainer(run.config, train_data.images)
    state = train(trainer, run, {"test": held_out, "train": train_data})
    finish(trainer, state, run, held_out)


def train(trainer: Trainer, run: Run, watched: dict[str, Dataset]) -> TrainState:
    """The state after the last step; metrics and checkpoints are written on the way."""
    checkpoints, steps = Checkpoints(run.path / "checkpoints"), run.config.train.num_steps
    start = trainer.init()
    state, damaged = checkpoints.newest(start)
    for line in damaged:
        console.print(f"{line}; going back to the checkpoint before it", soft_wrap=True)
    state = start if state is None else state
    seconds = run.cut(int(state.step))
    if int(state.step):
        console.print(f"going on from step {int(state.step)}")
    test_elbo = None
    with Interrupt() as interrupt, TrainingProgress(run.config.train) as progress:
        for after, row in trainer.run(state, watched, seconds):
            state = after
            run.append(row)
            progress.show(row)
            test_elbo = row.get("test_elbo", test_elbo)
            stop = interrupt.signum is not None and row["step"] < steps
            if stop or row["step"] % run.config.progress.save_every == 0 or row["step"] == steps:
                checkpoints.save(state, run.config, test_elbo)
            if stop:
                break
    if interrupt.signum is not None and int(state.step) < steps:
        console.print(
            f"stopped at step {int(state.step)}, all is saved: airjax train --resume {run.path}",
            soft_wrap=True,
        )
        raise SystemExit(128 + interrupt.signum)
    return state


def finish(trainer: Trainer, state: TrainState, run: Run, held_out: Dataset) -> None:
    """Saves the model, scores it on the held-out images, and draws."""
    programs = trainer.programs(state)
    run.save(*programs)
    reading = read(*programs, held_out.images, SEED, NUM_PATHS)
    report = score(reading, held_out)
    report["settings"] = settings(reading, held_out, SEED, NUM_PATHS)
    rows = run.rows()
    samples = plots.prior_samples(programs[0], "scene", 10, run.config.train.seed)
    pictures = [
        plots.save(plots.curves(rows), run.figures / "curves.png"),
        plots.save(plots.reconstructions(held_out, reading), run.figures / "reconstructions.png"),
        plots.save(samples, run.figures / "samples.png"),
    ]
    run.write("evaluation.json", json.dumps(report, indent=2) + "\n")
    console.print(*report_tables(report), sep="\n")
    seconds, compiling = rows[-1]["seconds"], rows[0]["compile_seconds"]
    console.print(f"trained for {seconds:.0f} s after {compiling:.0f} s of compilation")
    console.print("model     ", run.path / "model", soft_wrap=True)
    for picture in pictures:
        console.print("picture   ", picture, soft_wrap=True)
