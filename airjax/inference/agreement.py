"""Counts beside those done by hand: their agreement, and a line that corrects them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from airjax.errors import InputError

LIMITS = 1.96  # standard deviations of the limits of agreement
FEW = 5  # hand counts that a correction needs


class Agreement(NamedTuple):
    """How well two counts of the same pictures agree (Bland and Altman, 1986).

    Attributes:
        bias: mean difference, found less by hand.
        error: mean absolute difference.
        low: lower 95 % limit of agreement; nan for a single picture.
        high: upper limit.
        correlation: Pearson's; nan if a count is the same in all pictures, or for fewer than three.
    """

    bias: float
    error: float
    low: float
    high: float
    correlation: float


def agreement(found: Float[np.ndarray, " n"], by_hand: Float[np.ndarray, " n"]) -> Agreement:
    """The agreement of counts of one or more pictures."""
    difference = found - by_hand
    n, bias, correlation = len(found), float(difference.mean()), float("nan")
    spread = LIMITS * float(difference.std(ddof=1)) if n > 1 else float("nan")
    if n > 2 and np.ptp(found) > 0 and np.ptp(by_hand) > 0:
        correlation = float(np.corrcoef(found, by_hand)[0, 1])
    error = float(np.abs(difference).mean())
    return Agreement(bias, error, bias - spread, bias + spread, correlation)


class Correction(NamedTuple):
    """A line that corrects counts, and how well it predicts pictures that it was not fitted to.

    Attributes:
        slope: of the corrected count over the count.
        offset: corrected count for 0.
        error: mean error of pictures, each left out of the fit (leave-one-out cross-validation).
        held: number of these pictures whose 90 % interval holds the count by hand.
    """

    slope: float
    offset: float
    error: float
    held: int


def correction(
    found: Float[np.ndarray, " n"], by_hand: Float[np.ndarray, " n"], argument: str
) -> Correction:
    """The least-squares line from counts found to counts by hand.

    Raises:
        InputError: if there are fewer than ``FEW`` counts, they are all the same, or the line does
            not rise. It names ``argument``.
    """
    if len(found) < FEW or np.ptp(found) == 0 or np.ptp(by_hand) == 0:
        rule = f"must have {FEW} pictures or more with different counts, to be corrected by"
        raise InputError(argument, rule, len(found))
    slope, offset = map(float, _line(found, by_hand))
    if slope <= 0:
        rule = "must have larger counts where more is found, to be corrected by; the slope is"
        raise InputError(argument, rule, f"{slope:.3f}")
    error, held = 0.0, 0
    for i in range(len(found)):
        rest = np.arange(len(found)) != i
        value, low, high = corrected(found[rest], by_hand[rest], found[i : i + 1])[:, 0]
        error += abs(value - by_hand[i]) / len(found)
        held += int(low <= by_hand[i] <= high)
    return Correction(slope, offset, float(error), held)


def corrected(
    found: Float[np.ndarray, " n"],
    by_hand: Float[np.ndarray, " n"],
    counts: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "3 k"]:
    """Corrected counts with their 90 % prediction intervals: value, low, high; at least 0.

    Args:
        found: counts that the line is fitted to.
        by_hand: of the same pictures.
        counts: to be corrected.
    """
    from scipy.stats import t  # slow to import

    slope, offset = _line(found, by_hand)
    freedom = max(1, len(found) - 2)
    spread = np.sqrt(np.square(by_hand - slope * found - offset).sum() / freedom)
    squares = np.square(found - found.mean()).sum()
    away = np.square(counts - found.mean()) / (squares or np.inf)
    half = t.ppf(0.95, freedom) * spread * np.sqrt(1 + 1 / len(found) + away)
    value = slope * counts + offset
    return np.maximum([value, value - half, value + half], 0)


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope and offset by least squares; a shift where x does not vary."""
    return np.polyfit(x, y, 1) if np.ptp(x) > 0 else np.array([1.0, (y - x).mean()])
