"""Truth from other programs: ImageJ's regions, QuPath's GeoJSON and napari's tables."""

import csv
import json
import os
import shutil
import subprocess
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from conftest import mistake
from PIL import Image

from airjax.cli.drawn import name_of, read_drawn
from airjax.cli.main import main
from airjax.cli.truth import read_truth
from airjax.errors import InputError
from airjax.inference.writers import OBJECT, PICTURE

BOXES = {"a.png": [(2, 2, 12, 12), (20, 5, 30, 15)], "below/b.tif": [(5, 5, 15, 15)], "c.png": []}
SQUARE = [[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]]


def roi(points, kind="POLYGON", **more):
    made = roifile.ImagejRoi.frompoints(np.array(points, float))
    made.roitype = roifile.ROI_TYPE[kind]
    for name, value in more.items():
        setattr(made, name, value)
    return made


def feature(kind, coordinates, name=None, **plane):
    about = {"objectType": "annotation"}
    if name is not None:
        about["classification"] = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": kind, "coordinates": coordinates} | ({"plane": plane} if plane else {})
    return {"type": "Feature", "id": "f0b1", "geometry": geometry, "properties": about}


def write(path, *features):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def marks(path):
    return [(mark.box, mark.page) for mark in read_drawn(path).marks]


@pytest.fixture
def results(tmp_path):
    """Results with `BOXES`."""
    out = tmp_path / "out"
    out.mkdir()
    with open(out / "counts.csv", "w") as counts, open(out / "objects.csv", "w") as objects:
        pictures, table = csv.writer(counts), csv.writer(objects)
        pictures.writerow(PICTURE)
        table.writerow(OBJECT)
        for file, boxes in BOXES.items():
            n = len(boxes)
            pictures.writerow([file, "", n, 0.9, n, n, 0, False])
            for i, box in enumerate(boxes):
                centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                row = [file, "", i, n, 0.9, *box, 0.9, *centre, 100, 1, 100, 0, False]
                table.writerow(row)
    return out


def test_regions_of_imagej(tmp_path):
    """As Fiji's tools make them: areas are objects, and so is each point; a line is not."""
    rectangle = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=3, top=4, right=9, bottom=8,
                                  position=2)  # fmt: skip
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=1, top=2, right=5, bottom=9)
    points = roi([[3.5, 4.5], [7, 8]], "POINT")
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, x1=1, y1=1, x2=5, y2=5)
    freehand = roi([[1, 1], [4, 2], [2, 6]], "FREEHAND", t_position=3)
    path = tmp_path / "a.zip"
    roifile.roiwrite(path, [rectangle, oval, roi(SQUARE[:4]), freehand, points, line], mode="w")
    assert marks(path) == [
        ((3, 4, 9, 8), 1), ((1, 2, 5, 9), None), ((2, 2, 12, 12), None), ((1, 1, 4, 6), 2),
        ((3.5, 4.5, 3.5, 4.5), None), ((7, 8, 7, 8), None),
    ]  # fmt: skip
    drawn = read_drawn(path)
    assert drawn.skipped == 1 and [mark.is_point for mark in drawn.marks] == 4 * [False] + 2 * [
        True
    ]
    rectangle.tofile(tmp_path / "one.roi")
    assert marks(tmp_path / "one.roi") == [((3, 4, 9, 8), 1)]


def test_points_of_a_stack_have_positions_of_their_own(tmp_path):
    counted = roi([[1, 2], [3, 4]], "POINT", counters=np.zeros(2, np.uint8),
                  counter_positions=np.array([1, 3], np.uint32))  # fmt: skip
    counted.tofile(tmp_path / "a.roi")
    assert marks(tmp_path / "a.roi") == [((1, 2, 1, 2), 0), ((3, 4, 3, 4), 2)]


def test_features_of_qupath(tmp_path):
    hole = [[5, 5], [6, 5], [6, 6], [5, 5]]
    far = [[[20, 20], [25, 20], [25, 28], [20, 20]]]
    path = write(
        tmp_path / "a.geojson", feature("Polygon", [SQUARE, hole]),
        feature("MultiPolygon", [[SQUARE], far]), feature("Point", [3.5, 4]),
        feature("MultiPoint", [[1, 2], [3, 4]], "Tumor"), feature("LineString", [[0, 0], [9, 9]]),
        feature("Polygon", [SQUARE], "Ignore*", c=-1, z=0, t=0),
    )  # fmt: skip
    drawn = read_drawn(path)
    assert [mark.box for mark in drawn.marks] == [
        (2, 2, 12, 12), (2, 2, 25, 28), (3.5, 4, 3.5, 4), (1, 2, 1, 2), (3, 4, 3, 4),
        (2, 2, 12, 12),
    ]  # fmt: skip
    assert [mark.is_ignored for mark in drawn.marks] == [False] * 5 + [True]
    assert drawn.skipped == 1 and {mark.page for mark in drawn.marks} == {None}
    path.write_text(json.dumps([feature("Point", [1, 1], c=-1, z=0, t=0),
                                feature("Point", [2, 2], c=-1, z=4, t=0)]))  # fmt: skip
    assert marks(path) == [((1, 1, 1, 1), 0), ((2, 2, 2, 2), 4)]
    path.write_text(json.dumps(feature("Point", [1, 1])))
    assert marks(path) == [((1, 1, 1, 1), None)]


def test_tables_of_napari(tmp_path):
    points = tmp_path / "a_points.csv"
    points.write_text("index,axis-0,axis-1,label\n0.0,2.0,3.5,1.0\n1.0,0.0,0.0,2.0\n")
    assert marks(points) == [((4, 2.5, 4, 2.5), None), ((0.5, 0.5, 0.5, 0.5), None)]
    shapes = tmp_path / "a_boxes.csv"
    corners = "".join(f"0,rectangle,{i},2,{y},{x}\n" for i, (y, x) in
                      enumerate([(1.5, 2.5), (1.5, 6.5), (3.5, 6.5), (3.5, 2.5)]))  # fmt: skip
    shapes.write_text(
        f"index,shape-type,vertex-index,axis-0,axis-1,axis-2\n{corners}1,line,0,0,1,1\n"
    )
    assert marks(shapes) == [((3, 2, 7, 4), 2)] and read_drawn(shapes).skipped == 1


def test_names_of_pictures():
    names = {"a.zip": ("a", None), "x/a.png.zip": ("x/a.png", None), "a.tif.3.zip": ("a.tif", 3),
             "a.001.zip": ("a.001", None), "a_points.csv": ("a", None),
             "a_boxes.csv": ("a", None)}  # fmt: skip
    assert {path: name_of(path) for path in names} == names


def shown(results, truth, capsys):
    capsys.readouterr()
    main(["check", str(results), str(truth)])
    text = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines()
             if line.startswith("│")]  # fmt: skip
    return {cell[0]: cell[1] for cell in cells}, text


def test_the_way_back_from_fiji(results, tmp_path, capsys):
    """An object was added to a, and the one of b deleted: its zip is empty."""
    rois = tmp_path / "rois"
    (rois / "below").mkdir(parents=True)
    squares = [roi(SQUARE[:4]), roi([[20, 5], [30, 5], [30, 15], [20, 15]]),
               roi([[40, 0], [50, 0], [50, 9]])]  # fmt: skip
    roifile.roiwrite(rois / "a.zip", squares, mode="w")
    with zipfile.ZipFile(rois / "below" / "b.tif.zip", "w"):
        pass
    table, text = shown(results, rois, capsys)
    assert table["boxes by hand, found, matched (IoU 0.5)"] == "3, 3, 2"
    assert table["pictures counted by hand"] == "2, mean 1.5"
    assert "pictures without truth: 1: c.png" in text
    roifile.roiwrite(rois / "a.zip", [*squares, roi([[7, 7]], "POINT")], mode="w")
    table, text = shown(results, rois, capsys)
    assert "points and outlines: 1 and 3; all taken as dots" in text
    assert table["dots by hand, found, matched (within 5.0 pixels)"] == "4, 3, 2"


@pytest.mark.parametrize("suffix", ["geojson", "json"])
def test_the_way_back_from_qupath(suffix, results, tmp_path, capsys):
    path = write(tmp_path / f"a.{suffix}", feature("Polygon", [SQUARE]),
                 feature("Polygon", [[[18, 3], [35, 3], [35, 18], [18, 3]]], "Ignore*"),
                 feature("LineString", [[0, 0], [1, 1]]))  # fmt: skip
    table, text = shown(results, path, capsys)
    assert table["boxes by hand, found, matched (IoU 0.5)"] == "1, 1, 1"
    assert "marks of ignored classes: 1" in text
    assert "passed over: 1 marks that are neither points nor outlines" in text


def test_the_way_back_from_napari(results, tmp_path, capsys):
    path = tmp_path / "a_points.csv"
    path.write_text("index,axis-0,axis-1\n0.0,6.5,6.5\n1.0,30.0,30.0\n")
    table, _ = shown(results, path, capsys)
    assert table["dots by hand, found, matched (within 5.0 pixels)"] == "2, 2, 1"


def test_wrong_files(results, tmp_path, capsys):
    folder = tmp_path / "marked"
    wrong = {
        "a.zip": (b"no zip", "a.zip cannot be read (File is not a zip file)"),
        "a.roi": (b"Iout no", "a.roi cannot be read ("),
        "a.geojson": (b"{", "a.geojson cannot be read ("),
        "b.geojson": (b'{"a": 1}', "TRUTH must be GeoJSON, a FeatureCollection or a list of"),
        "c.geojson": (b'[{"type": "Feature"}]', "c.geojson must have GeoJSON's features (KeyError"),
        "a.csv": (b"file,count\na.png,1\n", "a.csv must be napari's table of points or shapes"),
    }
    for name, (content, message) in wrong.items():
        folder.mkdir()
        (folder / name).write_bytes(content)
        assert message in mistake(f"check {results} {folder}", capsys)
        shutil.rmtree(folder)
    write(folder / "a.geojson", feature("Point", [float("nan"), 1]))
    assert "(coordinates must be finite)" in mistake(f"check {results} {folder}", capsys)
    write(folder / "a.geojson", feature("Point", [1, 1]))
    write(folder / "a_points.geojson", feature("Point", [1, 1]))
    assert "must have one file for each picture" in mistake(f"check {results} {folder}", capsys)
    zips = tmp_path / "zips"
    zips.mkdir()
    roifile.roiwrite(zips / "a.zip", [roi(SQUARE[:4]), roi(SQUARE[:4], position=2)], mode="w")
    with pytest.raises(InputError, match=r"a page for each mark, or for none, got a\.zip"):
        read_truth(zips)


def test_what_predict_writes_comes_back(pictures, run, tmp_path, capsys):
    """Unchanged, all objects match."""
    pages = np.random.default_rng(0).integers(0, 256, (2, 5, 6)).astype(np.uint8)
    Image.fromarray(pages[0]).save(tmp_path / "x.png")
    folder, out = tmp_path / "small", tmp_path / "out"
    folder.mkdir()
    for i in range(2):
        Image.fromarray(pages[i]).save(folder / f"{i}.png")
    tifffile.imwrite(folder / "series.tif", pages, photometric="minisblack")
    main(
        ["predict", str(run), str(folder), "--out", str(out), "--format", "csv", "rois", "geojson"]
    )
    for kind in ("rois", "geojson"):
        table, text = shown(out, out / kind, capsys)
        true, found, _ = table["boxes by hand, found, matched (IoU 0.5)"].split(", ")
        assert true == found != "0" and "not in the results" not in text


MACRO = """
run("ROI Manager...");
roiManager("Open", "IN");
n = roiManager("count");
areas = "";
for (i = 0; i < n; i++) { roiManager("select", i); getStatistics(area); areas += " " + area; }
roiManager("select", 0); roiManager("delete");
makeOval(20, 10, 8, 6); roiManager("add");
makePoint(3, 4); roiManager("add");
roiManager("deselect"); roiManager("save", "OUT");
print(n + areas);
"""
