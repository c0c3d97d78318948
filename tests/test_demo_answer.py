"""The page's sliders and corrections by hand: without a browser."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from conftest import TINY
from gradio import EventData

from airjax.cli.main import main
from airjax.data.decode import Frame
from airjax.data.folder import ReadImage
from airjax.data.placement import Placement
from airjax.demo import views
from airjax.demo.answer import Answer
from airjax.demo.downloads import download, truth
from airjax.demo.exhibit import Exhibit
from airjax.demo.page_state import PageState
from airjax.demo.see_tab import See, largest
from airjax.demo.uploads import Subject, subject_of
from airjax.demo.viewer import boxes
from airjax.errors import InputError
from airjax.inference.regions import region_of
from airjax.inference.results import Objects, poisson_binomial
from airjax.prediction.predictor import Kept
from airjax.training.runs import Run

SIZE = (40, 60)
FOUND = np.array([[2, 3, 12, 13], [20, 5, 26, 11], [30, 20, 58, 39]], np.float32)
SCORES = np.array([0.9, 0.6, 0.99], np.float32)


def an_answer(name="a.png", orientation=1, limit=None):
    """Three objects in a picture of 40 x 60 pixels as it is shown."""
    pixels = np.random.default_rng(len(name)).integers(0, 256, SIZE).astype(np.uint8)
    grey, file = pixels.astype(np.float32), SIZE if orientation == 1 else SIZE[::-1]
    placement = Placement(file, orientation)
    read = ReadImage(SimpleNamespace(name=name), pixels, placement, Frame(pixels, None, 255.0))
    n = len(FOUND)
    where, codes = np.zeros((n, 3), np.float32), np.zeros((n, 2), np.float32)
    objects = Objects(FOUND, FOUND, SCORES, where, codes, poisson_binomial(SCORES))
    shapes = [
        region_of(*np.mgrid[int(y0) : int(y1), int(x0) : int(x1)].reshape(2, -1), placement, grey)
        for x0, y0, x1, y1 in FOUND
    ]
    return Answer(Subject(read, "all", True, is_file=True), objects, shapes, "", limit=limit)


def counted(answer):
    return answer.picture.objects.number


def test_a_box_is_added_and_removed_and_undone():
    answer = an_answer().with_box((50, 2, 44, 12))  # drawn from the right
    assert counted(answer) == 4 and answer.picture.objects.probability == 1
    assert answer.picture.objects.interval == (4, 4)
    np.testing.assert_array_equal(answer.picture.objects.tight_boxes[3], [44, 2, 50, 12])
    assert answer.picture.objects.scores[3] == 1
    region = answer.picture.regions[3]
    assert abs(region.area - np.pi * 3 * 5) < 8 and region.centre == (47, 7)
    values = answer.subject.read.frame.pixels[region.rows, region.columns]
    assert region.mean == pytest.approx(values.mean()) and not region.at_edge
    without = answer.without(1).without(-1)
    assert counted(without) == 2 and without.numbers == [0, 2]
    assert without.undone().numbers == [0, 2, -1]
    assert counted(without.undone().undone().undone()) == 3
    assert "2 objects</b>, corrected by hand: 0 added, 1 removed" in views.answer(without)


def test_corrections_stay_whatever_the_sliders_leave_out():
    state = PageState(an_answer(), 5)
    state = state.edited(state.answer.with_box((44, 2, 46, 4)).without(0))
    few = state.keeping(Kept(threshold=0.7, min_size=8.0))
    assert few.answer.numbers == [2, -1]  # the box by hand is small, and stays
    assert "3 found, 1 left out by the sliders" in views.answer(few.answer)
    again = few.keeping(Kept())
    assert again.answer.numbers == [1, 2, -1]
    assert again.answer.edits == state.answer.edits


def test_where_the_sliders_leave_nothing_a_download_says_so():
    state = PageState(an_answer(), 5).keeping(Kept(threshold=1.0))
    with pytest.warns(UserWarning, match="no object was found"):
        See.download(None, state, EventData(None, {"key": "rois"}))


def test_corrections_come_back_with_the_picture():
    state = PageState(an_answer(), 5)
    state = state.edited(state.answer.without(2))
    other = state.showing(an_answer("other.png"))
    assert counted(other.answer) == 3
    table = truth(other.truth()).content.decode().splitlines()
    assert table[0] == "file,page,x0,y0,x1,y1"
    assert [line.split(",")[0] for line in table[1:]] == ["a.png"] * 2 + ["other.png"] * 3
    back = other.showing(an_answer())
    assert back.answer.numbers == [0, 1] and counted(back.edited(back.answer.undone()).answer) == 3
    assert not back.edited(back.answer.undone()).corrected


def test_corrections_belong_to_the_run_that_found_the_objects():
    first = PageState(an_answer(), 5, run="a").keeping(Kept(threshold=0.1))
    first = first.edited(first.answer.without(2))
    second = first.turned_to("b", an_answer())
    assert counted(second.answer) == 3 and second.kept == Kept(threshold=0.1)
    assert second.left["a"] is first.answer.subject
    (truth,) = second.truth()  # not as it is shown: the correction stays
    assert truth.objects.number == 2
    both = second.edited(second.answer.without(0).without(1))
    assert [each.objects.number for each in both.truth()] == [1]
    back = both.turned_to("a", an_answer())
    assert back.answer.numbers == [0, 1]
    assert [each.objects.number for each in back.truth()] == [2]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_boxes_by_hand_are_stored_as_the_file_is(orientation):
    """A box by hand where an object was found has the same place in tables and masks."""
    answer = an_answer(orientation=orientation)
    found = answer.picture
    box = tuple(answer.boxes[0].tolist())
    by_hand = answer.with_box(box).without(0).picture
    np.testing.assert_allclose(by_hand.objects.tight_boxes[-1], found.objects.tight_boxes[0])
    region, ellipse = found.regions[0], by_hand.regions[-1]
    assert set(zip(ellipse.rows, ellipse.columns, strict=True)) < set(
        zip(region.rows, region.columns, strict=True)
    )


def test_boxes_that_cannot_be():
    answer = an_answer()
    for box in ((-9, 0, -1, 5), (60, 0, 70, 5), (float("nan"), 0, 1, 1)):
        with pytest.raises(InputError, match="box must lie in the picture"):
            answer.with_box(box)
    assert answer.with_box((59.9, 39.9, 80, 80)).by_hand == [(59, 39, 60, 40)]
    assert answer.with_box((5, 5, 5, 5)).picture.regions[-1].area == 1
    for number in (7, -1):
        with pytest.raises(InputError, match="object must be one in the picture"):
            answer.without(number)
    state = PageState(answer, 5)
    see = See.__new__(See)
    see.run = state.run
    with pytest.warns(UserWarning, match="must be one in the picture"):
        same, *_ = see.edit(state, EventData(None, {"action": "remove", "number": 7}))
    assert same.answer.edits == ()


def test_the_most_that_can_be_counted_is_said():
    assert "3 is the most that this run can count" in views.answer(an_answer(limit=3))
    assert "the most" not in views.answer(an_answer(limit=4)) + views.answer(an_answer())


def test_the_command_line_says_the_same():
    answer = dataclasses.replace(an_answer("my cells.png"), kept=Kept(0.5, 3.0, 20.0, True))
    line = (
        "airjax predict runs/a &#x27;my cells.png&#x27; --threshold 0.5 --min-size 3 --max-size 20"
    )
    assert f"{line} --exclude-edges<" in views.command(answer, "runs/a", 10)
    same_size = dataclasses.replace(an_answer(limit=3))
    assert "runs/a a.png --num-paths 10<" in views.command(same_size, "runs/a", 10)


def test_what_is_drawn_over_the_picture():
    answer = an_answer().with_box((1, 1, 5, 5)).without(0)
    text = boxes(answer)
    assert '"width": 60, "height": 40' in text and '"edits": 2' in text
    assert "added by hand" in text and "score 0.60" in text and "score 0.90" not in text
    assert largest(answer) == 29


def test_a_corrected_picture_is_downloaded(tmp_path):
    answer = an_answer().with_box((44, 2, 50, 12)).without(2)
    file = download(answer.picture, "mask", by_hand=True)
    assert file.name == "a-corrected-mask.tif"
    mask = tifffile.imread(io.BytesIO(file.content))
    assert mask.shape == SIZE and set(np.unique(mask)) == {0, 1, 2, 3} and mask[7, 47] == 3
    assert download(answer.picture, "objects", by_hand=True).content.count(b"\n") == 4
    empty = answer.without(0).without(1).without(-1)
    (tmp_path / "truth.csv").write_bytes(truth([empty.picture]).content)
    assert (tmp_path / "truth.csv").read_text().splitlines()[1] == "a.png,,,,,"


@pytest.mark.slow
def test_check_reads_the_truth(run, tmp_path, capsys):
    """Of pictures that were read and not corrected, all boxes are matched."""
    (tmp_path / "in").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, TINY.image_shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "in" / "=a.tif", pixels)
    line = ["predict", run, tmp_path / "in", "--out", tmp_path / "out", "--num-paths", "10"]
    main([str(word) for word in line])
    exhibit = Exhibit.of(Run.open(run))
    subject = subject_of(tmp_path / "in" / "=a.tif", exhibit.run.config.pictures, exhibit.shape)
    state = PageState(exhibit.found(subject, 10), 10)
    (tmp_path / "truth.csv").write_bytes(truth(state.truth()).content)
    capsys.readouterr()
    main(["check", str(tmp_path / "out"), str(tmp_path / "truth.csv")])
    text = capsys.readouterr().out
    n = counted(state.answer)
    assert n > 0 and f"{n}, {n}, {n}" in text
