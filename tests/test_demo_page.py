"""The page of ``airjax demo`` in a real browser, Debian's chromium."""

import base64
import csv
import json
import zipfile

import browser as shared
import numpy as np
import pytest
import roifile
import shapely
import tifffile
from browser import SLOW, Finger, after, needs_chromium, stroke, sync_api
from PIL import Image

from airjax.cli.main import main
from airjax.demo.reader import Reader

pytestmark = needs_chromium
browser, page, run, server = shared.browser, shared.page, shared.run, shared.server


def wait_for_bars(page, wanted):
    """Until the bar chart shows a posterior."""
    page.wait_for_function(
        """wanted => {
            const found = [...document.querySelectorAll(".air-bar")];
            const close = (bar, p) => Math.abs(bar.dataset.probability - p) < 1e-3;
            return found.length === wanted.length && found.every((bar, n) => close(bar, wanted[n]));
        }""",
        arg=wanted.tolist(),
    )


def bars(page):
    """The posterior that the bar chart shows."""
    found = page.locator(".air-bar").all()
    return [float(bar.get_attribute("data-probability")) for bar in found]


def test_what_is_drawn_is_read(page):
    after(page, lambda: stroke(page, (0.2, 0.2), (0.3, 0.7)))
    after(page, lambda: stroke(page, (0.6, 0.2), (0.9, 0.2), (0.7, 0.8)))
    # both looks of an untrained model find three
    assert page.inner_text(".air-count").startswith("3 objects, with probability")
    probabilities = bars(page)
    assert len(probabilities) == 4 and abs(sum(probabilities) - 1) < 1e-3
    assert int(np.argmax(probabilities)) == 3
    widths = [bar.bounding_box()["width"] for bar in page.locator(".air-bar i").all()]
    assert int(np.argmax(widths)) == 3
    boxes = page.locator("#seen .air-picture rect")
    colours = [box.get_attribute("stroke") for box in boxes.all()]
    assert colours == ["red", "lime", "deepskyblue"]
    assert page.locator(".air-object").count() == 3
    assert page.locator(".air-object image").count() == 6  # a window, and what is decoded
    drawn = page.locator("#seen .air-seen").inner_html()
    assert after(page, lambda: page.click("[data-do=undo]")) != drawn
    after(page, lambda: page.click("[data-do=clear]"))


def test_where_as_many_are_found_as_can_be_counted_it_is_said(page, tmp_path):
    for x in (0.15, 0.22, 0.29, 0.36, 0.43, 0.5, 0.57, 0.64, 0.71, 0.78):  # only together enough
        after(page, lambda x=x: stroke(page, (x, 0.2), (x, 0.8)))
    sync_api.expect(page.locator(".air-count")).to_have_attribute("data-count", "3")
    assert "3 is the most that this run can count: there may be more" in page.inner_text("#answer")
    after(page, lambda: page.click("[data-do=clear]"))
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = 255  # the second look leaves one of three out
    Image.fromarray(image).save(tmp_path / "one.png")
    upload = page.locator("input[type=file]")
    after(page, lambda: upload.set_input_files(tmp_path / "one.png"))
    sync_api.expect(page.locator(".air-count")).to_have_attribute("data-count", "2")
    assert "the most" not in page.inner_text("#answer")


def test_an_upload_is_read_as_in_python_and_not_kept(page, server, run, tmp_path):
    reader = Reader(*run.load())
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = image[10:18, 15:22] = 255
    Image.fromarray(image).save(tmp_path / "two.png")
    upload = page.locator("input[type=file]")
    one, ten = (reader(image, k).count_probs[0] for k in (1, 10))
    assert one.argmax() == ten.argmax() == 3 and abs(one - ten).max() > 1e-3
    after(page, lambda: upload.set_input_files(tmp_path / "two.png"))
    wait_for_bars(page, ten)
    paths = page.locator("#paths input[type=number]")
    paths.fill("1")
    paths.press("Enter")
    wait_for_bars(page, one)
    temporary = server[1]
    assert not [path for path in temporary.rglob("*") if path.is_file() and path.stat().st_size]


DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name));
    for (const kind of ["dragover", "drop"]) {
        document.body.dispatchEvent(
            new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer })
        );
    }
}"""


@pytest.fixture(scope="module")
def deep(run, tmp_path_factory):
    """A file of 16 bit and two pages, and the folder that predict writes of it."""
    folder = tmp_path_factory.mktemp("deep")
    values = np.random.default_rng(4).integers(0, 2**16, (2, 20, 26)).astype(np.uint16)
    file = folder / "in" / "=a &lt;i&gt; 'c.tif"
    file.parent.mkdir()
    tifffile.imwrite(file, values, photometric="minisblack")
    formats = ["csv", "json", "masks", "rois", "geojson"]
    line = ["predict", run.path, file, "--out", folder / "out", "--num-paths", 10, "--format"]
    main([*map(str, line), *formats])
    return file, folder / "out"


def of_first_page(path):
    """The rows of a table of predict."""
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if row["page"] == "0"]


def saved(page, key, folder):
    """The file that a button downloads."""
    with page.expect_download() as download:
        page.click(f"#downloads [data-key={key}]")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_deep_upload_has_the_table_and_the_files_of_predict(page, server, deep, tmp_path):
    file, out = deep
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_function("document.querySelector('#table').innerText.includes('page 0')")
    count, *_ = of_first_page(out / "counts.csv")
    rows = of_first_page(out / "objects.csv")
    assert page.get_attribute(".air-count", "data-count") == count["count"]
    probability = f"{float(count['probability']):.4f}"
    title = page.inner_text("#table h3")
    assert probability in title and title.startswith(file.name)  # as text, not as HTML
    columns = page.locator("#table th").all_inner_texts()
    cells = [row.locator("td").all_inner_texts() for row in page.locator("#table tbody tr").all()]
    assert cells == [[row[name] for name in columns] for row in rows] and len(columns) == 13
    assert "only the first was read" in page.inner_text(".air-message")

    assert of_first_page(saved(page, "objects", tmp_path)) == rows
    assert of_first_page(saved(page, "count", tmp_path)) == [count]
    mask = saved(page, "mask", tmp_path)
    assert mask.name == "a_lt_i_gt_c-mask.tif"
    (want,) = (out / "masks").glob("*.0.tif")
    np.testing.assert_array_equal(tifffile.imread(mask), tifffile.imread(want))
    assert len(roifile.roiread(saved(page, "rois", tmp_path))) == len(rows)
    found = shapely.from_geojson(saved(page, "geojson", tmp_path).read_text())
    assert len(found.geoms) == len(rows)
    (entry,) = json.loads(saved(page, "json", tmp_path).read_text())
    assert len(entry["objects"]) == len(rows)
    with zipfile.ZipFile(saved(page, "everything", tmp_path)) as archive:
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / name).read_bytes()
        assert len(archive.namelist()) == 6
    again = saved(page, "everything", tmp_path)
    assert zipfile.is_zipfile(again)
    assert not [path for path in server[1].rglob("*") if path.is_file() and path.stat().st_size]


def test_a_file_can_be_dropped(page, deep):
    content = base64.b64encode(deep[0].read_bytes()).decode()
    page.get_by_role("tab", name="Learning").click()
    page.wait_for_selector(".air-curves")
    page.mouse.wheel(0, 3000)
    page.evaluate(DROP, ["../<img src=x>${1+1}.tif", content])
    page.wait_for_function("document.querySelector('#table').innerText.includes('img src=x')")
    assert not page.locator("#table img").count()
    assert page.is_visible("#seen .air-seen") and not page.locator("body.air-dropping").count()
    page.evaluate(DROP, ["dropped.png", base64.b64encode(b"no picture").decode()])
    page.wait_for_selector(".air-message >> text=dropped.png cannot be read")
    page.wait_for_function(
        "document.querySelector('.air-message').getBoundingClientRect().bottom < innerHeight"
    )


def test_an_example_is_read(page, run):
    images = np.load(run.config.train.data)["images"][-6:]  # held out
    thumbnails = page.locator("#examples button")
    assert thumbnails.count() == len(images)
    page.click("#random-scene")
    for i in (5, 2):
        thumbnails.nth(i).click()
        page.wait_for_function(f"document.querySelector('#table').innerText.includes('scene-{i}')")
        want = Reader(*run.load())(images[i], 10).count_probs[0]
        np.testing.assert_allclose(bars(page), want, atol=1e-3)


def test_a_broken_upload_is_reported(page, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    seen = page.locator("#seen .air-seen").inner_html()
    page.locator("input[type=file]").set_input_files(tmp_path / "broken.png")
    page.wait_for_selector(".air-message")
    message = page.inner_text(".air-message")
    assert message.startswith("broken.png cannot be read:") and "/" not in message
    assert page.locator("#seen .air-seen").inner_html() == seen
    after(page, lambda: page.click("#random-scene"))
    page.wait_for_selector(".air-message", state="hidden")


def test_a_picture_unlike_the_training_is_said_to_be(page, tmp_path):
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = 255
    Image.fromarray(image).save(tmp_path / "usual.png")
    image[1:-1, 1:-1] = 255
    Image.fromarray(image).save(tmp_path / "bright.png")
    upload, message = page.locator("input[type=file]"), page.locator("#message .air-message")
    upload.set_input_files(tmp_path / "bright.png")
    expected = "This looks unlike what the model was trained on: the objects leave"
    sync_api.expect(message).to_contain_text(expected)
    upload.set_input_files(tmp_path / "usual.png")
    sync_api.expect(page.locator("#command code")).to_contain_text("usual.png")
    sync_api.expect(message).to_have_count(0)


def test_too_large_an_upload_is_reported(page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(11 * 2**20))
    page.locator("input[type=file]").set_input_files(tmp_path / "large.png")
    page.wait_for_selector("text=/maximum allowed size/i")


def test_sliders_and_corrections_change_the_answer(page, tmp_path):
    answer, table = page.locator(".air-count"), page.locator("#table tbody tr")
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = image[10:18, 15:22] = 255
    Image.fromarray(image).save(tmp_path / "two.png")
    page.locator("input[type=file]").set_input_files(tmp_path / "two.png")
    sync_api.expect(page.locator("#command code")).to_contain_text("two.png --num-paths 10")
    boxes, expect = page.locator(".air-stage g rect"), sync_api.expect
    expect(answer).to_have_attribute("data-count", "3")
    page.locator("#max-size input[type=number]").fill("1")
    page.locator("#max-size input[type=number]").press("Enter")
    expect(answer).to_have_attribute("data-count", "0")
    expect(page.locator("#command code")).to_contain_text("--max-size 1 ")
    expect(boxes).to_have_count(0)
    page.click("[data-do=correct]")
    stage = page.locator(".air-stage svg").bounding_box()
    page.mouse.click(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
    expect(answer).to_have_attribute("data-count", "1")
    expect(page.locator("#answer")).to_contain_text("corrected by hand: 1 added, 0 removed")
    page.locator("#max-size input[type=number]").fill("9")
    page.locator("#max-size input[type=number]").press("Enter")
    expect(boxes).to_have_count(4)  # the correction stays
    expect(table).to_have_count(4)
    page.click("#viewer [data-do=undo]")
    expect(answer).to_have_attribute("data-count", "3")


def test_a_random_scene_is_another_one_each_time(page):
    seen = page.locator("#seen .air-seen").inner_html()
    for _ in range(3):
        seen, before = after(page, lambda: page.click("#random-scene")), seen
        assert seen != before
    page.get_by_label("Scale what I draw").click()  # of a drawing; there is none
    page.wait_for_timeout(1000)
    assert page.locator("#seen .air-seen").inner_html() == seen


def test_dreams_and_curves(page):
    page.get_by_role("tab", name="Dream").click()
    sync_api.expect(page.locator(".air-dream rect")).to_have_count(2)
    sync_api.expect(page.locator(".air-strip image")).to_have_count(7)
    slider = page.locator("#slider-4 input[type=number]")
    after(page, lambda: (slider.fill("2"), slider.press("Enter")), "#dream")
    after(page, lambda: page.click("#others"), "#dream")
    after(page, lambda: page.click("#more-samples"), "#samples")
    assert page.locator("#samples image").count() == 12
    page.get_by_role("tab", name="Learning").click()
    page.wait_for_function("document.querySelector('.air-curves img')?.naturalWidth > 600")


def test_a_phone_shows_all_of_it(browser, server):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(1000 * SLOW)
    page.goto(server[0])
    shown = {"See": "#seen .air-seen", "Dream": "#dream .air-dream", "Learning": ".air-curves"}
    for tab, content in shown.items():
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(content)
        page.wait_for_function("document.documentElement.scrollWidth <= 390")
    page.close()


def test_on_a_phone_the_answer_is_seen_while_a_finger_draws(browser, server):
    page = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.set_default_timeout(1000 * SLOW)
    page.goto(server[0])
    page.wait_for_selector(".air-count")
    finger = Finger(page)
    scrolled = page.evaluate("scrollY")
    finger.touch((0.2, 0.2), (0.25, 0.4), (0.3, 0.7))
    canvas, answer = (page.locator(s).bounding_box() for s in (".air-canvas canvas", "#answer"))
    assert canvas["y"] >= 0 and canvas["y"] + canvas["height"] <= answer["y"]
    assert answer["y"] + answer["height"] <= 844 and page.is_visible(".air-mini svg")
    assert page.evaluate("scrollY") == scrolled  # the finger draws, and does not scroll
    finger.lift()
    sync_api.expect(page.locator("#table h3")).to_contain_text("drawing: ")
    page.get_by_role("tab", name="Dream").click()
    sync_api.expect(page.locator("#answer")).to_be_hidden()
    page.close()
