"""The smaller commands of the command line: functions whose arguments are the flags.

Modules that are slow to import are imported where they are used.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg
from tyro.extras import literal_type_from_choices

from airjax import storage
from airjax.checks import a_seed, at_least_1, positive
from airjax.cli.options import scene_options
from airjax.cli.runs import LOOKS, RunPath, SecondLook, trained
from airjax.config import LIKELIHOOD_SD, Config, ModelConfig, NonLinearity, TrainConfig
from airjax.data import DATASETS
from airjax.errors import InputError
from airjax.models import is_ready

DataDir = Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")]
Count = Annotated[int, arg(aliases=("-n",))]


def evaluate(
    run: RunPath,
    data: Annotated[
        str | None, arg(metavar="PICTURES", help_behavior_hint="(default: the run's own)")
    ] = None,
    part: Annotated[
        Literal["train", "test", "all"] | None,
        arg(metavar="{train,test,all}", help_behavior_hint="(default: test; all of other data)"),
    ] = None,
    num_paths: int = 10,
    seed: int = 0,
    bound: Literal["elbo", "iwae"] = "elbo",
    particles: int = 100,
    max_steps: Annotated[int | None, arg(metavar="INT", help_behavior_hint="")] = None,
    second_look: SecondLook = "doubtful",
    json_: Annotated[bool, arg(name="json")] = False,
    data_dir: DataDir = None,
) -> None:
    """Evaluate a run's model: bounds, counts, boxes and reconstructions.

    Args:
        run: Folder of the run; last is the newest one.
        data: Name of a data set, or path of an .npz, .npy or .zarr, or of a folder of pictures.
        part: Part of the data; test is what is held out.
        num_paths: K, the paths of the guide that are averaged over.
        seed: Of the guide's samples.
        bound: iwae adds the importance-weighted bound, which is tighter than the ELBO.
        particles: K of that bound.
        max_steps: Take further steps, beyond the T of training, until no image has a further
            object, at most this number in all.
        second_look: Images in which it is checked whether one of the objects found is two, by how
            well the model explains the image with each count: the doubtful ones, of which the
            objects leave 80 nats or more unexplained (none where objects hide others), all, or
            none. (The ELBO, and the count of one sample, stay the guide's.)
        json_: Print JSON and nothing else.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import console, report_tables
    from airjax.inference.infer import read, which_look
    from airjax.inference.metrics import importance_weighted_bound, score, settings
    from airjax.inference.steps import with_steps

    at_least_1(num_paths=num_paths, particles=particles)
    if max_steps is not None:
        at_least_1(max_steps=max_steps)
    a_seed(seed)
    found = trained(run)
    programs, scenes = found.load(), found.data(data, part, data_dir)
    if max_steps is not None:
        programs = with_steps(*programs, scenes.images, max_steps)
    look, title = which_look(programs[1], LOOKS[second_look]), "evaluating"
    reading = read(*programs, scenes.images, seed, num_paths, second_look=look, title=title)
    scores = score(reading, scenes)
    scores["settings"] = settings(reading, scenes, seed, num_paths, look)
    if bound == "iwae":
        values = importance_weighted_bound(*programs, scenes.images, particles, seed)
        scores["iwae"] = float(values.mean())
        scores["settings"]["particles"] = particles
    if json_:
        print(json.dumps(scores, indent=2))
    else:
        console.print(*report_tables(scores), sep="\n")


def plot(
    run: RunPath,
    data: Annotated[
        str | None, arg(metavar="PICTURES", help_behavior_hint="(default: the run's own)")
    ] = None,
    n: Count = 10,
    data_dir: DataDir = None,
) -> None:
    """Draw a run: its learning curves, and held-out images above their reconstructions.

    Args:
        run: Folder of the run; last is the newest one.
        data: Name of a data set, or path of an .npz, .npy or .zarr, or of a folder of pictures.
        n: Number of images; blank ones are passed over.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import report
    from airjax.inference import plots
    from airjax.inference.infer import read
    from airjax.training.runs import unused

    at_least_1(n=n)
    found = trained(run)
    scenes = found.data(data, None, data_dir)
    own = data is None or found.is_own(scenes)
    shown = scenes[plots.not_blank(scenes.images, n)]
    reading = read(*found.load(), shown.images)
    drawn = found.figures / "reconstructions.png"
    if not own:  # the run's own figure stays
        drawn = unused(found.figures, f"reconstructions-{scenes.name}", ".png")
    for figure, path in (
        (plots.curves(found.rows()), found.figures / "curves.png"),
        (plots.reconstructions(shown, reading, n), drawn),
    ):
        report(f"picture {plots.save(figure, path)}")


def sample(
    run: Annotated[Positional[Path | None], arg(metavar="RUN", help_behavior_hint="")] = None,
    n: Count = 5,
    what: Literal["scene", "object", "geometric"] = "scene",
    z_pres_prior: float = 1.0,
    steps: Annotated[
        int | None, arg(aliases=("--model-steps", "-t"), metavar="INT", help_behavior_hint="")
    ] = None,
    seed: int = 0,
    out: Annotated[
        Path | None,
        arg(metavar="PATH", help_behavior_hint="(default: samples.png, in the run's figures)"),
    ] = None,
) -> None:
    """Draw scenes from the prior of a trained model, or of an untrained one.

    Args:
        run: Folder of the run; last is the newest one. Without it, an untrained model of the
            default settings.
        n: Number of scenes.
        what: A scene of at most T objects, a single object, or a scene of the unbounded geometric
            prior, in which a further object has probability one half.
        z_pres_prior: k of the scenes' prior, the ratio p(n + 1) / p(n). With 1, all counts are
            equally likely; with the k of training, 0.01, nearly all scenes would be empty.
        steps: T of an untrained model.
        seed: Of the scenes (and of an untrained model's networks).
        out: The picture, a new file.
    """
    from airjax.console import report
    from airjax.inference import plots
    from airjax.programs.untrained import untrained

    at_least_1(n=n)
    a_seed(seed)
    positive(z_pres_prior=z_pres_prior)
    own = False
    if run is None:
        config = ModelConfig(guide="window", background="none")
        if steps is not None:
            at_least_1(steps=steps)
            config = replace(config, model_steps=steps)
        program, path = untrained(config, seed)[0], Path("samples.png")
    else:
        if steps is not None:
            raise InputError("steps", "must be left out for a trained model", steps)
        found = trained(run)
        own = not is_ready(found.path)  # its figures are the user's
        program = found.load()[0]
        path = found.figures / "samples.png" if own else Path("samples.png")
    if out is not None or not own:
        path = out or path
        if path.exists():
            raise InputError("out", "must be a new file (nothing is overwritten)", path)
    figure = plots.prior_samples(program, what, n, seed, z_pres_prior)
    if out is None and own:
        plots.save(figure, path)
    else:
        storage.write_new(path, plots.as_png(figure))
    report(f"picture {path}")


def data(
    name: str,
    out: Annotated[Positional[Path], arg(metavar="FILE")],
    scenes: Any,
    part: Literal["train", "test"] = "train",
    data_dir: DataDir = None,
) -> None:
    """Compose scenes and write them as an .npz: images, counts, labels and boxes.

    Args:
        name: What the scenes are made of.
        out: The file, a new .npz.
        scenes: How scenes are composed.
        part: Which digits or sprites: those to train with, or the held-out ones.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import report
    from airjax.data import make
    from airjax.data.dataset import as_npz

    if out.exists():
        raise InputError("FILE", "must be a new file (nothing is overwritten)", out)
    if not out.parent.is_dir():
        raise InputError("FILE", "must be in an existing folder", out)
    given = {key: value for key, value in vars(scenes).items() if value is not None}
    made = make(name, part, replace(DATASETS[name].scenes, **given), data_dir)
    storage.write_new(out, as_npz(made), "FILE")
    videos = "" if made.sequences is None else f" in {len(set(made.sequences.tolist()))} videos"
    report(f"{len(made)} scenes{videos} of {name} ({part} part): {out}")


# a data set or a setting that is added elsewhere is known here
NAMES: Any = literal_type_from_choices(list(DATASETS))
data.__annotations__ |= {
    "name": Annotated[Positional[NAMES], arg(metavar=f"{{{','.join(DATASETS)}}}")],
    "scenes": scene_options(),
}


def import_pyro(
    file: Annotated[Positional[Path], arg(metavar="FILE")],
    out: Annotated[Positional[Path], arg(metavar="RUN")],
    image_size: Annotated[tuple[int, int] | None, arg(help_behavior_hint="")] = None,
    model_steps: Annotated[int, arg(aliases=("-t",))] = ModelConfig.model_steps,
    z_pres_prior: float = ModelConfig.z_pres_prior,
    likelihood_sd: float = LIKELIHOOD_SD,
    non_linearity: NonLinearity = ModelConfig.non_linearity,
    decoder_output_bias: float = ModelConfig.decoder_output_bias,
    decoder_output_use_sigmoid: bool = ModelConfig.decoder_output_use_sigmoid,
    baseline_scalar: float = ModelConfig.baseline_scalar,
) -> None:
    """Import the weights of Pyro's AIR example. The flags are what weights do not contain.

    Args:
        file: The state_dict as .npz; as .pt if torch is installed.
        out: Folder for a run with this model, a new one.
        image_size: Height and width, if images are not square.
        model_steps: T.
        z_pres_prior: k, the prior's ratio p(n + 1) / p(n).
        likelihood_sd: Standard deviation of a pixel.
        non_linearity: Of all hidden layers.
        decoder_output_bias: Added to the decoder's output; 0 if Pyro had none.
        decoder_output_use_sigmoid: Squash the decoder's output to (0, 1).
        baseline_scalar: Factor of the baseline's output.
    """
    from airjax.console import report
    from airjax.interop import from_pyro, load_pyro
    from airjax.training.runs import Run

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
    report(f"model {run.path / 'model'}")
