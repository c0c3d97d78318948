"""The command ``airjax check``: results of ``airjax predict`` beside counts or objects by hand."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from tyro.conf import Positional, arg

from airjax.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from airjax.cli.comparison import Compared

FIRST = 5  # pictures to look at
Row = tuple[str, str]  # of the table that is shown


def check(
    results: Annotated[Positional[Path], arg(metavar="RESULTS")],
    truth: Annotated[Positional[Path], arg(metavar="TRUTH")],
    calibrate: bool = False,
) -> None:
    """Compare results with counts or objects by hand: agreement, precision, which pictures to see.

    Args:
        results: Folder that airjax predict wrote, with counts.csv and objects.csv.
        truth: A table with the column file, and count, or x and y for dots, or x0, y0, x1 and y1
            for boxes; a COCO .json; a label image, or a folder of them; what was marked in other
            programs: ROIs (.zip, .roi), GeoJSON, or napari's tables, one file or a folder of them.
        calibrate: Also write corrected counts of all pictures: a line fitted to those by hand.
    """
    from airjax import storage
    from airjax.cli.comparison import compare
    from airjax.cli.found import read_found
    from airjax.cli.truth import read_truth
    from airjax.console import console, report
    from airjax.inference import plots
    from airjax.training.runs import unused

    known = read_truth(truth)
    if calibrate and known.kind != "counts":
        rule = "needs a table of counts, with the columns file and count"
        raise InputError("calibrate", rule, truth)
    done = compare(results, read_found(results, known.kind != "counts"), known)
    counted = [p for p in done.pictures if not np.isnan(p.by_hand)]
    rows = count_rows(counted)
    if calibrate:
        rows += correction_rows(counted)
    if known.kind != "counts":
        rows += object_rows(counted, known.kind, done.limit)
    console.print(_table([*rows, *worst_rows(counted, known.kind)]))
    for line in [*known.lines, *done.lines]:
        report(line)
    folder = unused(results, "check")
    with storage.new_folder(folder) as out:
        plots.save(plots.agreement(*_counts(counted)), out / "agreement.png")
        if calibrate:
            write_corrected(done.pictures, out / "corrected.csv")
        names = sorted(path.name for path in out.iterdir())
    for name in names:
        report(f"written    {folder / name}")


def _counts(counted: list["Compared"]) -> tuple[np.ndarray, np.ndarray]:
    """Counts found and by hand."""
    found = np.array([p.interval[0] for p in counted], float)
    return found, np.array([p.by_hand for p in counted], float)


def count_rows(counted: list["Compared"]) -> list[Row]:
    """Bias, mean error, limits of agreement, and whether the intervals hold."""
    from airjax.inference.agreement import agreement

    found, by_hand = _counts(counted)
    n, of = len(counted), agreement(found, by_hand)
    holds = sum(p.interval[1] <= p.by_hand <= p.interval[2] for p in counted)
    rows = [
        ("pictures counted by hand", f"{n}, mean {by_hand.mean():.1f}"),
        ("bias (found less by hand)", f"{of.bias:+.2f}"),
        ("mean error", f"{of.error:.2f}"),
        ("95 % limits of agreement", f"{of.low:+.1f} to {of.high:+.1f}"),
        ("correlation", f"{of.correlation:.3f}"),
        ("90 % intervals that hold the count", f"{holds} of {n}"),
    ]
    return [(name, value) for name, value in rows if "nan" not in value]


def correction_rows(counted: list["Compared"]) -> list[Row]:
    """The line that corrects counts, and how well it predicts pictures left out of the fit."""
    from airjax.inference.agreement import agreement, correction

    found, by_hand = _counts(counted)
    line = correction(found, by_hand, "TRUTH")
    verdict = "" if line.error < agreement(found, by_hand).error else ", no better"
    return [
        ("corrected count", f"{line.slope:.3f} x count {line.offset:+.2f}"),
        (
            "corrected: mean error (left out of the fit)",
            f"{line.error:.2f}{verdict}",
        ),
        ("corrected: 90 % intervals that hold the count", f"{line.held} of {len(counted)}"),
    ]


def object_rows(counted: list["Compared"], kind: str, limit: float) -> list[Row]:
    """Precision, recall, F1 and average precision of objects, and of their masks."""
    from airjax.cli.comparison import score
    from airjax.inference.detection import THRESHOLD

    scores = {"dots" if kind == "dots" else "boxes": score(counted)}
    if any(p.mask_hits is not None for p in counted):
        scores["masks"] = score(counted, masks=True)
    how = f"within {limit:.1f} pixels" if kind == "dots" else f"IoU {THRESHOLD}"
    rows: list[Row] = []
    for name, of in scores.items():
        shares = f"{of.precision:.3f}, {of.recall:.3f}, {of.f1:.3f}".replace("nan", "-")
        rows += [
            (f"{name} by hand, found, matched ({how})", f"{of.true}, {of.found}, {of.matched}"),
            (f"{name}: precision, recall, F1", shares),
        ]
        if of.ap is not None and kind != "dots":
            rows.append((f"{name}: AP at IoU {THRESHOLD}", f"{of.ap:.3f}"))
    return rows


def worst_rows(counted: list["Compared"], kind: str) -> list[Row]:
    """The pictures to look at first: those with most errors."""
    rows: list[tuple[float, Row]] = []
    for p in counted:
        if kind == "counts":
            errors = abs(p.interval[0] - p.by_hand)
            text = f"{p.interval[0]:.0f} found, {p.by_hand:g} by hand"
        else:
            errors, text = p.missed + p.false, f"{p.missed} missed, {p.false} false"
        rows.append((errors, (f"look at {p.name}", text)))
    return [row for errors, row in sorted(rows, key=lambda r: -r[0])[:FIRST] if errors]


def _table(rows: list[Row]) -> "Table":
    from rich.table import Table

    shown = Table("", "", show_header=False)
    for row in rows:
        shown.add_row(*(cell.encode("utf-8", "backslashreplace").decode() for cell in row))
    return shown


def write_corrected(pictures: list["Compared"], path: Path) -> None:
    """Corrected counts of all pictures, with 90 % prediction intervals."""
    from airjax.inference.agreement import corrected
    from airjax.inference.writers import no_formula

    counted = [p for p in pictures if not np.isnan(p.by_hand)]
    counts = np.array([p.interval[0] for p in pictures], float)
    values = corrected(*_counts(counted), counts).T
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "page", "count", "corrected", "low", "high", "by_hand"])
        for p, numbers in zip(pictures, values, strict=True):
            hand = "" if np.isnan(p.by_hand) else f"{p.by_hand:g}"
            row = [
                no_formula(p.file),
                p.page,
                f"{p.interval[0]:g}",
                *(f"{x:.1f}" for x in numbers),
                hand,
            ]
            writer.writerow(row)
