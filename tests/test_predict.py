"""Predictions: what other tools read, and what becomes of odd files and interruptions."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, eager, mistake
from PIL import Image
from test_folder import saved

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run of pictures on a bright background that finds objects everywhere."""
    folder = tmp_path_factory.mktemp("run")
    config = Config(
        TrainConfig(data="digits"),
        TINY,
        pictures=PictureConfig("yes", None, "grey", 0, normalise="none"),
    )
    made = Run.create(config, folder / "run")
    model, guide = untrained(TINY, 1)
    made.save(model, eager(guide))
    return made.path


@pytest.fixture
def folder(tmp_path):
    """Pictures of the run's size, and one that is none."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 6)).astype(np.uint8)
    for i, image in enumerate(images):
        saved(tmp_path / "pictures" / ("more" if i % 2 else "") / f"{i}.png", image)
    (tmp_path / "pictures" / "broken.jpg").write_text("no")
    return tmp_path / "pictures"


def test_predictions_as_tables(run, folder, tmp_path, capsys):
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    main(f"predict {run} {folder} --out {tmp_path}/out --draw".split())
    captured = capsys.readouterr()
    assert "broken.jpg cannot be read" in captured.err and "7 pictures" in captured.out
    with open(tmp_path / "out" / "counts.csv") as file:
        counts = list(csv.DictReader(file))
    names = [row["file"] for row in counts]
    assert names == ["0.png", "2.png", "4.png", "6.png", "more/1.png", "more/3.png", "more/5.png"]
    with open(tmp_path / "out" / "objects.csv") as file:
        objects = list(csv.DictReader(file))
    for row in counts:
        assert sum(o["file"] == row["file"] for o in objects) == int(row["count"])
    assert objects and list(objects[0]) == (
        [
            "file",
            "page",
            "object",
            "count",
            "probability",
            "x0",
            "y0",
            "x1",
            "y1",
            "score",
            "x",
            "y",
            "area",
            "mean",
            "total",
            "eccentricity",
            "at_edge",
        ]
    )
    for row in objects:
        assert 0 <= float(row["score"]) <= 1 and float(row["x1"]) > float(row["x0"])
    with Image.open(tmp_path / "out" / "drawn" / "more" / "1.png.png") as drawn:
        assert drawn.size == (24, 20)
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    assert before == {p: p.is_file() and p.read_bytes() for p in folder.rglob("*")}


def test_predictions_as_json_and_coco(run, folder, tmp_path, capsys):
    pycocotools = pytest.importorskip("pycocotools.coco")
    for kind in ("json", "coco"):
        main(f"predict {run} {folder} --out {tmp_path}/{kind} --format {kind}".split())
    entries = json.loads((tmp_path / "json" / "predictions.json").read_text())
    assert [len(e["objects"]) for e in entries] == [e["count"] for e in entries]
    images = pycocotools.COCO(tmp_path / "coco" / "coco_images.json")
    assert set(images.dataset) == {"info", "images", "categories", "annotations"}  # older: KeyError
    results = images.loadRes(str(tmp_path / "coco" / "coco_results.json"))
    assert [i["file_name"] for i in images.loadImgs(images.getImgIds())] == [
        e["file"] for e in entries
    ]
    for number, entry in enumerate(entries, 1):
        found = results.loadAnns(results.getAnnIds(imgIds=[number]))
        boxes = [[x, y, x + w, y + h] for x, y, w, h in (f["bbox"] for f in found)]
        np.testing.assert_allclose(boxes, [o["tight_box"] for o in entry["objects"]], rtol=1e-6)


def test_one_picture_is_enough(run, folder, tmp_path):
    main(f"predict {run} {folder}/0.png --out {tmp_path}/out".split())
    assert (tmp_path / "out" / "counts.csv").read_text().count("\n") == 2


def test_mistakes_of_predict(run, folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for line, message in (
        (f"{folder} --out {folder}/out", "--out must not be in the folder of pictures"),
        (f"{folder} --out {run}", "--out must be a new folder (nothing is overwritten)"),
        (f"{tmp_path}/none --out {tmp_path}/out", "PICTURES must be a folder of pictures"),
        (f"{tmp_path}/empty --out {tmp_path}/out", "PICTURES must hold pictures ("),
        (f"{folder} --out {tmp_path}/out --strict", f"{folder}/broken.jpg cannot be read"),
        (f"{folder} --out {tmp_path}/out --num-paths 0", "--num-paths must be at least 1, got 0"),
        (f"{folder} --out {tmp_path}/out --threshold 2", "--threshold must be 0 to 1, got 2.0"),
        (f"{folder} --out {tmp_path}/out --min-size -1", "--min-size must be at least 0, got -1.0"),
        (
            f"{folder} --out {tmp_path}/out --min-size 9 --max-size 8",
            "--max-size must be at least --min-size, 9.0, got 8.0",
        ),
        (
            f"{folder} --out {tmp_path}/out --format xml",
            "invalid choice 'xml' for argument '--format'",
        ),
        (f"{folder}/broken.jpg --out {tmp_path}/out", f"{folder}/broken.jpg cannot be read"),
    ):
        assert mistake(f"predict {run} {line}", capsys).startswith(message)
    saved(folder / "0wide.png", np.zeros((6, 5), np.uint8))
    rule = "must be 5 x 6 pixels as the model's images, got 6 x 5"
    message = f"{folder}/0wide.png cannot be read ({rule})"
    assert mistake(f"predict {run} {folder} --out {tmp_path}/out --strict", capsys) == message
    assert not os.path.exists(tmp_path / "out")
    main(f"predict {run} {folder} --out {tmp_path}/out".split())
    assert f"left out: {message}" in capsys.readouterr().err
    with open(tmp_path / "out" / "counts.csv") as file:
        files = [row["file"] for row in csv.DictReader(file)]
    assert "0wide.png" not in files and len(files) > 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 2), (MemoryError(), 2)],
)
def test_an_interruption_leaves_nothing_that_looks_like_a_result(
    error, status, run, folder, tmp_path, monkeypatch, capsys
):
    from airjax.inference import writers

    def fails(self, *picture):
        if self.written == 3:
            raise error
        self.written += 1
        add(self, *picture)

    add = writers.CsvWriter.add
    line = f"predict {run} {folder} --out {tmp_path}/out --draw".split()
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(writers.CsvWriter, "written", 0, raising=False)
        patch.setattr(writers.CsvWriter, "add", fails)
        main(line)
    assert end.value.code == status
    assert not [path.name for path in tmp_path.iterdir() if "out" in path.name]
    if isinstance(error, OSError):
        assert "--out cannot be written (No space left on device)" in capsys.readouterr().err
    (tmp_path / ".out.999999999.tmp").mkdir()  # of a process that was killed
    (tmp_path / f".out.{os.getppid()}.tmp").mkdir()  # of one that is running
    main(line)
    left = {path.name for path in tmp_path.iterdir() if "out" in path.name}
    assert left == {"out", f".out.{os.getppid()}.tmp"}


def test_odd_names_of_files(run, folder, tmp_path, capsys):
    """A formula, bytes that are not UTF-8, and as long as names can be: none is lost."""
    (tmp_path / "odd").mkdir()
    content = (folder / "0.png").read_bytes()
    names = [b"=1+1.png", b"\xff\xfe.png", b"a" * 251 + b".png", b"new\nline.png", b'"q",.png']
    for name in names:
        Path(os.fsdecode(bytes(tmp_path / "odd") + b"/" + name)).write_bytes(content)
    for kind in ("csv", "json", "coco"):
        main(f"predict {run} {tmp_path}/odd --out {tmp_path}/{kind} --format {kind} --draw".split())
    assert "5 pictures" in capsys.readouterr().out
    with open(tmp_path / "csv/counts.csv", encoding="utf-8", errors="surrogateescape") as file:
        found = {os.fsencode(row["file"]) for row in csv.DictReader(file)}
    assert found == {b"./=1+1.png", *names[1:]}
    entries = json.loads((tmp_path / "json/predictions.json").read_text())
    assert {os.fsencode(entry["file"]) for entry in entries} == set(names)
    assert len(list((tmp_path / "csv/drawn").iterdir())) == 5
