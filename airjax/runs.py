"""A run's folder: what was asked for, how it went, and what was learned.

``config.json``, ``data.json`` (the images' fingerprint), ``metrics.jsonl`` (a row each chunk of
steps, see `airjax.train`), ``checkpoints/``, ``restarts.json`` (the record of trainings that
collapsed), ``model/``, ``figures/``, ``evaluation.json``, ``tensorboard/`` if asked for.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from airjax import data, storage
from airjax.checkpoint import load_model, save_model
from airjax.config import Config
from airjax.config_json import from_json, to_json
from airjax.data.dataset import Dataset
from airjax.errors import InputError
from airjax.guide import Guide
from airjax.model import Model


@dataclasses.dataclass(frozen=True)
class Run:
    """An existing run's folder and settings."""

    path: Path
    config: Config

    @classmethod
    def create(cls, config: Config, path: Path | None = None) -> "Run":
        """Makes a folder for a new run: ``path``, or ``runs/<data>-<time>``.

        Raises:
            InputError: if ``path`` exists, or cannot be made.
        """
        name = f"{Path(config.train.data).stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = path or _unused(Path("runs") / name)
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
        """The run in this folder of another run; made where it is missing or was begun only."""
        path.mkdir(exist_ok=True)
        if not (path / "config.json").exists():
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
    def newest(cls, folder: Path) -> "Run | None":
        """The run in a folder of runs that was finished last; None if none was. Folders that are no
        runs, or whose settings cannot be read, are passed over."""
        finished: list[Run] = []
        for file in folder.glob("*/config.json"):
            with contextlib.suppress(InputError):
                run = cls.open(file.parent)
                finished += [run] if run.is_finished else []
        return max(finished, key=lambda run: (run.path / "model").stat().st_mtime, default=None)

    @property
    def figures(self) -> Path:
        """The folder of the run's pictures."""
        return self.path / "figures"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints since the last restart."""
        n = len(self.restarts())
        return self.path / "checkpoints" / f"restart_{n}" if n else self.path / "checkpoints"

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do; evaluation.json comes last. (A model that was
        imported has no metrics.)"""
        unscored = (self.path / "metrics.jsonl").exists() and not (
            self.path / "evaluation.json"
        ).exists()
        return (self.path / "model").exists() and not unscored

    def write(self, name: str, text: str) -> None:
        """Writes a file of the run, or puts it in the place of an older one, whole."""
        storage.write_file(self.path / name, text.encode())

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to the metrics."""
        storage.append(self.path / "metrics.jsonl", json.dumps(row))

    def restarts(self) -> list[dict[str, Any]]:
        """The record of trainings that collapsed: ``seed``, ``why``, ``rows`` (the metrics)."""
        return self._json("restarts.json") if (self.path / "restarts.json").exists() else []

    def restart(self, rows: list[dict[str, Any]], why: str | None) -> None:
        """Adds the training so far to the record; what is done next is a new one."""
        seed = self.attempt_config().train.seed
        record = [*self.restarts(), {"seed": seed, "why": why, "rows": rows}]
        self.write("restarts.json", json.dumps(record, indent=2) + "\n")

    def attempt_config(self) -> Config:
        """The settings, after a restart with another seed."""
        return self.config.restarted(len(self.restarts()))

    def report(self) -> dict[str, Any]:
        """The scores on held-out images at the end, see `airjax.metrics.score`."""
        return self._json("evaluation.json")

    def adopt(self, other: Path) -> None:
        """Takes over the results of a finished run."""
        for name in ("metrics.jsonl", "model", "figures", "evaluation.json"):
            if (self.path / name).exists():  # from before an interruption
                continue
            temporary = self.path / f".{name}.{os.getpid()}.tmp"
            if (other / name).is_dir():
                shutil.copytree(other / name, temporary)
            else:
                shutil.copy(other / name, temporary)
            os.rename(temporary, self.path / name)

    def check_data(self, images: Dataset) -> None:
        """Notes the fingerprint of the images to train on; where there is one, compares.

        Raises:
            InputError: if the run was started with other images.
        """
        digest = hashlib.sha256(np.ascontiguousarray(images.images).data).hexdigest()
        found = {"name": images.name, "shape": list(images.images.shape), "sha256": digest}
        if not (self.path / "data.json").exists():
            self.write("data.json", json.dumps(found, indent=2) + "\n")
            return
        want = self._json("data.json")
        if found != want:
            rule = f"must be the images that the run was started with, {want}"
            raise InputError("data", rule, found)

    def _json(self, name: str) -> Any:
        """A file that `write` wrote."""
        try:
            return json.loads((self.path / name).read_text())
        except (OSError, ValueError) as error:
            raise InputError(str(self.path / name), f"must be readable JSON: {error}") from None

    def rows(self) -> list[dict[str, Any]]:
        """The metrics so far; a last line that was cut off is left out.

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
        """Drops the metrics after a step, that training goes on from; returns those up to it."""
        if not (self.path / "metrics.jsonl").exists():
            return []
        rows = [row for row in self.rows() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder.

        Raises:
            InputError: if another one does.
        """
        with open(self.path / "config.json") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # let go even by a killed process
            except OSError:
                rule = "must not be in use: another process trains there"
                raise InputError("resume", rule, self.path) from None
            storage.sweep(self.path)
            yield

    def save(self, model: Model, guide: Guide) -> None:
        """Writes what was learned, unless it is there already."""
        if not (self.path / "model").exists():
            save_model(self.path / "model", model, guide)

    def load(self) -> tuple[Model, Guide]:
        """Reads what was learned."""
        return load_model(self.path / "model")

    def data(self, name: str | None, part: data.Part | None, data_dir: Path | None) -> Dataset:
        """The data set to look at: by default what the run held out.

        Args:
            name: of a data set or file; the run's own when None.
            part: of it; when None the test part, or all of a file that is not the run's own.

        Raises:
            InputError: if there is no such data, or its images have another size than the model's.
        """
        own = name is None or name == self.config.train.data or _same(name, self.config.train.data)
        name = self.config.train.data if name is None else name
        part = part or ("test" if own or name in data.POOLS else "all")
        loaded = data.load(name, part, data_dir, self.config.pictures)
        if loaded.image_shape != self.config.model.image_shape:
            rule = f"must have images of the model's size {self.config.model.image_shape}"
            raise InputError("data", rule, loaded.image_shape)
        return loaded


def _same(a: str, b: str) -> bool:
    return Path(a).exists() and Path(b).exists() and Path(a).samefile(b)


def _unused(path: Path) -> Path:
    """``path``, or with a number behind it where that exists."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
