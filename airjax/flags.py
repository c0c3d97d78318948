"""Flags out of a function's signature (tyro), and every complaint about them in one line."""

import contextlib
import functools
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import tyro


def parse(command: Callable[..., None], prog: str, arguments: list[str]) -> Callable[[], None]:
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
    return fail(_one_line(complaint.getvalue()))


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
    return f"{flag(checked[1])} {checked[2]}" if checked else message


def flag(argument: str) -> str:
    """An argument's flag, if it has one; files are named as they are."""
    return "--" + argument.replace("_", "-") if argument.isidentifier() else argument


def fail(message: str) -> NoReturn:
    """Ends the program as every mistake of a user ends it."""
    print(f"airjax: {' '.join(message.splitlines())}", file=sys.stderr)
    raise SystemExit(2)
