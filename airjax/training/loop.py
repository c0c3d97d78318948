"""The one training loop: steps in chunks, progress, collapse and restart, interruption."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple

import numpy as np

from airjax.config import Config
from airjax.console import TrainingProgress, duration
from airjax.data.crops import Region
from airjax.data.dataset import Dataset
from airjax.inference.metrics import Row
from airjax.interrupt import Interrupt
from airjax.precision import in_32_bits
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.training.collapse import collapse
from airjax.training.devices import Devices, number_of
from airjax.training.health import remedy
from airjax.training.hosts import Hosts
from airjax.training.trainer import Trainer, TrainState
from airjax.training.whole_objects import crops_of_whole_objects, draft_steps, uses_whole_objects

LONG = 600.0  # seconds of a training that are announced before it
WIDE = 5.0  # images of this many windows a side are better cropped


class Record:
    """What is kept of a training. This one keeps it in memory; subclasses also write it somewhere.

    Attributes:
        rows: the metrics since the last restart, see `airjax.training.trainer.Trainer.run`.
    """

    rows: list[Row]

    def __init__(self):
        self.rows = []
        self._restarts = 0
        self._draft: tuple[Model, Guide] | None = None

    @property
    def restarts(self) -> int:
        """The number of trainings that collapsed before this one."""
        return self._restarts

    def start(self, trainer: Trainer) -> TrainState:
        """The state to train from; called before the first chunk, and again after a restart."""
        return trainer.init()

    def add(self, trainer: Trainer, state: TrainState, row: Row) -> None:
        """Keeps the metrics of a chunk."""
        self.rows.append(row)

    def save(self, state: TrainState) -> None:
        """Keeps a state that training can be resumed from."""

    def keep_draft(self, model: Model, guide: Guide) -> None:
        """Keeps the programs that crops of whole objects are made with."""
        self._draft = model, guide

    def draft(self) -> tuple[Model, Guide]:
        """The programs that were kept, to go on from a state after the draft."""
        assert self._draft is not None
        return self._draft

    def restart(self, why: str) -> None:
        """Puts the training so far aside."""
        self.rows = []
        self._restarts += 1

    def stop(self) -> None:
        """Called when the training, or one before a restart, has ended."""


class Outcome(NamedTuple):
    """How a training ended.

    Attributes:
        trainer: makes programs of the state.
        state: after the last step taken.
        collapsed: what is wrong with the training, or None.
        restarting: whether it has to be started again with another seed.
        signum: number of the signal that ended it, or None.
        is_complete: whether all steps were taken.
    """

    trainer: Trainer
    state: TrainState
    collapsed: str | None
    restarting: bool
    signum: int | None
    is_complete: bool


def train(
    config: Config,
    data: Dataset,
    watched: Mapping[str, Dataset],
    record: Record,
    *,
    report: Callable[[str], None],
    show_progress: bool = True,
    each_row: bool = True,
    callback: Callable[[Row], bool | None] | None = None,
    ends_process: bool = False,
    devices: int | None = None,
    hosts: Hosts | None = None,
    start: tuple[Model, Guide] | None = None,
) -> Outcome:
    """Trains until all steps are taken, a signal arrives, or the callback ends it. A training that
    has collapsed starts again with another seed, as often as the settings allow.

    Args:
        config: of the run, with all settings decided (`airjax.training.resolve`).
        data: to train on.
        watched: data sets that are evaluated on the way; collapse is judged on ``test``.
        record: what is kept, and where training starts.
        report: called with each line about a collapse, a restart or skipped steps.
        show_progress: whether progress is shown on the console.
        each_row: whether each row is a line where the console is no terminal, instead of one a
            minute.
        callback: called with each row of metrics; ends the training by returning True.
        ends_process: whether a second signal ends the process at once.
        devices: number of devices of this host (default: as many as divide mini-batches evenly).
        hosts: the processes, all of which call this; a signal to any of them counts.
        start: programs whose networks the training begins with.

    Raises:
        InputError: if there are not as many devices.
    """
    hosts = hosts or Hosts()
    used = Devices(number_of(devices, config.train.batch_size, hosts.count), hosts)
    with Interrupt(ends_process) as interrupt, in_32_bits():
        signals = Signals(interrupt, hosts)
        while True:
            draft = draft_steps(config, data.regions, start is not None)
            restarted = config.restarted(record.restarts)
            trainer = Trainer(restarted, data.images, None, draft, used, data.source, start)
            progress = TrainingProgress(config.train, each_row)
            try:
                with progress if show_progress else nullcontext() as bar:
                    outcome = _attempt(
                        trainer, data.regions, watched, record, report, callback, signals, bar
                    )
            finally:
                trainer.close()
                record.stop()
            if not outcome.restarting or outcome.collapsed is None:
                return outcome
            record.restart(outcome.collapsed)
            seed, most = config.restarted(record.restarts).train.seed, config.tries.restarts
            report(f"starting again with seed {seed} (restart {record.restarts} of at most {most})")
            if outcome.signum is not None:
                return outcome


class Signals:
    """Signals to any of the processes. All hear of them at the same moments: when they call
    `arrived` or `noted`.

    Attributes:
        signum: number of the first signal, or None.
    """

    def __init__(self, interrupt: Interrupt, hosts: Hosts):
        self.interrupt, self.hosts = interrupt, hosts
        self.signum: int | None = None

    def arrived(self) -> bool:
        """Whether there was a signal; asked within a chunk."""
        return self._agreed(self.interrupt.signum if self.interrupt.arrived() else None)

    def noted(self) -> bool:
        """Whether there was a signal; asked after a chunk."""
        return self._agreed(self.interrupt.signum)

    def _agreed(self, signum: int | None) -> bool:
        self.signum = self.signum or self.hosts.any(signum)
        return self.signum is not None


def _attempt(
    trainer: Trainer,
    regions: Sequence[Region],
    watched: Mapping[str, Dataset],
    record: Record,
    report: Callable[[str], None],
    callback: Callable[[Row], bool | None] | None,
    signals: Signals,
    bar: TrainingProgress | None,
) -> Outcome:
    """One training, until it ends or has to be started again."""
    config, state = trainer.config, record.start(trainer)
    steps = config.train.num_steps
    last = record.rows[-1] if record.rows else {"skipped_steps": 0, "seconds": 0.0}
    skipped, seconds = last["skipped_steps"], last["seconds"]
    collapsed = collapse(record.rows, config, trainer.draft) if record.rows else None
    reported, restarting, ended = False, False, False

    def started(step: int, each: float) -> None:
        left = each * (steps - step)
        if left > LONG:
            report(f"training will take about {duration(left)}; {faster(config)}")

    anew = partial(_begin_anew, trainer, regions, record, report, signals)
    drafted = int(state.step) > trainer.draft > 0
    if trainer.begun and uses_whole_objects(config, regions):
        drafted = True
        if int(state.step) == 0:
            record.keep_draft(*trainer.programs(state))
    if drafted and not _use_whole_objects(trainer, regions, record, signals):
        return Outcome(trainer, state, collapsed, False, signals.signum, False)
    for after, row in trainer.run(state, watched, seconds, started, signals.arrived, anew):
        state = after
        if row is None:  # within a chunk
            record.save(state)
            break
        step = row["step"]
        record.add(trainer, state, row)
        if bar is not None:
            bar.show(row)
        if row["skipped_steps"] > skipped:
            report(f"step {step}: skipped {row['skipped_steps'] - skipped} non-finite steps")
            skipped = row["skipped_steps"]
        collapsed = collapse(record.rows, config, trainer.draft)
        if collapsed is not None and not reported:
            reported, restarting = True, record.restarts < config.tries.restarts
            report(f"step {step}: collapsed: {collapsed}")
            if not restarting:
                advice = remedy(config, np.asarray(trainer.images))
                report(f"no restart is left: the training continues; what may mend it: {advice}")
        hosts = trainer.devices.hosts
        ended = callback is not None and hosts.any(callback(row) is True) is not None
        if restarting and not ended:
            break
        ended = ended or (step < steps and signals.noted())
        if ended or step == steps or step % config.progress.save_every == 0:
            record.save(state)
        if ended:
            break
    restarting = restarting and not ended
    complete = int(state.step) == steps and not restarting
    signals.noted()
    return Outcome(trainer, state, collapsed, restarting, signals.signum, complete)


def _begin_anew(
    trainer: Trainer,
    regions: Sequence[Region],
    record: Record,
    report: Callable[[str], None],
    signals: Signals,
    state: TrainState,
) -> TrainState | None:
    """The state before the first step on crops of whole objects, from that at the end of the
    draft; None if a signal arrived."""
    record.keep_draft(*trainer.programs(state))
    report(f"step {int(state.step)}: the training begins anew, on crops without the objects that "
           "their border cuts")  # fmt: skip
    if not _use_whole_objects(trainer, regions, record, signals):
        return None
    return trainer.init()._replace(step=state.step, skipped_steps=state.skipped_steps)


def _use_whole_objects(
    trainer: Trainer, regions: Sequence[Region], record: Record, signals: Signals
) -> bool:
    """Changes the images of a training to crops of whole objects; False if a signal arrived."""
    hosts, made = trainer.devices.hosts, dict[str, np.ndarray]()
    if hosts.is_first:  # the others wait in `shared`
        stopped = signals.arrived if hosts.count == 1 else signals.interrupt.arrived
        crops = crops_of_whole_objects(*record.draft(), regions, len(trainer.images), stopped)
        if crops is not None:
            made = {"images": crops.images, "most": np.array(crops.most)}
    made = hosts.shared(made)
    if made:
        trainer.use(made["images"], int(made["most"]))
    return bool(made)


def faster(config: Config) -> str:
    """What would make a training shorter, as the end of a sentence."""
    side = min(config.model.image_size)
    ways = [f"fewer steps (--steps, now {config.train.num_steps})"]
    if config.pictures.crop is not None:
        ways.append(f"smaller crops (--crop, now {side})")
    elif config.model.scale_prior_mean >= WIDE:  # objects are small beside the images
        ways.append("crops of the pictures (--crop)")
    if config.model.model_steps > 3:
        ways.append(f"fewer objects an image (--max-objects, now {config.model.model_steps})")
    return f"{', '.join(ways)} would make it shorter"
