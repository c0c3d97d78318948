"""The command ``airjax demo``."""

import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from airjax import commands
from airjax.config import Config, ModelConfig
from airjax.errors import InputError

if TYPE_CHECKING:
    from airjax.runs import Run

RUNS = Path("runs")
MINUTES = "about two minutes"


def demo(
    run: tyro.conf.Positional[Path | None] = None,
    host: str = "127.0.0.1",
    port: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    train: bool = False,
    data_dir: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
) -> None:
    """Draw on a page in the browser and see what a trained model sees.

    Args:
        run: Folder of the run; the newest finished one in runs/ unless given.
        host: Address to listen on; 0.0.0.0 lets other machines see the page.
        port: Port to listen on; the first free one from 7860 on unless given.
        train: Where there is no finished run in runs/, train the default one first, without asking.
        data_dir: Folder with MNIST's files.
    """
    if find_spec("gradio") is None:
        raise InputError("airjax demo", "needs gradio: pip install 'airjax[demo]'")
    if port is not None and not 0 < port < 2**16:
        raise InputError("port", "must be 1 to 65535", port)
    from airjax.console import console
    from airjax.demo.exhibit import Exhibit
    from airjax.demo.server import check_address, serve
    from airjax.runs import Run

    check_address(host, port)
    opened = newest(train, data_dir) if run is None else Run.open(run)
    console.print(f"reading held-out images with {opened.path}", soft_wrap=True)
    serve(Exhibit.of(opened, data_dir), host, port)


def newest(train: bool, data_dir: Path | None) -> "Run":
    """The newest finished run in runs/; one that is trained now where there is none and the user
    wants that.

    Raises:
        InputError: if there is none, and the user does not want that or cannot be asked.
    """
    from airjax.runs import Run

    found = Run.newest(RUNS)
    if found is None and (train or agreed()):
        config = Config(model=ModelConfig(guide="auto"))
        parts = {field.name: getattr(config, field.name) for field in fields(config)}
        commands.train(**parts, data_dir=data_dir)
        found = Run.newest(RUNS)
    if found is None:
        rule = f"must be given, or --train, to train the default first ({MINUTES})"
        raise InputError("run", f"{rule}: {RUNS}/ has no finished run")
    return found


def agreed() -> bool:
    """Asks on a terminal whether to train first; where there is none, nobody can agree."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    answer = input(f"No finished run in {RUNS}/. Train the default first ({MINUTES})? [Y/n] ")
    return answer.strip().lower() in ("", "y", "yes")
