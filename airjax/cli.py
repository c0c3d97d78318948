"""The command line: ``airjax train | evaluate | plot | sample | data``.

Only this file turns flags into calls and errors into exit statuses; what is heavy to import is
imported where it is used.
"""

import contextlib
import functools
import inspect
import io
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import tyro

import airjax
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.data.scenes import SceneConfig
from airjax.errors import InputError

Out = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]
DataDir = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]


def train(
    train: TrainConfig,
    model: ModelConfig,
    out: Out = None,
    data_dir: DataDir = None,
) -> None:
    """Train AIR on images, without labels; then score it on held-out ones and draw what it found.

    Args:
        train: The training.
        model: The model and the guide.
        out: Folder for the run, a new one; runs/<data>-<time> unless given.
        data_dir: Folder with MNIST's files (or with a folder mnist that has them).
    """
    from airjax import data, plots
    from airjax.console import TrainingProgress, console, report_tables
    from airjax.infer import read
    from airjax.runs import Run
    from airjax.train import Trainer

    train_data = data.load(train.data, "train", data_dir)
    held_out = data.load(train.data, "test", data_dir)
    model = model.with_image_size(train_data.image_shape)
    run = Run.create(Config(train, model), out)
    console.print(
        f"training on {len(train_data)} images of {train_data.name}, {train.num_steps} steps of "
        f"{train.batch_size}, seed {train.seed}; {len(held_out)} images held out",
        soft_wrap=True,
    )
    trainer = Trainer(run.config, train_data.images)
    state = trainer.init()
    with TrainingProgress(train) as progress:
        for after, row in trainer.run(state, held_out):
            state = after
            run.append(row)
            progress.show(row)
    programs = trainer.programs(state)
    run.save(*programs)
    report = _evaluate(programs, held_out)
    (run.path / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n")
    rows = run.rows()
    pictures = [
        plots.save(plots.curves(rows), run.figures / "curves.png"),
        plots.save(
            plots.reconstructions(held_out, read(*programs, held_out.images[:10])),
            run.figures / "reconstructions.png",
        ),
        plots.save(_prior_samples(programs[0], 10, train.seed), run.figures / "samples.png"),
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
        json_: Print JSON and nothing else.
        data_dir: Folder with MNIST's files.
    """
    from airjax.console import console, report_tables
    from airjax.runs import Run

    if num_paths < 1:
        raise InputError("num_paths", "must be at least 1", num_paths)
    _check_seed(seed)
    opened = Run.open(run)
    report = _evaluate(opened.load(), opened.data(data, part, data_dir), seed, num_paths)
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

    if n < 1:
        raise InputError("n", "must be at least 1", n)
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
    steps: Annotated[int | None, tyro.conf.arg(aliases=("--model-steps", "-t"))] = None,
    seed: int = 0,
    out: Out = None,
) -> None:
    """Draw scenes from the prior of a trained model, or of an untrained one.

    Args:
        run: Folder of the run; an untrained model of the default settings unless given.
        n: Number of scenes.
        steps: T of an untrained model.
        seed: Of the scenes (and of an untrained model's networks).
        out: The picture, a new file; samples.png (in the run's figures) unless given.
    """
    from airjax import plots
    from airjax.console import console
    from airjax.runs import Run
    from airjax.train import untrained

    if n < 1:
        raise InputError("n", "must be at least 1", n)
    _check_seed(seed)
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
    figure = _prior_samples(program, n, seed)
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


def _evaluate(programs: tuple[Any, Any], scenes: Any, seed: int = 0, num_paths: int = 10) -> dict:
    from airjax.metrics import evaluate

    return evaluate(*programs, scenes, seed, num_paths)


def _prior_samples(program: Any, n: int, seed: int) -> Any:
    import jax
    import numpy as np
    from numpyro import handlers

    from airjax import plots

    canvas = handlers.seed(program.prior, jax.random.key(seed))(program.decoder, n)
    return plots.images(list(np.asarray(canvas)))


def _with_steps(steps: int) -> ModelConfig:
    if steps < 1:
        raise InputError("steps", "must be at least 1", steps)
    return ModelConfig(model_steps=steps)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError("seed", "must be 0 to 2**32 - 1", seed)


COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
    "plot": plot,
    "sample": sample,
    "data": data,
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
        f"  {name:10}{(inspect.getdoc(f) or '').splitlines()[0]}" for name, f in COMMANDS.items()
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
