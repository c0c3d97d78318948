"""Training on streamed images in processes of its own: its memory, and several devices."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from test_session import FLAGS

MEMORY = """
import sys
from airjax.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 3, end.code  # images without objects may be called collapsed
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux tells the peak")
def test_memory_is_bounded(tmp_path):
    """A file of 4.5 GiB (most of it a hole, which reads as black), in 1.5 GiB of memory."""
    path, side, limit = tmp_path / "images.npy", 28, 3 * 2**29
    number = 3 * limit // side**2 + 1
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (number, side, side))
    array[::100, 9:17, 9:17] = 255
    del array
    arguments = ["train", str(path), "--out", str(tmp_path / "run"), *FLAGS.split()]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "4.1 GiB of images" in done.stdout  # nine tenths
    assert int(done.stdout.split()[-1]) * 1024 < limit


DEVICES = """
import json, sys
from pathlib import Path
import jax, numpy as np
from conftest import TINY
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.data import load
from airjax.training import loop

images = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
path = Path(sys.argv[1]) / "images.npy"
np.save(path, images)
data = load(str(path), "train", stream="yes")
config = Config(TrainConfig(steps=20, batch_size=8), TINY, progress=ProgressConfig(10, 10, 10))
found = []
for devices in (1, 4):
    outcome = loop.train(config, data, {}, loop.Record(), report=print, show_progress=False,
                         devices=devices)
    model, guide = outcome.trainer.programs(outcome.state)
    leaves = jax.tree.leaves((model.decoder, guide.networks))
    found.append(np.concatenate([np.ravel(leaf) for leaf in leaves]).tolist())
    shown = outcome.trainer.shown(0)
    assert len(shown.sharding.device_set) == devices
    assert shown.addressable_shards[0].data.shape == (10, 8 // devices, 5, 6)
    outcome.trainer.close()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_several_devices_have_their_shares(tmp_path):
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "4",
        "PYTHONPATH": os.pathsep.join(
            [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", DEVICES, str(tmp_path)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, four = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(one, four, rtol=1e-3, atol=1e-5)
