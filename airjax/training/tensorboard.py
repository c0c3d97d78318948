"""TensorBoard events of a run: scalars, reconstructions with boxes, the settings."""

import io
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image

from airjax.config_file import to_json
from airjax.data.dataset import Dataset
from airjax.errors import InputError
from airjax.inference.infer import read
from airjax.training.runs import Run
from airjax.training.trainer import Trainer, TrainState

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
    """Writes the metrics of a training.

    Args:
        run: whose folder they go to.
        trainer: makes programs of states.
        held_out: images, of which the first are drawn after each evaluation.
        step: training continues from here. TensorBoard then ignores what was written for later
            steps, by a process that was interrupted or by a training that collapsed.
    """

    def __init__(self, run: Run, trainer: Trainer, held_out: Dataset, step: int):
        from tensorboardX import SummaryWriter

        self.trainer, self.drawn = trainer, held_out[:DRAWN]
        purged = step + 1 if step else 0
        self.writer = SummaryWriter(str(run.path / FOLDER), purge_step=purged)
        if step == 0:
            settings = to_json(run.attempt_config())
            self.writer.add_text("config", f"```json\n{settings}```", 0)

    def close(self) -> None:
        """Completes the file."""
        self.writer.close()

    def show(self, state: TrainState, row: dict[str, Any]) -> None:
        """One row of metrics and its state, see `airjax.training.trainer.Trainer.run`."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])
        if "test_elbo" in row:
            from airjax.inference import plots

            programs = self.trainer.programs(state, self.trainer.config.model)
            figure = plots.reconstructions(self.drawn, read(*programs, self.drawn.images), DRAWN)
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=100)
            with Image.open(content) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self.writer.add_image("reconstructions", pixels, row["step"], dataformats="HWC")
        self.writer.flush()
