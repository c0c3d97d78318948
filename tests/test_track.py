"""airjax track: frames in their order, the table, what is printed, and wrong command lines."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import mistake
from PIL import Image

import airjax.data
from airjax.cli.main import main
from airjax.data.composer import SceneConfig
from airjax.data.dataset import save_dataset
from airjax.data.digits import load_digits
from airjax.data.files import picture_files
from airjax.data.moving import moving
from airjax.inference.out_of_distribution import Explained, Usual
from airjax.inference.regions import Region
from airjax.inference.results import Objects
from airjax.inference.writers import Picture
from airjax.tracking.frames import Frames, natural
from airjax.tracking.tracks import COLUMNS, Tracks
from airjax.training.runs import Run

NAMES = ("f1.png", "f2.png", "f10.png")
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 5, 6)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three frames of the run's size, whose order as text is another one."""
    for name, image in zip(NAMES, FRAMES, strict=True):
        saved(tmp_path / "frames" / name, image)
    return tmp_path / "frames"


def saved(path, image):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(image).save(path)


def table(out):
    with open(out / "tracks.csv") as file:
        return list(csv.DictReader(file))


def test_frames_are_read_in_natural_order_and_linked(run, folder, tmp_path, capsys):
    before = sorted(folder.iterdir())
    main(f"track {run} {folder} --out {tmp_path}/out --draw".split())
    shown = capsys.readouterr().out
    assert "3 files in natural order, f1.png to f10.png" in shown
    assert "search range" in shown and "--search-range" in shown and "not linked" in shown
    rows = table(tmp_path / "out")
    assert list(rows[0]) == list(COLUMNS) and list(rows[0])[:7] == (
        ["y", "x", "mass", "size", "ecc", "frame", "particle"]
    )
    assert {row["frame"]: row["file"] for row in rows} == dict(zip("012", NAMES, strict=True))
    assert [int(row["frame"]) for row in rows] == sorted(int(row["frame"]) for row in rows)
    first = {row["particle"] for row in rows if row["frame"] == "0"}
    assert all((row["code_distance"] == "") == (row["frame"] == "0") for row in rows
               if row["particle"] in first)  # fmt: skip
    about = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert about["linking"]["memory"] == 3 and about["settings"]["airjax track"]["--memory"] == "3"
    with Image.open(tmp_path / "out" / "tracks.png") as drawn:
        assert drawn.size == (24, 20)
    assert sorted(folder.iterdir()) == before


def test_objects_are_those_of_predict(run, folder, tmp_path):
    main(f"track {run} {folder} --memory 0 --out {tmp_path}/tracks".split())
    main(f"predict {run} {folder} --out {tmp_path}/found".split())
    with open(tmp_path / "found" / "objects.csv") as file:
        found = list(csv.DictReader(file))
    rows = table(tmp_path / "tracks")
    assert {row["propagated"] for row in rows} == {"0"}
    assert len(rows) == len(found) > 3
    own = {(row["file"], row["x0"], row["y0"], row["x1"], row["y1"], row["score"]) for row in rows}
    theirs = {(o["file"], o["x0"], o["y0"], o["x1"], o["y1"], o["score"]) for o in found}
    assert own == theirs
    of_box = {(row["file"], row["x0"], row["y0"]): row for row in rows}
    for one in found:
        row = of_box[one["file"], one["x0"], one["y0"]]
        if one["x"] != "nan":  # trackpy's first pixel is at 0, ours at 0.5
            assert float(row["x"]) + 0.5 == pytest.approx(float(one["x"]), abs=0.01)
        assert row["area"] == one["area"] and float(row["mass"]) == float(one["total"])


def test_a_stack_and_a_folder_have_the_same_tracks(run, folder, tmp_path, capsys):
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    tifffile.imwrite(stacks / "stack.tif", FRAMES, photometric="minisblack")
    np.save(stacks / "stack.npy", FRAMES)
    paths = {"folder": folder, "tif": stacks / "stack.tif", "npy": stacks / "stack.npy"}
    found = {}
    for name, path in paths.items():
        main(f"track {run} {path} --out {tmp_path}/of/{name}".split())
        found[name] = [
            {key: row[key] for key in COLUMNS if key not in ("file", "page")}
            for row in table(tmp_path / "of" / name)
        ]
    shown = capsys.readouterr().out
    assert "pages of stack.tif" in shown and "3 images of stack.npy" in shown
    assert found["folder"] == found["tif"] == found["npy"] != []


def test_the_same_command_writes_the_same_table(run, folder, tmp_path):
    for name in "ab":
        main(f"track {run} {folder} --out {tmp_path}/{name}".split())
    one, two = ((tmp_path / name / "tracks.csv").read_bytes() for name in "ab")
    assert one == two


def test_videos_with_a_truth_are_scored(run, tmp_path, capsys):
    images = np.concatenate([FRAMES, FRAMES])
    boxes = np.tile(np.array([[[0, 0, 6, 5]]], np.float32), (6, 1, 1))
    truth = {"counts": np.ones(6, np.int32), "boxes": boxes}
    np.savez(tmp_path / "v.npz", images=images, sequences=np.repeat([4, 2], 3), **truth)
    main(f"track {run} {tmp_path}/v.npz --out {tmp_path}/out --draw".split())
    shown = capsys.readouterr().out
    assert "6 frames in 2 videos" in shown and "MOTA" in shown and "6 true objects" in shown
    rows = table(tmp_path / "out")
    tracks = [{row["particle"] for row in rows if int(row["frame"]) // 3 == i} for i in range(2)]
    assert not tracks[0] & tracks[1]  # no track is in both
    about = json.loads((tmp_path / "out" / "tracks.json").read_text())
    score = about["mota"]
    errors = score["misses"] + score["false_positives"] + score["switches"]
    assert score["mota"] == pytest.approx(1 - errors / 6)
    apart = np.array([0, 0, 1, 1, 0, 0])
    np.savez(tmp_path / "wrong.npz", images=images, sequences=apart, **truth)
    message = mistake(f"track {run} {tmp_path}/wrong.npz", capsys)
    assert message == f"{tmp_path}/wrong.npz: sequences must have the frames of each one together"


def test_a_frame_that_cannot_be_read_has_no_objects(run, folder, tmp_path, capsys):
    (folder / "f2.png").write_text("no")
    main(f"track {run} {folder} --out {tmp_path}/out".split())
    captured = capsys.readouterr()
    assert "f2.png cannot be read" in captured.err and "1 have no objects" in captured.out
    assert {row["frame"] for row in table(tmp_path / "out")} == {"0", "2"}
    line = f"track {run} {folder} --out {tmp_path}/strict --strict"
    assert mistake(line, capsys).startswith(f"{folder}/f2.png cannot be read")


def of(*frames):
    """Tracks of objects of 2 x 2 pixels at these places."""
    pictures = {}
    for i, xy in enumerate(frames):
        at = np.array(xy, np.float32).reshape(-1, 2)
        boxes, n = np.concatenate([at - 1, at + 1], axis=1), len(at)
        objects = Objects(boxes, boxes, np.ones(n), np.zeros((n, 3)), np.zeros((n, 2)), np.ones(1))
        region = Region(np.zeros(0, int), np.zeros(0, int), 0.0, 0.0, 0.0, False)
        pictures[i] = Picture(f"{i}.png", None, (99, 99), objects, [region] * n)
    read = Frames("", len(frames), len(frames), pictures, [range(len(frames))])
    return Tracks.of(read)


def test_what_is_probably_wrong_is_reported():
    rows = [[(10 * i, 10 * j) for i in range(5) for j in range(5)]]
    assert of(*rows * 4).doubts() == []
    shifted = [[(x + 4 * (t % 2), y) for x, y in rows[0]] for t in range(4)]
    (doubt,) = of(*shifted).doubts()
    assert doubt.startswith("objects move 4.0 pixels from a frame to the next, near or beyond half")
    (doubt,) = of(rows[0], rows[0], rows[0][:15], rows[0]).doubts()
    assert doubt == "the count jumps in 2 frames, first from 25 to 15 in frame 2: look at these"
    (doubt,) = of([(0, 0)], [(50, 50)]).doubts()
    assert doubt == "100% of the objects are linked to no other"
    single = of(*[[(1.5 * (t % 2), 0)] for t in range(9)])
    assert single.doubts() == ["objects move 1.5 pixels from a frame to the next, near the search "
                               "range: try a larger --search-range"]  # fmt: skip
    assert of([], []).doubts() == [] and of([], []).summary() == (
        ["objects    0 in 2 frames, 0 to 0 a frame"]
    )


def test_far_more_objects_than_in_the_training_are_reported(
    run, folder, tmp_path, capsys, monkeypatch
):
    usual = Usual(Explained(1.0, None), in_crops=False, density=1e-3)
    monkeypatch.setattr("airjax.inference.out_of_distribution.SOME", 3)
    monkeypatch.setattr(Run, "usual", usual)
    main(f"track {run} {folder} --out {tmp_path}/out".split())
    number = len(table(tmp_path / "out"))
    doubt = f"{number / 0.09:.1f} times as many objects as held-out images of the training have"
    assert f"doubtful: {doubt}" in " ".join(capsys.readouterr().err.split())


def test_mistakes_of_track(run, folder, tmp_path, capsys):
    saved(tmp_path / "one" / "a.png", FRAMES[0])
    saved(tmp_path / "wide" / "a.png", FRAMES[0])
    saved(tmp_path / "wide" / "b.png", np.zeros((5, 7), np.uint8))
    np.save(tmp_path / "large.npy", np.zeros((3, 9, 9), np.uint8))
    for line, message in (
        (f"nowhere {folder}", "RUN must be the folder of a run"),
        (f"{run} {tmp_path}/none", "FRAMES must be a folder of pictures, or a file of images"),
        (f"{run} {tmp_path}/one", "FRAMES must be two frames or more, got 1"),
        (f"{run} {folder} --search-range -1", "--search-range must be positive, got -1.0"),
        (f"{run} {folder} --search-range nan", "--search-range must be positive, got nan"),
        (f"{run} {folder} --memory -1", "--memory must be at least 0, got -1"),
        (f"{run} {folder} --code-weight -1", "--code-weight must be at least 0, got -1.0"),
        (f"{run} {folder} --motion circular", "invalid choice 'circular'"),
        (f"{run} {folder} --threshold 2", "--threshold must be 0 to 1, got 2.0"),
        (f"{run} {folder} --out {folder}/out", "--out must not be in the folder of pictures"),
        (f"{run} {folder} --out {run}", "--out must be a new folder (nothing is overwritten)"),
        (f"{run} {tmp_path}/wide --strict", f"{tmp_path}/wide/b.png cannot be read"),
        (f"{run} {tmp_path}/large.npy", f"{tmp_path}/large.npy must have images of the model's"),
    ):
        out = "" if "--out" in line else f" --out {tmp_path}/out"
        assert mistake(f"track {line}{out}", capsys).startswith(message)
    assert not os.path.exists(tmp_path / "out")


def test_results_in_a_folder_of_pictures_are_passed_over(run, folder, tmp_path):
    main(f"track {run} {folder} --out {tmp_path}/out --draw".split())
    (tmp_path / "out").rename(folder / "out")
    assert [path.name for path in picture_files(folder).files] == sorted(NAMES)


def test_natural_order():
    names = ["b/1.png", "a10.png", "a2.png", "a.png", "a02.png"]
    want = ["a02.png", "a2.png", "a10.png", "a.png", "b/1.png"]
    for given in (names, names[::-1]):
        assert [p.as_posix() for p in sorted(map(Path, given), key=natural)] == want


TRACKPY = """
import sys, pandas as pd, trackpy as tp
tp.quiet()
tracks = pd.read_csv(sys.argv[1])
assert tp.imsd(tracks, 1, 1).shape[1] == tracks.particle.nunique()
assert len(tp.filter_stubs(tracks, 2)) <= len(tracks)
import matplotlib; matplotlib.use("agg")
tp.plot_traj(tracks)
"""


def test_trackpy_reads_the_table(run, folder, tmp_path):
    pytest.importorskip("trackpy")
    main(f"track {run} {folder} --out {tmp_path}/out".split())
    subprocess.run([sys.executable, "-c", TRACKPY, tmp_path / "out" / "tracks.csv"], check=True)


@pytest.mark.slow  # trains
def test_digits_that_cross_are_followed(tmp_path, capsys, monkeypatch):
    """By a model of still scenes, in which digits hardly overlap."""
    monkeypatch.setattr(airjax.data, "NUM_TEST", 1000)  # takes less time
    config = SceneConfig(num_scenes=400, overlap="clip", seed=1)
    videos = moving(load_digits("test", None), config, "moving", "test")
    save_dataset(videos, tmp_path / "videos.npz")
    main(f"train digits --steps 600 --out {tmp_path}/run".split())
    main(f"track {tmp_path}/run {tmp_path}/videos.npz --out {tmp_path}/out".split())
    assert "steady" in capsys.readouterr().out
    score = json.loads((tmp_path / "out" / "tracks.json").read_text())["mota"]
    assert score["objects"] == videos.counts.sum() > 200 and score["mota"] > 0.8
    assert score["switches"] < 0.05 * score["objects"]
