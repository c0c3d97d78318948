"""Training with several processes, which are real: they talk over this machine's own addresses."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from conftest import CACHE, mistake
from test_session import FLAGS, learned, stop_after
from test_stream import Numbered

from airjax.cli.main import main
from airjax.config import TrainConfig
from airjax.errors import InputError
from airjax.storage import ARRAYS
from airjax.training.devices import Devices, number_of
from airjax.training.hosts import Hosts, connect
from airjax.training.stream import Stream

AIRJAX = str(Path(sys.executable).with_name("airjax"))
SCRIPT = """
import json, sys
import airjax.training.hosts as module
hosts = module.connect(**json.loads(sys.argv[1]))
import jax, numpy as np
from conftest import TINY
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.errors import InputError
from airjax.training import loop
from airjax.training.record import SharedRecord
from airjax.data import load

path, lines = sys.argv[2], []
images = np.load(path)
in_memory, streamed = Dataset(images), load(path, "all", stream="yes")
train, progress = TrainConfig("none", steps=20, batch_size=8), ProgressConfig(10, 10, 10)
config = Config(train, TINY, progress=progress)

def trained(data):
    mine = loop.Record() if hosts.is_first else None
    outcome = loop.train(config, data, {"test": in_memory}, SharedRecord(mine, hosts), hosts=hosts,
                         report=lines.append, show_progress=False)
    model, guide = outcome.trainer.programs(outcome.state)
    leaves = jax.tree.leaves((model.decoder, guide.networks))
    where = len(outcome.state.svi.rng_key.sharding.device_set)
    return {"step": int(outcome.state.step), "devices": where, "complete": outcome.is_complete,
            "weights": np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist()}

found = {"memory": trained(in_memory)}
last = hosts.count - 1
if last < 2:
    loop.collapse = lambda rows, config, draft: "bad" if config.train.seed == 0 else None
    found["streamed"] = trained(streamed)  # and starts again with another seed
found["lines"] = lines
sent = {"a": np.arange(5, dtype=np.float32) * (1 - hosts.index), "b": np.zeros((2, 0), np.int32)}
module.PART = 2**11  # as if it were long
found["shared"] = {name: array.tolist() for name, array in hosts.shared(sent).items()}
found["agreed"] = hosts.agreed({"text": "\\u00e9" * 3000, "of": hosts.index})
try:
    if hosts.count == 2:
        hosts.check_same("settings", {"steps": 20, "seed": hosts.index})
    def fail():
        if hosts.index == last:
            raise InputError("data", "must be there", hosts.index)
    hosts.by_all(fail)
except InputError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def environment(**more: str) -> dict[str, str]:
    """Of processes that keep what they compile where other tests do."""
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": str(CACHE), "PYTHONPATH": path} | more


def of_script(count: int, path: Path) -> list[subprocess.Popen]:
    """Processes of the script: two find each other as in a job of Slurm, four get the address."""
    port, started = free_port(), []
    slurm = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
             "JAX_COORDINATOR_PORT": str(port)}  # fmt: skip
    for i in range(count):
        how: dict[str, object] = {}
        more = slurm | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} if count == 2 else {}
        if count == 2:
            how = {"hosts": "auto"}
        elif count > 2:
            how = {"coordinator": f"127.0.0.1:{port}", "process": i, "processes": count}
        command = [sys.executable, "-c", SCRIPT, json.dumps(how), str(path)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, env=environment(**more), text=True, **pipes))
    return started


@pytest.mark.slow
def test_two_and_four_processes_train_as_one(tmp_path):
    """Images in memory; and streamed images, whose training starts again with another seed."""
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    groups = [of_script(count, tmp_path / "images.npy") for count in (1, 2, 4)]
    found = []
    for group in groups:
        for process in group:
            out, err = process.communicate(timeout=1500)
            assert process.returncode == 0 and not err, err
            found.append(json.loads(out.splitlines()[-1]))
    one, *others = found
    assert [each["memory"]["devices"] for each in found] == [1, 2, 2, 4, 4, 4, 4]
    for name, those in {"memory": found, "streamed": found[:3]}.items():
        for each in those:
            assert each[name]["step"] == 20 and each[name]["complete"]
            np.testing.assert_allclose(
                each[name]["weights"], one[name]["weights"], rtol=1e-3, atol=1e-5
            )
    restarts = [line for line in one["lines"] if "restart 1 of" in line]
    assert len(restarts) == 1
    for each in others:
        assert each["lines"] == (one["lines"] if "streamed" in each else [])
        assert each["shared"] == one["shared"] == {"a": [0, 1, 2, 3, 4], "b": [[], []]}
        assert each["agreed"] == {"text": "é" * 3000, "of": 0}
    differ = "processes must have the same settings as process 0; these differ: seed (in process 1)"
    assert [each["error"] for each in others[:2]] == [differ] * 2
    assert {each["error"] for each in others[2:]} == {"data must be there (in process 3), got 3"}


class Together:
    """The processes of a training by the command line."""

    def __init__(self, count: int, folder: Path, arguments: str):
        port = free_port()
        self.logs = [folder / f"{port}-{i}" for i in range(count)]
        self.processes = []
        for i, log in enumerate(self.logs):
            how = f"--coordinator 127.0.0.1:{port} --process {i} --processes {count}"
            with open(f"{log}.out", "w") as out, open(f"{log}.err", "w") as err:
                command = [AIRJAX, *f"train {arguments} {how}".split()]
                started = subprocess.Popen(command, env=environment(), stdout=out, stderr=err)
            self.processes.append(started)

    def after_a_checkpoint(self, run: Path, who: int, signum: int) -> None:
        """Sends a signal to one of them, when there is a new checkpoint."""
        begun = set(run.glob("checkpoints/step_*"))
        while not set(run.glob("checkpoints/step_*")) - begun:
            assert all(process.poll() is None for process in self.processes), self.errors()
            time.sleep(0.1)
        self.processes[who].send_signal(signum)

    def statuses(self, timeout: float) -> list[int]:
        end = time.monotonic() + timeout
        return [process.wait(max(0.1, end - time.monotonic())) for process in self.processes]

    def errors(self) -> list[str]:
        return [Path(f"{log}.err").read_text() for log in self.logs]


def status(line: str) -> int | None:
    """The exit status of a command in this process; None at its end."""
    try:
        main(line.split())
    except SystemExit as end:
        return int(end.code or 0)
    return None


@pytest.mark.slow
def test_a_run_survives_signals_and_kills_with_any_number_of_processes(scenes, tmp_path):
    """Two, of which one gets SIGTERM; one, that is stopped; four, of which one is killed; two, of
    which process 0 is killed; and one, that completes it as if nothing had been."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    flags = f"{FLAGS} --steps 400 --restarts 0"
    ended = status(f"train {scenes} --out {whole} {flags}")
    together = Together(2, tmp_path, f"{scenes} --out {run} {flags}")
    together.after_a_checkpoint(run, 1, signal.SIGTERM)
    assert together.statuses(300) == [128 + signal.SIGTERM] * 2
    assert together.errors() == ["", ""]
    assert stop_after(2, ["train", "--resume", str(run)]) == 128 + signal.SIGTERM
    for count, who in ((4, 2), (2, 0)):
        together = Together(count, tmp_path, f"--resume {run}")
        together.after_a_checkpoint(run, who, signal.SIGKILL)
        assert together.statuses(60) == [-9 if i == who else 4 for i in range(count)]
        errors = together.errors()
        assert errors.pop(who) == ""
        for error in errors:
            assert error.count("\n") == 1 and "another process of this training has ended" in error
            assert f"to continue: airjax train --resume {run} --coordinator" in error
    assert status(f"train --resume {run}") == ended
    assert [row["step"] for row in learned(run)[1]] == [row["step"] for row in learned(whole)[1]]
    for name, array in weights(whole).items():
        np.testing.assert_allclose(weights(run)[name], array, rtol=1e-3, atol=1e-4)


def weights(run: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(run / "model" / ARRAYS["model"])


# without other processes


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--hosts maybe", "--hosts must be auto, got maybe"),
        ("--process 1", "--process must come with the address of process 0"),
        ("--processes 2", "--processes must come with the address of process 0"),
        ("--coordinator a:1", "--process must be given with --coordinator"),
        ("--coordinator a:1 --process 0", "--processes must be given with --coordinator"),
        ("--coordinator a --process 0 --processes 2", "--coordinator must be HOST:PORT"),
        ("--coordinator a:0 --process 0 --processes 2", "--coordinator must be HOST:PORT"),
        ("--coordinator a:1 --process 2 --processes 2", "--process must be 0 to 1, as there are 2"),
        ("--coordinator a:1 --process 0 --processes 0", "--processes must be at least 1, got 0"),
        ("--coordinator a:1 --hosts auto", "--hosts must be left out where --coordinator is given"),
    ],
)
def test_flags_that_contradict_each_other(flags, message, capsys):
    assert mistake(f"train digits {flags}", capsys).startswith(message)


def test_connecting_comes_first():
    assert jax.devices()  # from here on, JAX is in use
    with pytest.raises(InputError, match="hosts must be connected before JAX is used"):
        connect("auto")
    assert sys.stderr is not None and os.write(2, b"") == 0


def test_a_port_that_is_taken():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(InputError, match="coordinator must have a port that is free here"):
            connect(coordinator=address, process=0, processes=2)


def test_one_process_needs_no_others():
    assert connect().count == 1
    alone = Hosts()
    assert alone.is_first and alone.agreed("x") == "x" and alone.of_first(3) == 3
    assert alone.any(None) is None and alone.any(15) == 15
    assert alone.by_first(lambda: 1) == 1 and alone.shared({}) == {}
    alone.check_same("settings", {"a": 1})
    with pytest.raises(InputError, match="batch_size must be at least 1"):
        alone.by_all(lambda: TrainConfig(batch_size=0))


def test_devices_of_each_process_divide_its_share(monkeypatch):
    monkeypatch.setattr(jax, "local_device_count", lambda: 4)
    assert number_of(None, 64, 2) == 4 and number_of(None, 6, 2) == 3 and number_of(2, 12, 3) == 2
    with pytest.raises(InputError, match="processes must divide the batch size, 64, got 3"):
        number_of(None, 64, 3)
    with pytest.raises(InputError, match="devices must divide the batch size, 3 in each of 2 proc"):
        number_of(2, 6, 2)


def test_processes_read_shares_of_each_mini_batch():
    shares = []
    for index in range(2):
        devices = Devices()
        devices.hosts = Hosts(index, 2)
        read = Stream(Numbered(), 8, 3, 4, devices)
        shares.append(np.concatenate([np.asarray(read.at(step))[0] for step in (0, 1, 7)]).ravel())
        read.close()
    read = Stream(Numbered(), 8, 3, 4, Devices())
    whole = np.stack([np.asarray(read.at(step))[0] for step in (0, 1, 7)]).reshape(3, 8)
    read.close()
    both = np.concatenate([share.reshape(3, 4) for share in shares], axis=1)
    assert both.tolist() == whole.tolist()
