"""Reads the planes of a layer with the model of a run, as ``airjax predict`` does by default."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from airjax.cli.predictions import air_of
from airjax.cli.runs import opened
from airjax.data.decode import Broken
from airjax.data.folder import ReadImage, for_these
from airjax.errors import InputError
from airjax.inference.writers import Picture
from airjax.napari.planes import At, Planes
from airjax.prediction.predictor import Kept, Predictor

PATHS, LOOK = 5, "doubtful"  # the defaults of airjax predict


class Found(NamedTuple):
    """What was found in a layer.

    Attributes:
        pictures: what was found in each plane that can be read, by its index.
        notes: what the user should know: doubts, decisions, what was left out.
    """

    pictures: dict[At, Picture]
    notes: list[str]

    @property
    def number(self) -> int:
        """The number of objects in all planes."""
        return sum(picture.objects.number for picture in self.pictures.values())

    def said(self, at: At) -> str:
        """The count with its 90 % interval; of a stack, also that of the plane at an index."""
        several = f"objects in {len(self.pictures)} planes: {self.number}"
        if at not in self.pictures:
            return several
        low, high = self.pictures[at].objects.interval
        count = f"{self.pictures[at].objects.number} (90 % interval {low} to {high})"
        index = ", ".join(map(str, at))
        return f"{several}; in plane {index}: {count}" if at else f"objects: {count}"


def read(planes: Planes, run: Path, threshold: float = 0.0) -> Generator[At, None, Found]:
    """Finds the objects in each plane, and gives the index of each plane that was read.

    Args:
        planes: of a layer.
        run: folder of the run; ``last`` is the newest one in ``runs/``.
        threshold: objects with a lower score are left out.

    Raises:
        InputError: if there is no such run, or none of the planes can be read with it.
    """
    opened_run = opened(run)
    air, _ = air_of(opened_run, PATHS, LOOK, opened_run.config.train.seed)
    channels, settings = air.model.config.channels, opened_run.config.pictures
    seen = for_these(list(planes.at), settings, channels, planes.contents)
    kept, broken = Kept(threshold), list[Broken]()
    predictor = Predictor(air, seen.pictures, kept)
    pictures, dropped, unlike = dict[At, Picture](), 0, list[str]()
    usual = opened_run.usual
    for found in predictor.each(_images(predictor, planes, broken)):
        at = planes.at[found.read.path]
        pictures[at] = found.picture
        dropped += found.dropped
        explained = found.explained() if usual.explained else None
        if why := usual.unlike(explained, found.objects.number + found.dropped):
            unlike.append(f"{found.read.path} looks unlike what the model was trained on: {why}")
        yield at
    notes = [f"decided: {what} {value} ({flag})" for what, value, flag in seen.decisions]
    if opened_run.collapsed is not None:
        notes.append(f"the training of this run has collapsed ({opened_run.collapsed}): what it "
                     "finds is probably wrong")  # fmt: skip
    notes += [f"{path} cannot be read ({why})" for path, why in broken] + unlike
    if dropped:
        notes.append(f"left out: {dropped} objects by {kept.flags()}")
    return Found(pictures, notes)


def _images(predictor: Predictor, planes: Planes, broken: list[Broken]) -> Iterator[ReadImage]:
    for read in predictor.images(planes.at, planes.contents):
        if not isinstance(read, Broken):
            yield read
            continue
        broken.append(read)
        if len(broken) == len(planes):
            raise InputError(str(read.path), f"cannot be read ({read.why})")
