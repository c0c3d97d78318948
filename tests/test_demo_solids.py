"""The page of solids on a table, as it is served, in a real browser; and a guide on disk."""

import sys

import jax
import numpy as np
import pytest

from airjax.errors import InputError
from airjax.three_d.files import is_solids, load, save
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig
from airjax.three_d.reading import read
from airjax.three_d.renderer import Camera, table
from airjax.three_d.scenes import scenes
from airjax.three_d.shapes import BLOCKS

pytestmark = pytest.mark.slow  # compiles the renderer
CAMERA = Camera(size=12)
CONFIG = SolidsConfig(camera=CAMERA, window=6, hidden=(8,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solids") / "guide"
    save(SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0)), folder)
    return folder


def test_a_guide_from_disk_reads_as_before(folder, tmp_path):
    assert is_solids(folder) and not is_solids(tmp_path) and not is_solids(tmp_path / "none")
    guide, images = load(folder), scenes(BLOCKS, 20, 0, camera=CAMERA).images
    assert guide.config == CONFIG
    before = SolidsGuide(CONFIG, table(CAMERA), key=jax.random.key(0))
    for found, again in zip(read(before, images), read(guide, images), strict=True):
        np.testing.assert_array_equal(found, again)
    with pytest.raises(InputError, match="must not exist yet"):
        save(guide, folder)
    other = SolidsConfig(kinds=BLOCKS[:2], camera=CAMERA, window=6, hidden=(8,))
    with pytest.raises(InputError, match=r"kinds must be blocks, .*, got \('cube', 'sphere'\)"):
        save(SolidsGuide(other, table(CAMERA), key=jax.random.key(0)), tmp_path / "other")


def test_a_scene_is_changed_one_solid_at_a_time(folder):
    pytest.importorskip("gradio", reason="needs the extra demo")
    from airjax.demo.solids import MOST, SolidsExhibit
    from airjax.demo.solids_tab import Moving

    exhibit = SolidsExhibit.of(folder)
    scene = exhibit.random(0)
    assert scene.number == 3 and len(scene.solids) == MOST
    moved, html = Moving(exhibit).change(scene, 1, "2", "cylinder", 0.5, -0.25, 30.0)
    assert moved.number == 1 and moved.solids[1] == (2, 0.5, -0.25, 30.0)
    assert (moved.solids[0], *moved.solids[2:]) == (scene.solids[0], *scene.solids[2:])
    assert Moving(exhibit).controls(moved, "2") == ("cylinder", 0.5, -0.25, 30.0)
    assert html.count("<svg") == 3 and html != exhibit.shown(scene)
    assert html == exhibit.shown(moved)  # the noise is the same


def test_the_page_reads_again_what_is_moved(folder, tmp_path):
    browsing = pytest.importorskip("browser", reason="needs gradio and playwright")
    if browsing.CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    command = [sys.executable, "-c", browsing.WATCHED, "demo", str(folder)]
    process, address = browsing.start(command, tmp_path / "message.txt", None)
    try:
        with browsing.sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=browsing.CHROMIUM, args=["--no-sandbox"]
            )
            page = browser.new_page()
            page.set_default_timeout(1000 * browsing.SLOW)
            page.goto(address)
            page.wait_for_selector("#solids svg")
            number = page.locator("#count input[type=number]")

            def empty():
                number.fill("0")
                number.press("Enter")

            before = page.locator("#solids .air-picture image").first.get_attribute("href")
            browsing.after(page, empty, "#solids")
            now = page.locator("#solids .air-picture image").first.get_attribute("href")
            assert now != before
            browsing.after(page, lambda: page.click("#other-scene"), "#solids")
            assert number.input_value() == "3"
            browser.close()
    finally:
        process.terminate()
        assert process.wait(timeout=browsing.SLOW) == 0
        process.stdout.close()
    complaints = (tmp_path / "message.txt").read_text()
    assert "REACHED FOR" not in complaints and "Traceback" not in complaints
