"""The page's functions, without a browser: what is drawn, uploaded, read, dreamt and shown."""

import dataclasses
import io
import json
import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, eager, mistake
from PIL import Image

from airjax.air import AIR
from airjax.cli import demo as command
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.demo import dreams, views
from airjax.demo.drawing import (
    Brush,
    Stroke,
    drawn,
    figures_of,
    strokes_from_json,
)
from airjax.demo.exhibit import Exhibit
from airjax.demo.reader import MOST_PATHS, Reader, windows_of
from airjax.demo.server import check_address
from airjax.demo.uploads import as_it_is, uploaded
from airjax.errors import InputError
from airjax.inference.infer import read_paths
from airjax.picture_config import PictureConfig
from airjax.programs.spatial import window_boxes
from airjax.programs.untrained import untrained
from airjax.training.runs import Run
from airjax.training.session import Session

BRUSH = Brush(size=20.0, thickness=3.0)
SHAPE = (50, 60)


def line(x0, y0, x1, y1, colour="#ffffff"):
    return Stroke(np.array([[x0, y0], [x1, y1]]), colour)


def extent(image):
    """Width and height of what can be seen."""
    rows, columns = np.nonzero(image > 40)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.fixture(scope="module")
def reader():
    """Of untrained programs that find as many objects as they can."""
    model, guide = untrained(TINY, 0)
    return Reader(model, eager(guide))


@pytest.fixture(scope="module")
def images():
    """As many images of 5 x 6 as are read at a time: all tests share one compiled program."""
    return np.random.default_rng(0).integers(0, 256, (MOST_PATHS, 5, 6)).astype(np.uint8)


def finished(path, model: ModelConfig, data, rows=True) -> Run:
    """A run whose model is untrained and finds as many objects as it can."""
    run = Run.create(Config(TrainConfig(data=str(data)), model), path)
    programs = untrained(model, 0)
    run.save(programs[0], eager(programs[1]))
    if rows:
        for step in (10, 20, 30):
            message = {"elbo": -1 / step, "test_elbo": -2 / step, "test_count_accuracy": step / 50}
            run.append({"step": step, **message})
        run.write("evaluation.json", json.dumps({"elbo": 2.0}))
    return run


def test_strokes_are_checked():
    text = (
        '[{"colour": "#ff0000", "points": [[0.5, 0.25], [2, -1]]}, {"colour": "red", "points": []}]'
    )
    (stroke,) = strokes_from_json(text)
    assert stroke.colour == "#ff0000"
    np.testing.assert_array_equal(stroke.points, [[0.5, 0.25], [1, 0]])
    assert strokes_from_json("") == strokes_from_json("[]") == []
    for wrong in (
        "{", "3", '[{"points": [[0, 0]]}]', '[{"colour": "loud", "points": [[0, 0]]}]',
        '[{"colour": "red", "points": [[0]]}]', '[{"colour": "red", "points": [[0, NaN]]}]',
        json.dumps([{"colour": "red", "points": [[0, 0]] * 20_001}]),
        json.dumps([{"colour": "red", "points": [[0, 0]]}] * 201),
    ):  # fmt: skip
        with pytest.raises(InputError, match="drawing must"):
            strokes_from_json(wrong)


def test_nothing_drawn_is_a_black_image():
    assert not drawn([], BRUSH, SHAPE).any()


def test_strokes_have_the_thickness_and_figures_the_size_of_objects():
    huge, small = line(0.5, 0.02, 0.5, 0.98), line(0.5, 0.45, 0.5, 0.6)
    for stroke in (huge, small):
        assert extent(drawn([stroke], BRUSH, SHAPE, fit=False)) == (4, 50 if stroke is huge else 11)
        width, height = extent(drawn([stroke], BRUSH, SHAPE))
        assert width == 4 and BRUSH.size / 1.2 < height < BRUSH.size * 1.2
    dot = Stroke(np.array([[0.5, 0.5]]))
    assert extent(drawn([dot], BRUSH, SHAPE)) == (4, 4)


def test_strokes_that_touch_are_one_figure():
    cross = [line(0.2, 0.2, 0.4, 0.4), line(0.4, 0.2, 0.2, 0.4)]
    strokes = [*cross, line(0.8, 0.1, 0.8, 0.9)]
    a, b, c = figures_of(strokes)
    assert a == b != c
    image = drawn(strokes, BRUSH, SHAPE)
    left, right = extent(image[:, :35]), extent(image[:, 35:])
    assert abs(left[0] * 60 / 50 - left[1] * 1.2) < 8 and right[0] == 4


def test_a_figure_at_the_edge_stays_in_the_image():
    image = drawn([line(0.0, 0.0, 0.02, 0.1)], BRUSH, SHAPE)
    assert extent(image)[1] > 15 and image[:, 0].max() < 255


def test_colours_are_seen_where_the_model_has_them():
    strokes = [line(0.2, 0.2, 0.2, 0.6, "#ff0000"), line(0.7, 0.2, 0.7, 0.6)]
    coloured = drawn(strokes, BRUSH, (*SHAPE, 3))
    assert coloured.shape == (50, 60, 3)
    assert coloured[..., 0].sum() > 1.9 * coloured[..., 1].sum()
    np.testing.assert_array_equal(coloured[..., 0], drawn(strokes, BRUSH, SHAPE))
    assert drawn(strokes, BRUSH, (*SHAPE, 2)).shape == (50, 60, 2)


@pytest.mark.slow  # compiles much
def test_the_brush_is_that_of_the_objects(reader, images):
    brush = Brush.of(reader.all(images))
    assert 1 <= brush.size <= 6 and 1 <= brush.thickness <= 6
    nothing = Brush.of(reader.all(np.zeros_like(images)))
    assert nothing.thickness >= 1


@pytest.mark.parametrize("width", [2, 4, 6])
def test_thickness_of_strips(reader, width):
    from airjax.demo.drawing import _thickness

    image = np.zeros((1, 30, 40), bool)
    image[0, 10 : 10 + width] = True
    assert abs(_thickness(image, 0.0) - width) < 0.5


def saved(path, picture, **options):
    picture.save(path, **options)
    return path


def test_an_upload_is_fitted_its_ground_made_dark_and_its_file_removed(tmp_path):
    page = np.full((100, 200), 250, np.uint8)
    page[40:60, 90:110] = 10
    file = saved(tmp_path / "page.jpg", Image.fromarray(page), quality=95)
    subject = uploaded(file, PictureConfig(), (50, 50))
    image = subject.image
    assert "scaled from 200 x 100 to the model's 50 x 50 pixels" in subject.note
    assert image.shape == (50, 50) and not file.exists()
    assert image[24:26, 24:26].min() > 200 and image[14:18].max() < 40
    file = saved(tmp_path / "same.png", Image.fromarray(255 - page))
    as_is = PictureConfig("no", None, "grey", 0, normalise="none")
    subject = uploaded(file, as_is, (100, 200))
    np.testing.assert_array_equal(subject.image, 255 - page)
    assert subject.note == ""
    for channels in (2, 3):
        file = saved(tmp_path / "grey.png", Image.fromarray(255 - page))
        image = uploaded(file, PictureConfig(), (50, 50, channels)).image
        assert image.shape == (50, 50, channels)


def test_a_bad_upload_is_refused_and_removed(tmp_path):
    big = io.BytesIO()
    Image.new("1", (8000, 4000)).save(big, "PNG")
    postscript = io.BytesIO()
    Image.new("L", (8, 8)).save(postscript, "EPS")  # would be decoded by another program
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (50, 50)).astype(np.uint8)
    Image.fromarray(noise).save(whole, "PNG")
    for content, why in (
        (b"no picture", "cannot identify"),
        (b"", "cannot identify"),
        (whole.getvalue()[:300], "truncated"),
        (big.getvalue(), "at most 16000000 pixels, has 8000 x 4000"),
        (postscript.getvalue(), "cannot identify"),
    ):
        file = tmp_path / "bad.png"
        file.write_bytes(content)
        with pytest.raises(InputError, match=why) as error:
            uploaded(file, PictureConfig(), (50, 50))
        assert not file.exists() and str(tmp_path) not in str(error.value)
        assert str(error.value).startswith("bad.png cannot be read: ")


@pytest.mark.slow  # compiles much
def test_the_reader_averages_as_many_paths_as_asked(reader, images):
    image = images[0]
    each = [read_paths(reader.model, reader.guide, image).count_probs]
    assert np.ptp(each[0][:, 1]) > 1e-6  # the paths differ
    for k in (1, 7, MOST_PATHS):
        scene = reader(image, k)
        found = AIR.of(reader.model, reader.guide, num_paths=k).predict(image[None])
        np.testing.assert_allclose(scene.count_probs, found.count_probs, rtol=1e-4)
        assert len(scene) == 1 and scene.counts[0] == 2
    all_where = reader.all(images).reading.z_where
    np.testing.assert_allclose(scene.reading.z_where[0], all_where[0], rtol=1e-5)
    assert windows_of(scene).shape == (2, 3, 3)


def test_directions_are_the_codes_principal_components(reader, images):
    scenes = reader.all(images)
    codes = dreams.codes_of(scenes)
    assert len(codes.what) == 2 * len(images) == len(codes.where)
    gram = codes.directions @ codes.directions.T
    variances = np.diag(gram)
    np.testing.assert_allclose(gram, np.diag(variances), atol=1e-6 * variances.max())
    np.testing.assert_allclose(variances.sum(), codes.what.var(axis=0, ddof=1).sum(), rtol=1e-4)
    np.testing.assert_allclose(codes.shares.sum(), 1, rtol=1e-4)
    few = dreams.codes_of(scenes[:1])  # filled up from the prior
    assert len(few.what) == dreams.FEWEST + 2


def test_a_place_is_that_of_the_window():
    place = dreams.Place(across=0.5, down=-0.2, size=0.4)
    where = dreams.where_of(place)
    np.testing.assert_allclose(dreams.place_of(where), place, rtol=1e-5)
    x0, y0, x1, y1 = np.asarray(window_boxes(jnp.asarray(where), (100, 200)))
    np.testing.assert_allclose([x0 + x1, y0 + y1], [2 * 150, 2 * 40], rtol=1e-5)
    np.testing.assert_allclose([x1 - x0, y1 - y0], [80, 40], rtol=1e-5)


def test_a_dream_moves_and_morphs_one_object(reader, images):
    codes = dreams.codes_of(reader.all(images))
    dream = dreams.Dream.of(codes, 3)
    a, b = dream.things(codes)
    np.testing.assert_allclose(a.what, codes.what[3], rtol=1e-5)
    place = dreams.Place(0.3, 0.1, 0.5)
    changed = dream.changed(1, dreams.Edit(place, morph=1.0))
    c, d = changed.things(codes)
    np.testing.assert_array_equal(c.what, a.what)
    np.testing.assert_allclose(d.what, codes.what[3], rtol=1e-5)
    np.testing.assert_allclose(dreams.place_of(d.where), place, rtol=1e-5)
    along = changed.changed(0, dreams.Edit(place, along=(2.0,) + (0.0,) * 3)).things(codes)[0]
    np.testing.assert_allclose(along.what - a.what, 2 * codes.directions[0], rtol=1e-3, atol=1e-6)
    line = dreams.between(a, b, 5)
    np.testing.assert_allclose(line[[0, 4]], [a.what, b.what], rtol=1e-5)
    assert dreams.windows(reader.model, line).shape == (5, 3, 3)


def test_a_scene_of_what_was_found_is_the_reconstruction(reader, images):
    scene = reader(images[0], 1)
    where, what = scene.z_where[0], scene.z_what[0]
    things = [dreams.Thing(*thing) for thing in zip(where, what, strict=True)]
    decoded = dreams.scene(reader.model, things)
    np.testing.assert_allclose(decoded, scene.reconstructions[0], rtol=1e-4, atol=1e-6)


def test_what_is_seen_has_all_its_parts(reader, images):
    html = views.seen(reader(images[0], 10))
    assert html.count("<rect") == 2 and html.count('class="air-object"') == 2
    assert 'stroke="red"' in html and 'stroke="lime"' in html
    probabilities = [float(p) for p in re.findall(r'data-probability="([\d.]+)"', html)]
    assert len(probabilities) == 3 and abs(sum(probabilities) - 1) < 1e-3


def test_text_is_escaped():
    wild = "<script>&\"'"
    for html in (
        views.message(wild), views.note(wild), views.header(wild, wild, wild),
        views.facts({wild: wild}), views.picture(np.zeros((2, 3)), caption=wild),
    ):  # fmt: skip
        assert "<script>" not in html and "&lt;script&gt;" in html


@pytest.mark.slow  # compiles much
def test_an_exhibit_of_a_run_in_colour(tmp_path):
    model = dataclasses.replace(TINY, channels=3)
    shape = model.image_shape
    images = np.random.default_rng(1).integers(0, 256, (40, *shape)).astype(np.uint8)
    np.savez(tmp_path / "scenes.npz", images=images)
    run = finished(tmp_path / "run", model, tmp_path / "scenes.npz")
    exhibit = Exhibit.of(run)
    assert exhibit.held_out and exhibit.shape == shape
    np.testing.assert_array_equal(exhibit.images, images[-4:])  # of training none is shown
    image = drawn([line(0.1, 0.1, 0.9, 0.9)], exhibit.brush, shape)
    answer = exhibit.found(as_it_is(image, "drawing"), 3)
    assert 'data-count="2"><b>2 objects</b>' in views.answer(answer)
    assert "2 is the most that this run can count" in views.answer(answer)
    assert not views.command(answer, "runs/a", 3)  # a drawing has no file
    assert exhibit.facts()["images"] == " x ".join(map(str, shape))
    assert views.curves(run.rows()).count("data:image/png") == 2
    (tmp_path / "scenes.npz").unlink()
    without = Exhibit.of(run)
    assert not without.held_out and without.images.shape[1:] == shape


def test_the_newest_finished_run_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Run.all(tmp_path / "runs") == []
    for name, rows in (("a", True), ("b", True), ("unscored", True), ("imported", False)):
        run = finished(tmp_path / "runs" / name, TINY, "digits", rows)
        if name == "unscored":
            (run.path / "evaluation.json").unlink()
    (tmp_path / "runs/broken").mkdir()
    (tmp_path / "runs/broken/config.json").write_text("{")
    (tmp_path / "runs/notes.txt").write_text("mine")
    for name, age in (("a", 1), ("b", 3), ("unscored", 9), ("imported", 2)):
        os.utime(tmp_path / "runs" / name / "model", (age, age))
    assert command.newest(train=False, data_dir=None).path.name == "b"
    names = [run.path.name for run in command.offered(None, train=False, data_dir=None)]
    assert names == ["b", "imported", "a"]
    assert command.offered(Path("runs"), False, None)[0].path == Path("runs/b")
    (one,) = command.offered(Path("runs/a"), False, None)
    assert one.path == Path("runs/a")


def test_without_a_run_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    message = mistake("demo", capsys)
    assert message == (
        "RUN must be given, or --train, to train the default first (about two minutes): "
        "runs/ has no finished run"
    )
    assert "RUN must be the folder of a run" in mistake("demo nowhere", capsys)


def begun(folder):
    """A session of the default data whose training takes no time."""

    def begin(name, config=None, **_):
        assert name == "digits" and config is None
        run = finished(folder / "runs/new", TINY, "digits")
        return SimpleNamespace(run=run, train=lambda ends_process: None)

    return begin


@pytest.mark.parametrize("answer", ["", "y", "n"])
def test_on_a_terminal_it_offers_to_train(tmp_path, monkeypatch, answer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "begin", begun(tmp_path))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    if answer == "n":
        with pytest.raises(InputError, match="must be given"):
            command.newest(train=False, data_dir=None)
    else:
        assert command.newest(train=False, data_dir=None).path.name == "new"


def test_train_needs_no_answer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "begin", begun(tmp_path))
    assert command.newest(train=True, data_dir=None).path.name == "new"


def test_addresses_that_cannot_be_had(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = mistake(f"demo --train --port {port}", capsys)
        assert message == f"--port must be free, and one that you may use, got {port}"
    assert "--host must be an address of this machine" in mistake("demo --host 192.0.2.1", capsys)
    assert "--port must be 1 to 65535, got 0" in mistake("demo --port 0", capsys)
    check_address("127.0.0.1", None)


def test_without_the_extra_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert mistake("demo", capsys) == "airjax demo needs gradio: pip install 'airjax[demo]'"
