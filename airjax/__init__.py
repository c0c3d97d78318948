"""Attend, Infer, Repeat (Eslami et al., 2016) as probabilistic programs in NumPyro.

Count, locate and describe the objects in images, with no labels. The parts, in the paper's order:
`airjax.programs.model`, `airjax.programs.guide`, `airjax.programs.elbo`, `airjax.training.trainer`.
"""

__version__ = "0.1.0"


def __getattr__(name: str):  # so that `import airjax` is quick
    if name == "AIR":
        from airjax.air import AIR

        return AIR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
