"""What the page shows and offers of a picture is what ``airjax predict`` writes of it."""

import csv
import dataclasses
import io
import json
import re
import shutil
import zipfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import roifile
import shapely
import tifffile
from conftest import TINY, eager
from gradio import EventData
from PIL import Image

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.demo import views
from airjax.demo.downloads import EVERYTHING, OFFERS, download, stem_of
from airjax.demo.examples import MOST, of_files, of_images
from airjax.demo.exhibit import Exhibit
from airjax.demo.see_tab import See
from airjax.demo.uploads import as_it_is, uploaded
from airjax.errors import InputError
from airjax.inference.results import PER_OBJECT, Objects
from airjax.inference.writers import OBJECT, Picture
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

AS_IT_IS = PictureConfig("no", None, "grey", 0, normalise="none")
HOSTILE = "=2+3 <b>& ${x} {{y}}\\..\u202egnp.tif"


Parts = namedtuple("Parts", "state viewer answer command table read message least most paths")


def a_run(path, pictures, data="digits", size=(6, 6)):
    """A run of an untrained model that finds objects everywhere."""
    model = dataclasses.replace(TINY, guide="attend").for_images(size)
    config = Config(TrainConfig(data=str(data), seed=3), model, pictures=pictures)
    run = Run.create(config, path)
    programs = untrained(model, 1)
    run.save(programs[0], eager(programs[1]))
    return run


@pytest.fixture(params=["same size", "any size"])
def uploads(request, tmp_path):
    """The tab of a run, and a file of 16 bit with three pages: of the model's size, or larger."""
    any_size = request.param == "any size"
    pictures = dataclasses.replace(AS_IT_IS, crop=6 if any_size else 0)
    run = a_run(tmp_path / "run", pictures)
    shape = (3, 17, 23) if any_size else (3, 6, 6)
    pages = np.random.default_rng(0).integers(0, 2**16, shape).astype(np.uint16)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / HOSTILE, pages, photometric="minisblack")
    see = See(Exhibit.of(run))
    return SimpleNamespace(run=run, see=see, state=see.first(), file=tmp_path / "in" / HOSTILE)


def uploading(uploads, files, num_paths=5):
    """The parts of the page after files were uploaded: the state, what was found, its parts."""
    parts = Parts(*uploads.see.upload(uploads.state, [str(file) for file in files], num_paths))
    return parts.state.answer, parts.state.answer.picture, parts


def of_predict(run, file, out, *flags):
    """The folder that predict writes of a file."""
    line = ["predict", run.path, file.parent, "--out", out, "--format", "csv", "json", "masks"]
    main([*map(str, line), "rois", "geojson", *flags])
    return out


def of_table(html):
    """The columns and rows of the table."""
    columns = re.findall(r"<th>(.*?)</th>", html)
    rows = re.findall(r"<tr style.*?</tr>", html)
    return columns, [re.findall(r"<td>(.*?)</td>", row) for row in rows]


@pytest.mark.slow  # compiles much
def test_the_page_says_what_predict_says(uploads, tmp_path):
    out = of_predict(uploads.run, uploads.file, tmp_path / "out", "--num-paths", "5")
    with open(out / "counts.csv", newline="") as file:
        count, *_ = csv.DictReader(file)
    with open(out / "objects.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["page"] == "0"]
    uploaded = Path(shutil.copytree(uploads.file.parent, tmp_path / "uploads")) / HOSTILE
    answer, picture, parts = uploading(uploads, [uploaded])
    table = parts.table
    assert not uploaded.exists()
    boxes = json.loads(parts.viewer.value)["boxes"]
    assert f'data-count="{count["count"]}"' in parts.answer and len(boxes) == len(rows) > 0
    if answer.subject.any_size:
        assert len(rows) > 3  # more than a crop can have
        assert f"{count['low']} to {count['high']} with probability 0.9" in parts.answer
    columns, cells = of_table(table)
    assert columns == [name for name in OBJECT if name not in views.SAME]
    assert cells == [[row[name] for name in columns] for row in rows]
    assert [f"{x:g}" for x in picture.row()[1:4]] == [
        "0", count["count"], f"{float(count['probability']):g}",
    ]  # fmt: skip
    assert f"{float(count['probability']):.4f}" in table and "<b>&" not in table
    assert "3 pages; only the first was read" in parts.message.value


@pytest.mark.slow  # compiles much
def test_each_download_is_what_predict_writes(uploads, tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(temporary))
    out = of_predict(uploads.run, uploads.file, tmp_path / "out", "--num-paths", "5")
    _, picture, _ = uploading(uploads, [uploads.file])
    files = {key: download(picture, key) for key in OFFERS}
    assert not list(temporary.iterdir())
    for name, _ in files.values():
        assert re.fullmatch(r"2_3_b_x_y_gnp-[a-z]+\.[a-z]+", name)
    for key, name in (("objects", "objects.csv"), ("count", "counts.csv")):
        head, *rows = (out / name).read_text().splitlines()
        assert files[key].content.decode().splitlines() == [
            head, *(row for row in rows if row.split(",")[1] == "0")
        ]  # fmt: skip
    (entry, *_) = json.loads((out / "predictions.json").read_text())
    (mine,) = json.loads(files["json"].content)
    assert mine["objects"][0].keys() == entry["objects"][0].keys()
    np.testing.assert_allclose(mine["count_probs"], entry["count_probs"], rtol=1e-5, atol=1e-7)
    mask = tifffile.imread(io.BytesIO(files["mask"].content))
    np.testing.assert_array_equal(mask, tifffile.imread(out / "masks" / f"{HOSTILE}.0.tif"))
    assert mask.max() > 0
    (tmp_path / "rois.zip").write_bytes(files["rois"].content)
    mine, theirs = (
        [roi.coordinates().tolist() for roi in roifile.roiread(path)]
        for path in (tmp_path / "rois.zip", out / "rois" / f"{HOSTILE}.0.zip")
    )
    assert mine == theirs and len(mine) == picture.objects.number
    found = shapely.from_geojson(files["geojson"].content)
    assert len(found.geoms) == picture.objects.number
    with zipfile.ZipFile(io.BytesIO(download(picture, EVERYTHING).content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == dict(files.values())


@pytest.mark.slow
@pytest.mark.parametrize("uploads", ["whole"], indirect=True)
def test_a_k_of_the_slider_is_one_of_predict(uploads, tmp_path):
    *_, parts = uploading(uploads, [shutil.copy(uploads.file, tmp_path / "a.tif")])
    for k in (1, 12):
        out = of_predict(uploads.run, uploads.file, tmp_path / f"{k}", "--num-paths", str(k))
        entry = json.loads((out / "predictions.json").read_text())[0]
        picture = uploads.see.again(parts.state, k)[0].answer.picture
        np.testing.assert_allclose(picture.objects.count_probs, entry["count_probs"], rtol=1e-4)


def nothing():
    """What was found in a picture without objects."""
    none = np.zeros((0, 4), np.float32)
    objects = Objects(none, none, none[:, 0], none[:, :3], none, np.float32([1, 0]))
    return Picture("a.png", None, (5, 6), objects, [])


def test_where_nothing_was_found():
    assert "<table" not in views.table(nothing()) and "no object" in views.table(nothing())
    with pytest.raises(InputError, match="no object was found"):
        download(nothing(), "rois")
    with zipfile.ZipFile(io.BytesIO(download(nothing(), EVERYTHING).content)) as archive:
        assert len(archive.namelist()) == len(OFFERS) - 1
    with pytest.raises(InputError, match="must be one of objects"):
        download(nothing(), "../../etc/passwd")


@pytest.mark.slow  # compiles much
def test_a_long_table_says_what_it_leaves_out(uploads):
    _, picture, _ = uploading(uploads, [uploads.file])
    n = views.MOST_ROWS + 1
    fields = [np.repeat(getattr(picture.objects, name)[:1], n, axis=0) for name in PER_OBJECT]
    many = Objects(*fields, np.eye(n + 1, dtype=np.float32)[n])
    picture = dataclasses.replace(picture, objects=many, regions=picture.regions[:1] * n)
    html = views.table(picture)
    assert len(of_table(html)[1]) == n - 1 and f"200 of {n} objects are shown" in html
    assert download(picture, "objects").content.count(b"\n") == n + 1


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("cells.01.tif", "cells_01"), ("../../.bashrc", "bashrc"), ("..", "picture"),
        ("ünï code.png", "ünï_code"), ("-rf.png", "rf"), ("x" * 300 + ".png", "x" * 40),
        ("a\nb\x00c", "a_b_c"), ("C:\\evil.png", "C_evil"), ("", "picture"),
    ],
)  # fmt: skip
def test_names_of_files_are_safe(name, stem):
    assert stem_of(name) == stem


@pytest.mark.slow  # compiles much
def test_of_several_files_the_first_is_read_and_none_is_kept(uploads, tmp_path):
    files = [shutil.copy(uploads.file, tmp_path / f"{name}.tif") for name in "abc"]
    *_, parts = uploading(uploads, files)
    assert "Of 3 files, only a.tif was read." in parts.message.value
    assert not any(Path(file).exists() for file in files)


def test_a_picture_without_the_channel_is_named_and_removed(tmp_path):
    file = tmp_path / "two.tif"
    values = np.random.default_rng(0).random((2, 9, 9)).astype(np.float32)
    tifffile.imwrite(file, values, imagej=True, metadata={"axes": "CYX"})
    for channel in ("2", "colour"):
        again = Path(shutil.copy(file, tmp_path / "copy.tif"))
        with pytest.raises(InputError, match=r"^copy.tif cannot be read: channel must") as error:
            uploaded(again, PictureConfig(channel=channel), (6, 6))
        assert not again.exists() and str(tmp_path) not in str(error.value)


@pytest.mark.slow  # compiles much
def test_pictures_with_nothing_in_them_are_read(uploads, tmp_path):
    for size in ((1, 1), (6, 9)):
        Image.new("L", size).save(tmp_path / "black.png")
        _, picture, parts = uploading(uploads, [tmp_path / "black.png"])
        assert picture.size == size[::-1] and "air-count" in parts.answer
        assert download(picture, "mask").content and "black.png" in parts.table


def test_a_picture_smaller_than_the_crops_is_noted(tmp_path):
    Image.fromarray(np.eye(5, 9, dtype=np.uint8) * 255).save(tmp_path / "small.png")
    pictures = dataclasses.replace(AS_IT_IS, crop=6)
    assert (
        "smaller than the model's crops" in uploaded(tmp_path / "small.png", pictures, (6, 6)).note
    )


def test_examples_are_the_held_out_pictures_of_the_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(30):
        image = np.zeros((400, 9), np.uint8)
        image[10 * i : 10 * i + 5, 2:5] = 255
        Image.fromarray(image).save(folder / f"{i:02}.png")
    (folder / "19.png").write_bytes(b"broken")
    pictures = dataclasses.replace(AS_IT_IS, crop=6)
    run = a_run(tmp_path / "run", pictures, folder)
    see = See(Exhibit.of(run))
    assert [each.name for each in see.exhibit.examples] == ["09.png", "29.png"]
    assert see.exhibit.first.read.path.name == "09.png"  # whole, not a crop
    assert max(see.exhibit.examples[0].thumbnail.shape) <= 320
    html = views.thumbnails(see.exhibit.examples)
    assert html.count("<button") == 2 and 'title="29.png"' in html
    state, *_ = see.example(see.first(), 5, EventData(None, {"number": "1"}))
    subject = state.answer.subject
    assert (
        state.answer.picture.file == "29.png" and subject.image[292, 3] == 255 and subject.any_size
    )
    (folder / "29.png").unlink()  # while the page is shown
    message = Parts(*see.example(state, 5, EventData(None, {"number": "1"}))).message
    assert message.value.startswith('<p class="air-message"') and str(tmp_path) not in message.value
    shutil.rmtree(folder)
    assert Exhibit.of(run).examples == []


def test_of_few_pictures_all_are_examples(pictures):
    for file in sorted(pictures.iterdir())[9:]:
        file.unlink()
    assert len(of_files(pictures, AS_IT_IS, (10, 12))) == MOST


def test_examples_of_images_are_some_of_them():
    images = np.arange(100 * 5 * 6).reshape(100, 5, 6).astype(np.uint8)
    examples = of_images(images)
    assert [each.name for each in examples][::5] == ["scene-0", "scene-99"]
    np.testing.assert_array_equal(examples[-1].subject().image, images[99])
    assert len(of_images(images[:2])) == 2


def test_hostile_names_of_examples_are_shown_as_text():
    name = '"><script>alert(1)</script>'
    (example,) = of_images(np.zeros((1, 4, 5), np.uint8))
    html = views.thumbnails([example._replace(name=name)])
    assert "<script>" not in html and "&lt;script&gt;" in html
    assert as_it_is(np.zeros((4, 5, 3), np.uint8), name).image.shape == (4, 5, 3)
