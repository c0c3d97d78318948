"""A second look at the objects that the guide found: is one of them two, or one too many?

The guide infers an image in one pass, and may read two close objects as one. The model then
explains the image badly. So the guide's explanation with n objects is compared with one with n + 1,
in which one object is split in two, and each object is read again in the residual of the others.
It is also compared with one with n - 1, without the object that explains least. With L_n the ELBO
of the best explanation found with n objects, and q(n) the guide's probabilities,

    p(n + 1) / p(n) = q(n + 1) exp(L_{n+1}) / (q(n) exp(L_n)),

and p(n - 1) / p(n) in the same way. The networks do not find the best explanation: an object that
they draw badly is better explained by two. So the means of each explanation are fitted to the image
before it is compared (semi-amortised inference; Kim et al., 2018, arXiv:1802.02550).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import optax
from jaxtyping import Array, Bool, Float, Int

from airjax.programs.compose import composed
from airjax.programs.elbo import log_count_probs
from airjax.programs.guide import Guide, all_on_trace
from airjax.programs.model import Model, presence_probs, where_prior
from airjax.programs.spatial import window_to_image

APART = (0.12, 0.21, 0.3)  # half the distances tried between two objects, in sides of a window
DIRECTIONS = 4  # directions tried
SWEEPS = 2  # how often every object is read again
FITS, RATE = 30, 0.1  # steps of Adam that fit an explanation, and their learning rate


class Explanation(NamedTuple):
    """T objects that explain an image: the normal q of their places and codes, and the objects y
    that the model draws at the means of q."""

    z_where: Float[Array, "T 3"]
    where_scale: Float[Array, "T 3"]
    z_what: Float[Array, "T Z"]
    what_scale: Float[Array, "T Z"]
    y: Float[Array, "T H W *C"]


class Explainer(NamedTuple):
    """Explains an image in [0, 1] with the objects of two programs."""

    model: Model
    guide: Guide
    image: Float[Array, "H W *C"]

    def read(self, residual: Float[Array, "H W *C"], steps: int) -> Explanation:
        """The objects of the guide's mean path of this number of steps, in a residual image."""
        config = dataclasses.replace(self.guide.config, model_steps=steps)
        guide = dataclasses.replace(self.guide, config=config)
        sites = all_on_trace(guide, residual[None], jax.random.key(0), mean=True)

        def q(name: str) -> tuple[Float[Array, "steps _"], Float[Array, "steps _"]]:
            every = [site["fn"] for site in sites[name]]
            variance = jnp.concatenate([each.variance for each in every])
            return jnp.concatenate([each.mean for each in every]), jnp.sqrt(variance)

        return self.drawn(*q("z_where"), *q("z_what"))

    def drawn(
        self, where: Array, where_scale: Array, what: Array, what_scale: Array
    ) -> Explanation:
        """The explanation with these q."""
        y = window_to_image(where, self.model.decoder(what), self.model.config.image_size)
        return Explanation(where, where_scale, what, what_scale, y)

    def elbo(self, objects: Explanation, on: Bool[Array, " T"]) -> Float[Array, ""]:
        """log p(x | z) at the means of q, less KL(q || p) of the objects that are on, plus log
        p(n); in nats."""
        likelihood, config = self.model.likelihood, self.model.config
        pixels = likelihood(composed(config.compose, objects.y, on)[None])
        log_p = pixels.log_prob(self.image[None]).sum()
        q_where = dist.Normal(objects.z_where, objects.where_scale)
        q_what = dist.Normal(objects.z_what, objects.what_scale)
        kl = dist.kl_divergence(q_where, dist.Normal(*where_prior(config))).sum(-1)
        kl += dist.kl_divergence(q_what, dist.Normal()).sum(-1)
        log_p_n = log_count_probs(presence_probs(config)[:, None])[:, 0]
        return likelihood.power * log_p - jnp.where(on, kl, 0).sum() + log_p_n[on.sum()]

    def residual(self, objects: Explanation, on: Bool[Array, " T"]) -> Float[Array, "H W *C"]:
        """The image less the objects that are on."""
        likelihood = self.model.likelihood
        mean = likelihood.mean(composed(likelihood.compose, objects.y, on))
        return jnp.clip(self.image - mean + likelihood.empty, 0, 1)

    def sweep(self, objects: Explanation, on: Bool[Array, " T"]) -> Explanation:
        """Reads each object again, as the first object in the residual of the others; ``SWEEPS``
        times."""
        t = jnp.arange(len(on))

        def one(i: Int[Array, ""], objects: Explanation) -> Explanation:
            k = i % len(on)
            return put(objects, k, self.read(self.residual(objects, on & (t != k)), 1))

        return jax.lax.fori_loop(0, SWEEPS * len(on), one, objects)

    def fitted(self, objects: Explanation, on: Bool[Array, " T"]) -> Explanation:
        """The explanation with the means of q moved up the gradient of its ELBO, by Adam. The
        objects that are off stay as they are: they have no gradient."""
        adam = optax.adam(RATE)

        def moved(means: tuple[Array, Array]) -> Explanation:
            return self.drawn(means[0], objects.where_scale, means[1], objects.what_scale)

        def step(_: Array, state: tuple[Any, Any]) -> tuple[Any, Any]:
            means, moments = state
            gradient = jax.grad(lambda m: -self.elbo(moved(m), on))(means)
            change, moments = adam.update(gradient, moments)
            return optax.apply_updates(means, change), moments

        means = objects.z_where, objects.z_what
        return moved(jax.lax.fori_loop(0, FITS, step, (means, adam.init(means)))[0])

    def one_as_two(self, objects: Explanation, n: Int[Array, ""]) -> Explanation:
        """The best explanation in which one of the first n objects is split in two, with codes read
        from windows around the two. The new object has the index n."""
        t = jnp.arange(len(objects.y))
        angle = math.pi * jnp.arange(DIRECTIONS) / DIRECTIONS
        side = 2 / self.model.config.scale_prior_mean  # of a window, where the image's is 2
        apart = side * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        shifts = (jnp.array(APART)[:, None, None] * apart).reshape(-1, 2)

        def split(k: Int[Array, ""], shift: Float[Array, "2"]) -> Explanation:
            centre, parts = -objects.z_where[k, 1:] / objects.z_where[k, 0], objects
            for index, place in ((k, centre + shift), (n, centre - shift)):
                residual = self.residual(parts, (t < n) & (t != index))
                parts = put(parts, index, self.at(place, objects.where_scale[k], residual))
            return parts

        def value(pair: tuple[Int[Array, ""], Float[Array, "2"]]) -> Float[Array, ""]:
            return jnp.where(pair[0] < n, self.elbo(split(*pair), t <= n), -jnp.inf)

        pairs = jnp.repeat(t, len(shifts)), jnp.tile(shifts, (len(t), 1))
        best = jax.lax.map(value, pairs).argmax()  # one by one: bounds the memory
        return split(*(each[best] for each in pairs))

    def at(
        self, place: Float[Array, "2"], scale: Float[Array, "3"], residual: Array
    ) -> Explanation:
        """The object that the guide reads from a window of the prior's size at a place."""
        s = where_prior(self.model.config)[0][:1]
        z_where = jnp.concatenate([s, -s * place])[None]
        networks, images = self.guide.networks, self.guide.likelihood.foreground(residual)[None]
        h = self.guide.features(networks, images, images, place[None])
        what = self.guide.encode(networks, h, z_where, images, images)
        return self.drawn(z_where, scale[None], *what)

    def without_one(self, objects: Explanation, on: Bool[Array, " T"]) -> Explanation:
        """These objects without the one that explains least, which becomes the last."""
        t = jnp.arange(len(on))
        values = jax.vmap(lambda k: self.elbo(objects, on & (t != k)))(t)
        best = jnp.where(on, values, -jnp.inf).argmax()
        order = jnp.argsort(jnp.where(t == best, len(on), t))
        return jax.tree.map(lambda x: x[order], objects)


def put(objects: Explanation, k: Int[Array, ""], one: Explanation) -> Explanation:
    """The explanation with object k replaced."""
    return jax.tree.map(lambda x, new: x.at[k].set(new[0]), objects, one)


def refined(
    model: Model, guide: Guide, image: Float[Array, "H W *C"], log_q_n: Float[Array, " counts"]
) -> tuple[Float[Array, " counts"], Explanation]:
    """The probability of each count, and the objects of the best explanation with the most probable
    count, which come first. T objects are not split, and a single one is not left out.

    Args:
        model: trained generative program.
        guide: trained guide; one that reads codes off windows.
        image: in [0, 1].
        log_q_n: the guide's log-probability of each count.
    """
    explainer, n = Explainer(model, guide, image), log_q_n.argmax()
    steps = model.config.model_steps
    t = jnp.arange(steps)
    as_read = explainer.read(image, steps)
    more = explainer.sweep(explainer.one_as_two(as_read, n), t <= n)
    # as many objects as were read, found in the same way: both counts get the same effort
    others = explainer.sweep(explainer.without_one(more, t <= n), t < n)
    possible = (n > 0) & (n < steps)
    better = possible & (explainer.elbo(others, t < n) > explainer.elbo(as_read, t < n))
    same = jax.tree.map(lambda x, y: jnp.where(better, x, y), others, as_read)
    fewer = explainer.sweep(explainer.without_one(as_read, t < n), t < n - 1)
    on = t < n, t <= n, t < n - 1
    found = list(map(explainer.fitted, (same, more, fewer), on))
    elbo, *others_elbo = map(explainer.elbo, found, on)
    gain = jnp.where(jnp.stack([possible, n > 1]), jnp.stack(others_elbo) - elbo, 0)
    counts = jnp.arange(steps + 1)
    probs = jax.nn.softmax(log_q_n + gain[0] * (counts == n + 1) + gain[1] * (counts == n - 1))
    best = jnp.select([probs.argmax() > n, probs.argmax() < n], [1, 2], 0)
    return probs, jax.tree.map(lambda *x: jnp.stack(x)[best], *found)
