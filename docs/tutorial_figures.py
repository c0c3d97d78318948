"""The drawings of docs/tutorial.md whose code would interrupt its text."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from airjax.inference.plots import STEP_COLOURS
from airjax.inference.reading import Reading
from airjax.programs.spatial import image_to_window, window_boxes, window_to_image
from airjax.training.trainer import to_unit


def show(
    axes: Axes, pixels: Float[Array, "h w"] | np.ndarray, title: str = "", colour: str | None = None
) -> None:
    """Shows a grey picture; pixel i covers [i, i + 1]."""
    h, w = pixels.shape
    axes.imshow(np.clip(pixels, 0, 1), cmap="gray", vmin=0, vmax=1, extent=(0, w, h, 0))
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=9)
    if colour is not None:
        for spine in axes.spines.values():
            spine.set(color=colour, linewidth=2)


def outline(axes: Axes, box: Float[Array, "4"] | np.ndarray, colour: str) -> None:
    """Draws a box x0, y0, x1, y1."""
    x0, y0, x1, y1 = np.asarray(box)
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, lw=1.5))


def arrow(axes: Axes, text: str) -> None:
    """Draws an arrow to the right with a text above it."""
    axes.set_axis_off()
    style = {"arrowstyle": "->", "color": "grey", "lw": 1.5}
    axes.annotate("", (1, 0.5), (0, 0.5), xycoords="axes fraction", arrowprops=style)
    axes.text(0.5, 0.58, text, ha="center", va="bottom", fontsize=9, transform=axes.transAxes)


def two_steps(
    z_where: Float[Array, "2 3"], y_att: Float[Array, "2 size size"], y: Float[Array, "2 H W"]
) -> Figure:
    """Figure 1: from the code to the image, a row for each step."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(2, 7, width_ratios=[0.5, 0.5, 0.8, 0.8, 1.2, 0.4, 1.2])
    boxes = window_boxes(z_where, (y.shape[1], y.shape[2]))
    for t, colour in enumerate(STEP_COLOURS[:2]):
        code, decode, window, place, placed, plus, total = panels[t]
        code.set_axis_off()
        code.text(0.5, 0.5, f"z_what_{t}", ha="center", va="center", transform=code.transAxes)
        arrow(decode, "decoder")
        show(window, y_att[t], f"y_att_{t}", colour)
        where = ", ".join(f"{value:.1f}" for value in z_where[t])
        arrow(place, f"z_where_{t} =\n({where})")
        show(placed, y[t], f"y_{t}")
        outline(placed, boxes[t], colour)
        arrow(plus, "add")
        show(total, y[: t + 1].sum(0), "x after one step" if t == 0 else "x after two steps")
    return figure


def placed_and_cut(
    places: Float[Array, "n 3"],
    window: Float[Array, "size size"],
    placed: Float[Array, "n H W"],
    cut: Float[Array, "n size size"],
) -> Figure:
    """A window, the images that it is placed in (above), and what is cut out again (below)."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    panels = figure.subplots(2, len(places) + 1)
    show(panels[0, 0], window, "window")
    panels[1, 0].set_axis_off()
    boxes = window_boxes(places, (placed.shape[1], placed.shape[2]))
    for i, place in enumerate(np.asarray(places), 1):
        show(panels[0, i], placed[i - 1], "({:.1f}, {:.1f}, {:.1f})".format(*place))
        outline(panels[0, i], boxes[i - 1], "red")
        show(panels[1, i], cut[i - 1], "cut out again")
    return figure


def histograms(draws: dict[str, np.ndarray], mean: float, label: str) -> Figure:
    """A histogram for each name, on one axis; the mean as a dotted line."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    every = np.concatenate(list(draws.values()))
    bins = np.linspace(every.min(), every.max(), 80).tolist()
    panels = figure.subplots(len(draws), 1, sharex=True)
    for axes, (name, values) in zip(panels, draws.items(), strict=True):
        axes.hist(values, bins=bins)
        axes.axvline(mean, color="black", ls=":")
        axes.set(yticks=[], title=name)
    panels[-1].set_xlabel(label)
    return figure


def guide_and_model(
    image: UInt8[np.ndarray, "H W"], reading: Reading, scene: int, size: int
) -> Figure:
    """Figure 2: a scene with two objects, from the image to the codes and back, a row a step.

    Args:
        image: of the scene.
        reading: of all scenes.
        scene: index of this one.
        size: of a window in pixels.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(2, 9, width_ratios=[1.3, 0.5, 0.8, 0.65, 0.65, 0.65, 0.8, 0.5, 1.3])
    x = to_unit(jnp.asarray(image))
    poses, y_att = reading.z_where[scene, :2], reading.windows[scene, :2]
    x_att = image_to_window(poses, jnp.stack([x, x]), size)
    y = window_to_image(poses, y_att, image.shape)
    for t, colour in enumerate(STEP_COLOURS[:2]):
        seen, cuts, window, encodes, code, decodes, decoded, places, placed = panels[t]
        show(seen, x, f"x; q(object {t}) = {reading.scores[scene, t]:.3f}")
        outline(seen, reading.window_boxes[scene, t], colour)
        arrow(cuts, f"z_where_{t}")
        show(window, x_att[t], f"x_att_{t}", colour)
        arrow(encodes, "encoder")
        values = np.asarray(reading.z_what[scene, t])
        code.imshow(values.reshape(-1, 5), cmap="coolwarm", vmin=-3, vmax=3)
        code.set(xticks=[], yticks=[])
        code.set_title(f"z_what_{t}", fontsize=9)
        arrow(decodes, "decoder")
        show(decoded, y_att[t], f"y_att_{t}", colour)
        arrow(places, f"z_where_{t}")
        show(placed, y[: t + 1].sum(0), f"y_{t}" if t == 0 else f"y_0 + y_{t}")
        outline(placed, reading.window_boxes[scene, t], colour)
    panels[0, 2].text(0.5, 1.35, "guide", ha="center", transform=panels[0, 2].transAxes)
    panels[0, 6].text(0.5, 1.35, "model", ha="center", transform=panels[0, 6].transAxes)
    return figure
