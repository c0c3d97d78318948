"""Counts beside those by hand: their agreement, and the line that corrects them."""

import csv

import numpy as np
import pytest
from conftest import mistake

from airjax.cli.main import main
from airjax.inference.agreement import agreement, corrected, correction
from airjax.inference.writers import PICTURE


def test_agreement_by_hand():
    of = agreement(np.array([3.0, 5, 9, 7]), np.array([4.0, 4, 10, 10]))  # -1, 1, -1, -3
    assert (of.bias, of.error) == (-1, 1.5)
    sd = np.sqrt((0 + 4 + 0 + 4) / 3)
    assert (of.low, of.high) == pytest.approx((-1 - 1.96 * sd, -1 + 1.96 * sd))
    assert of.correlation == pytest.approx(np.corrcoef([3, 5, 9, 7], [4, 4, 10, 10])[0, 1])
    one = agreement(np.array([3.0]), np.array([4.0]))
    assert one.bias == -1 and np.isnan([one.low, one.high, one.correlation]).all()


def counts(folder, found, by_hand):
    (folder / "out").mkdir()
    rows = [f"{i}.png,,{n},1,{n},{n},0,False" for i, n in enumerate(found)]
    (folder / "out/counts.csv").write_text("\n".join([",".join(PICTURE), *rows]) + "\n")
    rows = [f"{i}.png,{n}" for i, n in enumerate(by_hand)]
    (folder / "hand.csv").write_text("file,count\n" + "\n".join(rows) + "\n")


def calibrated(folder, capsys):
    main(f"check {folder}/out {folder}/hand.csv --calibrate".split())
    return " ".join(capsys.readouterr().out.replace("│", "|").split())


def test_corrected_counts(tmp_path, capsys):
    """A line through counts that miss a fifth, with intervals that hold what they say."""
    random = np.random.default_rng(0)
    true = random.integers(50, 150, 200)
    found = np.round(0.8 * true + 3 + random.normal(0, 2, 200)).astype(int)
    counts(tmp_path, found, true[:20])
    text = calibrated(tmp_path, capsys)
    line = correction(found[:20].astype(float), true[:20].astype(float), "x")
    assert f"corrected count | {line.slope:.3f} x count {line.offset:+.2f} |" in text
    assert f"corrected: mean error (left out of the fit) | {line.error:.2f} |" in text
    assert f"corrected: 90 % intervals that hold the count | {line.held} of 20 |" in text
    assert "pictures without truth: 180: 20.png, 21.png, 22.png, 23.png, 24.png and 175" in text
    with open(tmp_path / "out/check/corrected.csv") as file:
        table = list(csv.DictReader(file))
    values, low, high = (np.array([float(row[key]) for row in table])
                         for key in ("corrected", "low", "high"))  # fmt: skip
    assert np.abs(values - true)[20:].mean() < 3
    holds = ((low <= true) & (true <= high))[20:].mean()
    assert 0.8 < holds < 0.98
    assert table[3]["by_hand"] == str(true[3]) and table[50]["by_hand"] == ""


def test_intervals_hold_nine_of_ten_that_are_left_out():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(40):
        true = random.uniform(20, 60, 12)
        held += correction(0.7 * true + random.normal(0, 3, 12), true, "x").held
    assert held / 480 == pytest.approx(0.9, abs=0.04)


def test_corrected_counts_are_not_negative():
    x = np.array([20.0, 30, 40, 50, 60])
    value, low, high = corrected(x, x - 15, np.array([0.0, 16, 40]))
    assert value.tolist() == pytest.approx([0, 1, 25]) and (low >= 0).all()
    np.testing.assert_allclose(high[2], 25, atol=1e-6)  # a perfect line


def test_the_interval_is_that_of_the_textbook():
    """Prediction interval of simple linear regression (Draper and Smith, 1998, section 1.4)."""
    from scipy.stats import linregress, t

    random = np.random.default_rng(2)
    x = random.uniform(10, 50, 15)
    y = 1.3 * x + 4 + random.normal(0, 2, 15)
    line = linregress(x, y)
    residual = y - line.slope * x - line.intercept
    s = np.sqrt((residual**2).sum() / 13)
    half = t.ppf(0.95, 13) * s * np.sqrt(1 + 1 / 15 + (30 - x.mean()) ** 2 / (14 * x.var(ddof=1)))
    value = line.slope * 30 + line.intercept
    expected = [[value], [value - half], [value + half]]
    np.testing.assert_allclose(corrected(x, y, np.array([30.0])), expected)


@pytest.mark.parametrize(
    ("found", "by_hand", "rule"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], "must have 5 pictures or more with different counts"),
        ([3, 3, 3, 3, 3], [1, 2, 3, 4, 5], "must have 5 pictures or more with different"),
        ([1, 2, 3, 4, 5], [7, 7, 7, 7, 7], "must have 5 pictures or more with different"),
        ([1, 2, 3, 4, 5], [9, 7, 6, 3, 1], "must have larger counts where more is found"),
    ],
)
def test_counts_that_do_not_make_a_correction(found, by_hand, rule, tmp_path, capsys):
    counts(tmp_path, found, by_hand)
    line = f"check {tmp_path}/out {tmp_path}/hand.csv"
    assert mistake(f"{line} --calibrate", capsys).startswith(f"TRUTH {rule}")
    main(line.split())  # without a correction


def test_repeated_counts_and_a_correction_that_does_not_help(tmp_path, capsys):
    counts(tmp_path, [3, 3, 3, 3, 9], [3, 3, 4, 3, 9])  # without the last, x does not vary
    text = calibrated(tmp_path, capsys)
    assert "(left out of the fit) |" in text and ", no better |" in text
