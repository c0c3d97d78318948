"""The plugin for napari: layers hold what `airjax predict` finds, what the user made is kept."""

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import airjax
from airjax.cli.main import main
from airjax.inference.out_of_distribution import Explained, Usual
from airjax.training.runs import Run

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
MANIFEST = Path(airjax.__file__).parent / "napari" / "napari.yaml"
RUNNING = []  # Qt's application has to live until the process ends
KINDS = ("masks", "boxes", "points")
# of the packages that napari and its manifests need
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
HAS_SCREEN = shutil.which("xvfb-run") and all(map(find_library, ("xcb-cursor", "xcb-icccm")))
slow = pytest.mark.slow


def test_the_manifest_is_valid():
    import npe2

    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "airjax"
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Find objects"]


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """Qt's, with napari's own plugins, and without the settings of whoever runs the tests."""
    import npe2
    from qtpy.QtWidgets import QApplication

    os.environ["NAPARI_CONFIG"] = str(tmp_path_factory.mktemp("napari") / "settings.yaml")
    npe2.PluginManager.instance().discover()
    RUNNING.append(QApplication.instance() or QApplication([]))
    return RUNNING[0]


@pytest.fixture
def viewer(application):
    """The model of a viewer, without the window, whose canvas would need OpenGL."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def said(monkeypatch):
    """The notifications: their kind and text."""
    from napari.utils import notifications

    lines = []
    for kind in ("info", "warning", "error"):
        name = f"show_{kind}"
        monkeypatch.setattr(notifications, name, lambda text, kind=kind: lines.append((kind, text)))
    return lines


def widget_of(viewer):
    """The widget as napari makes it."""
    from napari.utils._proxies import PublicOnlyProxy

    from airjax.napari.widget import Read

    return Read(PublicOnlyProxy(viewer))


def read(widget, run, threshold=0.0):
    """Presses the button, and waits until the worker has ended."""
    from qtpy.QtWidgets import QApplication

    widget.run.line_edit.value, widget.threshold.value = str(run), threshold
    widget.start()
    end = time.monotonic() + 120
    while widget.worker is not None and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    assert widget.worker is None and widget.button.enabled


def predicted(folder, run, *flags):
    """The tables of `airjax predict`, by file and page, and the folder of masks."""
    out = folder.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    main(["predict", str(run), str(folder), "--out", str(out), "--format", "csv", "masks", *flags])
    with open(out / "counts.csv") as counts, open(out / "objects.csv") as objects:
        tables = {
            (row["file"], row["page"]): (row, []) for row in csv.DictReader(counts)
        }  # fmt: skip
        for row in csv.DictReader(objects):
            tables[row["file"], row["page"]][1].append(row)
    return tables, out / "masks"


def check_layers(viewer, name, at, objects, masks):
    """The layers of an image hold these rows and labels in a plane."""
    labels, boxes, points = (viewer.layers[f"{name}_{kind}"] for kind in KINDS)
    here = np.flatnonzero((points.data[:, : len(at)] == at).all(1))
    expected = [[float(row["y"]) - 0.5, float(row["x"]) - 0.5] for row in objects]
    np.testing.assert_allclose(
        points.data[here, len(at) :], np.reshape(expected, (-1, 2)), atol=0.006
    )
    np.testing.assert_array_equal(labels.data[at], masks)
    features = points.features.iloc[here]
    for column in ("score", "x0", "y1", "area", "total", "eccentricity"):
        assert features[column].tolist() == [float(row[column]) for row in objects]
    sides = [[float(row[key]) - 0.5 for key in ("y0", "x0", "y1", "x1")] for row in objects]
    shown = [[*box[:, -2:].min(0), *box[:, -2:].max(0)] for box in np.array(boxes.data)[here]]
    np.testing.assert_allclose(shown, np.reshape(sides, (-1, 4)), atol=0.051)
    assert all((np.array(boxes.data[i])[:, : len(at)] == at).all() for i in here)
    return len(here)


@pytest.fixture
def folder(tmp_path):
    """A folder of pictures of 5 x 6: grey, colours with opacity, 12 bit, turned, and a series."""
    out, random = tmp_path / "pictures", np.random.default_rng(0)
    out.mkdir()
    noise = random.integers(0, 256, (5, 6, 4)).astype(np.uint8)
    Image.fromarray(noise[..., 0]).save(out / "grey.png")
    Image.fromarray(noise[..., 0] > 99).save(out / "two.png")
    Image.fromarray(noise[..., :3]).save(out / "colours.png")
    Image.fromarray(noise).save(out / "opacity.png")
    turned = Image.fromarray(np.rot90(noise[..., 1]).copy())  # stored as 6 x 5
    exif = turned.getexif()
    exif[274] = 6
    turned.save(out / "turned.png", exif=exif)
    deep = random.integers(0, 4096, (5, 6)).astype(np.uint16)
    tifffile.imwrite(out / "twelve.tif", deep, bitspersample=12)
    tifffile.imwrite(out / "inverse.tif", noise[..., 2], photometric="miniswhite")
    series = random.integers(0, 256, (3, 5, 6)).astype(np.uint8)
    tifffile.imwrite(out / "series.tif", series, metadata={"axes": "TYX"}, photometric="minisblack")
    return out


@slow
def test_layers_hold_what_predict_finds(viewer, folder, run, said):
    widget, (tables, masks) = widget_of(viewer), predicted(folder, run)
    for path in sorted(folder.iterdir()):
        rgb = path.stem in ("colours", "opacity")  # napari guesses, and only for larger pictures
        viewer.open(path, plugin="napari", layer_type="image", rgb=rgb)
        widget.layer.value = viewer.layers[path.stem]
        read(widget, run)
        pages = [key for key in tables if key[0] == path.name]
        assert pages, path
        for _, page in pages:
            counted, objects = tables[path.name, page]
            file = f"{path.name}.{page}.tif" if page else f"{path.name}.tif"
            at = (int(page),) if page else ()
            n = check_layers(viewer, path.stem, at, objects, tifffile.imread(masks / file))
            assert n == int(counted["count"])
            interval = f"{n} (90 % interval {counted['low']} to {counted['high']})"
            viewer.dims.set_current_step(0, int(page or 0))
            assert widget.said.value.endswith(interval) and viewer.status == widget.said.value
    total = sum(int(row["count"]) for row, _ in tables.values())
    assert total > 8 and {kind for kind, _ in said} == {"info"} and len(said) == 8


@pytest.fixture
def noise():
    """A time series of two z-stacks of three planes."""
    return np.random.default_rng(1).integers(0, 256, (2, 3, 5, 6)).astype(np.uint8)


@slow
def test_a_stack_is_read_plane_by_plane(viewer, noise, run, said, tmp_path):
    (tmp_path / "pictures").mkdir()
    for at in np.ndindex(2, 3):
        Image.fromarray(noise[at]).save(tmp_path / "pictures" / f"{at[0]}{at[1]}.png")
    every = predicted(tmp_path / "pictures", run)[0].values()
    scores = [float(row["score"]) for _, rows in every for row in rows]
    threshold = float(np.floor(100 * np.median(scores))) / 100  # as the widget has it
    tables, masks = predicted(tmp_path / "pictures", run, "--threshold", str(threshold))
    widget = widget_of(viewer)
    viewer.add_image(noise, name="cells", scale=(5, 4, 3, 2), translate=(0, 1, 2, 3), units="mm")
    read(widget, run, threshold)
    total = sum(
        check_layers(viewer, "cells", at, tables[f"{at[0]}{at[1]}.png", ""][1],
                     tifffile.imread(masks / f"{at[0]}{at[1]}.png.tif"))
        for at in np.ndindex(2, 3)
    )  # fmt: skip
    assert total == len(viewer.layers["cells_points"].data)
    viewer.dims.set_current_step((0, 1), (1, 2))
    row, objects = tables["12.png", ""]
    count = f"{len(objects)} (90 % interval {row['low']} to {row['high']})"
    assert viewer.status == f"objects in 6 planes: {total}; in plane 1, 2: {count}"
    left_out = f"left out: {len(scores) - total} objects by --threshold {threshold:g}"
    assert 0 < total < len(scores) and said[1:] == [("warning", f"airjax: {left_out}")]
    for kind in KINDS:
        layer = viewer.layers[f"cells_{kind}"]
        assert layer.scale.tolist() == [5, 4, 3, 2] and layer.translate.tolist() == [0, 1, 2, 3]
        assert layer.units == viewer.layers["cells"].units and layer.ndim == 4


@slow
def test_only_own_layers_that_nobody_changed_are_updated(viewer, noise, run, said):
    widget = widget_of(viewer)
    theirs = viewer.add_points([[1.0, 2.0]], name="cells_points")  # the user's, of this name
    image = viewer.add_image(noise[0, 0], name="cells", scale=(2, 2))
    read(widget, run)
    first = list(viewer.layers)
    assert [layer.name for layer in first[2:]] == ["cells_masks", "cells_boxes", "cells_points [1]"]
    masks, boxes, points = first[2:]
    copy = viewer.add_layer(type(points).create(*points.as_layer_data_tuple()))
    points.face_color, points.visible, boxes.name = "red", False, "mine"
    image.data, image.scale = noise[0, 1], (3, 3)
    read(widget_of(viewer), run)  # also from another widget
    assert list(viewer.layers) == [*first, copy]
    check = viewer.layers["cells_masks"], viewer.layers["mine"], viewer.layers["cells_points [1]"]
    assert check == (masks, boxes, points) and not points.visible
    assert all(layer.scale.tolist() == [3, 3] for layer in check)
    assert theirs.data.tolist() == [[1, 2]] and copy.scale.tolist() == [2, 2]
    before = [masks.data.copy(), [box.copy() for box in boxes.data], points.data.copy()]

    points.add([0.0, 0.0])  # corrections by hand
    masks.paint((1, 1), 9)
    image.data = noise[0, 2]
    read(widget, run)
    assert said[-1] == ("warning", "airjax: changed by hand, and kept: cells_masks, "
                        "cells_points [1]")  # fmt: skip
    assert len(points.data) == len(before[2]) + 1 and (masks.data == 9).any()
    new = list(viewer.layers)[6:]
    assert [layer.name for layer in new] == ["cells_masks [1]", "cells_points [3]"]
    assert len(new[1].data) == len(boxes.data) and new[0].data.any()

    viewer.layers.remove(boxes)
    read(widget, run)
    assert [type(layer).__name__ for layer in viewer.layers].count("Shapes") == 1
    assert len(viewer.layers) == 8


@slow
def test_values_in_memory_and_pictures_without_objects(viewer, noise, run, said, tmp_path):
    widget, grey = widget_of(viewer), noise[0, 0]
    kinds = {
        "int64": grey.astype(np.int64), "bool": grey > 99, "half": (grey / 255).astype(np.float16),
        "list": [grey, grey[::2, ::2]],
    }  # fmt: skip
    for name, values in kinds.items():
        widget.layer.value = viewer.add_image(values, name=name, multiscale=name == "list")
        read(widget, run)
        assert len(viewer.layers[f"{name}_points"].data) == widget.found.number
    widget.layer.value = viewer.add_image(grey, name="none")
    for _ in range(2):
        read(widget, run, 1.0)
        assert widget.found.number == len(viewer.layers["none_boxes"].data) == 0
        assert viewer.layers["none_points"].data.shape == (0, 2)
        assert not viewer.layers["none_masks"].data.any()
    assert widget.said.value == "objects: 0 (90 % interval 0 to 0)"
    read(widget, run)
    assert len(viewer.layers["none_boxes"].data) == widget.found.number > 0
    assert "error" not in dict(said)


@slow
def test_a_plane_unlike_the_training_is_named(viewer, noise, run, said, monkeypatch):
    monkeypatch.setattr(Run, "usual", Usual(Explained(1e-3, 0.9), in_crops=False))
    widget = widget_of(viewer)
    widget.layer.value = viewer.add_image(noise[0, 0], name="cells")
    read(widget, run)
    (text,) = (text for kind, text in said if kind == "warning")
    assert "layer cells looks unlike what the model was trained on: the objects leave" in text


@slow
def test_the_run_is_the_newest_one_at_first(viewer, noise, run, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    widget = widget_of(viewer)
    viewer.add_image(noise[0, 0], name="cells")
    read(widget, widget.run.line_edit.value)
    assert said.pop() == ("error", "airjax: RUN must be the folder of a run: runs/ has none, "
                          "got last")  # fmt: skip
    shutil.copytree(run, tmp_path / "runs" / "one")
    read(widget, widget.run.line_edit.value)
    assert [kind for kind, _ in said] == ["info"] and len(viewer.layers) == 4


@slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_napari_saves_is_read_by_check(kind, viewer, run, said, tmp_path, capsys):
    """A series of five pages, unchanged: all that was found is there."""
    values = np.random.default_rng(5).integers(0, 256, (5, 5, 6)).astype(np.uint8)
    (tmp_path / "pictures").mkdir()
    file = tmp_path / "pictures" / "cells.tif"
    tifffile.imwrite(file, values, photometric="minisblack")
    number = sum(len(rows) for _, rows in predicted(tmp_path / "pictures", run)[0].values())
    viewer.open(file, plugin="napari", layer_type="image")
    read(widget_of(viewer), run)
    layer, folder = viewer.layers[f"cells_{kind}"], tmp_path / "corrected"
    folder.mkdir()
    assert layer.save(str(folder / layer.name), plugin="napari")
    capsys.readouterr()
    main(["check", str(tmp_path / "out"), str(folder)])
    table = re.sub("[^0-9a-z,]+", " ", capsys.readouterr().out)
    assert "pictures counted by hand 5, mean" in table and number > 5
    if kind == "masks":  # objects that later ones cover have no pixel
        assert "masks by hand" in table
    else:
        how = "dots" if kind == "points" else "boxes"
        counts = rf"{how} by hand, found, matched [^,]* {number}, {number}, [1-9]"
        assert re.search(counts, table)


@slow
def test_mistakes_are_one_line_and_change_nothing(viewer, noise, run, said, tmp_path, capsys):
    from conftest import mistake

    widget = widget_of(viewer)
    read(widget, run)
    viewer.add_image(noise[0, 0], name="cells")
    (tmp_path / "empty").mkdir()
    Image.fromarray(noise[0, 0]).save(tmp_path / "a.png")
    for wrong in (tmp_path / "none", tmp_path / "empty"):
        read(widget, wrong)
        line = mistake(f"predict {wrong} {tmp_path / 'a.png'} --out {tmp_path / 'out'}", capsys)
        assert said.pop() == ("error", f"airjax: {line}")
    widget.layer.value = viewer.add_image(noise[0], name="large")
    viewer.layers["large"].data = np.pad(noise[0], ((0, 0), (1, 1), (0, 0)))
    read(widget, run)
    rule = "must be 5 x 6 pixels as the model's images, got 7 x 6"
    assert said.pop() == ("error", f"airjax: layer large [2] cannot be read ({rule})")
    values = noise[0].astype(float)
    values[1, 2, 3] = np.nan
    widget.layer.value = viewer.add_image(values[1], name="nan")
    read(widget, run)
    assert said.pop() == ("error", "airjax: layer nan cannot be read (values must be finite)")
    assert said == [("error", "airjax: --image must be an image layer; the viewer has none")]
    assert len(viewer.layers) == 3
    widget.layer.value = viewer.add_image(values, name="part")
    read(widget, run)
    assert said[-1] == ("warning", "airjax: layer part [1] cannot be read (values must be finite)")
    assert (viewer.layers["part_points"].data[:, 0] != 1).all()
    shutil.rmtree(tmp_path / "empty")


@slow
@pytest.mark.skipif(not HAS_SCREEN, reason="needs xvfb and the libraries of Qt's plugin xcb")
def test_in_a_real_viewer(run, tmp_path):
    """By the script that makes the picture in the documentation."""
    picture = tmp_path / "one" / "cells.png"
    picture.parent.mkdir()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 6), np.uint8)).save(picture)
    ((row, _),) = predicted(picture.parent, run)[0].values()
    script = MANIFEST.parents[2] / "docs" / "napari_figure.py"
    command = ["xvfb-run", "-a", sys.executable, script, run, picture, tmp_path / "shown.png"]
    settings = {"NAPARI_CONFIG": str(tmp_path / "settings.yaml"), "QT_QPA_PLATFORM": "xcb"}
    done = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=300
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    layers = "layers: cells, cells_masks, cells_boxes, cells_points"
    interval = f"(90 % interval {row['low']} to {row['high']})"
    assert done.stdout.splitlines()[-1] == f"objects: {row['count']} {interval}; {layers}"
    with Image.open(tmp_path / "shown.png") as window:
        assert window.width > 1000 and window.height > 500
