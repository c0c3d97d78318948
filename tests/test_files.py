"""Which files are pictures; and the pictures' folder stays as it was."""

import os

import numpy as np
import pytest
from conftest import mistake
from test_folder import saved
from test_session import FLAGS

from airjax.cli.main import main
from airjax.data.files import picture_files
from airjax.errors import InputError

SMALL = FLAGS.replace("--steps 40", "--steps 10")


def names(found, folder):
    return [path.relative_to(folder).as_posix() for path in found.files]


def test_what_is_no_picture_is_passed_over_and_counted(pictures):
    (pictures / ".ipynb_checkpoints").mkdir()
    (pictures / "__MACOSX").mkdir()
    for name in (".ipynb_checkpoints/00-checkpoint.png", "__MACOSX/._00.png", "._01.png"):
        saved(pictures / "a.png", np.zeros((3, 3), np.uint8))
        (pictures / "a.png").rename(pictures / name)
    (pictures / "counts.csv").write_text("file,count\n")
    (pictures / "movie.gif").write_bytes(b"GIF89a")
    (pictures / "x.JFIF").write_bytes((pictures / "00.png").read_bytes())
    found = picture_files(pictures)
    assert names(found, pictures) == [*(f"{i:02}.png" for i in range(12)), "x.JFIF"]
    kinds = {kind.partition(" that")[0]: len(paths) for kind, paths in found.passed_over.items()}
    assert kinds == {"hidden folders": 2, "hidden files": 1, "files": 2}
    assert any("counts.csv and 1 more" in line for line in found.report())


def test_links_to_folders_are_followed_once(pictures, tmp_path):
    (tmp_path / "others").mkdir()
    saved(tmp_path / "others" / "z.png", np.zeros((10, 12), np.uint8))
    (pictures / "link").symlink_to(tmp_path / "others", target_is_directory=True)
    (pictures / "again").symlink_to(tmp_path / "others", target_is_directory=True)
    (tmp_path / "others" / "loop").symlink_to(pictures, target_is_directory=True)
    found = picture_files(pictures)
    assert len(found.files) == 13 and sum(path.name == "z.png" for path in found.files) == 1
    assert "folders already seen by another path" in found.passed_over


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_reported(pictures):
    (pictures / "closed").mkdir(mode=0)
    assert "folders that cannot be read" in " ".join(picture_files(pictures).report())


def test_an_empty_folder_is_named(tmp_path, capsys):
    with pytest.raises(InputError, match="PICS must hold pictures"):
        picture_files(tmp_path, "PICS")
    (tmp_path / "empty").mkdir()
    assert mistake(f"train {tmp_path}/empty", capsys).startswith("PICTURES must hold pictures")


def content(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.slow
def test_nothing_is_written_into_the_pictures_folder(pictures, tmp_path, monkeypatch, capsys):
    before = content(pictures)
    monkeypatch.chdir(pictures)
    rule = "--out must not be in the folder of pictures; --out ../"
    assert mistake(f"train . {SMALL}", capsys).startswith(rule)
    assert mistake(f"train . --out run {SMALL}", capsys).startswith(rule)
    assert mistake(f"train {pictures} --out below/run {SMALL}", capsys).startswith(rule)
    main(f"train . --out ../run {SMALL}".split())
    assert mistake("predict ../run . --out found", capsys).startswith(rule)
    assert mistake(f"predict ../run 00.png --out {pictures}/found", capsys).startswith(rule)
    main(["predict", "../run", ".", "--out", "../found", "--draw"])
    main(["evaluate", "../run"])
    main(["plot", "../run"])
    assert content(pictures) == before


@pytest.mark.slow
def test_a_run_or_results_that_lie_there_are_not_read_as_pictures(pictures, tmp_path, capsys):
    main(f"train {pictures} --out {tmp_path}/run {SMALL}".split())
    for kind in ("csv", "json", "coco"):
        main(f"predict {tmp_path}/run {pictures} --out {tmp_path}/{kind} --format {kind} "
             "--draw".split())  # fmt: skip
    for name in ("run", "csv", "json", "coco"):
        (tmp_path / name).rename(pictures / name)
    capsys.readouterr()
    main(f"predict {pictures}/run {pictures} --out {tmp_path}/again".split())
    out = capsys.readouterr().out
    assert "12 pictures" in out
    assert "passed over: runs and results of airjax: " in out and "and 3 more" in out
    main(f"train {pictures} --out {tmp_path}/second {SMALL}".split())
    assert "passed over: runs and results of airjax: " in capsys.readouterr().out
