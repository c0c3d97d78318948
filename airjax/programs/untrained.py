"""Programs with freshly drawn networks."""

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
from jaxtyping import ArrayLike, UInt32

from airjax.checks import one_of
from airjax.config import ModelConfig
from airjax.programs.attend import AttendGuide
from airjax.programs.difference import DifferenceGuide
from airjax.programs.guide import BasicGuide, Guide
from airjax.programs.likelihood import Likelihood
from airjax.programs.model import Model
from airjax.programs.networks import Baseline, Decoder, GuideNetworks
from airjax.trace_cache import traced

GUIDES: dict[str, type[Guide]] = {
    "attend": AttendGuide,
    "window": Guide,
    "difference": DifferenceGuide,
    "basic": BasicGuide,
}


def untrained(config: ModelConfig, seed: int, baseline: bool = False) -> tuple[Model, Guide]:
    """Model and guide with freshly drawn networks.

    Args:
        config: of both programs; its guide must be decided.
        seed: of the networks.
        baseline: whether the guide has a baseline.

    Raises:
        InputError: if the guide is "auto".
    """
    one_of(tuple(GUIDES), guide=config.guide)
    return _drawn(config, baseline)(np.uint32(seed))  # as an array: one compilation for all seeds


@cache
def _drawn(config: ModelConfig, baseline: bool) -> Callable[..., tuple[Model, Guide]]:
    """`untrained` of a seed, compiled."""

    def drawn(seed: UInt32[ArrayLike, ""]) -> tuple[Model, Guide]:
        keys = jax.random.split(jax.random.key(seed), 2)
        networks, likelihood = GuideNetworks(config, key=keys[1]), Likelihood(config)
        bl = Baseline(config, key=jax.random.fold_in(keys[1], 1)) if baseline else None
        model = Model(config, Decoder(config, key=keys[0]), likelihood)
        guide = GUIDES[config.guide](config, networks, likelihood, model.decoder, bl)
        return model, guide

    seed = np.uint32(0)
    return jax.jit(traced(drawn, (seed,), jax.eval_shape(drawn, seed), config, baseline))
