"""More steps than in training: until no image has a further object."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8
from numpyro import handlers

from airjax.inference.infer import in_batches
from airjax.programs.guide import Guide, at_mean
from airjax.programs.model import Model

UNLIKELY = 1e-3  # where no image has a further object with this probability, reading ends


def with_steps(
    model: Model, guide: Guide, images: UInt8[np.ndarray, "N H W *C"], max_steps: int
) -> tuple[Model, Guide]:
    """The programs with as many steps as these images need, at most ``max_steps``: until, on the
    guide's mean path, the probability of a further object is below ``UNLIKELY`` in every image."""

    def one_batch(images, keys):
        steps = _steps_needed(guide, images, jnp.array(max_steps))
        return jnp.broadcast_to(steps, (len(images),))

    steps = max(1, int(in_batches(one_batch, images, 0).max()))
    config = dataclasses.replace(model.config, model_steps=steps)
    return dataclasses.replace(model, config=config), dataclasses.replace(guide, config=config)


@eqx.filter_jit
def _steps_needed(
    guide: Guide, images: UInt8[Array, "N H W *C"], max_steps: Int[Array, ""]
) -> Int[Array, ""]:
    intensities = images.astype(jnp.float32) / 255
    guide = guide.of(intensities)
    scenes = guide.likelihood.foreground(intensities)
    from_image, state = guide.start(guide.networks, scenes)
    rows = len(scenes)  # the state of a loop has a constant shape
    state = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape[1:])), state)

    def step(carry):
        t, state, reached = carry
        path = handlers.substitute(
            handlers.seed(guide.step, jax.random.key(0)), substitute_fn=at_mean
        )
        traced = handlers.trace(path)
        state = traced(0, guide.networks, scenes, from_image, state)
        return t + 1, state, reached * traced.trace["z_pres_0"]["fn"].probs

    def needed(carry):
        t, _, reached = carry
        return (reached > UNLIKELY).any() & (t < max_steps)

    # the last step found the probability to be low: it is not needed
    start = (jnp.array(0), state, jnp.ones(len(scenes)))
    t, _, reached = jax.lax.while_loop(needed, step, start)
    return jnp.where((reached > UNLIKELY).any(), t, t - 1)
