"""Traced functions kept on disk, so that a second run compiles (or finds compiled) what an earlier
one has traced.

XLA's programs are kept by JAX itself, but it finds them only once a function has been traced, which
takes longer than reading the program. Only the command line keeps traces: it sets the folder in
``AIRJAX_TRACES``. In an interpreter anything may have been replaced since the trace.
"""

import functools
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from jax import export
from jaxtyping import PyTree

from airjax import storage

FOLDER = "AIRJAX_TRACES"
TRACED = ("airjax", "equinox", "jax", "jaxlib", "numpyro", "optax")  # whose code is in a trace


def traced(
    function: Callable[..., PyTree], args: tuple[PyTree, ...], out: PyTree, *captured: object
) -> Callable[..., PyTree]:
    """The function, to be compiled by `jax.jit`; its trace is read from the folder, or kept there.
    The function itself where there is no folder, or none that can be written.

    A trace is found again if the code of all modules of ``TRACED`` is the same (their files' paths,
    sizes and times), the variables of JAX and XLA, the backend, and what is given here.

    Args:
        function: of pytrees of arrays.
        args: arguments like those it will be called with.
        out: a pytree of the structure that it returns.
        captured: all else that the trace depends on, as values whose ``repr`` tells them.
    """
    if not os.environ.get(FOLDER):
        return function
    leaves, structure = jax.tree.flatten(args)
    shapes = [jax.typeof(leaf) for leaf in leaves]
    files, code = _loaded()
    asked = (code, function.__qualname__, str(structure), shapes, captured)
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:32]
    path = Path(os.environ[FOLDER]) / f"{function.__name__}-{digest}"

    def flat(*leaves):
        return jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves)))

    try:
        found = export.deserialize(bytearray(path.read_bytes()))
    except Exception:  # there is none, or it is damaged: whatever flatbuffers raises
        if _code(files) != code:  # somebody edits: this is not the code that was loaded
            return function
        try:
            found = export.export(jax.jit(flat))(*shapes)
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.write_file(path, bytes(found.serialize()))
        except Exception:  # what cannot be exported or written is traced as ever
            return function

    def again(*args):
        return jax.tree.unflatten(jax.tree.structure(out), found.call(*jax.tree.leaves(args)))

    again.__name__ = function.__name__
    return again


@functools.cache
def _loaded() -> tuple[list[str], str]:
    """The files of the code that traces are made with, and their hash, when first asked."""
    modules = [m for name, m in list(sys.modules.items()) if name.partition(".")[0] in TRACED]
    files = sorted({file for m in modules if (file := getattr(m, "__file__", None))})
    return files, _code(files)


def _code(files: list[str]) -> str:
    """A hash of all that the same arguments' trace depends on."""
    stats = [(file, os.stat(file)) for file in files if os.path.exists(file)]
    code = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    variables = sorted(item for item in os.environ.items() if item[0].startswith(("JAX_", "XLA_")))
    asked = (sys.version, jax.default_backend(), variables, code)
    return hashlib.sha256(repr(asked).encode()).hexdigest()


if os.environ.get(FOLDER):  # at once: a file that is edited later is not what was loaded
    _loaded()
