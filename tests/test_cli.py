"""The command line as a user meets it: a whole run on small scenes, and mistakes of every kind."""

import json

import numpy as np
import pytest
from conftest import mistake
from PIL import Image

from airjax.cli.main import main
from airjax.config import AnnealConfig, ModelConfig
from airjax.data.dataset import load_dataset
from airjax.training.runs import Run

SMALL = (
    "--model-steps 2 --window-size 8 --encoder-latent-size 8 --rnn-hidden-size 32 "
    "--predict-net 16 --encoder-net 32 --decoder-net 32 --embed-net 32 --batch-size 16"
)


def airjax(line: str) -> None:
    main(line.split())


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory):
    """A folder with a file of scenes, 20 x 26 pixels, and a short run trained on it."""
    folder = tmp_path_factory.mktemp("workplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRJAX_CACHE_DIR", str(folder / "cache"))
        airjax(
            f"data digits {folder}/scenes.npz --num-scenes 300 --height 20 --width 26 "
            "--object-size 12 --counts 0 1 2 --seed 3"
        )
        airjax(
            f"train --data {folder}/scenes.npz --out {folder}/run --steps 30 --eval-every 15 "
            f"--progress-every 10 --seed 5 {SMALL}"
        )
    return folder


def test_train_leaves_a_whole_run(workplace):
    run = workplace / "run"
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    found = {name for name in found if not name.startswith("checkpoints/")}
    assert found == {
        ".lock",
        "config.json", "data.json", "environment.json", "metrics.jsonl", "health.json",
        "evaluation.json",
        "model/manifest.json", "model/weights.safetensors",
        "figures/curves.png", "figures/reconstructions.png", "figures/samples.png",
    }  # fmt: skip
    config = Run.open(run).config
    assert config.model.image_size == (20, 26)
    assert (config.model.rnn_hidden_size, config.train.seed, config.train.steps) == (32, 5, 30)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 15, 20, 30]
    assert "test_count_accuracy" in rows[-1]
    for picture in (run / "figures").iterdir():
        assert pixels(picture).std() > 10


def test_evaluate_prints_what_train_found(workplace, capsys):
    airjax(f"evaluate {workplace}/run --json")
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((workplace / "run/evaluation.json").read_text())
    assert report["settings"]["n"] == 30  # the last tenth was held out
    assert np.sum(report["confusion_matrix"]) == 30
    assert {"elbo", "count_accuracy", "count_accuracy_sample", "window_boxes", "tight_boxes",
            "reconstruction_mse"} < set(report)  # fmt: skip


@pytest.mark.slow  # compiles much
def test_evaluate_parts_and_other_files(workplace, tmp_path, capsys):
    for flags, part, n in (
        ("--part train", "train", 270),
        (f"--data {workplace}/scenes.npz", "test", 30),  # the run's own: still only the held out
        (f"--data {tmp_path}/other.npz", "all", 7),
    ):
        np.savez(tmp_path / "other.npz", images=np.zeros((7, 20, 26), np.uint8))
        airjax(f"evaluate {workplace}/run --json --num-paths 1 {flags}")
        report = json.loads(capsys.readouterr().out)
        assert (report["settings"]["part"], report["settings"]["n"]) == (part, n)
    assert "count_accuracy" not in report  # no counts were given
    airjax(f"evaluate {workplace}/run --num-paths 2")
    table = capsys.readouterr().out
    assert "K = 2" in table and "most probable count" in table


@pytest.mark.slow  # compiles much
def test_evaluate_with_a_second_look(workplace, capsys):
    airjax(f"evaluate {workplace}/run --json --second-look all")
    again = json.loads(capsys.readouterr().out)
    once = json.loads((workplace / "run/evaluation.json").read_text())
    assert once["settings"] | {"second_look": True} == again["settings"]
    assert once["elbo"] == pytest.approx(again["elbo"])
    assert once["count_accuracy_sample"] == again["count_accuracy_sample"]
    airjax(f"evaluate {workplace}/run --second-look all")
    assert "K = 10 paths, with a second look, seed 0" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow  # compiles much
def test_plot_and_sample_draw(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    airjax(f"plot {workplace}/run -n 4")
    airjax(f"sample {workplace}/run -n 3 --out three.png")
    airjax("sample --steps 3")
    assert pixels(tmp_path / "three.png").shape[1] < pixels(tmp_path / "samples.png").shape[1]
    for what in ("object", "geometric"):
        airjax(f"sample {workplace}/run --what {what} -n 8 --out {what}.png")
        assert pixels(tmp_path / f"{what}.png").std() > 10
    assert capsys.readouterr().out.count("picture") == 6


@pytest.mark.slow
def test_evaluate_with_a_tighter_bound_and_more_steps(workplace, capsys):
    airjax(f"evaluate {workplace}/run --json --bound iwae --particles 5 --max-steps 4")
    report = json.loads(capsys.readouterr().out)
    assert report["iwae"] > report["elbo"]
    assert report["settings"]["particles"] == 5
    assert 1 <= report["settings"]["model_steps"] <= 4
    airjax(f"evaluate {workplace}/run --bound iwae --particles 5")
    assert "importance-weighted bound, 5 particles" in capsys.readouterr().out


@pytest.mark.slow
def test_the_tutorials_own_line_runs(workplace, tmp_path):
    """With another number of steps, and on small scenes."""
    airjax(
        f"train --data {workplace}/scenes.npz --out {tmp_path}/run --estimator score -n 3 -blr 0.1 "
        "--z-pres-prior 0.01 --scale-prior-sd 0.2 --predict-net 200 --bl-predict-net 200 "
        "--decoder-output-use-sigmoid --decoder-output-bias -2 --seed 287710"
    )
    config = Run.open(tmp_path / "run").config
    assert (config.train.estimator, config.estimator.baseline_learning_rate) == ("score", 0.1)
    assert (config.train.steps, config.train.seed) == (3, 287710)


@pytest.mark.slow
def test_every_option_of_the_tutorial_has_its_flag(workplace, tmp_path):
    airjax(
        f"train --data {workplace}/scenes.npz --out {tmp_path}/run --estimator score "
        "-n 2 -b 4 -lr 1e-3 -blr 0.1 --z-pres-prior 0.5 --z-pres-prior-raw "
        "--scale-prior-mean 2 --scale-prior-sd 0.3 --pos-prior-mean 0.1 --pos-prior-sd 0.9 "
        "--predict-net 8 8 --bl-predict-net 7 --encoder-net 9 --decoder-net 10 --embed-net 11 "
        "--non-linearity tanh --decoder-output-bias -1 --no-decoder-output-use-sigmoid "
        "--window-size 9 --rnn-hidden-size 12 --encoder-latent-size 6 -t 2 "
        "--anneal-prior exp --anneal-prior-to 0.01 --anneal-prior-begin 1 "
        "--anneal-prior-duration 5 --no-masking --no-baselines --baseline-scalar 2 "
        "--progress-every 1 --eval-every 2 --save-every 2 --seed 3 --guide basic"
    )
    config = Run.open(tmp_path / "run").config
    assert config.model == ModelConfig(
        model_steps=2, z_pres_prior=0.5, z_pres_prior_raw=True, scale_prior_mean=2.0,
        scale_prior_sd=0.3, pos_prior_mean=0.1, pos_prior_sd=0.9, masking=False, guide="basic",
        window_size=9, encoder_latent_size=6, rnn_hidden_size=12, predict_net=(8, 8),
        bl_predict_net=(7,), encoder_net=(9,), decoder_net=(10,), embed_net=(11,),
        non_linearity="tanh", decoder_output_bias=-1.0, decoder_output_use_sigmoid=False,
        baseline_scalar=2.0, image_size=(20, 26), background="none",
    )  # fmt: skip
    assert config.anneal == AnnealConfig("exp", 0.01, 1, 5)
    assert not config.estimator.baselines


def test_data_writes_what_was_asked_for(workplace, tmp_path):
    data = load_dataset(workplace / "scenes.npz")
    assert data.images.shape == (300, 20, 26)
    assert set(np.unique(data.counts)) == {0, 1, 2}


def test_nothing_is_overwritten(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "samples.png").write_text("mine")
    for line in (
        f"train --data {workplace}/scenes.npz --out precious --steps 1 {SMALL}",
        f"train --data {workplace}/scenes.npz --out {workplace}/run --steps 1 {SMALL}",
        "data digits precious --num-scenes 1",
        f"sample {workplace}/run --out precious",
        "sample",
    ):
        assert "must be a new" in mistake(line, capsys)
    assert precious.read_text() == "mine" == (tmp_path / "samples.png").read_text()


def test_help_and_version(capsys):
    for line in ("", "--help", "--version", "train --help"):
        try:
            airjax(line)
        except SystemExit as end:
            assert end.code == 0
    out = capsys.readouterr().out
    assert (
        "usage: airjax [-h] {train,evaluate" in out
        and "airjax 0." in out
        and "--learning-rate" in out
    )
    assert "Train AIR on images, without labels" in out and "partial" not in out
