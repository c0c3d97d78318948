"""Objects that are inferred together in one block of a picture, and the residual that they leave.

Each object has a patch of the block, of the size of the model's images, and is drawn there. Nothing
here depends on the size of the block.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

TOGETHER = 16  # objects that are inferred at the same time


class Seen(NamedTuple):
    """What the guide infers in K patches, one object in each.

    Attributes:
        where: ``[K, 3]``, mean of q(z_where), in the patch.
        what: ``[K, Z]``, mean of q(z_what).
        cost: ``[K]``, nats that both take off the log evidence.
        y: ``[K, h, w]``, the object drawn in its patch.
        p: ``[K]``, probability that it is present, given the residual.
    """

    where: Float[Array, "K 3"]
    what: Float[Array, "K Z"]
    cost: Float[Array, " K"]
    y: Float[Array, "K h w *C"]
    p: Float[Array, " K"]


class Slots(NamedTuple):
    """Up to M objects of a block.

    Attributes:
        corner: ``[M, 2]``, top and left pixel of the patch.
        seen: what was inferred there.
        worth: ``[M]``, nats by which the object raises the log evidence.
        on: ``[M]``, whether there is an object.
    """

    corner: Int[Array, "M 2"]
    seen: Seen
    worth: Float[Array, " M"]
    on: Bool[Array, " M"]


class State(NamedTuple):
    """A block that is being read.

    Attributes:
        residual: ``[H, W]``, the block less all objects.
        slots: the objects.
        used: number of slots in use; some of them may be off again.
    """

    residual: Float[Array, "H W *C"]
    slots: Slots
    used: Int[Array, ""]

    @property
    def room(self) -> int:
        """M."""
        return len(self.slots.on)

    def chunk(
        self, index: Int[Array, " K"], size: tuple[int, int]
    ) -> tuple[Slots, Float[Array, "K h w *C"]]:
        """Some slots, and for each the residual of all other objects in its patch. There is no
        object in those with an index of M."""
        real = index < self.room
        some: Slots = jax.tree.map(lambda x: x[jnp.minimum(index, self.room - 1)], self.slots)
        some = some._replace(on=some.on & real)
        return some, cut(self.residual, some.corner, size) + drawn(some)

    def with_chunk(self, index: Int[Array, " K"], old: Slots, new: Slots) -> "State":
        """The state with these slots replaced; patches keep their places."""
        new = new._replace(on=new.on & old.on)
        residual = added(self.residual, old.corner, drawn(old) - drawn(new))
        slots = jax.tree.map(lambda x, part: x.at[index].set(part, mode="drop"), self.slots, new)
        return self._replace(residual=residual, slots=slots)

    def with_more(self, new: Slots) -> "State":
        """The state with the slots of ``new`` that are on, as far as there is room."""
        index = self.used + jnp.cumsum(new.on) - 1
        on = new.on & (index < self.room)
        index = jnp.where(on, index, self.room)  # beyond the last: dropped
        new = new._replace(on=on)
        slots = jax.tree.map(lambda x, part: x.at[index].set(part, mode="drop"), self.slots, new)
        return State(added(self.residual, new.corner, -drawn(new)), slots, self.used + on.sum())


def start(block: Float[Array, "H W *C"], room: int, latents: int, size: tuple[int, int]) -> State:
    """The state without objects."""
    y = jnp.zeros((room, *size, *block.shape[2:]))
    none, nothing = jnp.zeros(room), jnp.zeros((room, latents))
    where = jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0]), (room, 3))
    seen = Seen(where, nothing, none, y, none)
    slots = Slots(jnp.zeros((room, 2), int), seen, none, jnp.zeros(room, bool))
    return State(block, slots, jnp.array(0))


def drawn(slots: Slots) -> Float[Array, "M h w *C"]:
    """The objects, each in its patch; 0 where there is none."""
    return chosen(slots.on, slots.seen.y, 0.0)


def chosen(
    which: Bool[Array, " M"], yes: Shaped[Array, "M *shape"], no: Shaped[Array, "..."] | float
) -> Shaped[Array, "M *shape"]:
    """A choice for each row."""
    return jnp.where(which.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)


def cut(
    block: Float[Array, "H W *C"], corners: Int[Array, "K 2"], size: tuple[int, int]
) -> Float[Array, "K h w *C"]:
    """The patches of a block with these corners."""

    def one(corner: Int[Array, "2"]) -> Float[Array, "h w *C"]:
        at = (corner[0], corner[1], *[0] * (block.ndim - 2))
        return jax.lax.dynamic_slice(block, at, (*size, *block.shape[2:]))

    return jax.vmap(one)(corners)


def added(
    block: Float[Array, "H W *C"], corners: Int[Array, "K 2"], patches: Float[Array, "K h w *C"]
) -> Float[Array, "H W *C"]:
    """The block with patches added; they may overlap."""

    def add(i: Int[Array, ""], block: Float[Array, "H W *C"]) -> Float[Array, "H W *C"]:
        at = (corners[i, 0], corners[i, 1], *[0] * (block.ndim - 2))
        old = jax.lax.dynamic_slice(block, at, patches.shape[1:])
        return jax.lax.dynamic_update_slice(block, old + patches[i], at)

    return jax.lax.fori_loop(0, len(corners), add, block)


def lowered(
    free: Float[Array, "H W"], corners: Int[Array, "K 2"], by: Float[Array, "K h w"]
) -> Float[Array, "H W"]:
    """``free`` times 1 less each patch."""

    def one(i: Int[Array, ""], free: Float[Array, "H W"]) -> Float[Array, "H W"]:
        at = corners[i, 0], corners[i, 1]
        old = jax.lax.dynamic_slice(free, at, by.shape[1:])
        return jax.lax.dynamic_update_slice(free, old * (1 - by[i]), at)

    return jax.lax.fori_loop(0, len(corners), one, free)


def middles(where: Float[Array, "K 3"]) -> Float[Array, "K 2"]:
    """The middle of windows (x, y), in coordinates of their patch."""
    return -where[:, 1:] / where[:, :1]


def chunks(used: Int[Array, ""]) -> Int[Array, ""]:
    """How many chunks have slots that are in use."""
    return (used + TOGETHER - 1) // TOGETHER


def conflict(pairs: Array, i: Int[Array, " K"], j: Int[Array, " K"]) -> Array:
    """Which pairs of objects share one with an earlier pair."""
    a, b = jnp.stack([i, j], axis=1)[:, None, :, None], jnp.stack([i, j], axis=1)[None, :, None, :]
    share = (a == b).any((2, 3)) & pairs[:, None] & pairs[None]
    return (share & (jnp.arange(len(i))[:, None] > jnp.arange(len(i))[None])).any(1)
