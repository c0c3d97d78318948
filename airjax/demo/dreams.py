"""Scenes that nobody drew: objects whose places and codes are turned by hand, then decoded."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from airjax.config import ModelConfig
from airjax.inference.results import Scenes
from airjax.programs.compose import composed, without_opacity
from airjax.programs.model import Model
from airjax.programs.spatial import window_to_image

FEWEST = 20  # codes needed for directions; if there are fewer, codes from the prior are added
DIRECTIONS = 4


class Thing(NamedTuple):
    """An object: place z_where ``[3]`` and code z_what ``[Z]``."""

    where: Float[np.ndarray, "3"]
    what: Float[np.ndarray, " Z"]


class Codes(NamedTuple):
    """The objects that were found in images, and how they differ.

    Attributes:
        where: ``[M, 3]``, places.
        what: ``[M, Z]``, codes.
        directions: ``[P, Z]``, the codes' principal components, each one standard deviation long.
        shares: ``[P]``, share of the variance of the codes along each direction.
    """

    where: Float[np.ndarray, "M 3"]
    what: Float[np.ndarray, "M Z"]
    directions: Float[np.ndarray, "P Z"]
    shares: Float[np.ndarray, " P"]

    def thing(self, i: int) -> Thing:
        """The object i; indices wrap around."""
        return Thing(self.where[i % len(self.where)], self.what[i % len(self.what)])


def codes_of(scenes: Scenes) -> Codes:
    """The objects that are present in scenes."""
    where, what = scenes.z_where[scenes.present], scenes.z_what[scenes.present]
    if len(what) < FEWEST:
        drawn = _from_prior(scenes.model.config, FEWEST)
        where, what = (np.concatenate(pair) for pair in zip((where, what), drawn, strict=True))
    _, singular, axes = np.linalg.svd(what - what.mean(axis=0), full_matrices=False)
    # a principal component has no sign of its own: its largest entry is made positive
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    deviations = singular / np.sqrt(len(what) - 1)
    directions = deviations[:, None] * axes * np.sign(largest)
    shares = singular**2 / np.square(singular).sum()
    return Codes(where, what, directions[:DIRECTIONS], shares[:DIRECTIONS])


def _from_prior(config: ModelConfig, n: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    position = random.uniform(-1, 1, (n, 2))
    where = np.column_stack([np.full(n, config.scale_prior_mean), position])
    what = random.normal(size=(n, config.encoder_latent_size))
    return where.astype(np.float32), what.astype(np.float32)


class Place(NamedTuple):
    """The place of a window in the terms of sliders.

    Attributes:
        across: position of its centre: -1 is the image's left edge, 1 its right one.
        down: position of its centre: -1 is the upper edge, 1 the lower one.
        size: its side as a share of the image's side.
    """

    across: float
    down: float
    size: float


def place_of(where: Float[np.ndarray, "3"]) -> Place:
    """The place of z_where = (s, x, y): size 1 / s, centre at -(x, y) / s."""
    s, x, y = np.asarray(where, float).tolist()
    return Place(-x / s, -y / s, 1 / s)


def where_of(place: Place) -> Float[np.ndarray, "3"]:
    """The inverse of `place_of`."""
    s = 1 / place.size
    return np.array([s, -place.across * s, -place.down * s], np.float32)


class Edit(NamedTuple):
    """The changes of an object: its new place, the shift of its code along the directions (in
    standard deviations), and how far it is morphed into the other object (0 to 1)."""

    place: Place
    along: tuple[float, ...] = (0.0,) * DIRECTIONS
    morph: float = 0.0


class Dream(NamedTuple):
    """Two objects and the changes of each; every change makes a new dream."""

    found: tuple[Thing, Thing]
    edits: tuple[Edit, Edit]

    @classmethod
    def of(cls, codes: Codes, i: int) -> "Dream":
        """The objects i and i + 1, side by side, at the sizes at which they were found."""
        found = codes.thing(i), codes.thing(i + 1)
        sizes = [place_of(thing.where).size for thing in found]
        return cls(found, (Edit(Place(-0.4, 0.0, sizes[0])), Edit(Place(0.4, 0.0, sizes[1]))))

    def changed(self, i: int, edit: Edit) -> "Dream":
        """This dream with another edit of object i."""
        edits = (edit, self.edits[1]) if i == 0 else (self.edits[0], edit)
        return self._replace(edits=edits)

    def things(self, codes: Codes) -> tuple[Thing, Thing]:
        """The objects as they are now."""
        a, b = self.found
        return edited(a, self.edits[0], b, codes), edited(b, self.edits[1], a, codes)


def edited(thing: Thing, edit: Edit, other: Thing, codes: Codes) -> Thing:
    """The object with its changes; it is morphed into the other one as it was found."""
    what = (1 - edit.morph) * thing.what + edit.morph * other.what
    along = np.asarray(edit.along[: len(codes.directions)], np.float32)
    return Thing(where_of(edit.place), (what + along @ codes.directions).astype(np.float32))


def between(a: Thing, b: Thing, n: int) -> Float[np.ndarray, "n Z"]:
    """n codes on the line from a's to b's."""
    t = np.linspace(0, 1, n, dtype=np.float32)[:, None]
    return (1 - t) * a.what + t * b.what


def scene(model: Model, things: Sequence[Thing]) -> Float[np.ndarray, "H W *C"]:
    """The image of objects in their places, decoded and composed."""
    where = jnp.stack([jnp.asarray(thing.where) for thing in things])
    what = jnp.stack([jnp.asarray(thing.what) for thing in things])
    return np.asarray(_scene(model, where, what))


@eqx.filter_jit
def _scene(
    model: Model, where: Float[Array, "n 3"], what: Float[Array, "n Z"]
) -> Float[Array, "H W *C"]:
    objects = window_to_image(where, model.decoder(what), model.config.image_size)
    on = jnp.ones(len(objects), bool)
    return model.likelihood.mean(composed(model.config.compose, objects, on))


def windows(model: Model, what: Float[np.ndarray, "n Z"]) -> Float[np.ndarray, "n w w *C"]:
    """Each code, decoded in its window."""
    return np.asarray(_windows(model, jnp.asarray(what)))


@eqx.filter_jit
def _windows(model: Model, what: Float[Array, "n Z"]) -> Float[Array, "n w w *C"]:
    return without_opacity(model.config.compose, model.decoder(what))
