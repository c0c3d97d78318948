"""Files that are written once, and files that are none of ours: one line each."""

import gzip
import io
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import mistake
from PIL import Image

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 6)).astype(np.uint8)


def archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=IMAGES)
    return buffer.getvalue()


# nothing is overwritten, even if another process writes the same file at the same moment


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [("data digits {} --num-scenes 3", "a.npz", "FILE"), ("sample --out {}", "a.png", "--out")],
)
def test_a_file_that_appears_meanwhile_is_not_replaced(
    line, name, argument, tmp_path, monkeypatch, capsys
):
    link = os.link

    def other_process_is_faster(source, path):
        Path(path).write_text("mine")
        link(source, path)

    monkeypatch.setattr(os, "link", other_process_is_faster)
    message = mistake(line.format(tmp_path / name), capsys)
    assert message.startswith(f"{argument} must be a new file (nothing is overwritten)")
    assert (tmp_path / name).read_text() == "mine" and len(list(tmp_path.iterdir())) == 1


def test_one_picture_and_an_archive_of_another_kind_are_one_line(tmp_path, capsys):
    Image.fromarray(IMAGES[0]).save(tmp_path / "one.png")
    (tmp_path / "a.npz.gz").write_bytes(gzip.compress(archive()))
    for name in ("one.png", "a.npz.gz"):
        rule = "must be a whole .npz archive, or a folder of pictures"
        assert mistake(f"train {tmp_path}/{name}", capsys) == f"{tmp_path}/{name} {rule}"


def test_a_folder_with_the_name_of_a_flag_is_no_flag(tmp_path, capsys):
    (tmp_path / "lim-9").mkdir()
    for i in range(9):
        Image.fromarray(IMAGES[i]).save(tmp_path / "lim-9" / f"{i}.png")
    message = mistake(f"train {tmp_path}/lim-9", capsys)
    assert message.startswith("PICTURES must hold 10 pictures or more to hold some out; ")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--channel 7", "--channel must be below 3, the number of channels, got 7"),
        ("--object-size 9-", "--object-size must be auto, a number of pixels, or a range"),
        ("--object-size big", "--object-size must be auto, a number of pixels, or a range"),
        ("--object-size -3", "--object-size must be"),
        ("--object-size inf", "--object-size must be 2 to"),
    ],
)
def test_a_wrong_setting_of_pictures_is_one_line(flags, message, pictures, tmp_path, capsys):
    if "channel" in flags:
        for path in pictures.iterdir():
            with Image.open(path) as picture:
                colours = picture.convert("RGB")
            colours.save(path)
    assert mistake(f"train {pictures} --out {tmp_path}/run {flags}", capsys).startswith(message)
    assert not (tmp_path / "run").exists()
