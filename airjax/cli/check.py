"""The command ``airjax check``: counts done by hand beside those of ``airjax predict``."""

import csv
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Float
from tyro.conf import Positional, arg

from airjax.errors import InputError

LIMITS = 1.96  # standard deviations of the limits of agreement
FEW = 5  # hand counts that a correction needs
FIRST = 5  # pictures that are named to be looked at
FOLDS = 10  # of the cross-validation


class Counts(NamedTuple):
    """Counts of pictures: those found, their intervals, and those done by hand.

    Attributes:
        files: names of the pictures.
        found: ``[n]``.
        low: ``[n]``, of the 90 % interval.
        high: ``[n]``.
        by_hand: ``[n]``; nan where a picture was not counted.
    """

    files: list[str]
    found: Float[np.ndarray, " n"]
    low: Float[np.ndarray, " n"]
    high: Float[np.ndarray, " n"]
    by_hand: Float[np.ndarray, " n"]


def check(
    results: Annotated[Positional[Path], arg(metavar="RESULTS")],
    counts: Annotated[Positional[Path], arg(metavar="COUNTS.csv")],
    calibrate: bool = False,
) -> None:
    """Compare counts with those done by hand: bias, limits of agreement, which pictures to look at.

    Args:
        results: Folder that airjax predict wrote, with counts.csv.
        counts: Table of pictures counted by hand, with the columns file and count.
        calibrate: Also write corrected counts of all pictures: a line fitted to those by hand.
    """
    from airjax import storage
    from airjax.console import console, report
    from airjax.inference import plots
    from airjax.training.runs import unused

    found = read(results, counts)
    known = ~np.isnan(found.by_hand)
    console.print(table(found))
    folder = unused(results, "check")
    with storage.new_folder(folder) as out:
        plots.save(plots.agreement(found.found[known], found.by_hand[known]), out / "agreement.png")
        if calibrate:
            slope, offset, error = correction(found.found[known], found.by_hand[known])
            report(
                f"corrected count = {slope:.3f} x count {offset:+.2f}; mean error of pictures that "
                f"were left out of the fit {error:.2f}"
            )
            _write_corrected(found, slope, offset, out / "corrected.csv")
        names = sorted(path.name for path in out.iterdir())
    for name in names:
        report(f"written    {folder / name}")


def read(results: Path, counts: Path) -> Counts:
    """The counts found, beside those done by hand. Names may have folders in front.

    Raises:
        InputError: if a table cannot be read, lacks a column, or none of its pictures was read.
    """
    rows = _rows(results / "counts.csv", "RESULTS", ("file", "count", "low", "high"))
    by_hand = {}
    for row in _rows(counts, "COUNTS.csv", ("file", "count")):
        try:
            by_hand[row["file"].removeprefix("./")] = float(row["count"])
        except ValueError:
            rule = f"must have numbers as counts, of {row['file']}"
            raise InputError("COUNTS.csv", rule, row["count"]) from None
    totals: dict[str, np.ndarray] = {}
    for row in rows:  # pages of a file are counted together
        name = row["file"].removeprefix("./")
        numbers = np.array([float(row[key]) for key in ("count", "low", "high")])
        totals[name] = totals.get(name, 0) + numbers
    files = list(totals)
    short = {Path(name).name: name for name in files}
    matched = {name if name in totals else short.get(Path(name).name): n
               for name, n in by_hand.items()}  # fmt: skip
    found = np.array([matched.get(name, np.nan) for name in files])
    if np.isnan(found).all():
        raise InputError("COUNTS.csv", "must name pictures that are in the results", counts)
    numbers = np.array(list(totals.values())).T
    count, low, high = numbers
    return Counts(files, count, low, high, found)


def table(found: Counts) -> Any:
    """Bias, mean error, limits of agreement, and whether the intervals hold."""
    from rich.table import Table

    known = ~np.isnan(found.by_hand)
    difference = (found.found - found.by_hand)[known]
    n, bias = len(difference), float(difference.mean())
    spread = float(difference.std(ddof=1)) if n > 1 else 0.0
    holds = (found.low <= found.by_hand) & (found.by_hand <= found.high)
    shown = Table("", "", show_header=False)
    shown.add_row("pictures counted by hand", f"{n}, mean {found.by_hand[known].mean():.1f}")
    shown.add_row("bias (found less by hand)", f"{bias:+.2f}")
    shown.add_row("mean error", f"{np.abs(difference).mean():.2f}")
    limits = f"{bias - LIMITS * spread:+.1f} to {bias + LIMITS * spread:+.1f}"
    shown.add_row("95 % limits of agreement", limits)
    if n > 2 and found.found[known].std() > 0 and found.by_hand[known].std() > 0:
        r = np.corrcoef(found.found[known], found.by_hand[known])[0, 1]
        shown.add_row("correlation", f"{r:.3f}")
    shown.add_row("90 % intervals that hold the count", f"{holds[known].sum()} of {n}")
    worst = np.argsort(-np.where(known, np.abs(found.found - found.by_hand), -1))[:FIRST]
    for i in worst[known[worst]]:
        text = f"{found.found[i]:.0f} found, {found.by_hand[i]:.0f} by hand"
        shown.add_row(f"look at {found.files[i]}", text)
    return shown


def correction(
    found: Float[np.ndarray, " n"], by_hand: Float[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """The line that corrects counts: slope, offset, and the mean error of pictures that were left
    out of the fit (cross-validation).

    Raises:
        InputError: if there are too few counts, or they are all the same.
    """
    if len(found) < FEW or np.ptp(found) == 0:
        rule = f"must have {FEW} pictures or more with different counts, to be corrected by"
        raise InputError("COUNTS.csv", rule, len(found))
    order, errors = np.random.RandomState(0).permutation(len(found)), []
    for fold in np.array_split(order, min(FOLDS, len(found))):
        rest = np.setdiff1d(order, fold)
        line = _line(found[rest], by_hand[rest])
        errors += np.abs(np.polyval(line, found[fold]) - by_hand[fold]).tolist()
    slope, offset = _line(found, by_hand)
    return float(slope), float(offset), float(np.mean(errors))


def _line(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope and offset by least squares; a shift where x does not vary."""
    return np.polyfit(x, y, 1) if np.ptp(x) > 0 else np.array([1.0, (y - x).mean()])


def _write_corrected(found: Counts, slope: float, offset: float, path: Path) -> None:
    """Corrected counts with 90 % prediction intervals of the line."""
    known = ~np.isnan(found.by_hand)
    x, y = found.found[known], found.by_hand[known]
    freedom = max(1, len(x) - 2)
    spread = np.sqrt(np.square(y - slope * x - offset).sum() / freedom)
    away = np.square(found.found - x.mean()) / max(np.square(x - x.mean()).sum(), 1e-9)
    from scipy.stats import t

    half = t.ppf(0.95, freedom) * spread * np.sqrt(1 + 1 / len(x) + away)
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "count", "corrected", "low", "high", "by_hand"])
        corrected = slope * found.found + offset
        columns = (corrected, np.maximum(corrected - half, 0), corrected + half)
        for i, name in enumerate(found.files):
            numbers = [f"{column[i]:.1f}" for column in columns]
            hand = "" if np.isnan(found.by_hand[i]) else f"{found.by_hand[i]:g}"
            writer.writerow([name, f"{found.found[i]:g}", *numbers, hand])


def _rows(path: Path, argument: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error) as error:
        raise InputError(argument, f"cannot be read ({error})", path) from None
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise InputError(argument, f"must have a column {missing[0]} and a row or more", path)
    return rows
