"""The content of the page as HTML: pictures with boxes, objects in their windows, bars, curves.

Pictures are part of the HTML (``data:`` addresses), so that no file of them is ever written.
"""

import base64
import html
import io
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure
from PIL import Image

from airjax.demo.answer import Answer
from airjax.demo.examples import Example
from airjax.demo.reader import windows_of
from airjax.inference import plots
from airjax.inference.plots import STEP_COLOURS
from airjax.inference.results import Scenes
from airjax.inference.writers import OBJECT, Picture

MOST_ROWS = 200  # of the table
MINI = 80  # pixels of the larger side of the small picture, at least
SAME = ("file", "page", "count", "probability")  # columns that are the same for all objects


def header(title: str, run: str, data: str, collapsed: str | None = None) -> str:
    """The page's first lines; they say if the training has collapsed."""
    about = f"run <b>{_text(run)}</b>, trained on <b>{_text(data)}</b> without labels"
    if collapsed is not None:
        why = f"This training has collapsed: {collapsed}. What is found is probably wrong."
        about += f"</p>{message(why)}<p>"
    return f'<div class="air-header"><h1>{_text(title)}</h1><p>{about}</p></div>'


def seen(scene: Scenes) -> str:
    """How one image was read: with the window of each step, the reconstruction, the posterior over
    the count, and the objects."""
    boxes = scene.window_boxes[0][: int(scene.counts[0])]
    return _div(
        "air-seen",
        "<h3>How it was read</h3>",
        _div(
            "air-pair",
            picture(scene.images[0] / 255, boxes, caption="image, with each step's window"),
            picture(scene.reconstructions[0], caption="reconstruction"),
        ),
        bars(scene.count_probs[0]),
        objects(scene),
    )


def answer(of: Answer) -> str:
    """The number of objects, what changed it, and, for a phone, a small picture."""
    found, more = of.picture.objects, list[str]()
    number = f"<b>{_objects(found.number)}</b>"
    if of.edits:
        removed = sum(i >= 0 for i in of.removed)
        text = f"{number}, corrected by hand: {len(of.by_hand)} added, {removed} removed"
    elif of.limit is None:
        low, high = found.interval
        text = f"{number}, {low} to {high} with probability 0.9"
    else:
        text = f"{number}, with probability {found.probability:.3f}"
    if of.dropped:
        more.append(f"{of.found.number} found, {of.dropped} left out by the sliders.")
    if of.limit is not None and of.found.number == of.limit:
        more.append(
            f"{of.limit} is the most that this run can count: there may be more. "
            f"Train with --max-objects {2 * of.limit} to count more."
        )
    doubt = ""
    if of.doubts:  # on a phone the message may be out of sight
        doubt = (
            '<p class="air-more air-narrow">This looks unlike what the model was trained on.</p>'
        )
    image = of.subject.image
    step = max(1, max(image.shape[:2]) // MINI)
    ours = [i for i in of.numbers if i >= 0]
    small = picture(image[::step, ::step] / 255, of.found.tight_boxes[ours] / step)
    lines = "".join(f'<p class="air-more">{_text(line)}</p>' for line in more)
    head = f'<p class="air-count" data-count="{found.number}">{text}</p>'
    return _div("air-answer", _div("air-mini", small), f"<div>{head}{lines}{doubt}</div>")


def command(of: Answer, run: str, num_paths: int) -> str:
    """The command line that gives the same answer, without corrections; "" if there is none."""
    if not of.subject.is_file:
        return ""
    paths = "" if of.limit is None else f"--num-paths {num_paths}"
    words = ["airjax predict", shlex.quote(run), shlex.quote(of.subject.read.path.name)]
    line = " ".join(word for word in (*words, of.kept.flags(), paths) if word)
    rest = " (without the corrections)" if of.edits else ""
    return (
        f'<p class="air-command">The same on the command line{rest}: <code>{_text(line)}</code></p>'
    )


def objects(scene: Scenes) -> str:
    """Each object: its window in the image beside the image decoded from its code."""
    count, attended, decoded = int(scene.counts[0]), windows_of(scene), scene.windows[0]
    cards = []
    for t in range(count):
        pair = _div("air-pair", picture(attended[t]), picture(decoded[t]))
        caption = f"step {t + 1}: present with probability {scene.scores[0, t]:.3f}"
        cards.append(
            f'<figure class="air-object" style="border-color:{_colour(t)}">'
            f"{pair}<figcaption>{caption}</figcaption></figure>"
        )
    if not cards:
        return ""
    title = "<h3>Objects: the attended window, and the object decoded from its code</h3>"
    return _div("air-block", title, _div("air-objects", *cards))


def bars(probabilities: Float[np.ndarray, " counts"]) -> str:
    """The posterior over the count as a horizontal bar chart, which fits any width."""
    rows = []
    for n, p in enumerate(probabilities.tolist()):
        rows.append(
            f'<div class="air-bar" data-count="{n}" data-probability="{p:.4f}">'
            f'<span>{n}</span><div><i style="width:{100 * p:.2f}%"></i></div>'
            f"<span>{p:.3f}</span></div>"
        )
    return _div("air-block", "<h3>Posterior over the number of objects</h3>", *rows)


def picture(
    pixels: Shaped[np.ndarray, "H W *C"],
    boxes: Float[np.ndarray, "n 4"] | None = None,
    caption: str = "",
) -> str:
    """An image that fills the width, with boxes in the colours of the steps.

    Args:
        pixels: in [0, 1].
        boxes: x0, y0, x1, y1 in pixels; their numbers are shown under the pointer.
        caption: below it.
    """
    height, width = pixels.shape[:2]
    outlines = []
    for t, (x0, y0, x1, y1) in enumerate(np.zeros((0, 4)) if boxes is None else boxes.tolist()):
        outlines.append(
            f'<rect x="{x0:.2f}" y="{y0:.2f}" width="{x1 - x0:.2f}" height="{y1 - y0:.2f}" '
            f'fill="none" stroke="{_colour(t)}" stroke-width="2.5" '
            f'vector-effect="non-scaling-stroke" pointer-events="all"><title>{t}</title></rect>'
        )
    drawn = (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{_text(caption)}">'
        f'<image href="{_png(pixels)}" width="{width}" height="{height}"></image>'
        f"{''.join(outlines)}</svg>"
    )
    text = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return f'<figure class="air-picture">{drawn}{text}</figure>'


def table(found: Picture, by_hand: bool = False) -> str:
    """The columns of objects.csv, a row an object, at most ``MOST_ROWS``; those that are the same
    for all objects are in the title, and whether they were corrected by hand."""
    objects = found.objects
    page = "" if found.page is None else f", page {found.page}"
    how = "corrected by hand" if by_hand else f"with probability {objects.probability:.4f}"
    number = f"{_objects(objects.number)} {how}"
    title = f"<h3>{_text(found.file + page)}: {number}</h3>"
    if not objects.number:
        return _div("air-block", title)
    columns = [i for i, name in enumerate(OBJECT) if name not in SAME]
    head = "".join(f"<th>{_text(name)}</th>" for name in OBJECT if name not in SAME)
    lines = []
    for t, row in enumerate(found.rows()[:MOST_ROWS]):
        cells = "".join(f"<td>{_text(str(row[i]))}</td>" for i in columns)
        lines.append(f'<tr style="--colour:{_colour(t)}">{cells}</tr>')
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    rest = ""
    if objects.number > MOST_ROWS:
        rest = note(f"{MOST_ROWS} of {objects.number} objects are shown; files have all of them.")
    return _div("air-block", title, _div("air-scroll", f"<table>{body}</table>"), rest)


def thumbnails(examples: Sequence[Example]) -> str:
    """Buttons with the pictures of examples."""
    buttons = (
        f'<button type="button" data-number="{i}" aria-label="example {_text(each.name)}" '
        f'title="{_text(each.name)}"><img src="{_png(each.thumbnail / 255)}" alt=""></button>'
        for i, each in enumerate(examples)
    )
    return _div("air-examples", "<h3>Examples, held out from the training</h3>", *buttons)


def downloads(labels: dict[str, str]) -> str:
    """Buttons for the files of what was found."""
    buttons = (
        f'<button type="button" data-key="{key}">{_text(label)}</button>'
        for key, label in labels.items()
    )
    return _div("air-block", "<h3>Download what was found</h3>", _div("air-tools", *buttons))


def dreamt(
    scene: Float[np.ndarray, "H W *C"],
    boxes: Float[np.ndarray, "n 4"],
    line: Float[np.ndarray, "m w w *C"],
) -> str:
    """A decoded scene, and the line between the codes of its first two objects, decoded."""
    title = "<h3>From the code of object 1 to that of object 2</h3>"
    strip = _div("air-strip", *(picture(window) for window in line))
    return _div("air-seen air-dream", picture(scene, boxes, "the decoded scene"), title, strip)


def read_again(pictures: Sequence[str], rows: dict[str, str]) -> str:
    """Pictures of a scene and of what was read, side by side, and the objects that were found."""
    found = f"<h3>{_objects(len(rows))} found</h3>"
    return _div("air-seen", _div("air-three", *pictures), found, facts(rows))


def gallery(pictures: Sequence[Float[np.ndarray, "H W *C"]]) -> str:
    """Pictures in rows."""
    return _div("air-gallery", *(picture(one) for one in pictures))


def curves(rows: Sequence[dict[str, Any]]) -> str:
    """The learning curves of a run; on a narrow screen one above the other.

    Args:
        rows: of ``metrics.jsonl``.
    """
    wide, narrow = (_figure(plots.curves(rows, stacked)) for stacked in (False, True))
    return (
        f'<picture class="air-curves"><source media="(max-width: 640px)" srcset="{narrow}">'
        f'<img src="{wide}" alt="ELBO and count accuracy against training steps"></picture>'
    )


def facts(pairs: dict[str, str]) -> str:
    """A table of two columns."""
    lines = (
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in pairs.items()
    )
    return f'<table class="air-facts"><tbody>{"".join(lines)}</tbody></table>'


def note(text: str) -> str:
    """A line of help."""
    return f'<p class="air-note">{_text(text)}</p>'


def message(text: str) -> str:
    """A message about a mistake that the user can correct."""
    return f'<p class="air-message" role="alert">{_text(text)}</p>'


def _objects(count: int) -> str:
    return {0: "no object", 1: "1 object"}.get(count, f"{count} objects")


def _colour(t: int) -> str:
    return STEP_COLOURS[t % len(STEP_COLOURS)]


def _div(name: str, *parts: str) -> str:
    return f'<div class="{name}">{"".join(parts)}</div>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _png(pixels: Shaped[np.ndarray, "H W *C"]) -> str:
    shown = np.clip(plots.viewable(pixels), 0, 1)
    content = io.BytesIO()
    Image.fromarray(np.round(255 * shown).astype(np.uint8)).save(content, "PNG")
    return _data_address(content)


def _figure(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=160)
    return _data_address(content)


def _data_address(png: io.BytesIO) -> str:
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
