"""The command line: ``airjax train | evaluate | plot | sample | data | import-pyro``.

Only this file turns flags into calls and errors into exit statuses; what is heavy to import is
imported where it is used.
"""

import contextlib
import functools
import inspect
import io
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

import airjax
from airjax.config import (
    AnnealConfig,
    Config,
    EstimatorConfig,
    ModelConfig,
    NonLinearity,
    ProgressConfig,
    TrainConfig,
)
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
    out: Out = None,
    data_dir: DataDir = None,
) -> None:
    """Train AIR on images, without labels; then score it on held-out ones and draw what it found.

    Args:
        train: What matters first.
        model: The model and the guide: prior, programs, sizes of the networks.
        estimator: The estimators of the ELBO's gradient.
        anneal: The prior on the count, changing while training.
        progress: What is told on the way.
        out: Folder for the run, a new one; runs/<data>-<time> unless given.
        data_dir: Folder with MNIST's files (or with a folder mnist that has them).
    """
    from airjax import data, plots
    from airjax.console import TrainingProgress, console, report_tables
    from airjax.runs import Run
    from airjax.train import Trainer

    Config(train, model, estimator, anneal, progress)  # its rules come before any work
    train_data = data.load(train.data, "train", data_dir)
    held_out = data.load(train.data, "test", data_dir)
    model = model.with_image_size(train_data.image_shape)
    run = Run.create(Config(train, model, estimator, anneal, progress), out)
    console.print(
        f"training on {len(train_data)} images of {train_data.name}, {train.num_steps} steps of "
        f"{train.batch_size}, seed {train.seed}; {len(held_out)} images held out",
        soft_wrap=True,
    )
    trainer = Trainer(run.config, train_data.images)
    state = trainer.init()
    with TrainingProgress(train) as shown:
        for after, row in trainer.run(state, {"test": held_out, "train": train_data}):
            state = after
            run.append(row)
            shown.show(row)
    programs = trainer.programs(state)
    run.save(*programs)
    reading, report = _evaluate(programs, held_out)
    (run.path / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    rows = run.rows()
    pictures = [
        plots.save(plots.curves(rows), run.figures / "curves.png"),
        plots.save(plots.reconstructions(held_out, reading), run.figures / "reconstructions.png"),
        plots.save(_samples(programs[0], "scene", 10, train.seed), run.figures / "samples.png"),
    ]
    console.print(*report_tables(report), sep="\n")
    seconds, compiling = rows[-1]["seconds"], rows[0]["compile_seconds"]
    console.print(f"trained for {seconds:.0f} s after {compiling:.0f} s of compilation")
    console.print("model     ", run.path / "model", soft_wrap=True)
    for picture in pictures:
        console.print("picture   ", picture, soft_wrap=True)


def evaluate(
    run: tyro.conf.Positional[Path],
    data: str | None = None,
    part: Literal["train", "test", "all"] | None = None,
    num_paths: int = 10,
    seed: int = 0,
    bound: Literal["elbo", "iwae"] = "elbo",
    particles: int = 100,
    max_steps: int | None = None,
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
        json_: Print JSON and nothing else.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import console, report_tables
    from airjax.infer import importance_weighted_bound, with_steps
    from airjax.runs import Run

    for name, value in (("num_paths", num_paths), ("particles", particles)):
        _check_at_least_1(name, value)
    _check_at_least_1("max_steps", 1 if max_steps is None else max_steps)
    _check_seed(seed)
    opened = Run.open(run)
    programs, scenes = opened.load(), opened.data(data, part, data_dir)
    if max_steps is not None:
        programs = with_steps(*programs, scenes.images, max_steps)
    _, report = _evaluate(programs, scenes, seed, num_paths)
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

    _check_at_least_1("n", n)
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

    _check_at_least_1("n", n)
    _check_seed(seed)
    if not 0 < z_pres_prior < math.inf:
        raise InputError("z_pres_prior", "must be positive", z_pres_prior)
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
    figure = _samples(program, what, n, seed, z_pres_prior)
    console.print("picture", plots.save(figure, path), soft_wrap=True)


def data(
    name: tyro.conf.Positional[Literal["digits", "multi-mnist"]],
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
    likelihood_sd: float = ModelConfig.likelihood_sd,
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


def _evaluate(
    programs: tuple[Any, Any], scenes: Any, seed: int = 0, num_paths: int = 10
) -> tuple[Any, dict[str, Any]]:
    """The reading of all scenes, and its scores."""
    from airjax.infer import read
    from airjax.metrics import score, settings

    reading = read(*programs, scenes.images, seed, num_paths)
    used = settings(reading, scenes, seed, num_paths)
    return reading, score(reading, scenes) | {"settings": used}


def _samples(program: Any, what: str, n: int, seed: int, k: float = 1.0) -> Any:
    """Pictures of a model's prior programs."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from numpyro import handlers

    from airjax import plots
    from airjax.model import geometric_like

    key, steps = jax.random.key(seed), program.config.model_steps
    prior = handlers.seed(program.prior, key)
    if what == "geometric":
        canvas, _ = program.geom_prior_batch(key, n, p=0.5, max_steps=100)
    elif what == "object":
        canvas = prior(program.decoder, n, jnp.eye(steps)[0])  # p_0 = 1, then 0
    else:
        canvas = prior(program.decoder, n, geometric_like(k, steps))
    return plots.images(list(np.asarray(canvas)))


def _with_steps(steps: int) -> ModelConfig:
    _check_at_least_1("steps", steps)
    return ModelConfig(model_steps=steps)


def _check_at_least_1(name: str, value: int) -> None:
    if value < 1:
        raise InputError(name, "must be at least 1", value)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError("seed", "must be 0 to 2**32 - 1", seed)


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "plot": plot,
    "sample": sample,
    "data": data,
    "import-pyro": import_pyro,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with status 2 and one line where the user can put it right."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        print(f"airjax {airjax.__version__}")
        return
    if arguments[0] not in COMMANDS:
        _fail(f"the command must be one of {', '.join(COMMANDS)}, got {arguments[0]}")
    try:
        _parse(COMMANDS[arguments[0]], f"airjax {arguments[0]}", arguments[1:])()
    except InputError as error:
        _fail(error.message(_flag(error.argument)))


def _overview() -> str:
    lines = [
        f"  {name:13}{(inspect.getdoc(f) or '').splitlines()[0]}" for name, f in COMMANDS.items()
    ]
    return "\n".join(
        [
            "airjax COMMAND ...",
            "",
            *lines,
            "",
            "airjax COMMAND --help lists the flags of a command.",
        ]
    )


def _parse(command: Callable[..., None], prog: str, arguments: list[str]) -> Callable[[], None]:
    """The call that the arguments ask for. tyro frames its complaints; we print them in a line."""

    @functools.wraps(command)
    def deferred(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(command, *args, **kwargs)

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _unwrapped(arguments):
            return tyro.cli(
                deferred, prog=prog, args=arguments, config=(tyro.conf.OmitArgPrefixes,)
            )
    except SystemExit as end:
        if end.code != 2:
            raise
    return _fail(_one_line(complaint.getvalue()))


@contextlib.contextmanager
def _unwrapped(arguments: list[str]) -> Iterator[None]:
    """Keeps tyro from breaking lines, except in the help."""
    if {"-h", "--help"} & set(arguments):
        yield
        return
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _one_line(framed: str) -> str:
    """What stands in tyro's frame between its title and its next rule, in one line.

    The frame is drawn with lines, or with blanks and hyphens where the encoding has no others.
    """
    texts = [line.strip("│| ") for line in framed.splitlines()[1:]]  # all but the title
    parts = [text if set(text) - set("─-╰╯") else "" for text in texts]  # rules are ""
    message = " ".join(itertools.takewhile(bool, itertools.dropwhile(lambda part: not part, parts)))
    checked = re.fullmatch(r"Error parsing \w+: (\w+) (.*)", message)  # an InputError of a config
    return f"{_flag(checked[1])} {checked[2]}" if checked else message


def _flag(argument: str) -> str:
    """An argument's flag, if it has one; files are named as they are."""
    return "--" + argument.replace("_", "-") if argument.isidentifier() else argument


def _fail(message: str) -> NoReturn:
    print(f"airjax: {message}", file=sys.stderr)
    raise SystemExit(2)
