"""The tab of solids on a table: a scene that is moved about by sliders, and how it is read."""

from typing import Any

import gradio as gr
import numpy as np

from airjax.demo import views
from airjax.demo.solids import MOST, TURN, OnTable, Solid, SolidsExhibit
from airjax.three_d.scenes import FARTHEST

HELP = (
    "Solids on a table. The picture on the left is read; beside it, what was found is drawn again, "
    "also from another side. The guide was trained without labels."
)


class Moving:
    """The events of the tab."""

    def __init__(self, exhibit: SolidsExhibit):
        self.exhibit = exhibit
        self.names = [shape.name for shape in exhibit.guide.config.kinds]
        self.random = np.random.default_rng()

    def controls(self, scene: OnTable, chosen: str) -> tuple[Any, ...]:
        """The kind and the sliders of a solid, "1" to "5"."""
        kind, *place = scene.solids[int(chosen) - 1]
        return self.names[kind], *place

    def other(self, chosen: str) -> tuple[Any, ...]:
        """Another scene: its state, the number of its solids, its picture, and the controls."""
        scene = self.exhibit.random(int(self.random.integers(2**31)))
        return scene, scene.number, self.exhibit.shown(scene), *self.controls(scene, chosen)

    def change(
        self, scene: OnTable, count: int, chosen: str, kind: str, x: float, y: float, angle: float
    ) -> tuple[OnTable, str]:
        """The scene after a control was used, and its picture."""
        solid = Solid(self.names.index(kind), x, y, angle)
        scene = scene.changed(int(chosen) - 1, solid)._replace(number=int(count))
        return scene, self.exhibit.shown(scene)


def build(exhibit: SolidsExhibit) -> None:
    """Adds the tab's components and events."""
    moving, first = Moving(exhibit), exhibit.random(0)
    scene = gr.State(first)
    kind, x, y, angle = moving.controls(first, "1")
    gr.HTML(views.note(HELP))
    picture = gr.HTML(exhibit.shown(first), elem_id="solids")
    count = gr.Slider(0, MOST, first.number, step=1, label="solids in the scene", elem_id="count")
    chosen = gr.Radio([str(i + 1) for i in range(MOST)], value="1", label="Solid to change")
    controls = [
        gr.Radio(moving.names, value=kind, label="kind"),
        gr.Slider(-FARTHEST, FARTHEST, x, step=0.01, label="left and right", elem_id="solid-x"),
        gr.Slider(-FARTHEST, FARTHEST, y, step=0.01, label="near and far", elem_id="solid-y"),
        gr.Slider(0, TURN, angle, step=1, label="turned by, in degrees", elem_id="solid-angle"),
    ]
    other = gr.Button("Another scene", size="md", elem_id="other-scene")
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    other.click(moving.other, [chosen], [scene, count, picture, *controls], **quiet)
    chosen.input(moving.controls, [scene, chosen], controls, **quiet)
    gr.on(
        [control.input for control in (count, *controls)], moving.change,
        [scene, count, chosen, *controls], [scene, picture], trigger_mode="always_last", **quiet,
    )  # fmt: skip
