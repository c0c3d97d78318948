"""The command ``airjax track``."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from airjax.checks import positive
from airjax.cli.picture_flags import PictureFlags
from airjax.cli.reading_flags import ReadingFlags, as_text, of_run
from airjax.cli.runs import RunPath, trained
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.tracking.tracks import Tracks

READING, NOT_GIVEN = ReadingFlags(), PictureFlags()
TRACKED = Path("tracked")  # folder of results unless another one is given


def track(
    run: RunPath,
    frames: Annotated[Positional[Path], arg(metavar="FRAMES")],
    out: Annotated[
        Path | None,
        arg(metavar="PATH", help_behavior_hint="(default: tracked/<frames>-<time>)"),
    ] = None,
    search_range: Annotated[
        float | None,
        arg(
            metavar="FLOAT",
            help_behavior_hint="(default: half of the distance of neighbours, or their size)",
        ),
    ] = None,
    memory: int = 3,
    motion: Literal["auto", "random", "steady"] = "auto",
    code_weight: Annotated[
        float | None,
        arg(metavar="FLOAT", help_behavior_hint="(default: from the codes of objects)"),
    ] = None,
    draw: bool = False,
    reading: ReadingFlags = READING,
    pictures: PictureFlags = NOT_GIVEN,
) -> None:
    """Find the objects in the frames of a video, and link them into tracks: a table for trackpy.

    Args:
        run: Folder of the run whose model is used; last is the newest one.
        frames: Folder of pictures, which are read in natural order (2.png before 10.png); a file of
            several pages; or an .npy, .npz or .zarr of images. An .npz with sequences has several
            videos, and, with boxes, the truth: MOTA is then printed.
        out: Folder for the results, a new one, outside of the folder of pictures.
        search_range: Greatest distance of an object from where it is expected, in pixels.
        memory: For how many frames an object may be missing. Until then, it is looked for where it
            is expected; with 0, objects are those of airjax predict.
        motion: Where an object is expected: where it was last (random), or where its last velocity
            takes it (steady). auto is what predicts places better.
        code_weight: What codes weigh beside places; 0 is places alone.
        draw: Also draw the tracks over the first frame.
        reading: How objects are found, and which are in the results.
        pictures: How frames are read with a ready model.
    """
    from airjax.cli.predictions import new_results
    from airjax.data.files import check_outside
    from airjax.tracking.frames import read_frames
    from airjax.tracking.tracks import Tracks

    reading.check()
    linking: dict[str, Any] = {"memory": memory, "motion": motion}
    if memory < 0:
        raise InputError("memory", "must be at least 0", memory)
    if search_range is not None:
        positive(search_range=search_range)
        linking["search_range"] = search_range
    if code_weight is not None:
        if not 0 <= code_weight < math.inf:
            raise InputError("code_weight", "must be at least 0", code_weight)
        linking["code_weight"] = code_weight
    found = trained(run)
    settings, asked = pictures.of(found)
    if not frames.exists():
        raise InputError("frames", "must be a folder of pictures, or a file of images", frames)
    to = new_results(str(frames), TRACKED) if out is None else out
    check_outside(to, frames)
    if to.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", to)
    (air, flags), kept = reading.air_of(found), reading.kept()
    read = read_frames(air, frames, settings, kept, reading.strict, found.usual, asked)
    tracks = Tracks.of(read, **linking)
    given = {"frames": str(frames)} | as_text(flags | linking)
    _tell(tracks, kept.flags())
    _write(tracks, to, {"run": of_run(found), "airjax track": given}, draw)


def _tell(tracks: "Tracks", kept: str) -> None:
    """Prints what was read, decided, left out and measured, and what is probably wrong."""
    from airjax.console import console, decisions_table, report
    from airjax.training.read_data import report_broken

    frames = tracks.frames
    if decisions := [*frames.decisions, *tracks.how.decisions]:
        console.print(decisions_table(decisions))
    for line in frames.passed_over:
        report(line)
    report_broken(frames.broken, strict=False)
    if frames.broken:
        report(f"frames     {len(frames.broken)} have no objects: they cannot be read")
    if frames.dropped:
        report(f"left out: {frames.dropped} objects by {kept}")
    if frames.unlike:
        report(
            f"unlike what the model was trained on: {frames.unlike} of {frames.number} frames "
            "(airjax predict names them)"
        )
    report(f"frames     {frames.order}")
    for line in tracks.summary():
        report(line)
    if (score := tracks.mota()) is not None:
        report(
            f"MOTA       {100 * score.mota:.2f} %: {score.objects} true objects, "
            f"{score.misses} missed, {score.false_positives} false, {score.switches} switches"
        )
    for doubt in tracks.doubts():
        report(f"doubtful: {doubt}", to_stderr=True)


def _write(tracks: "Tracks", out: Path, settings: dict[str, dict[str, str]], draw: bool) -> None:
    """Writes the results to a new folder, which is complete or not there."""
    import airjax
    from airjax import storage
    from airjax.console import report
    from airjax.tracking.drawing import picture

    about = {
        "version": airjax.__version__,
        "settings": settings,
        "frames": tracks.frames.order,
        "linking": asdict(tracks.how.linking),
        "summary": tracks.summary(),
        "doubtful": tracks.doubts(),
    }
    if (score := tracks.mota()) is not None:
        about["mota"] = score._asdict() | {"mota": score.mota}
    try:
        with storage.new_folder(out) as temporary:
            tracks.write(temporary / "tracks.csv")
            (temporary / "tracks.json").write_text(json.dumps(about, indent=2) + "\n")
            if draw:
                picture(tracks).save(temporary / "tracks.png")
    except OSError as error:
        raise InputError("out", f"cannot be written ({error.strerror or error})", out) from None
    for path in sorted(out.iterdir()):
        report(f"written    {path}")
