"""Boxes in pixels of the file, whatever became of the picture on its way to the model."""

import json

import numpy as np
import pytest
from conftest import TINY
from PIL import ExifTags, Image

from airjax.air import AIR
from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data.folder import read_images
from airjax.data.placement import Placement
from airjax.inference.results import Objects
from airjax.inference.writers import WRITERS
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

BOX = (12, 4, 32, 20)  # x0, y0, x1, y1 in the file


def picture(path, orientation=1):
    """A file of 60 x 40 pixels with a white rectangle, and EXIF data."""
    pixels = np.zeros((40, 60), np.uint8)
    x0, y0, x1, y1 = BOX
    pixels[y0:y1, x0:x1] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def bright(image, level=127):
    """The box around the pixels above a level."""
    rows, columns = np.nonzero(image > level)
    return np.float32([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])


@pytest.mark.parametrize("size", [None, "40x60", "80x120", "100x100", "30x90"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_box_is_where_it_is_in_the_file(suffix, orientation, size, tmp_path):
    file = picture(tmp_path / f"a.{suffix}", orientation)
    config = PictureConfig("no", size, "grey", 0, normalise="none")
    (read,) = read_images([file], config, config.image_size)
    found = read.placement.in_file(bright(read.image))
    assert read.placement.file == (40, 60)
    with Image.open(file) as opened:
        assert opened.size == (60, 40) or suffix == "tif"
    np.testing.assert_allclose(found[0], BOX, atol=1.5)
    if size is None:
        np.testing.assert_array_equal(found[0], BOX)


def test_boxes_end_where_the_picture_ends():
    padded = Placement((100, 200), 1, (0.25, 0.25), (12, 0))  # 100 x 200 in an image of 50 x 50
    boxes = np.float32([[10, 2, 60, 30]])
    np.testing.assert_array_equal(padded.in_file(boxes), [[40, 0, 200, 72]])
    np.testing.assert_array_equal(padded.in_file(boxes, clipped=False), [[40, -40, 240, 72]])


def finds_what_is_bright(air, images, batch_size):
    """Stands for a model that finds exactly what is there."""
    for image in images:
        box = bright(image)
        nothing = np.zeros((1, 2), np.float32)
        yield [Objects(box, box, np.ones(1), nothing, nothing, np.float32([0, 1]))]


@pytest.mark.parametrize("orientation", [1, 6])
def test_results_are_in_pixels_of_the_file(orientation, tmp_path, monkeypatch):
    """Through the command line, for each format."""
    run = Run.create(
        Config(TrainConfig(data="digits"), TINY.for_images((50, 50)),
               pictures=PictureConfig("no", "50x50", "grey", 0, normalise="none")),
        tmp_path / "run",
    )  # fmt: skip
    run.save(*untrained(run.config.model, 0))
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in/a.jpg", orientation)
    monkeypatch.setattr(AIR, "predict_batches", finds_what_is_bright)
    for kind in WRITERS:
        main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/{kind} --format {kind}".split())
    row = (tmp_path / "csv/objects.csv").read_text().splitlines()[1].split(",")
    np.testing.assert_allclose([float(x) for x in row[5:9]], BOX, atol=1.5)
    (entry,) = json.loads((tmp_path / "json/predictions.json").read_text())
    assert (entry["width"], entry["height"], entry["interval"]) == (60, 40, [1, 1])
    np.testing.assert_allclose(entry["objects"][0]["tight_box"], BOX, atol=1.5)
    images = json.loads((tmp_path / "coco/coco_images.json").read_text())["images"]
    assert (images[0]["width"], images[0]["height"]) == (60, 40)
    (result,) = json.loads((tmp_path / "coco/coco_results.json").read_text())
    x, y, w, h = result["bbox"]
    np.testing.assert_allclose([x, y, x + w, y + h], BOX, atol=1.5)
