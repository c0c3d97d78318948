"""Rules for settings and arguments.

Each function takes values by name and raises `airjax.errors.InputError` for one that breaks its
rule.
"""

import math
import operator
from typing import Any

import numpy as np

from airjax.errors import InputError


def fields(config: Any, *names: str) -> dict[str, Any]:
    """Fields of a config, by name."""
    return {name: getattr(config, name) for name in names}


def at_least_1(**values: int | tuple[int, ...]) -> None:
    """Checks integers and tuples of integers."""
    for name, value in values.items():
        if min(value, default=1) < 1 if isinstance(value, tuple) else value < 1:
            raise InputError(name, "must be at least 1", value)


def whole(**values: Any) -> int:
    """Checks that a value is a whole number of any type, and returns it as an int."""
    ((name, value),) = values.items()
    try:
        return operator.index(value)
    except TypeError:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            return int(value)
        raise InputError(name, "must be a whole number", value) from None


def positive(**values: float) -> None:
    """Checks for finite numbers above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(name, "must be positive", value)


def finite(**values: float) -> None:
    """Checks for finite numbers."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(name, "must be finite", value)


def one_of(known: tuple[str, ...], **values: str) -> None:
    """Checks for known names."""
    for name, value in values.items():
        if value not in known:
            raise InputError(name, f"must be one of {', '.join(known)}", value)


def a_seed(seed: int) -> None:
    """Checks a random seed: 32 bits."""
    if not 0 <= seed < 2**32:
        raise InputError("seed", "must be 0 to 2**32 - 1", seed)
