"""The generative program: solids on a table, seen by a camera.

The sites are those of `airjax.programs.model`, but z_what_t is the kind of an object, and z_where_t
its pose: x, y, and the unit vector of ``SYMMETRY`` times its angle. (All shapes look the same after
a quarter turn, so an image determines no more than this vector.) z_where_t has a row for each kind,
of which all but that of z_what_t are masked: the guide then has a q(z_where_t | z_what_t) of each
kind. With one pose for all kinds, that of the kind which fits first, no other kind would ever fit.

The pixels' likelihood is Gaussian, so that its mean over the kinds of all objects is known. With
independent kinds of probabilities w, and I the image,

    E log N(x; I, sd) = log N(x; E I, sd) - Var I / (2 sd^2)

and the first two moments of I follow object by object, the farthest one first. The program is
written in these moments. ``kinds_t``, the probabilities of the kind, is one-hot unless an estimator
replaces it by q(z_what_t): then ``obs`` and ``spread`` are the exact sum over all K^n combinations.
"""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Bool, Float, Int
from numpyro.distributions import constraints

from airjax.programs.model import geometric_like
from airjax.three_d.renderer import Camera, render
from airjax.three_d.shapes import KINDS, SYMMETRY, Shape

POSITION_SD = 0.7  # of the prior; the table is 2.5 wide


@dataclass(frozen=True)
class SolidsConfig:
    """Settings of both programs.

    Attributes:
        kinds: the shapes that objects may have.
        model_steps: T.
        z_pres_prior: ratio k of the prior on counts, `airjax.programs.model.geometric_like`.
        pixel_sd: standard deviation of the pixels' likelihood.
        camera: that sees the table.
        window: side in pixels of the windows that the guide reads.
        hidden: sizes of the guide's hidden layers.
    """

    kinds: tuple[Shape, ...] = KINDS["blocks"]
    model_steps: int = 3
    z_pres_prior: float = 0.3
    pixel_sd: float = 0.15
    camera: Camera = field(default_factory=Camera)
    window: int = 16
    hidden: tuple[int, ...] = (256, 128)


class Pose(dist.Distribution):
    """Position (x, y), Gaussian, and a unit vector with a projected Gaussian density on the circle.

    Args:
        loc: of the position.
        scale: of the position.
        concentration: mean of the vector before it is divided by its length; 0 is uniform.
    """

    support = constraints.real_vector  # pyright: ignore
    reparametrized_params = ("loc", "scale", "concentration")  # pyright: ignore

    def __init__(self, loc, scale, concentration, *, validate_args=None):
        self.position = dist.Normal(loc, scale).to_event(1)
        # unit vectors in float32 miss the tolerance of its check
        self.turn = dist.ProjectedNormal(concentration, validate_args=False)
        super().__init__(self.position.batch_shape, (4,), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        keys = jax.random.split(jnp.asarray(key))
        parts = (self.position.sample(keys[0], sample_shape), self.turn.sample(keys[1]))
        return jnp.concatenate(parts, axis=-1)

    def log_prob(self, value, intermediates=None):
        x = jnp.asarray(value)
        return self.position.log_prob(x[..., :2]) + self.turn.log_prob(x[..., 2:])

    @property
    def mean(self):
        return jnp.concatenate([self.position.mean, self.turn.mean], axis=-1)


def of_kind(where: Pose, present: Bool[Array, " N"], z_what: Int[Array, " N"]) -> dist.Distribution:
    """Poses [N, K], all masked but that of the kind, if the object is present."""
    here = jax.nn.one_hot(z_what, where.batch_shape[-1], dtype=bool) & present[:, None]
    return where.mask(here).to_event(1)


def pose_of(z_where: Float[Array, "*N 4"]) -> Float[Array, "*N 3"]:
    """x, y, angle in radians."""
    angle = jnp.arctan2(z_where[..., 3:], z_where[..., 2:3]) / SYMMETRY
    return jnp.concatenate([z_where[..., :2], angle], axis=-1)


def drawn(
    config: SolidsConfig, z_where: Float[Array, "N K 4"], softness: ArrayLike
) -> Float[Array, "N K H W 4"]:
    """An object as each of the kinds, in the pose of this kind."""
    poses = pose_of(z_where)
    images = [
        render(config.camera, shape, poses[:, k], softness) for k, shape in enumerate(config.kinds)
    ]
    return jnp.stack(images, axis=1)


def moments(
    objects: Float[Array, "N K H W 4"], kinds: Float[Array, "N K"]
) -> Float[Array, "N H W 11"]:
    """Means over the kinds, with transparency a and colours c: a, a^2, c, c^2, a c."""
    a, c = 1 - objects[..., 3:], objects[..., :3]
    return jnp.einsum("nk,nkhwc->nhwc", kinds, jnp.concatenate([a, a**2, c, c**2, a * c], axis=-1))


def composed(
    background: Float[Array, "H W 3"],
    objects: Float[Array, "T N H W 11"],
    depths: Float[Array, "T N"],
) -> tuple[Float[Array, "N H W 3"], Float[Array, "N H W 3"]]:
    """Mean and variance of the image, given the moments of its objects."""
    order = jnp.argsort(-depths, axis=0)
    objects = jnp.take_along_axis(objects, order[..., None, None, None], axis=0)
    mean = jnp.broadcast_to(background[None], (*objects.shape[1:4], 3))
    square = jnp.square(mean)
    for y in objects:
        a, a2, c, c2, ac = y[..., :1], y[..., 1:2], y[..., 2:5], y[..., 5:8], y[..., 8:]
        square = square * a2 + 2 * mean * ac + c2
        mean = mean * a + c
    return mean, square - jnp.square(mean)


NOTHING = (1.0, 1.0, *(9 * (0.0,)))  # the moments of an absent object


class SolidsModel(eqx.Module):
    """The generative program.

    Called on images ``[N, H, W, 3]`` in [0, 1] it is a NumPyro program with the sites ``z_pres_t``
    [N], ``z_what_t`` [N], ``z_where_t`` [N, K, 4], ``spread`` and ``obs``, and the deterministic
    ``kinds_t`` [N, K] and ``y_t`` (`moments` of the object). Sites of absent objects are masked.

    Attributes:
        config: of both programs.
        background: the empty table.
    """

    config: SolidsConfig = eqx.field(static=True)
    background: Float[Array, "H W 3"]

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
            exploration: of the guide; not used here.
        """
        config, background = self.config, jax.lax.stop_gradient(self.background)
        p = geometric_like(config.z_pres_prior, config.model_steps)
        objects, depths, z_pres = [], [], jnp.ones(len(images))
        with numpyro.plate("images", len(images)):
            for t in range(config.model_steps):
                presence = numpyro.sample(f"z_pres_{t}", dist.Bernoulli(p[t] * z_pres))
                z_pres = jnp.asarray(presence, float)
                y, depth = self.object(t, z_pres.astype(bool), softness)
                on = z_pres.astype(bool)[:, None, None, None]
                objects.append(jnp.where(on, y, jnp.array(NOTHING)))
                depths.append(depth)
            mean, variance = composed(background, jnp.stack(objects), jnp.stack(depths))
            numpyro.factor("spread", -variance.sum((1, 2, 3)) / (2 * config.pixel_sd**2))
            pixels = dist.Normal(mean, config.pixel_sd).to_event(3)
            numpyro.sample("obs", pixels, obs=images)

    def drawn(
        self, z_where: Float[Array, "N K 4"], softness: ArrayLike
    ) -> Float[Array, "N K H W 4"]:
        """An object as each of the kinds."""
        return drawn(self.config, z_where, softness)

    def object(self, t: int, present: Array, softness: ArrayLike):
        """Draws kind and pose of one object: its moments, and its depth (that of the mean over the
        kinds of its position)."""
        n, k = len(present), len(self.config.kinds)
        what = dist.CategoricalProbs(jnp.full((n, k), 1 / k)).mask(present)
        z_what = jnp.asarray(numpyro.sample(f"z_what_{t}", what))
        kinds = jnp.asarray(numpyro.deterministic(f"kinds_{t}", jax.nn.one_hot(z_what, k)))
        where = Pose(jnp.zeros((n, k, 2)), POSITION_SD, jnp.zeros((n, k, 2)))
        z_where = jnp.asarray(numpyro.sample(f"z_where_{t}", of_kind(where, present, z_what)))
        y = moments(self.drawn(z_where, softness), kinds)
        on_table = jnp.pad(jnp.einsum("nk,nkc->nc", kinds, z_where[..., :2]), ((0, 0), (0, 1)))
        depth = self.config.camera.project(on_table)[2]
        return jnp.asarray(numpyro.deterministic(f"y_{t}", y)), depth
