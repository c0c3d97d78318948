"""Input that no program should get: damaged and hostile files. Each is one clear line.

Everything goes through the command line, as a user would meet it.
"""

import gzip
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import TINY, mistake

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data import DATASETS
from airjax.data.dataset import load_dataset
from airjax.programs.untrained import untrained
from airjax.storage import ARRAYS, MANIFEST
from airjax.training.checkpoint import Checkpoints
from airjax.training.runs import Run
from airjax.training.trainer import Trainer

# data sets

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 6)).astype(np.uint8)
COUNTS = np.arange(20, dtype=np.int32) % 3
BOXES = np.tile(np.float32([1, 2, 4, 5]), (20, 2, 1))
SHAPE = "images must have shape [N, H, W] or [N, H, W, C], all at least 1, got"
RANGE = "images must be integers from 0 to 255, or floats in [0, 1], got"


def with_value(array, value, *place):
    """A copy of an array with another value somewhere."""
    copy = array.copy()
    copy[place] = value
    return copy


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **({"images": IMAGES} | arrays))
    return buffer.getvalue()


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = npz()
FLOATS = (IMAGES / 255).astype(np.float32)
NO_ARCHIVE = "must be a whole .npz archive, or a folder of pictures"
NO_NPZ = "must be an .npz without pickles: "


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", f" {NO_ARCHIVE}"),
        (b"images", f" {NO_ARCHIVE}"),
        (b"PK" + bytes(100), f" {NO_ARCHIVE}"),
        (gzip.compress(WHOLE), f" {NO_ARCHIVE}"),
        (WHOLE[:-40], f" {NO_ARCHIVE}"),
        (WHOLE[: len(WHOLE) // 2], f" {NO_ARCHIVE}"),
        (WHOLE[:400] + bytes([WHOLE[400] ^ 1]) + WHOLE[401:], f" {NO_NPZ}Bad CRC-32"),
        (npy(IMAGES), f" {NO_ARCHIVE}"),
        (npz(images=np.array([{}, None], object)), f" {NO_NPZ}Object arrays cannot be loaded"),
        (npz(counts=np.array([print], object)), f" {NO_NPZ}Object arrays cannot be loaded"),
        (npz(images=IMAGES[0]), f": {SHAPE} [5, 6]"),
        (npz(images=IMAGES[..., None, None]), f": {SHAPE} [20, 5, 6, 1, 1]"),
        (npz(images=np.uint8(3)), f": {SHAPE} []"),
        (npz(images=IMAGES[:0]), f": {SHAPE} [0, 5, 6]"),
        (npz(images=IMAGES[:, :0]), f": {SHAPE} [20, 0, 6]"),
        (npz(images=IMAGES.astype(np.int16) - 9), f": {RANGE} int16 from -9 to 246"),
        (npz(images=IMAGES * np.uint16(16)), f": {RANGE} uint16 from 0 to 4080; divide by what"),
        (npz(images=(IMAGES > 9).astype(np.int64)), f": {RANGE} int64 from 0 to 1; divide by"),
        (npz(images=IMAGES.astype(complex)), f": {RANGE} complex128"),
        (npz(images=IMAGES.astype(str)), f": {RANGE} <U3"),
        (npz(images=IMAGES.astype(np.float32)), f": {RANGE} float32 from 0 to 255; divide"),
        (npz(images=with_value(FLOATS, 1.5, 3, 2, 1)), f": {RANGE} float32 from 0 to 1.5"),
        (npz(images=with_value(FLOATS, -0.5, 3, 2, 1)), f": {RANGE} float32 from -0.5 to 1"),
        (npz(images=with_value(FLOATS, np.nan, 3, 2, 1)), f": {RANGE} float32 from nan to nan"),
        (npz(images=with_value(FLOATS, np.inf, 3, 2, 1)), f": {RANGE} float32 from 0 to inf"),
        (npz(counts=COUNTS[:5]), ": counts must have shape [20], got [5]"),
        (npz(counts=COUNTS[:, None]), ": counts must have shape [20], got [20, 1]"),
        (npz(counts=COUNTS / 2), ": counts must be integers, got float64"),
        (npz(counts=COUNTS - 1), ": counts must be at least 0, got -1"),
        (npz(counts=COUNTS + np.int64(2**40)), ": counts must fit int32, got 1099511627776"),
        (npz(counts=COUNTS + 1, boxes=BOXES), ": counts must be at most the number of boxes (2)"),
        (npz(labels=COUNTS), ": labels must have shape [20, max], got [20]"),
        (npz(labels=BOXES[..., 0]), ": labels must be integers, got float32"),
        (npz(boxes=BOXES[0]), ": boxes must have shape [20, max, 4], got [2, 4]"),
        (npz(boxes=BOXES.astype(int)), ": boxes must be floats, got int64"),
        (npz(boxes=with_value(BOXES, np.nan, 0, 0, 0)), ": boxes must be finite"),
        (
            npz(boxes=with_value(BOXES, 7, 4, 1, 2)),
            ": boxes must be x0 < x1 <= 6, y0 < y1 <= 5 in image 4, got [1.0, 2.0, 7.0, 5.0]",
        ),
        (
            npz(boxes=with_value(BOXES, 4, 4, 1, 0)),
            ": boxes must be x0 < x1 <= 6, y0 < y1 <= 5 in image 4, got [4.0, 2.0, 4.0, 5.0]",
        ),
        (
            npz(boxes=with_value(BOXES, -1, 3), counts=with_value(COUNTS, 1, 3)),
            ": boxes must be x0 < x1 <= 6, y0 < y1 <= 5 in image 3, got [-1.0, -1.0, -1.0, -1.0]",
        ),
    ],
)
def test_a_wrong_data_set(content, message, tmp_path, capsys):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    line = f"train --data {path} --window-size 3 --out {tmp_path}/run"
    assert mistake(line, capsys).startswith(f"{path}{message}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_file_does_not_run_code(tmp_path, capsys):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    for name in ("images", "counts"):
        (tmp_path / "a.npz").write_bytes(npz(**{name: np.array([Hostile()], object)}))
        mistake(f"train --data {tmp_path}/a.npz", capsys)
    assert not (tmp_path / "touched").exists()


def test_padded_boxes_are_right(tmp_path):
    padded = with_value(BOXES, -1, slice(None), 1)
    (tmp_path / "a.npz").write_bytes(npz(boxes=padded))
    np.testing.assert_array_equal(load_dataset(tmp_path / "a.npz").boxes, padded)


# runs


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    """A run as training leaves it, made by hand."""
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "scenes.npz", images=IMAGES, counts=COUNTS)
    train = TrainConfig(data=str(folder / "scenes.npz"), steps=20, batch_size=2)
    run = Run.create(Config(train, TINY), folder / "run")
    scenes = load_dataset(folder / "scenes.npz")
    run.check_data(scenes[:18], scenes[18:])
    run.append({"step": 10, "seconds": 1.0, "elbo": 0.0, "skipped_steps": 0})
    Checkpoints(run.checkpoints).save(Trainer(run.config, IMAGES).init(), run.config)
    run.save(*untrained(run.config.model, 0))
    return run.path


@pytest.fixture
def run(made_once, tmp_path):
    """A copy of that run."""
    return shutil.copytree(made_once, tmp_path / "run")


def edit(path, **changes):
    """Other values in a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_config(path, part, **changes):
    """Other settings of a run, or of a model in its manifest."""
    content = json.loads(path.read_text())
    content[part] |= changes
    path.write_text(json.dumps(content))


def edit_weights(folder, change):
    """Other arrays, with the right sha256."""
    path = folder / ARRAYS["model"]
    content = change(safetensors.numpy.load(path.read_bytes()))
    content = content if isinstance(content, bytes) else safetensors.numpy.save(content)
    path.write_bytes(content)
    edit(folder / MANIFEST, sha256={ARRAYS["model"]: hashlib.sha256(content).hexdigest()})


def flip(path, place=1000):
    content = path.read_bytes()
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


def cut(path, length):
    path.write_bytes(path.read_bytes()[:length])


def without_last(arrays):
    return dict(list(arrays.items())[:-1])


def as_doubles(arrays):
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def one_nan(arrays):
    name = "guide.predict.mlp.layers.0.bias"
    return arrays | {name: with_value(arrays[name], np.nan, 1)}


CONFIG, MANIFEST_, WEIGHTS = "config.json", f"model/{MANIFEST}", f"model/{ARRAYS['model']}"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: shutil.rmtree(r), "RUN must be the folder of a run (one with a config.json)"),
        (lambda r: (r / CONFIG).unlink(), "RUN must be the folder of a run"),
        (lambda r: (r / CONFIG).write_bytes(b"\xff"), "RUN must be the folder of a run"),
        (
            lambda r: (r / CONFIG).write_text(""),
            "{run}/config.json must hold the settings of a run",
        ),
        (lambda r: cut(r / CONFIG, 100), "{run}/config.json must hold the settings of a run"),
        (lambda r: edit(r / CONFIG, trian={}), "{run}/config.json must hold the settings of a run"),
        (
            lambda r: edit_config(r / CONFIG, "train", stepps=3),
            "{run}/config.json must hold the settings of a run: Extra fields in constructor for "
            "TrainConfig: stepps",
        ),
        (
            lambda r: edit_config(r / CONFIG, "train", batch_size="2"),
            "{run}/config.json must hold the settings of a run: must be int, got '2'",
        ),
        (
            lambda r: edit_config(r / CONFIG, "model", likelihood_sd=-1),
            "{run}/config.json: likelihood_sd must be positive, got -1.0",
        ),
        (
            lambda r: shutil.rmtree(r / "model"),
            "RUN must have a trained model; to continue: airjax train --resume {run}, got {run}",
        ),
        (lambda r: (r / MANIFEST_).unlink(), "{run}/model/manifest.json must be readable: No such"),
        (lambda r: cut(r / MANIFEST_, 100), "{run}/model/manifest.json must be JSON: "),
        (
            lambda r: (r / MANIFEST_).write_text("[]"),
            "{run}/model/manifest.json must be the manifest of a model",
        ),
        (
            lambda r: edit(r / MANIFEST_, format=3),
            "{run}/model/manifest.json was written by a newer airjax; this one reads format 2",
        ),
        (
            lambda r: edit(r / MANIFEST_, sha256="none"),
            "{run}/model/manifest.json must hold sha256 and model",
        ),
        (
            lambda r: edit_config(r / MANIFEST_, "model", windows=3),
            "{run}/model/manifest.json: model must hold the settings of a run: Extra fields in "
            "constructor for ModelConfig: windows",
        ),
        (
            lambda r: edit_config(r / MANIFEST_, "model", window_size=0),
            "{run}/model/manifest.json: model: window_size must be at least 1, got 0",
        ),
        (
            lambda r: edit_config(r / MANIFEST_, "model", rnn_hidden_size=5),
            "{run}/model/weights.safetensors guide.",
        ),
        (lambda r: (r / WEIGHTS).unlink(), "{run}/model/weights.safetensors must be readable: No"),
        (lambda r: flip(r / WEIGHTS), "{run}/model/weights.safetensors is damaged: its sha256"),
        (
            lambda r: cut(r / WEIGHTS, 1000),
            "{run}/model/weights.safetensors is damaged: its sha256",
        ),
        (
            lambda r: edit_weights(r / "model", lambda _: b"\xff" * 100),
            "{run}/model/weights.safetensors must be a safetensors file: ",
        ),
        (
            lambda r: edit_weights(r / "model", without_last),
            "{run}/model/weights.safetensors must hold the weights of the manifest's model",
        ),
        (
            lambda r: edit_weights(r / "model", as_doubles),
            "{run}/model/weights.safetensors decoder.mlp.layers.0.weight must be float32[2, 4], "
            "got float64[2, 4]",
        ),
        (
            lambda r: edit_weights(r / "model", one_nan),
            "{run}/model/weights.safetensors guide.predict.mlp.layers.0.bias must be finite",
        ),
        (
            lambda r: np.savez(r / "other.npz", images=np.zeros((20, 6, 5), np.uint8)),
            "--data must have images of the model's size (5, 6), got (6, 5)",
        ),
    ],
)
def test_a_run_that_is_none(damage, message, run, capsys):
    damage(run)
    data = run / "other.npz" if (run / "other.npz").exists() else run.parent / "none.npz"
    if data.name == "none.npz":
        np.savez(data, images=IMAGES)
    line = f"evaluate {run} --data {data}"
    assert mistake(line, capsys).startswith(message.format(run=run))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: edit_config(r / "data.json", "train", sha256="0"),
            "--data must be the images that the run was started with: their fingerprints differ",
        ),
        (
            lambda r: edit_config(r / "data.json", "held_out", sha256="0"),
            "--data must be the images that the run was started with: their fingerprints differ",
        ),
        (
            lambda r: (r / "data.json").write_text("{"),
            "{run}/data.json must be readable JSON: ",
        ),
        (
            lambda r: (r / "restarts.json").write_text("{"),
            "{run}/restarts.json must be readable JSON: ",
        ),
        (
            lambda r: (r / "metrics.jsonl").write_text("step 1\n"),
            "{run}/metrics.jsonl must be rows of JSON: ",
        ),
        (
            lambda r: edit_config(r / CONFIG, "train", data="gone.npz"),
            f"--data must be one of {', '.join(DATASETS)}, or the path of an .npz, .npy or "
            ".zarr, or of a folder (where images have moved, give --data with their new place), "
            "got gone.npz",
        ),
    ],
)
def test_a_run_that_cannot_go_on(damage, message, run, capsys):
    shutil.rmtree(run / "model")
    damage(run)
    assert mistake(f"train --resume {run}", capsys).startswith(message.format(run=run))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num-paths 0", "--num-paths must be at least 1, got 0"),
        ("--particles 0", "--particles must be at least 1, got 0"),
        ("--max-steps 0", "--max-steps must be at least 1, got 0"),
        ("--seed -1", "--seed must be 0 to 2**32 - 1, got -1"),
        (
            "--data none.npz",
            f"--data must be one of {', '.join(DATASETS)}, or the path of an .npz",
        ),
    ],
)
def test_a_wrong_flag_of_evaluate(flags, message, run, capsys):
    assert mistake(f"evaluate {run} {flags}", capsys).startswith(message)


def test_steps_are_those_of_the_model(run, capsys):
    assert mistake(f"sample {run} --steps 3", capsys).startswith("--steps must be left out")


def test_the_run_made_by_hand_is_a_good_one(run, capsys):
    main(["evaluate", str(run)])
    assert "count accuracy" in capsys.readouterr().out


def test_a_full_disk_is_reported(run, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    shutil.rmtree(run / "model")
    monkeypatch.setattr("os.fsync", full)
    message = mistake(f"train --resume {run}", capsys)
    assert message == f"{run}/environment.json cannot be used (No space left on device)"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")]
)
def test_too_little_memory_is_reported(error, run, monkeypatch, capsys):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("airjax.inference.infer.read", refuse)
    np.savez(run.parent / "a.npz", images=IMAGES)
    message = mistake(f"evaluate {run} --data {run.parent}/a.npz", capsys)
    assert message == "there is not enough memory for such sizes"


def test_other_errors_keep_their_traceback(run, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("a defect")

    monkeypatch.setattr("airjax.inference.infer.read", fail)
    np.savez(run.parent / "a.npz", images=IMAGES)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["evaluate", str(run), "--data", f"{run.parent}/a.npz"])
