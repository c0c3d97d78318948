"""The benchmark of codes, on a tiny scale."""

import sys
from pathlib import Path

import numpy as np
import pytest

from airjax.data.digits import load_digits

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def nets(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import code_nets

    yield code_nets
    for name in ("code_nets", "paper_codes", "common"):
        sys.modules.pop(name, None)


def test_the_sum_of_two_digits(nets):
    digits = np.full((1, 2, 10), -np.inf, np.float32)
    digits[0, 0, [1, 2]], digits[0, 1, 3] = np.log([0.25, 0.75]), 0
    sums = np.exp(np.asarray(nets.log_sums(digits)))[0]
    np.testing.assert_allclose(sums[[4, 5]], [0.25, 0.75], atol=1e-6)
    np.testing.assert_allclose(sums.sum(), 1, atol=1e-5)


@pytest.mark.slow
def test_digits_are_learned_from_sums(nets):
    random = np.random.default_rng(0)
    digits = random.integers(0, 10, (600, 2))
    X = np.stack([np.eye(10)[digits], np.full((600, 2, 10), 0.05)], axis=2).astype(np.float32)
    y = np.where(np.arange(600) < 400, digits.sum(1), -1)
    net = nets.SharedDigits(steps=200).fit(X, y)
    assert np.mean(net.predict(X[400:]) == digits[400:].sum(1)) > 0.95
    order = digits[400:, 0] < digits[400:, 1]
    assert np.mean(net.predict_order(X[400:]) == order) > 0.95


@pytest.mark.slow  # compiles AIR and four networks
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_whole_benchmark(nets, monkeypatch, tmp_path, capsys):
    import paper_codes

    monkeypatch.setattr(paper_codes, "load_mnist", load_digits)
    args = paper_codes.Args(
        seeds=1, labels=(60,), scenes=100, tested=20, steps=2, most=2, most_images=2, out=tmp_path
    )
    paper_codes.main(args)
    first = capsys.readouterr().out
    assert all(name in first for name in paper_codes.METHODS.values())
    paper_codes.main(args)  # nothing is run again
    assert "60 labels" in first and "convolutional 60" not in capsys.readouterr().out
    assert (tmp_path / "paper_codes.png").exists()
