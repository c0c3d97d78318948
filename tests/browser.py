"""The page of ``airjax demo`` in a real browser, Debian's chromium: fixtures and helpers."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

import equinox as eqx
import jax
import numpy as np
import pytest
from conftest import TINY, eager

from airjax.config import Config, TrainConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

pytest.importorskip("gradio", reason="needs the extra demo")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs a browser: apt-get install chromium"
)

SLOW = 90  # seconds in which a busy machine does anything that is asked of it
sync_api.expect.set_options(timeout=1000 * SLOW)
MODEL = dataclasses.replace(
    TINY, model_steps=3, window_size=8, encoder_latent_size=6, rnn_hidden_size=8, predict_net=(8,),
    encoder_net=(8,), decoder_net=(8,), decoder_output_bias=-0.8, image_size=(20, 26),
)  # fmt: skip
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
    # noise is usual here; a picture that is bright all over leaves more than 2.5 times as much
    run.write("evaluation.json", json.dumps({"elbo": 2.0, "reconstruction_mse": 0.0185}))
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


def canvas_of(page):
    """The canvas, when its script has run (it is black then) and it has come to rest."""
    page.wait_for_function(
        "() => document.querySelector('.air-canvas canvas')"
        "?.getContext('2d').getImageData(0, 0, 1, 1).data[3] === 255"
    )
    canvas = page.locator(".air-canvas canvas")
    canvas.hover(trial=True)  # also scrolls it into view
    return canvas


def stroke(page, *points):
    """Draws a line; points as shares of the canvas."""
    canvas = canvas_of(page)
    box = canvas.bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()


class Finger:
    """One finger on the canvas of a page with a touch screen; points as shares of the canvas."""

    def __init__(self, page):
        self.canvas = canvas_of(page)
        self.device = page.context.new_cdp_session(page)

    def touch(self, *points):
        """Puts it down at the first point and moves it to the others."""
        box = self.canvas.bounding_box()
        for i, (x, y) in enumerate(points):
            at = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            self._send("touchMove" if i else "touchStart", [at])

    def lift(self):
        """Ends the stroke."""
        self._send("touchEnd", [])

    def _send(self, kind, points):
        self.device.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def after(page, act, selector="#seen"):
    """What an element shows when an action has changed it."""
    shown = f"{selector} [class^=air-]"  # not its frame, which changes when it begins to wait
    before = page.locator(shown).first.inner_html()
    act()
    page.wait_for_function(
        "([s, before]) => document.querySelector(s).innerHTML !== before", arg=[shown, before]
    )
    return page.locator(shown).first.inner_html()
