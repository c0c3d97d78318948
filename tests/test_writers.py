"""What predict writes is read back with the tools that it is for."""

import csv
import json

import numpy as np
import pytest
import tifffile
from conftest import TINY, eager, mistake
from PIL import Image

from airjax.air import AIR
from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data.placement import Placement
from airjax.inference.regions import regions
from airjax.inference.results import Objects
from airjax.inference.writers import WRITERS
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

DISCS = [(20, 20, 6), (50, 30, 9), (4, 52, 7), (90, 40, 5)]  # x, y, radius
SHAPE = (60, 100)


def disc(x, y, r):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(columns + 0.5 - x, rows + 0.5 - y) < r


@pytest.fixture(scope="module")
def model():
    """A model whose decoder draws a disc that fills its window, whatever the code."""
    config = TINY.for_images(SHAPE)
    model, guide = untrained(config, 0)
    return model, eager(guide)


class Disc:
    """Stands for the decoder."""

    def __call__(self, z_what):
        rows, columns = np.mgrid[:21, :21] - 10
        window = (np.hypot(rows, columns) < 10.5).astype(np.float32)
        return np.repeat(window[None], len(z_what), axis=0)


def found_discs():
    boxes = np.float32([[x - r, y - r, x + r, y + r] for x, y, r in DISCS])
    tight = boxes.clip(0, [100, 60, 100, 60]).astype(np.float32)
    n, nothing = len(DISCS), np.zeros((len(DISCS), 2), np.float32)
    probs = np.eye(n + 1, dtype=np.float32)[n]
    return Objects(tight, boxes, np.float32([0.9, 0.8, 0.7, 0.6]), nothing, nothing, probs)


@pytest.fixture
def result(model, tmp_path, monkeypatch):
    """One picture with four discs, of 12 bit, written in all formats."""
    values = sum((100 * (i + 1) * disc(*d) for i, d in enumerate(DISCS)), np.zeros(SHAPE))
    (tmp_path / "in/below").mkdir(parents=True)
    tifffile.imwrite(tmp_path / "in/below/a.tif", values.astype(np.uint16))
    pictures = PictureConfig("no", None, "grey", 0, normalise="none")
    run = Run.create(Config(TrainConfig(data="digits"), model[0].config, pictures=pictures),
                     tmp_path / "run")  # fmt: skip
    run.save(*model)
    monkeypatch.setattr("airjax.inference.regions._decoded", lambda _, z: Disc()(z))
    monkeypatch.setattr(AIR, "predict_batches", lambda *_: iter([[found_discs()]]))

    def written(flags="", out="out"):
        def read(air, images, size):
            for _ in images:
                yield [found_discs()]

        monkeypatch.setattr(AIR, "predict_batches", read)
        formats = " ".join(WRITERS)
        line = f"predict {run.path} {tmp_path}/in --out {tmp_path}/{out} {flags} --format {formats}"
        main(line.split())
        return tmp_path / out

    return written


def objects(out):
    with open(out / "objects.csv") as file:
        return list(csv.DictReader(file))


def test_the_table_measures_the_files_own_values(result):
    out = result()
    rows = objects(out)
    assert [row["file"] for row in rows] == 4 * ["below/a.tif"]
    for i, (row, (x, y, r)) in enumerate(zip(rows, DISCS, strict=True)):
        seen = disc(x, y, r)
        assert int(row["area"]) == pytest.approx(seen.sum(), rel=0.12)
        assert float(row["mean"]) == pytest.approx(100 * (i + 1), rel=0.1)
        assert float(row["total"]) == pytest.approx(float(row["mean"]) * int(row["area"]), rel=1e-3)
        if i != 2:  # cut by the border
            assert (float(row["x"]), float(row["y"])) == pytest.approx((x, y), abs=0.5)
            assert float(row["eccentricity"]) < 0.4
    assert [row["at_edge"] for row in rows] == ["False", "False", "True", "False"]
    with open(out / "counts.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["count"], row["low"], row["high"], row["at_edge"]) == ("4", "4", "4", "1")
    assert row["unsure"] == "False"


def test_all_formats_agree_with_the_table(result):
    from pyarrow import parquet
    from pycocotools.coco import COCO
    from shapely.geometry import Polygon, shape
    from skimage.measure import regionprops

    roifile = pytest.importorskip("roifile")
    out = result()
    rows = objects(out)
    areas = [int(row["area"]) for row in rows]
    labels = tifffile.imread(out / "masks/below/a.tif.tif")
    assert labels.shape == SHAPE and labels.dtype == np.uint16
    assert [p.area for p in regionprops(labels)] == areas
    found = roifile.roiread(out / "rois/below/a.tif.zip")
    assert [roi.name for roi in found] == [f"object {i}" for i in range(4)]
    for roi, (x, y, r) in list(zip(found, DISCS, strict=True))[:2]:
        assert roi.coordinates().mean(0) == pytest.approx((x, y), abs=1)
        assert np.ptp(roi.coordinates()[:, 0]) == pytest.approx(2 * r, abs=2)
    features = json.loads((out / "geojson/below/a.tif.geojson").read_text())["features"]
    polygons = [shape(feature["geometry"]) for feature in features]
    assert all(polygon.is_valid for polygon in polygons)
    assert [polygon.area for polygon in polygons] == pytest.approx(areas, rel=0.12)
    table = parquet.read_table(out / "objects.parquet").to_pylist()
    assert [row["area"] for row in table] == areas and table[2]["at_edge"] is True
    (entry,) = json.loads((out / "predictions.json").read_text())
    assert [o["area"] for o in entry["objects"]] == areas
    images = COCO(out / "coco_images.json")
    results = images.loadRes(str(out / "coco_results.json"))
    rings = [np.reshape(results.anns[i]["segmentation"][0], (-1, 2)) for i in results.getAnnIds()]
    assert [Polygon(ring).area for ring in rings] == pytest.approx(areas, rel=0.12)


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ("--exclude-edges", [0, 1, 3]),
        ("--threshold 0.75", [0, 1]),
        ("--min-size 11.5", [0, 1, 2]),
        ("--max-size 12.5", [0, 3]),
        ("--min-size 99", []),
    ],
)
def test_objects_that_are_left_out(flags, left, result):
    out = result(flags)
    kept = [DISCS[i] for i in left]
    rows = objects(out)
    x0 = [max(0, x - r) for x, _, r in kept]
    assert [float(row["x0"]) for row in rows] == x0
    with open(out / "counts.csv") as file:
        (row,) = csv.DictReader(file)
    assert int(row["count"]) == len(left) and int(row["low"]) <= len(left) <= int(row["high"])
    assert len(np.unique(tifffile.imread(out / "masks/below/a.tif.tif"))) == len(left) + 1


def test_regions_of_a_turned_and_scaled_picture(monkeypatch):
    """The image is upright and half as large; the file is on its side."""
    monkeypatch.setattr("airjax.inference.regions._decoded", lambda _, z: Disc()(z))
    model, _ = untrained(TINY, 0)
    upright = np.zeros((80, 60))
    upright[20:40, 10:30] = 7
    boxes = np.float32([[5, 10, 15, 20]])
    nothing = np.zeros((1, 2), np.float32)
    objects = Objects(boxes, boxes, np.ones(1), nothing, nothing, np.float32([0, 1]))
    placement = Placement((60, 80), 6, (0.5, 0.5))
    (region,) = regions(model, objects, placement, upright)
    assert region.mean == 7 and region.area == pytest.approx(np.pi * 100, rel=0.1)
    assert region.centre == pytest.approx((30, 40), abs=0.5)  # x is the row, y from the right


def test_an_outline_is_at_half_of_the_mean_of_what_is_visible(monkeypatch):
    """A cone of height 1 is visible up to 0.9 of its radius, and has the mean 0.4 there."""
    rows, columns = np.mgrid[:41, :41] - 20
    cone = np.maximum(1 - np.hypot(rows, columns) / 20.5, 0).astype(np.float32)
    monkeypatch.setattr(
        "airjax.inference.regions._decoded", lambda _, z: np.repeat(cone[None], len(z), axis=0)
    )
    boxes, nothing = np.float32([[10, 10, 51, 51]]), np.zeros((1, 2), np.float32)
    objects = Objects(boxes, boxes, np.ones(1), nothing, nothing, np.float32([0, 1]))
    (region,) = regions(untrained(TINY, 0)[0], objects, Placement((60, 60)), np.ones((60, 60)))
    assert region.area == pytest.approx(np.pi * (0.8 * 20.5) ** 2, rel=0.03)


def test_results_have_a_place_by_default(result, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result(out="first")
    main(f"predict {tmp_path}/run {tmp_path}/in".split())
    (found,) = (tmp_path / "found").iterdir()
    assert found.name.startswith("in-") and (found / "counts.csv").exists()


def test_counts_by_hand(result, tmp_path, capsys):
    out = result()
    line = f"check {out} {tmp_path}/hand.csv"
    (tmp_path / "hand.csv").write_text("file,count\nelsewhere/a.tif,5\n")
    main(line.split())
    shown = " ".join(capsys.readouterr().out.split())
    assert "│ bias (found less by hand) │ -1.00" in shown and "0 of 1" in shown
    assert "look at below/a.tif │ 4 found, 5 by hand" in shown
    with Image.open(out / "check/agreement.png") as picture:
        assert np.asarray(picture).std() > 10
    main(line.split())
    assert (out / "check-2/agreement.png").exists()  # nothing is overwritten
    rule = "TRUTH must have 5 pictures or more with different counts"
    assert mistake(f"{line} --calibrate", capsys).startswith(rule)
    (tmp_path / "hand.csv").write_text("file,count\nb.tif,5\n")
    assert mistake(line, capsys).startswith("TRUTH must name pictures that are in the results")
    (tmp_path / "hand.csv").write_text("file,number\na.tif,5\n")
    assert mistake(line, capsys).startswith("TRUTH must have a column file and a column count")
