"""The record of a training in the folder of its run: metrics, checkpoints, TensorBoard events."""

from airjax.console import report
from airjax.data.dataset import Dataset
from airjax.inference.metrics import Row
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.training import tensorboard
from airjax.training.checkpoint import (
    Checkpoints,
    from_state_arrays,
    load_model,
    save_model,
    state_arrays,
)
from airjax.training.hosts import Hosts
from airjax.training.loop import Record
from airjax.training.runs import Run
from airjax.training.trainer import Trainer, TrainState


class RunRecord(Record):
    """Keeps a training in a run's folder, and continues from the newest checkpoint there.

    Args:
        run: whose folder it is.
        held_out: images that are drawn for TensorBoard.
    """

    def __init__(self, run: Run, held_out: Dataset):
        super().__init__()
        self.run, self.held_out = run, held_out
        self.events: tensorboard.Events | None = None

    @property
    def restarts(self) -> int:
        """The number of trainings that collapsed before this one."""
        return len(self.run.restarts())

    def start(self, trainer: Trainer) -> TrainState:
        """The newest checkpoint, or the state before the first step."""
        first = trainer.init()
        state, damaged = self.checkpoints.newest(first)
        for line in damaged:
            report(f"{line}; put aside, continuing from an earlier one")
        state = first if state is None else state
        step = int(state.step)
        self.rows = self.run.cut(step)
        if step or damaged:
            report(f"continuing from step {step}")
        if self.run.config.progress.tensorboard:
            self.events = tensorboard.Events(self.run, trainer, self.held_out, step)
        return state

    def add(self, trainer: Trainer, state: TrainState, row: Row) -> None:
        """Appends to the metrics."""
        super().add(trainer, state, row)
        self.run.append(row)
        if self.events is not None:
            self.events.show(state, row)

    def save(self, state: TrainState) -> None:
        """Writes a checkpoint."""
        self.checkpoints.save(state, self.run.config)

    def keep_draft(self, model: Model, guide: Guide) -> None:
        """Writes the programs, unless they are there already."""
        if not self.run.draft.exists():
            save_model(self.run.draft, model, guide)

    def draft(self) -> tuple[Model, Guide]:
        """Reads them."""
        return load_model(self.run.draft)

    def restart(self, why: str) -> None:
        """Adds the training so far to the run's restarts."""
        self.run.restart(self.rows, why)
        self.rows = []

    def stop(self) -> None:
        """Closes the events."""
        if self.events is not None:
            self.events.close()
            self.events = None

    @property
    def checkpoints(self) -> Checkpoints:
        """Those since the last restart."""
        return Checkpoints(self.run.checkpoints)


class SharedRecord(Record):
    """The record of a training on several hosts: process 0 keeps it, and has what it is resumed
    from.

    Args:
        record: process 0's; None in all others.
        hosts: the processes.
    """

    def __init__(self, record: Record | None, hosts: Hosts):
        super().__init__()
        self.record, self.hosts = record, hosts
        self._restarts = hosts.of_first(0 if record is None else record.restarts)

    def start(self, trainer: Trainer) -> TrainState:
        """Process 0's state, in all processes."""
        start = trainer.init if self.record is None else lambda: self._start(trainer)
        state = self.hosts.by_all(start)
        arrays = self.hosts.shared(state_arrays(state))
        self.rows = list(self.hosts.agreed([] if self.record is None else self.record.rows))
        return from_state_arrays(state, arrays)

    def _start(self, trainer: Trainer) -> TrainState:
        assert self.record is not None
        return self.record.start(trainer)

    def add(self, trainer: Trainer, state: TrainState, row: Row) -> None:
        """Keeps the metrics of a chunk."""
        super().add(trainer, state, row)
        if self.record is not None:
            self.record.add(trainer, state, row)

    def save(self, state: TrainState) -> None:
        """Process 0 keeps the state."""
        if self.record is not None:
            self.record.save(state)

    def keep_draft(self, model: Model, guide: Guide) -> None:
        """Process 0 keeps the programs."""
        if self.record is not None:
            self.record.keep_draft(model, guide)

    def draft(self) -> tuple[Model, Guide]:
        """The programs, in process 0."""
        assert self.record is not None
        return self.record.draft()

    def restart(self, why: str) -> None:
        """Puts the training so far aside."""
        super().restart(why)
        if self.record is not None:
            self.record.restart(why)

    def stop(self) -> None:
        """The training has ended."""
        if self.record is not None:
            self.record.stop()
