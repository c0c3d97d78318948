"""airjax computes in 32 bits, whatever the process has chosen for its other programs."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def in_32_bits() -> Iterator[None]:
    """A context, or a decorator, in which ``jax_enable_x64`` is off: weights are float32."""
    with jax.enable_x64(False):
        yield
