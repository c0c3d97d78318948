"""A training from its data to its figures: what ``airjax train`` does, as a Python function.

    session = Session.begin("PICTURES", out="runs/cells")
    session.train()

and after an interruption ``Session.resume("runs/cells").train()``. Modules that are needed only at
the end, and slow to import, are imported there: the first step comes sooner.
"""

import json
import math
import os
import shlex
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from airjax import data
from airjax.config import Config, TriesConfig
from airjax.config_file import to_json
from airjax.console import (
    console,
    decisions_table,
    health_table,
    report,
    report_tables,
    seeds_table,
)
from airjax.data.arrays import is_array
from airjax.data.cache import keep_programs
from airjax.data.dataset import Dataset, check_varied
from airjax.data.decode import Broken
from airjax.data.survey import Survey
from airjax.errors import InputError
from airjax.inference.infer import read, which_look
from airjax.object_size import pixels
from airjax.training import loop, stream, tensorboard
from airjax.training.devices import number_of
from airjax.training.health import health, remedy
from airjax.training.record import RunRecord
from airjax.training.resolve import resolved
from airjax.training.runs import Run

NUM_PATHS, SEED = 10, 0  # of the evaluation at the end


@dataclass(frozen=True)
class Session:
    """A run and its data.

    Attributes:
        run: the run's folder and settings.
        train_data: images to train on.
        held_out: images that the training is evaluated on.
    """

    run: Run
    train_data: Dataset
    held_out: Dataset

    @classmethod
    def begin(
        cls,
        name: str | Path,
        config: Config | None = None,
        *,
        out: str | Path | None = None,
        object_size: float | str | None = None,
        max_objects: int | None = None,
        data_dir: Path | None = None,
        strict: bool = False,
        given: Collection[str] = (),
    ) -> "Session":
        """Reads the data, decides the settings that are open, and creates the run.

        Args:
            name: name of a data set, or path of an .npz, .npy or .zarr of images, or of a folder of
                pictures or of ArrayRecord files of pictures.
            config: settings; those that are ``auto`` or None are decided from the data.
            out: folder for the run, a new one (default: runs/<data>-<time>).
            object_size: typical larger side of an object in pixels of the pictures, or "auto".
            max_objects: T (default: the config's; of a folder of pictures, as many as are seen).
            data_dir: folder with MNIST's files.
            strict: stop at a picture that cannot be read, instead of leaving it out.
            given: settings of the model that are kept even if they are the defaults.

        Raises:
            InputError: if the data cannot be read, a setting breaks a rule, or ``out`` exists.
        """
        config = config or Config()
        if str(name) not in data.DATASETS:
            name = os.path.abspath(
                name
            )  # so that the run can be resumed from any working directory
        config = replace(config, train=replace(config.train, data=str(name)))
        if config.progress.tensorboard:
            tensorboard.check_installed()
        read = _read(config, data_dir, strict, pixels(object_size))
        check_varied(read.train.images, "data")
        images = read.train.images
        config, decisions = resolved(config, images, object_size, read.survey, max_objects, given)
        streamed = read.train.source is not None
        if streamed and config.train.stream == "auto":
            decisions.append(stream.decision(read.train))
        config = replace(config, train=replace(config.train, stream="yes" if streamed else "no"))
        if decisions:
            console.print(decisions_table(decisions))
        run = Run.create(config, None if out is None else Path(out))
        return cls(run, read.train, read.held_out)

    @classmethod
    def resume(
        cls,
        run: "str | Path | Run",
        data_dir: Path | None = None,
        strict: bool = False,
        moved_to: str | Path | None = None,
    ) -> "Session":
        """The session of a run that is not finished; its settings are those of the run.

        Args:
            run: its folder.
            data_dir: folder with MNIST's files.
            strict: stop at a picture that cannot be read, instead of leaving it out.
            moved_to: where its images are now; the run keeps the place.

        Raises:
            InputError: if there is no such run, it is finished, or its data cannot be read or are
                others.
        """
        opened = run if isinstance(run, Run) else Run.open(Path(run), "resume")
        if opened.is_finished:
            raise InputError("resume", "must be a run that is not finished", opened.path)
        if opened.config.progress.tensorboard:
            tensorboard.check_installed()
        config, named = opened.config, opened.config.train.data in data.DATASETS
        if moved_to is not None and str(moved_to) != config.train.data:
            place = str(moved_to) if named else os.path.abspath(moved_to)
            config = replace(config, train=replace(config.train, data=place))
        # what was begun before there was this setting is in memory
        decided = "yes" if config.train.stream == "yes" else "no"
        as_begun = replace(config, train=replace(config.train, stream=decided))
        try:
            read = _read(as_begun, data_dir, strict)
            session = cls(replace(opened, config=config), read.train, read.held_out)
        except InputError as error:
            if error.argument != "data" or moved_to is not None:
                raise
            rule = f"{error.rule} (where images have moved, give --data with their new place)"
            raise InputError("data", rule, error.value) from None
        if config != opened.config:
            session.run.check_data(session.train_data, session.held_out)
            session.run.write("config.json", to_json(config))
        return session

    def train(self, ends_process: bool = False, devices: int | None = None) -> int | None:
        """Trains from the newest checkpoint or from the start, then evaluates and draws.

        Args:
            ends_process: whether a second signal, see `airjax.interrupt`, ends the process at once.
            devices: number of devices of this host that mini-batches are divided between (default:
                as many as divide them evenly). A run may go on with another number.

        Returns:
            number of the signal that the training was stopped by, after a checkpoint of the last
            step taken; None where there was none.

        Raises:
            InputError: if the data differ from those that the run was started with, another
                process is training in its folder, or there are not as many devices.
        """
        number = number_of(devices, self.run.config.train.batch_size)
        keep_programs()
        with self.run.locked():
            differences = self.run.check_environment()
            if differences:
                changed = ", ".join(differences)
                report(f"the run was begun with {changed}: the last bits may differ from here on")
            if self.run.config.tries.seeds > 1:
                return self._train_seeds(ends_process, number)
            return self._train_once(ends_process, number)

    def _train_once(self, ends_process: bool, devices: int) -> int | None:
        run, config = self.run, self.run.config.train
        run.check_data(self.train_data, self.held_out)
        report(
            f"training on {self.train_data.total} images of {self.train_data.name}, "
            f"{config.num_steps} steps of {config.batch_size}, seed {config.seed}; "
            f"{self.held_out.total} images held out"
            + (f"; on {devices} devices (--devices)" if devices > 1 else "")
        )
        if self.train_data.source is not None:
            report(
                f"images are streamed (--stream): {len(self.train_data)} stand for all of them "
                f"where settings are decided, and {len(self.held_out)} held-out ones are evaluated"
            )
        watched = {"test": self.held_out, "train": self.train_data}
        outcome = loop.train(
            run.config, self.train_data, watched, RunRecord(run, self.held_out),
            report=report, ends_process=ends_process, devices=devices,
        )  # fmt: skip
        if outcome.is_complete:
            self._finish(outcome)
        else:
            command = f"airjax train --resume {shlex.quote(str(run.whole))}"
            step = 0 if outcome.restarting else int(outcome.state.step)
            report(f"stopped at step {step}, everything is saved: {command}")
        return outcome.signum

    def _train_seeds(self, ends_process: bool, devices: int) -> int | None:
        """Trains each seed in a run of its own inside the run, and keeps the one with the best ELBO
        on held-out images; labels are not used."""
        run, tries, scores = self.run, self.run.config.tries, {}
        run.check_data(self.train_data, self.held_out)
        first = run.config.train.seed
        for seed in range(first, first + tries.seeds):
            config = replace(run.config.train, seed=seed)
            one = replace(run.config, train=config, tries=TriesConfig(restarts=tries.restarts))
            part = Run.inside(run.path / f"seed_{seed}", one)
            if not part.is_finished:
                signum = replace(self, run=part)._train_once(ends_process, devices)
                if signum is not None:
                    return signum
            scores[seed] = part.report() | {"restarts": len(part.restarts())}
        elbos = {seed: score["elbo"] for seed, score in scores.items()}
        best = max(elbos, key=lambda seed: elbos[seed] if math.isfinite(elbos[seed]) else -math.inf)
        run.write("seeds.json", json.dumps({"best": best, "seeds": scores}, indent=2) + "\n")
        run.adopt(run.path / f"seed_{best}")
        console.print(seeds_table(scores, best))
        report(f"model      {run.path / 'model'}")
        return None

    def _finish(self, outcome: loop.Outcome) -> None:
        """Saves the model, evaluates it on the held-out images, and draws."""
        from airjax.inference import plots
        from airjax.inference.metrics import score, settings

        run, held_out = self.run, self.held_out
        programs = outcome.trainer.programs(outcome.state)
        run.save(*programs, outcome.collapsed)
        reading = read(*programs, held_out.images, SEED, NUM_PATHS, title="evaluating")
        scores = score(reading, held_out)
        scores["settings"] = settings(
            reading, held_out, SEED, NUM_PATHS, which_look(programs[1], None)
        )
        findings = health(reading, held_out.images, programs[0], run.config)
        rows = run.rows()
        samples = plots.prior_samples(programs[0], "scene", 10, run.config.train.seed)
        figures = {
            "curves.png": plots.curves(rows),
            "reconstructions.png": plots.reconstructions(held_out, reading),
            "samples.png": samples,
        }
        paths = [plots.save(figure, run.figures / name) for name, figure in figures.items()]
        values: dict[str, Any] = {finding.name: finding.value for finding in findings}
        values["doubts"] = [f"{f.what}: {f.shown}; {f.doubt}" for f in findings if f.doubt]
        run.write("health.json", json.dumps(values, indent=2) + "\n")
        run.write("evaluation.json", json.dumps(scores, indent=2) + "\n")
        console.print(*report_tables(scores), sep="\n")
        report("without labels, on held-out images:")
        console.print(health_table((f.what, f.shown, f.doubt) for f in findings))
        seconds, compiling = rows[-1]["seconds"], rows[0]["compile_seconds"]
        report(f"trained for {seconds:.0f} s after {compiling:.0f} s of compilation")
        if outcome.collapsed is not None:
            remedied = remedy(run.config, self.train_data.images)
            report(f"this training has collapsed: {outcome.collapsed}; try {remedied}")
        report(f"model      {run.path / 'model'}")
        for path in paths:
            report(f"picture    {path}")


class Read(NamedTuple):
    """What `_read` read.

    Attributes:
        train: images to train on.
        held_out: images that the training is evaluated on.
        survey: of the pictures; None for other data.
    """

    train: Dataset
    held_out: Dataset
    survey: Survey | None


def _read(
    config: Config, data_dir: Path | None, strict: bool, object_size: float | None = None
) -> Read:
    name, pictures, streams = config.train.data, config.pictures, config.train.stream
    if streams == "yes":
        stream.check_installed()
    if name in data.DATASETS or is_array(Path(name)) or not Path(name).is_dir():
        if streams == "yes" and not is_array(Path(name)):
            rule = "must be auto or no, except for an .npy, a .zarr, pictures or ArrayRecord files"
            raise InputError("stream", rule, name)
        how: Any = data_dir, pictures, streams
        train, held_out = (data.load(name, part, *how) for part in ("train", "test"))
        if train.source is not None:
            stream.check_installed()
        return Read(train, held_out, None)
    background = config.model.background
    loaded = data.load_folder(
        Path(name), pictures, "train", "test", background=background, object_size=object_size,
        stream=streams, on_broken=lambda broken: report_broken([broken], strict),
    )  # fmt: skip
    for line in loaded.passed_over:
        report(line)
    report_broken(loaded.broken, strict)
    number = sum(part.total for part in loaded.parts)
    kind = "crops" if loaded.survey.pictures.crop else "pictures"
    report(f"{number} {kind} of {Path(name).name}")
    train, held_out = loaded.parts
    if train.source is not None:
        stream.check_installed()
    return Read(train, held_out, loaded.survey)


def report_broken(broken: list[Broken], strict: bool) -> None:
    """Names the files that cannot be read.

    Raises:
        InputError: if there is one and ``strict`` holds.
    """
    for path, why in broken:
        if strict:
            raise InputError(str(path), f"cannot be read ({why})")
        report(f"left out: {path} cannot be read ({why})", to_stderr=True)
