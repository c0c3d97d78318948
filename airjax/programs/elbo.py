"""Estimators of the ELBO: NumPyro `ELBO` objects for `numpyro.infer.SVI` with any optimiser."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro import handlers
from numpyro.infer.elbo import ELBO

from airjax.programs.guide import Site, all_on


def log_count_probs(p: Float[Array, "T N"]) -> Float[Array, "T+1 N"]:
    """log q(n), n = 0 .. T, of the count n, given the presence probabilities p_t.

    q(n) = prod_{t < n} p_t (1 - p_n); for n = T without the last factor.
    """
    tiny = jnp.finfo(p.dtype).tiny
    zeros = jnp.zeros((1, p.shape[1]))
    reached = jnp.concatenate([zeros, jnp.cumsum(jnp.log(jnp.maximum(p, tiny)), axis=0)])
    # in float32 p rounds to 1: the bound keeps the logarithm finite
    stopped = jnp.log1p(-jnp.minimum(p, 1 - jnp.finfo(p.dtype).epsneg))
    return reached + jnp.concatenate([stopped, zeros])


class CountELBO(ELBO):
    """The ELBO with the count summed out exactly.

    Presence only changes from 1 to 0, so z_pres is a count n in 0 .. T, and the guide's path with
    every step on contains the paths of all counts. With one draw of that path,

        sum_n q(n) [ log p(x | z_{<n}) + log p(n) + sum_{t<n} (log p(z_t) - log q(z_t)) - log q(n) ]

    is an unbiased estimate of the ELBO. Its only randomness is reparameterised Gaussian noise, so
    its gradient needs no score function and no baseline. The model is replayed under every count;
    what does not depend on the count (all decoding) is computed once in the compiled program.

    Programs must name their sites as `airjax.programs.model` and `airjax.programs.guide` do (with
    the step t at the end of the name), have one plate of images, and mask the sites of absent
    objects. Deterministic sites ``y_t`` are taken from the full path. The cost is T decodes and
    T + 1 likelihoods; the enumeration of T Bernoulli variables would need 2^T.
    """

    can_infer_discrete = True

    def loss_with_mutable_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, rng_key, param_map, model, guide, *args, **kwargs
    ):
        """See `numpyro.infer.elbo.ELBO`: the negative ELBO, summed over images."""
        elbo = self.per_image(rng_key, param_map, model, guide, *args, **kwargs).sum()
        return {"loss": -elbo, "mutable_state": None}

    def per_image(
        self, rng_key: PRNGKeyArray, param_map: dict[str, Any], model, guide, *args, **kwargs
    ) -> Float[Array, " N"]:
        """One draw of each image's ELBO, from ``num_particles`` paths."""

        def path(key: PRNGKeyArray):
            return counts_on_a_path(key, param_map, model, guide, *args, **kwargs)

        if self.num_particles == 1:
            paths = jax.tree.map(lambda x: x[None], path(rng_key))
        else:
            keys = jax.random.split(rng_key, self.num_particles)
            paths = self.vectorize_particles_fn(path, keys)
        log_q_n, log_w_n, scale = paths
        return self.bound(log_q_n, log_w_n, scale[0])

    def bound(
        self,
        log_q_n: Float[Array, "K counts N"],
        log_w_n: Float[Array, "K counts N"],
        scale: Float[Array, ""],
    ) -> Float[Array, " N"]:
        """The ELBO from K paths.

        Args:
            log_q_n: log q(n).
            log_w_n: log w_n = log p(x, n, z) - log q(z), already scaled.
            scale: of the log-probabilities, set by handlers and the plate.
        """
        return (jnp.exp(log_q_n) * (log_w_n - scale * log_q_n)).sum(1).mean(0)


class CountIWAE(CountELBO):
    """The importance-weighted bound (Burda et al., 2016) on K paths, the count summed out.

    With w_n of `CountELBO`, the mean over K paths is an unbiased estimate of p(x, n). So, for any
    q(n) made from these paths (here the mean of theirs),

        sum_n q(n) [ log (1/K sum_k w_n^k) - log q(n) ]

    is a lower bound of log p(x) in the mean (Jensen's inequality), with gradients for the count's
    probabilities too; K = 1 is the ELBO.
    """

    def bound(self, log_q_n, log_w_n, scale):
        """The bound from all K paths."""
        log_q_n = jax.nn.logsumexp(log_q_n, axis=0) - math.log(len(log_q_n))
        log_w_n = jax.nn.logsumexp(log_w_n / scale, axis=0) - math.log(len(log_w_n))
        return scale * (jnp.exp(log_q_n) * (log_w_n - log_q_n)).sum(0)


class ScoreELBO(ELBO):
    """The ELBO of sampled counts, its gradient with score functions and baselines (NVIL; Mnih and
    Gregor, 2014), as in the tutorial.

    In addition to the gradient through reparameterised noise, each z_pres_t contributes that of

        stop_gradient(C_t - b_t) log q(z_pres_t)

    The downstream cost C_t contains all terms that z_pres_t influences: the likelihood and
    log p - log q of steps t and later. b_t is the guide's deterministic site ``baseline_t`` (0 if
    there is none). It is trained with the squared error (C_t - b_t)^2, which has no gradient for
    any other parameter. The value of the loss is the negative ELBO.
    """

    can_infer_discrete = True

    def loss_with_mutable_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, rng_key, param_map, model, guide, *args, **kwargs
    ):
        """See `numpyro.infer.elbo.ELBO`: the negative ELBO, summed over images."""

        def one_particle(key: PRNGKeyArray) -> Float[Array, ""]:
            return _score_loss(key, param_map, model, guide, *args, **kwargs)

        if self.num_particles == 1:
            loss = one_particle(rng_key)
        else:
            keys = jax.random.split(rng_key, self.num_particles)
            loss = self.vectorize_particles_fn(one_particle, keys).mean()
        return {"loss": loss, "mutable_state": None}


ESTIMATORS: dict[str, type[ELBO]] = {"count": CountELBO, "score": ScoreELBO, "iwae": CountIWAE}


def counts_on_a_path(
    key: PRNGKeyArray, param_map: dict[str, Any], model, guide, *args, **kwargs
) -> tuple[Float[Array, "counts N"], Float[Array, "counts N"], Float[Array, ""]]:
    """What `CountELBO.bound` needs of one path with every step on, in nats.

    Args:
        key: of the path.
        param_map: parameters of both programs.
        model: generative program.
        guide: its guide.
        args: of both programs, the images first; so are ``kwargs``.

    Returns:
        log q(n) and log w_n = log p(x, n, z_{<n}) - log q(z_{<n}) for each count n, ``[T + 1, N]``
        both; and the scale of q's sites.
    """
    path = handlers.seed(handlers.substitute(guide, param_map), key)
    q = _trace(handlers.substitute(path, substitute_fn=all_on), *args, **kwargs)
    steps = _steps(q)
    model = handlers.substitute(model, param_map)
    values = _values(q)
    full = _trace(handlers.substitute(model, values), *args, **kwargs)

    p = jnp.stack([q[f"z_pres_{t}"]["fn"].probs for t in range(steps)])
    # of place and code of each step, given that the step is on: [T, N]
    log_q_z = jnp.stack([_log_prob(*_step_sites(q, t)) for t in range(steps)])
    log_p_z = jnp.stack([_log_prob(*_step_sites(full, t)) for t in range(steps)])

    # objects are given to the replays as values: otherwise the backward pass would go through the
    # decoder once for each count
    objects = {f"y_{t}": full[f"y_{t}"]["value"] for t in range(steps) if f"y_{t}" in full}
    once = {site["name"] for t in range(steps) for site in _step_sites(full, t)}

    @jax.jit  # traced once, not once for each count
    def log_p_rest(on: Float[Array, " T"]) -> Float[Array, " N"]:
        """log p(n) and the likelihood, where the first n steps are on."""
        count = {f"z_pres_{t}": jnp.full(p.shape[1:], on[t]) for t in range(steps)}
        replay = _trace(handlers.substitute(model, {**values, **objects, **count}), *args, **kwargs)
        sites = (site for name, site in replay.items() if name not in once)
        return _log_prob(*(site for site in sites if site["type"] == "sample"))

    # not vmapped: with constant counts, XLA turns the canvases into running sums
    counts = np.tri(steps + 1, steps, -1)  # row n: the first n steps are on
    log_p_rests = jnp.stack([log_p_rest(on) for on in counts])
    scale = jnp.asarray(1.0 if q["z_pres_0"]["scale"] is None else q["z_pres_0"]["scale"])
    return log_count_probs(p), log_p_rests + counts @ (log_p_z - log_q_z), scale


def _score_loss(
    key: PRNGKeyArray, param_map: dict[str, Any], model, guide, *args, **kwargs
) -> Float[Array, ""]:
    """One draw of `ScoreELBO`, summed over images."""
    detached = jax.lax.stop_gradient
    q = _trace(handlers.seed(handlers.substitute(guide, param_map), key), *args, **kwargs)
    p = _trace(
        handlers.substitute(handlers.substitute(model, param_map), _values(q)), *args, **kwargs
    )
    steps = range(_steps(q))
    presence = [_log_prob(q[f"z_pres_{t}"]) for t in steps]
    of_steps = {f"z_pres_{t}" for t in steps}
    of_steps |= {site["name"] for t in steps for site in _step_sites(q, t)}
    likelihood = _log_prob(
        *(site for name, site in p.items() if site["type"] == "sample" and name not in of_steps)
    )
    # log p - log q of each step; z_pres has a score function instead of a path derivative
    terms = [
        _log_prob(p[f"z_pres_{t}"], *_step_sites(p, t))
        - _log_prob(*_step_sites(q, t))
        - detached(presence[t])
        for t in steps
    ]
    elbo = likelihood + sum(terms)
    score, error, downstream = jnp.array(0.0), jnp.array(0.0), likelihood
    for t in reversed(steps):
        downstream = downstream + terms[t]
        cost = detached(downstream)
        baseline = q[f"baseline_{t}"]["value"] if f"baseline_{t}" in q else jnp.array(0.0)
        score += detached(cost - baseline) * presence[t]
        error += (cost - baseline) ** 2
    surrogate = (error - elbo - score).sum()
    return -detached(elbo.sum()) + surrogate - detached(surrogate)


def _trace(program, *args, **kwargs) -> dict[str, Site]:
    return handlers.trace(program).get_trace(*args, **kwargs)


def _steps(trace: dict[str, Site]) -> int:
    return sum(name.startswith("z_pres_") for name in trace)


def _values(trace: dict[str, Site]) -> dict[str, Array]:
    return {name: site["value"] for name, site in trace.items() if site["type"] == "sample"}


def _step_sites(trace: dict[str, Site], t: int) -> list[Site]:
    """The sampled sites of step t, without its presence."""
    return [
        site
        for name, site in trace.items()
        if site["type"] == "sample" and name.endswith(f"_{t}") and not name.startswith("z_pres_")
    ]


def _log_prob(*sites: Site) -> Float[Array, " N"]:
    """The log-probability of traced sites for each image, with the scale of handlers and plates."""
    terms = (
        (1.0 if site["scale"] is None else site["scale"]) * site["fn"].log_prob(site["value"])
        for site in sites
    )
    return sum(terms, start=jnp.array(0.0))
