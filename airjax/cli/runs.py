"""The command ``airjax runs``, and the run that a command line names."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich.table import Column, Table
from tyro.conf import Positional, arg

from airjax.config import RUNS
from airjax.console import console, report
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.training.runs import Run

LAST = "last"
SecondLook = Literal["doubtful", "all", "none"]
LOOKS: dict[str, bool | None] = {"doubtful": None, "all": True, "none": False}
RunPath = Annotated[Positional[Path], arg(metavar="RUN")]


def opened(path: Path, argument: str = "run") -> "Run":
    """The run in a folder, or, for ``last``, the newest one in runs/.

    Raises:
        InputError: if there is none; it names ``argument``.
    """
    from airjax.training.runs import Run  # slow to import

    if str(path) != LAST or path.exists():
        return Run.open(path, argument)
    found = Run.all(RUNS)
    if not found:
        raise InputError(argument, f"must be the folder of a run: {RUNS}/ has none", path)
    return found[-1]


def trained(path: Path) -> "Run":
    """As `opened`, with a trained model. Reports on stderr if its training has collapsed.

    Raises:
        InputError: if there is none.
    """
    run = opened(path)
    if run.collapsed is not None:
        why = f"the training of {run.path} has collapsed ({run.collapsed})"
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
