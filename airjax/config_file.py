"""Settings in files: JSON as runs have it, read back exactly; and YAML, of which JSON is a part."""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import cattrs

from airjax.config import Config
from airjax.errors import InputError

_Kind = TypeVar("_Kind")
_converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=False)


def _exactly(value: Any, kind: type) -> Any:
    """Replaces cattrs' ``kind(value)``, which makes 2 of 2.7 and True of "false"."""
    if type(value) is kind or (kind is float and type(value) is int):
        return kind(value)
    raise TypeError(f"must be {kind.__name__}, got {value!r}")


def _number_or_name(value: Any, _: Any) -> float | str:
    return value if isinstance(value, str) else _exactly(value, float)


for _kind in (int, float, bool, str):
    _converter.register_structure_hook(_kind, _exactly)
_converter.register_structure_hook(float | Literal["auto", "learned"], _number_or_name)
_converter.register_structure_hook(
    float | Literal["picture"] | None,
    lambda value, kind: value if value is None else _number_or_name(value, kind),
)


def to_json(config: Any) -> str:
    """A config as JSON; `from_json` returns an equal one."""
    return json.dumps(_converter.unstructure(config), indent=2) + "\n"


def from_json(kind: type[_Kind], text: str, name: str) -> _Kind:
    """The config that `to_json` wrote.

    Args:
        kind: of the config.
        text: JSON.
        name: of the file, for errors.

    Raises:
        InputError: if the text is not JSON, has an unknown field, or a value that breaks a rule.
    """
    try:
        return _structured(kind, json.loads(text), name)
    except json.JSONDecodeError as error:
        raise InputError(name, f"must hold the settings of a run: {error}") from None


def read_settings(path: Path) -> Config:
    """The settings in a YAML file: a run's config.json, or any part of one. Settings that are not
    in the file have their defaults.

    Raises:
        InputError: if the file cannot be read, is not YAML, has an unknown field, or a value that
            breaks a rule.
    """
    from ruamel.yaml import YAML, YAMLError  # slow to import

    try:
        found = YAML(typ="safe", pure=True).load(path)
    except OSError as error:
        raise InputError("config", f"cannot be read ({error.strerror})", path) from None
    except UnicodeDecodeError:
        raise InputError("config", "must be a text file in UTF-8", path) from None
    except YAMLError as error:
        raise InputError(str(path), f"must be YAML: {' '.join(str(error).split())}") from None
    return _structured(Config, found or {}, str(path))


def differing(a: Config, b: Config) -> list[str]:
    """Names of the settings in which two runs differ, with their values in ``a`` and ``b``."""
    return [
        f"{name} ({value} and {getattr(getattr(b, part), name)})"
        for part in vars(a)
        for name, value in vars(getattr(a, part)).items()
        if value != getattr(getattr(b, part), name)
    ]


def _structured(kind: type[_Kind], found: Any, name: str) -> _Kind:
    try:
        return _converter.structure(found, kind)
    except InputError as error:
        raise InputError(f"{name}: {error.argument}", error.rule, error.value) from None
    except (ValueError, TypeError, KeyError, AttributeError, cattrs.errors.CattrsError) as error:
        raise InputError(name, f"must hold the settings of a run: {error}") from None
