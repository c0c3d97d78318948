"""The command line: ``airjax train | evaluate | predict | plot | sample | demo ...``.

Only this file turns arguments into calls and errors into exit statuses.
"""

import difflib
import gc
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

import airjax
from airjax.cli import commands
from airjax.cli.check import check
from airjax.cli.demo import demo
from airjax.cli.flags import fail, flag, parse
from airjax.cli.predict import predict
from airjax.cli.runs import runs
from airjax.cli.track import track
from airjax.cli.train import train_command
from airjax.errors import InputError
from airjax.training import process_failure


def completion(shell: Annotated[Positional[Literal["bash", "zsh"]], arg(metavar="SHELL")]) -> None:
    """Print a script that completes airjax's commands and flags in a shell.

    Args:
        shell: bash or zsh.
    """
    parse({**COMMANDS, "train": train_command([])}, ["--tyro-print-completion", shell])


COMMANDS: dict[str, Callable[..., Any]] = {
    "train": train_command,  # makes the command, whose defaults depend on the arguments
    "evaluate": commands.evaluate,
    "predict": predict,
    "track": track,
    "check": check,
    "plot": commands.plot,
    "runs": runs,
    "demo": demo,
    "sample": commands.sample,
    "data": commands.data,
    "import-pyro": commands.import_pyro,
    "completion": completion,
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; a mistake of the user ends it with one line and status 2."""
    try:
        _main(arguments)
    except BaseException as error:
        process_failure.end(error)
        raise


def _main(arguments: list[str] | None) -> None:
    from_shell = arguments is None
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _run(arguments or ["--help"], from_shell)
    except InputError as error:
        fail(error.message(flag(error.argument)))
    except BrokenPipeError:  # the reader of the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        fail(f"{error.filename or 'a file'} cannot be used ({error.strerror or error})")
    except MemoryError:
        fail("there is not enough memory for such sizes")
    except (RuntimeError, AssertionError) as error:  # XLA's
        if "RESOURCE_EXHAUSTED" in str(error):
            fail("there is not enough memory for such sizes")
        if _has_a_device():
            raise
        fail(f"JAX_PLATFORMS must name a device of this machine, got {os.environ['JAX_PLATFORMS']}")
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _has_a_device() -> bool:
    """Whether JAX finds the device that the environment asks for."""
    if not os.environ.get("JAX_PLATFORMS"):
        return True
    import jax

    try:
        return bool(jax.devices())
    except (RuntimeError, AssertionError):
        return False


def _run(arguments: list[str], from_shell: bool) -> None:
    first = arguments[0]
    if sys.platform == "win32":
        raise InputError("airjax", "runs on Linux and macOS; on Windows, use WSL")
    if first == "--version":
        print(f"airjax {airjax.__version__}")
        return
    if first not in COMMANDS and not first.startswith("-"):
        near = difflib.get_close_matches(first, COMMANDS, 1)
        hint = f"; perhaps you meant {near[0]}" if near else ""
        fail(f"the command must be one of {', '.join(COMMANDS)}, got {first}{hint}")
    _start_fast(from_shell)
    train = train_command(arguments[1:] if first == "train" else [])
    parse({**COMMANDS, "train": train}, arguments)()


def _start_fast(from_shell: bool) -> None:
    """Prepares a fast start: JAX keeps compiled programs in airjax's cache, and airjax keeps traces
    if only the command runs in this process. On a CPU, LLVM optimises less: compilation takes about
    0.7 of the time, and programs are as fast. Python collects garbage less often, since tracing
    makes many objects that stay."""
    from airjax.data.cache import cache_dir

    if from_shell:
        os.environ.setdefault("AIRJAX_TRACES", str(cache_dir() / "traces"))
        if find_spec("jax_plugins") is None:  # JAX's packages for other devices are in there
            os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir() / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    gc.set_threshold(100_000)
