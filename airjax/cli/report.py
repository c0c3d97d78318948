"""``report.html``: what ``airjax predict`` found, for reading, in one file that needs no network.

Pictures are added one at a time. What is kept of them is bounded: the drawings of the ``DRAWINGS``
pictures whose counts are least probable, and the rows of ``ROWS`` pictures.
"""

import base64
import hashlib
import heapq
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import airjax
from airjax.data.display import SMALL, address, viewable
from airjax.data.folder import ReadImage
from airjax.data.placement import UPRIGHT
from airjax.inference.results import Objects
from airjax.inference.writers import UNSURE, Picture
from airjax.picture_config import PictureConfig

DRAWINGS = 50  # pictures that are drawn
ROWS = 2000  # rows of the table of pictures, and files that are named as left out
BOXES = 2000  # boxes in a drawing
SIDE = 1000  # pixels of a drawing's larger side, at most
LOW_SCORE = 0.8  # boxes of objects with a lower score are dashed
BARS = 24  # of the histogram, at most
PAPER = (
    "S. M. A. Eslami, N. Heess, T. Weber, Y. Tassa, D. Szepesvari, K. Kavukcuoglu and "
    "G. E. Hinton. Attend, Infer, Repeat: Fast Scene Understanding with Generative Models. "
    "Advances in Neural Information Processing Systems 29, 2016. arXiv:1603.08575"
)
SOFTWARE = f"airjax: Attend, Infer, Repeat in NumPyro and JAX. Version {airjax.__version__}"

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class About:
    """What a report says besides what was found.

    Attributes:
        title: the name of the folder of pictures.
        run: the name of the run whose model is used.
        warnings: what is wrong or doubtful about the model.
        settings: by heading, then by name.
    """

    title: str
    run: str
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)

    def with_pictures(self, pictures: PictureConfig) -> "About":
        """Also what was decided for these pictures."""
        decided = {
            name.replace("_", " "): str(value)
            for name, value in asdict(pictures).items()
            if value is not None
        }
        return replace(self, settings=self.settings | {"How pictures are read": decided})


class Doubtful(Generic[_Item]):
    """The n least probable of many items, those that came first among equals."""

    def __init__(self, n: int):
        self.n, self.number = n, 0
        self.heap: list[tuple[float, int, _Item]] = []  # the most probable one is on top

    def add(self, probability: float, make: Callable[[], _Item]) -> None:
        """Adds an item, which is made only if it is among them."""
        key = (-probability, -self.number)
        self.number += 1
        if len(self.heap) < self.n:
            heapq.heappush(self.heap, (*key, make()))
        elif key > self.heap[0][:2]:
            heapq.heapreplace(self.heap, (*key, make()))

    def items(self) -> list[_Item]:
        """Those that are kept, the least probable first."""
        return [item for *_, item in sorted(self.heap, key=lambda entry: entry[:2], reverse=True)]


class Report:
    """Collects what was found, and writes the page.

    Args:
        about: what else it says.
        channel: the channel that is read, as in `airjax.picture_config.PictureConfig`.
    """

    def __init__(self, about: About, channel: str):
        self.about, self.channel = about, channel
        self.counts, self.unsure, self.at_edge, self.unlike = Counter[int](), 0, 0, 0
        self.missed, self.extra = 0.0, 0.0
        self.rows, self.drawings = (
            Doubtful[dict[str, Any]](ROWS),
            Doubtful[dict[str, Any]](DRAWINGS),
        )

    def add(self, picture: Picture, read: ReadImage, objects: Objects, unlike: str = "") -> None:
        """Adds what was found in a picture.

        Args:
            picture: with boxes in pixels of the file.
            read: its image, and the upright picture that is drawn.
            objects: the same objects with boxes in pixels of the image.
            unlike: why it looks unlike what the model was trained on; "" if it does not.
        """
        found, number = picture.objects, self.rows.number
        edge = sum(region.at_edge for region in picture.regions)
        self.counts[found.number] += 1
        self.unsure += found.probability < UNSURE
        self.unlike += bool(unlike)
        self.missed += found.errors.missed
        self.extra += found.errors.extra
        self.at_edge += edge
        low, high = found.interval
        row = {
            "number": number, "file": picture.file, "page": picture.page, "count": found.number,
            "low": low, "high": high, "probability": found.probability, "at_edge": edge,
            "unsure": found.probability < UNSURE, "unlike": unlike,
        }  # fmt: skip
        first = found.probability - bool(unlike)  # those that look unlike the training come first
        self.rows.add(first, lambda: row)
        self.drawings.add(first, lambda: row | drawing(read, objects, self.channel))

    def write(self, path: Path, left_out: dict[str, list[str]]) -> None:
        """Writes the page.

        Args:
            path: of the new file.
            left_out: what was left out, by kind.
        """
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup

        from airjax.training.identity import environment

        here, versions = Path(__file__).parent, environment()
        style, script = (Markup((here / f"report.{kind}").read_text()) for kind in ("css", "js"))
        pages = Environment(
            loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True, finalize=_printable,
        )  # fmt: skip
        counts, drawings, rows = self.counts, self.drawings.items(), self.rows.items()
        left_out = {kind: lines for kind, lines in left_out.items() if lines}
        values = {
            "about": self.about, "style": style, "script": script, "rows": rows,
            "has_pages": any(row["page"] is not None for row in rows),
            "drawings": drawings, "drawn": {each["number"] for each in drawings},
            "hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "images": counts.total(), "objects": sum(n * k for n, k in counts.items()),
            "median": _median(counts), "least": min(counts, default=0),
            "most": max(counts, default=0), "unsure": self.unsure, "at_edge": self.at_edge,
            "unlike": self.unlike, "missed": self.missed, "extra": self.extra,
            "histogram": histogram(counts), "left_out": left_out, "few": ROWS, "boxes": BOXES,
            "low_score": LOW_SCORE, "paper": PAPER, "software": SOFTWARE,
            "time": time.strftime("%Y-%m-%d %H:%M %z"),
            "versions": {name: str(value) for name, value in versions.items()},
        }  # fmt: skip
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pages.get_template("report.html.jinja").generate(values))


def drawing(read: ReadImage, objects: Objects, name: str) -> dict[str, Any]:
    """The upright picture of an image and the boxes of its objects, in pixels of that picture.

    Args:
        read: the image.
        objects: with boxes in pixels of the image.
        name: of the channel that is read.
    """
    from markupsafe import Markup

    height, width = read.frame.pixels.shape[:2]
    upright = read.placement._replace(orientation=UPRIGHT, file=(height, width))
    boxes = upright.in_file(objects.tight_boxes[:BOXES])
    shown = viewable(read.frame, name, SIDE)
    return {
        "width": width,
        "height": height,
        "small": max(height, width) <= SMALL,
        "address": Markup(address(shown)),
        "boxes": [
            (x0, y0, max(x1 - x0, 0.1), max(y1 - y0, 0.1), score, score < LOW_SCORE)
            for (x0, y0, x1, y1), score in zip(
                boxes.tolist(), objects.scores.tolist(), strict=False
            )
        ],
    }


def histogram(counts: Counter[int]) -> dict[str, Any]:
    """The numbers of pictures with each count: a bar for each, or for 2, 5, 10, ... counts.

    Returns:
        ``top``, the largest number; ``bars`` of ``low``, ``high`` (both included), ``number``,
        ``labelled``.
    """
    if not counts:
        return {"top": 0, "bars": []}
    least, most = min(counts), max(counts)
    widths = (a * 10**n for n in range(20) for a in (1, 2, 5))
    width = next(w for w in widths if most // w - least // w < BARS)
    numbers = Counter[int]()
    for count, number in counts.items():
        numbers[count // width] += number
    bins = range(least // width, most // width + 1)
    every = -(-len(bins) // 8)
    bars = [
        {"low": i * width, "high": (i + 1) * width - 1, "number": numbers[i],
         "labelled": (i - bins.start) % every == 0}
        for i in bins
    ]  # fmt: skip
    return {"top": max(numbers.values()), "bars": bars}


def _median(counts: Counter[int]) -> float:
    """The middle count, or the mean of the two in the middle."""
    total = counts.total()
    seen, middle = 0, list[int]()
    for count in sorted(counts):
        middle += [
            count for i in ((total - 1) // 2, total // 2) if seen <= i < seen + counts[count]
        ]
        seen += counts[count]
    return sum(middle) / 2 if middle else 0.0


def _printable(value: Any) -> Any:
    """A text with escapes for line breaks, marks of direction, bytes that are not UTF-8 and other
    characters that cannot be seen. (HTML is escaped afterwards.)"""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable():
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
