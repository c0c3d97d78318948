"""tyro's parser, with every complaint in one line."""

import contextlib
import difflib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import tyro

CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
NAMES = {  # arguments that are spelled in another way on the command line
    "model_steps": "--max-objects",
    "run": "RUN",
    "folder": "PICTURES",
    "frames": "FRAMES",
}


def parse(commands: Mapping[str, Callable[..., Any]], arguments: list[str]) -> Callable[[], Any]:
    """The call that the arguments ask for, not yet made."""

    def deferred(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command, updated=())
        def bound(*args: Any, **kwargs: Any) -> Callable[[], Any]:
            return functools.partial(command, *args, **kwargs)

        return command if isinstance(command, type) else bound

    return parsed(
        lambda: tyro.extras.subcommand_cli_from_dict(
            {name: deferred(command) for name, command in commands.items()},
            prog="airjax",
            description="Count, locate and describe the objects in images, without labels.",
            args=arguments,
            config=CONFIG,
        ),
        arguments,
    )


def parsed(parser: Callable[[], Any], arguments: list[str]) -> Any:
    """What a call of tyro returns; its complaint, if it has one, ends the program in one line."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _unwrapped(arguments):
            return parser()
    except SystemExit as end:
        if end.code != 2:
            raise
    return fail(_one_line(complaint.getvalue(), arguments))


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


def _one_line(framed: str, arguments: list[str]) -> str:
    """The message in tyro's frame, and the flags that tyro suggests, in one line.

    The frame is drawn with lines, or with blanks and hyphens where the encoding has no others.
    Rules part it in sections: the message, suggestions, where to find help.
    """
    texts = [line.strip("│| ") for line in framed.splitlines()[1:]]  # without the title
    sections: list[list[str]] = [[]]
    for text in texts:
        if set(text) - set("─-╰╯"):
            sections[-1].append(text)
        elif sections[-1]:
            sections.append([])
    message = " ".join(sections[0])
    for section in sections[1:]:
        if section and section[0].startswith("Perhaps you meant"):
            message += _suggestion(section[1:], arguments)
    return message


def _suggestion(lines: list[str], arguments: list[str]) -> str:
    """The closest of the flags that tyro suggests, of the same command; "" where there is none."""
    flags: list[str] = []
    named: list[str] = []
    for line in lines:
        if line.startswith("-"):
            named = re.findall(r"--[\w-]+", line)
        elif line == f"in airjax {arguments[0]} --help":
            flags += named
    for argument in arguments:
        near = difflib.get_close_matches(argument, flags, 1)
        if argument not in flags and near:
            return f"; perhaps you meant {near[0]}"
    return ""


def flag(argument: str) -> str:
    """An argument as it is spelled on the command line; names of files are returned unchanged."""
    if argument in NAMES:
        return NAMES[argument]
    is_name = argument.isidentifier() and not argument.isupper()
    return "--" + argument.replace("_", "-") if is_name else argument


def fail(message: str) -> NoReturn:
    """Ends the program as every mistake of a user does: with one line and status 2."""
    print(f"airjax: {' '.join(message.splitlines())}", file=sys.stderr)
    raise SystemExit(2)
