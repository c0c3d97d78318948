"""Makes a ready model: ``python benchmarks/ready_models.py blobs --out airjax/models/blobs``.

It is trained on the crops of ``ready_pictures.py`` as ``airjax train`` trains on crops of pictures:
the detail of the objects decides windows, code and likelihood. What is kept is a run without its
data: settings, scores, and weights in half precision. With ``--only-pictures``, pictures with their
counts and boxes are written instead, to measure a model on:

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
from airjax.config import Config, ModelConfig, TrainConfig, TriesConfig
from airjax.config_file import to_json
from airjax.data.dataset import Dataset, as_npz
from airjax.detail import SAMPLED, latent_size, likelihood_sd, of_objects, window_margin
from airjax.errors import InputError
from airjax.object_size import Sizes, for_objects
from airjax.picture_config import PictureConfig
from airjax.training.collapse import collapse
from airjax.training.resolve import IN_CROPS
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
        number: of crops, or of pictures.
        steps: of the training.
        only_pictures: write pictures, with other digits than those that are trained on.
    """

    kind: Annotated[Literal["blobs", "digits"], tyro.conf.Positional]
    out: Path
    seed: int = 0
    number: int = 10_000
    steps: int = 4000
    only_pictures: bool = False


def made(args: Args) -> Run:
    """Trains on composed pictures, and keeps the run without its data in ``args.out``.

    Raises:
        InputError: if ``args.out`` exists, or the training has collapsed.
    """
    if args.out.exists():
        raise InputError("out", "must be a new folder (nothing is overwritten)", args.out)
    crops = ready_pictures.crops(args.kind, args.seed, args.number)
    train = TrainConfig(steps=args.steps, seed=args.seed)
    config = Config(train, model_for(crops), tries=TriesConfig(restarts=0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "crops.npz")
        path.write_bytes(as_npz(crops))
        session = Session.begin(path, config, out=Path(folder, "run"))
        if session.train() is not None:
            raise InputError("out", "must be of a training that was not interrupted")
        as_crops = replace(session.run.config, pictures=PictureConfig(crop=ready_pictures.CROP))
        why = collapse(session.run.rows(), as_crops)
        if why is not None:
            raise InputError("seed", f"must be another one: this training has collapsed ({why})")
        return kept(session.run, args.kind, args.out)


def model_for(crops: Dataset) -> ModelConfig:
    """The settings of a model for crops, as `airjax.training.resolve` decides them for pictures."""
    side, size = ready_pictures.CROP, ready_pictures.OBJECT
    assert crops.counts is not None
    density = float(crops.counts.mean()) / side**2
    sizes = Sizes(size, size, size, density, ready_pictures.MOST)
    detail = of_objects(list(crops.images[: 2 * SAMPLED : 2]), sizes)
    model = ModelConfig(
        model_steps=ready_pictures.MOST, z_pres_prior=IN_CROPS, guide="attend", background="none",
        likelihood_sd=likelihood_sd(detail), encoder_latent_size=latent_size(detail),
    )  # fmt: skip
    return for_objects(model, size, (side, side), window_margin(detail))


def kept(run: Run, kind: str, out: Path) -> Run:
    """A finished run without its data, for pictures of which nothing is known."""
    config = run.attempt_config()
    pictures = PictureConfig(crop=config.model.image_size[0], anew=True)
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
