"""Training on several CPU devices, as many as JAX is asked for, in a process of its own."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from airjax.errors import InputError
from airjax.training.devices import Devices, number_of

SCRIPT = """
import json, sys
from pathlib import Path
import jax, numpy as np
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.training import loop
from airjax.training.record import RunRecord
from airjax.training.runs import Run
from conftest import TINY

images = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
data = Dataset(images)
train = TrainConfig(data="none", steps=20, batch_size=8)
config = Config(train, TINY, progress=ProgressConfig(10, 10, 10))

def trained(name, *parts):
    # parts of a run: the steps after which it is stopped, and the number of devices
    run = Run.create(config, Path(sys.argv[1]) / name)
    for last, devices in parts:
        stop = lambda row: row["step"] == last
        outcome = loop.train(config, data, {"test": data}, RunRecord(run, data), report=print,
                             show_progress=False, callback=stop, devices=devices)
    assert outcome.is_complete and int(outcome.state.step) == 20
    model, guide = outcome.trainer.programs(outcome.state)
    leaves = jax.tree.leaves((model.decoder, guide.networks))
    assert all(leaf.devices() == {jax.local_devices()[0]} for leaf in leaves)
    weights = np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist()
    where = len(outcome.state.svi.rng_key.sharding.device_set)
    program = outcome.trainer.compiled(outcome.state).as_text()
    assert ("all-reduce" in program) == (where > 1)  # gradients of shares are added up
    return {"devices": where, "weights": weights, "elbo": [row["elbo"] for row in run.rows()]}

results = {
    "one": trained("one", (20, 1)), "four": trained("four", (20, 4)),
    "all": trained("all", (20, None)),
    "moved": trained("moved", (10, 1), (20, 4)), "back": trained("back", (10, 4), (20, 1)),
}
print(json.dumps(results))
"""


@pytest.mark.slow
def test_devices_change_a_training_by_rounding_alone(tmp_path):
    """The seed is the same. Two runs are stopped and resumed with another number of devices."""
    here = os.path.dirname(__file__)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": here}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    numbers = {name: result["devices"] for name, result in results.items()}
    assert numbers == {"one": 1, "four": 4, "all": 4, "moved": 4, "back": 1}
    one = results["one"]
    for result in results.values():
        np.testing.assert_allclose(result["weights"], one["weights"], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(result["elbo"], one["elbo"], rtol=1e-4)


def test_the_number_of_devices(monkeypatch):
    assert number_of(None, 64) == number_of(1, 64) == 1 and Devices().mesh is None
    monkeypatch.setattr(jax, "local_device_count", lambda: 6)
    assert number_of(None, 64) == 4 and number_of(None, 9) == 3 and number_of(2, 64) == 2
    with pytest.raises(InputError, match="devices must divide the batch size, 64, got 6"):
        number_of(6, 64)
    for wrong in (0, 7):
        with pytest.raises(InputError, match=f"devices must be 1 to 6, .*, got {wrong}"):
            number_of(wrong, 64)


def test_a_wrong_number_of_devices_is_reported_before_any_work(tmp_path, monkeypatch, capsys):
    from airjax.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["train", "digits", "--devices", "3"])
    assert "--devices must be 1 to 1, the devices here, got 3" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
