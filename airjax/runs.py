"""A run's folder: what was asked for, how it went, and what was learned.

``config.json``, ``metrics.jsonl`` (a row each chunk of steps, see `airjax.train`),
``checkpoints/``, ``model/``, ``figures/``.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airjax import data
from airjax.checkpoint import load_model, save_model
from airjax.config import Config, from_json, to_json
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
            (folder / "config.json").write_text(to_json(config))
        except FileExistsError:
            rule = "must be a new folder (nothing is overwritten)"
            raise InputError("out", rule, folder) from None
        except OSError as error:
            raise InputError("out", f"cannot be written ({error.strerror})", folder) from None
        return cls(folder, config)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """The run in a folder.

        Raises:
            InputError: if there is none, or its settings cannot be read.
        """
        file = path / "config.json"
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError):
            rule = "must be the folder of a run (one with a config.json)"
            raise InputError("run", rule, path) from None
        return cls(path, from_json(Config, text, str(file)))

    @property
    def figures(self) -> Path:
        """The folder of the run's pictures."""
        return self.path / "figures"

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do: evaluation.json comes last. (A model that was
        imported has no checkpoints.)"""
        unscored = (self.path / "checkpoints").exists() and not (
            self.path / "evaluation.json"
        ).exists()
        return (self.path / "model").exists() and not unscored

    def write(self, name: str, text: str) -> None:
        """Writes a file of the run, or puts it in the place of an older one, whole."""
        temporary = self.path / f".{name}.tmp"
        temporary.write_text(text)
        os.replace(temporary, self.path / name)

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row to the metrics."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")

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

    def cut(self, step: int) -> float:
        """Drops the metrics after a step, that training goes on from; returns its seconds."""
        if not (self.path / "metrics.jsonl").exists():
            return 0.0
        rows = [row for row in self.rows() if row["step"] <= step]
        self.write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        return rows[-1]["seconds"] if rows else 0.0

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
        loaded = data.load(name, part, data_dir)
        if loaded.image_shape != self.config.model.image_size:
            rule = f"must have images of the model's size {self.config.model.image_size}"
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
