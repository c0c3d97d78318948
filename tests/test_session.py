"""Runs that are interrupted, killed or damaged, and go on as if nothing had been."""

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import TINY

from airjax import storage
from airjax.cli.main import main
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.errors import InputError
from airjax.interrupt import Interrupt
from airjax.storage import ARRAYS
from airjax.training import loop
from airjax.training.checkpoint import Checkpoints
from airjax.training.runs import Run
from airjax.training.trainer import Trainer

FLAGS = (
    "--steps 40 --batch-size 8 --progress-every 5 --eval-every 10 --save-every 10 "
    "--model-steps 2 --window-size 6 --encoder-latent-size 3 --rnn-hidden-size 8 --predict-net 5 "
    "--bl-predict-net 5 --encoder-net 5 --decoder-net 5 --embed-net 5 --embed-channels 2"
)


def line(scenes, run, estimator="count"):
    return f"train --data {scenes} --out {run} --estimator {estimator} {FLAGS}".split()


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """A run that nothing interrupted, of an estimator."""
    runs = {}

    def made(estimator):
        if estimator not in runs:
            runs[estimator] = tmp_path_factory.mktemp("whole") / "run"
            main(line(scenes, runs[estimator], estimator))
        return runs[estimator]

    return made


def learned(run):
    """What must not depend on interruptions: the weights, and the metrics but for the clock's."""
    clock = {"seconds", "images_per_second", "compile_seconds"}
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{k: v for k, v in row.items() if k not in clock} for row in rows]
    return (run / "model" / ARRAYS["model"]).read_bytes(), rows


class InterruptedAfter(Interrupt):
    """As if a signal came in the chunk after the first ``left``."""

    left: int

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    @property
    def signum(self):
        InterruptedAfter.left -= 1  # of the process, not of a training
        return signal.SIGTERM if self.left < 0 else None


def stop_after(chunks, arguments):
    """The exit status of a run that is interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterruptedAfter, "left", chunks, raising=False)
        patch.setattr(loop, "Interrupt", InterruptedAfter)
        with pytest.raises(SystemExit) as end:
            main(arguments)
    return end.value.code


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["count", "score"])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    estimator, whole, scenes, tmp_path, capsys
):
    run = tmp_path / "run"
    assert stop_after(2, line(scenes, run, estimator)) == 128 + signal.SIGTERM
    assert (
        "stopped at step 15, everything is saved: airjax train --resume" in capsys.readouterr().out
    )
    assert not (run / "model").exists()
    main(["train", "--resume", str(run)])
    assert "continuing from step 15" in capsys.readouterr().out
    assert learned(run) == learned(whole(estimator))
    with pytest.raises(SystemExit):
        main(["train", f"--resume={run}"])
    assert "--resume must be a run that is not finished" in capsys.readouterr().err


@pytest.mark.slow  # compiles much
def test_the_two_newest_checkpoints_are_kept(whole):
    folders = Checkpoints(whole("count") / "checkpoints").folders()
    assert [int(folder.name[5:]) for folder in folders] == [30, 40]


@pytest.fixture(scope="module")
def stopped_once(scenes, tmp_path_factory):
    """A run interrupted with checkpoints at 20 and 25."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    stop_after(4, line(scenes, run))
    return run


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A copy of that run."""
    return shutil.copytree(stopped_once, tmp_path / "run")


@pytest.mark.slow  # compiles much
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(stopped, whole, capsys):
    newest = Checkpoints(stopped / "checkpoints").folders()[-1] / ARRAYS["checkpoint"]
    content = newest.read_bytes()
    newest.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    (stopped / "checkpoints" / ".step_00000030.1.tmp").mkdir()  # of a killed save
    capsys.readouterr()
    main(["train", "--resume", str(stopped)])
    out = capsys.readouterr().out
    assert f"{newest} is damaged" in out and "continuing from step 20" in out
    assert learned(stopped) == learned(whole("count"))
    assert not list((stopped / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("all_are", "first"), [(False, 20), (True, 0)])
def test_a_damaged_checkpoint_is_put_aside_and_its_step_saved_again(
    all_are, first, stopped, whole, capsys
):
    kept = Checkpoints(stopped / "checkpoints")
    damaged = [folder.name for folder in kept.folders()[0 if all_are else -1 :]]
    for name in damaged:
        (kept.path / name / ARRAYS["checkpoint"]).write_bytes(b"")
    assert stop_after(0, ["train", "--resume", str(stopped)]) == 128 + signal.SIGTERM
    assert f"continuing from step {first}\n" in capsys.readouterr().out
    aside = [path.name for path in kept.path.glob("damaged_*")]
    assert sorted(aside) == [f"damaged_{name}_0" for name in damaged]
    main(["train", "--resume", str(stopped)])
    assert f"continuing from step {first + 5}\n" in capsys.readouterr().out
    assert learned(stopped) == learned(whole("count"))


@pytest.mark.parametrize(("change", "age"), [(1, "a newer"), (-1, "an unreleased, older")])
def test_a_checkpoint_of_another_format_is_refused_and_left_alone(change, age, stopped, capsys):
    path = Checkpoints(stopped / "checkpoints").folders()[-1] / storage.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": storage.FORMAT + change}))
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        main(["train", "--resume", str(stopped)])
    assert end.value.code == 2 and f"was written by {age} airjax" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


def test_a_run_of_a_version_with_another_optimiser_is_refused_and_left_alone(stopped, capsys):
    folder = Checkpoints(stopped / "checkpoints").folders()[-1]
    arrays, about = storage.read(folder, "checkpoint")
    shutil.rmtree(folder)
    other = {name.replace(".z.", ".mu."): array for name, array in arrays.items()}
    assert set(other) != set(arrays)
    storage.write(folder, "checkpoint", other, about)
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        main(["train", "--resume", str(stopped)])
    message = f"{folder} must be of a version of airjax that trains as this one does"
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seed 5 --batch-size 9", "these differ: batch_size (8 and 9), seed (0 and 5)"),
        ("--encoder-net 5 6", "these differ: encoder_net ((5,) and (5, 6))"),
        ("--out elsewhere", "--out must be left out where a run is resumed, got elsewhere"),
    ],
)
def test_a_run_is_resumed_with_its_own_settings(flags, message, stopped, capsys):
    with pytest.raises(SystemExit) as end:
        main(["train", "--resume", str(stopped), *flags.split()])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_second_process_is_refused(stopped, capsys):
    with Run.open(stopped).locked(), pytest.raises(SystemExit) as end:
        main(["train", "--resume", str(stopped)])
    assert end.value.code == 2
    assert "--resume must not be in use: another process trains there" in capsys.readouterr().err


def test_a_second_process_is_refused_whatever_became_of_the_settings_file(stopped, capsys):
    """An editor, or a copy, gives config.json a new inode."""
    with Run.open(stopped).locked(), pytest.raises(SystemExit):
        shutil.copy(stopped / "config.json", stopped / "copy")
        (stopped / "copy").replace(stopped / "config.json")
        main(["train", "--resume", str(stopped)])
    assert "--resume must not be in use" in capsys.readouterr().err


@pytest.mark.slow  # compiles much
def test_a_lock_holds_for_all_seeds_of_a_run(scenes, tmp_path, capsys):
    run = tmp_path / "run"
    stop_after(2, [*line(scenes, run), "--seeds", "2"])
    # the hint names the whole run, not the seed that was interrupted
    assert f"everything is saved: airjax train --resume {run}\n" in capsys.readouterr().out
    part = Run.open(run / "seed_0")
    assert part.whole == run and part.state == "stopped"
    with Run.open(run).locked(), pytest.raises(SystemExit):
        assert part.state == "training"
        main(["train", "--resume", str(part.path)])
    assert "--resume must not be in use" in capsys.readouterr().err
    (part.path / ".metrics.jsonl.1.tmp").write_text("")  # of a process that was killed
    main(["train", "--resume", str(run)])
    assert Run.open(run).is_finished and not list(run.rglob(".*.tmp"))


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    config = Config(TrainConfig(steps=20, batch_size=2), TINY, progress=ProgressConfig())
    images = np.zeros((4, 5, 6), np.uint8)
    trainer = Trainer(config, images)
    state = trainer.init()
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(state, config)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"step_00000007 cannot be written \(No space left"):
        checkpoints.save(state._replace(step=np.array(7)), config)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    again, damaged = checkpoints.newest(state)
    assert int(again.step) == 0 and damaged == []


# signals


def test_a_signal_is_noted():
    before = signal.getsignal(signal.SIGTERM)
    with Interrupt() as interrupt:
        assert interrupt.signum is None
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while interrupt.signum is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert interrupt.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGUSR1])
def test_a_lost_terminal_and_slurms_warning_are_noted(signum):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signum)
        deadline = time.monotonic() + 10
        while interrupt.signum is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert interrupt.signum == signum


def test_a_signal_that_the_process_ignores_stays_ignored():
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
            assert interrupt.signum is None
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            assert interrupt.signum == signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, former)


def test_in_an_interpreter_a_second_signal_changes_nothing():
    with Interrupt(ends_process=False) as interrupt:
        for signum in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), signum)
            time.sleep(0.1)
        assert interrupt.signum == signal.SIGINT


def test_a_signal_in_the_last_steps_of_a_seed_ends_the_run_too(scenes, tmp_path, capsys):
    run = tmp_path / "run"
    assert stop_after(7, [*line(scenes, run), "--seeds", "2"]) == 128 + signal.SIGTERM
    assert (run / "seed_0" / "model").exists() and not (run / "seed_1").exists()


def test_names_are_shown_as_they_are(scenes, tmp_path, capsys):
    run = tmp_path / "sweep[lr]"
    stop_after(0, line(scenes, run))
    assert f"airjax train --resume {shlex.quote(str(run))}" in capsys.readouterr().out


def test_a_second_signal_ends_the_process_at_once():
    """While compiled code runs, too: here a C function that holds no lock and does not return."""
    program = (
        "import ctypes\n"
        "from airjax.interrupt import Interrupt\n"
        "with Interrupt():\n"
        "    print('ready', flush=True)\n"
        "    while True: ctypes.CDLL(None).sleep(1000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    sent = 0
    while process.poll() is None and sent < 200:  # two that come at once are one to it
        process.send_signal(signal.SIGINT)
        sent += 1
        time.sleep(0.3)
    assert process.wait(timeout=20) == 130 and sent >= 2
    process.stdout.close()


def test_a_second_signal_leaves_the_cursor_visible():
    """On a terminal, where a progress bar hides it."""
    program = (
        "import ctypes\n"
        "from airjax.config import TrainConfig\n"
        "from airjax.console import TrainingProgress\n"
        "from airjax.interrupt import Interrupt\n"
        "with Interrupt(), TrainingProgress(TrainConfig(steps=9)):\n"
        "    print('ready', flush=True)\n"
        "    while True: ctypes.CDLL(None).sleep(1000)\n"
    )
    terminal, side = pty.openpty()
    environment = os.environ | {"TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=side, stdout=side, stderr=side, env=environment
    )
    os.close(side)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 4096) if select.select([terminal], [], [], 0.3)[0] else b""
        except OSError:  # the process has ended, and all of it was read
            break
        if b"ready" in shown and process.poll() is None:
            process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    os.close(terminal)
    assert shown.count(b"\x1b[?25l") == 1 and shown.rstrip().endswith(b"\x1b[?25h")
