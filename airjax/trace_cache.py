"""Traced functions on disk: a second start does not trace them again.

JAX keeps compiled programs on disk itself, but looks them up by the traced function, and tracing
takes longer than reading the program. Only the command line keeps traces: it sets the folder in
``AIRJAX_TRACES``. In an interpreter any function may have been replaced since the trace was made.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export
from jaxtyping import PyTree

from airjax import storage

FOLDER = "AIRJAX_TRACES"
# packages whose code a trace contains
TRACED = ("airjax", "equinox", "jax", "jaxlib", "numpyro", "optax")


def traced(
    function: Callable[..., PyTree], args: tuple[PyTree, ...], out: PyTree, *captured: object
) -> Callable[..., PyTree]:
    """The function, to be compiled by `jax.jit`, with its trace read from the folder or kept there.

    The key of a trace is made of the code of all modules of ``TRACED`` (paths, sizes and times of
    their files), the environment variables of JAX and XLA, the backend, and what is given here.

    Args:
        function: of pytrees of arrays.
        args: arguments like those it will be called with.
        out: a pytree of the structure that it returns.
        captured: everything else that enters the trace, as values with a complete ``repr`` or as
            the result of `described`; None where that is not known.

    Returns:
        the function itself where there is no folder, it cannot be written, or something that enters
        the trace is not known.
    """
    if not os.environ.get(FOLDER) or None in captured:
        return function
    leaves, structure = jax.tree.flatten(args)
    shapes = [jax.typeof(leaf) for leaf in leaves]
    files, code = _loaded()
    asked = (code, jax.default_backend(), function.__qualname__, str(structure), shapes, captured)
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
    path = Path(os.environ[FOLDER]) / f"{function.__name__}-{digest}"

    def flat(*leaves):
        return jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves)))

    try:
        found = export.deserialize(bytearray(path.read_bytes()))
    except Exception:  # missing or damaged: flatbuffers raises anything
        if _code(files) != code:  # files were edited since they were loaded
            return function
        try:
            found = export.export(jax.jit(flat))(*shapes)
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.write_file(path, bytes(found.serialize()))
        except Exception:  # cannot be exported or written
            return function

    def again(*args):
        return jax.tree.unflatten(jax.tree.structure(out), found.call(*jax.tree.leaves(args)))

    again.__name__ = function.__name__
    return again


def described(thing: object) -> str | None:
    """What an object is, for `traced`: its class and attributes, as far as these are plain values
    or code of ``TRACED``. None if there is anything else, whose code might change unnoticed."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return repr(thing)
    code: Any = thing if hasattr(thing, "__qualname__") else type(thing)
    name = f"{code.__module__}.{code.__qualname__}"
    if code.__module__.partition(".")[0] not in TRACED or "<locals>" in name:
        return None
    attributes = {} if code is thing else {k: described(v) for k, v in sorted(vars(thing).items())}
    return None if None in attributes.values() else f"{name}({attributes})"


@functools.cache
def _loaded() -> tuple[list[str], str]:
    """The files of the code that traces are made of, and their hash when first called."""
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] in TRACED]
    files = sorted({file for m in modules if (file := getattr(m, "__file__", None))})
    return files, _code(files)


def _code(files: list[str]) -> str:
    """A hash of the code and the variables that a trace depends on. No device is used for it: other
    processes may have to be connected before."""
    stats = [(file, os.stat(file)) for file in files if os.path.exists(file)]
    code = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    variables = sorted(item for item in os.environ.items() if item[0].startswith(("JAX_", "XLA_")))
    asked = (sys.version, variables, code)
    return hashlib.sha256(repr(asked).encode()).hexdigest()


if os.environ.get(FOLDER):  # now, since a file may be edited after it was loaded
    _loaded()
