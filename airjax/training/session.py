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
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from airjax import data
from airjax.config import Config, TriesConfig
from airjax.config_file import from_json, to_json
from airjax.console import (
    Decision,
    console,
    decisions_table,
    health_table,
    report,
    report_tables,
    seeds_table,
)
from airjax.data.cache import keep_programs
from airjax.data.dataset import Dataset, check_varied
from airjax.errors import InputError
from airjax.inference.infer import read, which_look
from airjax.object_size import pixels
from airjax.training import loop, stream, tensorboard
from airjax.training.checkpoint import save_model
from airjax.training.devices import number_of
from airjax.training.health import health, remedy
from airjax.training.hosts import Hosts
from airjax.training.identity import fingerprint, versions
from airjax.training.read_data import Read, read_data
from airjax.training.record import RunRecord, SharedRecord
from airjax.training.resolve import resolved
from airjax.training.runs import START, Run
from airjax.training.start import begun_with

NUM_PATHS, SEED = 10, 0  # of the evaluation at the end
ALONE = Hosts()


@dataclass(frozen=True)
class Session:
    """A run and its data.

    Attributes:
        run: the run's folder and settings.
        train_data: images to train on.
        held_out: images that the training is evaluated on.
        hosts: the processes of the training, all of which make a session; process 0 writes the run.
    """

    run: Run
    train_data: Dataset
    held_out: Dataset
    hosts: Hosts = ALONE

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
        hosts: Hosts = ALONE,
        start: Run | None = None,
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
            hosts: the processes of the training, see `airjax.training.hosts.connect`.
            start: a run, or a ready model, whose networks the training begins with.

        Raises:
            InputError: if the data cannot be read, a setting breaks a rule, the networks of
                ``start`` do not fit, or ``out`` exists.
        """
        config = config or Config()
        if start is not None and hosts.count > 1:
            raise InputError("from", "must be left out with several processes", start.path)
        networks = None if start is None else start.load()
        asked = {"data": str(name), "object_size": object_size, "max_objects": max_objects}
        _check_same(hosts, _settings(config) | asked | {"given": sorted(given)})
        if str(name) not in data.DATASETS:
            name = os.path.abspath(
                name
            )  # so that the run can be resumed from any working directory
        config = replace(config, train=replace(config.train, data=str(name)))
        read = hosts.by_all(lambda: _read(config, data_dir, strict, pixels(object_size)))
        _check_same_images(hosts, read)

        def decide() -> tuple[Config, list[Decision]]:
            images = read.train.images
            check_varied(images, "data")
            found = resolved(config, images, object_size, read.survey, max_objects, given)
            if networks is None:
                return found
            return begun_with(networks[0].config, config, *found, given)

        decided, decisions = hosts.by_all(decide)
        streamed = read.train.source is not None
        if streamed and config.train.stream == "auto":
            decisions.append(stream.decision(read.train))
        decided = replace(decided, train=replace(decided.train, stream="yes" if streamed else "no"))
        if decisions:
            console.print(decisions_table(decisions))
        folder = None if out is None else Path(out)
        made = hosts.by_first(lambda: _as_json(Run.create(decided, folder)))
        if networks is not None:
            save_model(Path(made[0]) / START, *networks)
        return cls(_from_json(made), read.train, read.held_out, hosts)

    @classmethod
    def resume(
        cls,
        run: "str | Path | Run",
        data_dir: Path | None = None,
        strict: bool = False,
        moved_to: str | Path | None = None,
        hosts: Hosts = ALONE,
    ) -> "Session":
        """The session of a run that is not finished; its settings are those of the run.

        Args:
            run: its folder.
            data_dir: folder with MNIST's files.
            strict: stop at a picture that cannot be read, instead of leaving it out.
            moved_to: where its images are now; the run keeps the place.
            hosts: the processes of the training, as many as there are now; process 0 has the run.

        Raises:
            InputError: if there is no such run, it is finished, or its data cannot be read or are
                others.
        """
        opened = _from_json(hosts.by_first(lambda: _as_json(_unfinished(run))))
        _check_same(hosts, {})
        config, named = opened.config, opened.config.train.data in data.DATASETS
        if moved_to is not None and str(moved_to) != config.train.data:
            place = str(moved_to) if named else os.path.abspath(moved_to)
            config = replace(config, train=replace(config.train, data=place))
        # what was begun before there was this setting is in memory
        decided = "yes" if config.train.stream == "yes" else "no"
        as_begun = replace(config, train=replace(config.train, stream=decided))
        try:
            read = hosts.by_all(lambda: _read(as_begun, data_dir, strict))
        except InputError as error:
            if error.argument != "data" or moved_to is not None:
                raise
            rule = f"{error.rule} (where images have moved, give --data with their new place)"
            raise InputError("data", rule, error.value) from None
        _check_same_images(hosts, read)
        session = cls(replace(opened, config=config), read.train, read.held_out, hosts)
        if config != opened.config:
            hosts.by_first(session._keep_place)
        return session

    def _keep_place(self) -> None:
        self.run.check_data(self.train_data, self.held_out)
        self.run.write("config.json", to_json(self.run.config))

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
        config = self.run.config
        number = self.hosts.by_all(
            lambda: number_of(devices, config.train.batch_size, self.hosts.count)
        )
        number = self.hosts.of_first(number)
        keep_programs()
        self.hosts.continue_with(self._command)
        with ExitStack() as stack:
            self.hosts.by_first(lambda: stack.enter_context(self.run.locked()))
            differences = self.hosts.by_first(self.run.check_environment)
            if differences:
                changed = ", ".join(differences)
                report(f"the run was begun with {changed}: the last bits may differ from here on")
            train = self._train_seeds if config.tries.seeds > 1 else self._train_once
            return train(ends_process, number)

    @property
    def _command(self) -> str:
        """What continues the run."""
        return (
            f"airjax train --resume {shlex.quote(str(self.run.whole))} {self.hosts.flags}".strip()
        )

    def _train_once(self, ends_process: bool, devices: int) -> int | None:
        run, config, hosts = self.run, self.run.config.train, self.hosts
        hosts.by_first(lambda: run.check_data(self.train_data, self.held_out))
        each = "" if hosts.count == 1 else f" of each of {hosts.count} processes"
        report(
            f"training on {self.train_data.total} images of {self.train_data.name}, "
            f"{config.num_steps} steps of {config.batch_size}, seed {config.seed}; "
            f"{self.held_out.total} images held out"
            + (
                f"; on {devices} device{'s' * (devices > 1)}{each} (--devices)"
                if devices > 1 or each
                else ""
            )
        )
        if self.train_data.source is not None:
            report(
                f"images are streamed (--stream): {len(self.train_data)} stand for all of them "
                f"where settings are decided, and {len(self.held_out)} held-out ones are evaluated"
            )
        watched = {"test": self.held_out, "train": self.train_data}
        record: Any = RunRecord(run, self.held_out) if hosts.is_first else None
        outcome = loop.train(
            run.config, self.train_data, watched,
            record if hosts.count == 1 else SharedRecord(record, hosts),
            report=report, ends_process=ends_process, devices=devices, hosts=hosts,
            start=run.start,
        )  # fmt: skip
        if outcome.is_complete and hosts.is_first:
            self._finish(outcome)
        elif not outcome.is_complete:
            step = 0 if outcome.restarting else int(outcome.state.step)
            report(f"stopped at step {step}, everything is saved: {self._command}")
        return outcome.signum

    def _train_seeds(self, ends_process: bool, devices: int) -> int | None:
        """Trains each seed in a run of its own inside the run, and keeps the one with the best ELBO
        on held-out images; labels are not used."""
        run, hosts, tries, scores = self.run, self.hosts, self.run.config.tries, {}
        hosts.by_first(lambda: run.check_data(self.train_data, self.held_out))
        first = run.config.train.seed
        for seed in range(first, first + tries.seeds):
            config = replace(run.config.train, seed=seed)
            one = replace(run.config, train=config, tries=TriesConfig(restarts=tries.restarts))
            part = Run(run.path / f"seed_{seed}", one)
            hosts.by_first(partial(_make, part))
            if not hosts.of_first(hosts.is_first and part.is_finished):
                signum = replace(self, run=part)._train_once(ends_process, devices)
                if signum is not None:
                    return signum
            if hosts.is_first:
                scores[seed] = part.report() | {"restarts": len(part.restarts())}
        if not hosts.is_first:
            return None
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


def _read(config: Config, *how: Any) -> Read:
    """`read_data`, where everything is installed that the run needs."""
    if config.progress.tensorboard:
        tensorboard.check_installed()
    return read_data(config, *how)


def _unfinished(run: "str | Path | Run") -> Run:
    opened = run if isinstance(run, Run) else Run.open(Path(run), "resume")
    if opened.is_finished:
        raise InputError("resume", "must be a run that is not finished", opened.path)
    return opened


def _make(part: Run) -> None:
    """Makes the folder of one seed in that of the run."""
    Run.inside(part.path, part.config)


def _as_json(run: Run) -> list[str]:
    """A run, for other processes."""
    return [str(run.path), to_json(run.config)]


def _from_json(made: list[str]) -> Run:
    return Run(Path(made[0]), from_json(Config, made[1], made[0]))


def _settings(config: Config) -> dict[str, Any]:
    """All settings, by name."""
    return {name: value for part in json.loads(to_json(config)).values()
            for name, value in part.items()}  # fmt: skip


def _check_same(hosts: Hosts, settings: dict[str, Any]) -> None:
    hosts.check_same("versions", versions())
    hosts.check_same("settings", settings)


def _check_same_images(hosts: Hosts, read: Read) -> None:
    if hosts.count > 1:
        parts = {"images to train on": read.train, "held-out images": read.held_out}
        hosts.check_same("data", {name: fingerprint(part) for name, part in parts.items()})
