"""The optimiser, and the schedules: learning rate, prior on the count, exploration."""

from collections.abc import Hashable
from typing import Any, cast

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float
from optax.contrib import ScheduleFreeState, schedule_free, schedule_free_eval_params

from airjax.config import Config

WARMUP = 100  # steps in which the learning rate rises, at most a tenth of all
EXPLORING = 0.75  # share of the steps in which the guide explores counts


def optimizer(config: Config, score: bool, draft: int = 0) -> optax.GradientTransformation:
    """Schedule-free Adam (Defazio et al., 2024, arXiv:2405.15682), or Adam for score functions.

    In schedule-free Adam the learning rate is constant after a warm-up. The iterates are z. Their
    mean over all of training, x, is what images are read with (`mean_params`). Gradients are taken
    at y = 0.9 x + 0.1 z: these are NumPyro's parameters.

    With score functions, schedule-free Adam settled on one count for nearly all images. There, Adam
    is used: after the warm-up its rate falls to zero along a cosine. The baseline has a constant
    rate of its own, since it has to follow the other networks.

    Args:
        config: of the run.
        score: whether the estimator uses score functions.
        draft: steps before the training begins anew.
    """
    steps, rate = config.train.num_steps - draft, config.train.peak_learning_rate
    warmup = min(WARMUP, steps // 10)
    if score:
        falling = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps)
        adams: dict[Hashable, optax.GradientTransformation] = {
            "baseline$params": optax.adam(config.estimator.baseline_learning_rate),
            "other": optax.adam(falling),
        }
        return optax.partition(
            adams, lambda params: {name: name if name in adams else "other" for name in params}
        )
    rising = optax.warmup_constant_schedule(0.0 if warmup else rate, rate, warmup)
    # Adam without its first moment. optax's schedule_free_adamw also reads the weights, for decay.
    rms = optax.rmsprop(rising, decay=0.999, eps_in_sqrt=False, bias_correction=True)
    return schedule_free(rms, rising)


def mean_params(optim_state: Any) -> dict[str, Any]:
    """x of `optimizer`, unconstrained; the parameters themselves with score functions."""
    _, (params, state) = optim_state
    if not isinstance(state, ScheduleFreeState):
        return params
    return cast(dict[str, Any], schedule_free_eval_params(state, params))


def annealed(config: Config, step: ArrayLike) -> float | Array:
    """z_pres_prior at a step, which may be traced: from its first value to ``anneal_prior_to``."""
    first, anneal = config.model.z_pres_prior, config.anneal
    last = anneal.anneal_prior_to
    done = (jnp.asarray(step) - anneal.anneal_prior_begin) / anneal.anneal_prior_duration
    done = jnp.clip(done, 0, 1)
    values = {
        "none": first,
        "lin": (1 - done) * first + done * last,
        "exp": first * (last / first) ** done,
    }
    return values[anneal.anneal_prior]


def exploration(config: Config, step: ArrayLike, draft: int = 0) -> Float[Array, ""]:
    """The guide's epsilon at a step, which may be traced: from 1 down to a floor, and 0 at the end;
    the same again where the training begins anew after some steps of a draft.

    With the floor, the windows of every count keep learning. Without it, an image whose first
    window is empty and whose second one holds the object stays so for ever: nothing moves the first
    window to the object.
    """
    step, is_draft = jnp.asarray(step), jnp.asarray(step) < draft
    steps = jnp.where(is_draft, draft, config.train.num_steps - draft)
    step = jnp.where(is_draft, step, step - draft)
    falling = 1 - step / config.estimator.exploration_steps
    explores = step < EXPLORING * steps
    return jnp.where(explores, jnp.maximum(falling, config.estimator.exploration_floor), 0.0)
