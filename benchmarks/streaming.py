"""Time of one training step with images on the device, and with images that are streamed from disk
as an .npy, as a .zarr, as picture files and as an ArrayRecord file; in turn in one run.

    python benchmarks/streaming.py --out FILE.json

All have the default sizes, and the images of multi-mnist. Nothing else should run meanwhile.
"""

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import common
import jax
import numpy as np
import tyro
from PIL import Image

from airjax import data
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.dataset import Dataset
from airjax.picture_config import PictureConfig
from airjax.training.resolve import resolved
from airjax.training.trainer import Chunks, Trainer

AS_THEY_ARE = PictureConfig(invert="no", channel="grey", normalise="none", crop=0, scale=1.0)
ON_DEVICE = "on the device"


@dataclass(frozen=True)
class Args:
    """What to measure.

    Attributes:
        kinds: of streams: npy, zarr, pictures, records.
        repeats: how often each contender has its turn.
        steps: steps a turn.
        number: of images.
        out: JSON file for the results.
    """

    kinds: tuple[str, ...] = ("npy", "zarr", "pictures", "records")
    repeats: int = 7
    steps: int = 100
    number: int = 60_000
    out: Path | None = None


def stored(kind: str, folder: Path, images: np.ndarray) -> Path:
    """Images on disk."""
    path = folder / f"images.{kind}"
    if kind == "npy":
        np.save(path, images)
    elif kind == "zarr":
        import zarr

        # few images a chunk, as the docs advise
        array = zarr.create_array(
            str(path), shape=images.shape, chunks=(8, *images.shape[1:]), dtype=images.dtype
        )
        array[...] = images
    else:
        path.mkdir()
        contents = map(png, images)
        if kind == "pictures":
            for i, content in enumerate(contents):
                (path / f"{i:06}.png").write_bytes(content)
        else:
            from array_record.python.array_record_module import ArrayRecordWriter

            writer = ArrayRecordWriter(str(path / "images.array_record"), "group_size:1")
            for content in contents:
                writer.write(content)
            writer.close()
    return path


def png(image: np.ndarray) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def training(config: Config, images: Dataset) -> Callable[[int], None]:
    """A function that runs a number of training steps, as `airjax train` does."""
    trainer = Trainer(config, images.images, source=images.source)
    state = trainer.init()
    advance = Chunks(trainer, state)
    advance.time_one(state)

    def run(steps: int) -> None:
        nonlocal state
        while steps:
            state, taken = advance(state, steps)
            steps -= taken
        jax.block_until_ready(state)

    return run


def main(args: Args) -> None:
    """Measures, prints and writes."""
    images = data.load("multi-mnist", "train").images[: args.number]
    steps = 10 + args.steps * (args.repeats + 1)  # so that the last turn reads ahead, too
    train = TrainConfig(data="multi-mnist", steps=2 * steps)
    config = resolved(Config(train, ModelConfig(background="none")), images)[0]
    with tempfile.TemporaryDirectory() as name:
        runs = {ON_DEVICE: training(config, Dataset(images))}
        for kind in args.kinds:
            path = str(stored(kind, Path(name), images))
            streamed = data.load(path, "all", pictures=AS_THEY_ARE, stream="yes")
            own = replace(config, train=replace(config.train, stream="yes"))
            runs[kind] = training(own, streamed)
        turns = {kind: lambda run=run: run(args.steps) for kind, run in runs.items()}
        seconds = common.in_turn(turns, args.repeats, args.steps)
    rows = [
        [kind, common.spread(each), f"{common.median_ratio(each, seconds[ON_DEVICE]):.3f}"]
        for kind, each in seconds.items()
    ]
    head = ["images", "ms a step: median (lowest to highest)", f"this / {ON_DEVICE}"]
    print(common.table(head, rows), flush=True)
    settings = {key: value for key, value in vars(args).items() if key != "out"}
    common.write(args.out, settings, seconds)


if __name__ == "__main__":
    main(tyro.cli(Args))
