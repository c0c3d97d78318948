"""Are wrong counts the fault of the guide or of the model, and where would the model be wrong?

    python benchmarks/errors.py RUN --out FOLDER

For each held-out scene whose count a trained model gets wrong, two explanations are fitted to the
scene itself, each a Gaussian around its own z_where and z_what, the ELBO maximised by gradient: one
starts from the objects that the guide found, one from the true number of objects in their true
places. If the true count has the higher ELBO, the guide was wrong and the model would have been
right. Otherwise the model itself prefers the wrong count.

The guide may also be right where the model is wrong. So in scenes that are read right, with room
for one more object, each object in turn is split in two, side by side. The two best of these
explanations are fitted as well. If one has the higher ELBO, reading with the model alone would be
wrong.

Writes errors.json, errors_guide.png, errors_model.png and errors_avoided.png (the last kind):
scenes above their two explanations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.scipy.stats import norm
from matplotlib.figure import Figure

from airjax.data.dataset import Dataset
from airjax.inference.infer import read
from airjax.inference.reading import Reading
from airjax.programs.compose import composed
from airjax.programs.guide import Guide
from airjax.programs.model import Model, presence_probs, where_prior
from airjax.programs.spatial import image_to_window, window_to_image
from airjax.training.runs import Run

FITTED, SAMPLES, RATE = 400, 8, 0.02  # steps of Adam, noise draws a step, learning rate
APART = 8  # pixels between the two objects that one is taken for
SIDES = np.array([[1, 0], [0, 1], [0.7, 0.7], [0.7, -0.7]])  # along which, x and y


@dataclass(frozen=True)
class Args:
    """What to look at.

    Attributes:
        run: folder of a run on scenes with true boxes.
        second_look: read with a second look.
        right: number of scenes that are read right to be examined.
        shown: scenes in each picture, at most.
        out: folder for the results.
    """

    run: Annotated[Path, tyro.conf.Positional]
    second_look: bool = False
    right: int = 400
    shown: int = 16
    out: Path = Path(".")


def elbo(model: Model, image, on, q, key, draws):
    """ELBO of one scene for the objects that are on: ``on`` [T], q a (location, log scale) of
    [T, 3 + Z]. Objects that are off cost nothing and draw nothing."""
    loc, log_scale = q
    noise = jax.random.normal(key, (draws, *loc.shape))
    z = loc + jnp.exp(log_scale) * noise
    where_loc, where_scale = where_prior(model.config)

    def one(z):
        y = window_to_image(z[:, :3], model.decoder(z[:, 3:]), model.config.image_size)
        pixels = model.likelihood(jnp.where(on[:, None, None], y, 0).sum(0))
        log_p_z = norm.logpdf(z[:, :3], where_loc, where_scale).sum(-1)
        log_p_z += norm.logpdf(z[:, 3:]).sum(-1)
        log_q_z = norm.logpdf(z, loc, jnp.exp(log_scale)).sum(-1)
        return pixels.log_prob(image).sum() + jnp.where(on, log_p_z - log_q_z, 0).sum()

    p, n = presence_probs(model.config), on.sum()
    log_p_n = jnp.where(on, jnp.log(p), 0).sum()
    steps = model.config.model_steps
    stops = jnp.append(jnp.log1p(-p), 0.0)[n]
    return jax.vmap(one)(z).mean() + log_p_n + jnp.where(n < steps, stops, 0.0)


def around(model: Model, loc):
    """The q that a fit begins with: narrow, around these locations."""
    where_scale = where_prior(model.config)[1]
    log_scale = jnp.full_like(loc, jnp.log(0.3)).at[:, :3].set(jnp.log(0.05 * where_scale))
    return loc, log_scale


@jax.jit
def fitted(model: Model, image, on, loc, key):
    """The highest ELBO found from a starting point, and its locations."""
    adam = optax.adam(RATE)

    def step(carry, key):
        q, state = carry
        g = jax.grad(lambda q: -elbo(model, image, on, q, key, SAMPLES))(q)
        updates, state = adam.update(g, state)
        return (optax.apply_updates(q, updates), state), None

    q = around(model, loc)
    (q, _), _ = jax.lax.scan(step, (q, adam.init(q)), jax.random.split(key, FITTED))
    return elbo(model, image, on, q, jax.random.fold_in(key, 1), 256), q[0]


def in_true_places(model: Model, guide: Guide, image, boxes, n: int):
    """Locations [T, 3 + Z] with windows of the prior's mean scale around the true boxes, and the
    codes that the guide's encoder reads there."""
    (height, width), s = model.config.image_size, model.config.scale_prior_mean
    u = (boxes[:, 0] + boxes[:, 2]) / width - 1
    v = (boxes[:, 1] + boxes[:, 3]) / height - 1
    z_where = jnp.stack([jnp.full(n, s), -s * u[:n], -s * v[:n]], -1)
    loc = with_codes(model, guide, image, z_where)
    steps = model.config.model_steps
    return jnp.pad(loc, ((0, steps - n), (0, 0)), constant_values=1.0)


def with_codes(model: Model, guide: Guide, image, z_where):
    """Locations [n, 3 + Z]: places, and the codes that the guide's encoder reads there."""
    images = jnp.broadcast_to(image, (len(z_where), *image.shape))
    seen = image_to_window(z_where, images, model.config.window_size)
    return jnp.concatenate([z_where, guide.networks.encoder(seen)[0]], -1)


@jax.jit
def with_one_more(model: Model, guide: Guide, image, z_where, n, key):
    """The two best, before a fit, of the explanations [T, 3 + Z] that take one of n objects (the
    first ones of z_where [T, 3]) for two."""
    t, half = jnp.arange(len(z_where)), APART / jnp.array(model.config.image_size[::-1])

    def split(k, side):
        shift = z_where[k, 0] * half * side  # a window at u + half has a shift less by s half
        one, other = z_where[k].at[1:].add(-shift), z_where[k].at[1:].add(shift)
        loc = with_codes(model, guide, image, z_where.at[k].set(one).at[n].set(other))
        value = elbo(model, image, t <= n, around(model, loc), key, SAMPLES)
        return jnp.where(k < n, value, -jnp.inf), loc

    values, locs = jax.vmap(lambda k: jax.vmap(lambda side: split(k, side))(SIDES))(t)
    best = jax.lax.top_k(values.ravel(), 2)[1]
    return locs.reshape(-1, *locs.shape[2:])[best]


def drawn(model: Model, loc, n: int):
    """The mean of the image with the objects of an explanation."""
    y = window_to_image(loc[:n, :3], model.decoder(loc[:n, 3:]), model.config.image_size)
    return model.likelihood.mean(composed(model.config.compose, y, jnp.ones(n, bool)))


class Explained(NamedTuple):
    """Scenes and what was read in them, to be compared with other explanations."""

    model: Model
    guide: Guide
    scenes: Dataset
    reading: Reading

    def otherwise(self, i: int, others: list[Any], n: int, key) -> dict[str, Any]:
        """Scene i as it was read, and with n objects, the best of what is found from ``others``
        (locations); by how many nats the latter is better."""
        image, n_read = self.image(i), int(self.reading.count[i])
        t = jnp.arange(self.model.config.model_steps)
        was, *keys = jax.random.split(key, 1 + len(others))
        elbo_read, loc_read = fitted(self.model, image, t < n_read, self.locations(i), was)
        fits = [
            fitted(self.model, image, t < n, loc, k) for loc, k in zip(others, keys, strict=True)
        ]
        value, loc = max(fits, key=lambda fit: float(fit[0]))
        return {
            "index": i,
            "counts": (n_read, n),
            "gain": float(value - elbo_read),
            "scene": image,
            "read": drawn(self.model, loc_read, n_read),
            "otherwise": drawn(self.model, loc, n),
        }

    def truly(self, i: int) -> dict[str, Any]:
        """Scene i as it was read, and with the true number of objects."""
        n, boxes = int(np.asarray(self.scenes.counts)[i]), jnp.asarray(self.scenes.boxes)[i]
        truth = in_true_places(self.model, self.guide, self.image(i), boxes, n)
        return self.otherwise(i, [truth], n, jax.random.key(i))

    def with_one_more(self, i: int) -> dict[str, Any]:
        """Scene i as it was read, and with one object more."""
        n, keys = int(self.reading.count[i]), jax.random.split(jax.random.key(i))
        z_where = self.reading.z_where[i]
        others = with_one_more(self.model, self.guide, self.image(i), z_where, n, keys[0])
        return self.otherwise(i, list(others), n + 1, keys[1])

    def image(self, i: int):
        """In [0, 1]."""
        return jnp.asarray(self.scenes.images[i] / np.float32(255))

    def locations(self, i: int):
        """[T, 3 + Z], of the guide's mean path."""
        return jnp.concatenate([self.reading.z_where[i], self.reading.z_what[i]], -1)


def picture(title: str, rows: list[dict[str, Any]], other: str) -> Figure:
    """Scenes, and below them what the count that was read and another one explain."""
    figure = Figure(figsize=(max(4, 0.95 * len(rows)), 3.4), layout="constrained")
    axes = figure.subplots(3, max(1, len(rows)), squeeze=False)
    for column, row in zip(axes.T, rows, strict=False):
        for ax, name in zip(column, ("scene", "read", "otherwise"), strict=True):
            ax.imshow(np.asarray(row[name]), cmap="gray", vmin=0, vmax=1)
        column[0].set_title(f"read {row['counts'][0]}, not {row['counts'][1]}", fontsize=7)
        column[2].set_xlabel(f"{row['gain']:+.0f} nats", fontsize=7)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[:, 0], ("scene", "count read", other), strict=True):
        ax.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def main(args: Args) -> None:
    """Fits, prints, draws and writes."""
    run = Run.open(args.run)
    (model, guide), scenes = run.load(), run.data(None, None, None)
    reading = read(model, guide, scenes.images, second_look=args.second_look)
    explained = Explained(model, guide, scenes, reading)
    n, counts = np.asarray(reading.count), np.asarray(scenes.counts)
    rows = [explained.truly(int(i)) for i in np.flatnonzero(n != counts)]
    guides = [row for row in rows if row["gain"] > 0]
    models = [row for row in rows if row["gain"] <= 0]
    gain = np.median([row["gain"] for row in guides] or [0])
    print(
        f"{len(rows)} of {len(scenes)} counts are wrong. In {len(guides)} of these the true count "
        f"has the higher ELBO: the guide's fault (median gain {gain:.0f} nats); in {len(models)} "
        "the count that was read has it: the model's."
    )
    room = np.flatnonzero((n == counts) & (n > 0) & (n < model.config.model_steps))
    examined = np.random.default_rng(0).permutation(room)[: args.right]
    more = [explained.with_one_more(int(i)) for i in examined]
    avoided = [row for row in more if row["gain"] > 0]
    print(
        f"Of {len(more)} of the {len(room)} counts that are right and leave room for one object "
        f"more, {len(avoided)} would have the higher ELBO with it: errors that the guide avoids."
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for name, title, mine, other in (
        ("guide", "wrong counts, the guide's fault", guides, "true count"),
        ("model", "wrong counts, the model's fault", models, "true count"),
        ("avoided", "right counts, against the model", avoided, "one more"),
    ):
        if mine:
            figure = picture(title, mine[: args.shown], other)
            figure.savefig(args.out / f"errors_{name}.png", dpi=90)
    chosen = [{k: row[k] for k in ("index", "counts", "gain")} for row in rows + more]
    common.write(
        args.out / "errors.json",
        {"run": args.run, "second_look": args.second_look, "right": args.right},
        chosen,
    )


if __name__ == "__main__":
    main(tyro.cli(Args))
