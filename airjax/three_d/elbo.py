"""The ELBO with the count and all kinds summed out exactly."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from numpyro import handlers

from airjax.programs import elbo
from airjax.programs.guide import all_on


class KindELBO(elbo.CountELBO):
    """`airjax.programs.elbo.CountELBO` for z_what_t of K kinds, which are summed out as well.

    On a path of the guide, kinds are independent, so the sum over the K^n combinations of n kinds
    follows from ``kinds_t = q(z_what_t)`` in the model (`airjax.three_d.model`), at the cost of n K
    objects. Only the poses are random, one for each kind, and they are reparameterised. (The order
    in which objects hide each other is that of their mean positions; with all kinds of an object at
    nearly one place, it is that of each combination.)

    Args:
        temperature: factor of the kinds' log p - log q; 1 is the ELBO. With a high one, all kinds
            stay probable, and their poses are learned: the optimum is the posterior to the power of
            1 / temperature (deterministic annealing; Ueda and Nakano, 1998).
    """

    def __init__(self, temperature: ArrayLike = 1.0):
        super().__init__()
        self.temperature = temperature

    def per_image(
        self, rng_key: PRNGKeyArray, param_map: dict[str, Any], model, guide, *args, **kwargs
    ) -> Float[Array, " N"]:
        """One draw of each image's ELBO."""
        path = handlers.seed(handlers.substitute(guide, param_map), rng_key)
        path = handlers.substitute(path, substitute_fn=all_on)
        q = handlers.trace(path).get_trace(*args, **kwargs)
        steps = range(sum(name.startswith("z_pres_") for name in q))
        probs = [q[f"z_what_{t}"]["fn"].base_dist.probs for t in steps]
        values = {name: site["value"] for name, site in q.items() if site["type"] == "sample"}
        values |= {f"kinds_{t}": probs[t] for t in steps}

        def replay(more: dict[str, Array]) -> dict[str, Any]:
            program = handlers.substitute(handlers.substitute(model, param_map), values | more)
            return handlers.trace(program).get_trace(*args, **kwargs)

        full = replay({})
        objects = {f"y_{t}": full[f"y_{t}"]["value"] for t in steps}
        log_p = []
        for n in range(len(steps) + 1):
            on = {f"z_pres_{t}": jnp.full(len(probs[0]), float(t < n)) for t in steps}
            trace = replay(objects | on)
            names = [f"z_pres_{t}" for t in steps] + ["spread", "obs"]
            log_p.append(sum(_log_prob(trace[name]) for name in names))
        gains = [
            (probs[t] * (_poses(full, t) - _poses(q, t))).sum(-1)
            + self.temperature * _kind(full, probs[t], t)
            for t in steps
        ]
        first = jnp.tri(len(steps) + 1, len(steps), -1)  # row n: the first n steps
        log_w_n = jnp.stack(log_p) + first @ jnp.stack(gains)
        log_q_n = elbo.log_count_probs(jnp.stack([q[f"z_pres_{t}"]["fn"].probs for t in steps]))
        return self.bound(log_q_n[None], log_w_n[None], jnp.array(1.0))


def _log_prob(site: dict[str, Any]) -> Float[Array, " N"]:
    return site["fn"].log_prob(site["value"])


def _poses(trace: dict[str, Any], t: int) -> Float[Array, "N K"]:
    """log p of the pose of each kind."""
    site = trace[f"z_where_{t}"]
    return site["fn"].base_dist.base_dist.log_prob(site["value"])


def _kind(p: dict[str, Any], probs: Float[Array, "N K"], t: int) -> Float[Array, " N"]:
    """The mean of log p - log q of z_what_t under q."""
    log_p = jnp.log(p[f"z_what_{t}"]["fn"].base_dist.probs)
    return (probs * (log_p - jnp.log(jnp.maximum(probs, 1e-30)))).sum(-1)
