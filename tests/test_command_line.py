"""The command line on tyro's subcommands: order of arguments, files of settings, the newest run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import mistake

from airjax.cli.main import COMMANDS, main
from airjax.cli.options import FIRST, GROUPS, PART_OF
from airjax.config import Config, TrainConfig
from airjax.training.runs import Run

FLAGS = (
    "--steps 20 --batch-size 4 --progress-every 5 --eval-every 10 --save-every 10 "
    "--window-size 3 --encoder-latent-size 2 --rnn-hidden-size 4 --predict-net 4 "
    "--encoder-net 4 --decoder-net 4 --embed-net 4 --embed-channels 2"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a file of images."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6)).astype(np.uint8)
    np.savez("images.npz", images=images, counts=np.arange(20, dtype=np.int32) % 2)
    return tmp_path


@pytest.mark.slow  # trains
def test_pictures_stand_before_or_behind_the_flags(folder):
    main(f"train images.npz --max-objects 1 --out a {FLAGS}".split())
    main(f"train --model-steps 1 --out b {FLAGS} images.npz".replace("--embed-net 4", "").split())
    main(f"train --data images.npz -t 1 --out c {FLAGS}".split())
    a, b, c = (Run.open(folder / name).config for name in "abc")
    assert a == c and a.model.model_steps == b.model.model_steps == 1
    assert a.train.data == b.train.data == str(Path("images.npz").absolute())


@pytest.mark.slow
def test_settings_from_a_file(folder):
    main(f"train images.npz --max-objects 1 --out a {FLAGS}".split())
    main(["train", "--config", "a/config.json", "--out", "same"])
    assert Run.open(folder / "same").config == Run.open(folder / "a").config
    same = (folder / "same/model/weights.safetensors").read_bytes()
    assert same == (folder / "a/model/weights.safetensors").read_bytes()
    main(["train", "--config", "a/config.json", "--seed", "3", "--out", "other"])
    assert Run.open(folder / "other").config.train.seed == 3
    settings = "# mine\ntrain:\n  data: images.npz\n  steps: 10\nanneal: {anneal_prior_to: 1e-7}\n"
    (folder / "mine.yaml").write_text(settings + "pictures:\n  invert: no\n")
    flags = FLAGS.replace("--steps 20", "")
    main(f"train --config mine.yaml --out yaml {flags}".split())
    config = Run.open(folder / "yaml").config
    assert (config.train.steps, Path(config.train.data).name) == (10, "images.npz")
    assert (config.anneal.anneal_prior_to, config.pictures.invert) == (1e-7, "no")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--config cannot be read (No such file or directory), got mine.yaml"),
        ("train: {steps: 0}", "mine.yaml: steps must be at least 1, got 0"),
        ("train: {stps: 1}", "mine.yaml must hold the settings of a run: "),
        ("train: [1", "mine.yaml must be YAML: "),
        ("- 1", "mine.yaml must hold the settings of a run: "),
        ("train: {steps: 2.5}", "mine.yaml must hold the settings of a run: must be int, got 2.5"),
    ],
)
def test_a_wrong_file_of_settings(content, message, folder, capsys):
    if content is not None:
        (folder / "mine.yaml").write_text(content)
    assert mistake("train images.npz --config mine.yaml --out run", capsys).startswith(message)
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_the_newest_run_is_last(folder, capsys):
    assert mistake("evaluate last", capsys) == (
        "RUN must be the folder of a run: runs/ has none, got last"
    )
    for seed in (1, 2):
        main(f"train images.npz --seed {seed} --out runs/seed{seed} {FLAGS}".split())
        os.utime(f"runs/seed{seed}/config.json", (seed, seed))
    Run.create(Config(TrainConfig(data="images.npz", steps=50)), folder / "runs/begun")
    os.utime("runs/begun/config.json", (1.5, 1.5))
    capsys.readouterr()
    main(["evaluate", "last", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((folder / "runs/seed2/evaluation.json").read_text())
    assert "must be a run that is not finished" in mistake("train --resume last", capsys)
    main(["runs"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if ".npz" in line]
    assert [line[1] for line in lines] == ["seed1", "begun", "seed2"]
    assert lines[0][3:].count("finished") == 1 and lines[1][-2] == "stopped"
    assert " ".join(lines[0]).count("20 of 20") == 1 and " ".join(lines[1]).count("0 of 50") == 1
    with Run.open(folder / "runs/begun").locked():
        main(["runs", "runs"])
    assert "training" in capsys.readouterr().out
    (folder / "last").mkdir()  # a run of this name comes first
    (folder / "last/config.json").write_text("{}")
    assert "model" in mistake("evaluate last", capsys)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --step 3", "Unrecognized options: --step, 3; perhaps you meant --steps"),
        ("train --max-object 3", "Unrecognized options: --max-object, 3; perhaps you meant "
         "--max-objects"),
        ("evaluate run --num-path 3", "Unrecognized options: --num-path, 3; perhaps you meant "
         "--num-paths"),
        ("trian", "got trian; perhaps you meant train"),
        ("train --xyz", "Unrecognized options: --xyz"),
    ],
)  # fmt: skip
def test_a_mistyped_word_gets_a_suggestion(line, message, capsys):
    assert mistake(line, capsys).endswith(message)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_commands_and_flags(shell, capsys):
    with pytest.raises(SystemExit) as end:
        main(["completion", shell])
    out = capsys.readouterr().out
    assert not end.value.code and "--max-objects" in out and "import-pyro" in out


def test_the_package_is_a_program():
    line = [sys.executable, "-m", "airjax", "--version"]
    out = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert out.startswith("airjax 0.")


def test_help_has_first_what_users_need(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    assert "usage: airjax train [-h] [TRAIN OPTIONS] PICTURES" in out
    titles = ("positional arguments", "options", "training options", "model options",
              "network options", "paper options")  # fmt: skip
    places = [re.search(rf"^\W+{title}\W*$", out, re.MULTILINE).start() for title in titles]
    assert places == sorted(places)
    first = out[places[1] : places[2]]
    assert all(flag in first for flag in ("--max-objects", "--background", "--object-size"))
    assert 15 <= len(re.findall(r"^\W{1,2}-{1,2}\w", first, re.MULTILINE)) <= 25


def test_every_setting_is_a_flag_of_one_group():
    grouped = [*FIRST, *(name for _, *names in GROUPS.values() for name in names)]
    from_data = {
        "image_size",
        "channels",
        "data",
        "levels",
        "local_background",
        "lines",
        "white_of_type",
        "anew",  # of ready models alone
    }
    assert sorted(grouped) == sorted(set(PART_OF) - from_data)


def test_data_has_the_settings_of_its_kind(folder, capsys):
    """Whatever else is called like a data set."""
    (folder / "sprites").mkdir()
    main(["data", "--data-dir", "sprites", "digits", "digits.npz", "--num-scenes", "5"])
    main(["data", "sprites", "sprites.npz", "--num-scenes", "5", "--width", "70"])
    with np.load("digits.npz") as digits, np.load("sprites.npz") as sprites:
        assert digits["images"].shape == (5, 50, 50)
        assert sprites["images"].shape == (5, 64, 70, 3)


def test_another_platform_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "runs on Linux and macOS; on Windows, use WSL" in mistake("train", capsys)
    assert set(COMMANDS) > {"train", "runs"}
