"""Makes a ready model: ``python benchmarks/ready_models.py blobs --out airjax/models/blobs``.

The pictures of ``ready_pictures.py`` are written as files, and ``airjax train`` is run on them
without any flag. What is kept is a run without its data: settings, scores, and weights in half
precision. With ``--only-pictures``, pictures with their counts and boxes are written instead, to
measure a model on:

    python benchmarks/ready_models.py blobs --only-pictures --seed 1 --number 100 --out HELD_OUT
    airjax predict blobs HELD_OUT/images --out found
    airjax check found HELD_OUT/counts.csv
    airjax check found HELD_OUT/objects.csv
"""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import ready_pictures
import tyro

from airjax import storage
from airjax.config import Config, TrainConfig
from airjax.config_file import to_json
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.training.runs import Run
from airjax.training.session import Session

SCORES = ("evaluation.json", "health.json")


@dataclass(frozen=True)
class Args:
    """What to make.

    Attributes:
        kind: of the objects.
        out: folder for it, a new one.
        seed: of the pictures and of the training.
        number: of pictures.
        steps: of the training (default: airjax's).
        only_pictures: write pictures, with other digits than those that are trained on.
    """

    kind: Annotated[Literal["blobs", "digits"], tyro.conf.Positional]
    out: Path
    seed: int = 0
    number: int = 300
    steps: int | None = None
    only_pictures: bool = False


def made(args: Args) -> Run:
    """Trains on composed pictures, and keeps the run without its data in ``args.out``.

    Raises:
        InputError: if ``args.out`` exists, or the training has collapsed.
    """
    if args.out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", args.out)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, f"composed {args.kind}")
        ready_pictures.write(pictures, args.kind, args.seed, args.number)
        config = Config(TrainConfig(steps=args.steps, seed=args.seed))
        session = Session.begin(pictures / "images", config, out=Path(folder, "run"))
        if session.train() is not None or session.run.collapsed is not None:
            raise InputError("out", "must be of a training that ended well")
        return kept(session.run, args.kind, args.out)


def kept(run: Run, kind: str, out: Path) -> Run:
    """A finished run without its data, for pictures of which nothing is known."""
    config = run.attempt_config()
    pictures = PictureConfig(crop=config.pictures.crop, anew=True)
    train = replace(config.train, data=f"composed {kind}")
    config = replace(config, train=train, pictures=pictures)
    arrays, about = storage.read(run.path / "model", "model")
    halved = {name: array.astype(np.float16) for name, array in arrays.items()}
    training = {"config": json.loads(to_json(config)), "history": [], "restarts": 0}
    with storage.new_folder(out) as temporary:
        storage.write(
            temporary / "model", "model", halved, about, training=training | {"collapsed": None}
        )
        (temporary / "config.json").write_text(to_json(config))
        for name in SCORES:
            shutil.copy(run.path / name, temporary)
    return Run.open(out)


def main(args: Args) -> None:
    """Makes a model, or pictures."""
    if args.only_pictures:
        ready_pictures.write(args.out, args.kind, args.seed, args.number, "test")
    else:
        run = made(args)
        size = (run.path / "model" / storage.ARRAYS["model"]).stat().st_size
        print(f"{run.path}: {size:,} bytes of weights")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
