"""Paths of the guide on which every step is on."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro import handlers

from airjax.guide import Guide

Site = dict[str, Any]  # of a NumPyro trace


def all_on(site: Site) -> Array | None:
    """For ``handlers.substitute(substitute_fn=...)``: every z_pres_t is 1."""
    if not site["name"].startswith("z_pres_"):
        return None
    return jnp.ones(site["fn"].shape())


def at_mean(site: Site) -> Array | None:
    """Likewise, and every other latent is at its mean."""
    on = all_on(site)
    return site["fn"].mean if on is None and site["type"] == "sample" else on


def all_on_trace(
    guide: Guide, images: Float[Array, "N H W *C"], key: PRNGKeyArray, mean: bool = False
) -> dict[str, list[Site]]:
    """Sites of the guide with every z_pres_t 1, in the order of steps; at their means if asked."""
    path = handlers.seed(guide, key)
    path = handlers.substitute(path, substitute_fn=at_mean if mean else all_on)
    trace = handlers.trace(path).get_trace(images)
    steps = range(guide.config.model_steps)
    return {s: [trace[f"{s}_{t}"] for t in steps] for s in ("z_pres", "z_where", "z_what")}
