"""``airjax predict --engine ray``: reads pictures in parts and writes tables of each."""

import os
import time
from dataclasses import asdict
from pathlib import Path

from airjax import storage
from airjax.cli.predictions import check_there, new_results
from airjax.cli.reading_flags import ReadingFlags
from airjax.console import console, decisions_table, report, tracked
from airjax.data.files import check_outside
from airjax.data.folder import for_these
from airjax.data.ready import Asked
from airjax.errors import InputError
from airjax.inference.writers import needed
from airjax.picture_config import PictureConfig
from airjax.prediction.on_ray import Done, read_parts, started
from airjax.prediction.parts import Parts
from airjax.prediction.places import Listing, Place, is_url
from airjax.prediction.predictor import Predictor
from airjax.training.runs import Run


def predict_on_ray(
    run: Run,
    folder: str,
    out: str | None,
    reading: ReadingFlags,
    read: tuple[PictureConfig, Asked],
) -> None:
    """Reads pictures with Ray, and prints what was decided, left out, found and written.

    Args:
        run: with a trained model.
        folder: path or URL of the pictures.
        out: path or URL of the results, new or to be continued; None for a new one.
        reading: how objects are found, and which are written.
        read: how pictures are read, see `airjax.cli.picture_flags.PictureFlags`.

    Raises:
        InputError: if the pictures or the results cannot be read or written, or there is no Ray.
    """
    needed("pyarrow", "parquet")
    begin, to = time.perf_counter(), str(new_results(folder)) if out is None else out
    to = to if is_url(to) else os.path.abspath(to)  # the same in all workers
    if not is_url(folder):
        check_there(Path(folder))
        if not is_url(to):
            check_outside(Path(to), Path(folder))
    # first Ray, which forks: threads of JAX or of file systems would not survive that
    with started() as ray:
        pictures, place = Listing.of(folder, "folder"), Place(to, "out")
        (air, flags), kept = reading.air_of(run), reading.kept()
        channels = air.model.config.channels
        seen = for_these(pictures.files, read[0], channels, pictures.contents, read[1])
        if seen.decisions:
            console.print(decisions_table(seen.decisions))
        for line in pictures.passed_over:
            report(line)
        settings = {"model": _digest(run), "pictures": asdict(seen.pictures)}
        settings |= {k: str(v) for k, v in flags.items()}
        planned = Parts.plan(place, pictures, settings)
        files, before = planned.files, len(planned.finished)
        report(f"{len(pictures.files)} pictures in {len(files)} parts, to {to}")
        if before:
            report(f"{before} parts are finished already; the others are read")
        done: list[Done] = []
        predictor = Predictor(air, seen.pictures, kept)
        steps = read_parts(ray, predictor, planned, pictures.root, pictures.contents)
        total = sum(len(part) for i, part in enumerate(files) if i not in planned.finished)
        try:
            for one in tracked(steps, "reading", total, lambda done: len(files[done.part])):
                done.append(one)
        except (InputError, KeyboardInterrupt) as error:
            finished = f"{before + len(done)} of {len(files)} parts are finished; to continue, "
            finished += f"repeat the command with --out {to}"
            if isinstance(error, KeyboardInterrupt):
                report(f"stopped; {finished}", to_stderr=True)
                raise
            raise InputError(error.argument, f"{error.rule}; {finished}", error.value) from None
    _tell(done, time.perf_counter() - begin, to, kept.flags())


def _digest(run: Run) -> dict[str, str]:
    """What a model is known by."""
    return storage.read_manifest(run.path / "model" / storage.MANIFEST, "model")["sha256"]


def _tell(done: list[Done], seconds: float, out: str, flags: str) -> None:
    """Prints what was left out, found and written."""
    _, pictures, objects, dropped, broken = map(sum, zip(*done, strict=True)) if done else [0] * 5
    if broken:
        report(f"left out: {broken} files that cannot be read, see {out}/broken", to_stderr=True)
    if dropped:
        report(f"left out: {dropped} objects by {flags}")
    report(f"{pictures} pictures, {objects} objects, {seconds:.1f} s "
           f"({pictures / seconds:.3g} pictures/s)")  # fmt: skip
    for name in ("counts", "objects"):
        report(f"written    {out}/{name} (Parquet, a file a part)")
