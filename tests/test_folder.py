"""Folders of pictures: every format becomes the same image; predictions are read by others."""

import csv
import gc
import re
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_session import FLAGS

from airjax.cli.main import main
from airjax.data import load
from airjax.data.decode import Broken, decode
from airjax.data.files import picture_files
from airjax.data.folder import ReadImage, load_folder, read_images
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.training.runs import Run

GREY = np.zeros((5, 6), np.uint8)
GREY[1:3, 2:5] = [[255, 200, 150], [100, 50, 255]]
AS_IS = PictureConfig(invert="no", channel="grey", crop=0, normalise="none")


def saved(path, array=GREY, mode=None, **options):
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)


def loaded(path, config):
    """All of a folder."""
    found = load_folder(path, config, "all")
    return found.parts[0], found.survey.pictures, found.broken


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


@pytest.mark.parametrize("channel", ["grey", "colour", "auto", "max", "1"])
def test_colours_are_kept_or_become_grey_and_transparent_is_background(channel, tmp_path):
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    alpha = [[255], [255], [255], [0]]
    saved(tmp_path / "a.png", np.array([np.hstack([colours, alpha])], np.uint8))
    saved(tmp_path / "b.png", np.array([[0, 1, 2, 3]], np.uint8))
    images, config, _ = loaded(tmp_path, replace(AS_IS, channel=channel))
    if channel in ("colour", "auto"):
        assert config.channel == "colour"
        assert images.images[0].tolist() == [[*colours[:3], [0, 0, 0]]]
        assert images.images[1].tolist() == [[[i] * 3 for i in range(4)]]
    else:
        first = {"grey": [76, 150, 29, 0], "max": [255, 255, 255, 0], "1": [0, 255, 0, 0]}
        assert images.images.tolist() == [[first[channel]], [[0, 1, 2, 3]]]


def test_grey_pictures_saved_in_colour_are_grey(tmp_path):
    saved(tmp_path / "a.png", mode="RGB")
    saved(tmp_path / "b.jpg", mode="RGB", quality=50)
    images, config, _ = loaded(tmp_path, PictureConfig())
    assert config.channel == "grey" and images.images.ndim == 3


def test_colours_are_scaled_and_inverted_alike(tmp_path):
    colours = np.full((4, 4, 3), 255, np.uint8)
    colours[1:3, 1:3] = [[[200, 0, 0]], [[0, 0, 200]]]
    saved(tmp_path / "a.png", colours)
    images, config, _ = loaded(tmp_path, PictureConfig(size="4x8", normalise="none"))
    assert (config.invert, config.channel) == ("yes", "colour")
    assert images.images.shape == (1, 4, 8, 3)
    np.testing.assert_array_equal(images.images[0, :, 2:6], 255 - colours)
    assert not images.images[0, :, :2].any()


@pytest.mark.parametrize(("backdrop", "inverted"), [(0, "no"), (255, "yes"), (180, "yes")])
def test_a_bright_background_is_inverted(backdrop, inverted, tmp_path):
    array = np.full((8, 8), backdrop, np.uint8)
    array[3:5, 3:5] = 255 - backdrop
    for i in range(3):
        saved(tmp_path / f"{i}.png", array)
    images, config, _ = loaded(tmp_path, replace(AS_IS, invert="auto"))
    assert config.invert == inverted
    want = 255 - array if inverted == "yes" else array
    np.testing.assert_array_equal(images.images[0], want)


def test_dark_things_on_nothing_are_inverted(tmp_path):
    pixels = np.zeros((6, 6, 2), np.uint8)
    pixels[2:4, 2:4] = [30, 255]
    saved(tmp_path / "a.png", pixels)
    images, config, _ = loaded(tmp_path, replace(AS_IS, invert="auto"))
    assert config.invert == "yes" and images.images[0, 3, 3] == 225 and images.images[0, 0, 0] == 0


def test_pictures_are_scaled_only_when_asked(tmp_path):
    saved(tmp_path / "a.png", np.full((10, 20), 200, np.uint8))
    saved(tmp_path / "b.png", np.full((8, 4), 200, np.uint8))
    with pytest.raises(
        InputError, match=r"b\.png must be 10 x 20 pixels as the others .* got 8 x 4"
    ):
        loaded(tmp_path, AS_IS)
    images = loaded(tmp_path, replace(AS_IS, size="8x8"))[0].images
    assert images.shape == (2, 8, 8)
    np.testing.assert_array_equal(images[0][:, 0], [0, 0, 200, 200, 200, 200, 0, 0])
    np.testing.assert_array_equal(images[1][0], [0, 0, 200, 200, 200, 200, 0, 0])


def test_files_are_sorted_and_nested(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("z.png", "b/c/x.png", "b/a.PNG", "notes.txt"):
        saved(tmp_path / name, format="PNG")
    found = [path.relative_to(tmp_path).as_posix() for path in picture_files(tmp_path).files]
    assert found == ["b/a.PNG", "b/c/x.png", "z.png"]


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_broken_file_is_reported_and_left_out(content, tmp_path):
    saved(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(content)
    images, _, broken = loaded(tmp_path, AS_IS)
    assert len(images) == 1 and [b.path.name for b in broken] == ["b.png"] and broken[0].why
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    assert isinstance(decode(tmp_path / "c.png"), Broken)


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

    def watched(path, *rest, **named):
        gc.collect()
        held.append(sum(seen() is not None for seen in alive))
        frames = decode(path, *rest, **named)
        alive.append(weakref.ref(frames[0].pixels))
        return frames

    alive: list[weakref.ref] = []
    monkeypatch.setattr("airjax.data.folder.decode", watched)
    for read in read_images(picture_files(tmp_path).files, AS_IS):
        assert isinstance(read, ReadImage)
    assert held == [0, 1, 1, 1, 1]  # the one before is replaced as the next one comes


def test_every_tenth_picture_is_held_out(tmp_path):
    for i in range(21):
        saved(tmp_path / f"{i:02}.png", np.full((3, 3), i, np.uint8))
    train, test = (
        load(str(tmp_path), part, None, AS_IS).images[:, 0, 0].tolist()
        for part in ("train", "test")
    )
    assert test == [9, 19] and sorted(train + test) == list(range(21))


@pytest.mark.parametrize("size", ["64", "0x5", "axb", "5x5x5", "-1x5"])
def test_sizes_are_two_numbers(size):
    with pytest.raises(InputError, match="size must be HxW in pixels, as 64x48, got"):
        PictureConfig(size=size)


# the command line


@pytest.mark.slow
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
    assert re.search(r"dark on bright +yes +--invert", captured.out)
    assert "60 pictures of pictures" in captured.out and "broken.png" in captured.err
    config = Run.open(tmp_path / "run").config
    assert config.pictures.invert == "yes" and config.model.model_steps == 2
    main(f"evaluate {tmp_path}/run".split())
    assert "6 images of pictures (test part)" in capsys.readouterr().out


@pytest.mark.slow  # trains
def test_large_pictures_in_colour_are_trained_on_in_crops_and_read_whole(
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
    assert "50 crops of pictures" in message
    assert re.search(r"channel +colour +--channel", message)
    assert "object size" not in message  # it is given
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
    small = tmp_path / "one" / "small.png"
    small.parent.mkdir()
    saved(small, np.zeros((11, 30, 3), np.uint8))
    main(f"predict {tmp_path}/run {small} --out {tmp_path}/small".split())  # less than a crop
    with open(tmp_path / "small" / "counts.csv") as file:
        assert [row["count"] for row in csv.DictReader(file)] == ["0"]
