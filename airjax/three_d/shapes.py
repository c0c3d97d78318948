"""Solids on a table: what z_what chooses from.

A solid is all points within ``rounding`` of its core, which is a box, a cylinder, or a polyline
turned about z. So its signed distance is known, down to the core. A shape's own frame has its
origin at mid-height, z up. All shapes look the same after a quarter turn about z.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

SYMMETRY = 4  # a turn of 360 degrees / SYMMETRY about z leaves every shape as it is
GREY = (0.85, 0.8, 0.7)
THIN = 0.01  # how near to the core the distance is not the true one
CORNER = 0.01  # inner corners of vessels are shaded as if they were about this round

Colour = tuple[float, float, float]
# components apart: XLA vectorises along the last axis, which should not be one of 3
Vector = tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]


@dataclass(frozen=True)
class Shape:
    """A solid of one colour.

    Attributes:
        name: of the kind.
        colour: red, green, blue in [0, 1].
        rounding: distance of the surface from the core.
    """

    name: str
    colour: Colour
    rounding: float

    @property
    def height(self) -> float:
        """Of the origin above the table."""
        raise NotImplementedError

    @property
    def radius(self) -> float:
        """Of the sphere around the origin that holds the solid."""
        raise NotImplementedError

    @property
    def deepest(self) -> float:
        """The distance in the core."""
        return THIN - math.hypot(self.rounding, THIN)

    def from_core(self, points: Vector) -> Vector:
        """Vectors from the nearest points of the core: outside of it, they have the direction of
        the surface's normals."""
        raise NotImplementedError

    def distance(self, points: Vector) -> Float[Array, "*n"]:
        """Distance from the surface, negative inside; nearly ``-rounding`` in the core. Unlike the
        true distance, it has a derivative where a ray passes through the core of a thin wall."""
        return length(self.from_core(points), THIN) - math.hypot(self.rounding, THIN)


@dataclass(frozen=True)
class Box(Shape):
    """A box with rounded edges.

    Attributes:
        core: half lengths of the core (x, y, z).
    """

    core: tuple[float, float, float]

    @property
    def height(self):
        return self.core[2] + self.rounding

    @property
    def radius(self):
        return math.hypot(*self.core) + self.rounding

    def from_core(self, points):
        x, y, z = (p - jnp.clip(p, -half, half) for p, half in zip(points, self.core, strict=True))
        return x, y, z


@dataclass(frozen=True)
class Cylinder(Shape):
    """A cylinder with rounded edges; a sphere, if its core is the origin.

    Attributes:
        core: radius and half of the height of the core.
    """

    core: tuple[float, float]

    @property
    def height(self):
        return self.core[1] + self.rounding

    @property
    def radius(self):
        return math.hypot(*self.core) + self.rounding

    def from_core(self, points):
        radius, half = self.core
        r, z = length(points[:2]), points[2]
        return _turned_back(points, r - jnp.minimum(r, radius), z - jnp.clip(z, -half, half))


@dataclass(frozen=True)
class Vessel(Shape):
    """A surface of revolution, with a wall as thick as twice the rounding.

    Attributes:
        profile: corners (r, z) of a polyline, z from the table.
    """

    profile: tuple[tuple[float, float], ...]

    @property
    def height(self):
        z = [z for _, z in self.profile]
        return (min(z) + max(z)) / 2

    @property
    def radius(self):
        return max(math.hypot(r, z - self.height) for r, z in self.profile) + self.rounding

    def from_core(self, points):
        r, z = length(points[:2]), points[2] + self.height
        segments = list(zip(self.profile, self.profile[1:], strict=False))
        vectors = [_from_segment(a, b, r, z) for a, b in segments]
        lengths = [length(v) for v in vectors]
        least = functools.reduce(jnp.minimum, lengths)
        # in an inner corner, the normal turns from one segment's to the other's
        weights = [jnp.exp((least - length) / CORNER) for length in lengths]
        r, z = (
            functools.reduce(jnp.add, [w * v[i] for w, v in zip(weights, vectors, strict=True)])
            for i in (0, 1)
        )
        scale = least / length((r, z))
        return _turned_back(points, scale * r, scale * z)


def _from_segment(
    a: tuple[float, float],
    b: tuple[float, float],
    r: Float[Array, "*n"],
    z: Float[Array, "*n"],
) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Vectors (r, z) from the nearest points of the segment from a to b."""
    along = b[0] - a[0], b[1] - a[1]
    squared = along[0] ** 2 + along[1] ** 2
    share = jnp.clip(((r - a[0]) * along[0] + (z - a[1]) * along[1]) / squared, 0, 1)
    return r - a[0] - share * along[0], z - a[1] - share * along[1]


def length(v: tuple[Float[Array, "*n"], ...], least: float = 1e-6) -> Float[Array, "*n"]:
    """The Euclidean norm, or rather that of v and ``least``: it has a gradient at 0."""
    return jnp.sqrt(sum((jnp.square(c) for c in v), start=jnp.array(least**2, v[0].dtype)))


def _turned_back(points: Vector, r: Float[Array, "*n"], z: Float[Array, "*n"]) -> Vector:
    """Vectors (r, z) at points, as (x, y, z)."""
    share = r / length(points[:2])
    return share * points[0], share * points[1], z


BLOCKS: tuple[Shape, ...] = (
    Box("cube", (0.9, 0.2, 0.15), 0.05, (0.17, 0.17, 0.17)),
    Cylinder("sphere", (0.2, 0.3, 0.9), 0.25, (0.0, 0.0)),
    Cylinder("cylinder", (0.25, 0.75, 0.3), 0.05, (0.13, 0.23)),
)
TABLEWARE: tuple[Shape, ...] = (
    Vessel("plate", GREY, 0.04, ((0.0, 0.04), (0.2, 0.04), (0.34, 0.11))),
    Vessel("cup", GREY, 0.04, ((0.0, 0.04), (0.13, 0.04), (0.17, 0.12), (0.19, 0.4))),
    Vessel("bowl", GREY, 0.04, ((0.0, 0.04), (0.1, 0.04), (0.21, 0.11), (0.27, 0.24))),
)


def of_one_colour(shapes: tuple[Shape, ...], colour: Colour = GREY) -> tuple[Shape, ...]:
    """The same shapes, all of one colour: they differ in shape alone."""
    return tuple(dataclasses.replace(shape, colour=colour) for shape in shapes)


KINDS: dict[str, tuple[Shape, ...]] = {
    "blocks": of_one_colour(BLOCKS),
    "coloured": BLOCKS,
    "tableware": TABLEWARE,
}
