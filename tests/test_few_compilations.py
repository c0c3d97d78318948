"""What is found depends on the picture alone; and a model is compiled for few shapes."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import TINY, eager

from airjax.air import AIR
from airjax.console import Display, duration, report, tracked
from airjax.data import cache
from airjax.inference import infer
from airjax.programs.untrained import untrained

IMAGES = np.random.default_rng(0).integers(0, 256, (500, 5, 6)).astype(np.uint8)


@pytest.fixture(scope="module")
def air():
    model, guide = untrained(TINY, 1)
    return AIR.of(model, eager(guide))


def test_what_is_found_depends_on_the_picture_alone(air):
    """Not on its index, on the other pictures or on the batches."""
    alone = [air.predict(IMAGES[i : i + 1]).count_probs[0] for i in range(3)]
    shifted = air.predict(np.concatenate([IMAGES[-1:], IMAGES[:200]]))
    np.testing.assert_allclose(shifted.count_probs[1:4], alone, rtol=1e-5)
    batches = list(air.predict_batches(IMAGES[:200], 7))
    np.testing.assert_allclose(batches[0].count_probs[:3], alone, rtol=1e-5)
    again = air.predict(np.repeat(IMAGES[:1], 3, axis=0)).count_probs
    np.testing.assert_array_equal(again, again[[0, 0, 0]])


def test_other_seeds_are_other_samples(air):
    found = [AIR.of(air.model, air.guide, random_state=seed) for seed in (0, 1)]
    first, second = (each.predict(IMAGES[:50]).count_probs for each in found)
    assert np.abs(first - second).max() > 1e-5


@pytest.mark.slow
def test_any_number_of_images_is_compiled_for_at_most_twice(air):
    def compiled(call, numbers):
        jax.clear_caches()
        seen = []

        def listen(event, seconds, **_):
            if event == "/jax/core/compile/backend_compile_duration":
                seen.append(seconds)

        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            for n in numbers:
                before = len(seen)
                call(IMAGES[:n])
                yield len(seen) - before
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

    for call in (air.predict, air.score, air.transform):
        # the first and the first larger one compile: a program, and its keys
        found = list(compiled(call, (1, 2, 3, 8, 499, 500, 17, 64, 65)))
        assert [n > 0 for n in found] == [True, *3 * [False], True, *4 * [False]], call
    assert [infer.FEW, infer.ROWS] == [8, 64]


@pytest.mark.slow
def test_programs_are_kept_in_python_too(tmp_path):
    """A second process finds them."""
    air = AIR.of(*untrained(TINY, 1))
    air.save(tmp_path / "air")
    code = (
        "import sys, numpy as np\n"
        "from airjax import AIR\n"
        f"AIR.load({str(tmp_path / 'air')!r}).predict(np.zeros((3, 5, 6)))\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment["AIRJAX_CACHE_DIR"] = str(tmp_path / "cache")
    kept = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        kept.append({path.name for path in (tmp_path / "cache/xla").glob("*_read_batch*-cache")})
    assert len(kept[0]) == 1 and kept[0] == kept[1]  # small programs are kept if they took long


def test_a_cache_of_the_users_own_is_left_alone(monkeypatch):
    here = jax.config.jax_compilation_cache_dir
    assert here is not None
    cache.keep_programs()
    assert jax.config.jax_compilation_cache_dir == here


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("JAX_PLATFORMS=cuda", "JAX_PLATFORMS must name a device of this machine, got cuda"),
        ("JAX_PLATFORMS=gppu", "JAX_PLATFORMS must name a device of this machine, got gppu"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(code, message, tmp_path):
    AIR.of(*untrained(TINY, 1)).save(tmp_path / "model")
    (tmp_path / "config.json").write_text("{}")
    name, value = code.split("=")
    environment = {**os.environ, name: value}
    line = [sys.executable, "-m", "airjax", "evaluate", str(tmp_path), "--data", "digits"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"airjax: {message}\n")


@pytest.mark.slow
def test_64_bits_change_nothing(tmp_path):
    """The switch is the process's; a model is in 32 bits."""
    fitted = AIR.of(*untrained(TINY, 1), random_state=0)
    fitted.save(tmp_path / "air")
    want = fitted.predict(IMAGES[:9])
    with jax.enable_x64(True):
        loaded = AIR.load(tmp_path / "air")
        found = loaded.predict(IMAGES[:9])
        again = AIR(config=loaded.config, steps=3, random_state=0).fit(IMAGES[:20])
        assert found.reconstructions.dtype == np.float32
        loaded.sample(2)
    np.testing.assert_array_equal(found.count_probs, want.count_probs)
    without = AIR(config=loaded.config, steps=3, random_state=0).fit(IMAGES[:20])
    for a, b in zip(*(jax.tree.leaves(each.model) for each in (again, without)), strict=True):
        np.testing.assert_array_equal(a, b)


# progress


def test_progress_is_shown_only_if_it_takes_a_while(monkeypatch, capsys):
    clock = iter(np.arange(0, 2000, 70.0))
    monkeypatch.setattr("airjax.console.time.perf_counter", lambda: float(next(clock)))
    assert list(tracked([[1, 2], [3], [4]], "reading", 4, len)) == [[1, 2], [3], [4]]
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("airjax: reading ") for line in lines)
    assert lines[-1].endswith("4/4")
    monkeypatch.setattr("airjax.console.time.perf_counter", lambda: 0.0)
    assert list(tracked([[1]], "reading", 1, len)) == [[1]] and capsys.readouterr().err == ""


def test_a_notebook_has_one_bar_that_moves(monkeypatch, capsys):
    from IPython import display

    shown = []

    class Cell:
        def update(self, content):
            shown.append(content.data)

    monkeypatch.setattr("airjax.console.console.is_jupyter", True)
    monkeypatch.setattr(
        display, "display", lambda content, display_id: shown.append(content.data) or Cell()
    )
    with Display("reading", 9) as bar:
        bar.show(3)
        bar.show(9, "<b>")
    assert shown == [
        '<pre><progress value="3" max="9"></progress> reading 3/9</pre>',
        '<pre><progress value="9" max="9"></progress> reading 9/9  &lt;b&gt;</pre>',
    ]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99.0, "99 s"), (600.0, "10 min"), (5940.0, "99 min"), (7510.0, "2 h 5 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words


def test_lines_are_reported_as_they_are(capsys):
    report("a [b] \udcff")
    assert capsys.readouterr().out == "a [b] \\udcff\n"
