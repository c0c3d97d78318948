"""All figures, drawn with matplotlib's objects (no global state) and written as PNG."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw

from airjax import storage
from airjax.data.dataset import Dataset
from airjax.inference.reading import Reading
from airjax.programs.model import Model, geometric_like

STEP_COLOURS = ("red", "lime", "deepskyblue", "orange", "magenta", "yellow", "cyan", "white")


class _Shown(Figure):
    """A figure that a notebook shows, also without ``%matplotlib inline``: matplotlib's own is
    shown only where pyplot has been imported."""

    def _repr_png_(self) -> bytes:
        return as_png(self, dpi=100)


def curves(rows: Sequence[dict[str, Any]], stacked: bool = False) -> Figure:
    """The tutorial's figure 3: the ELBO and the count accuracy against training steps.

    Args:
        rows: of a run's ``metrics.jsonl``.
        stacked: one above the other, for narrow screens.
    """
    figure = _Shown(figsize=(4.5, 6.4) if stacked else (9, 3.2), layout="constrained")
    left, right = figure.subplots(*((2, 1) if stacked else (1, 2)))
    for axes, keys, title in (
        (left, {"elbo": "training", "test_elbo": "held out"}, "ELBO (nats an image)"),
        (
            right,
            {"train_count_accuracy": "training", "test_count_accuracy": "held out"},
            "count accuracy",
        ),
    ):
        for key, label in keys.items():
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker=".", markersize=3)
        axes.set(xlabel="training step", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="lower right")
    elbos = [row["elbo"] for row in rows if np.isfinite(row["elbo"])]
    if len(elbos) > 2:  # the first steps are far below the others and would flatten the curve
        low, high = np.percentile(elbos, 5), max(elbos)
        left.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    return figure


def reconstructions(data: Dataset, reading: Reading, n: int = 10) -> Figure:
    """The tutorial's figure 4: images above their reconstructions with the windows of the steps.

    The windows of the first, second and third step have red, green and blue borders. Which images:
    `not_blank`.
    """
    rows = not_blank(data.images, n)
    boxes, counts = np.asarray(reading.window_boxes)[rows], np.asarray(reading.count)[rows]
    return over(data.images[rows] / 255, np.asarray(reading.reconstruction)[rows], boxes, counts)


def not_blank(images: UInt8[np.ndarray, "N H W *C"], n: int) -> Int[np.ndarray, " n"]:
    """The first n images that have more than one value; blank ones only where there are fewer.

    Returns:
        their indices, rising; fewer than n if there are not as many images.
    """
    pixels = images.reshape(len(images), -1)
    is_blank = pixels.min(axis=1) == pixels.max(axis=1)
    return np.sort(np.argsort(is_blank, kind="stable")[:n])


def over(
    pictures: Float[np.ndarray, "n H W *C"],
    read: Float[np.ndarray, "n H W *C"],
    boxes: Float[np.ndarray, "n T 4"],
    counts: Int[np.ndarray, " n"],
) -> Figure:
    """Images above their reconstructions, with the boxes of each."""
    n = len(pictures)
    figure = _strip(n, 2)
    axes = figure.subplots(2, n, squeeze=False)
    for i in range(n):
        _image(axes[0, i], pictures[i])
        _image(axes[1, i], read[i])
        _boxes(axes[1, i], boxes[i][: counts[i]])
    axes[0, 0].set_ylabel("data")
    axes[1, 0].set_ylabel("read")
    return figure


def agreement(
    found: Float[np.ndarray, " n"], by_hand: Float[np.ndarray, " n"], limits: float = 1.96
) -> Figure:
    """Two counts of the same pictures: one against the other, and their difference against their
    mean with the limits of agreement (Bland and Altman, 1986)."""
    figure = _Shown(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    top = 1.05 * max(found.max(), by_hand.max(), 1)
    left.plot([0, top], [0, top], color="grey", lw=1)
    left.plot(by_hand, found, "o", ms=4)
    left.set(xlabel="count by hand", ylabel="count found", xlim=(0, top), ylim=(0, top))
    difference = found - by_hand
    right.plot((found + by_hand) / 2, difference, "o", ms=4)
    spread = limits * (difference.std(ddof=1) if len(difference) > 1 else 0)
    for y, style in ((0, "--"), (-spread, ":"), (spread, ":")):
        level = difference.mean() + y
        right.axhline(level, color="grey", ls=style, lw=1)
        if spread or not y:  # no limits of a single picture
            right.annotate(f"{level:+.1f}", (1, level), xycoords=("axes fraction", "data"),
                           xytext=(3, 0), textcoords="offset points", va="center")  # fmt: skip
    right.axhline(0, color="black", lw=0.8)
    right.set(xlabel="mean of the two counts", ylabel="found less by hand")
    return figure


def prior_samples(model: Model, what: str, n: int, seed: int, k: float = 1.0) -> Figure:
    """Pictures drawn from the prior of a model.

    Args:
        model: trained or not.
        what: ``scene``, of at most T objects; ``object``, a single step; ``geometric``, an
            unbounded scene, in which a further object has probability one half.
        n: number of pictures.
        seed: of the draws.
        k: ratio p(n + 1) / p(n) of a scene's prior; 1 makes all counts equally likely.
    """
    key, steps = jax.random.key(seed), model.config.model_steps
    if what == "geometric":
        scenes, _ = model.geom_prior_batch(key, n, p=0.5, max_steps=100)
    elif what == "object":
        scenes = model.scenes(key, n, jnp.eye(steps)[0])  # p_0 = 1, then 0
    else:
        scenes = model.scenes(key, n, geometric_like(k, steps))
    return images(list(np.asarray(scenes)))


def images(
    pictures: Sequence[Float[np.ndarray, "_ _ ..."]],
    boxes: Sequence[Float[np.ndarray, "_ 4"]] | None = None,
) -> Figure:
    """Pictures in rows of at most ten, with boxes (those with x1 > x0) if given."""
    columns = min(len(pictures), 10)
    rows = -(-len(pictures) // columns)
    figure = _strip(columns, rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, ax in enumerate(axes.flat):
        if i < len(pictures):
            _image(ax, np.asarray(pictures[i]))
            if boxes is not None:
                _boxes(ax, boxes[i][boxes[i][:, 2] > boxes[i][:, 0]])
        else:
            ax.set_axis_off()
    return figure


def boxed(
    image: UInt8[np.ndarray, "H W *C"], boxes: Float[np.ndarray, "n 4"], zoom: int = 4
) -> Image.Image:
    """An enlarged picture with boxes in the colours of the steps."""
    height, width = image.shape[:2]
    size = (zoom * width, zoom * height)
    picture = Image.fromarray(viewable(image)).convert("RGB").resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for t, (x0, y0, x1, y1) in enumerate(zoom * boxes):
        colour = STEP_COLOURS[t % len(STEP_COLOURS)]
        pen.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=colour, width=2)
    return picture


def viewable(image: np.ndarray) -> np.ndarray:
    """The image as it is if it has one or three channels; otherwise the mean of its channels."""
    if image.ndim == 2 or image.shape[-1] == 3:
        return image
    return image.mean(axis=-1).astype(image.dtype)


def save(figure: Figure, path: Path) -> Path:
    """Writes or replaces a PNG and returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(path, as_png(figure))
    return path


def as_png(figure: Figure, dpi: int = 150) -> bytes:
    """The content of a PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


def _strip(columns: int, rows: int) -> Figure:
    return _Shown(figsize=(1.0 * columns + 0.3, 1.05 * rows), layout="constrained")


def _image(axes: Axes, pixels: Float[np.ndarray, "H W *C"]) -> None:
    # extent: pixel i covers [i, i + 1], as in the boxes
    height, width = pixels.shape[:2]
    shown = np.clip(viewable(pixels), 0, 1)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
    axes.set(xticks=[], yticks=[])


def _boxes(axes: Axes, boxes: Float[np.ndarray, "n 4"]) -> None:
    for t, (x0, y0, x1, y1) in enumerate(boxes):
        colour = STEP_COLOURS[t % len(STEP_COLOURS)]
        outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, lw=1.2)
        axes.add_patch(outline)
