"""The frames of videos, read as ``airjax predict`` reads pictures, in their order."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from airjax.air import AIR
from airjax.console import Decision, tracked
from airjax.data import load
from airjax.data.arrays import is_array
from airjax.data.dataset import Dataset
from airjax.data.decode import Broken, Frame
from airjax.data.files import picture_files
from airjax.data.folder import ReadImage, for_these
from airjax.data.placement import FROM_BOTTOM, FROM_RIGHT, SWAPPED, Placement
from airjax.data.ready import ASKED, Asked
from airjax.data.signal import channel, extremes
from airjax.errors import InputError
from airjax.inference.out_of_distribution import UNKNOWN, Usual
from airjax.inference.results import Objects
from airjax.inference.writers import Picture
from airjax.picture_config import PictureConfig
from airjax.prediction.predictor import KEPT, Kept, Predictor, below

DRAWN = 20  # videos of a file that are drawn


@dataclass
class Frames:
    """What was found in frames.

    Attributes:
        order: what the frames are, and in which order.
        files: how many there are to read.
        number: of frames.
        pictures: what was found in each frame that can be read, by its index.
        sequences: the frames of each video.
        images: the first frames of ``DRAWN`` videos at most, as they are stored.
        truth: the true objects, where they are known.
        decisions: what was decided for these pictures.
        passed_over: a line for each kind of files that are no pictures.
        broken: files that cannot be read.
        dropped: number of objects found and left out.
        unlike: number of frames that look unlike the training.
        unlike_number: why all of them have too many or too few objects, or "".
        predictor: what they were read with; None if there is nothing to read again.
        objects: as in ``pictures``, with boxes in pixels of the image that the model read.
        scale: pixels of that image for one of the file.
        again: reads a frame again.
    """

    order: str
    files: int
    number: int = 0
    pictures: dict[int, Picture] = field(default_factory=dict)
    sequences: list[range] = field(default_factory=list)
    images: dict[int, UInt8[np.ndarray, "H W"]] = field(default_factory=dict)
    truth: Dataset | None = None
    decisions: list[Decision] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)
    dropped: int = 0
    unlike: int = 0
    unlike_number: str = ""
    predictor: Predictor | None = None
    objects: dict[int, Objects] = field(default_factory=dict)
    scale: float = 1.0
    again: Callable[[int], ReadImage] | None = None


def read_frames(
    air: AIR,
    path: Path,
    settings: PictureConfig,
    kept: Kept = KEPT,
    strict: bool = False,
    usual: Usual = UNKNOWN,
    asked: Asked = ASKED,
) -> Frames:
    """Finds the objects in each frame.

    Args:
        air: trained.
        path: a folder of pictures, a file of several pages, or an array of images.
        settings: how pictures become images.
        kept: which objects are in the results (default: all).
        strict: stop at a frame that cannot be read.
        usual: how well objects explained the held-out images of the training, and how many.
        asked: what is given for these frames, with a ready model.

    Raises:
        InputError: if there are fewer than two frames, or they have several sizes; if a frame is
            broken and ``strict`` holds, or all are broken.
    """
    if is_array(path) or path.suffix == ".npz":
        frames, predictor, images, root = _of_array(air, path, settings, kept)
    else:
        found = picture_files(path, "frames")
        files, root = sorted(found.files, key=natural), path if path.is_dir() else path.parent
        seen = for_these(files, settings, air.model.config.channels, asked=asked)
        predictor = Predictor(air, seen.pictures, kept, intervals=False)
        frames = Frames(_order(files, root), len(files))
        frames.decisions, frames.passed_over = seen.decisions, found.report()
        frames.again = again = Again(predictor)
        images = again.first(files)
    frames.predictor = predictor
    at, size, pixels = list[int](), None, 0  # of the frames that can be read

    def whole() -> Iterator[ReadImage]:
        for i, read in enumerate(images):
            if not isinstance(read, Broken):
                at.append(i)
                yield read
                continue
            frames.broken.append(read)
            if strict:
                raise InputError(str(read.path), f"cannot be read ({read.why})")

    each = tracked(predictor.each(whole(), below(root)), "reading", frames.files)
    for picture, read, objects, dropped, explained in each:
        size = size or picture.size
        if picture.size != size:
            rule = f"must have the size of the first frame, {size[0]} x {size[1]} pixels"
            raise InputError(str(read.path), rule, f"{picture.size[0]} x {picture.size[1]}")
        i = at[len(frames.pictures)]
        if i == 0 or any(i == sequence.start for sequence in frames.sequences[:DRAWN]):
            frames.images[i] = shown(read, predictor.pictures.channel)
        frames.pictures[i], frames.objects[i] = picture, objects
        frames.scale = read.placement.scale[0]
        frames.dropped += dropped
        pixels += read.image.shape[0] * read.image.shape[1]
        if usual.explained:
            frames.unlike += bool(usual.unlike(explained(), objects.number + dropped))
    if not frames.pictures:
        path, why = frames.broken[0]
        raise InputError(str(path), f"cannot be read ({why})")
    frames.number = len(frames.pictures) + len(frames.broken)
    if frames.number < 2:
        raise InputError("frames", "must be two frames or more", frames.number)
    number = sum(picture.objects.number for picture in frames.pictures.values())
    frames.unlike_number = usual.unlike_number(number + frames.dropped, pixels)
    frames.sequences = frames.sequences or [range(frames.number)]
    return frames


def _of_array(
    air: AIR, path: Path, settings: PictureConfig, kept: Kept
) -> tuple[Frames, Predictor, Iterator[ReadImage], Path]:
    """The images of an array, which the model reads as they are."""
    data = load(str(path), "all")
    if data.image_shape != air.model.config.image_shape and not settings.crop:
        rule = f"must have images of the model's size {air.model.config.image_shape}"
        raise InputError(str(path), rule, data.image_shape)
    frames = Frames(f"{len(data)} images of {path.name}", len(data), truth=data)
    if data.sequences is not None:
        starts = np.flatnonzero(np.diff(data.sequences, prepend=data.sequences[0] - 1)).tolist()
        if len(starts) > len(np.unique(data.sequences)):
            raise InputError(f"{path}: sequences", "must have the frames of each one together")
        ends = [*starts[1:], len(data)]
        frames.sequences = [range(a, b) for a, b in zip(starts, ends, strict=True)]
    name = "grey" if data.images.ndim == 3 else "all"

    def read(i: int) -> ReadImage:
        image = data.images[i]
        frame = Frame(image, None, 255.0, page=i, is_colour=image.shape[2:] == (3,))
        return ReadImage(path, image, Placement((image.shape[0], image.shape[1])), frame)

    frames.again = read
    predictor = Predictor(air, replace(settings, channel=name), kept, intervals=False)
    return frames, predictor, map(read, range(len(data))), path.parent


@dataclass
class Again:
    """Reads frames of files again; the pages of one file stay in memory.

    Attributes:
        predictor: that reads them.
        order: the file of each frame.
    """

    predictor: Predictor
    order: list[Path] = field(default_factory=list)
    _pages: tuple[Path, list[ReadImage | Broken]] | None = None

    def first(self, files: Sequence[Path]) -> Iterator[ReadImage | Broken]:
        """Reads all frames, and remembers their order."""
        for read in self.predictor.images(files):
            self.order.append(read.path)
            yield read

    def __call__(self, i: int) -> ReadImage:
        """Frame i, which must be one that can be read."""
        path = self.order[i]
        if self._pages is None or self._pages[0] != path:
            self._pages = path, list(self.predictor.images([path]))
        read = self._pages[1][i - self.order.index(path)]
        assert isinstance(read, ReadImage)
        return read


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their value: a2.png before a10.png."""
    parts = re.split(r"([0-9]+)", path.as_posix())
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts if part]


def _order(files: list[Path], root: Path) -> str:
    """What the frames are, and in which order."""
    first, last = (file.relative_to(root).as_posix() for file in (files[0], files[-1]))
    if len(files) == 1:
        return f"pages of {first}"
    folders = {file.parent for file in files}
    several = f" (in {len(folders)} folders, taken as one video)" if len(folders) > 1 else ""
    return f"{len(files)} files in natural order, {first} to {last}{several}"


def shown(read: ReadImage, name: str) -> UInt8[np.ndarray, "H W"]:
    """A picture to draw on: grey, between its own black and white, as it is stored."""
    values = channel(read.frame, name)
    grey = values.mean(-1) if values.ndim == 3 else values
    black, white, _ = extremes(grey, read.frame.alpha)
    grey = np.round(255 * ((grey - black) / (white - black)).clip(0, 1)).astype(np.uint8)
    orientation = read.frame.orientation
    if orientation in FROM_RIGHT:
        grey = grey[:, ::-1]
    if orientation in FROM_BOTTOM:
        grey = grey[::-1]
    return grey.T if orientation in SWAPPED else grey
