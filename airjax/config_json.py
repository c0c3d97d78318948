"""Settings as JSON, read back exactly or not at all (cattrs); and how those of two runs differ."""

import json
from typing import Any, Literal, TypeVar

import cattrs

from airjax.config import Config
from airjax.errors import InputError

_Kind = TypeVar("_Kind")
_converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)


def _exactly(value: Any, kind: type) -> Any:
    """Instead of cattrs' ``kind(value)``, which makes 2 of 2.7 and True of "false"."""
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise TypeError(f"must be {kind.__name__}, got {value!r}")


def _number_or_name(value: Any, _: Any) -> float | str:
    return value if isinstance(value, str) else _exactly(value, float)


for _kind in (int, float, bool, str):
    _converter.register_structure_hook(_kind, _exactly)
_converter.register_structure_hook(float | Literal["learned"], _number_or_name)


def to_json(config: Any) -> str:
    """A config as JSON; `from_json` gives an equal one back."""
    return json.dumps(_converter.unstructure(config), indent=2) + "\n"


def differing(a: Config, b: Config) -> list[str]:
    """Names of the settings in which two runs differ, with their values in ``a`` and ``b``."""
    return [
        f"{name} ({value} and {getattr(getattr(b, part), name)})"
        for part in vars(a)
        for name, value in vars(getattr(a, part)).items()
        if value != getattr(getattr(b, part), name)
    ]


def from_json(kind: type[_Kind], text: str, name: str) -> _Kind:
    """Reads what `to_json` wrote; ``name`` names the file in errors.

    Raises:
        InputError: if the text is no JSON, has an unknown field, or a value that breaks a rule.
    """
    try:
        return _converter.structure(json.loads(text), kind)
    except InputError as error:
        raise InputError(f"{name}: {error.argument}", error.rule, error.value) from None
    except (ValueError, TypeError, KeyError, AttributeError, cattrs.errors.CattrsError) as error:
        raise InputError(name, f"must hold the settings of a run: {error}") from None
