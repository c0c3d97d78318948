"""The command ``airjax predict``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from airjax.cli.picture_flags import PictureFlags
from airjax.cli.reading_flags import ReadingFlags, as_text, of_run
from airjax.cli.runs import RunPath, trained
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.cli.predictions import Summary
    from airjax.data.ready import Asked
    from airjax.picture_config import PictureConfig
    from airjax.training.runs import Run

NOT_GIVEN, READING = PictureFlags(), ReadingFlags()
NAMED = 5  # pictures that look unlike the training
Engine = Literal["local", "ray"]
Format = Literal["csv", "parquet", "json", "coco", "masks", "rois", "geojson"]


def predict(
    run: RunPath,
    folder: Annotated[Positional[str], arg(metavar="PICTURES")],
    out: Annotated[
        str | None, arg(metavar="PATH", help_behavior_hint="(default: found/<pictures>-<time>)")
    ] = None,
    format: Annotated[
        tuple[Format, ...], arg(help_behavior_hint="(default: csv; with --engine ray, parquet)")
    ] = (),
    engine: Engine = "local",
    draw: bool = False,
    reading: ReadingFlags = READING,
    pictures: PictureFlags = NOT_GIVEN,
) -> None:
    """Find the objects in a folder of pictures: a report, tables that other tools read, drawings.

    Args:
        run: Folder of the run whose model is used; last is the newest one. Without any training, a
            ready model: blobs (round objects) or digits.
        folder: Folder of pictures (and folders below it), or one picture; with --engine ray also a
            URL, such as s3://bucket/folder.
        out: Folder for the results, a new one, outside of the folder of pictures. With --engine ray
            also a URL, or the folder of an interrupted run of this command, which is continued.
        format: One or several. csv and parquet are tables of objects and of counts; json is
            everything; coco is detection results and the list of images that they belong to; masks
            are label images; rois are zips for Fiji's ROI manager; geojson is for QuPath.
        engine: local is this process. ray reads millions of pictures in parts, on all cores and
            GPUs of this machine or of the Ray cluster at RAY_ADDRESS; tables only.
        draw: Also draw each picture with the boxes of its objects, and a contact sheet.
        reading: How objects are found, and which are in the results.
        pictures: How pictures are read with a ready model.
    """
    reading.check()
    found = trained(run)
    read = pictures.of(found)
    if engine == "ray":
        from airjax.cli.predict_on_ray import predict_on_ray

        _check_tables_only(format, draw, reading.strict)
        predict_on_ray(found, folder, out, reading, read)
    else:
        _predict_here(found, folder, out, reading, read, format or ("csv",), draw)


def _predict_here(
    run: "Run",
    folder: str,
    out: str | None,
    reading: ReadingFlags,
    read: "tuple[PictureConfig, Asked]",
    formats: tuple[str, ...],
    draw: bool,
) -> None:
    from airjax.cli.predictions import check_there, new_results, write_predictions
    from airjax.cli.report import About
    from airjax.data.files import check_outside
    from airjax.prediction.places import is_url

    for name, place in (("folder", folder), ("out", out or "")):
        if is_url(place):
            raise InputError(name, "must be a path; a URL needs --engine ray", place)
    path = Path(folder)
    check_there(path)
    to = new_results(folder) if out is None else Path(out)
    check_outside(to, path)
    air, flags = reading.air_of(run)
    settings = {"Run": of_run(run), "airjax predict": {"pictures": folder} | as_text(flags)}
    about = About(path.resolve().name, run.path.resolve().name, _doubts(run), settings)
    (pictures, asked), kept = read, reading.kept()
    summary = write_predictions(
        air, path, pictures, to, about, formats, draw, reading.strict, kept, run.usual, asked
    )
    _tell(summary, reading.strict, kept.flags())


def _check_tables_only(formats: tuple[str, ...], draw: bool, strict: bool) -> None:
    """Checks the flags that do not go with an engine.

    Raises:
        InputError: if one of them was given.
    """
    for format in formats:
        if format != "parquet":
            raise InputError("format", "must be parquet with --engine ray", format)
    for name, given in (("draw", draw), ("strict", strict)):
        if given:
            raise InputError(name, "must be left out with --engine ray")


def _tell(summary: "Summary", strict: bool, flags: str) -> None:
    """Prints what was decided, left out, found and written."""
    from airjax.console import console, decisions_table, report
    from airjax.training.read_data import report_broken

    if summary.decisions:
        console.print(decisions_table(summary.decisions))
    for line in summary.passed_over:
        report(line)
    report_broken(summary.broken, strict)
    if summary.unlike:
        report(f"unlike what the model was trained on: {len(summary.unlike)} of {summary.images}")
        for line in summary.unlike[:NAMED]:
            report(f"  {line}")
        if len(summary.unlike) > NAMED:
            report("  and others: see report.html")
    if summary.dropped:
        report(f"left out: {summary.dropped} objects by {flags}")
    if summary.objects and (summary.missed or summary.extra):
        missed, extra = (100 * n / summary.objects for n in (summary.missed, summary.extra))
        report(
            f"in simulated pictures as crowded, {missed:.1f} % of the objects are missed and "
            f"{extra:.1f} % too many are found; the intervals allow for it"
        )
    report(
        f"{summary.images} pictures, {summary.objects} objects, {summary.seconds:.1f} s "
        f"({summary.images / summary.seconds:.3g} pictures/s)"
    )
    for path in summary.paths:
        report(f"written    {path}")


def _doubts(run: "Run") -> list[str]:
    """What is wrong or doubtful about the model of a run."""
    collapsed = run.collapsed
    if collapsed is None:
        return run.doubts
    return [
        f"Its training has collapsed: {collapsed}. What it finds is probably wrong.",
        *run.doubts,
    ]
