"""A run's folder: what was asked for, how it went, and what was learned.

``config.json``, ``data.json`` (fingerprints of the images), ``environment.json`` (versions and
settings that the last bits depend on), ``metrics.jsonl`` (a row for each chunk of steps, see
`airjax.training.trainer`), ``start/`` (the model that it begins with, of ``--from``),
``checkpoints/`` (and the draft of a training in crops),
``restarts.json`` (trainings that collapsed), ``model/``, ``figures/``, ``health.json`` (see
`airjax.training.health`), ``evaluation.json``, ``tensorboard/`` on request.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from airjax import data, storage
from airjax.config import RUNS, Config
from airjax.config_file import from_json, to_json
from airjax.data.dataset import Dataset
from airjax.data.files import check_outside
from airjax.errors import InputError
from airjax.inference.out_of_distribution import Usual
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.training.checkpoint import load_model, load_training, save_model
from airjax.training.identity import environment, fingerprint

START = "start"  # folder of the model whose networks a training begins with
LOCK = ".lock"  # a file of its own: others are replaced while a process has them open


@dataclasses.dataclass(frozen=True)
class Run:
    """An existing run's folder and settings."""

    path: Path
    config: Config

    @classmethod
    def create(cls, config: Config, path: Path | None = None) -> "Run":
        """Makes a folder for a new run: ``path``, or ``runs/<data>-<time>``.

        Raises:
            InputError: if ``path`` exists, cannot be made, or is in the folder of pictures.
        """
        name = f"{Path(config.train.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = path or unused(RUNS, name)
        check_outside(folder, Path(config.train.data))
        try:
            folder.mkdir(parents=True)
            storage.write_file(folder / "config.json", to_json(config).encode())
        except FileExistsError:
            rule = "must be a new folder (nothing is overwritten)"
            raise InputError("out", rule, folder) from None
        except OSError as error:
            raise InputError("out", f"cannot be written ({error.strerror})", folder) from None
        return cls(folder, config)

    @classmethod
    def inside(cls, path: Path, config: Config) -> "Run":
        """The run in this folder of another run; created where it does not exist."""
        path.mkdir(exist_ok=True)
        storage.write_file(path / "config.json", to_json(config).encode())
        return cls(path, config)

    @classmethod
    def open(cls, path: Path, argument: str = "run") -> "Run":
        """The run in a folder; ``argument`` names it in errors.

        Raises:
            InputError: if there is none, or its settings cannot be read.
        """
        file = path / "config.json"
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError):
            rule = "must be the folder of a run (one with a config.json)"
            raise InputError(argument, rule, path) from None
        return cls(path, from_json(Config, text, str(file)))

    @classmethod
    def all(cls, folder: Path) -> "list[Run]":
        """The runs in a folder of runs, oldest first. Other folders, and runs whose settings cannot
        be read, are left out."""
        found: list[Run] = []
        for file in folder.glob("*/config.json"):
            with contextlib.suppress(InputError):
                found.append(cls.open(file.parent))
        return sorted(found, key=lambda run: (run.path / "config.json").stat().st_mtime_ns)

    @property
    def figures(self) -> Path:
        """The folder of the run's figures."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints since the last restart."""
        n = len(self.restarts())
        return self.path / "checkpoints" / f"restart_{n}" if n else self.path / "checkpoints"

    @property
    def draft(self) -> Path:
        """The folder of the draft of a training in crops, `airjax.training.whole_objects`."""
        return self.checkpoints / "draft"

    @property
    def is_finished(self) -> bool:
        """Whether training and evaluation are complete; evaluation.json is written last. (A model
        that was imported has no metrics.)"""
        unscored = (self.path / "metrics.jsonl").exists() and not (
            self.path / "evaluation.json"
        ).exists()
        return (self.path / "model").exists() and not unscored

    @property
    def state(self) -> str:
        """``finished``, ``training`` (a process is training in its folder) or ``stopped``."""
        if self.is_finished:
            return "finished"
        lock = self.whole / LOCK
        if lock.exists():
            with open(lock) as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return "training"
        return "stopped"

    @property
    def whole(self) -> Path:
        """The folder of the whole run: for one of several seeds, that of the run of all seeds."""
        above = self.path.parent
        is_seed = self.path.name.startswith("seed_") and (above / "config.json").exists()
        return above if is_seed else self.path

    def write(self, name: str, text: str) -> None:
        """Writes or replaces a file of the run; an interruption leaves it whole."""
        storage.write_file(self.path / name, text.encode())

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to the metrics."""
        storage.append(self.path / "metrics.jsonl", json.dumps(row))

    def restarts(self) -> list[dict[str, Any]]:
        """The trainings that collapsed: ``seed``, ``why``, ``rows`` (the metrics) of each."""
        return self._json("restarts.json") if (self.path / "restarts.json").exists() else []

    def restart(self, rows: list[dict[str, Any]], why: str) -> None:
        """Adds the training so far to `restarts`; the next one starts from the beginning."""
        seed = self.attempt_config().train.seed
        record = [*self.restarts(), {"seed": seed, "why": why, "rows": rows}]
        self.write("restarts.json", json.dumps(record, indent=2) + "\n")

    def attempt_config(self) -> Config:
        """The settings of the current attempt: after a restart, those with another seed."""
        return self.config.restarted(len(self.restarts()))

    def report(self) -> dict[str, Any]:
        """The final scores on held-out images, see `airjax.inference.metrics.score`."""
        return self._json("evaluation.json")

    def adopt(self, other: Path) -> None:
        """Copies the results of a finished run."""
        for name in ("metrics.jsonl", "model", "figures", "health.json", "evaluation.json"):
            if (self.path / name).exists():  # from before an interruption
                continue
            temporary = self.path / f".{name}.{os.getpid()}.tmp"
            if (other / name).is_dir():
                shutil.copytree(other / name, temporary)
            else:
                shutil.copy(other / name, temporary)
            os.rename(temporary, self.path / name)

    def check_data(self, train: Dataset, held_out: Dataset) -> None:
        """Stores the fingerprints of the images, or compares them with the stored ones.

        Raises:
            InputError: if the run was started with other images.
        """
        found = {"train": fingerprint(train), "held_out": fingerprint(held_out)}
        if not (self.path / "data.json").exists():
            self.write("data.json", json.dumps(found, indent=2) + "\n")
        elif not (self.is_own(train) and self.is_own(held_out)):
            rule = "must be the images that the run was started with: their fingerprints differ"
            raise InputError("data", rule, self.config.train.data)

    def is_own(self, images: Dataset) -> bool:
        """Whether images are those that the run trains on, or those that it holds out."""
        if not (self.path / "data.json").exists():
            return False
        want = self._json("data.json")["held_out" if images.part == "test" else "train"]
        return all(want.get(key) == value for key, value in fingerprint(images).items())

    def check_environment(self) -> list[str]:
        """Stores the environment, or compares it with the stored one; returns the differences."""
        found = environment(self.config.train.stream == "yes")
        if not (self.path / "environment.json").exists():
            self.write("environment.json", json.dumps(found, indent=2) + "\n")
            return []
        stored = self._json("environment.json")
        names = sorted(name for name in stored | found if stored.get(name) != found.get(name))
        return [f"{name} {stored.get(name)} (now {found.get(name)})" for name in names]

    def _json(self, name: str) -> Any:
        """The content of a file that `write` wrote."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise InputError(str(self.path / name), f"must be readable JSON: {error}") from None

    def rows(self) -> list[dict[str, Any]]:
        """The metrics so far; an incomplete last line is ignored.

        Raises:
            InputError: if there are none.
        """
        try:
            lines = (self.path / "metrics.jsonl").read_text().splitlines(keepends=True)
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except (OSError, ValueError) as error:
            name = str(self.path / "metrics.jsonl")
            raise InputError(name, f"must be rows of JSON: {error}") from None

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Drops the metrics after a step that training continues from; returns the others."""
        if not (self.path / "metrics.jsonl").exists():
            return []
        rows = [row for row in self.rows() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """A context in which no other process can train in this folder, or another seed of the run.

        Raises:
            InputError: if another process is training here.
        """
        with open(self.whole / LOCK, "a") as file:
            try:
                # released even if the process is killed
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                rule = "must not be in use: another process trains there"
                raise InputError("resume", rule, self.path) from None
            storage.sweep(self.path)
            yield

    def save(self, model: Model, guide: Guide, collapsed: str | None = None) -> None:
        """Writes the trained programs, unless they are there already.

        Args:
            model: the trained generative program.
            guide: the trained guide.
            collapsed: what is wrong with the training, or None.
        """
        if not (self.path / "model").exists():
            rows = self.rows() if (self.path / "metrics.jsonl").exists() else []
            about = {"config": json.loads(to_json(self.attempt_config())), "history": rows}
            about |= {"restarts": len(self.restarts()), "collapsed": collapsed}
            save_model(self.path / "model", model, guide, about)

    def load(self) -> tuple[Model, Guide]:
        """Reads the trained programs.

        Raises:
            InputError: if there are none yet, or they are damaged.
        """
        self._check_trained()
        return load_model(self.path / "model")

    @property
    def start(self) -> tuple[Model, Guide] | None:
        """The programs whose networks the training begins with; None if they are freshly drawn."""
        folder = self.whole / START
        return load_model(folder) if folder.exists() else None

    @property
    def collapsed(self) -> str | None:
        """What is wrong with the training whose model was kept, or None."""
        self._check_trained()
        return load_training(self.path / "model").get("collapsed")

    @property
    def doubts(self) -> list[str]:
        """What is doubtful about the model by the measures at the end of its training."""
        values = self._json("health.json") if (self.path / "health.json").exists() else {}
        return values.get("doubts", [])

    @property
    def usual(self) -> Usual:
        """How well objects explained the held-out images, and how many they were, by the same
        measures."""
        scores = self.report() if (self.path / "evaluation.json").exists() else {}
        health = self._json("health.json") if (self.path / "health.json").exists() else {}
        pictures, (height, width) = self.config.pictures, self.config.model.image_size
        return Usual.of(scores, health, bool(pictures.crop), pictures.anew, height * width)

    def _check_trained(self) -> None:
        if not (self.path / "model").exists():
            command = f"airjax train --resume {shlex.quote(str(self.whole))}"
            raise InputError("run", f"must have a trained model; to continue: {command}", self.path)

    def data(self, name: str | None, part: data.Part | None, data_dir: Path | None) -> Dataset:
        """A data set for evaluation; the run's held-out images by default.

        The run's own images are known by their fingerprints, wherever they are: of these, too, only
        the held-out ones are used by default.

        Args:
            name: of a data set or file; the run's own when None.
            part: of it; when None the test part, or all of images that are not the run's own.

        Raises:
            InputError: if there is no such data, its images have another size than the model's, or
                ``name`` is None and the images are no longer those that the run was started with.
        """
        where = self.config.train.data if name is None else name
        # of streamed images as many are evaluated as during the training
        stream = "yes" if self.config.train.stream == "yes" else "no"
        load = partial(
            data.load, where, data_dir=data_dir, pictures=self.config.pictures, stream=stream
        )
        if part is not None or where in data.DATASETS:
            loaded = load(part=part or "test")
        else:
            loaded = self._own_or_all(where, load, name is None)
        if loaded.image_shape != self.config.model.image_shape:
            rule = f"must have images of the model's size {self.config.model.image_shape}"
            raise InputError("data", rule, loaded.image_shape)
        return loaded

    def _own_or_all(self, where: str, load: Callable[..., Dataset], must_be_own: bool) -> Dataset:
        """The held-out images of the run's own data, or all images of other data."""
        others = "auto" if self.config.train.stream == "yes" else "no"  # that may be small
        try:
            held_out = load(part="test")
        except InputError:
            if must_be_own:
                raise
            return load(part="all", stream=others)  # too few to hold some out
        has_fingerprints = (self.path / "data.json").exists()
        if self.is_own(held_out) or (must_be_own and not has_fingerprints):
            return held_out
        if must_be_own:
            rule = (
                "must be given: the images that the run was started with have changed, or others "
                "are in their place"
            )
            raise InputError("data", rule, where)
        return load(part="all", stream=others)


def unused(folder: Path, stem: str, suffix: str = "") -> Path:
    """A path in a folder, with a number behind the stem where that exists."""
    candidate, number = folder / f"{stem}{suffix}", 2
    while candidate.exists():
        candidate, number = folder / f"{stem}-{number}{suffix}", number + 1
    return candidate
