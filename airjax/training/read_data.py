"""The data of a run: images to train on, and images that are held out."""

from pathlib import Path
from typing import Any, NamedTuple

from airjax import data
from airjax.config import Config
from airjax.console import report
from airjax.data.arrays import is_array
from airjax.data.dataset import Dataset
from airjax.data.decode import Broken
from airjax.data.survey import Survey
from airjax.errors import InputError
from airjax.training import stream


class Read(NamedTuple):
    """What `read_data` read.

    Attributes:
        train: images to train on.
        held_out: images that the training is evaluated on.
        survey: of the pictures; None for other data.
    """

    train: Dataset
    held_out: Dataset
    survey: Survey | None


def read_data(
    config: Config, data_dir: Path | None, strict: bool, object_size: float | None = None
) -> Read:
    """Reads the data that a config names.

    Args:
        config: with the data and how pictures are read.
        data_dir: folder with MNIST's files.
        strict: stop at a picture that cannot be read, instead of leaving it out.
        object_size: typical larger side of an object in pixels, where it is known.

    Raises:
        InputError: if the data cannot be read, or not in this way.
    """
    name, pictures, streams = config.train.data, config.pictures, config.train.stream
    if streams == "yes":
        stream.check_installed()
    if name in data.DATASETS or is_array(Path(name)) or not Path(name).is_dir():
        if streams == "yes" and not is_array(Path(name)):
            rule = "must be auto or no, except for an .npy, a .zarr, pictures or ArrayRecord files"
            raise InputError("stream", rule, name)
        how: Any = data_dir, pictures, streams
        train, held_out = (data.load(name, part, *how) for part in ("train", "test"))
        if train.source is not None:
            stream.check_installed()
        return Read(train, held_out, None)
    background = config.model.background
    loaded = data.load_folder(
        Path(name), pictures, "train", "test", background=background, object_size=object_size,
        stream=streams, on_broken=lambda broken: report_broken([broken], strict),
    )  # fmt: skip
    for line in loaded.passed_over:
        report(line)
    report_broken(loaded.broken, strict)
    number = sum(part.total for part in loaded.parts)
    kind = "crops" if loaded.survey.pictures.crop else "pictures"
    report(f"{number} {kind} of {Path(name).name}")
    train, held_out = loaded.parts
    if train.source is not None:
        stream.check_installed()
    return Read(train, held_out, loaded.survey)


def report_broken(broken: list[Broken], strict: bool) -> None:
    """Names the files that cannot be read.

    Raises:
        InputError: if there is one and ``strict`` holds.
    """
    for path, why in broken:
        if strict:
            raise InputError(str(path), f"cannot be read ({why})")
        report(f"left out: {path} cannot be read ({why})", to_stderr=True)
