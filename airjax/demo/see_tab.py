"""The first tab: draw, upload, or take a held-out scene, and see what AIR finds in it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from airjax.data import DATASETS
from airjax.demo import views
from airjax.demo.canvas import CLEAR, canvas
from airjax.demo.downloads import EVERYTHING, OFFERS, download
from airjax.demo.drawing import drawn, strokes_from_json
from airjax.demo.exhibit import Exhibit
from airjax.demo.reader import MOST_PATHS
from airjax.demo.uploads import Subject, as_it_is, uploaded
from airjax.errors import InputError
from airjax.inference.writers import Picture

PATHS = 10  # K at first
FIT = "Scale what I draw to the size of what it was trained on"
HELP = (
    "Draw one, several or no {things}; or upload a picture (or drop its file anywhere on the "
    "page), or take a random scene {origin}."
)


class See:
    """The events of the tab. Each takes the user's input and K, and returns the values of
    ``Parts.found``: the subject, what was found in it, its HTML, the table, a message, and whether
    K can be chosen."""

    def __init__(self, exhibit: Exhibit):
        self.exhibit = exhibit
        self.random = np.random.default_rng()

    def draw(self, strokes: str, fit: bool, num_paths: int) -> tuple[Any, ...]:
        """Strokes as JSON, and whether they are scaled."""
        try:
            lines = strokes_from_json(strokes)
        except InputError as error:
            return self.refused(error)
        image = drawn(lines, self.exhibit.brush, self.exhibit.shape, fit)
        return self.shown(as_it_is(image, "drawing"), num_paths)

    def rescale(self, strokes: str, fit: bool, num_paths: int) -> tuple[Any, ...]:
        """As `draw`, if anything was drawn."""
        if strokes in ("", "[]"):
            return (gr.skip(),) * 6
        return self.draw(strokes, fit, num_paths)

    def upload(self, files: list[str], num_paths: int) -> tuple[Any, ...]:
        """Picture files, which are removed; the first one is read."""
        first, *others = map(Path, files)
        for other in others:
            other.unlink(missing_ok=True)
        pictures = self.exhibit.run.config.pictures
        more = f"Of {len(files)} files, only {first.name} was read. airjax predict reads folders."

        def read() -> Subject:
            subject = uploaded(first, pictures, self.exhibit.shape)
            return subject._replace(note=f"{more} {subject.note}") if others else subject

        return self.read(read, num_paths)

    def example(self, num_paths: int, event: gr.EventData) -> tuple[Any, ...]:
        """One of the examples, whose number is in the event."""
        return self.read(self.exhibit.examples[int(event.number)].subject, num_paths)

    def take(self, last: Subject, num_paths: int) -> tuple[Any, ...]:
        """A random scene, other than the one shown."""
        images = self.exhibit.images
        i = int(self.random.integers(len(images)))
        if np.array_equal(images[i], last.image):
            i = (i + 1) % len(images)
        return self.shown(as_it_is(images[i], f"scene-{i}"), num_paths)

    def read(self, subject: Callable[[], Subject], num_paths: int) -> tuple[Any, ...]:
        """A picture that may turn out to be unreadable."""
        try:
            return self.shown(subject(), num_paths)
        except InputError as error:
            return self.refused(error)

    def shown(self, subject: Subject, num_paths: int) -> tuple[Any, ...]:
        """A picture, and what is found in it."""
        found = self.exhibit.found(subject, int(num_paths))
        note = gr.HTML(views.message(subject.note), visible=bool(subject.note))
        picture, table = found.picture, views.table(found.picture)
        return subject, picture, found.html, table, note, gr.Slider(visible=not subject.any_size)

    def again(self, subject: Subject, num_paths: int) -> tuple[Any, ...]:
        """The same picture with another K; all but the slider."""
        return self.shown(subject, num_paths)[:-1]

    def refused(self, error: InputError) -> tuple[Any, ...]:
        """Changes nothing, and shows why."""
        message = gr.HTML(views.message(str(error)), visible=True)
        return *(gr.skip(),) * 4, message, gr.skip()

    def download(self, found: Picture, event: gr.EventData) -> Any:
        """A file as JSON, for downloads.js; or a warning, beside the buttons wherever they are."""
        try:
            name, content = download(found, str(event.key))
        except InputError as error:
            gr.Warning(str(error))
            return gr.skip()
        return json.dumps({"name": name, "content": base64.b64encode(content).decode()})


def build(exhibit: Exhibit) -> None:
    """Adds the tab's components and events."""
    see = See(exhibit)
    subject, (picture, html) = exhibit.first, exhibit.found(exhibit.first, PATHS)
    last, found = gr.State(subject), gr.State(picture)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.HTML(views.note(_help(exhibit)), js_on_load=_script("drop.js"))
            strokes = canvas(exhibit.shape, exhibit.brush)
            fit = gr.Checkbox(True, label=FIT, container=False)
            with gr.Row():
                take = gr.Button("Random scene", size="md", min_width=120, elem_id="random-scene")
                upload = gr.UploadButton(
                    "Upload a picture", size="md", min_width=120, file_count="multiple"
                )
            examples = gr.HTML(
                views.thumbnails(exhibit.examples), js_on_load=_script("examples.js"),
                elem_id="examples", visible=bool(exhibit.examples),
            )  # fmt: skip
        with gr.Column(scale=3, min_width=300):
            message = gr.HTML("", visible=False, elem_id="message")
            result = gr.HTML(html, elem_id="seen")
            paths = gr.Slider(
                1, MOST_PATHS, PATHS, step=1, label="K, samples of the guide", elem_id="paths",
                info="The posterior over the number of objects is averaged over them.",
                visible=not subject.any_size,
            )  # fmt: skip
    labels = {EVERYTHING: "Everything (zip)"} | {key: o.label for key, o in OFFERS.items()}
    downloads = gr.HTML(
        "", html_template=views.downloads(labels), js_on_load=_script("downloads.js"),
        elem_id="downloads",
    )  # fmt: skip
    rows = gr.HTML(views.table(picture), elem_id="table")
    parts = [last, found, result, rows, message, paths]
    waiting: dict[str, Any] = {"show_progress_on": [result]}
    quiet: dict[str, Any] = {"show_progress": "hidden"}
    newest: dict[str, Any] = {"trigger_mode": "always_last", **quiet}
    strokes.submit(see.draw, [strokes, fit, paths], parts, **newest)
    fit.input(see.rescale, [strokes, fit, paths], parts, **newest)
    upload.upload(see.upload, [upload, paths], parts, **waiting).then(None, js=CLEAR)
    examples.select(see.example, [paths], parts, **waiting).then(None, js=CLEAR)
    take.click(see.take, [last, paths], parts, **quiet).then(None, js=CLEAR)
    paths.input(see.again, [last, paths], parts[:-1], **newest)
    downloads.download(see.download, [found], downloads, **quiet)


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _help(exhibit: Exhibit) -> str:
    known = DATASETS.get(exhibit.run.config.train.data)
    things = "digits" if known is not None and known.guide == "window" else "objects"
    origin = "that was held out" if exhibit.held_out else "drawn from the model"
    return HELP.format(things=things, origin=origin)
