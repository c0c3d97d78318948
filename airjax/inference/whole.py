"""Reads a picture of any size, with any number of objects: attend, infer, repeat until nothing that
is left is worth an object.

The guide attend has no memory and looks at one neighbourhood at a time. So the networks can look at
many places at once, and what they infer does not depend on the size of the picture. In each of
``PASSES``:

1. The residual is searched. In each round the networks look at the places where most of it is
   unexplained, none close to another. Objects are subtracted. The search ends when no such place is
   left, or all have been refused.
2. Each object is inferred again in the residual of all others (a sweep), and replaced if that
   raises the evidence.
3. Each object is compared with two in its place, and then with none. Those beside it are inferred
   again with them (`airjax.inference.moves`).
4. Objects that do not raise the evidence are removed.

The evidence is Laplace's approximation of log p(image, objects) with the latents integrated out:
the latents are at the means of the guide, and its scales are the posterior's. So an object pays for
what is not known about it, too. In the first search, the guide's probability must also say that
there is an object. Nothing is random.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from airjax.inference.looks import Looks, Patches
from airjax.inference.moves import drop, split
from airjax.inference.slots import (
    TOGETHER,
    Slots,
    State,
    chosen,
    chunks,
    cut,
    lowered,
    middles,
    start,
)
from airjax.programs.spatial import pixel_centres

PASSES = 2
FINE = 8  # places are found to this part of a window's side
UNCHANGED = 0.2  # standard deviations of a pixel
FAINT = 0.02  # least mean intensity under a window of places that are looked at
ROUNDS = 1000  # of a search, at most


class Reader(Looks):
    """Reads blocks with trained programs."""

    def read(self, block: Float[Array, "H W *C"], room: int) -> State:
        """The objects of a block. Their corners are in pixels of the block less half a patch, as
        the block is padded by that.

        Args:
            block: intensities in [0, 1].
            room: M, the largest number of objects that can be found.
        """
        (height, width), (top, left) = self.patch, self.centre
        padding = [(top, height), (left, width)] + [(0, 0)] * (block.ndim - 2)
        image = jnp.pad(block, padding)
        state = start(image, room, self.model.config.encoder_latent_size, self.patch)

        def one_pass(i: Int[Array, ""], carry: tuple) -> tuple:
            state, (swept, splitted) = carry
            size = block.shape[0], block.shape[1]
            state = self.search(image, size, state, i == 0)
            state, swept = self.sweep(image, state, self.changed(state, swept)), state.residual
            which, splitted = self.changed(state, splitted), state.residual
            state = split(self, image, state, which)
            state, swept = self.sweep(image, state, self.changed(state, swept)), state.residual
            state = drop(self, image, state)
            state, swept = self.sweep(image, state, self.changed(state, swept)), state.residual
            return self.prune(state), (swept, splitted)

        other = jnp.full_like(image, jnp.inf)  # all has changed
        return jax.lax.fori_loop(0, PASSES, one_pass, (state, (other, other)))[0]

    def changed(self, state: State, before: Float[Array, "H W *C"]) -> Bool[Array, " M"]:
        """Objects around which, within a window, the residual is not what it was."""
        change = jnp.abs(state.residual - before) > UNCHANGED * self.model.likelihood.sd
        change = change.any(-1) if change.ndim == 3 else change
        q = max(1, round(self.side / 2))
        height, width = (-(-n // q) for n in change.shape)
        change = jnp.pad(
            change, [(0, height * q - change.shape[0]), (0, width * q - change.shape[1])]
        )
        cells = change.reshape(height, q, width, q).any((1, 3))
        near = jax.lax.reduce_window(cells, False, jax.lax.bitwise_or, (5, 5), (1, 1), "SAME")
        half = jnp.array(self.patch, jnp.float32) / 2
        at = state.slots.corner + (middles(state.slots.seen.where)[:, ::-1] + 1) * half
        row, column = jnp.clip((at / q).astype(int), 0, jnp.array([height, width]) - 1).T
        return near[row, column]

    def search(
        self, image: Float[Array, "H W *C"], size: tuple[int, int], state: State, first: Array
    ) -> State:
        """Adds objects until no place is left that is worth one."""
        middle = jnp.stack([pixel_centres(n)[n // 2] for n in self.patch[::-1]])[None]
        refused_at = self._hat()

        def round(carry: tuple) -> tuple:
            state, free, (is_open, corners), rounds = carry
            here = cut(state.residual, corners, self.patch)
            place = jnp.broadcast_to(middle, (len(corners), 2))
            seen = self.look(cut(image, corners, self.patch), here, place)
            worth = self.worth(here, seen)
            # one that explains nothing would be found there again and again
            on = is_open & jnp.where(first, (seen.p > 0.5) & (worth > 0), worth > 0)
            state = state.with_more(Slots(corners, seen, worth, on))
            refused = chosen(is_open & ~on, jnp.broadcast_to(refused_at, here.shape[:3]), 0.0)
            free = lowered(free, corners, refused)
            return state, free, self.places(state.residual, free, size), rounds + 1

        def unfinished(carry: tuple) -> Array:
            state, _, (is_open, _), rounds = carry
            return is_open.any() & (rounds < ROUNDS) & (state.used < state.room)

        free = jnp.ones(image.shape[:2])
        carry = (state, free, self.places(state.residual, free, size), 0)
        return jax.lax.while_loop(unfinished, round, carry)[0]

    def places(
        self, residual: Float[Array, "H W *C"], free: Float[Array, "H W"], size: tuple[int, int]
    ) -> tuple[Array, Int[Array, "K 2"]]:
        """Where a window covers most of the residual: up to K places, none within about a window of
        another, as corners of their patches; and which of them are worth a look."""
        q = max(1, int(self.side / FINE))  # pixels that are summed
        cell = max(1, round(self.side / 2 / q))
        (rows, columns), (top, left) = (-(-n // (q * cell)) for n in size), self.centre
        light = jnp.clip(residual, 0, 1)
        light = (light.sum(-1) if light.ndim == 3 else light) * free
        light = light[top : top + size[0], left : left + size[1]]
        light = jnp.pad(
            light, [(0, n * q * cell - m) for n, m in zip((rows, columns), size, strict=True)]
        )
        light = light.reshape(rows * cell, q, columns * cell, q).sum((1, 3))
        half = self.side / 2 / q
        covered = _hats(rows * cell, half) @ light @ _hats(columns * cell, half)
        cells = (covered / (half * q) ** 2).reshape(rows, cell, columns, cell)
        cells = cells.transpose(0, 2, 1, 3).reshape(rows * columns, cell * cell)
        most, inner = cells.max(-1).reshape(rows, columns), cells.argmax(-1)
        around = jax.lax.reduce_window(most, 0.0, jax.lax.max, (5, 5), (1, 1), "SAME")
        value = jnp.where((most >= around) & (most > FAINT), most, 0.0).ravel()
        best, index = jax.lax.top_k(value, min(TOGETHER, value.size))
        row = (index // columns) * cell + inner[index] // cell
        column = (index % columns) * cell + inner[index] % cell
        pixel = jnp.stack([row, column], axis=-1) * q + q // 2
        return best > 0, jnp.minimum(pixel, jnp.array(size) - 1)

    def sweep(self, image: Float[Array, "H W *C"], state: State, which: Bool[Array, " M"]) -> State:
        """Each of these objects is inferred again in the residual of the others."""

        def again(old: Slots, others: Patches) -> Slots:
            place = jnp.clip(middles(old.seen.where), -0.6, 0.6)
            seen = self.look(cut(image, old.corner, self.patch), others, place)
            before, after = self.worth(others, old.seen), self.worth(others, seen)
            better = partial(chosen, after > before)
            seen = jax.tree.map(better, seen, old.seen)
            return Slots(old.corner, seen, better(after, before), old.on)

        return self.in_turn(state, which, again)

    def prune(self, state: State) -> State:
        """Removes objects that do not raise the evidence."""

        def checked(old: Slots, others: Patches) -> Slots:
            worth = self.worth(others, old.seen)
            return old._replace(worth=worth, on=old.on & (worth > 0))

        return self.in_turn(state, state.slots.on, checked)

    def in_turn(
        self, state: State, which: Bool[Array, " M"], update: Callable[[Slots, Array], Slots]
    ) -> State:
        """Updates these slots given the residual of all others, many at a time but none together
        with one that is close."""
        which = which & state.slots.on
        turns = jnp.where(which, self.turns(state, which), state.room)
        order, number = jnp.argsort(turns), which.sum()

        def some(carry: tuple) -> tuple:
            start, state = carry
            at = start + jnp.arange(TOGETHER)
            index = order[jnp.minimum(at, state.room - 1)]
            now = (at < number) & (turns[index] == turns[index[0]])
            index = jnp.where(now, index, state.room)  # of nothing
            old, others = state.chunk(index, self.patch)
            return start + now.sum(), state.with_chunk(index, old, update(old, others))

        def unfinished(carry: tuple) -> Array:
            return carry[0] < number

        return jax.lax.while_loop(unfinished, some, (jnp.array(0), state))[1]

    def turns(self, state: State, which: Bool[Array, " M"]) -> Int[Array, " M"]:
        """When each of these objects is updated: after all earlier ones that are close to it."""
        half = jnp.array(self.patch, jnp.float32) / 2
        at = state.slots.corner + (middles(state.slots.seen.where)[:, ::-1] + 1) * half
        at = jnp.where(which[:, None], at, jnp.inf)

        def one(i: Int[Array, ""], turns: Int[Array, " M"]) -> Int[Array, " M"]:
            mine = jax.lax.dynamic_slice_in_dim(at, i * TOGETHER, TOGETHER)
            far = jnp.square(mine[:, None] - at[None]).sum(-1)
            earlier = (i * TOGETHER + jnp.arange(TOGETHER))[:, None] > jnp.arange(state.room)
            earlier &= far < (2 * self.side) ** 2
            after = jnp.where(earlier, turns[None] + 1, 0).max(1)
            among = jax.lax.dynamic_slice_in_dim(earlier, i * TOGETHER, TOGETHER, axis=1)

            def later(_: Int[Array, ""], own: Int[Array, " K"]) -> Int[Array, " K"]:
                return jnp.maximum(own, jnp.where(among, own[None] + 1, 0).max(1))

            own = jax.lax.fori_loop(0, TOGETHER, later, after)
            return jax.lax.dynamic_update_slice_in_dim(turns, own, i * TOGETHER, 0)

        return jax.lax.fori_loop(0, chunks(state.used), one, jnp.zeros(state.room, int))

    def _hat(self) -> Float[Array, "h w"]:
        """How much a place that was refused is lowered around it: within half a window."""
        s = self.model.config.scale_prior_mean
        y, x = (jnp.maximum(0, 1 - s / 2 * jnp.abs(pixel_centres(n))) for n in self.patch)
        return jnp.minimum(1, 2 * y[:, None] * x[None])


def _hats(n: int, half: float) -> Float[Array, "n n"]:
    """The weights of a window at each position, along one axis."""
    at = jnp.arange(n)
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] - at[None]) / half)
