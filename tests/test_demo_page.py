"""The page of ``airjax demo`` in a real browser, Debian's chromium."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from urllib.parse import urlsplit

import equinox as eqx
import jax
import numpy as np
import pytest
import roifile
import shapely
import tifffile
from conftest import eager
from PIL import Image

from airjax.cli.main import main
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.demo.reader import Reader
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

pytest.importorskip("gradio", reason="needs the extra demo")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: apt-get install chromium"
)

SLOW = 90  # seconds in which a busy machine does anything that is asked of it
sync_api.expect.set_options(timeout=1000 * SLOW)
MODEL = ModelConfig(
    guide="window",
    background="none",
    model_steps=3,
    window_size=8,
    encoder_latent_size=6,
    rnn_hidden_size=8,
    predict_net=(8,),
    encoder_net=(8,),
    decoder_net=(8,),
    embed_channels=2,
    embed_net=(),
    decoder_output_bias=0.0,
    image_size=(20, 26),
)
# a process whose every attempt to reach another machine is reported
WATCHED = """
import sys
def watch(event, args):
    host = args[1][0] if event == "socket.connect" and isinstance(args[1], tuple) else None
    host = args[0] if event == "socket.getaddrinfo" else host
    if host not in (None, "127.0.0.1", "localhost", b"127.0.0.1", "::1"):
        print("REACHED FOR", host, file=sys.stderr, flush=True)
sys.addaudithook(watch)
from airjax.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose model is untrained and finds three objects everywhere, along most paths."""
    folder = tmp_path_factory.mktemp("demo")
    images = np.random.default_rng(0).integers(0, 256, (60, 20, 26)).astype(np.uint8)
    np.savez(folder / "scenes.npz", images=images)
    run = Run.create(Config(TrainConfig(data=str(folder / "scenes.npz")), MODEL), folder / "run")
    model, guide = untrained(MODEL, 0)
    weight = guide.networks.predict.mlp.layers[-1].weight
    weight = weight.at[:, 0].multiply(100)  # presence depends on the path, so that K matters
    guide = eqx.tree_at(lambda g: g.networks.predict.mlp.layers[-1].weight, guide, weight)
    run.save(model, eager(guide))
    for step in (10, 20, 30):
        message = {"elbo": -1 / step, "test_elbo": -2 / step, "test_count_accuracy": step / 50}
        run.append({"step": step, **message})
    run.write("evaluation.json", json.dumps({"elbo": 2.0}))
    return run


def start(command, message, environment):
    """A process that serves the page, and the page's address. (Gradio gives its server five seconds
    to come up, which a busy machine may exceed: then once more.)"""
    for _ in range(3):
        with open(message, "w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
            )
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((a for line in lines if (a := re.search(r"http://\S+", line))), None)
        if address is not None:
            return process, address[0]
        process.wait()
    raise AssertionError(message.read_text())


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    """The page's address, and the folder where uploads arrive."""
    temporary = tmp_path_factory.mktemp("temporary")
    message = temporary.with_name("message.txt")
    cache = jax.config.jax_compilation_cache_dir
    environment = {
        **os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "TMPDIR": str(temporary)
    }  # fmt: skip
    command = [sys.executable, "-c", WATCHED, "demo", str(run.path)]
    process, address = start(command, message, environment)
    yield address, temporary
    process.terminate()
    assert process.wait(timeout=SLOW) == 0
    process.stdout.close()
    assert not list(temporary.iterdir())  # nothing is left behind
    complaints = message.read_text()
    assert "REACHED FOR" not in complaints and "Traceback" not in complaints


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * SLOW
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The page, just opened; whatever it asks for must come from its own address."""
    address, *_ = server
    page, asked, errors = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(1000 * SLOW)
    page.goto(address)
    page.wait_for_selector(".air-count")
    yield page
    page.close()
    own = urlsplit(address).netloc
    outside = [url for url in asked if urlsplit(url).scheme not in ("data", "blob")]
    assert len(outside) > 5 and {urlsplit(url).netloc for url in outside} == {own}
    assert errors == []


def stroke(page, *points):
    """Draws a line; points as shares of the canvas."""
    canvas = page.locator(".air-canvas canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def after(page, act, selector="#seen"):
    """What an element shows when an action has changed it."""
    shown = f"{selector} [class^=air-]"  # not its frame, which changes when it begins to wait
    before = page.locator(shown).first.inner_html()
    act()
    page.wait_for_function(
        "([s, before]) => document.querySelector(s).innerHTML !== before", arg=[shown, before]
    )
    return page.locator(shown).first.inner_html()


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
    # the guide finds three; the second look leaves out the one that explains least
    assert page.inner_text(".air-count").startswith("2 objects, with probability")
    probabilities = bars(page)
    assert len(probabilities) == 4 and abs(sum(probabilities) - 1) < 1e-3
    assert int(np.argmax(probabilities)) == 2
    widths = [bar.bounding_box()["width"] for bar in page.locator(".air-bar i").all()]
    assert int(np.argmax(widths)) == 2
    boxes = page.locator("#seen .air-picture rect")
    assert [box.get_attribute("stroke") for box in boxes.all()] == ["red", "lime"]
    assert page.locator(".air-object").count() == 2
    assert page.locator(".air-object image").count() == 4  # a window, and what is decoded
    drawn = page.locator("#seen .air-seen").inner_html()
    assert after(page, lambda: page.click("[data-do=undo]")) != drawn
    after(page, lambda: page.click("[data-do=clear]"))


def test_an_upload_is_read_as_in_python_and_not_kept(page, server, run, tmp_path):
    reader = Reader(*run.load())
    image = np.zeros((20, 26), np.uint8)
    image[3:9, 4:7] = image[10:18, 15:22] = 255
    Image.fromarray(image).save(tmp_path / "two.png")
    upload = page.locator("input[type=file]")
    one, ten = (reader(image, k).count_probs[0] for k in (1, 10))
    assert one.argmax() == ten.argmax() == 2  # of three: the second look leaves one out
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


def test_too_large_an_upload_is_reported(page, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(11 * 2**20))
    page.locator("input[type=file]").set_input_files(tmp_path / "large.png")
    page.wait_for_selector("text=/maximum allowed size/i")


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
