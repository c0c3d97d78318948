"""Corrections by hand, zoom and the choice of a run, on the page in a real browser."""

import csv
import shutil
import sys

import browser as shared
import numpy as np
import pytest
from browser import SLOW, needs_chromium, start, stroke, sync_api
from PIL import Image

pytestmark = [needs_chromium, pytest.mark.slow]
browser, page, run, server = shared.browser, shared.page, shared.run, shared.server


@pytest.fixture
def two(page, tmp_path):
    """The page with a picture in which two objects are found."""
    upload_two(page, tmp_path)
    sync_api.expect(count(page)).to_have_attribute("data-count", "2")
    return page


def upload_two(page, folder):
    """Uploads a picture in which two objects are found."""
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = 255  # of three, the second look of an untrained model leaves one out
    Image.fromarray(image).save(folder / "two.png")
    page.locator("input[type=file]").set_input_files(folder / "two.png")
    sync_api.expect(page.locator("#command code")).to_contain_text("two.png")


def count(page):
    """The element with the number of objects."""
    return page.locator(".air-count")


def point(page, x, y):
    """A point of the picture, 26 x 20 pixels, on the screen."""
    box = page.locator(".air-stage svg").bounding_box()
    return box["x"] + x / 26 * box["width"], box["y"] + y / 20 * box["height"]


def drag(page, start, end):
    """Presses, moves and releases."""
    page.mouse.move(*point(page, *start))
    page.mouse.down()
    page.mouse.move(*point(page, *end), steps=4)
    page.mouse.up()


def test_an_object_is_drawn_removed_and_saved(two, tmp_path):
    boxes, expect = two.locator(".air-stage g rect"), sync_api.expect
    first = boxes.first
    x, y = (float(first.get_attribute(a)) + float(first.get_attribute(s)) / 2
            for a, s in (("x", "width"), ("y", "height")))  # fmt: skip
    two.mouse.click(*point(two, x, y))  # nothing happens unless it was asked for
    two.click("[data-do=correct]")
    drag(two, (1, 1), (3, 4))
    expect(count(two)).to_have_attribute("data-count", "3")
    two.mouse.click(*point(two, 2, 2.5))  # the smallest box there
    expect(count(two)).to_have_attribute("data-count", "2")
    two.click("#viewer [data-do=undo]")
    expect(count(two)).to_have_attribute("data-count", "3")
    with two.expect_download() as download:
        two.click("#downloads [data-key=truth]")
    download.value.save_as(tmp_path / "truth.csv")
    with open(tmp_path / "truth.csv", newline="") as file:
        *_, last = csv.DictReader(file)
    corners = [float(last[name]) for name in ("x0", "y0", "x1", "y1")]
    np.testing.assert_allclose(corners, [1, 1, 3, 4], atol=0.3)
    with two.expect_download() as download:
        two.click("#downloads [data-key=objects]")
    assert download.value.suggested_filename == "two-corrected-objects.csv"
    two.click("#random-scene")  # and back
    expect(two.locator("#table h3")).not_to_contain_text("two.png")
    two.locator("input[type=file]").set_input_files(tmp_path / "two.png")
    expect(two.locator("#answer")).to_contain_text("corrected by hand: 1 added, 0 removed")


def test_zoom(two):
    svg = two.locator(".air-stage svg")
    whole = svg.bounding_box()["width"]
    two.click("[data-do=larger]")
    assert svg.bounding_box()["width"] == pytest.approx(1.5 * whole, rel=0.01)
    left = two.evaluate("document.querySelector('.air-stage').scrollLeft")
    drag(two, (13, 10), (11, 10))  # moves the picture
    assert two.evaluate("document.querySelector('.air-stage').scrollLeft") > left
    two.click("[data-do=fit]")
    assert svg.bounding_box()["width"] == pytest.approx(whole, rel=0.01)
    two.get_by_label("boxes").uncheck()
    sync_api.expect(two.locator(".air-stage g rect").first).to_be_hidden()


def test_the_slider_is_dragged(two):
    slider = two.locator("#min-size input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    two.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    two.mouse.down()
    two.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2, steps=5)
    sync_api.expect(count(two)).to_have_attribute("data-count", "0")  # while it is moved
    two.mouse.up()
    sync_api.expect(two.locator("#command code")).to_contain_text("--min-size")


RUNS = ("first", "second", "third")


@pytest.fixture
def several_runs(browser, run, tmp_path):
    """The page of several runs."""
    for name in RUNS:
        shutil.copytree(run.path, tmp_path / "runs" / name)
    command = [sys.executable, "-m", "airjax", "demo", str(tmp_path / "runs")]
    process, address = start(command, tmp_path / "message.txt", None)
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * SLOW)
    page.goto(address)
    page.wait_for_selector(".air-count")
    yield page
    page.close()
    process.terminate()
    assert process.wait(timeout=SLOW) == 0
    process.stdout.close()
    assert "Traceback" not in (tmp_path / "message.txt").read_text()


def choose(page, name):
    """Another run, as a user chooses it."""
    page.click("#run input")
    page.get_by_role("option", name=name).click()
    sync_api.expect(page.locator(".air-header p")).to_contain_text(name)
    page.wait_for_selector(".air-count")


def test_a_run_is_chosen_and_corrections_are_kept(several_runs, tmp_path):
    page, expect = several_runs, sync_api.expect
    shown = page.locator(".air-header p").inner_text()
    one, other, broken = sorted(RUNS, key=lambda name: name not in shown)
    (tmp_path / "runs" / broken / "model/weights.safetensors").unlink()
    upload_two(page, tmp_path)
    page.click("[data-do=correct]")
    drag(page, (1, 1), (3, 4))
    corrected = "corrected by hand: 1 added, 0 removed"
    expect(page.locator("#answer")).to_contain_text(corrected)
    page.locator("#threshold input[type=number]").fill("0.01")
    page.locator("#threshold input[type=number]").press("Enter")
    expect(page.locator("#command code")).to_contain_text("--threshold 0.01")

    choose(page, other)
    expect(page.locator("#answer")).not_to_contain_text("corrected")
    before = page.inner_text("#table")
    stroke(page, (0.2, 0.2), (0.3, 0.7))
    page.wait_for_function("b => document.querySelector('#table').innerText !== b", arg=before)
    expect(page.locator("#paths input[type=number]")).to_be_enabled()
    with page.expect_download() as download:
        page.click("#downloads [data-key=truth]")
    download.value.save_as(tmp_path / "truth.csv")
    with open(tmp_path / "truth.csv", newline="") as file:
        assert sum(row["file"] == "two.png" for row in csv.DictReader(file)) == 3
    upload_two(page, tmp_path)  # the other run found other objects
    expect(page.locator("#answer")).not_to_contain_text("corrected")

    page.click("#run input")
    page.get_by_role("option", name=broken).click()
    expect(page.locator(".air-message")).to_contain_text("weights.safetensors")

    choose(page, one)
    expect(page.locator("#table h3")).to_contain_text("two.png: 3 objects corrected by hand")
    expect(page.locator("#answer")).to_contain_text(corrected)
    expect(page.locator("#threshold input[type=number]")).to_have_value("0.01")
    page.click("#viewer [data-do=undo]")
    expect(page.locator("#answer")).not_to_contain_text("corrected")
