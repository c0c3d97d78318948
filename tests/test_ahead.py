"""What evaluates a training is compiled while it goes on."""

import threading

import jax
import numpy as np
import pytest
from test_session import line

from airjax.cli.main import main
from airjax.training import record
from airjax.training.ahead import Ahead


@pytest.fixture
def compiled():
    """The names of what is compiled, and whether in the main thread."""
    seen = []

    def listen(event, seconds, **about):
        if event == "/jax/core/compile/backend_compile_duration":
            in_main = threading.current_thread() is threading.main_thread()
            seen.append((about["fun_name"].split("(")[-1].strip(")"), in_main))

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_what_evaluates_a_training_is_compiled_in_a_thread(compiled, scenes, tmp_path, monkeypatch):
    class Waiting(Ahead):  # the training is too short
        def __init__(self, programs):
            super().__init__(programs)
            self.thread.shutdown()

    monkeypatch.setattr(record, "Ahead", Waiting)
    images = np.random.default_rng(0).integers(0, 256, (200, 10, 12)).astype(np.uint8)
    np.savez(tmp_path / "scenes.npz", images=images)
    main([*line(tmp_path / "scenes.npz", tmp_path / "run"), "--eval-every", "20"])
    readers = [each for each in compiled if each[0] in ("_read_batch", "_look_again")]
    assert sorted(readers) == [
        ("_look_again", False),
        ("_read_batch", False),
        ("_read_batch", False),
    ]


def test_what_is_not_begun_is_left_when_the_training_ends():
    class Slow:
        def __init__(self):
            self.begun, self.go_on = threading.Event(), threading.Event()

        def compile(self):
            self.begun.set()
            assert self.go_on.wait(30)

    programs = [Slow(), Slow()]
    ahead = Ahead(programs)
    assert programs[0].begun.wait(30)
    threading.Timer(0.2, programs[0].go_on.set).start()
    ahead.end()
    assert programs[0].go_on.is_set() and not programs[1].begun.is_set()
