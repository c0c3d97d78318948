"""A second look at what the guide found in an image: is one of its objects two?

The guide says in one go what is where, and may take two objects that lie close for one. The model
can tell: it explains the image badly then. So the guide's explanation with n objects is held
against one with n + 1, in which an object is taken for two and each is read again in what the
others leave of the image. With L_n the ELBO of the best explanation found with n objects, and q(n)
the guide's own probabilities,

    p(n + 1) / p(n) = q(n + 1) exp(L_{n+1}) / (q(n) exp(L_n)).
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Bool, Float, Int

from airjax.elbo import log_count_probs
from airjax.guide import Guide
from airjax.model import Model, presence_probs, where_prior
from airjax.paths import all_on_trace
from airjax.spatial import over_pixels, window_to_image

APART = (0.12, 0.21, 0.3)  # half the distance of two objects taken for one, in sides of a window
DIRECTIONS = 4  # in which they may lie
SWEEPS = 2  # how often each object is read again


class Explanation(NamedTuple):
    """What an image is explained with: normal q of T places and codes, and the objects that the
    model draws at their means."""

    z_where: Float[Array, "T 3"]
    where_scale: Float[Array, "T 3"]
    z_what: Float[Array, "T Z"]
    what_scale: Float[Array, "T Z"]
    y: Float[Array, "T H W *C"]


class Look(NamedTuple):
    """An image in [0, 1], and the programs that explain it."""

    model: Model
    guide: Guide
    image: Float[Array, "H W *C"]

    def read(self, left: Float[Array, "H W *C"], steps: int) -> Explanation:
        """The objects of the guide's mean path through so many steps, in what is left of the
        image."""
        config = dataclasses.replace(self.guide.config, model_steps=steps)
        guide = dataclasses.replace(self.guide, config=config)
        sites = all_on_trace(guide, left[None], jax.random.key(0), mean=True)

        def q(name: str) -> tuple[Float[Array, "steps _"], Float[Array, "steps _"]]:
            every = [site["fn"] for site in sites[name]]
            variance = jnp.concatenate([each.variance for each in every])
            return jnp.concatenate([each.mean for each in every]), jnp.sqrt(variance)

        return self.drawn(*q("z_where"), *q("z_what"))

    def drawn(
        self, where: Array, where_scale: Array, what: Array, what_scale: Array
    ) -> Explanation:
        """Explanation with these q."""
        y = window_to_image(where, self.model.decoder(what), self.model.config.image_size)
        return Explanation(where, where_scale, what, what_scale, y)

    def elbo(self, objects: Explanation, on: Bool[Array, " T"]) -> Float[Array, ""]:
        """log p(x | z) at the means of q, less KL(q || p) of the objects that are on, and log p(n);
        in nats."""
        likelihood, config = self.model.likelihood, self.model.config
        log_p = likelihood(canvas(objects, on)[None]).log_prob(self.image[None]).sum()
        q_where = dist.Normal(objects.z_where, objects.where_scale)
        q_what = dist.Normal(objects.z_what, objects.what_scale)
        kl = dist.kl_divergence(q_where, dist.Normal(*where_prior(config))).sum(-1)
        kl += dist.kl_divergence(q_what, dist.Normal()).sum(-1)
        log_p_n = log_count_probs(presence_probs(config)[:, None])[:, 0]
        return likelihood.power * log_p - jnp.where(on, kl, 0).sum() + log_p_n[on.sum()]

    def left_by(self, objects: Explanation, on: Bool[Array, " T"]) -> Float[Array, "H W *C"]:
        """The image without the objects that are on."""
        ground, drawn = self.model.likelihood.on_ground, canvas(objects, on)
        return jnp.clip(self.image - ground(drawn) + ground(jnp.zeros_like(drawn)), 0, 1)

    def again(self, objects: Explanation, on: Bool[Array, " T"]) -> Explanation:
        """Each object in turn is what the guide sees first in what the others leave; so for
        ``SWEEPS`` times."""
        t = jnp.arange(len(on))

        def one(i: Int[Array, ""], objects: Explanation) -> Explanation:
            k = i % len(on)
            return put(objects, k, self.read(self.left_by(objects, on & (t != k)), 1))

        return jax.lax.fori_loop(0, SWEEPS * len(on), one, objects)

    def one_as_two(self, objects: Explanation, n: Int[Array, ""]) -> Explanation:
        """The best explanation that takes one of the first n objects for two, with codes read off
        windows around these. The further object is the one with index n."""
        t = jnp.arange(len(objects.y))
        angle = math.pi * jnp.arange(DIRECTIONS) / DIRECTIONS
        side = 2 / self.model.config.scale_prior_mean  # of a window, where the image's is 2
        apart = side * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        shifts = (jnp.array(APART)[:, None, None] * apart).reshape(-1, 2)

        def split(k: Int[Array, ""], shift: Float[Array, "2"]) -> Explanation:
            centre, parts = -objects.z_where[k, 1:] / objects.z_where[k, 0], objects
            for index, place in ((k, centre + shift), (n, centre - shift)):
                left = self.left_by(parts, (t < n) & (t != index))
                parts = put(parts, index, self.at(place, objects.where_scale[k], left))
            return parts

        def value(pair: tuple[Int[Array, ""], Float[Array, "2"]]) -> Float[Array, ""]:
            return jnp.where(pair[0] < n, self.elbo(split(*pair), t <= n), -jnp.inf)

        pairs = jnp.repeat(t, len(shifts)), jnp.tile(shifts, (len(t), 1))
        best = jax.lax.map(value, pairs).argmax()  # one by one: bounds the memory
        return split(*(each[best] for each in pairs))

    def at(self, place: Float[Array, "2"], scale: Float[Array, "3"], left: Array) -> Explanation:
        """The object that the guide reads off a window of the prior's size around a place."""
        s = where_prior(self.model.config)[0][:1]
        z_where = jnp.concatenate([s, -s * place])[None]
        networks, seen = self.guide.networks, self.guide.likelihood.less_ground(left)[None]
        what = self.guide.code(networks, networks.rnn.initial_state, z_where, seen)
        return self.drawn(z_where, scale[None], *what)

    def without_one(self, objects: Explanation, on: Bool[Array, " T"]) -> Explanation:
        """These objects without that which is missed least; it becomes the last."""
        t = jnp.arange(len(on))
        values = jax.vmap(lambda k: self.elbo(objects, on & (t != k)))(t)
        best = jnp.where(on, values, -jnp.inf).argmax()
        order = jnp.argsort(jnp.where(t == best, len(on), t))
        return jax.tree.map(lambda x: x[order], objects)


def put(objects: Explanation, k: Int[Array, ""], one: Explanation) -> Explanation:
    """Explanation of which one is replaced."""
    return jax.tree.map(lambda x, new: x.at[k].set(new[0]), objects, one)


def canvas(objects: Explanation, on: Bool[Array, " T"]) -> Float[Array, "H W *C"]:
    """The sum of the objects that are on."""
    return jnp.where(over_pixels(on, objects.y), objects.y, 0).sum(0)


def looked_again(
    model: Model, guide: Guide, image: Float[Array, "H W *C"], log_q_n: Float[Array, " counts"]
) -> tuple[Float[Array, " counts"], Explanation]:
    """The probability of each count, and the objects of the best explanation with the most probable
    one: those come first. Nothing changes where the guide finds none, or T.

    Args:
        model: trained generative program.
        guide: trained guide; one that reads codes off windows.
        image: in [0, 1].
        log_q_n: of T + 1 counts, what the guide says of them.
    """
    look, steps, n = Look(model, guide, image), model.config.model_steps, log_q_n.argmax()
    t = jnp.arange(steps)
    as_read = look.read(image, steps)
    more = look.again(look.one_as_two(as_read, n), t <= n)
    # as many as were read, found in another way: so both counts are looked at as hard
    others = look.again(look.without_one(more, t <= n), t < n)
    possible = (n > 0) & (n < steps)
    elbo = jnp.stack([look.elbo(as_read, t < n), look.elbo(others, t < n)])
    elbo = jnp.where(possible | (jnp.arange(2) == 0), elbo, -jnp.inf)
    gain = jnp.where(possible, look.elbo(more, t <= n) - elbo.max(), 0)
    probs = jax.nn.softmax(log_q_n + gain * (jnp.arange(steps + 1) == n + 1))
    best = jnp.where(probs.argmax() > n, 2, elbo.argmax())
    return probs, jax.tree.map(lambda *x: jnp.stack(x)[best], as_read, others, more)
