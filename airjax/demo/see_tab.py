"""The first tab: draw, upload, or take a held-out scene, and see what AIR finds in it."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from airjax.data import DATASETS
from airjax.demo import views
from airjax.demo.canvas import CLEAR, canvas
from airjax.demo.drawing import drawn, strokes_from_json
from airjax.demo.exhibit import Exhibit
from airjax.demo.reader import MOST_PATHS
from airjax.demo.uploads import uploaded
from airjax.errors import InputError

PATHS = 10  # K at first
FIT = "Scale what I draw to the size of what it was trained on"
HELP = "Draw one, several or no {things}; or upload a picture, or take a random scene {origin}."


class See:
    """The events of the tab. Each takes the user's input and K, and returns the image, what was
    found in it, and a message."""

    def __init__(self, exhibit: Exhibit):
        self.exhibit = exhibit
        self.random = np.random.default_rng()

    def draw(self, strokes: str, fit: bool, num_paths: int) -> tuple[Any, Any, Any]:
        """Strokes as JSON, and whether they are scaled."""
        try:
            lines = strokes_from_json(strokes)
        except InputError as error:
            return self.refused(error)
        return self.shown(drawn(lines, self.exhibit.brush, self.exhibit.shape, fit), num_paths)

    def rescale(self, strokes: str, fit: bool, num_paths: int) -> tuple[Any, Any, Any]:
        """As `draw`, if anything was drawn."""
        if strokes in ("", "[]"):
            return gr.skip(), gr.skip(), gr.skip()
        return self.draw(strokes, fit, num_paths)

    def upload(self, file: str, num_paths: int) -> tuple[Any, Any, Any]:
        """A picture file, which is removed."""
        try:
            pictures = self.exhibit.run.config.pictures
            image, note = uploaded(Path(file), pictures, self.exhibit.shape)
        except InputError as error:
            return self.refused(error)
        image, seen, message = self.shown(image, num_paths)
        return image, seen, gr.HTML(views.message(note), visible=True) if note else message

    def take(self, last: np.ndarray, num_paths: int) -> tuple[Any, Any, Any]:
        """A random scene, other than the one shown."""
        images = self.exhibit.images
        i = self.random.integers(len(images))
        if np.array_equal(images[i], last):
            i = (i + 1) % len(images)
        return self.shown(images[i], num_paths)

    def shown(self, image: np.ndarray, num_paths: int) -> tuple[Any, Any, Any]:
        """An image, and what is found in it; one that is larger than the model's images is read in
        tiles, as ``airjax predict`` reads it."""
        if image.shape == self.exhibit.shape:
            seen = views.seen(self.exhibit.reader(image, int(num_paths)))
        else:
            seen = views.seen_in_tiles(image, self.exhibit.finder.find(image))
        return image, seen, gr.HTML("", visible=False)

    def refused(self, error: InputError) -> tuple[Any, Any, Any]:
        """Changes nothing, and shows why."""
        return gr.skip(), gr.skip(), gr.HTML(views.message(str(error)), visible=True)


def build(exhibit: Exhibit) -> None:
    """Adds the tab's components and events."""
    see = See(exhibit)
    first, seen, _ = see.shown(exhibit.images[exhibit.first], PATHS)
    image = gr.State(first)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.HTML(views.note(_help(exhibit)))
            strokes = canvas(exhibit.shape, exhibit.brush)
            fit = gr.Checkbox(True, label=FIT, container=False)
            with gr.Row():
                take = gr.Button("Random scene", size="md", min_width=120, elem_id="random-scene")
                upload = gr.UploadButton("Upload a picture", size="md", min_width=120)
            message = gr.HTML("", visible=False, elem_id="message")
        with gr.Column(scale=3, min_width=300):
            result = gr.HTML(seen, elem_id="seen")
            paths = gr.Slider(
                1, MOST_PATHS, PATHS, step=1, label="K, samples of the guide", elem_id="paths",
                info="The posterior over the number of objects is averaged over them.",
            )  # fmt: skip
    found, last = [image, result, message], "always_last"
    drawing, quiet = [strokes, fit, paths], "hidden"
    strokes.submit(see.draw, drawing, found, trigger_mode=last, show_progress=quiet)
    fit.input(see.rescale, drawing, found, trigger_mode=last, show_progress=quiet)
    upload.upload(see.upload, [upload, paths], found).then(None, js=CLEAR)
    take.click(see.take, [image, paths], found, show_progress=quiet).then(None, js=CLEAR)
    paths.input(see.shown, [image, paths], found, trigger_mode=last, show_progress=quiet)


def _help(exhibit: Exhibit) -> str:
    known = DATASETS.get(exhibit.run.config.train.data)
    things = "digits" if known is not None and known.guide == "window" else "objects"
    origin = "that was held out" if exhibit.held_out else "drawn from the model"
    return HELP.format(things=things, origin=origin)
