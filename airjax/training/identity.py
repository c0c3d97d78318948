"""The identity of a run: the fingerprint of its images, and the environment it was started in."""

import hashlib
import os
import platform
import re
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import numpyro
from jaxlib.version import __version__ as jaxlib_version

import airjax
from airjax.data.dataset import Dataset
from airjax.inference.blocks import cores

# where compiled programs are kept does not change them
WITHOUT_EFFECT = re.compile("CACHE|_PERSISTENT_|_LOG")


def fingerprint(images: Dataset) -> dict[str, Any]:
    """Shape and sha256 of images; of streamed images those of the sample, and the identity of their
    source."""
    digest = hashlib.sha256(np.ascontiguousarray(images.images).data).hexdigest()
    streamed = {} if images.source is None else {"streamed": images.source.identity()}
    return {"shape": list(images.images.shape), "sha256": digest} | streamed


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {
        "airjax": airjax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib_version,
        "numpyro": numpyro.__version__,
    }


def environment(streamed: bool = False) -> dict[str, Any]:
    """Versions, and whatever else the last bits of a training depend on; ``streamed`` is whether
    its images are."""
    found: dict[str, Any] = versions() | {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "backend": jax.default_backend(),
        "cores": cores(),  # XLA divides work by it
    }
    if streamed:
        found["grain"] = version("grain")  # it shuffles
    names = sorted(name for name in os.environ if name.startswith(("JAX_", "XLA_")))
    return found | {name: os.environ[name] for name in names if not WITHOUT_EFFECT.search(name)}
