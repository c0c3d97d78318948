"""Reads a picture of any size, with any number of objects: attend, infer, repeat until nothing that
is left is worth an object.

The guide attend has no memory and looks at one neighbourhood at a time. So the networks can look at
many places at once, and what they infer does not depend on the size of the picture. In each of
``PASSES``:

1. The residual is searched. In each round the networks look at the places where most of it is
   unexplained, none close to another. Objects are subtracted. The search ends when no such place is
   left, or all have been refused.
2. Each object is inferred again in the residual of all others (a sweep), and replaced if that
   raises the ELBO.
3. Each object is compared with two in its place.
4. Each object is compared with one in its place and that of its nearest neighbour.
5. Objects that do not raise the ELBO by a further -log k are removed: what the prior on the count
   takes off an object, once more, since the guide's ELBO is a few nats below the best one.

At first, the guide's probability decides which objects there are (of those that raise the ELBO);
later, the ELBO. All latents are
at the means of the guide, so nothing is random.
"""

import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, Int

from airjax.inference.slots import (
    TOGETHER,
    Seen,
    Slots,
    State,
    added,
    chosen,
    conflict,
    cut,
    drawn,
    lowered,
    start,
)
from airjax.programs.guide import AttendGuide
from airjax.programs.model import Model, where_prior
from airjax.programs.spatial import pixel_centres, window_to_image

PASSES = 2
FINE = 8  # places are found to this part of a window's side
FAINT = 0.02  # least mean intensity under a window of places that are looked at
ROUNDS = 1000  # of a search, at most
APART = 0.8  # half the distance at which two objects are tried, in standard deviations
REACH = 1.2  # side of the region whose shape says where two objects may be, in windows
FIXED = 0.1  # sd of places that are given, in prior standard deviations

Patches = Float[Array, "K h w *C"]


class Reader(eqx.Module):
    """Reads blocks with trained programs.

    Attributes:
        model: without a background.
        guide: of the same training.
    """

    model: Model
    guide: AttendGuide

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of the model's images."""
        return self.model.config.image_size

    @property
    def side(self) -> float:
        """The smaller side of a window of the prior's scale, in pixels."""
        return min(self.patch) / self.model.config.scale_prior_mean

    @property
    def price(self) -> float:
        """Nats that an object must raise the ELBO by."""
        return max(0.0, -math.log(self.model.config.z_pres_prior))

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

        def one_pass(i: Int[Array, ""], state: State) -> State:
            size = block.shape[0], block.shape[1]
            state = self.sweep(image, self.search(image, size, state, i == 0))
            state = self.sweep(image, self.split(image, state))
            state = self.sweep(image, self.merge(image, state))
            return self.prune(state)

        return jax.lax.fori_loop(0, PASSES, one_pass, state)

    @property
    def centre(self) -> tuple[int, int]:
        """Row and column of the middle pixel of a patch."""
        return self.patch[0] // 2, self.patch[1] // 2

    def look(self, images: Patches, residuals: Patches, place: Float[Array, "K 2"]) -> Seen:
        """What the guide infers at a place of each patch."""
        networks = self.guide.networks
        h = self.guide.features(networks, images, residuals, place)
        p, loc, scale = networks.predict(h)
        where, where_scale = self.guide.where(place, loc, scale)
        return self.decoded(images, residuals, where, where_scale, p)

    def look_in(self, images: Patches, residuals: Patches, place: Float[Array, "K 2"]) -> Seen:
        """What is in the window of the prior's scale at a given place of each patch."""
        s = self.model.config.scale_prior_mean
        where = jnp.insert(-s * place, 0, s, axis=-1)
        scale = jnp.broadcast_to(FIXED * where_prior(self.model.config)[1], where.shape)
        return self.decoded(images, residuals, where, scale, jnp.full(len(place), 0.5))

    def decoded(
        self,
        images: Patches,
        residuals: Patches,
        where: Float[Array, "K 3"],
        where_scale: Float[Array, "K 3"],
        p: Float[Array, " K"],
    ) -> Seen:
        """The objects in windows, with codes inferred from these windows."""
        guide, prior = self.guide, where_prior(self.model.config)
        features = jnp.zeros((len(where), 0))  # not read by this guide's encoder
        what, what_scale = guide.encode(guide.networks, features, where, images, residuals)
        kl = dist.kl_divergence(dist.Normal(where, where_scale), dist.Normal(*prior)).sum(-1)
        kl += dist.kl_divergence(dist.Normal(what, what_scale), dist.Normal()).sum(-1)
        y = window_to_image(where, self.model.decoder(what), self.patch)
        return Seen(where, what, kl, y, p)

    def worth(self, others: Patches, seen: Seen) -> Float[Array, " K"]:
        """Nats by which each object raises the ELBO, given the residual of all others: the
        log-likelihood, less the cost of the latents and of one object more."""
        gain = self.gain(others, seen.y)
        return gain - seen.kl + jnp.log(self.model.config.z_pres_prior)

    def gain(self, residual: Patches, y: Patches) -> Float[Array, " K"]:
        """Nats by which drawing y raises the log-likelihood."""
        likelihood = self.model.likelihood
        change = jnp.square(residual) - jnp.square(residual - y)
        total = change.reshape(len(y), -1).sum(-1)
        return likelihood.power * total / (2 * jnp.square(likelihood.sd))

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
            on = is_open & jnp.where(first, (seen.p > 0.5) & (worth > 0), worth > self.price)
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

    def sweep(self, image: Float[Array, "H W *C"], state: State) -> State:
        """Each object is inferred again in the residual of the others."""

        def again(old: Slots, others: Patches) -> Slots:
            place = jnp.clip(_centre(old.seen.where), -0.6, 0.6)
            seen = self.look(cut(image, old.corner, self.patch), others, place)
            before, after = self.worth(others, old.seen), self.worth(others, seen)
            better = partial(chosen, after > before)
            seen = jax.tree.map(better, seen, old.seen)
            return Slots(old.corner, seen, better(after, before), old.on)

        return self.in_turn(state, again)

    def prune(self, state: State) -> State:
        """Removes objects that are not worth their price."""

        def checked(old: Slots, others: Patches) -> Slots:
            worth = self.worth(others, old.seen)
            return old._replace(worth=worth, on=old.on & (worth > self.price))

        return self.in_turn(state, checked)

    def in_turn(self, state: State, update: Callable[[Slots, Array], Slots]) -> State:
        """Updates slots given the residual of all others, many at a time but none together with
        one that is close."""

        def one(i: Int[Array, ""], state: State) -> State:
            turns = self.turns(state.chunk(i, self.patch)[0])

            def turn(carry: tuple) -> tuple:
                t, state = carry
                old, others = state.chunk(i, self.patch)
                now = partial(chosen, turns == t)
                new: Slots = jax.tree.map(now, update(old, others), old)
                return t + 1, state.with_chunk(i, old, new)

            def unfinished(carry: tuple) -> Array:
                return carry[0] <= turns.max()

            return jax.lax.while_loop(unfinished, turn, (jnp.array(0), state))[1]

        return jax.lax.fori_loop(0, _chunks(state.used), one, state)

    def turns(self, some: Slots) -> Int[Array, " K"]:
        """When each is updated: after all earlier ones that are close to it."""
        earlier = self.close(some) & (jnp.arange(TOGETHER)[:, None] > jnp.arange(TOGETHER))

        def later(_: Int[Array, ""], turns: Int[Array, " K"]) -> Int[Array, " K"]:
            return jnp.where(earlier, turns[None] + 1, 0).max(1)

        return jax.lax.fori_loop(0, TOGETHER, later, jnp.zeros(TOGETHER, int))

    def close(self, some: Slots) -> Bool[Array, "K K"]:
        """Which pairs of objects are less than two windows apart, so that each changes what the
        other is worth."""
        half = jnp.array(self.patch, jnp.float32) / 2
        at = some.corner + (_centre(some.seen.where)[:, ::-1] + 1) * half
        far = jnp.square(at[:, None] - at[None]).sum(-1)
        return (far < (2 * self.side) ** 2) & some.on[:, None] & some.on[None]

    def alone(self, which: Bool[Array, " K"], some: Slots) -> Bool[Array, " K"]:
        """Those that have no earlier one of them close by."""
        earlier = jnp.arange(TOGETHER)[:, None] > jnp.arange(TOGETHER)
        return which & ~(self.close(some) & earlier & which[None]).any(1)

    def split(self, image: Float[Array, "H W *C"], state: State) -> State:
        """Each object that is better explained as two becomes two."""
        used = state.used

        def one(i: Int[Array, ""], state: State) -> State:
            old, others = state.chunk(i, self.patch)
            images = cut(image, old.corner, self.patch)
            middle, axis = self.shape_of(others, old.seen.where)
            before = self.worth(others, old.seen)

            ends = middle + APART * axis, middle - APART * axis
            a = self.look_in(images, others, ends[0])
            b = self.look_in(images, others - a.y, ends[1])
            a = self.look_in(images, others - b.y, ends[0])
            b = self.look_in(images, others - a.y, ends[1])
            after = self.worth(others, a) + self.worth(others - a.y, b)
            two = (
                old.on
                & (after > before + self.price)
                & (i * TOGETHER + jnp.arange(TOGETHER) < used)
            )
            two = self.alone(two, old) & (state.used + jnp.cumsum(two) <= state.room)
            seen = jax.tree.map(partial(chosen, two), a, old.seen)
            worth = chosen(two, self.worth(others - b.y, a), before)
            state = state.with_chunk(i, old, Slots(old.corner, seen, worth, old.on))
            return state.with_more(Slots(old.corner, b, self.worth(others - a.y, b), two))

        return jax.lax.fori_loop(0, _chunks(used), one, state)

    def merge(self, image: Float[Array, "H W *C"], state: State) -> State:
        """Each object and its nearest neighbour, if they are explained as well by one object,
        become one."""

        def one(i: Int[Array, ""], state: State) -> State:
            old, others = state.chunk(i, self.patch)
            j, near = self.neighbours(i, state)
            other: Slots = jax.tree.map(lambda x: x[j], state.slots)
            half = jnp.array(self.patch, jnp.float32)[None] / 2
            shift = ((other.corner - old.corner) / half)[:, ::-1]  # in coordinates of the patch
            s = other.seen.where[:, :1]
            where = other.seen.where.at[:, 1:].add(-s * shift)
            y = window_to_image(where, self.model.decoder(other.seen.what), self.patch)
            both = others + chosen(near, y, 0.0)
            place = (_centre(old.seen.where) + _centre(where)) / 2
            images = cut(image, old.corner, self.patch)
            seen = self.look(images, both, place)
            seen = self.look(images, both, jnp.clip(_centre(seen.where), -0.6, 0.6))
            pair = self.worth(both, old.seen) + self.worth(
                both - old.seen.y, other.seen._replace(y=y)
            )
            single = self.worth(both, seen)
            better = near & (single > pair - self.price)
            better = self.alone(better, old)
            better &= ~conflict(better, i * TOGETHER + jnp.arange(TOGETHER), j)
            new = jax.tree.map(partial(chosen, better), seen, old.seen)
            state = state.with_chunk(i, old, old._replace(seen=new))
            gone = other._replace(on=better)
            residual = added(state.residual, other.corner, drawn(gone))
            index = jnp.where(better, j, state.room)
            on = state.slots.on.at[index].set(False, mode="drop")
            return state._replace(residual=residual, slots=state.slots._replace(on=on))

        return jax.lax.fori_loop(0, _chunks(state.used), one, state)

    def neighbours(self, i: Int[Array, ""], state: State) -> tuple[Int[Array, " K"], Array]:
        """The nearest other object of each in the i-th chunk, and whether there is one within a
        window's side."""
        slots, half = state.slots, jnp.array(self.patch, jnp.float32) / 2
        at = slots.corner + (_centre(slots.seen.where)[:, ::-1] + 1) * half
        mine = jax.lax.dynamic_slice_in_dim(at, i * TOGETHER, TOGETHER)
        on = jax.lax.dynamic_slice_in_dim(slots.on, i * TOGETHER, TOGETHER)
        far = jnp.square(mine[:, None] - at[None]).sum(-1)
        same = (i * TOGETHER + jnp.arange(TOGETHER))[:, None] == jnp.arange(state.room)
        far = jnp.where(slots.on[None] & ~same, far, jnp.inf)
        return far.argmin(1), on & (far.min(1) < self.side**2)

    def shape_of(
        self, residual: Patches, where: Float[Array, "K 3"]
    ) -> tuple[Float[Array, "K 2"], Float[Array, "K 2"]]:
        """The centroid of what is in a window, and its principal axis with the standard deviation
        along it as its length; in coordinates of the patch."""
        height, width = self.patch
        at = jnp.stack(jnp.meshgrid(pixel_centres(width), pixel_centres(height)), axis=-1)[None]
        centre = -where[:, 1:] / where[:, :1]
        near = jnp.abs(at - centre[:, None, None]).max(-1) < REACH / where[:, 0, None, None]
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
        return middle, jnp.sqrt(longest)[:, None] * axis

    def _hat(self) -> Float[Array, "h w"]:
        """How much a place that was refused is lowered around it: within half a window."""
        s = self.model.config.scale_prior_mean
        y, x = (jnp.maximum(0, 1 - s / 2 * jnp.abs(pixel_centres(n))) for n in self.patch)
        return jnp.minimum(1, 2 * y[:, None] * x[None])


def _centre(where: Float[Array, "K 3"]) -> Float[Array, "K 2"]:
    """The middle of windows (x, y), in coordinates of the image."""
    return -where[:, 1:] / where[:, :1]


def _chunks(used: Int[Array, ""]) -> Int[Array, ""]:
    return (used + TOGETHER - 1) // TOGETHER


def _hats(n: int, half: float) -> Float[Array, "n n"]:
    """The weights of a window at each position, along one axis."""
    at = jnp.arange(n)
    return jnp.maximum(0, 1 - jnp.abs(at[:, None] - at[None]) / half)
