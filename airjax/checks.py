"""Rules that settings and arguments have to keep; what breaks one is named in one line.

Each takes values by their names, as the user spells them, and raises `airjax.errors.InputError`.
"""

import math
from typing import Any

from airjax.errors import InputError


def fields(config: Any, *names: str) -> dict[str, Any]:
    """Some fields of a config by name, to be checked."""
    return {name: getattr(config, name) for name in names}


def at_least_1(**values: int | tuple[int, ...]) -> None:
    """Integers, and tuples of them."""
    for name, value in values.items():
        if min(value, default=1) < 1 if isinstance(value, tuple) else value < 1:
            raise InputError(name, "must be at least 1", value)


def positive(**values: float) -> None:
    """Numbers above 0 and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(name, "must be positive", value)


def finite(**values: float) -> None:
    """Numbers that may have any finite value."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(name, "must be finite", value)


def one_of(known: tuple[str, ...], **values: str) -> None:
    """Names that are known."""
    for name, value in values.items():
        if value not in known:
            raise InputError(name, f"must be one of {', '.join(known)}", value)


def a_seed(seed: int) -> None:
    """A seed of random numbers, 32 bits."""
    if not 0 <= seed < 2**32:
        raise InputError("seed", "must be 0 to 2**32 - 1", seed)
