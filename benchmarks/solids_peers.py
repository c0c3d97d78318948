"""What `paper_three_d.py` compares with: a supervised twin of the guide, and the paper's estimator
of the gradient (Eslami et al., 2016, section 3.3: finite differences through the renderer, score
functions for what is discrete)."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from numpyro import handlers
from numpyro.infer.elbo import ELBO

from airjax.programs.networks import MLP
from airjax.three_d.elbo import KindELBO
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig, SolidsModel, drawn, pose_of
from airjax.three_d.scenes import SOFTNESS, SolidScenes
from airjax.three_d.shapes import SYMMETRY
from airjax.three_d.training import Report, Schedule, minimised

STEPS = (0.005, 0.005, 0.015)  # of the finite differences of x, y, angle


def log_q_of_truth(
    guide: SolidsGuide,
    images: Float[Array, "N H W 3"],
    counts: Int[Array, " N"],
    kinds: Int[Array, "N T"],
    poses: Float[Array, "N T 3"],
) -> Float[Array, " N"]:
    """log q of the true count, poses and kinds. At each step the guide has to report the nearest
    true object to where it looks, of those that it has not reported."""
    rows, n = jnp.arange(len(images)), kinds.shape[1]
    nearest, done = rows, jnp.arange(n)[None] >= counts[:, None]

    def label(site: dict[str, Any]) -> Array | None:
        nonlocal nearest, done
        name, _, t = site["name"].rpartition("_")
        if name == "place":
            away = jnp.linalg.norm(poses[..., :2] - site["value"][:, None], axis=-1)
            nearest = jnp.argmin(jnp.where(done, jnp.inf, away), axis=1)
            done = done | jax.nn.one_hot(nearest, n, dtype=bool)
        if name == "z_pres":
            return (counts > int(t)).astype(float)
        if name == "z_what":
            return kinds[rows, nearest]
        if name == "z_where":  # of all kinds the same; all but one are masked
            of_kinds = (len(images), len(guide.config.kinds), 4)
            return jnp.broadcast_to(_where(poses[rows, nearest])[:, None], of_kinds)
        return None

    path = handlers.substitute(handlers.seed(guide, jax.random.key(0)), substitute_fn=label)
    trace = handlers.trace(path).get_trace(images)
    sites = (site for site in trace.values() if site["type"] == "sample")
    return sum((s["fn"].log_prob(s["value"]) for s in sites), start=jnp.zeros(len(images)))


def supervised(
    config: SolidsConfig,
    data: SolidScenes,
    background: Float[Array, "H W 3"],
    schedule: Schedule,
    report: Report | None = None,
) -> SolidsGuide:
    """A guide of the same size, trained for as many steps on the labels of all scenes."""
    images, *labels = (jnp.asarray(part) for part in data)

    def loss(guide: SolidsGuide, rows: Array, step: Array, key: Array) -> Float[Array, ""]:
        batch = images[rows].astype(float) / 255
        return -log_q_of_truth(guide, batch, *(part[rows] for part in labels)).sum()

    return minimised(loss, config, len(images), background, schedule, report)


class NumericalModel(SolidsModel):
    """The model, whose renderer is differentiated numerically (central differences)."""

    def drawn(self, z_where, softness):
        """Objects with an explicit derivative by x, y and angle."""

        @jax.custom_jvp
        def images(pose):
            return drawn(self.config, _where(pose), softness)

        @images.defjvp
        def _(primals, tangents):
            (pose,), (change,) = primals, tangents
            slope = 0.0
            for i, step in enumerate(STEPS):
                ahead, behind = (images(pose.at[..., i].add(sign * step)) for sign in (1, -1))
                slope += (ahead - behind) / (2 * step) * change[..., i, None, None, None]
            return images(pose), slope

        return images(pose_of(z_where))


def _where(pose: Float[Array, "*N 3"]) -> Float[Array, "*N 4"]:
    turn = SYMMETRY * pose[..., 2:]
    return jnp.concatenate([pose[..., :2], jnp.cos(turn), jnp.sin(turn)], axis=-1)


class SampledELBO(ELBO):
    """The ELBO of sampled counts and kinds, its gradient with score functions. The baseline of a
    scene is the mean ELBO of the other scenes of the batch, so that the gradient is unbiased."""

    can_infer_discrete = True

    def loss_with_mutable_state(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, rng_key, param_map, model, guide, *args, **kwargs
    ):
        """See `numpyro.infer.elbo.ELBO`: the negative ELBO, summed over scenes."""
        path = handlers.seed(handlers.substitute(guide, param_map), rng_key)
        q = _sampled(handlers.trace(path).get_trace(*args, **kwargs))
        program = handlers.substitute(
            handlers.substitute(model, param_map), {name: s["value"] for name, s in q.items()}
        )
        p = _sampled(handlers.trace(program).get_trace(*args, **kwargs))
        log_q = {name: s["fn"].log_prob(s["value"]) for name, s in q.items()}
        elbo = sum(s["fn"].log_prob(s["value"]) for s in p.values()) - sum(log_q.values())
        discrete = sum(v for name, v in log_q.items() if not name.startswith("z_where"))
        value = jax.lax.stop_gradient(elbo)
        others = (value.sum() - value) / (len(value) - 1)
        score = ((value - others) * discrete).sum()
        loss = -(elbo.sum() + score - jax.lax.stop_gradient(score))
        return {"loss": loss, "mutable_state": None}


def _sampled(trace: dict[str, Any]) -> dict[str, Any]:
    return {name: site for name, site in trace.items() if site["type"] == "sample"}


def compare_estimators(
    guides: dict[str, SolidsGuide],
    images: Float[Array, "N H W 3"],
    draws: int,
    exploration: float = 0.05,
) -> dict[str, dict[str, dict[str, float]]]:
    """Of each guide, and of three estimators of the ELBO's gradient by its weights, on the same
    scenes: the variance, relative to the squared length of the exact estimator's mean; the mean's
    component along that one, in its length (1 without bias), with its standard error; and seconds
    a draw. All guides have the same settings."""
    guide = next(iter(guides.values()))
    exact = SolidsModel(guide.config, guide.background)
    numerical = NumericalModel(guide.config, guide.background)
    estimators = {
        "sums and gradients (ours)": (KindELBO(), exact),
        "score functions and gradients": (SampledELBO(), exact),
        "score functions and finite differences (the paper's)": (SampledELBO(), numerical),
    }
    drawn = {
        name: gradients(estimator, model, list(guides.values()), images, draws, exploration)
        for name, (estimator, model) in estimators.items()
    }
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for i, when in enumerate(guides):
        mean = drawn["sums and gradients (ours)"][i][0].mean(0)
        squared, rows[when] = np.square(mean).sum(), {}
        for name, found in drawn.items():
            samples, seconds = found[i]
            along = samples @ mean / squared
            rows[when][name] = {
                "variance": samples.var(0, ddof=1).sum() / squared,
                "component": along.mean(),
                "standard_error": along.std(ddof=1) / np.sqrt(draws),
                "seconds": seconds,
            }
    return rows


def gradients(
    estimator: ELBO,
    model: SolidsModel,
    guides: list[SolidsGuide],
    images: Float[Array, "N H W 3"],
    draws: int,
    exploration: float,
) -> list[tuple[Float[np.ndarray, "draws weights"], float]]:
    """Of each guide, draws of the gradient of the negative ELBO by its weights; seconds a draw."""

    @jax.jit
    def gradient(network: MLP, key: Array) -> Float[Array, " weights"]:
        def loss(network):
            parameters = {"guide$params": network}
            return estimator.loss(key, parameters, model, guides[0], images, SOFTNESS, exploration)

        return ravel_pytree(jax.grad(loss)(network))[0]

    keys, found = jax.random.split(jax.random.key(1), draws), []
    gradient(guides[0].network, keys[0]).block_until_ready()
    for guide in guides:
        begin = time.perf_counter()
        samples = [np.asarray(gradient(guide.network, key), np.float64) for key in keys]
        found.append((np.stack(samples), (time.perf_counter() - begin) / draws))
    return found
