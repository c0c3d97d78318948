"""Reading scenes with a trained guide, and scores of what it reads."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8
from numpyro import handlers
from scipy.optimize import linear_sum_assignment

from airjax.programs.elbo import log_count_probs
from airjax.programs.guide import Site, all_on
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import drawn, pose_of
from airjax.three_d.renderer import over
from airjax.three_d.scenes import SOFTNESS, SolidScenes
from airjax.three_d.shapes import SYMMETRY

NEAR = 0.25  # an object is found if it is not farther from the true one
AT_ONCE = 250  # images


class Read(NamedTuple):
    """What is read: the most probable counts, kinds, and poses (x, y, angle)."""

    counts: Int[np.ndarray, " N"]
    kinds: Int[np.ndarray, "N T"]
    poses: Float[np.ndarray, "N T 3"]


def read(
    guide: SolidsGuide,
    images: UInt8[np.ndarray, "N H W 3"],
    steps: int = 3,
    compare: bool = True,
) -> Read:
    """Reads images with up to ``steps`` objects, which may be more than in training.

    The guide has a pose for each kind. Its kinds are a beginning: where `likelier_kinds` finds
    others that explain the image better, it is those.

    Args:
        guide: that reads them.
        images: of the camera in the guide's settings.
        steps: largest number of objects.
        compare: the kinds; without it, they are the guide's.
    """
    config = dataclasses.replace(guide.config, model_steps=steps)
    # the network does not depend on the number of steps
    other = SolidsGuide(config, guide.background, key=jax.random.key(0))
    guide = eqx.tree_at(lambda g: g.network, other, guide.network)
    starts = range(0, len(images), AT_ONCE)
    parts = [_read(guide, jnp.asarray(images[i : i + AT_ONCE]), compare) for i in starts]
    return Read(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def likelier_kinds(
    guide: SolidsGuide,
    images: Float[Array, "N H W 3"],
    counts: Int[Array, " N"],
    kinds: Int[Array, "N T"],
    z_where: Float[Array, "N T K 4"],
) -> Int[Array, "N T"]:
    """For each object in turn, the kind whose rendering is nearest to the image, given the others
    (one sweep of iterated conditional modes; Besag, 1986).

    Args:
        guide: whose settings and empty table are those of the model.
        images: in [0, 1].
        counts: of objects.
        kinds: to begin with.
        z_where: the pose of each object as each kind.
    """
    steps = range(kinds.shape[1])
    objects = jnp.stack([drawn(guide.config, z_where[:, t], SOFTNESS) for t in steps])
    there = jnp.arange(len(steps))[:, None] < counts
    objects = objects * there[..., None, None, None, None]
    on_table = jnp.pad(z_where[..., :2], ((0, 0), (0, 0), (0, 0), (0, 1)))
    depths = jnp.swapaxes(guide.config.camera.project(on_table)[2], 0, 1)  # [T, N, K]

    def error(kinds: Int[Array, "N T"]) -> Float[Array, " N"]:
        index = kinds.T[..., None]
        depth = jnp.take_along_axis(depths, index, axis=2)
        order = jnp.argsort(-depth[..., 0], axis=0)[..., None, None, None]
        chosen = jnp.take_along_axis(objects, index[..., None, None, None], axis=2)[:, :, 0]
        image = over(guide.background[None], jnp.take_along_axis(chosen, order, axis=0))
        return jnp.square(images - image).sum((1, 2, 3))

    each = range(z_where.shape[2])
    for t in steps:
        errors = jnp.stack([error(kinds.at[:, t].set(kind)) for kind in each])
        kinds = kinds.at[:, t].set(errors.argmin(0))
    return kinds


def likeliest(site: Site) -> Array | None:
    """Every object is present, at the mean of its pose, and of its most probable kind."""
    if site["type"] != "sample" or site["name"].startswith("z_pres_"):
        return all_on(site)
    base = site["fn"].base_dist
    return base.probs.argmax(-1) if site["name"].startswith("z_what_") else base.base_dist.mean


@eqx.filter_jit
def _read(
    guide: SolidsGuide, images: UInt8[Array, "N H W 3"], compare: bool
) -> tuple[Array, Array, Array]:
    pixels = images.astype(float) / 255
    path = handlers.substitute(handlers.seed(guide, jax.random.key(0)), substitute_fn=likeliest)
    trace = handlers.trace(path).get_trace(pixels)
    steps = range(guide.config.model_steps)
    p = jnp.stack([trace[f"z_pres_{t}"]["fn"].probs for t in steps])
    counts = log_count_probs(p).argmax(0)
    kinds = jnp.stack([trace[f"z_what_{t}"]["value"] for t in steps], axis=1)
    z_where = jnp.stack([trace[f"z_where_{t}"]["value"] for t in steps], axis=1)
    if compare:
        kinds = likelier_kinds(guide, pixels, counts, kinds, z_where)
    of_kinds = jnp.take_along_axis(z_where, kinds[..., None, None], axis=2)[:, :, 0]
    return counts, kinds, pose_of(of_kinds)


def score(found: Read, truth: SolidScenes, turned: tuple[int, ...] = (0,)) -> dict[str, float]:
    """Share of right counts, and of the objects that were found (within ``NEAR``) the share of
    right kinds, the median error of the position, and of the angle in degrees.

    Args:
        found: by a guide.
        truth: of the same images.
        turned: kinds whose angle is seen.
    """
    kinds, errors, angles, objects = [], [], [], 0
    for c, k, p, n, true_k, true_p in zip(*found, *truth[1:], strict=True):
        k, p, true_k, true_p = k[:c], p[:c], true_k[:n], true_p[:n]
        objects += n
        apart = np.linalg.norm(p[:, None, :2] - true_p[None, :, :2], axis=-1)
        for i, j in zip(*linear_sum_assignment(apart), strict=True):
            if apart[i, j] > NEAR:
                continue
            kinds.append(k[i] == true_k[j])
            errors.append(apart[i, j])
            if true_k[j] in turned:
                turn = np.exp(1j * SYMMETRY * (p[i, 2] - true_p[j, 2]))
                angles.append(abs(np.degrees(np.angle(turn))) / SYMMETRY)
    return {
        "count": 100 * float((found.counts == truth.counts).mean()),
        "found": 100 * len(errors) / max(objects, 1),
        "kind": 100 * float(np.mean(kinds)) if kinds else float("nan"),
        "position": float(np.median(errors)) if errors else float("nan"),
        "angle": float(np.median(angles)) if angles else float("nan"),
    }
