"""A differentiable renderer of shapes on a table.

Each pixel's ray has a least signed distance to an object; its opacity is a sigmoid of that. Where
the ray comes to the surface, the colour is shaded by the surface's normal.

Gradients are those of the image that is drawn. The places of the least distance and of the surface
on a ray are searched for without gradient. One evaluation at the least distance has the right
gradient (envelope theorem), and so has one Newton step at the surface (implicit function theorem).
A ray that just touches the surface has no finite derivative of the place where it does, so
the shaded point is where the ray first comes to the distance max(least distance + MARGIN, 0), with
a smooth maximum: it crosses this level at an angle, whether it hits the surface or misses it.
"""

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from airjax.three_d.shapes import Shape, Vector, length

MARGIN = 0.01  # between the least distance on a ray and the level where it is shaded
RAMP = 0.05  # change of distance on which a ray stops
REACH = 0.1  # from here on, a distance has no opacity
EDGE = 1.0  # objects up to here on the table, in x and y, are inside of their windows
STEP = 0.04  # between samples of the distance on a ray
NARROWED = 3  # times that the least distance is searched for between fewer samples
LIGHT = (-0.39, -0.488, 0.781)  # towards it
AMBIENT = 0.35


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. Lengths are in units of the scene: z is up, the table is at z = 0.

    Attributes:
        position: of the pinhole.
        target: that it looks at.
        fov: vertical field of view in degrees.
        size: of the square image in pixels.
    """

    position: tuple[float, float, float] = (0.0, -2.6, 2.4)
    target: tuple[float, float, float] = (0.0, 0.05, 0.0)
    fov: float = 46.0
    size: int = 36

    @cached_property
    def axes(self) -> Float[np.ndarray, "3 3"]:
        """Unit vectors to the right, up, and ahead."""
        ahead = np.subtract(self.target, self.position)
        ahead = ahead / np.linalg.norm(ahead)
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(right, ahead), ahead])

    @property
    def focal(self) -> float:
        """The focal length in pixels."""
        return self.size / 2 / np.tan(np.radians(self.fov) / 2)

    def project(
        self, points: Float[Array, "*n 3"]
    ) -> tuple[Float[Array, "*n"], Float[Array, "*n"], Float[Array, "*n"]]:
        """Column and row (0 is the centre of the first pixel), and depth, of points."""
        axes = jnp.asarray(self.axes, points.dtype)
        right, up, depth = jnp.moveaxis((points - jnp.array(self.position)) @ axes.T, -1, 0)
        centre = (self.size - 1) / 2
        return centre + self.focal * right / depth, centre - self.focal * up / depth, depth

    def rays(self, columns: Float[Array, "*n"], rows: Float[Array, "*n"]) -> Vector:
        """Unit vectors from the camera through these pixels."""
        centre = (self.size - 1) / 2
        right, up = (columns - centre) / self.focal, (centre - rows) / self.focal
        scale = 1 / length((right, up), 1.0)
        x, y, z = ((right * r + up * u + a) * scale for r, u, a in self.axes.T.tolist())
        return x, y, z

    def on_plane(self, z: float) -> Float[Array, "H W 2"]:
        """x and y where each pixel's ray meets the plane at the height z; far away if it does
        not."""
        pixels = jnp.arange(self.size, dtype=float)
        rays = self.rays(*jnp.meshgrid(pixels, pixels))
        t = (z - self.position[2]) / jnp.minimum(rays[2], -1e-3)
        return jnp.stack([self.position[i] + t * rays[i] for i in (0, 1)], axis=-1)

    def window(self, shape: Shape) -> int:
        """The side in pixels of a window that holds the shape wherever it is on the table."""
        corners = np.array([[x, y, shape.height] for x in (-EDGE, EDGE) for y in (-EDGE, EDGE)])
        nearest = ((corners - self.position) @ self.axes[2]).min()
        # a sphere beside the axis projects to an ellipse, longer by a few per cent
        return int(np.ceil(2.1 * self.focal * (shape.radius + REACH) / nearest)) + 1


ASIDE = Camera(position=(2.4, -1.6, 2.0))  # for a look at a scene from another side


# jitted: a training step calls it for each object and kind, but traces it once
@partial(jax.jit, static_argnames=("camera", "shape"))
def render(
    camera: Camera, shape: Shape, poses: Float[Array, "N 3"], softness: ArrayLike
) -> Float[Array, "N H W 4"]:
    """Images of one object each, on nothing: colours multiplied by the opacity, and the opacity.

    Args:
        camera: that sees it.
        shape: of all objects.
        poses: x, y, and the angle about z in radians.
        softness: scale of the sigmoid of the opacity, in units of length.
    """
    centre = poses.at[:, 2].set(shape.height)
    columns, rows = _window(camera, shape, jax.lax.stop_gradient(centre))
    n, w = columns.shape
    grid = (n, w, w)
    rays = camera.rays(
        jnp.broadcast_to(columns[:, None], grid).reshape(n, -1),
        jnp.broadcast_to(rows[:, :, None], grid).reshape(n, -1),
    )
    eye = tuple(p - c[:, None] for p, c in zip(camera.position, centre.T, strict=True))
    lamp = tuple(jnp.full((n, 1), component) for component in LIGHT)
    origin, rays, light = (
        _turned(poses[:, 2], v)  # pyright: ignore[reportArgumentType]
        for v in (eye, rays, lamp)
    )
    opacity, shade = _shaded(shape, origin, rays, light, softness)
    drawn = jnp.stack([*(c * shade * opacity for c in shape.colour), opacity], axis=-1)
    return _placed(drawn.reshape(n, w, w, 4), columns, rows, camera.size)


def over(
    background: Float[Array, "*#N H W 3"], objects: Float[Array, "T N H W 4"]
) -> Float[Array, "N H W 3"]:
    """Objects in front of a background, the farthest one first."""
    image = background
    for drawn in objects:
        image = image * (1 - drawn[..., 3:]) + drawn[..., :3]
    return image


def table(camera: Camera) -> Float[Array, "H W 3"]:
    """The empty table, 2.5 wide, on a dark floor."""
    on = (jnp.abs(camera.on_plane(0.0)) < 1.25).all(-1)[..., None]
    return jnp.where(on, jnp.array([0.55, 0.5, 0.45]), jnp.array([0.12, 0.12, 0.14]))


def _window(
    camera: Camera, shape: Shape, centre: Float[Array, "N 3"]
) -> tuple[Float[Array, "N w"], Float[Array, "N w"]]:
    """Columns and rows of the window around each object; some may be outside of the image."""
    w = camera.window(shape)
    column, row, _ = camera.project(centre)
    first = jnp.floor(jnp.stack([column, row]) - (w - 1) / 2 + 0.5)
    columns, rows = first[..., None] + jnp.arange(w, dtype=float)
    return columns, rows


def _turned(angle: Float[Array, " N"], v: Vector) -> Vector:
    """Vectors of the scene in the frame of objects that are turned by an angle."""
    c, s = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    x, y, z = v
    return c * x + s * y, c * y - s * x, z


def _dot(a: Vector, b: Vector) -> Float[Array, "*n"]:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _along(origin: Vector, rays: Vector, t: Float[Array, "*n"]) -> Vector:
    """Points at a length along each ray."""
    return origin[0] + t * rays[0], origin[1] + t * rays[1], origin[2] + t * rays[2]


def _shaded(
    shape: Shape, origin: Vector, rays: Vector, light: Vector, softness: ArrayLike
) -> tuple[Float[Array, "N r"], Float[Array, "N r"]]:
    """Opacity and brightness of each ray, in the object's frame."""
    nearest = jax.lax.stop_gradient(_nearest(shape, origin, rays))
    least = shape.distance(_along(origin, rays, nearest))
    # opaque in the core; at REACH, both the value and the slope of the last factor are 0
    core = jax.nn.sigmoid(-shape.deepest / jnp.asarray(softness))
    fades = jnp.square(jnp.clip(1 - jnp.maximum(least, 0) / REACH, 0, 1))
    opacity = jax.nn.sigmoid(-least / softness) / core * fades

    level = jnp.maximum(least + MARGIN, 0)
    points = _along(_with_axis(origin), _with_axis(rays), _places(shape, origin, rays))
    vectors = shape.from_core(points)
    ramps = jnp.clip(1 + (level - shape.distance(points)) / RAMP, 0, 1)
    lights = jnp.maximum(_dot(vectors, _with_axis(light)) / length(vectors), 0)
    stopped = lit = jnp.zeros_like(least)
    for ramp, brightness in zip(ramps, lights, strict=True):
        more = jnp.maximum(ramp - stopped, 0)
        lit, stopped = lit + more * brightness, stopped + more
    return opacity, AMBIENT + (1 - AMBIENT) * lit / (stopped + 1e-6)


def _places(shape: Shape, origin: Vector, rays: Vector) -> Float[Array, "samples N r"]:
    """Lengths along each ray, ``STEP`` apart, from one side of the shape to the other."""
    samples = int(np.ceil(2 * shape.radius / STEP))
    steps = STEP * (jnp.arange(samples, dtype=float) - (samples - 1) / 2)
    return steps[:, None, None] - _dot(origin, rays)[None]


def _with_axis(vector: Vector) -> Vector:
    """Vectors with an axis of length 1 for samples."""
    x, y, z = vector
    return x[None], y[None], z[None]


def _nearest(shape: Shape, origin: Vector, rays: Vector) -> Float[Array, "N r"]:
    """Length along each ray to its least distance: the best sample, then parabolas."""

    def distance(t: Float[Array, "N r"]) -> Float[Array, "N r"]:
        return shape.distance(_along(origin, rays, t))

    places = _places(shape, origin, rays)
    best = shape.distance(_along(_with_axis(origin), _with_axis(rays), places)).argmin(0)
    nearest = jnp.take_along_axis(places, best[None], axis=0)[0]
    width = STEP
    for _ in range(NARROWED):
        before, here, after = (distance(nearest + width * i) for i in (-1, 0, 1))
        curved = jnp.maximum(before - 2 * here + after, 1e-6)
        nearest = nearest + width * jnp.clip((before - after) / (2 * curved), -1, 1)
        width = width / 4
    return nearest


def _placed(
    windows: Float[Array, "N w w 4"],
    columns: Float[Array, "N w"],
    rows: Float[Array, "N w"],
    size: int,
) -> Float[Array, "N H W 4"]:
    """Windows in an empty image, as two products with matrices of zeros and ones."""
    pixels = jnp.arange(size)
    down = (pixels[None, :, None] == rows[:, None]).astype(windows.dtype)
    across = (pixels[None, :, None] == columns[:, None]).astype(windows.dtype)
    return jnp.einsum("nyr,nrck,nxc->nyxk", down, windows, across)
