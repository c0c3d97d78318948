"""The picture with a box around each object, a component of the page: zoom, and corrections by
hand. Its behaviour in the browser is viewer.js."""

import json
from pathlib import Path

import gradio as gr
import numpy as np

from airjax.data.display import address, viewable
from airjax.demo.answer import Answer
from airjax.inference.plots import STEP_COLOURS

LARGEST = 2400  # pixels of the larger side of the picture as it is shown, at most
TYPICAL = 0.05  # side of a box that is added where nothing was found, of the picture's smaller side
BUTTONS = (
    ("correct", "Correct by hand", "Click an object to remove it, elsewhere to add one; or draw"),
    ("undo", "Undo", "Take back the last correction"),
    ("smaller", "\u2212", "Zoom out"),
    ("larger", "+", "Zoom in"),
    ("full", "1:1", "A pixel of the picture is one of the screen"),
    ("fit", "Fit", "The whole picture"),
)


def viewer(answer: Answer) -> gr.HTML:
    """The component with an answer. It has an event ``edit`` with an ``action``: ``add`` (with a
    ``box`` in pixels of the upright picture), ``remove`` (with a ``number``) or ``undo``."""
    buttons = "".join(
        f'<button type="button" data-do="{key}" title="{title}">{label}</button>'
        for key, label, title in BUTTONS
    )
    return gr.HTML(
        value=boxes(answer),
        address=address_of(answer),
        html_template=(
            '<div class="air-viewer"><div class="air-tools">'
            f'{buttons}<span class="air-zoom" data-zoom></span>'
            '<label class="air-toggle"><input type="checkbox" checked> boxes</label></div>'
            '<p class="air-how">Click an object to remove it. Click elsewhere to add one of the '
            "usual size, or draw a box around it.</p>"
            '<div class="air-stage" tabindex="0" role="region" aria-label="picture">'
            '<svg><image preserveAspectRatio="none"></image><g></g><rect class="air-rubber"></rect>'
            "</svg></div></div>"
        ),
        js_on_load=Path(__file__).with_name("viewer.js").read_text(),
        elem_id="viewer",
    )


def address_of(answer: Answer) -> str:
    """The picture as it was uploaded, as a ``data:`` address."""
    return address(viewable(answer.subject.read.frame, answer.subject.channel, LARGEST))


def boxes(answer: Answer) -> str:
    """What is drawn over it, as JSON."""
    height, width = answer.subject.read.frame.pixels.shape[:2]
    scores, sides, drawn = answer.found.scores, np.zeros((0, 2)), []
    for row, (number, box) in enumerate(zip(answer.numbers, answer.boxes.tolist(), strict=True)):
        by_hand = number < 0
        about = "added by hand" if by_hand else f"score {scores[number]:.2f}"
        colour = "white" if by_hand else STEP_COLOURS[row % len(STEP_COLOURS)]
        drawn.append([number, *(round(x, 2) for x in box), colour, f"object {row}, {about}"])
    if len(answer.boxes):
        sides = answer.boxes[:, 2:] - answer.boxes[:, :2]
    usual = np.median(sides, axis=0).tolist() if len(sides) else 2 * [TYPICAL * min(height, width)]
    return json.dumps(
        {"width": width, "height": height, "boxes": drawn, "typical": usual,
         "edits": len(answer.edits)}
    )  # fmt: skip
