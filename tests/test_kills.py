"""Runs, runs of several seeds, and predictions that are killed at random moments."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_session import FLAGS, learned, line

from airjax.cli.main import main


@pytest.fixture(scope="module")
def uninterrupted(scenes, tmp_path_factory):
    """A run that nothing interrupted."""
    path = tmp_path_factory.mktemp("whole") / "run"
    main(line(scenes, path))
    return path


@pytest.mark.slow
def test_thirty_kills_lose_nothing(uninterrupted, scenes, tmp_path):
    """SIGKILL at random moments, while saving too; then to the end, with the same result."""
    run, moments = tmp_path / "run", random.Random(0)
    airjax = str(Path(sys.executable).with_name("airjax"))
    start, resume = [airjax, *line(scenes, run)], [airjax, "train", "--resume", str(run)]
    kills, environment = 0, {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    while kills < 30:
        process = subprocess.Popen(
            resume if (run / "config.json").exists() else start, env=environment
        )
        begin = time.monotonic()
        # from the moment that training can have begun: the start alone takes seconds
        while process.poll() is None and time.monotonic() - begin < 60:
            if len(list((run / "checkpoints").glob("*"))) and moments.random() < 0.02:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if (run / "model").exists():  # it was faster: what it made must be right; start over
            assert learned(run) == learned(uninterrupted)
            shutil.rmtree(run)
    if not (run / "model").exists():
        subprocess.run(resume if (run / "config.json").exists() else start, check=True)
    assert learned(run) == learned(uninterrupted)


@pytest.mark.slow
def test_kills_of_several_seeds_lose_nothing(scenes, tmp_path):
    """As above, for a run of two seeds: the seed that is trained, and what is kept."""
    flags = f"{FLAGS} --seeds 2 --restarts 0"
    whole, run, moments = tmp_path / "whole", tmp_path / "run", random.Random(1)
    main(f"train --data {scenes} --out {whole} {flags}".split())
    airjax = str(Path(sys.executable).with_name("airjax"))
    start = [airjax, *f"train --data {scenes} --out {run} {flags}".split()]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    for _ in range(15):
        command = [airjax, "train", "--resume", str(run)] if run.exists() else start
        killed(command, environment, lambda: (run / "seed_0/checkpoints").exists(), moments)
        if (run / "model").exists():
            assert learned(run) == learned(whole)
            shutil.rmtree(run)
    if not (run / "model").exists():
        command = [airjax, "train", "--resume", str(run)] if run.exists() else start
        subprocess.run(command, check=True)
    for seed in ("seed_0", "seed_1", "."):
        assert learned(run / seed) == learned(whole / seed)
    assert (run / "seeds.json").read_text() == (whole / "seeds.json").read_text()
    assert not list(run.rglob("*.tmp"))


@pytest.mark.slow
def test_kills_of_predict_leave_nothing_that_looks_like_a_result(uninterrupted, scenes, tmp_path):
    """SIGKILL at random moments; the retry works, and sweeps."""
    images, moments = np.load(scenes)["images"], random.Random(2)
    (tmp_path / "in").mkdir()
    for i in range(300):
        Image.fromarray(images[i % len(images)]).save(tmp_path / "in" / f"{i:03}.png")
    airjax = str(Path(sys.executable).with_name("airjax"))
    out = tmp_path / "out"
    command = [airjax, *f"predict {uninterrupted} {tmp_path}/in --out {out} --draw".split()]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    kills = 0
    while kills < 10:
        begun = lambda: any(path.name.startswith(".out.") for path in tmp_path.iterdir())  # noqa: E731
        kills += killed(command, environment, begun, moments)
        assert {path.name for path in tmp_path.iterdir() if "out" in path.name} <= {
            "out", *(path.name for path in tmp_path.glob(".out.*.tmp")),
        }  # fmt: skip
        if out.exists():
            assert (out / "counts.csv").read_text().count("\n") == 301
            shutil.rmtree(out)
    subprocess.run(command, check=True)
    assert (out / "counts.csv").read_text().count("\n") == 301
    assert len(list((out / "drawn").iterdir())) == 300
    assert not list(tmp_path.glob(".out.*"))


def killed(command, environment, begun, moments):
    """Whether SIGKILL, at a random moment after ``begun``, ended a command."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    while process.poll() is None and time.monotonic() - begin < 60:
        if begun() and moments.random() < 0.02:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL
