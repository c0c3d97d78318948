"""The predictor as other engines call it: pickled, in any division of the pictures."""

import pickle
import sys

import numpy as np
import pytest
from conftest import mistake
from test_folder import saved

from airjax.prediction.parts import Parts, divided
from airjax.prediction.places import Listing, Place
from airjax.prediction.predictor import Kept, Predictor

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of the model's size, one of another, and one that is none."""
    path = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for i in range(6):
        saved(path / f"{i}.png", random.integers(0, 256, (5, 6)).astype(np.uint8))
    saved(path / "large.png", random.integers(0, 256, (9, 9)).astype(np.uint8))
    (path / "none.jpg").write_text("no")
    return path


def test_calls_in_parts_give_the_rows_of_one_call(run, folder):
    files = sorted(folder.iterdir())
    predictor = Predictor.of(run, files[:2])
    whole = predictor(files)
    assert whole.counts["file"].to_pylist() == [str(file) for file in files[:6]]
    assert whole.objects.num_rows == sum(whole.counts["count"].to_pylist()) > 0
    assert whole.broken["file"].to_pylist() == [str(folder / n) for n in ("large.png", "none.jpg")]
    assert "must be 5 x 6 pixels" in whole.broken["why"][0].as_py()
    again = pickle.loads(pickle.dumps(predictor))
    parts = [again(files[:1]), again(files[1:])]
    for name in ("counts", "objects", "broken"):
        rows = [row for part in parts for row in getattr(part, name).to_pylist()]
        np.testing.assert_equal(rows, getattr(whole, name).to_pylist())
        for part in parts:  # also an empty table has the types
            assert getattr(part, name).schema == getattr(whole, name).schema


def test_contents_may_come_from_elsewhere(run, folder):
    files = sorted(folder.iterdir())
    predictor = Predictor.of(run, files[:2])
    contents = {f"s3://cells/{file.name}": file.read_bytes() for file in files}
    found = predictor([*contents, "s3://missing.png"], contents)
    assert found.counts["file"].to_pylist() == [f"s3://cells/{i}.png" for i in range(6)]
    expected = predictor(files).counts.drop(["file"])
    assert found.counts.drop(["file"]).equals(expected)
    broken = ["s3://cells/large.png", "s3://cells/none.jpg", "s3://missing.png"]
    assert found.broken["file"].to_pylist() == broken


def test_objects_are_left_out_and_counted(run, folder):
    files = sorted(folder.iterdir())
    every, some = Predictor.of(run, files), Predictor.of(run, files, kept=Kept(max_size=2.0))
    a, b = every(files), some(files)
    assert a.dropped == 0 < b.dropped == a.objects.num_rows - b.objects.num_rows


@pytest.mark.slow  # processes
def test_dask_calls_it(run, folder):
    bag = pytest.importorskip("dask.bag")
    files = [str(file) for file in sorted(folder.iterdir())]
    predictor = Predictor.of(run, files[:2])

    def rows(part):
        return predictor(part).counts.to_pylist()

    found = bag.from_sequence(files, partition_size=3).map_partitions(rows)
    counts = found.compute(scheduler="processes", num_workers=2)
    assert counts == predictor(files).counts.to_pylist()


def test_parts_are_limited_by_number_and_bytes(folder, monkeypatch):
    pictures = Listing.of(str(folder), "folder")
    assert [len(part) for part in divided(pictures)] == [8]
    monkeypatch.setattr("airjax.prediction.parts.PICTURES", 3)
    assert [len(part) for part in divided(pictures)] == [3, 3, 2]
    monkeypatch.setattr("airjax.prediction.parts.BYTES", 1)  # one picture is always read
    assert [len(part) for part in divided(pictures)] == [1] * 8


def test_a_folder_of_others_is_not_written_to(folder, tmp_path):
    pictures, out = Listing.of(str(folder), "folder"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="out must be a new folder"):
        Parts.plan(Place(str(out), "out"), pictures, {})
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    place = Place(str(tmp_path / "new"), "out")
    assert not Parts.plan(place, pictures, {"seed": "0"}).finished
    assert not Parts.plan(place, pictures, {"seed": "0"}).finished
    with pytest.raises(ValueError, match=r"its plan\.json is of others"):
        Parts.plan(place, pictures, {"seed": "1"})


def test_places_are_files_or_urls(tmp_path):
    place = pickle.loads(pickle.dumps(Place(tmp_path.as_uri(), "out")))
    place.write("a/b.txt", b"content")
    assert place.read(tmp_path / "a/b.txt") == b"content"
    assert [*place.files()] == ["a/b.txt"] and not Place(f"{tmp_path}/none", "out").files()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="out cannot be written"):
        place.write("file/c.txt", b"")
    assert {*place.files()} == {"a/b.txt", "file"}
    with pytest.raises(ValueError, match=r"out cannot be read .*no://where"):
        Place("no://where", "out").files()


def test_without_ray_one_line_says_so(run, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    line = f"predict {run} {folder} --engine ray --out {tmp_path}/out"
    assert mistake(line, capsys) == "--engine ray needs Ray: pip install 'airjax[ray]'"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--engine ray --draw", "--draw must be left out with --engine ray"),
        ("--engine ray --strict", "--strict must be left out with --engine ray"),
        ("--engine ray --format csv", "--format must be parquet with --engine ray, got csv"),
        ("--out s3://a/b", "--out must be a path; a URL needs --engine ray, got s3://a/b"),
    ],
)
def test_flags_that_do_not_go_together(flags, error, run, folder, capsys):
    assert mistake(f"predict {run} {folder} {flags}", capsys) == error
