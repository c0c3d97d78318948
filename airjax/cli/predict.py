"""The command ``airjax predict``."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from airjax.checks import a_seed, at_least_1
from airjax.cli.runs import RunPath, trained
from airjax.errors import InputError


def predict(
    run: RunPath,
    folder: Annotated[Positional[Path], arg(metavar="PICTURES")],
    out: Annotated[Path, arg(metavar="PATH")],
    format: Literal["csv", "json", "coco"] = "csv",
    draw: bool = False,
    strict: bool = False,
    num_paths: int = 5,
    second_look: bool = False,
    seed: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: the run's)")
    ] = None,
) -> None:
    """Find the objects in a folder of pictures: tables that other tools read, and drawings.

    Args:
        run: Folder of the run whose model is used; last is the newest one.
        folder: Folder of pictures (and folders below it), or one picture.
        out: Folder for the results, a new one, outside of the folder of pictures.
        format: csv is objects.csv and counts.csv; json is everything; coco is detection results and
            the list of images that they belong to.
        draw: Also draw each picture with the boxes of its objects, and a contact sheet.
        strict: Stop at a picture that cannot be read, instead of leaving it out.
        num_paths: K, the paths of the guide that counts are averaged over.
        second_look: Check whether one of the objects found is two, by how well the model explains
            the picture with each count. Separates more close objects; many times slower.
        seed: Of the guide's samples.
    """
    from airjax.air import AIR
    from airjax.cli.predictions import write_predictions
    from airjax.console import console, decisions_table, report
    from airjax.data.files import check_outside
    from airjax.training.session import report_broken

    at_least_1(num_paths=num_paths)
    found = trained(run)
    seed = found.config.train.seed if seed is None else seed
    a_seed(seed)
    air = AIR.of(*found.load(), num_paths, second_look, seed)
    if not folder.exists():
        raise InputError("folder", "must be a folder of pictures, or a picture", folder)
    check_outside(out, folder)
    summary = write_predictions(air, folder, found.config.pictures, out, format, draw, strict)
    if summary.decisions:
        console.print(decisions_table(summary.decisions))
    for line in summary.passed_over:
        report(line)
    report_broken(summary.broken, strict)
    report(
        f"{summary.images} pictures, {summary.objects} objects, {summary.seconds:.1f} s "
        f"({summary.images / summary.seconds:.3g} pictures/s)"
    )
    for path in summary.paths:
        report(f"written    {path}")
