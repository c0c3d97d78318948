"""The commands of the command line: functions whose arguments are the flags.

What is heavy to import is imported where it is used.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from airjax.checks import a_seed, at_least_1, positive
from airjax.config import (
    LIKELIHOOD_SD,
    AnnealConfig,
    Config,
    EstimatorConfig,
    ModelConfig,
    NonLinearity,
    PictureConfig,
    ProgressConfig,
    TrainConfig,
    TriesConfig,
)
from airjax.config_json import differing
from airjax.data.scenes import SceneConfig
from airjax.errors import InputError

Out = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
DataDir = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]


def train(
    train: TrainConfig,
    model: ModelConfig,
    estimator: EstimatorConfig,
    anneal: AnnealConfig,
    progress: ProgressConfig,
    tries: TriesConfig,
    pictures: PictureConfig,
    out: Out = None,
    data_dir: DataDir = None,
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None,
    object_size: Annotated[str | None, tyro.conf.arg(metavar="FLOAT|auto")] = None,
    strict: bool = False,
) -> None:
    """Train AIR on images, without labels; then score it on held-out ones and draw what it found.

    Args:
        train: What matters first.
        model: The model and the guide: prior, programs, sizes of the networks.
        estimator: The estimators of the ELBO's gradient.
        anneal: The prior on the count, changing while training.
        progress: What is told and saved on the way.
        tries: Several seeds, and what is done about a training that collapses.
        pictures: How files in a folder of pictures become images.
        out: Folder for the run, a new one; runs/<data>-<time> unless given.
        data_dir: Folder with MNIST's files (or with a folder mnist that has them).
        resume: Folder of an interrupted run to go on with, with its own settings.
        object_size: Typical size of the objects (their larger side) in pixels, or auto: estimated
            from the images. Sets the scale's prior and the windows; auto for pictures in a folder
            where those are not given.
        strict: Stop at a picture that cannot be read, and do not leave it out.
    """
    from airjax import data
    from airjax.console import console
    from airjax.runs import Run
    from airjax.tensorboard import check_installed

    # the settings' rules come before any work
    config = Config(train, model, estimator, anneal, progress, tries, pictures)
    if progress.tensorboard:
        check_installed()
    model = config.model
    for net in ("predict_net", "bl_predict_net", "encoder_net", "decoder_net"):
        if not getattr(model, net):  # in Python, a linear layer; here, a flag without its sizes
            raise InputError(net, "must be given at least one size")
    run = None if resume is None else _resumed(resume, config, out, object_size)
    if train.data not in data.POOLS and Path(train.data).is_dir():
        parts, pictures, broken = data.load_folder(Path(train.data), pictures, "train", "test")
        (train_data, held_out), config = parts, dataclasses.replace(config, pictures=pictures)
        _tell_broken(broken, strict)
        n, kind = len(train_data) + len(held_out), "crops" if pictures.crop else "pictures"
        console.print(f"{n} {kind}; inverted: {pictures.invert}; in colour: {pictures.colour}")
    else:
        train_data = data.load(train.data, "train", data_dir, pictures)
        held_out = data.load(train.data, "test", data_dir, pictures)
    if run is None:
        if object_size is not None or (train.data not in data.POOLS and Path(train.data).is_dir()):
            from airjax.object_size import SET_BY_IT, fitted

            model = fitted(model, object_size, train_data.images)
            told = (f"{name} {getattr(model, name)}" for name in SET_BY_IT)
            console.print(f"for objects of this size: {', '.join(told)}", soft_wrap=True)
        model = model.for_images(train_data.image_shape)
        run = Run.create(dataclasses.replace(config, model=model), out)
    from airjax.session import run_to_the_end

    with run.locked():
        run_to_the_end(run, train_data, held_out)


def _resumed(path: Path, config: Config, out: Path | None, object_size: str | None) -> Any:
    """The run to go on with."""
    from airjax.runs import Run

    if out is not None:
        raise InputError("out", "must be left out where a run is resumed", out)
    run = Run.open(path, "resume")
    differences = differing(run.config, config)
    if object_size is not None:
        raise InputError("object_size", "must be left out where a run is resumed", object_size)
    if differences:
        rule = f"must have the run's own settings; these differ: {', '.join(differences)}"
        raise InputError("resume", rule)
    if run.is_finished:
        raise InputError("resume", "must be a run that is not finished", path)
    return run


def evaluate(
    run: tyro.conf.Positional[Path],
    data: str | None = None,
    part: Literal["train", "test", "all"] | None = None,
    num_paths: int = 10,
    seed: int = 0,
    bound: Literal["elbo", "iwae"] = "elbo",
    particles: int = 100,
    max_steps: int | None = None,
    second_look: bool = False,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    data_dir: DataDir = None,
) -> None:
    """Score a run's model: bounds, counts, boxes and reconstructions.

    Args:
        run: Folder of the run.
        data: Name of a data set, or path of an .npz; the run's own unless given.
        part: Of the data; unless given the held-out one, or all of another file.
        num_paths: K, the paths of the guide that are averaged over.
        seed: Of the guide's samples.
        bound: iwae adds the importance-weighted bound, which is tighter than the ELBO.
        particles: K of that bound.
        max_steps: Read on, beyond the steps T of training, until no image has a further object, in
            at most so many steps.
        second_look: Hold the count that the guide reads against one object more, by how well the
            model explains the image with each: more objects that lie close are told apart. Many
            times slower. (The ELBO, and the count of one sample, stay the guide's.)
        json_: Print JSON and nothing else.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import console, report_tables
    from airjax.infer import importance_weighted_bound, read, with_steps
    from airjax.metrics import score, settings
    from airjax.runs import Run

    at_least_1(num_paths=num_paths, particles=particles)
    if max_steps is not None:
        at_least_1(max_steps=max_steps)
    a_seed(seed)
    opened = Run.open(run)
    programs, scenes = opened.load(), opened.data(data, part, data_dir)
    if max_steps is not None:
        programs = with_steps(*programs, scenes.images, max_steps)
    reading = read(*programs, scenes.images, seed, num_paths, second_look=second_look)
    report = score(reading, scenes)
    report["settings"] = settings(reading, scenes, seed, num_paths, second_look)
    if bound == "iwae":
        values = importance_weighted_bound(*programs, scenes.images, particles, seed)
        report["iwae"] = float(values.mean())
        report["settings"]["particles"] = particles
    if json_:
        print(json.dumps(report, indent=2))
    else:
        console.print(*report_tables(report), sep="\n")


def plot(
    run: tyro.conf.Positional[Path],
    data: str | None = None,
    n: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 10,
    data_dir: DataDir = None,
) -> None:
    """Draw a run: how it learned, and held-out images over their reconstructions with boxes.

    Args:
        run: Folder of the run.
        data: Name of a data set, or path of an .npz; the run's own unless given.
        n: Number of images.
        data_dir: Folder with MNIST's files.
    """
    from airjax import plots
    from airjax.console import console
    from airjax.infer import read
    from airjax.runs import Run

    at_least_1(n=n)
    opened = Run.open(run)
    scenes = opened.data(data, None, data_dir)[:n]
    reading = read(*opened.load(), scenes.images)
    for figure, name in (
        (plots.curves(opened.rows()), "curves.png"),
        (plots.reconstructions(scenes, reading, n), "reconstructions.png"),
    ):
        console.print("picture", plots.save(figure, opened.figures / name), soft_wrap=True)


def sample(
    run: tyro.conf.Positional[Path | None] = None,
    n: Annotated[int, tyro.conf.arg(aliases=("-n",))] = 5,
    what: Literal["scene", "object", "geometric"] = "scene",
    z_pres_prior: float = 1.0,
    steps: Annotated[int | None, tyro.conf.arg(aliases=("--model-steps", "-t"))] = None,
    seed: int = 0,
    out: Out = None,
) -> None:
    """Draw scenes from the prior of a trained model, or of an untrained one.

    Under the prior of training nearly all scenes are empty (k = 0.01), so here counts are equally
    likely unless asked otherwise.

    Args:
        run: Folder of the run; an untrained model of the default settings unless given.
        n: Number of scenes.
        what: A scene of at most T objects, a single object's step, or a scene of the unbounded
            geometric prior, which has a further object with probability one half.
        z_pres_prior: k of the scenes' prior, the ratio p(n + 1) / p(n).
        steps: T of an untrained model.
        seed: Of the scenes (and of an untrained model's networks).
        out: The picture, a new file; samples.png (in the run's figures) unless given.
    """
    from airjax import plots
    from airjax.console import console
    from airjax.runs import Run
    from airjax.train import untrained

    at_least_1(n=n)
    a_seed(seed)
    positive(z_pres_prior=z_pres_prior)
    if run is None:
        config = ModelConfig() if steps is None else _with_steps(steps)
        program, path = untrained(config, seed)[0], Path("samples.png")
    else:
        if steps is not None:
            raise InputError("steps", "must be left out for a trained model", steps)
        opened = Run.open(run)
        program, path = opened.load()[0], opened.figures / "samples.png"
    if out is not None or run is None:
        path = out or path
        if path.exists():
            raise InputError("out", "must be a new file (nothing is overwritten)", path)
    figure = plots.prior_samples(program, what, n, seed, z_pres_prior)
    console.print("picture", plots.save(figure, path), soft_wrap=True)


def data(
    name: tyro.conf.Positional[Literal["digits", "multi-mnist", "sprites"]],
    out: tyro.conf.Positional[Path],
    scenes: SceneConfig,
    part: Literal["train", "test"] = "train",
    data_dir: DataDir = None,
) -> None:
    """Compose scenes and write them as an .npz: images, counts, labels and boxes.

    Args:
        name: What the scenes are made of.
        out: The file, a new one.
        scenes: How scenes are composed.
        part: Which digits: those to train with, or the held-out ones.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import console
    from airjax.data import make
    from airjax.data.dataset import save_dataset

    if out.exists():
        raise InputError("out", "must be a new file (nothing is overwritten)", out)
    if not out.parent.is_dir():
        raise InputError("out", "must be in an existing folder", out)
    made = make(name, part, scenes, data_dir)
    save_dataset(made, out)
    console.print(f"{len(made)} scenes of {name} ({part} part): {out}", soft_wrap=True)


def import_pyro(
    file: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    image_size: tuple[int, int] | None = None,
    model_steps: Annotated[int, tyro.conf.arg(aliases=("-t",))] = ModelConfig.model_steps,
    z_pres_prior: float = ModelConfig.z_pres_prior,
    likelihood_sd: float = LIKELIHOOD_SD,
    non_linearity: NonLinearity = ModelConfig.non_linearity,
    decoder_output_bias: float = ModelConfig.decoder_output_bias,
    decoder_output_use_sigmoid: bool = ModelConfig.decoder_output_use_sigmoid,
    baseline_scalar: float = ModelConfig.baseline_scalar,
) -> None:
    """Take over the weights of Pyro's AIR example. The flags say what weights do not tell.

    Args:
        file: The state_dict as .npz; as .pt where torch is installed.
        out: Folder for a run with this model, a new one.
        image_size: Height and width, where images are not square.
        model_steps: T.
        z_pres_prior: k, the prior's ratio p(n + 1) / p(n).
        likelihood_sd: Standard deviation of a pixel.
        non_linearity: Of all hidden layers.
        decoder_output_bias: Added to the decoder's output; 0 where Pyro had none.
        decoder_output_use_sigmoid: Squash the decoder's output to (0, 1).
        baseline_scalar: The baseline's value is its net's output times this.
    """
    from airjax.console import console
    from airjax.interop import from_pyro, load_pyro
    from airjax.runs import Run

    air = from_pyro(
        load_pyro(file),
        model_steps=model_steps,
        z_pres_prior=z_pres_prior,
        likelihood_sd=likelihood_sd,
        non_linearity=non_linearity,
        decoder_output_bias=decoder_output_bias,
        decoder_output_use_sigmoid=decoder_output_use_sigmoid,
        baseline_scalar=baseline_scalar,
        **({"image_size": image_size} if image_size else {}),
    )
    run = Run.create(Config(TrainConfig(data="multi-mnist"), air.model.config), out)
    run.save(air.model, air.guide)
    console.print("model     ", run.path / "model", soft_wrap=True)


def predict(
    run: tyro.conf.Positional[Path],
    folder: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(metavar="PATH")],
    format: Literal["csv", "json", "coco"] = "csv",
    draw: bool = False,
    strict: bool = False,
    num_paths: int = 5,
    second_look: bool = False,
    seed: int = 0,
) -> None:
    """Find the objects in a folder of pictures: tables that other tools read, and drawings.

    Args:
        run: Folder of the run whose model it is.
        folder: Folder of pictures (and folders below it), or one picture.
        out: Folder for the results, a new one, outside of the folder of pictures.
        format: csv is objects.csv and counts.csv; json is everything; coco is detection results and
            the list of images that they belong to.
        draw: Also draw each picture with the boxes of its objects, and a contact sheet.
        strict: Stop at a picture that cannot be read, and do not leave it out.
        num_paths: K, the paths of the guide that counts are averaged over.
        second_look: Hold the count that the guide reads against one object more, by how well the
            model explains the picture with each: more objects that lie close are told apart. Many
            times slower.
        seed: Of the guide's samples.
    """
    from airjax.air import AIR
    from airjax.console import console
    from airjax.output import write_predictions
    from airjax.runs import Run

    at_least_1(num_paths=num_paths)
    a_seed(seed)
    opened = Run.open(run)
    air = AIR.of(*opened.load(), num_paths, second_look, seed)
    if not folder.exists():
        raise InputError("folder", "must be a folder of pictures, or a picture", folder)
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError("out", "must not be in the folder of pictures", out)
    told = write_predictions(air, folder, opened.config.pictures, out, format, draw, strict)
    _tell_broken(told.broken, strict)
    console.print(
        f"{told.images} pictures, {told.objects} objects, {told.seconds:.1f} s "
        f"({told.images / told.seconds:.0f} pictures/s)"
    )
    for path in told.paths:
        console.print("written   ", path, soft_wrap=True)


def _tell_broken(broken: list[Any], strict: bool) -> None:
    """Names files that cannot be read."""
    for path, why in broken:
        if strict:
            raise InputError(str(path), f"cannot be read ({why})")
        print(f"airjax: left out: {path} cannot be read ({why})", file=sys.stderr)


def _with_steps(steps: int) -> ModelConfig:
    at_least_1(steps=steps)
    return ModelConfig(model_steps=steps)
