"""The second tab: objects moved, scaled and morphed by sliders, and samples from the prior."""

from typing import Any

import gradio as gr
import jax.numpy as jnp
import numpy as np

from airjax.demo import views
from airjax.demo.dreams import Dream, Edit, Place, between, scene, windows
from airjax.demo.exhibit import Exhibit
from airjax.programs.spatial import window_boxes

LINE = 7  # pictures between the two objects
SAMPLES = 12
HELP = (
    "Two objects that were found in held-out images, each a place and a code. The directions are "
    "the principal components of such codes."
)


class Dreaming:
    """The events of the tab."""

    def __init__(self, exhibit: Exhibit):
        self.codes, self.model = exhibit.codes, exhibit.reader.model
        self.sample = exhibit.reader.air.sample
        self.random = np.random.default_rng()

    def shown(self, dream: Dream) -> str:
        """The decoded scene, and the line between its objects."""
        things, size = dream.things(self.codes), self.model.config.image_size
        where = jnp.stack([jnp.asarray(thing.where) for thing in things])
        line = windows(self.model, between(*things, LINE))
        boxes = np.asarray(window_boxes(where, size))
        return views.dreamt(scene(self.model, things), boxes, line)

    def others(self, chosen: str) -> tuple[Any, ...]:
        """Two other objects: the dream, its picture, and the sliders of the one chosen."""
        dream = Dream.of(self.codes, int(self.random.integers(len(self.codes.what))))
        return dream, self.shown(dream), *self.sliders(dream, chosen)

    def sliders(self, dream: Dream, chosen: str) -> tuple[float, ...]:
        """The values of the sliders of an object, "1" or "2"."""
        edit = dream.edits[int(chosen) - 1]
        values = (*edit.place, edit.morph, *edit.along[: len(self.codes.directions)])
        return tuple(round(value, 2) for value in values)

    def change(self, dream: Dream, chosen: str, *sliders: float) -> tuple[Dream, str]:
        """The dream after a slider was moved, and its picture."""
        across, down, size, morph, *along = sliders
        dream = dream.changed(int(chosen) - 1, Edit(Place(across, down, size), tuple(along), morph))
        return dream, self.shown(dream)

    def samples(self) -> str:
        """Scenes from the prior."""
        return views.gallery(list(self.sample(SAMPLES, int(self.random.integers(2**31)))))


def build(exhibit: Exhibit) -> None:
    """Adds the tab's components and events."""
    dreaming = Dreaming(exhibit)
    first = Dream.of(exhibit.codes, 0)
    dream = gr.State(first)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.HTML(views.note(HELP))
            picture = gr.HTML(dreaming.shown(first), elem_id="dream")
            others = gr.Button("Two other objects", size="md", elem_id="others")
        with gr.Column(scale=2, min_width=300):
            chosen = gr.Radio(
                ["1", "2"], value="1", label="Object that the sliders change", interactive=True
            )
            sliders = _sliders(exhibit, dreaming.sliders(first, "1"))
    gr.HTML(views.note("Samples from the prior; all numbers of objects are equally likely."))
    samples = gr.HTML(dreaming.samples(), elem_id="samples")
    more = gr.Button("Other samples", size="md", elem_id="more-samples")
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    others.click(dreaming.others, [chosen], [dream, picture, *sliders], **quiet)
    chosen.input(dreaming.sliders, [dream, chosen], sliders, **quiet)
    gr.on(
        [slider.input for slider in sliders], dreaming.change, [dream, chosen, *sliders],
        [dream, picture], trigger_mode="always_last", **quiet,
    )  # fmt: skip
    more.click(dreaming.samples, None, samples, **quiet)


def _sliders(exhibit: Exhibit, values: tuple[float, ...]) -> list[gr.Slider]:
    """Place, size, morph and directions."""
    typical = values[2]
    ranges = [
        ("left and right", -1, 1),
        ("up and down", -1, 1),
        ("size, as a share of the image", round(0.4 * typical, 2), round(2.5 * typical, 2)),
        ("morph into the other object", 0, 1),
    ]
    for i, share in enumerate(exhibit.codes.shares.tolist()):
        ranges.append((f"direction {i + 1} ({100 * share:.0f} % of the codes' variance)", -3, 3))
    return [
        gr.Slider(low, high, value, step=0.01, label=label, interactive=True, elem_id=f"slider-{i}")
        for i, ((label, low, high), value) in enumerate(zip(ranges, values, strict=True))
    ]
