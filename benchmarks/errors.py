"""Whose fault wrong counts are: the guide's or the model's.

    python benchmarks/errors.py RUN --out FOLDER

For each held-out scene whose count a trained model gets wrong, two explanations are fitted to the
scene itself, each a Gaussian around its own z_where and z_what, the ELBO maximised by gradient: one
begins with what the guide found, one with the true number of objects in their true places. If the
true count has the higher ELBO, the model would have been right and the guide did not find it. If
not, the model itself prefers the wrong count. Writes errors.json, and errors_guide.png and
errors_model.png: scenes over their two explanations.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax.scipy.stats import norm
from matplotlib.figure import Figure

from airjax.infer import read
from airjax.model import Model, presence_probs, where_prior
from airjax.runs import Run
from airjax.spatial import image_to_window, window_to_image

FITTED, SAMPLES, RATE = 400, 8, 0.02  # steps of Adam, noise draws a step, learning rate


@dataclass(frozen=True)
class Args:
    """What to look at.

    Attributes:
        run: folder of a run on scenes with true boxes.
        shown: scenes in each picture, at most.
        out: folder for the results.
    """

    run: Annotated[Path, tyro.conf.Positional]
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


@jax.jit
def fitted(model: Model, image, on, loc, key):
    """The highest ELBO found from a starting point, and its locations."""
    where_scale = where_prior(model.config)[1]
    log_scale = jnp.full_like(loc, jnp.log(0.3)).at[:, :3].set(jnp.log(0.05 * where_scale))
    adam = optax.adam(RATE)

    def step(carry, key):
        q, state = carry
        g = jax.grad(lambda q: -elbo(model, image, on, q, key, SAMPLES))(q)
        updates, state = adam.update(g, state)
        return (optax.apply_updates(q, updates), state), None

    q = (loc, log_scale)
    (q, _), _ = jax.lax.scan(step, (q, adam.init(q)), jax.random.split(key, FITTED))
    return elbo(model, image, on, q, jax.random.fold_in(key, 1), 256), q[0]


def in_true_places(model: Model, guide, image, boxes, n: int):
    """Locations [T, 3 + Z] with windows of the prior's mean scale around the true boxes, and the
    codes that the guide's encoder reads there."""
    (height, width), s = model.config.image_size, model.config.scale_prior_mean
    u = (boxes[:, 0] + boxes[:, 2]) / width - 1
    v = (boxes[:, 1] + boxes[:, 3]) / height - 1
    z_where = jnp.stack([jnp.full(n, s), -s * u[:n], -s * v[:n]], -1)
    images = jnp.broadcast_to(image, (n, *image.shape))
    seen = image_to_window(z_where, images, model.config.window_size)
    z_what = guide.networks.encoder(seen)[0]
    steps = model.config.model_steps
    return jnp.pad(jnp.concatenate([z_where, z_what], -1), ((0, steps - n), (0, 0)),
                   constant_values=1.0)  # fmt: skip


def drawn(model: Model, loc, n: int):
    """The objects of an explanation, added up."""
    y = window_to_image(loc[:n, :3], model.decoder(loc[:n, 3:]), model.config.image_size)
    return model.likelihood.on_ground(y.sum(0))


def picture(title: str, rows: list[dict]) -> Figure:
    """Scenes, and below them what the guide's count and the true count explain."""
    figure = Figure(figsize=(max(4, 0.95 * len(rows)), 3.4), layout="constrained")
    axes = figure.subplots(3, max(1, len(rows)), squeeze=False)
    for column, row in zip(axes.T, rows, strict=False):
        for ax, name in zip(column, ("scene", "guide", "true"), strict=True):
            ax.imshow(np.asarray(row[name]), cmap="gray", vmin=0, vmax=1)
        column[0].set_title(f"{row['counts'][1]}, read {row['counts'][0]}", fontsize=7)
        column[2].set_xlabel(f"{row['gain']:+.0f} nats", fontsize=7)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[:, 0], ("scene", "count read", "true count"), strict=True):
        ax.set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def main(args: Args) -> None:
    """Fits, prints, draws and writes."""
    run = Run.open(args.run)
    (model, guide), scenes = run.load(), run.data(None, None, None)
    reading = read(model, guide, scenes.images)
    counts, boxes = np.asarray(scenes.counts), np.asarray(scenes.boxes)
    rows = []
    for i in np.flatnonzero(np.asarray(reading.count) != counts):
        image, keys = (
            jnp.asarray(scenes.images[i] / np.float32(255)),
            jax.random.split(jax.random.key(int(i))),
        )
        n_read, n_true = int(reading.count[i]), int(counts[i])
        t = jnp.arange(model.config.model_steps)
        found = jnp.concatenate([reading.z_where[i], reading.z_what[i]], -1)
        truth = in_true_places(model, guide, image, jnp.asarray(boxes[i]), n_true)
        elbo_read, loc_read = fitted(model, image, t < n_read, found, keys[0])
        elbo_true, loc_true = fitted(model, image, t < n_true, truth, keys[1])
        rows.append(
            {
                "index": int(i),
                "counts": (n_read, n_true),
                "gain": float(elbo_true - elbo_read),
                "scene": image,
                "guide": drawn(model, loc_read, n_read),
                "true": drawn(model, loc_true, n_true),
            }
        )
    guides = [row for row in rows if row["gain"] > 0]
    models = [row for row in rows if row["gain"] <= 0]
    print(
        f"{len(rows)} of {len(scenes)} counts are wrong. In {len(guides)} of these the true count "
        f"has the higher ELBO: the guide's fault (median gain "
        f"{np.median([row['gain'] for row in guides] or [0]):.0f} nats); in {len(models)} the "
        "count that was read has it: the model's."
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for name, mine in (("guide", guides), ("model", models)):
        if mine:
            title = f"wrong counts, the {name}'s fault"
            picture(title, mine[: args.shown]).savefig(args.out / f"errors_{name}.png", dpi=90)
    told = [{k: row[k] for k in ("index", "counts", "gain")} for row in rows]
    common.write(args.out / "errors.json", {"run": args.run}, told)


if __name__ == "__main__":
    main(tyro.cli(Args))
