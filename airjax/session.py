"""One training run from its data to its pictures: what ``airjax train`` does.

What is needed only at the end, and slow to import, is imported there: the first step comes sooner.
"""

import json
import math
from dataclasses import replace

from airjax import tensorboard
from airjax.checkpoint import Checkpoints
from airjax.config import TriesConfig
from airjax.console import TrainingProgress, console, report_tables, seeds_table
from airjax.data.dataset import Dataset
from airjax.infer import read
from airjax.interrupt import Interrupt
from airjax.runs import Run
from airjax.train import Trainer, TrainState
from airjax.watch import collapse

NUM_PATHS, SEED = 10, 0  # of the evaluation at the end


def run_to_the_end(run: Run, train_data: Dataset, held_out: Dataset) -> None:
    """Trains from the run's newest checkpoint or from the start, then scores and draws.

    Raises:
        InputError: if the data are not those that the run was started with.
        SystemExit: with 128 + n if the process was asked to stop by the signal n; a checkpoint of
            the last step taken is there, and what follows the last step of all is done.
    """
    run.check_data(train_data)
    if run.config.tries.seeds > 1:
        run_seeds(run, train_data, held_out)
        return
    console.print(
        f"training on {len(train_data)} images of {train_data.name}, "
        f"{run.config.train.num_steps} steps of {run.config.train.batch_size}, "
        f"seed {run.config.train.seed}; {len(held_out)} images held out",
        soft_wrap=True,
    )
    watched = {"test": held_out, "train": train_data}
    while True:
        trainer = Trainer(run.attempt_config(), train_data.images)
        state, signum = train(trainer, run, watched)
        if state is not None:
            finish(trainer, state, run, held_out)
            if signum is not None:
                raise SystemExit(128 + signum)
            return


def run_seeds(run: Run, train_data: Dataset, held_out: Dataset) -> None:
    """Trains each seed in a run of its own inside the run, and keeps the one with the best ELBO
    on held-out images; labels have no say."""
    first, tries = run.config.train.seed, run.config.tries
    reports = {}
    for seed in range(first, first + tries.seeds):
        config = replace(run.config.train, seed=seed)
        one = replace(run.config, train=config, tries=TriesConfig(restarts=tries.restarts))
        part = Run.inside(run.path / f"seed_{seed}", one)
        if not part.is_finished:
            run_to_the_end(part, train_data, held_out)
        reports[seed] = part.report() | {"restarts": len(part.restarts())}
    elbos = {seed: report["elbo"] for seed, report in reports.items()}
    best = max(elbos, key=lambda seed: elbos[seed] if math.isfinite(elbos[seed]) else -math.inf)
    run.write("seeds.json", json.dumps({"best": best, "seeds": reports}, indent=2) + "\n")
    run.adopt(run.path / f"seed_{best}")
    console.print(seeds_table(reports, best))
    console.print("model     ", run.path / "model", soft_wrap=True)


def train(
    trainer: Trainer, run: Run, watched: dict[str, Dataset]
) -> tuple[TrainState | None, int | None]:
    """The state after the last step, or None if the training has collapsed and is to be started
    anew; and the signal that came while the last steps were taken, if one did. Metrics and
    checkpoints are written on the way."""
    checkpoints, steps = Checkpoints(run.checkpoints), run.config.train.num_steps
    start, trouble = trainer.init(), None
    state, damaged = checkpoints.newest(start)
    for line in damaged:
        console.print(f"{line}; put aside, going back to what is before it", soft_wrap=True)
    state = start if state is None else state
    rows = run.cut(int(state.step))
    if int(state.step) or damaged:
        console.print(f"going on from step {int(state.step)}")
    seconds = rows[-1]["seconds"] if rows else 0.0
    restarts, restarting, told = len(run.restarts()), False, False
    test_elbo, skipped = None, rows[-1]["skipped_steps"] if rows else 0
    with (
        Interrupt() as interrupt,
        TrainingProgress(run.config.train) as progress,
        tensorboard.events(run, trainer, watched["test"], int(state.step)) as events,
    ):
        for after, row in trainer.run(state, watched, seconds):
            state = after
            run.append(row)
            rows.append(row)
            progress.show(row)
            if events is not None:
                events.show(state, row)
            if row["skipped_steps"] > skipped:
                new, skipped = row["skipped_steps"] - skipped, row["skipped_steps"]
                console.print(f"step {row['step']}: skipped {new} steps that were not finite")
            trouble = collapse(rows, run.config)
            if trouble is not None and not told:
                console.print(f"step {row['step']}: collapsed: {trouble}", soft_wrap=True)
                told, restarting = True, restarts < run.config.tries.restarts
                if not restarting:
                    console.print("no restart is left: going on")
            if restarting:
                break
            test_elbo = row.get("test_elbo", test_elbo)
            stop = interrupt.signum is not None and row["step"] < steps
            if stop or row["step"] % run.config.progress.save_every == 0 or row["step"] == steps:
                checkpoints.save(state, run.config, test_elbo)
            if stop:
                break
    if restarting:
        run.restart(rows, trouble)
        seed, most = run.attempt_config().train.seed, run.config.tries.restarts
        console.print(f"starting anew with seed {seed} (restart {restarts + 1} of at most {most})")
    if interrupt.signum is not None and (restarting or int(state.step) < steps):
        console.print(
            f"stopped at step {int(state.step)}, all is saved: airjax train --resume {run.path}",
            soft_wrap=True,
        )
        raise SystemExit(128 + interrupt.signum)
    return (None, None) if restarting else (state, interrupt.signum)


def finish(trainer: Trainer, state: TrainState, run: Run, held_out: Dataset) -> None:
    """Saves the model, scores it on the held-out images, and draws."""
    from airjax import plots
    from airjax.metrics import score, settings

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
    trouble = collapse(rows, run.config)
    if trouble is not None:
        console.print(f"this training has collapsed: {trouble}", soft_wrap=True)
    console.print("model     ", run.path / "model", soft_wrap=True)
    for picture in pictures:
        console.print("picture   ", picture, soft_wrap=True)
