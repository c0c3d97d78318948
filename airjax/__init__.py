"""Attend, Infer, Repeat (Eslami et al., 2016) as probabilistic programs in NumPyro.

Count, locate and describe the objects in images, without labels. The whole public API: `AIR`, an
estimator with scikit-learn's conventions; `Session`, a run in a folder that can be resumed; and
`Config`, the settings of both. The parts, in the paper's order: `airjax.programs.model`,
`airjax.programs.guide`, `airjax.programs.elbo`, `airjax.training.trainer`.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airjax.air import AIR as AIR
    from airjax.config import Config as Config
    from airjax.training.session import Session as Session

__version__ = "0.2.0"

_PUBLIC = {"AIR": "airjax.air", "Config": "airjax.config", "Session": "airjax.training.session"}


def __getattr__(name: str):  # so that `import airjax` is quick
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
