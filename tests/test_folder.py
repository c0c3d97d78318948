"""Folders of pictures: every format becomes the same image; predictions are read by others."""

import csv
import gc
import json
import os
import weakref

import numpy as np
import pytest
from conftest import TINY, eager, mistake
from PIL import Image
from test_session import FLAGS

from airjax.cli.main import main
from airjax.config import Config, PictureConfig, TrainConfig
from airjax.data import load
from airjax.data.folder import Broken, decided, load_folder, picture_files, read_picture
from airjax.errors import InputError
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

GREY = np.zeros((5, 6), np.uint8)
GREY[1:3, 2:5] = [[255, 200, 150], [100, 50, 255]]
AS_IS = PictureConfig(invert="no", colour="no")


def saved(path, array=GREY, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)


def loaded(path, config):
    """All of a folder."""
    (images,), config, broken = load_folder(path, config, "all")
    return images, config, broken


def turned(path):
    """Turned on its side, and its EXIF data say so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(np.rot90(GREY)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.png", saved),
        ("a.bmp", saved),
        ("a.TIFF", saved),
        ("a.webp", lambda p: saved(p, mode="RGB", lossless=True)),
        ("rgb.png", lambda p: saved(p, mode="RGB")),
        ("alpha.png", lambda p: saved(p, mode="RGBA")),
        ("grey_alpha.png", lambda p: saved(p, mode="LA")),
        ("palette.png", lambda p: saved(p, mode="P")),
        ("palette.gif.png", lambda p: saved(p, mode="P", transparency=0)),
        ("16.png", lambda p: saved(p, GREY.astype(np.uint16) * 257)),
        ("16.tif", lambda p: saved(p, GREY.astype(np.uint16) * 257)),
        ("floats.tif", lambda p: saved(p, (GREY / 255).astype(np.float32))),
        ("turned.png", turned),
    ],
)
def test_every_format_is_the_same_image(name, save, tmp_path):
    save(tmp_path / name)
    images, _, broken = loaded(tmp_path, AS_IS)
    assert broken == []
    np.testing.assert_array_equal(images.images[0], GREY)


def test_a_jpeg_is_nearly_the_same_image(tmp_path):
    smooth = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (32, 1))
    saved(tmp_path / "a.jpeg", smooth, quality=95)
    image = loaded(tmp_path, AS_IS)[0].images[0]
    assert np.abs(image.astype(int) - smooth).max() < 5


@pytest.mark.parametrize("colour", ["no", "yes", "auto"])
def test_colours_are_kept_or_become_grey_and_transparent_is_background(colour, tmp_path):
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    alpha = [[255], [255], [255], [0]]
    saved(tmp_path / "a.png", np.array([np.hstack([colours, alpha])], np.uint8))
    saved(tmp_path / "b.png", np.array([[0, 1, 2, 3]], np.uint8))
    images, config, _ = loaded(tmp_path, PictureConfig("no", colour=colour))
    if colour == "no":
        assert images.images.tolist() == [[[76, 150, 29, 0]], [[0, 1, 2, 3]]]
    else:
        assert config.colour == "yes"
        assert images.images[0].tolist() == [[*colours[:3], [0, 0, 0]]]
        assert images.images[1].tolist() == [[[i] * 3 for i in range(4)]]


def test_grey_pictures_saved_in_colour_are_grey(tmp_path):
    saved(tmp_path / "a.png", mode="RGB")
    saved(tmp_path / "b.jpg", mode="RGB", quality=50)
    images, config, _ = loaded(tmp_path, PictureConfig())
    assert config.colour == "no" and images.images.ndim == 3


def test_colours_are_scaled_and_inverted_alike(tmp_path):
    red = np.full((4, 4, 3), 255, np.uint8)
    red[1:3, 1:3] = [200, 0, 0]
    saved(tmp_path / "a.png", red)
    images, config, _ = loaded(tmp_path, PictureConfig(size="4x8"))
    assert (config.invert, config.colour) == ("yes", "yes")
    assert images.images.shape == (1, 4, 8, 3)
    np.testing.assert_array_equal(images.images[0, :, 2:6], 255 - red)
    assert not images.images[0, :, :2].any()


@pytest.mark.parametrize(("backdrop", "inverted"), [(0, "no"), (255, "yes"), (180, "yes")])
def test_a_bright_background_is_inverted(backdrop, inverted, tmp_path):
    array = np.full((8, 8), backdrop, np.uint8)
    array[3:5, 3:5] = 255 - backdrop
    for i in range(3):
        saved(tmp_path / f"{i}.png", array)
    images, config, _ = loaded(tmp_path, PictureConfig())
    assert config.invert == inverted
    want = 255 - array if inverted == "yes" else array
    np.testing.assert_array_equal(images.images[0], want)


def test_dark_things_on_nothing_are_inverted(tmp_path):
    pixels = np.zeros((6, 6, 2), np.uint8)
    pixels[2:4, 2:4] = [30, 255]
    saved(tmp_path / "a.png", pixels)
    images, config, _ = loaded(tmp_path, PictureConfig())
    assert config.invert == "yes" and images.images[0, 3, 3] == 225 and images.images[0, 0, 0] == 0


def test_pictures_are_scaled_only_when_asked(tmp_path):
    saved(tmp_path / "a.png", np.full((10, 20), 200, np.uint8))
    saved(tmp_path / "b.png", np.full((8, 4), 200, np.uint8))
    with pytest.raises(
        InputError, match=r"b\.png must be 10 x 20 pixels as the others .* got 8 x 4"
    ):
        loaded(tmp_path, AS_IS)
    images = loaded(tmp_path, PictureConfig("no", "8x8", "no"))[0].images
    assert images.shape == (2, 8, 8)
    np.testing.assert_array_equal(images[0][:, 0], [0, 0, 200, 200, 200, 200, 0, 0])
    np.testing.assert_array_equal(images[1][0], [0, 0, 200, 200, 200, 200, 0, 0])


def test_files_are_sorted_and_nested(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("z.png", "b/c/x.png", "b/a.PNG", "notes.txt"):
        saved(tmp_path / name, format="PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in picture_files(tmp_path)]
    assert found == ["b/a.PNG", "b/c/x.png", "z.png"]


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_broken_file_is_reported_and_left_out(content, tmp_path):
    saved(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    images, _, broken = loaded(tmp_path, AS_IS)
    assert len(images) == 1 and [b.path.name for b in broken] == ["b.png"] and broken[0].why
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    assert isinstance(read_picture(tmp_path / "c.png"), Broken)


@pytest.mark.parametrize("config", [AS_IS, PictureConfig()])
def test_folders_without_a_picture(config, tmp_path):
    with pytest.raises(InputError, match="must hold pictures"):
        loaded(tmp_path, config)
    (tmp_path / "b.png").touch()
    with pytest.raises(InputError, match=r"b\.png cannot be read"):
        loaded(tmp_path, config)


def test_odd_exif_data_do_no_harm(tmp_path):
    """Pillow warns of them, and reads the picture."""
    saved(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")  # five entries, and none
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(tmp_path / "a.jpg") as image:
        image.getexif()
    assert loaded(tmp_path, AS_IS)[2] == []


def test_one_picture_is_in_memory_at_a_time(tmp_path, monkeypatch):
    for i in range(5):
        saved(tmp_path / f"{i}.png", mode="RGB")
    held = []

    def watched(path):
        gc.collect()
        held.append(sum(seen() is not None for seen in alive))
        picture = read_picture(path)
        alive.append(weakref.ref(picture.grey))
        return picture

    alive: list[weakref.ref] = []
    monkeypatch.setattr("airjax.data.folder.read_picture", watched)
    decided(picture_files(tmp_path), PictureConfig())
    assert held == [0, 1, 1, 1, 1]  # the one before is replaced as the next one comes


def test_every_tenth_picture_is_held_out(tmp_path):
    for i in range(21):
        saved(tmp_path / f"{i:02}.png", np.full((3, 3), i, np.uint8))
    train, test = (load(str(tmp_path), part).images[:, 0, 0].tolist() for part in ("train", "test"))
    assert test == [9, 19] and sorted(train + test) == list(range(21))


@pytest.mark.parametrize("size", ["64", "0x5", "axb", "5x5x5", "-1x5"])
def test_sizes_are_two_numbers(size):
    with pytest.raises(InputError, match="size must be HxW in pixels, as 64x48, got"):
        PictureConfig(size=size)


# the command line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained run of pictures on a bright background that finds objects everywhere."""
    folder = tmp_path_factory.mktemp("run")
    config = Config(TrainConfig(data="digits"), TINY, pictures=PictureConfig("yes"))
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
        ["file", "object", "count", "probability", "x0", "y0", "x1", "y1", "score"]
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
    for line, message in (
        (f"{folder} --out {folder}/out", "--out must not be in the folder of pictures"),
        (f"{folder} --out {run}", "--out must be a new folder (nothing is overwritten)"),
        (f"{tmp_path}/none --out {tmp_path}/out", "PICTURES must be a folder of pictures"),
        (f"{folder} --out {tmp_path}/out --strict", f"{folder}/broken.jpg cannot be read"),
        (f"{folder} --out {tmp_path}/out --num-paths 0", "--num-paths must be at least 1, got 0"),
        (
            f"{folder} --out {tmp_path}/out --format xml",
            "invalid choice 'xml' for argument '--format'",
        ),
        (f"{folder}/broken.jpg --out {tmp_path}/out", f"{folder}/broken.jpg cannot be read"),
    ):
        assert mistake(f"predict {run} {line}", capsys).startswith(message)
    saved(folder / "0wide.png", np.zeros((6, 5), np.uint8))
    message = f"{folder}/0wide.png must be 5 x 6 pixels as the model's images, got 6 x 5"
    assert mistake(f"predict {run} {folder} --out {tmp_path}/out", capsys) == message
    assert not os.path.exists(tmp_path / "out")


def test_a_folder_is_trained_on(tmp_path, capsys):
    """(Of the size and number that other tests train on: it is compiled once.)"""
    random = np.random.default_rng(1)
    (tmp_path / "pictures").mkdir()
    for i in range(60):
        array = np.full((10, 12), 250, np.uint8)
        array[2:4, 3:6] = random.integers(0, 100)
        saved(tmp_path / "pictures" / f"{i:02}.png", array)
    (tmp_path / "pictures" / "broken.png").touch()
    line = f"train {tmp_path}/pictures --out {tmp_path}/run {FLAGS}"
    main(line.replace("--model-steps", "--max-objects").split())
    captured = capsys.readouterr()
    assert "60 pictures; inverted: yes" in captured.out and "broken.png" in captured.err
    config = Run.open(tmp_path / "run").config
    assert config.pictures.invert == "yes" and config.model.model_steps == 2
    main(f"evaluate {tmp_path}/run".split())
    assert "6 images of pictures (test part)" in capsys.readouterr().out


def test_large_pictures_in_colour_are_trained_on_in_crops_and_read_in_tiles(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("airjax.data.crops.CROPS", {"train": 40, "test": 10})
    random = np.random.default_rng(2)
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        array = np.zeros((30 + i, 25, 3), np.uint8)
        for top, left in random.integers(0, 20, (6, 2)):
            array[top : top + 4, left : left + 4] = random.integers(100, 256, 3)
        saved(tmp_path / "pictures" / f"{i}.png", array)
    flags = FLAGS.replace("--window-size 6", "").replace("--steps 40", "--steps 10")
    main(
        f"train {tmp_path}/pictures --crop 12 --object-size 4 --out {tmp_path}/run {flags}".split()
    )
    message = capsys.readouterr().out
    assert "54 crops; inverted: no (--invert); in colour: yes (--colour)" in message
    assert "objects of about 4 pixels (--object-size)" in message
    config = Run.open(tmp_path / "run").config
    assert config.model.image_shape == (12, 12, 3) and config.model.guide == "attend"
    main(f"predict {tmp_path}/run {tmp_path}/pictures --out {tmp_path}/out --draw".split())
    assert "3 pictures" in capsys.readouterr().out
    with open(tmp_path / "out" / "objects.csv") as file:
        for row in csv.DictReader(file):
            assert 0 <= float(row["x0"]) < float(row["x1"]) <= 25
            assert 0 <= float(row["y0"]) < float(row["y1"]) <= 32
    with Image.open(tmp_path / "out" / "drawn" / "0.png.png") as drawn:
        assert drawn.size == (100, 120)
    saved(tmp_path / "small.png", np.zeros((11, 30, 3), np.uint8))
    message = mistake(f"predict {tmp_path}/run {tmp_path}/small.png --out {tmp_path}/no", capsys)
    assert message == f"{tmp_path}/small.png must be 12 x 12 pixels or more (--crop), got 11 x 30"
