"""The command ``airjax demo``."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from airjax.cli.runs import trained
from airjax.config import RUNS
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.training.runs import Run

DURATION = "about two minutes"


def demo(
    run: Annotated[
        Positional[Path | None],
        arg(metavar="RUN", help_behavior_hint="(default: all finished runs in runs/)"),
    ] = None,
    host: str = "127.0.0.1",
    port: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: the first free one from 7860)")
    ] = None,
    train: bool = False,
    data_dir: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None,
) -> None:
    """Draw on a page in the browser and see what a trained model finds.

    Args:
        run: Folder of the run, of runs to choose from, or of a guide of solids; last is the newest
            run; or a ready model, blobs or digits.
        host: Address to listen on; 0.0.0.0 lets other machines see the page.
        port: Port to listen on.
        train: If runs/ has no finished run, train the default one first, without asking.
        data_dir: Folder with MNIST's files.
    """
    if find_spec("gradio") is None:
        raise InputError("airjax demo", "needs gradio: pip install 'airjax[demo]'")
    if port is not None and not 0 < port < 2**16:
        raise InputError("port", "must be 1 to 65535", port)
    from airjax.console import report
    from airjax.demo.run_choice import RunChoice
    from airjax.demo.server import check_address, serve
    from airjax.three_d.files import is_solids

    check_address(host, port)
    if run is not None and is_solids(run):
        from airjax.demo.solids import SolidsExhibit

        report(f"compiling the programs of {run}")
        serve(SolidsExhibit.of(run), host, port)
        return
    serve(RunChoice(offered(run, train, data_dir), data_dir), host, port)


def offered(path: Path | None, train: bool, data_dir: Path | None) -> "list[Run]":
    """The run at a path; or all finished runs in that folder, or in runs/, the newest first.

    Raises:
        InputError: if there is none.
    """
    if path is None:
        first, folder = newest(train, data_dir), RUNS
    elif not (path / "config.json").exists() and (found := finished(path)):
        first, folder = found[0], path
    else:
        return [trained(path)]
    return [trained(first.path), *finished(folder)[1:]]


def finished(folder: Path) -> "list[Run]":
    """The finished runs in a folder, the newest first."""
    from airjax.training.runs import Run

    found = [run for run in Run.all(folder) if run.is_finished]
    return sorted(found, key=lambda run: -(run.path / "model").stat().st_mtime_ns)


def newest(train: bool, data_dir: Path | None) -> "Run":
    """The newest finished run in runs/. If there is none, and the user agrees, one is trained.

    Raises:
        InputError: if there is none, and the user does not agree or cannot be asked.
    """
    from airjax.training.session import Session

    if found := finished(RUNS):
        return found[0]
    if not (train or agreed()):
        rule = f"must be given, or --train, to train the default first ({DURATION})"
        raise InputError("run", f"{rule}: {RUNS}/ has no finished run")
    session = Session.begin("digits", data_dir=data_dir)
    signum = session.train(ends_process=True)
    if signum is not None:
        raise SystemExit(128 + signum)
    return session.run


def agreed() -> bool:
    """Asks on a terminal whether to train first; without a terminal, nobody can agree."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    answer = input(f"No finished run in {RUNS}/. Train the default first ({DURATION})? [Y/n] ")
    return answer.strip().lower() in ("", "y", "yes")
