"""TensorBoard's events of a run: scalars, reconstructions with boxes, the settings."""

import contextlib
import io
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from airjax.config_json import to_json
from airjax.data.dataset import Dataset
from airjax.errors import InputError
from airjax.infer import read
from airjax.runs import Run
from airjax.train import Trainer, TrainState

FOLDER = "tensorboard"  # in the run's
DRAWN = 10  # held-out images


def check_installed() -> None:
    """Checks for the extra ``tb``.

    Raises:
        InputError: if it is not installed.
    """
    if find_spec("tensorboardX") is None:
        raise InputError("tensorboard", "needs tensorboardX: pip install 'airjax[tb]'")


class Events:
    """Writes the rows of a training run as they come. A context manager.

    Args:
        run: whose folder they go to.
        trainer: makes programs of states.
        held_out: images, of which the first are drawn after each evaluation.
        step: that training goes on from. What was written after it, by a process that was then
            interrupted or by a training that collapsed, TensorBoard forgets.
    """

    def __init__(self, run: Run, trainer: Trainer, held_out: Dataset, step: int):
        from tensorboardX import SummaryWriter

        self.trainer, self.drawn = trainer, held_out[:DRAWN]
        purged = step + 1 if step else 0
        self.writer = SummaryWriter(str(run.path / FOLDER), purge_step=purged)
        if step == 0:
            settings = to_json(run.attempt_config())
            self.writer.add_text("config", f"```json\n{settings}```", 0)

    def __enter__(self) -> "Events":
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def show(self, state: TrainState, row: dict[str, Any]) -> None:
        """One row of metrics and its state, see `airjax.train.Trainer.run`."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        if "test_elbo" in row:
            from airjax import plots

            programs = self.trainer.programs(state, self.trainer.config.model)
            figure = plots.reconstructions(self.drawn, read(*programs, self.drawn.images), DRAWN)
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=100)
            with Image.open(content) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image("reconstructions", pixels, row["step"], dataformats="HWC")
        self.writer.flush()


def events(
    run: Run, trainer: Trainer, held_out: Dataset, step: int
) -> Events | contextlib.nullcontext[None]:
    """`Events` where the run's settings ask for them, else a context without any."""
    if not run.config.progress.tensorboard:
        return contextlib.nullcontext()
    return Events(run, trainer, held_out, step)
