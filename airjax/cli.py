"""The command line: ``airjax train | evaluate | predict | plot | sample | demo ...``.

Only this file turns arguments into calls and errors into exit statuses.
"""

import dataclasses
import functools
import gc
import inspect
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import airjax
from airjax import commands
from airjax.config import ModelConfig
from airjax.demo.command import demo
from airjax.errors import InputError
from airjax.flags import fail, flag, parse

COMMANDS: dict[str, Callable[..., None]] = {
    "train": commands.train,
    "evaluate": commands.evaluate,
    "predict": commands.predict,
    "plot": commands.plot,
    "sample": commands.sample,
    "data": commands.data,
    "import-pyro": commands.import_pyro,
    "demo": demo,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; exits with status 2 and one line where the user can put it right."""
    alone = arguments is None  # not called by a program
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        print(f"airjax {airjax.__version__}")
        return
    if arguments[0] not in COMMANDS:
        fail(f"the command must be one of {', '.join(COMMANDS)}, got {arguments[0]}")
    try:
        _start_fast(alone)
        if arguments[0] == "train" and arguments[1:2] and not arguments[1].startswith("-"):
            arguments = ["train", "--data", *arguments[1:]]
        command = _with_defaults(COMMANDS[arguments[0]], arguments[1:])
        parse(command, f"airjax {arguments[0]}", arguments[1:])()
    except InputError as error:
        fail(error.message(flag(error.argument)))
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"{error.filename or 'a file'} cannot be used ({error.strerror or error})")
    except MemoryError:
        fail("there is not enough memory for such sizes")
    except RuntimeError as error:  # XLA's
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail("there is not enough memory for such sizes")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _start_fast(alone: bool) -> None:
    """Has JAX keep all that it compiles in airjax's cache, and airjax what it traces if nothing but
    the command runs in this process, for a second run to start at once; and has Python look for
    garbage less often, since tracing makes many objects that stay."""
    from airjax.data.cache import cache_dir

    if alone:
        os.environ.setdefault("AIRJAX_TRACES", str(cache_dir() / "traces"))

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    gc.set_threshold(100_000)


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


def _with_defaults(command: Callable[..., None], arguments: list[str]) -> Callable[..., None]:
    """Defaults that depend on other flags: ``train --resume RUN`` has the run's settings, so that
    what differs in the end is what the user gave; else ``--guide`` depends on the data; and
    ``data`` composes each kind of scene in its own way."""
    if command is commands.data:
        from airjax.data import SCENES

        names = [argument for argument in arguments if argument in SCENES]
        return _with(command, scenes=SCENES[names[0]]) if names else command
    if command is not commands.train:
        return command
    found = re.search(r"(?:^|\0)--resume[=\0]([^\0]+)", "\0".join(arguments))
    if not found:
        return _with(command, model=ModelConfig(guide="auto"))
    from airjax.runs import Run

    config = Run.open(Path(found[1]), "resume").config
    parts = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return _with(command, **parts)


def _with(command: Callable[..., None], **defaults: Any) -> Callable[..., None]:
    """The command with other defaults, and its own help."""
    changed = functools.partial(command, **defaults)
    changed.__doc__ = command.__doc__
    return changed
