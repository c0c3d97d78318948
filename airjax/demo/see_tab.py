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
from airjax.demo.answer import Answer
from airjax.demo.canvas import CLEAR, canvas
from airjax.demo.downloads import EVERYTHING, OFFERS, TRUTH, download, truth
from airjax.demo.drawing import drawn, strokes_from_json
from airjax.demo.exhibit import Exhibit
from airjax.demo.page_state import PageState
from airjax.demo.reader import MOST_PATHS
from airjax.demo.uploads import Subject, as_it_is, uploaded
from airjax.demo.viewer import address_of, boxes, viewer
from airjax.errors import InputError
from airjax.prediction.predictor import Kept

PATHS = 10  # K at first
CHANGED = 5  # parts of the page that sliders and corrections change
PARTS, MESSAGE = 10, 6  # that a picture changes; which of them is the message
# one after the other: each event begins with the state that the last one left
ORDERED: dict[str, Any] = {"concurrency_id": "state", "concurrency_limit": 1}
EMPTY = """() => {
    document.querySelectorAll("input[type=file]").forEach((input) => { input.value = ""; });
    return [];
}"""
FIT = "Scale what I draw to the size of what it was trained on"
HELP = (
    "Draw one, several or no {things}; or upload a picture (or drop its file anywhere on the "
    "page), or take a random scene {origin}."
)
HELP_WITH_PICTURES = "Upload a picture, drop its file anywhere on the page, or click an example."


class See:
    """The events of the tab. Each takes the state and what the user did, and returns the values of
    ``build``'s parts: of all of them where a picture is read, otherwise of ``changed``."""

    def __init__(self, exhibit: Exhibit):
        self.exhibit, self.run = exhibit, str(exhibit.run.path)
        self.random = np.random.default_rng()

    def first(self) -> PageState:
        """The state when the page is opened."""
        return PageState(self.exhibit.found(self.exhibit.first, PATHS), PATHS, run=self.run)

    def turned(self, state: PageState) -> PageState:
        """The state when this run is chosen: with the picture that it showed last."""
        if state.run == self.run:
            return state
        subject = state.left.get(self.run, self.exhibit.first)
        return state.turned_to(self.run, self.exhibit.found(subject, state.num_paths))

    def draw(self, state: PageState, strokes: str, fit: bool, num_paths: int) -> tuple[Any, ...]:
        """Strokes as JSON, and whether they are scaled."""
        try:
            lines = strokes_from_json(strokes)
        except InputError as error:
            return self.refused(error)
        image = drawn(lines, self.exhibit.brush, self.exhibit.shape, fit)
        return self.shown(state, as_it_is(image, "drawing"), num_paths)

    def rescale(self, state: PageState, strokes: str, fit: bool, num_paths: int) -> tuple[Any, ...]:
        """As `draw`, if anything was drawn."""
        if strokes in ("", "[]"):
            return (gr.skip(),) * PARTS
        return self.draw(state, strokes, fit, num_paths)

    def upload(self, state: PageState, files: list[str], num_paths: int) -> tuple[Any, ...]:
        """Picture files, which are removed; the first one is read."""
        first, *others = map(Path, files)
        for other in others:
            other.unlink(missing_ok=True)
        pictures = self.exhibit.run.config.pictures
        more = f"Of {len(files)} files, only {first.name} was read. airjax predict reads folders."

        def read() -> Subject:
            subject = uploaded(first, pictures, self.exhibit.shape)
            return subject._replace(note=f"{more} {subject.note}") if others else subject

        return self.read(state, read, num_paths)

    def example(self, state: PageState, num_paths: int, event: gr.EventData) -> tuple[Any, ...]:
        """One of the examples, whose number is in the event."""
        return self.read(state, self.exhibit.examples[int(event.number)].subject, num_paths)

    def take(self, state: PageState, num_paths: int) -> tuple[Any, ...]:
        """A random scene, other than the one shown."""
        images = self.exhibit.images
        i = int(self.random.integers(len(images)))
        if np.array_equal(images[i], state.answer.subject.image):
            i = (i + 1) % len(images)
        return self.shown(state, as_it_is(images[i], f"scene-{i}"), num_paths)

    def again(self, state: PageState, num_paths: int) -> tuple[Any, ...]:
        """The same picture with another K; all but the slider."""
        return self.shown(state, state.answer.subject, num_paths)[:-1]

    def read(
        self, state: PageState, subject: Callable[[], Subject], num_paths: int
    ) -> tuple[Any, ...]:
        """A picture that may turn out to be unreadable."""
        try:
            return self.shown(state, subject(), num_paths)
        except InputError as error:
            return self.refused(error)

    def shown(self, state: PageState, subject: Subject, num_paths: int) -> tuple[Any, ...]:
        """A picture, and what is found in it."""
        if state.run != self.run:  # another one was chosen meanwhile
            return (gr.skip(),) * PARTS
        state = state.showing(self.exhibit.found(subject, int(num_paths)), int(num_paths))
        answer, text = state.answer, messages(state.answer)
        most = gr.Slider(maximum=largest(answer), value=min(state.kept.max_size, largest(answer)))
        least = gr.Slider(maximum=largest(answer))
        state, viewed, *rest = self.changed(state)
        return (
            state, gr.HTML(value=viewed, address=address_of(answer)), *rest, answer.html,
            gr.HTML(text, visible=bool(text)), least, most, gr.Slider(visible=not subject.any_size),
        )  # fmt: skip

    def changed(self, state: PageState) -> tuple[Any, ...]:
        """The state, the boxes, the answer, the command, the table."""
        answer = state.answer
        command = views.command(answer, self.run, state.num_paths)
        return (
            state,
            boxes(answer),
            views.answer(answer),
            command,
            views.table(answer.picture, bool(answer.edits)),
        )

    def keep(
        self, state: PageState, threshold: float, least: float, most: float, no_edges: bool
    ) -> tuple[Any, ...]:
        """What the sliders leave. Nothing is read again."""
        limit = float("inf") if most >= largest(state.answer) else max(most, least)
        return self.changed(state.keeping(Kept(threshold, least, limit, no_edges)))

    def edit(self, state: PageState, event: gr.EventData) -> tuple[Any, ...]:
        """A correction by hand."""
        if state.run != self.run:  # another one was chosen meanwhile
            return (gr.skip(),) * CHANGED
        answer = state.answer
        try:
            if event.action == "add":
                answer = answer.with_box(tuple(event.box))
            elif event.action == "remove":
                answer = answer.without(int(event.number))
            else:
                answer = answer.undone()
        except InputError as error:
            gr.Warning(str(error))
        return self.changed(state.edited(answer))

    def refused(self, error: InputError) -> tuple[Any, ...]:
        """Changes nothing, and shows why."""
        message = gr.HTML(views.message(str(error)), visible=True)
        return *(gr.skip(),) * MESSAGE, message, *(gr.skip(),) * (PARTS - MESSAGE - 1)

    def download(self, state: PageState, event: gr.EventData) -> Any:
        """A file as JSON, for downloads.js; or a warning, beside the buttons wherever they are."""
        try:
            key, answer = str(event.key), state.answer
            by_hand = bool(answer.edits)
            name, content = (
                truth(state.truth()) if key == TRUTH else download(answer.picture, key, by_hand)
            )
        except InputError as error:
            gr.Warning(str(error))
            return gr.skip()
        return json.dumps({"name": name, "content": base64.b64encode(content).decode()})


def largest(answer: Answer) -> int:
    """The end of the sliders of sizes, at which nothing is left out: above the larger side of all
    objects, in pixels of the file."""
    boxes = answer.in_pixels.tight_boxes
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0.0)
    most = answer.kept.max_size
    return (
        int(np.ceil(max([*sides.tolist(), answer.kept.min_size, most if most < 1e9 else 0, 9]))) + 1
    )


def messages(answer: Answer) -> str:
    """What the user should know of a picture."""
    lines = [answer.subject.note, *answer.doubts]
    return "".join(views.message(line) for line in lines if line)


def build(see: See, state: gr.State, now: PageState) -> None:
    """Adds the tab's components and events.

    Args:
        see: of the run.
        state: what is kept of a user.
        now: its value.
    """
    exhibit, (_, _, number, line, found) = see.exhibit, see.changed(now)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            gr.HTML(views.note(_help(exhibit)), js_on_load=_script("drop.js"))
            strokes, fit, take, upload, examples = _sources(exhibit)
        with gr.Column(scale=3, min_width=300):
            text = messages(now.answer)
            message = gr.HTML(text, visible=bool(text), elem_id="message")
            answer = gr.HTML(number, elem_id="answer")
            picture = viewer(now.answer)
            sliders = _sliders(now.answer)
            command = gr.HTML(line, elem_id="command")
    read = gr.HTML(now.answer.html, elem_id="seen")
    paths = gr.Slider(
        1, MOST_PATHS, now.num_paths, step=1, label="K, samples of the guide", elem_id="paths",
        info="The posterior over the number of objects is averaged over them.",
        visible=now.answer.limit is not None, interactive=True,
    )  # fmt: skip
    labels = {EVERYTHING: "Everything (zip)"} | {key: o.label for key, o in OFFERS.items()}
    labels[TRUTH] = "Truth for airjax check (CSV)"
    downloads = gr.HTML(
        "", html_template=views.downloads(labels), js_on_load=_script("downloads.js"),
        elem_id="downloads",
    )  # fmt: skip
    table = gr.HTML(found, elem_id="table")
    changed = [state, picture, answer, command, table]
    parts = [*changed, read, message, *sliders[1:3], paths]
    waiting: dict[str, Any] = {"show_progress_on": [answer, picture], **ORDERED}
    quiet: dict[str, Any] = {"show_progress": "hidden", **ORDERED}
    newest: dict[str, Any] = {"trigger_mode": "always_last", **quiet}
    strokes.submit(see.draw, [state, strokes, fit, paths], parts, **newest)
    fit.input(see.rescale, [state, strokes, fit, paths], parts, **newest)
    # emptied, so that the same file can be uploaded again
    uploading = upload.upload(see.upload, [state, upload, paths], parts, **waiting)
    uploading.then(None, js=CLEAR).then(lambda: None, None, upload, js=EMPTY, **quiet)
    examples.select(see.example, [state, paths], parts, **waiting).then(None, js=CLEAR)
    take.click(see.take, [state, paths], parts, **quiet).then(None, js=CLEAR)
    paths.input(see.again, [state, paths], parts[:-1], **newest)
    gr.on([one.input for one in sliders], see.keep, [state, *sliders], changed, **newest)
    picture.edit(see.edit, [state], changed, trigger_mode="multiple", **quiet)
    downloads.download(see.download, [state], downloads, **quiet)


def _sources(exhibit: Exhibit) -> tuple[Any, ...]:
    """What pictures come from: the canvas and whether drawings are scaled, buttons, examples. Who
    trained on pictures comes with pictures; then the canvas is last, and closed."""
    if exhibit.of_pictures:
        others = _other_sources(exhibit)
        with gr.Accordion("Draw instead", open=False, elem_id="draw"):
            drawing = canvas(exhibit.shape, exhibit.brush), _fit()
        return *drawing, *others
    drawing = canvas(exhibit.shape, exhibit.brush), _fit()
    return *drawing, *_other_sources(exhibit)


def _fit() -> gr.Checkbox:
    return gr.Checkbox(True, label=FIT, container=False, interactive=True)


def _other_sources(exhibit: Exhibit) -> tuple[Any, ...]:
    with gr.Row():
        take = gr.Button("Random scene", size="md", min_width=120, elem_id="random-scene")
        upload = gr.UploadButton(
            "Upload a picture", size="md", min_width=120, file_count="multiple"
        )
    examples = gr.HTML(
        views.thumbnails(exhibit.examples), js_on_load=_script("examples.js"),
        elem_id="examples", visible=bool(exhibit.examples),
    )  # fmt: skip
    return take, upload, examples


def _sliders(answer: Answer) -> list[Any]:
    """Which objects are left, as by the flags of ``airjax predict``."""
    most, kept, sizes = largest(answer), answer.kept, {"step": 1, "interactive": True}
    with gr.Group(elem_id="sliders"):
        threshold = gr.Slider(
            0, 1, kept.threshold, step=0.01, interactive=True, label="Least score",
            elem_id="threshold",
        )  # fmt: skip
        with gr.Row():
            low = gr.Slider(
                0, most, kept.min_size, **sizes, label="Smallest object (pixels)",
                elem_id="min-size",
            )  # fmt: skip
            high = gr.Slider(
                0, most, min(kept.max_size, most), **sizes, label="Largest object (pixels)",
                elem_id="max-size",
            )  # fmt: skip
        edges = gr.Checkbox(
            kept.exclude_edges, label="Leave out objects at the border", interactive=True,
            elem_id="no-edges",
        )  # fmt: skip
    return [threshold, low, high, edges]


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def _help(exhibit: Exhibit) -> str:
    if exhibit.of_pictures:
        return HELP_WITH_PICTURES
    known = DATASETS.get(exhibit.run.config.train.data)
    things = "digits" if known is not None and known.guide == "window" else "objects"
    origin = "that was held out" if exhibit.held_out else "drawn from the model"
    return HELP.format(things=things, origin=origin)
