"""Changes of the number of objects in one place of a block: two for one, and none for one.

The objects beside it were inferred given the wrong number, and draw a part of what it should. So
they are inferred again with the change, which is made if it raises the evidence.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from airjax.inference.looks import Looks, Patches
from airjax.inference.slots import (
    TOGETHER,
    Seen,
    Slots,
    State,
    added,
    chosen,
    chunks,
    conflict,
    cut,
    drawn,
    middles,
)
from airjax.programs.spatial import pixel_centres, window_to_image

APART = 0.8  # half the distance at which two objects are tried, in standard deviations
REACH = 1.2  # side of the region whose shape says where two objects may be, in windows
ROUNDS = 3  # in which they are inferred
BESIDE = 2  # objects at most that are inferred again with a change
SLACK = 25.0  # nats that a change may lose until those beside are inferred again
INVOLVED = 3.0  # windows; nearer changes are not made at the same time


class Beside(NamedTuple):
    """For each of K objects another one close to it.

    Attributes:
        number: ``[K]``, of its slot.
        slot: it.
        seen: it, in the patch of the first; its image is 0 where ``near`` is not.
        near: ``[K]``, whether there is one.
    """

    number: Int[Array, " K"]
    slot: Slots
    seen: Seen
    near: Bool[Array, " K"]


def split(
    reader: Looks, image: Float[Array, "H W *C"], state: State, which: Bool[Array, " M"]
) -> State:
    """Each of these objects that is better explained as two becomes two."""

    def first(mine: Int[Array, " K"]) -> Float[Array, "K n"]:
        old, others = state.chunk(mine, reader.patch)
        images = cut(image, old.corner, reader.patch)
        ends = axis_of(reader, others, old.seen.where)
        a = reader.look_in(images, others, ends[0])
        b = reader.look_in(images, others - a.y, ends[1])
        a = reader.look_in(images, others - b.y, ends[0])
        b = reader.look_in(images, others - a.y, ends[1])
        gain = explained(reader, others, [a, b], []) - reader.worth(others, old.seen)
        return jnp.concatenate([gain[:, None], a.where, b.where], axis=1)

    found = of_these(state, which, first)
    gain, where = found[:, 0], found[:, 1:]

    def one(mine: Int[Array, " K"], state: State) -> State:
        old, images, alone, near = around(reader, image, state, mine, BESIDE)
        others = alone + sum(each.seen.y for each in near)
        before = explained(reader, others, [old.seen, *(each.seen for each in near)], near)
        places = middles(where[mine, :3]), middles(where[mine, 3:])
        a = reader.look_in(images, alone, places[0])
        b = reader.look_in(images, alone - a.y, places[1])
        a, b, *rest = settled(reader, images, others, [a, b, *(each.seen for each in near)], near)
        two = old.on & (explained(reader, others, [a, b, *rest], near) > before)
        two = apart(reader, two, mine, old, near)
        two &= state.used + jnp.cumsum(two) <= state.room
        state = replaced(reader, state, mine, two, a)
        for each, seen in zip(near, rest, strict=True):
            state = moved(state, two & each.near, old.corner, each, seen)
        return state.with_more(Slots(old.corner, b, jnp.zeros(TOGETHER), two))

    return promising(state, gain, one)


def drop(reader: Looks, image: Float[Array, "H W *C"], state: State) -> State:
    """Each object without which those beside it explain the picture better is removed."""

    def first(mine: Int[Array, " K"]) -> Float[Array, "K n"]:
        old, images, alone, (near,) = around(reader, image, state, mine, 1)
        others = alone + near.seen.y
        before = explained(reader, others, [old.seen, near.seen], [near])
        there = reader.look(images, others, jnp.clip(middles(near.seen.where), -0.6, 0.6))
        gain = jnp.where(near.near, reader.worth(others, there) - before, -jnp.inf)
        return gain[:, None]

    def one(mine: Int[Array, " K"], state: State) -> State:
        old, images, alone, near = around(reader, image, state, mine, BESIDE)
        others = alone + sum(each.seen.y for each in near)
        before = explained(reader, others, [old.seen, *(each.seen for each in near)], near)
        rest = settled(reader, images, others, [each.seen for each in near], near)
        gone = old.on & near[0].near & (explained(reader, others, rest, near) > before)
        gone = apart(reader, gone, mine, old, near)
        for each, seen in zip(near, rest, strict=True):
            state = moved(state, gone & each.near, old.corner, each, seen)
        old, _ = state.chunk(mine, reader.patch)
        return state.with_chunk(mine, old, old._replace(on=old.on & ~gone))

    return promising(state, of_these(state, state.slots.on, first)[:, 0], one)


def around(
    reader: Looks, image: Float[Array, "H W *C"], state: State, mine: Int[Array, " K"], number: int
) -> tuple[Slots, Patches, Patches, list[Beside]]:
    """Some objects, the image and the residual of all others in their patches, and those beside."""
    old, others = state.chunk(mine, reader.patch)
    images = cut(image, old.corner, reader.patch)
    return old, images, others, beside(reader, state, mine, number)


def of_these(
    state: State,
    which: Bool[Array, " M"],
    infer: Callable[[Int[Array, " K"]], Float[Array, "K n"]],
) -> Float[Array, "M n"]:
    """What is inferred of each of these objects, given the index of some; of others, minus
    infinity."""
    shape = jax.eval_shape(infer, jnp.arange(TOGETHER)).shape
    index, number = in_order(state, which)

    def some(i: Int[Array, ""], found: Float[Array, "M n"]) -> Float[Array, "M n"]:
        mine = jax.lax.dynamic_slice_in_dim(index, i * TOGETHER, TOGETHER)
        return found.at[mine].set(infer(mine), mode="drop")

    found = jnp.full((state.room, *shape[1:]), -jnp.inf)
    return jax.lax.fori_loop(0, chunks(number), some, found)


def in_order(state: State, which: Bool[Array, " M"]) -> tuple[Int[Array, " M"], Int[Array, ""]]:
    """The index of those of these objects that are on, then M; and their number."""
    which = which & state.slots.on
    number = which.sum()
    index = jnp.where(jnp.arange(state.room) < number, jnp.argsort(~which), state.room)
    return index, number


def promising(
    state: State, gain: Float[Array, " M"], change: Callable[[Int[Array, " K"], State], State]
) -> State:
    """Tries a change of the objects that lose little by it before those beside them have been
    inferred again."""
    index, number = in_order(state, gain > -SLACK)

    def some(i: Int[Array, ""], state: State) -> State:
        return change(jax.lax.dynamic_slice_in_dim(index, i * TOGETHER, TOGETHER), state)

    return jax.lax.fori_loop(0, chunks(number), some, state)


def settled(
    reader: Looks, images: Patches, residual: Patches, seen: list[Seen], near: list[Beside]
) -> list[Seen]:
    """Objects of each patch, the last ones those beside it, inferred again in turn."""
    residual = residual - sum(each.y for each in seen)
    wanted = [None] * (len(seen) - len(near)) + [each.near for each in near]

    def turn(_: Int[Array, ""], carry: tuple) -> tuple:
        residual, seen = carry
        for k, want in enumerate(wanted):
            without = residual + seen[k].y
            new = reader.look(images, without, jnp.clip(middles(seen[k].where), -0.6, 0.6))
            better = reader.worth(without, new) > reader.worth(without, seen[k])
            better = better if want is None else better & want
            new = jax.tree.map(partial(chosen, better), new, seen[k])
            seen = [*seen[:k], new, *seen[k + 1 :]]
            residual = without - new.y
        return residual, seen

    return jax.lax.fori_loop(0, ROUNDS, turn, (residual, seen))[1]


def explained(
    reader: Looks, residual: Patches, seen: list[Seen], near: list[Beside]
) -> Float[Array, " K"]:
    """Nats by which objects raise the evidence together, the last ones those beside."""
    wanted = [None] * (len(seen) - len(near)) + [each.near for each in near]
    total = jnp.zeros(TOGETHER)
    for each, want in zip(seen, wanted, strict=True):
        worth = reader.worth(residual, each)
        total += worth if want is None else jnp.where(want, worth, 0.0)
        residual = residual - each.y
    return total


def apart(
    reader: Looks, which: Bool[Array, " K"], mine: Int[Array, " K"], old: Slots, near: list[Beside]
) -> Bool[Array, " K"]:
    """Those changes that have no earlier one close by, and none of its objects."""
    which = reader.alone(which, old, INVOLVED)
    for each in near:
        which &= ~conflict(which, mine, each.number)
    return which


def replaced(
    reader: Looks, state: State, mine: Int[Array, " K"], which: Bool[Array, " K"], seen: Seen
) -> State:
    """These slots with other objects in some of them."""
    old, _ = state.chunk(mine, reader.patch)
    new = jax.tree.map(lambda yes, no: chosen(which, yes, no), seen, old.seen)
    return state.with_chunk(mine, old, old._replace(seen=new))


def moved(
    state: State, which: Bool[Array, " K"], corner: Int[Array, "K 2"], third: Beside, seen: Seen
) -> State:
    """The objects beside others replaced, with patches at these corners."""
    residual = added(state.residual, third.slot.corner, drawn(third.slot._replace(on=which)))
    new = third.slot._replace(corner=corner, seen=seen, on=which)
    residual = added(residual, corner, -drawn(new))
    index = jnp.where(which, third.number, state.room)
    slots = jax.tree.map(lambda x, y: x.at[index].set(y, mode="drop"), state.slots, new)
    return state._replace(residual=residual, slots=slots)


def beside(reader: Looks, state: State, mine: Int[Array, " K"], number: int) -> list[Beside]:
    """The nearest other objects of each of these, within a window's side."""
    slots, half = state.slots, jnp.array(reader.patch, jnp.float32) / 2
    at = slots.corner + (middles(slots.seen.where)[:, ::-1] + 1) * half
    corner = slots.corner[mine]
    far = jnp.square(at[mine][:, None] - at[None]).sum(-1)
    same = mine[:, None] == jnp.arange(state.room)
    far = jnp.where(slots.on[None] & ~same, far, jnp.inf)
    found = []
    for _ in range(number):
        index, near = far.argmin(1), far.min(1) < reader.side**2
        far = far.at[jnp.arange(TOGETHER), index].set(jnp.inf)
        slot: Slots = jax.tree.map(lambda x, index=index: x[index], slots)
        shift = ((slot.corner - corner) / half)[:, ::-1]  # in coordinates of the patch
        s = slot.seen.where[:, :1]
        where = slot.seen.where.at[:, 1:].add(-s * shift)
        y = window_to_image(where, reader.model.decoder(slot.seen.what), reader.patch)
        seen = slot.seen._replace(where=where, y=chosen(near, y, 0.0))
        found.append(Beside(index, slot, seen, near))
    return found


def axis_of(
    reader: Looks, residual: Patches, where: Float[Array, "K 3"]
) -> tuple[Float[Array, "K 2"], Float[Array, "K 2"]]:
    """Two places, in coordinates of the patch, where the objects may be that a window covers:
    ``APART`` standard deviations from the centroid of what is in it, along its principal axis."""
    height, width = reader.patch
    at = jnp.stack(jnp.meshgrid(pixel_centres(width), pixel_centres(height)), axis=-1)[None]
    near = jnp.abs(at - middles(where)[:, None, None]).max(-1) < REACH / where[:, 0, None, None]
    light = jnp.clip(residual, 0, 1)
    light = (light.sum(-1) if light.ndim == 4 else light) * near
    total = light.sum((1, 2))[:, None] + 1e-6
    middle = jnp.einsum("khw,khwi->ki", light, jnp.broadcast_to(at, (*light.shape, 2))) / total
    x, y = jnp.moveaxis(at - middle[:, None, None], -1, 0)
    a, b, c = (jnp.einsum("khw,khw->k", light, each) for each in (x * x, x * y, y * y))
    a, b, c = (each / total[:, 0] for each in (a, b, c))
    angle = jnp.arctan2(2 * b, a - c) / 2
    longest = (a + c) / 2 + jnp.sqrt(jnp.square(a - c) / 4 + b * b)
    axis = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    far = APART * jnp.sqrt(longest)[:, None] * axis
    return middle + far, middle - far
