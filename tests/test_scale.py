"""What benchmarks/scale.py computes, against cases that are known."""

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def scale(monkeypatch):
    """The module."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    import scale

    return scale


def test_the_sum_over_a_ring(scale):
    assert scale.sum_seconds(1, 10**9, 1e9, 1.0) == 0
    # two devices send each other half of it, twice
    assert scale.sum_seconds(2, 10**9, 1e9, 0.0) == 1.0
    assert scale.sum_seconds(4, 10**9, 1e9, 0.25) == 1.5 + 1.5


def test_the_fit_is_exact_for_two_sizes(scale):
    device = scale.fitted((64, 0.012), (256, 0.042))
    np.testing.assert_allclose([device.seconds(64), device.seconds(256)], [0.012, 0.042])
    np.testing.assert_allclose(device, (0.002, 6400))


def test_speedups_are_ideal_without_costs_and_end_with_them(scale, tmp_path, capsys):
    free = scale.Args(bandwidth=np.inf, latency=0.0)
    np.testing.assert_allclose(
        scale.speedups(free, scale.Device(0.0, 1e3), 10**6, 64), scale.DEVICES
    )
    args = scale.Args((64, 4096), fixed=1.0, rate=5000.0, reading=500.0, out=tmp_path)
    scale.main(args)
    found = json.loads((tmp_path / "scale.json").read_text())["results"]
    small, large = found["speedups"]["64"], found["speedups"]["4096"]
    assert small[0] == large[0] == 1.0 and max(small) < max(large)
    assert small[-1] < max(small)  # messages cost more than the shares save
    assert 2e6 < found["bytes"] < 2e7 and (tmp_path / "scale.png").exists()
    assert "reading 1,000,000,000 pictures takes 556 core-hours" in capsys.readouterr().out
