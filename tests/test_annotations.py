"""Truth from other programs: ImageJ's regions, QuPath's GeoJSON and napari's tables."""

import csv
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import roifile
import tifffile
from conftest import mistake
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

from airjax.cli.annotations import annotation_files, labels_of, name_of, read_annotations
from airjax.cli.main import main
from airjax.cli.truth import read_truth
from airjax.errors import InputError
from airjax.inference.regions import Region
from airjax.inference.results import Objects
from airjax.inference.writers import OBJECT, PICTURE, WRITERS, Picture

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
    return [(mark.box, mark.page) for mark in read_annotations(path).marks]


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
    annotated = read_annotations(path)
    assert annotated.skipped == 1 and [mark.is_point for mark in annotated.marks] == 4 * [
        False
    ] + 2 * [True]
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
    annotated = read_annotations(path)
    assert [mark.box for mark in annotated.marks] == [
        (2, 2, 12, 12), (2, 2, 25, 28), (3.5, 4, 3.5, 4), (1, 2, 1, 2), (3, 4, 3, 4),
        (2, 2, 12, 12),
    ]  # fmt: skip
    assert [mark.is_ignored for mark in annotated.marks] == [False] * 5 + [True]
    assert annotated.skipped == 1 and {mark.page for mark in annotated.marks} == {None}
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
    assert marks(shapes) == [((3, 2, 7, 4), 2)] and read_annotations(shapes).skipped == 1


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


def test_outlines_become_pixels(tmp_path):
    """A square with a hole, of which a later strip covers a part, beyond the border."""
    square = [(1.0, 1.0), (6.0, 1.0), (6.0, 6.0), (1.0, 6.0)]
    hole = [(2.0, 2.0), (4.0, 2.0), (4.0, 4.0), (2.0, 4.0)]
    strip = [(5.0, -3.0), (9.0, -3.0), (9.0, 20.0), (5.0, 20.0)]
    labels = labels_of([[square, hole], [strip]], (7, 8))
    expected = np.zeros((7, 8), int)
    expected[1:6, 1:6], expected[2:4, 2:4], expected[:, 5:] = 1, 0, 2
    np.testing.assert_array_equal(labels, expected)
    assert not labels_of([[[(50.0, 50.0), (60.0, 50.0), (60.0, 60.0)]]], (7, 8)).any()
    assert not labels_of([], (7, 8)).any()


def picture_of(labels):
    """What was found: an object for each number, from 1."""
    found = []
    for number in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == number)
        found.append(Region(rows, columns, 1.0, 1.0, 0.0, False))
    boxes = [[r.columns.min(), r.rows.min(), r.columns.max() + 1, r.rows.max() + 1] for r in found]
    tight, n = np.array(boxes, np.float32), len(found)
    nothing, probs = np.zeros((n, 2), np.float32), np.eye(n + 1, dtype=np.float32)[n]
    objects = Objects(tight, tight, np.ones(n, np.float32), nothing, nothing, probs)
    return Picture("a.tif", 3, labels.shape, objects, found)


@pytest.fixture
def blobs():
    """Labels of some shapes of 3 to 100 pixels, which touch."""
    smooth = gaussian_filter(np.random.default_rng(2).normal(size=(60, 80)), 2)
    labels, _ = label(smooth > 0.02)
    for number in range(1, labels.max() + 1):  # without holes
        labels[binary_fill_holes(labels == number)] = number
    labels[np.bincount(labels.ravel())[labels] < 3] = 0
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


@pytest.mark.parametrize("kind", ["rois", "geojson"])
def test_outlines_of_predict_have_its_pixels(kind, blobs, tmp_path):
    writer = WRITERS[kind](tmp_path)
    writer.add(picture_of(blobs))
    writer.close()
    (path,) = annotation_files(tmp_path)
    assert name_of(path.name) == ("a.tif", 3) and blobs.max() > 9
    rings = [mark.rings for mark in read_annotations(path).marks]
    np.testing.assert_array_equal(labels_of(rings, blobs.shape), blobs)


@pytest.mark.slow
def test_what_predict_writes_comes_back(run, tmp_path, capsys):
    """All its files and pages have their truth."""
    pages = np.random.default_rng(0).integers(0, 256, (2, 5, 6)).astype(np.uint8)
    folder, out = tmp_path / "small", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(pages[0]).save(folder / "a.png")
    tifffile.imwrite(folder / "series.tif", pages, photometric="minisblack")
    formats = ["csv", "masks", "rois", "geojson"]
    main(["predict", str(run), str(folder), "--out", str(out), "--format", *formats])
    for kind in ("rois", "geojson"):
        table, text = shown(out, out / kind, capsys)
        true, found, matched = table["masks by hand, found, matched (IoU 0.5)"].split(", ")
        assert true == found and int(matched) > 0
        assert table["pictures counted by hand"].startswith("3, ") and "without truth" not in text


MACRO = """
setBatchMode(true);
newImage("a", "8-bit black", WIDTH, HEIGHT, 1);
run("ROI Manager...");
roiManager("Open", "FOLDER/a.zip");
n = roiManager("count");
for (i = 0; i < n; i++) {
    roiManager("select", i);
    setColor(i + 1);
    fill();
}
roiManager("deselect");
saveAs("Tiff", "FOLDER/labels.tif");
roiManager("select", 0);
roiManager("delete");
makeOval(20, 10, 8, 6);
roiManager("add");
makePoint(3, 4);
roiManager("add");
roiManager("deselect");
roiManager("save", "FOLDER/b.zip");
run("Quit");
"""
IMAGEJ = Path("/usr/share/java/ij.jar")  # of Debian's package


@pytest.mark.slow
@pytest.mark.skipif(
    not IMAGEJ.exists() or shutil.which("xvfb-run") is None, reason="needs imagej and xvfb"
)
def test_imagej_reads_and_writes_them(blobs, tmp_path):
    """ImageJ itself fills the regions with the numbers of their objects, deletes the first one, and
    adds an oval and a point."""
    writer = WRITERS["rois"](tmp_path)
    writer.add(picture_of(blobs))
    (path,) = annotation_files(tmp_path)
    path.rename(tmp_path / "a.zip")
    macro = MACRO.replace("FOLDER", str(tmp_path)).replace("WIDTH", str(blobs.shape[1]))
    (tmp_path / "macro.ijm").write_text(macro.replace("HEIGHT", str(blobs.shape[0])))
    command = ["java", "-cp", IMAGEJ, "ij.ImageJ", "-batch", tmp_path / "macro.ijm"]
    home = os.environ | {"HOME": str(tmp_path)}
    subprocess.run(
        ["xvfb-run", "-a", *command], env=home, check=True, timeout=120, capture_output=True
    )  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), blobs)
    before, after = (
        read_annotations(tmp_path / "a.zip").marks,
        read_annotations(tmp_path / "b.zip").marks,
    )
    assert [mark.box for mark in after[:-2]] == [mark.box for mark in before[1:]]
    assert after[-2].box == (20, 10, 28, 16) and not after[-2].is_point
    assert after[-1].box == (3, 4, 3, 4) and after[-1].is_point
