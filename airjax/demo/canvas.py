"""The canvas to draw on, a component of the page; its behaviour in the browser is canvas.js."""

from pathlib import Path

import gradio as gr

from airjax.demo.drawing import Brush

SIDE = 600  # pixels of the canvas's larger side, before the browser fits it into the page
COLOURS = ("#ffffff", "#ff3030", "#30d030", "#4070ff", "#ffe030", "#ff40ff")
CLEAR = """() => {
    document.querySelector(".air-canvas canvas")?.dispatchEvent(new Event("airjax-clear"));
}"""


def canvas(shape: tuple[int, ...], brush: Brush) -> gr.HTML:
    """A canvas for images of this shape, ``(H, W)`` or ``(H, W, C)``, with a palette if C is 3.

    Its value is read by `airjax.demo.drawing.strokes_from_json`. It has an event ``submit``.
    """
    height, width, *channels = shape
    scale = SIDE / max(height, width)
    palette = "".join(
        f'<button type="button" data-colour="{colour}" aria-label="colour {colour}" '
        f'aria-pressed="{str(colour == COLOURS[0]).lower()}" style="background:{colour}"></button>'
        for colour in (COLOURS if channels == [3] else ())
    )
    return gr.HTML(
        value="[]",
        html_template=(
            '<div class="air-canvas">'
            f'<canvas width="{round(scale * width)}" height="{round(scale * height)}" '
            f'data-thickness="{brush.thickness / width:.4f}" aria-label="canvas to draw on">'
            '</canvas><div class="air-tools">'
            '<button type="button" data-do="undo">Undo</button>'
            f'<button type="button" data-do="clear">Clear</button>{palette}</div></div>'
        ),
        js_on_load=Path(__file__).with_name("canvas.js").read_text(),
    )
