"""The command ``airjax runs``, and the run that a command line names."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Column, Table
from tyro.conf import Positional, arg

from airjax.config import RUNS
from airjax.console import console, report
from airjax.errors import InputError
from airjax.models import READY, folder_of

if TYPE_CHECKING:
    from airjax.training.runs import Run

LAST = "last"
SecondLook = Literal["doubtful", "all", "none"]
LOOKS: dict[str, bool | None] = {"doubtful": None, "all": True, "none": False}
RunPath = Annotated[Positional[Path], arg(metavar="RUN")]


def opened(path: Path, argument: str = "run") -> "Run":
    """The run in a folder; for ``last``, the newest one in runs/; or a ready model. A run in the
    working directory goes before the ready model of its name, which is reported.

    Raises:
        InputError: if there is none; it names ``argument``.
    """
    from airjax.training.runs import Run  # slow to import

    if str(path) in READY:
        return _ready(str(path), argument)
    if str(path) != LAST or path.exists():
        try:
            return Run.open(path, argument)
        except InputError as error:
            if path.exists() or error.argument != argument:
                raise
            near = difflib.get_close_matches(str(path), (LAST, *READY), 1)
            hint = f"; perhaps you meant {near[0]}" if near else ""
            rule = f"{error.rule}, {LAST}, or a ready model ({', '.join(READY)}){hint}"
            raise InputError(argument, rule, path) from None
    found = Run.all(RUNS)
    if not found:
        raise InputError(argument, f"must be the folder of a run: {RUNS}/ has none", path)
    return found[-1]


def _ready(name: str, argument: str) -> "Run":
    from airjax.training.runs import Run

    here = Path(name)
    if (here / "config.json").exists():
        report(f"{name} is the run in this directory, not the ready model", to_stderr=True)
        return Run.open(here, argument)
    if here.exists():
        report(f"{name} is the ready model: what has this name in this directory is not a run",
               to_stderr=True)  # fmt: skip
    return Run.open(folder_of(name), argument)


def trained(path: Path, argument: str = "run") -> "Run":
    """As `opened`, with a trained model. Reports on stderr if its training has collapsed.

    Raises:
        InputError: if there is none; it names ``argument``.
    """
    run = opened(path, argument)
    try:
        collapsed = run.collapsed
    except InputError as error:
        if error.argument != "run":
            raise
        raise InputError(argument, error.rule, error.value) from None
    if collapsed is not None:
        why = f"the training of {run.path} has collapsed ({collapsed})"
        report(f"{why}: what it finds is probably wrong", to_stderr=True)
    return run


def runs(folder: Annotated[Positional[Path], arg(metavar="FOLDER")] = RUNS) -> None:
    """List the runs in a folder: data, steps, score, state.

    Args:
        folder: Folder of runs.
    """
    from airjax.training.runs import Run

    found = Run.all(folder)
    if not found:
        raise InputError("FOLDER", "must be a folder with runs in it", folder)
    names = ("run", "data", "steps", "held-out score", "state")
    table = Table(*(Column(name, overflow="fold") for name in names))  # names can be copied
    for run in found:
        try:
            steps, score = _steps(run), _score(run)
        except InputError:
            steps, score = "unreadable", "unreadable"
        table.add_row(run.path.name, Path(run.config.train.data).name, steps, score, run.state)
    console.print(table)
    report(f"ready models: {', '.join(READY)} (airjax predict {READY[0]} PICTURES)")


def _steps(run: "Run") -> str:
    rows = run.rows() if (run.path / "metrics.jsonl").exists() else []
    step = rows[-1]["step"] if rows else 0
    return f"{step:,} of {run.config.train.num_steps:,}"


def _score(run: "Run") -> str:
    """The final score, or the last one during training."""
    report: dict[str, Any] = {}
    if (run.path / "evaluation.json").exists():
        report = run.report()
    elif (run.path / "metrics.jsonl").exists():
        evaluated = [row for row in run.rows() if "test_elbo" in row]
        report = {k.removeprefix("test_"): v for k, v in evaluated[-1].items()} if evaluated else {}
    if "count_accuracy" in report:
        return f"{100 * report['count_accuracy']:.2f} % of counts"
    return f"ELBO {report['elbo']:.1f}" if "elbo" in report else "none yet"
