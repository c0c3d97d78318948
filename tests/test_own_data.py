"""A run knows its own images, wherever they are; and the environment that it was begun in."""

import json
import shutil

import numpy as np
import pytest
from conftest import mistake
from test_files import SMALL
from test_folder import saved
from test_session import FLAGS, learned, stop_after

from airjax.cli.main import main
from airjax.training.runs import Run


@pytest.fixture
def run(pictures, tmp_path):
    main(f"train {pictures} --out {tmp_path}/run {SMALL}".split())
    return tmp_path / "run"


def settings(line, capsys):
    capsys.readouterr()
    main([*line.split(), "--json"])
    return json.loads(capsys.readouterr().out)["settings"]


def more(folder, number):
    """Adds pictures."""
    for i in range(number):
        saved(folder / f"more{i}.png", np.full((10, 12), 20 * i, np.uint8))


@pytest.mark.slow  # compiles much
def test_evaluate_knows_the_runs_own_pictures_by_any_path(run, pictures, tmp_path, capsys):
    own = settings(f"evaluate {run}", capsys)
    assert (own["part"], own["n"]) == ("test", 1)
    shutil.copytree(pictures, tmp_path / "copy")
    (tmp_path / "link").symlink_to(pictures, target_is_directory=True)
    for path in (pictures, tmp_path / "copy", tmp_path / "link"):
        found = settings(f"evaluate {run} --data {path}", capsys)
        assert (found["part"], found["n"]) == ("test", 1)


def test_evaluate_does_not_take_other_pictures_for_the_runs_own(
    run,
    pictures,
    tmp_path,
    monkeypatch,
    capsys,
):
    more(pictures, 8)
    message = mistake(f"evaluate {run}", capsys)
    assert message.startswith("--data must be given: the images that the run was started with have")
    assert mistake(f"plot {run}", capsys) == message
    found = settings(f"evaluate {run} --data {pictures}", capsys)
    assert (found["part"], found["n"]) == ("all", 20)


def test_another_folder_of_the_same_name_is_another(run, tmp_path, monkeypatch, capsys):
    """A path in the settings means the same folder from every working directory."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "pictures").mkdir(parents=True)
    more(elsewhere / "pictures", 12)
    monkeypatch.chdir(elsewhere)
    assert settings(f"evaluate {run}", capsys)["n"] == 1
    assert settings(f"evaluate {run} --data pictures", capsys)["part"] == "all"


def test_plot_of_other_images_leaves_the_runs_figure(run, tmp_path, capsys):
    (tmp_path / "others").mkdir()
    more(tmp_path / "others", 3)
    before = (run / "figures/reconstructions.png").read_bytes()
    for _ in range(2):
        main(f"plot {run} --data {tmp_path}/others".split())
    assert (run / "figures/reconstructions.png").read_bytes() == before
    drawn = {path.name for path in (run / "figures").glob("reconstructions-*")}
    assert drawn == {"reconstructions-others.png", "reconstructions-others-2.png"}
    main(f"plot {run}".split())
    assert len(list((run / "figures").glob("reconstructions-*"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["", "--seeds 2"])
def test_a_run_goes_on_from_anywhere_and_where_its_pictures_have_moved(
    seeds,
    pictures,
    tmp_path,
    monkeypatch,
    capsys,
):
    monkeypatch.chdir(tmp_path)
    main(f"train pictures --out whole {seeds} {FLAGS}".split())
    stop_after(2, f"train pictures --out run {seeds} {FLAGS}".split())
    (tmp_path / "far").mkdir()
    monkeypatch.chdir(tmp_path / "far")
    stop_after(1, ["train", "--resume", "../run"])  # a relative path, another directory
    pictures.rename(tmp_path / "moved")
    message = mistake("train --resume ../run", capsys)
    assert "where images have moved, give --data with their new place" in message
    more(tmp_path / "far", 12)
    message = mistake("train --resume ../run --data .", capsys)
    assert message.startswith("--data must be the images that the run was started with")
    main(["train", "--resume", "../run", "--data", "../moved"])
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")
    assert settings(f"evaluate {tmp_path}/run", capsys)["part"] == "test"  # the place is kept
    assert Run.open(tmp_path / "run").config.train.data == f"{tmp_path}/moved"


@pytest.mark.slow
def test_another_environment_is_reported(pictures, tmp_path, monkeypatch, capsys):
    stop_after(2, f"train {pictures} --out {tmp_path}/run {FLAGS}".split())
    stored = json.loads((tmp_path / "run/environment.json").read_text())
    assert {"airjax", "jax", "jaxlib", "cores", "backend", "python"} <= set(stored)
    monkeypatch.setenv("JAX_THREEFRY_PARTITIONABLE", "0")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")  # changes no result
    (tmp_path / "run/environment.json").write_text(json.dumps(stored | {"cores": 1000}))
    capsys.readouterr()
    stop_after(1, f"train --resume {tmp_path}/run".split())
    out = capsys.readouterr().out
    assert f"cores 1000 (now {stored['cores']})" in out and "the last bits may differ" in out
    assert "JAX_THREEFRY_PARTITIONABLE None (now 0)" in out and "CACHE" not in out
    (tmp_path / "run/environment.json").write_text(json.dumps(stored))
    monkeypatch.delenv("JAX_THREEFRY_PARTITIONABLE")
    main(f"train --resume {tmp_path}/run".split())
    assert "the last bits" not in capsys.readouterr().out
