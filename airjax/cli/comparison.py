"""Results of ``airjax predict`` beside the truth, picture by picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from airjax.cli.annotations import labels_of
from airjax.cli.found import Pages, Seen, total, truths_of
from airjax.cli.label_images import read_labels
from airjax.cli.tables import Page
from airjax.cli.truth import Marked, Truth
from airjax.errors import InputError
from airjax.inference.detection import (
    Score,
    area_under_curve,
    covered,
    iou,
    label_iou,
    matched,
    near,
)
from airjax.inference.writers import file_named

NAMED = 5  # pictures in a line
BEYOND = 1.0  # pixels: boxes are rounded when they are written


class Pair(NamedTuple):
    """A picture of the results and its truth; either is None where only the other has it."""

    file: str
    page: Page
    seen: Seen | None
    marked: Marked | None

    @property
    def name(self) -> str:
        """The file, and its page if it has several."""
        return named(self.file, self.page)


class Compared(NamedTuple):
    """What was found in a picture, and the truth.

    Attributes:
        file: of the picture.
        page: of the file.
        interval: ``[3]``, count and the ends of its interval, without what lies in ignored regions.
        by_hand: the true count; nan where it is not known.
        hits: which found objects are matched; of counts, none.
        mask_hits: the same by their masks; None without masks.
        scores: of the found objects.
    """

    file: str
    page: Page
    interval: Float[np.ndarray, "3"]
    by_hand: float
    hits: Bool[np.ndarray, " n"]
    mask_hits: Bool[np.ndarray, " n"] | None
    scores: Float[np.ndarray, " n"]

    @property
    def name(self) -> str:
        """The file, and its page if it has several."""
        return named(self.file, self.page)

    @property
    def missed(self) -> int:
        """Number of true objects without a match."""
        return int(self.by_hand) - int(self.hits.sum())

    @property
    def false(self) -> int:
        """Number of found objects without a match."""
        return len(self.hits) - int(self.hits.sum())


def named(file: str, page: Page) -> str:
    """A picture as it is shown."""
    return file if page is None else f"{file} page {page}"


def pairs(found: dict[str, Pages], truth: Truth) -> Iterator[Pair]:
    """The pictures of the results with their truth, in their order, then those of the truth alone.
    Counts of a file without pages are compared with the sum of its pages.

    Raises:
        InputError: if names or pages do not tell which truth belongs to which picture.
    """
    names = truths_of(found, truth.names)
    if not names:
        raise InputError("TRUTH", "must name pictures that are in the results", truth.names[0])
    for file, seen in found.items():
        if file in names:
            marked = truth.pages(names[file])
            seen, marked = _aligned(file, seen, marked, truth)
        else:
            marked = {}
            seen = seen if truth.has_pages or truth.kind != "counts" else total(seen)
        for page in [*seen, *(marked.keys() - seen.keys())]:
            yield Pair(file, page, seen.get(page), marked.get(page))
    used = set(names.values())
    for name in truth.names:
        if name not in used:
            yield Pair(name, None, None, None)


class Comparison(NamedTuple):
    """Results beside the truth.

    Attributes:
        pictures: of the results.
        limit: largest distance of dots in pixels: half the median larger side of the boxes found.
        lines: pictures that only one of both has, and what was taken for what.
    """

    pictures: list[Compared]
    limit: float
    lines: list[str]


def compare(results: Path, found: dict[str, Pages], truth: Truth) -> Comparison:
    """Compares the results in a folder with the truth, one picture in memory at a time.

    Raises:
        InputError: if none of the pictures have a truth, or one cannot be compared with it.
    """
    boxes = np.concatenate([seen.boxes for pages in found.values() for seen in pages.values()])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0)
    limit = float(np.median(sides)) / 2 if len(sides) else 0.0
    masks = results / "masks" if (results / "masks").is_dir() else None
    pictures, without, only = list[Compared](), list[str](), list[str]()
    for pair in pairs(found, truth):
        if pair.seen is None:
            only.append(pair.name)
            continue
        if pair.marked is None:
            without.append(pair.name)
        pictures.append(_compared(pair, truth.kind, limit, masks))
    if len(without) == len(pictures):
        raise InputError("TRUTH", "must name pages that are in the results", only[0])
    lines = [
        _line("masks without numbers, each piece is taken as an object", truth.masks),
        _line("pictures without truth", without),
        _line("pictures of the truth that are not in the results", only),
    ]
    return Comparison(pictures, limit, [line for line in lines if line])


def _line(what: str, names: list[str]) -> str:
    """How many there are, and the first few; "" if there are none."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{what}: {len(names)}: {', '.join(names[:NAMED])}{more}" if names else ""


def _aligned(
    file: str, seen: Pages, marked: dict[Page, Marked], truth: Truth
) -> tuple[Pages, dict[Page, Marked]]:
    """Pages of results and truth where one of them does not tell them apart."""
    if len(seen) == len(marked) == 1 and None in {*seen, *marked}:
        return {None: next(iter(seen.values()))}, {None: next(iter(marked.values()))}
    if {*marked} == {None} and truth.kind == "counts":
        return total(seen), marked
    if {*marked} == {None}:
        raise InputError("TRUTH", f"must tell the pages of {file} apart", f"one of {len(seen)}")
    if {*seen} == {None}:
        rule = f"must have one page of {file}, as the results have"
        raise InputError("TRUTH", rule, len(marked))
    return seen, marked


def _compared(pair: Pair, kind: str, limit: float, masks: Path | None) -> Compared:
    """Compares a picture of the results with its truth.

    Args:
        pair: a picture that the results have.
        kind: of the truth.
        limit: largest distance of a dot from the centre of its object, in pixels.
        masks: folder of the label images that ``airjax predict`` wrote, for truth with pixels.

    Raises:
        InputError: if both have not the same size.
    """
    seen, marked = pair.seen, pair.marked
    assert seen is not None
    nothing = np.zeros(0, bool)
    if marked is None or kind == "counts":
        by_hand = np.nan if marked is None else marked.number
        empty = np.zeros(0)
        return Compared(pair.file, pair.page, seen.interval, by_hand, nothing, None, empty)
    _check_size(pair, seen, marked)
    if kind == "dots":
        hits = near(seen.centres, marked.boxes[:, :2], limit)
    else:
        hits = matched(iou(seen.boxes, marked.boxes), seen.scores)
    kept = hits | ~covered(seen.boxes, marked.ignored)
    interval = np.maximum(seen.interval - (~kept).sum(), 0)
    mask_hits = None
    if masks and (marked.labels is not None or marked.outlines is not None):
        mask_hits = _mask_hits(pair, seen, marked, masks)[kept]
    scores = seen.scores[kept]
    return Compared(
        pair.file, pair.page, interval, marked.number, hits[kept], mask_hits, scores
    )  # fmt: skip


def _check_size(pair: Pair, seen: Seen, marked: Marked) -> None:
    if marked.size is None or not len(seen.boxes):
        return
    x, y = seen.boxes[:, 2:].max(0)
    if x > marked.size[1] + BEYOND or y > marked.size[0] + BEYOND:
        rule = f"must have the size of {pair.name}, where an object reaches to {x:g}, {y:g}"
        raise InputError("TRUTH", rule, f"{marked.size[1]} x {marked.size[0]}")


def _mask_hits(pair: Pair, seen: Seen, marked: Marked, masks: Path) -> np.ndarray:
    path = masks / file_named(pair.file, pair.page, ".tif")
    (found,) = read_labels(path)
    n, truth = len(seen.boxes), marked.labels
    if truth is None:
        truth = labels_of(marked.outlines or [], (found.shape[0], found.shape[1]))
    if found.shape != truth.shape:
        rule = f"must have the size of {pair.name}, {found.shape[1]} x {found.shape[0]}"
        raise InputError("TRUTH", rule, f"{truth.shape[1]} x {truth.shape[0]}")
    if found.max(initial=0) > n:
        raise InputError(str(path), f"must have the {n} objects of objects.csv", found.max())
    return matched(label_iou(found, truth, n, int(truth.max(initial=0))), seen.scores)


def score(pictures: list[Compared], masks: bool = False) -> Score:
    """Precision, recall and average precision of all pictures, of boxes (dots) or of masks."""
    hits = [p.mask_hits if masks and p.mask_hits is not None else p.hits for p in pictures]
    true = sum(int(p.by_hand) for p in pictures)
    ap = area_under_curve(hits, [p.scores for p in pictures], true)
    return Score(true, sum(map(len, hits)), sum(int(h.sum()) for h in hits), ap)
