"""The report of predict in a real browser, Debian's chromium; names of files that mean harm."""

import csv
import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, eager
from PIL import Image
from test_folder import saved

import airjax
from airjax.cli import report
from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data.decode import Frame
from airjax.data.display import viewable
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

HOSTILE = {  # names of files, and what is shown
    b"<img src=x onerror=alert(1)>.png": "<img src=x onerror=alert(1)>.png",
    b'"><script>alert(2)</script>.png': '"><script>alert(2)</script>.png',  # a folder, and a file
    b"' onfocus=alert(3) autofocus='.png": "' onfocus=alert(3) autofocus='.png",
    b"{{ 7 * 7 }}{% raise %}.png": "{{ 7 * 7 }}{% raise %}.png",
    b"&lt;b&gt;.png": "&lt;b&gt;.png",
    b"=1+1.png": "=1+1.png",
    b"new\nline\tand\x1b[31m.png": r"new\nline\tand\x1b[31m.png",
    b"\xff\xfe.png": r"\udcff\udcfe.png",
    "a\u202egnp.exe.png".encode(): r"a\u202egnp.exe.png",  # would be shown from right to left
    b"w" * 251 + b".png": "w" * 251 + ".png",
}
BROKEN = "<b onclick=alert(4)>.jpg"
CHROMIUM = shutil.which("chromium")


def made(folder, collapsed=None, **pictures):
    """An untrained run that finds objects everywhere."""
    how = {"size": None, "channel": "grey", "crop": 0, "normalise": "none"} | pictures
    run = Run.create(
        Config(TrainConfig(data="digits"), TINY, pictures=PictureConfig("no", **how)), folder
    )
    model, guide = untrained(TINY, 1)
    run.save(model, eager(guide), collapsed)
    return run


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The results of pictures with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    run = made(folder / "run&<i>")
    inside = folder / "<svg onload=alert(5)>"
    inside.mkdir()
    for i, name in enumerate(HOSTILE):
        path = Path(os.fsdecode(bytes(inside) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        image = np.random.default_rng(i).integers(0, 256, (5, 6)).astype(np.uint8)
        Image.fromarray(image).save(path, "PNG")
    (inside / BROKEN).write_text("no")
    (inside / "<u>notes.txt").write_text("no")
    main(["predict", str(run.path), str(inside), "--out", str(folder / "out"),
          "--format", "csv", "geojson", "rois", "coco", "masks"])  # fmt: skip
    return folder / "out"


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=90_000
        )
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390])
def page(request, browser, hostile):
    """The page of hostile names, just opened. Nothing else may be asked for, or go wrong."""
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    asked, wrong = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto((hostile / "report.html").as_uri())
    yield page
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [
        (hostile / "report.html").as_uri()
    ]
    assert wrong == []


def test_names_that_mean_harm_are_shown(page):
    shown = page.locator(".pictures td.file").all_inner_texts()
    assert sorted(shown) == sorted(HOSTILE.values())
    assert {page.evaluate(f"document.querySelectorAll('{tag}').length")
            for tag in ("img", "main script", "b", "u", "i[onclick]")} == {0}  # fmt: skip
    assert page.evaluate("document.querySelectorAll('[onerror], [onfocus], [onload]').length") == 0
    assert page.title() == "<svg onload=alert(5)>: objects found"
    left_out = page.inner_text("#left-out")
    assert BROKEN in left_out and "<u>notes.txt" in left_out
    assert "run&<i>" in page.inner_text("header")
    figures = page.locator(".drawings figure")
    assert figures.count() == len(HOSTILE)
    for name in (figures.nth(i).get_attribute("data-name") for i in range(len(HOSTILE))):
        assert name in HOSTILE.values()


def test_page_fits_the_window(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    for figure in page.locator(".drawings figure, .facts, .scroll").all():
        assert figure.bounding_box()["x"] + figure.bounding_box()["width"] <= width
    for heading in ("Counts", "All pictures", "Left out", "Settings", "How to cite"):
        assert page.get_by_role("heading", name=heading, exact=True).count() == 1


def test_drawings_are_enlarged(page):
    first = page.locator(".drawings figure").first
    width = first.locator("svg").bounding_box()["width"]
    assert page.locator("dialog").is_hidden() and first.locator("text").first.is_hidden()
    first.locator("button").focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog .stage svg")
    image = large.evaluate("svg => { const { width, height } = svg.viewBox.baseVal;"
                           " return [width, height]; }")  # fmt: skip
    assert image == [6, 5]
    assert page.inner_text("#large-name") == first.get_attribute("data-name")
    numbers = large.locator("text").all_text_contents()
    assert len(numbers) > 1 and numbers == [str(i) for i in range(len(numbers))]
    assert large.locator("text").first.is_visible()
    assert large.bounding_box()["width"] > min(width, 389)
    before = large.bounding_box()["width"]
    page.keyboard.press("+")
    assert large.bounding_box()["width"] == pytest.approx(1.5 * before, rel=0.01)
    page.click("[data-do=larger]")
    assert large.bounding_box()["width"] == pytest.approx(2.25 * before, rel=0.01)
    page.keyboard.press("0")
    assert large.bounding_box()["width"] == pytest.approx(before, rel=0.01)
    page.uncheck("#numbers")
    assert large.locator("text").first.is_hidden()
    page.locator("dialog .stage").focus()
    page.keyboard.press("ArrowRight")
    second = page.locator(".drawings figure").nth(1).get_attribute("data-name")
    assert page.inner_text("#large-name") == second
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    page.locator(".pictures td a").nth(1).click()
    assert page.inner_text("#large-name") == second and page.locator("dialog").is_visible()


def test_doubtful_first_and_sorted_otherwise(page):
    def column(i):
        cells = page.locator(f".pictures tbody td:nth-child({i})").all()
        return [cell.get_attribute("data-value") or cell.inner_text() for cell in cells]

    probabilities = [float(p) for p in column(4)]
    assert probabilities == sorted(probabilities) and len(set(probabilities)) > 1
    for times, order in ((1, "ascending"), (2, "descending")):
        page.click(".pictures th button >> text=count")
        counts = [int(n) for n in column(2)]
        assert counts == sorted(counts, reverse=times == 2)
        assert page.get_attribute(".pictures th:nth-child(2)", "aria-sort") == order


def test_names_that_mean_harm_in_other_formats(hostile):
    """Each picture has its files, inside of the folder of results; names are those of the files."""
    pycocotools = pytest.importorskip("pycocotools.coco")
    roifile = pytest.importorskip("roifile")
    images = pycocotools.COCO(hostile / "coco_images.json")
    names = {os.fsencode(image["file_name"]) for image in images.dataset["images"]}
    assert names == set(HOSTILE)
    with open(hostile / "objects.csv", encoding="utf-8", errors="surrogateescape") as file:
        objects = Counter(row["file"].removeprefix("./") for row in csv.DictReader(file))
    assert sum(objects.values()) == len(images.loadRes(str(hostile / "coco_results.json")).anns)
    for folder, suffix in (("geojson", ".geojson"), ("rois", ".zip"), ("masks", ".tif")):
        files = [path for path in (hostile / folder).rglob("*") if path.is_file()]
        assert len(files) == len(HOSTILE) and {path.suffix for path in files} == {suffix}
    for name, number in objects.items():
        if len(name) < 250:
            text = (hostile / "geojson" / f"{name}.geojson").read_text()
            features = json.loads(text)["features"]
            assert [f["properties"]["name"] for f in features] == [
                f"object {i}" for i in range(number)
            ]
            assert "alert" not in text and "\\u" not in text
            assert len(roifile.roiread(hostile / "rois" / f"{name}.zip")) == number


def test_boxes_are_those_of_the_table(tmp_path):
    """The model reads at half the size, and the picture lies on its side in the file."""
    run = made(tmp_path / "run", scale=0.5)
    image = np.random.default_rng(0).integers(0, 256, (12, 10)).astype(np.uint8)  # as it is stored
    stored = Image.fromarray(image)
    exif = stored.getexif()
    exif[0x0112] = 6  # is shown turned to the right
    (tmp_path / "in").mkdir()
    stored.save(tmp_path / "in/a.png", exif=exif)
    main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/out".split())
    with open(tmp_path / "out/objects.csv") as file:
        rows = list(csv.DictReader(file))
    sides = [max(float(r["x1"]) - float(r["x0"]), float(r["y1"]) - float(r["y0"])) for r in rows]
    text = (tmp_path / "out/report.html").read_text()
    assert 'viewBox="0 0 12 10"' in text
    boxes = re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', text)
    assert len(rows) > 1
    for row, box in zip(rows, boxes, strict=True):
        x, y, width, height = map(float, box)
        turned = [y, 12 - x - width, y + height, 12 - x]
        assert [float(row[key]) for key in ("x0", "y0", "x1", "y1")] == pytest.approx(
            turned, abs=0.2
        )
    # a size in pixels of the file, whatever the model reads
    size = 0.75 * min(sides)
    main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/all --min-size {size}".split())
    assert (tmp_path / "all/report.html").read_text().count("<rect ") == len(rows)


def test_what_is_left_out_is_counted(tmp_path, capsys):
    run = made(tmp_path / "run")
    (tmp_path / "in").mkdir()
    for i in range(3):
        saved(tmp_path / f"in/{i}.png", np.full((5, 6), 80 * i, np.uint8))
    main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/out --threshold 1".split())
    found = re.search(r"left out: (\d+) objects by --threshold 1", capsys.readouterr().out)
    assert found and int(found[1]) > 0
    assert f"{found[1]} by --threshold 1" in (tmp_path / "out/report.html").read_text()
    main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/all".split())
    assert "Nothing was left out." in (tmp_path / "all/report.html").read_text()


def test_a_doubtful_model_comes_first(tmp_path):
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in/0.png", np.zeros((5, 6), np.uint8))
    for name, collapsed, doubts in (
        ("good", None, []),
        ("collapsed", "the ELBO is not finite", []),
        ("doubtful", None, ["objects an image, on average: 0.00; nothing is found: try <b>"]),
    ):
        run = made(tmp_path / name, collapsed)
        run.write("health.json", json.dumps({"mean_count": 0.0, "doubts": doubts}))
        main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/out_{name}".split())
        text = (tmp_path / f"out_{name}/report.html").read_text()
        header = text[: text.index("</header>")]
        assert ('role="alert"' in header) == (name != "good")
        assert collapsed is None or collapsed in header
        assert not doubts or "nothing is found: try &lt;b&gt;" in header


def test_many_pictures_do_not_make_a_large_page(tmp_path, monkeypatch):
    run = made(tmp_path / "run")
    (tmp_path / "in").mkdir()
    for i in range(30):
        image = np.random.default_rng(i).integers(0, 256, (5, 6)).astype(np.uint8)
        saved(tmp_path / f"in/{i:02}.png", image)
    monkeypatch.setattr(report, "ROWS", 9)
    monkeypatch.setattr(report, "DRAWINGS", 4)
    monkeypatch.setattr(report, "BOXES", 1)
    main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/out".split())
    with open(tmp_path / "out/counts.csv") as file:
        table = list(csv.DictReader(file))
    text = (tmp_path / "out/report.html").read_text()
    listed = re.findall(r'<td class="file">.*?<bdi>(\d\d\.png)</bdi>', text)
    assert len(listed) == 9 and text.count("<figure id=") == text.count("<rect ") == 4
    assert "The 9 of 30 pictures" in text and "counts.csv" in text
    assert "The first 1 boxes are drawn." in text
    probability = {row["file"]: float(row["probability"]) for row in table}
    worst = sorted(probability.values())[:9]
    assert [probability[name] for name in listed] == pytest.approx(worst, abs=1e-4)


def test_large_pictures_are_drawn_smaller():
    values = np.zeros((50, 3000, 3), np.uint16)
    values[..., 2] = 1000 + np.arange(3000)  # of 65,535: hardly visible as it is
    frame = Frame(values, None, 65535.0, is_colour=True)
    blue, colours = (viewable(frame, name, report.SIDE) for name in ("2", "colour"))
    assert blue.shape == (17, 1000) and colours.shape == (17, 1000, 3)
    assert blue[:, 0].max() < 5 and blue[:, -1].min() > 250
    assert colours[..., :2].max() < 5 and colours[:, -1, 2].min() > 250


def test_histogram_and_median():
    counts = Counter({0: 1, 3: 2, 100: 1})
    found = report.histogram(counts)
    assert found["top"] == 3 and len(found["bars"]) <= report.BARS
    assert [(b["low"], b["high"], b["number"]) for b in found["bars"] if b["number"]] == [
        (0, 4, 3),
        (100, 104, 1),
    ]
    assert report._median(counts) == 3 and report._median(Counter({1: 1, 2: 1})) == 1.5
    one = report.histogram(Counter({7: 5}))
    assert one == {"top": 5, "bars": [{"low": 7, "high": 7, "number": 5, "labelled": True}]}


def test_a_report_that_cannot_be_written_leaves_no_results(tmp_path, monkeypatch):
    run = made(tmp_path / "run")
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in/0.png", np.zeros((5, 6), np.uint8))

    def full(self, path, left_out):
        path.write_text("<!doc")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report.Report, "write", full)
    with pytest.raises(SystemExit):
        main(f"predict {run.path} {tmp_path}/in --out {tmp_path}/out".split())
    assert {path.name for path in tmp_path.iterdir()} == {"run", "in"}


def test_damaged_health_is_one_line(tmp_path):
    run = made(tmp_path / "run")
    assert run.doubts == []
    run.write("health.json", "{")
    with pytest.raises(InputError, match="must be readable JSON"):
        _ = run.doubts


def test_citation_is_that_of_the_repository():
    from ruamel.yaml import YAML

    file = Path(airjax.__file__).parent.parent / "CITATION.cff"
    cited = YAML(typ="safe").load(file.read_text())
    (paper,) = [each for each in cited["references"] if each["type"] == "conference-paper"]
    assert f"{cited['title']}. Version {cited['version']}" == report.SOFTWARE
    assert paper["title"] in report.PAPER and str(paper["year"]) in report.PAPER
    assert paper["url"].rpartition("/")[2] in report.PAPER
    for author in paper["authors"]:
        assert author["family-names"] in report.PAPER
