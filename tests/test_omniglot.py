"""Omniglot's glyphs and pen strokes, and the benchmark that compares parts with them."""

import dataclasses
import hashlib
import importlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from PIL import Image, ImageDraw

from airjax.data import omniglot
from airjax.data.omniglot import ALPHABETS, FILES, load_omniglot, strokes_of
from airjax.errors import InputError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
LINES = {"01": [[(20, 30), (80, 30)]], "02": [[(20, 30), (80, 30)], [(50, 40), (50, 90)]]}


def archive(kind, folder, alphabets):
    """The content of one of Omniglot's files: two glyphs of each alphabet, of one and of two
    strokes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for alphabet in alphabets:
            for drawer, strokes in LINES.items():
                name = f"{folder}/{alphabet}/character01/0108_{drawer}"
                if kind == "images":
                    file.writestr(f"{name}.png", picture(strokes))
                else:
                    file.writestr(f"{name}.txt", pen(strokes))
                file.writestr(f"__MACOSX/{folder}/{alphabet}/._0108_{drawer}.png", b"")
    return content.getvalue()


def picture(strokes):
    """Black ink on white, of one bit a pixel."""
    image, content = Image.new("1", (105, 105), 1), io.BytesIO()
    for stroke in strokes:
        ImageDraw.Draw(image).line(stroke, fill=0, width=3)
    image.save(content, "PNG")
    return content.getvalue()


def pen(strokes):
    """The strokes as Omniglot has them: y falls downwards from 0."""
    lines = ["\n".join(f"{x:.6f},{-y:.6f},{7 * t}" for t, (x, y) in enumerate(s)) for s in strokes]
    return "START\n" + "".join(f"{line}\nBREAK\n" for line in lines)


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A folder with such files, which are taken for Omniglot's. The second ones also hold an
    alphabet of the first."""
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AIRJAX_DATA_DIR", raising=False)
    folder, digests = tmp_path / "omniglot", {}
    folder.mkdir()
    for part, names in FILES.items():
        for kind, name in zip(("images", "strokes"), names, strict=True):
            alphabets = ALPHABETS[part] if part == "train" else (*ALPHABETS[part], "Greek")
            content = archive(kind, name.removesuffix(".zip"), alphabets)
            (folder / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(omniglot, "SHA256", digests)
    return tmp_path


def test_glyphs_are_bright_ink_with_their_strokes(data_dir):
    glyphs = load_omniglot("train", data_dir)
    assert glyphs.images.shape == (10, 105, 105)
    assert glyphs.names[1] == "Balinese/character01/0108_02"
    assert [len(strokes) for strokes in glyphs.strokes] == [1, 2] * 5
    for image, strokes in zip(glyphs.images, glyphs.strokes, strict=True):
        for x, y in np.concatenate(strokes):
            assert image[int(y), int(x)] == 255
    assert glyphs.images[0].mean() < 10


def test_no_alphabet_is_in_both_parts(data_dir):
    parts = {part: load_omniglot(part, data_dir).names for part in ("train", "test")}
    alphabets = {part: {name.split("/")[0] for name in names} for part, names in parts.items()}
    assert alphabets == {part: set(names) for part, names in ALPHABETS.items()}
    assert not alphabets["train"] & alphabets["test"]


def test_strokes_are_in_pixels_downwards():
    first, second = strokes_of("START\n1.0,-2.0,0\n3.5,-4.0,9\nBREAK\n0,0,50\nBREAK\n")
    assert first.tolist() == [[1.5, 2.5], [4.0, 4.5]]
    assert second.tolist() == [[0.5, 0.5]]


def test_a_file_with_other_content_is_named(data_dir):
    path = data_dir / "omniglot" / FILES["test"][1]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError) as info:
        load_omniglot("test", data_dir)
    assert str(info.value).startswith(f"{path} must be Omniglot's file: its sha256 must be ")


def test_without_a_download_the_file_and_the_remedy_are_named(data_dir, monkeypatch):
    monkeypatch.setattr(omniglot, "SOURCE", "http://127.0.0.1:1/")
    with pytest.raises(InputError) as info:
        load_omniglot("train")
    assert str(info.value).startswith(f"{FILES['train'][0]} could not be downloaded (")
    assert str(info.value).endswith("name that folder with data_dir or AIRJAX_DATA_DIR")


# the benchmark


@pytest.fixture
def paper_strokes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("paper_strokes")


def test_parts_that_are_the_strokes_agree_fully(paper_strokes, data_dir):
    glyphs = load_omniglot("train", data_dir)
    image = paper_strokes.shrunk(glyphs.images[1:2])[0]
    drawn = paper_strokes.by_pen(image, glyphs.strokes[1])
    rows, columns = np.nonzero(drawn == 1)
    assert rows.max() < 17 and np.ptp(columns) > 25  # the horizontal stroke at y = 30 of 105
    swapped = np.where(drawn, 3 - drawn, 0)
    for of in (paper_strokes.masks_of, paper_strokes.boxes_of):
        assert paper_strokes.agreement(of(swapped), of(drawn)) == 1
    whole, masks = (drawn > 0).astype(int), paper_strokes.masks_of(drawn)
    larger = masks.sum((1, 2)).max() / masks.sum()
    got = paper_strokes.agreement(paper_strokes.masks_of(whole), masks)
    assert got == pytest.approx(larger / 2)  # one of two strokes is matched


@pytest.mark.parametrize("number", [0, 1, 3])
def test_ink_is_cut_into_as_many_pieces(number, paper_strokes):
    image, random = np.zeros((50, 50), np.uint8), np.random.RandomState(0)
    image[10:13, 5:45] = 255
    for cut in (paper_strokes.at_random, paper_strokes.by_k_means):
        pieces = cut(image, number, random)
        assert set(np.unique(pieces)) == set(range(number + 1))
        assert bool(number) == bool((pieces[image > 0] > 0).all())
        assert not pieces[image == 0].any()
    assert paper_strokes.by_connection(image).max() == 1


def test_ranks_of_permuted_glyphs_are_chance(paper_strokes):
    random = np.random.RandomState(0)
    strokes, characters = random.randint(1, 5, 200), np.arange(200) // 10
    got = paper_strokes.rank(strokes + 1, strokes, characters, random)
    assert (got["value"], got["low"]) == pytest.approx((1, 1))
    assert 0.05 < got["chance"] < 0.2  # 1.64 / sqrt(199) = 0.12
    got = paper_strokes.rank(np.full(200, 2), strokes, characters, random)
    assert got == {"value": 0, "low": 0, "high": 0, "chance": 0}


def test_the_benchmark_trains_once_and_draws(paper_strokes, data_dir, monkeypatch, capsys):
    model = dataclasses.replace(TINY, guide="attend", image_size=(50, 50), window_size=4)
    monkeypatch.setattr(paper_strokes, "MODEL", model)
    monkeypatch.setattr(paper_strokes, "RESAMPLED", 5)
    monkeypatch.setenv("AIRJAX_DATA_DIR", str(data_dir))
    args = paper_strokes.Args(out=data_dir / "out", seeds=1, steps=2)
    paper_strokes.main(args)
    path = args.out / "seed-0.json"
    row = json.loads(path.read_text())["results"]
    assert (row["seed"], row["glyphs"], row["strokes"]) == (0, 6, 1.5)
    assert np.isfinite([row["elbo"], row["elbo_trained_on"]]).all()
    printed = capsys.readouterr().out
    assert printed.startswith("6 held-out glyphs, 3 of several strokes")
    assert "| Sanskrit | 1.50 |" in printed
    with Image.open(args.out / "paper_strokes.png") as figure:
        assert figure.width > 100

    monkeypatch.setattr(paper_strokes, "trained", None)  # an error if it is called
    paper_strokes.main(args)
    assert capsys.readouterr().out == printed
