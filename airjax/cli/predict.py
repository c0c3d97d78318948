"""The command ``airjax predict``."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from airjax.checks import a_seed, at_least_1
from airjax.cli.ready import PictureFlags
from airjax.cli.runs import RunPath, SecondLook, trained
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.cli.predictions import Summary
    from airjax.data.ready import Asked
    from airjax.picture_config import PictureConfig
    from airjax.prediction.predictor import Kept
    from airjax.training.runs import Run

NOT_GIVEN = PictureFlags()
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
    threshold: float = 0.0,
    min_size: float = 0.0,
    max_size: float = math.inf,
    exclude_edges: bool = False,
    strict: bool = False,
    num_paths: int = 5,
    second_look: SecondLook = "doubtful",
    seed: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: the run's)")
    ] = None,
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
        threshold: Leave out objects with a lower score.
        min_size: Leave out objects whose larger side is smaller, in pixels.
        max_size: Leave out objects whose larger side is larger, in pixels.
        exclude_edges: Leave out objects that touch the border of the picture.
        strict: Stop at a picture that cannot be read, instead of leaving it out.
        num_paths: K, the paths of the guide that counts are averaged over.
        second_look: Pictures in which it is checked whether one of the objects found is two, by how
            well the model explains the picture with each count: the doubtful ones, of which the
            objects leave 80 nats or more unexplained (none where objects hide others), all, or
            none. In pictures of any size, each object is compared with two anyway.
        seed: Of the guide's samples.
        pictures: How pictures are read with a ready model.
    """
    from airjax.prediction.predictor import Kept

    at_least_1(num_paths=num_paths)
    check_kept(threshold, min_size, max_size)
    found = trained(run)
    read = pictures.of(found)
    seed = found.config.train.seed if seed is None else seed
    a_seed(seed)
    kept, how = Kept(threshold, min_size, max_size, exclude_edges), (num_paths, second_look, seed)
    if engine == "ray":
        from airjax.cli.predict_on_ray import predict_on_ray

        _check_tables_only(format, draw, strict)
        predict_on_ray(found, folder, out, kept, how, read)
    else:
        _predict_here(found, folder, out, kept, how, read, format or ("csv",), draw, strict)


def _predict_here(
    run: "Run",
    folder: str,
    out: str | None,
    kept: "Kept",
    how: tuple[int, str, int],
    read: "tuple[PictureConfig, Asked]",
    formats: tuple[str, ...],
    draw: bool,
    strict: bool,
) -> None:
    from airjax.cli.predictions import air_of, check_there, new_results, write_predictions
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
    air, flags = air_of(run, *how)
    given = as_text(asdict(kept) | flags)
    settings = {"Run": of_run(run), "airjax predict": {"pictures": folder} | given}
    about = About(path.resolve().name, run.path.resolve().name, _doubts(run), settings)
    pictures, asked = read
    summary = write_predictions(
        air, path, pictures, to, about, formats, draw, strict, kept, run.usual, asked
    )
    _tell(summary, strict, kept.flags())


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


def check_kept(threshold: float, min_size: float, max_size: float) -> None:
    """Checks the flags that leave objects out.

    Raises:
        InputError: if one breaks its rule.
    """
    if not 0 <= threshold <= 1:
        raise InputError("threshold", "must be 0 to 1", threshold)
    if not min_size >= 0:
        raise InputError("min_size", "must be at least 0", min_size)
    if not max_size >= min_size:
        raise InputError("max_size", f"must be at least --min-size, {min_size}", max_size)


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
    report(
        f"{summary.images} pictures, {summary.objects} objects, {summary.seconds:.1f} s "
        f"({summary.images / summary.seconds:.3g} pictures/s)"
    )
    for path in summary.paths:
        report(f"written    {path}")


def of_run(run: "Run") -> dict[str, str]:
    """The settings of a run that a reader of the report asks for."""
    model, train = run.config.model, run.config.train
    height, width = model.image_size
    return {
        "folder": str(run.path.resolve()),
        "trained on": train.data,
        "steps": "not known" if train.steps is None else f"{train.steps:,}",
        "seed": str(run.attempt_config().train.seed),
        "guide": model.guide,
        "images": f"{height} x {width} pixels" + (", in colour" if model.channels == 3 else ""),
        "most objects in an image": str(model.model_steps),
        "background": model.background,
    }


def _doubts(run: "Run") -> list[str]:
    """What is wrong or doubtful about the model of a run."""
    collapsed = run.collapsed
    if collapsed is None:
        return run.doubts
    return [
        f"Its training has collapsed: {collapsed}. What it finds is probably wrong.",
        *run.doubts,
    ]


def as_text(flags: dict[str, Any]) -> dict[str, str]:
    """Flags and their values."""
    switch = {True: "yes", False: "no"}
    return {
        f"--{name.replace('_', '-')}": switch[value] if isinstance(value, bool) else str(value)
        for name, value in flags.items()
    }
