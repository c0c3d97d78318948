"""The guide: each step attends to the largest residual of the rendering so far.

As `airjax.programs.guide.AttendGuide`, it has no memory but what earlier objects cover. What they
cover is a mean over their kinds, so that kinds are independent of each other, given the poses:
`airjax.three_d.elbo` sums over them exactly.
"""

from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from numpyro.contrib.module import eqx_module

from airjax.programs.guide import explored
from airjax.programs.networks import MLP, positive
from airjax.three_d.model import Pose, SolidsConfig, drawn, of_kind

ATTENDED = 4  # radius in pixels of what a step looks at
# largest distance of a position from the attended point of the table: the top of a high solid is
# seen before a point that is farther away
FARTHEST = 0.8
HEIGHT = 0.2  # of that point above the table
SHARP = 5.0  # scale of the concentration


class SolidsState(NamedTuple):
    """What one step passes to the next: log odds that the count is explored, the presence of the
    last object, and the residual."""

    log_odds: Float[Array, " N"]
    z_pres: Float[Array, " N"]
    residual: Float[Array, "N H W 3"]


class SolidsGuide(eqx.Module):
    """The guide, with its network.

    Called as `airjax.three_d.model.SolidsModel`; with the sites ``z_pres_t``, ``z_what_t`` and
    ``z_where_t``, masked as there, the deterministic ``place_t`` [N, 2] (the point of the table
    that is attended to), and the parameter ``guide$params``.
    """

    config: SolidsConfig = eqx.field(static=True)
    network: MLP
    background: Float[Array, "H W 3"]

    def __init__(
        self, config: SolidsConfig, background: Float[Array, "H W 3"], *, key: PRNGKeyArray
    ):
        k = len(config.kinds)
        outputs = 1 + 7 * k  # presence, kinds; position, its scale, and the angle, of each kind
        sizes = (2 * 3 * config.window**2 + 2, *config.hidden, outputs)
        self.config, self.background = config, background
        network = MLP(sizes, "relu", key=key)
        # positions are about 0.1 uncertain at first
        self.network = eqx.tree_at(
            lambda m: m.layers[-1].bias,
            network,
            jnp.zeros(outputs).at[1 + 3 * k : 1 + 5 * k].set(-2.0),
        )

    def __call__(
        self,
        images: Float[Array, "N H W 3"],
        softness: ArrayLike = 0.015,
        exploration: ArrayLike = 0.0,
    ) -> None:
        """The program.

        Args:
            images: in [0, 1].
            softness: of the renderer.
            exploration: epsilon, a probability: counts are drawn from q with the probability
                1 - epsilon, and uniformly otherwise.
        """
        network = cast(MLP, eqx_module("guide", self.network))
        epsilon = jnp.asarray(exploration, float)
        foreground = images - self.background[None]
        log_odds = jnp.full(len(images), jnp.log(epsilon) - jnp.log1p(-epsilon))
        state = SolidsState(log_odds, jnp.ones(len(images)), foreground)
        with numpyro.plate("images", len(images)):
            for t in range(self.config.model_steps):
                state = self.step(t, network, foreground, state, softness, epsilon)

    def step(
        self,
        t: int,
        network: MLP,
        foreground: Float[Array, "N H W 3"],
        last: SolidsState,
        softness: ArrayLike,
        epsilon: Float[Array, ""],
    ) -> SolidsState:
        """One step: presence, kind, pose."""
        k, steps = len(self.config.kinds), self.config.model_steps
        seen, place = self.attend(foreground, last.residual)
        numpyro.deterministic(f"place_{t}", place)
        a = network(jnp.concatenate([seen, place], axis=-1))  # far objects are smaller
        p = jax.nn.sigmoid(a[:, 0])
        mixed, log_odds = explored(p, last.log_odds, t, steps)
        p_present = jnp.where(last.z_pres.astype(bool), mixed, 0)
        presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p_present))
        z_pres = jnp.asarray(presence, float)

        present = z_pres.astype(bool)
        kinds = jax.nn.softmax(a[:, 1 : 1 + k])
        what = dist.CategoricalProbs(kinds).mask(present)
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what))

        shift, scale, concentration = jnp.split(a[:, 1 + k :].reshape(-1, 3 * k, 2), 3, axis=1)
        loc = place[:, None] + FARTHEST * jnp.tanh(shift)
        where = Pose(loc, positive(scale), SHARP * concentration)
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", of_kind(where, present, z_what)))

        fixed, kinds = jax.lax.stop_gradient((z_where, kinds))
        covered = jnp.einsum("nk,nkhw->nhw", kinds, drawn(self.config, fixed, softness)[..., 3])
        return SolidsState(log_odds, z_pres, last.residual * (1 - covered)[..., None])

    def attend(
        self, foreground: Float[Array, "N H W 3"], residual: Float[Array, "N H W 3"]
    ) -> tuple[Float[Array, "N windows"], Float[Array, "N 2"]]:
        """The windows of image and residual at the largest residual, and the table there."""
        n, size, w = len(residual), self.config.camera.size, self.config.window
        i = jnp.arange(size)
        hat = jnp.maximum(0.0, 1 - jnp.abs(i[:, None] - i[None]) / ATTENDED)
        best = (hat @ jnp.abs(residual).sum(-1) @ hat).reshape(n, -1).argmax(-1)
        row, column = best // size, best % size
        down, across = (
            (x[:, None, None] + jnp.arange(w)[None, :, None] - w // 2 == i[None, None]).astype(
                float
            )
            for x in (row, column)
        )
        both = jnp.stack([foreground, residual], axis=1)
        windows = jnp.einsum("nry,nbyxk,ncx->nbrck", down, both, across)
        points = jnp.clip(self.config.camera.on_plane(HEIGHT), -1.2, 1.2)
        return windows.reshape(n, -1), points[row, column]
