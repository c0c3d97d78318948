"""Tracks as a table, with the columns of trackpy and ours; what is measured of them; and what is
probably wrong."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from airjax.inference.regions import Region
from airjax.inference.writers import Picture, no_formula
from airjax.tracking.decide import Decided, decided
from airjax.tracking.frames import Frames
from airjax.tracking.link import Links, Places, link
from airjax.tracking.mota import Frame, Mota, mota, total
from airjax.tracking.propagate import propagate

# trackpy's columns, then ours
COLUMNS = (
    "y", "x", "mass", "size", "ecc", "frame", "particle",
    "propagated", "score", "code_distance", "x0", "y0", "x1", "y1", "area", "at_edge", "file",
    "page",
)  # fmt: skip
PIXEL = 0.5  # of ours, the centre of the first pixel; trackpy's is 0
FAR = 0.5  # of the search range: displacements that are typically larger
JUMP, SOME = 0.3, 3  # a count jumps by more than this share of the typical one, and this number
STUBS = 0.25  # of the objects, in tracks of one


@dataclass(frozen=True)
class Tracks:
    """The tracks of frames.

    Attributes:
        frames: what was found.
        how: objects were linked.
        links: of each frame.
        propagated: of frames in which objects were found only where their tracks expect them,
            which these are.
    """

    frames: Frames
    how: Decided
    links: list[Links]
    propagated: dict[int, Bool[np.ndarray, " n"]] = field(default_factory=dict)

    @classmethod
    def of(cls, frames: Frames, **given: Any) -> "Tracks":
        """Links what was found in frames; videos of a file are linked one by one.

        Args:
            frames: as they were read.
            given: see `airjax.tracking.decide.decided`.
        """
        how = decided(_videos(frames), _size(frames), **given)
        propagated = dict[int, np.ndarray]()
        if how.linking.memory:
            frames, propagated = propagate(frames, how.linking)
        links, first = list[Links](), 0
        for video in _videos(frames):
            links += link(video, how.linking, first)
            first = max([first, *(int(each.particle.max(initial=-1)) + 1 for each in links)])
        return cls(frames, how, links, propagated)

    @property
    def lengths(self) -> np.ndarray:
        """The number of objects of each track, int ``[n]``."""
        return np.bincount(np.concatenate([each.particle for each in self.links]))

    @property
    def number_propagated(self) -> int:
        """How many objects were found where their tracks expect them."""
        return sum(int(each.sum()) for each in self.propagated.values())

    @property
    def moved(self) -> Float[np.ndarray, " k"]:
        """How far each object that was linked is from where it was expected, in pixels."""
        moved = np.concatenate([each.moved for each in self.links])
        return moved[np.isfinite(moved)]

    def rows(self) -> list[list[Any]]:
        """The columns ``COLUMNS``, a row an object, by frame."""
        rows = list[list[Any]]()
        for i, picture in sorted(self.frames.pictures.items()):
            found, links = picture.objects, self.links[i]
            propagated = self.propagated.get(i, np.zeros(found.number, bool))
            table = zip(places_of(picture) - PIXEL, picture.regions, links.particle.tolist(),
                        propagated.tolist(), links.code_distance, found.scores.tolist(),
                        found.tight_boxes.tolist(), strict=True)  # fmt: skip
            rows += [
                [round(y, 3), round(x, 3), round(region.total, 4), round(_radius(region), 3),
                 round(region.eccentricity, 4), i, particle, int(was_propagated), round(score, 4),
                 "" if np.isnan(code) else round(code, 3), *(round(corner, 1) for corner in box),
                 region.area, region.at_edge, no_formula(picture.file), picture.page]
                for (x, y), region, particle, was_propagated, code, score, box in table
            ]  # fmt: skip
        return rows

    def write(self, path: Path) -> None:
        """Writes the table as CSV."""
        with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows(self.rows())

    def summary(self) -> list[str]:
        """What was measured: a line each."""
        counts = np.array([len(each.particle) for each in self.links])
        lengths, moved, linking = self.lengths, self.moved, self.how.linking
        videos = f" in {n} videos" if (n := len(self.frames.sequences)) > 1 else ""
        lines = [f"objects    {counts.sum()} in {len(counts)} frames{videos}, "
                 f"{counts.min()} to {counts.max()} a frame"]  # fmt: skip
        if not len(lengths):
            return lines
        longest = max(map(len, self.frames.sequences))
        whole = int((lengths == longest).sum())
        return [
            *lines,
            f"tracks     {len(lengths)}: median length {np.median(lengths):.0f} frames, longest "
            f"{lengths.max()}, {whole} in all {longest} frames",
            f"propagated {self.number_propagated} objects, found where their tracks expect them, "
            f"for up to {linking.memory} frames (--memory)",
            f"not linked {(lengths == 1).sum()} objects (tracks of one)",
            f"moved      {_typical(moved)} pixels from where they were expected, at most "
            f"{linking.search_range:.1f} (--search-range)",
        ]

    def doubts(self) -> list[str]:
        """What is probably wrong."""
        counts = np.array([len(each.particle) for each in self.links])
        lengths, moved = self.lengths, self.moved
        found, spacing = list[str](), self.how.spacing
        if self.frames.unlike_number:
            found.append(self.frames.unlike_number)
        far = float(np.median(moved)) if len(moved) else 0.0
        if spacing is not None and far > FAR * spacing / 2:
            found.append(
                f"objects move {far:.1f} pixels from a frame to the next, near or beyond half of "
                f"the distance of neighbours ({spacing:.1f}): tracks are probably mixed up; more "
                "frames a second would help"
            )
        elif far > FAR * self.how.linking.search_range:
            found.append(
                f"objects move {far:.1f} pixels from a frame to the next, near the search range: "
                "try a larger --search-range"
            )
        within = [np.diff(counts[s.start : s.stop]) for s in self.frames.sequences]
        jumps = np.concatenate([[0, *step] for step in within])
        most = max(SOME, JUMP * float(np.median(counts)))
        if (at := np.flatnonzero(np.abs(jumps) > most)).size:
            a, b = counts[at[0] - 1], counts[at[0]]
            found.append(
                f"the count jumps in {len(at)} frames, first from {a} to {b} in frame {at[0]}: "
                "look at these"
            )
        if lengths.sum() and (stubs := (lengths == 1).sum() / lengths.sum()) > STUBS:
            found.append(f"{stubs:.0%} of the objects are linked to no other")
        return found

    def mota(self) -> Mota | None:
        """The errors against the truth; None where that is not known."""
        truth = self.frames.truth
        if truth is None or truth.boxes is None or truth.counts is None or truth.sequences is None:
            return None
        boxes, counts = truth.boxes, truth.counts
        nothing = np.zeros((0, 4), np.float32)

        def at(i: int) -> tuple[Frame, Frame]:
            found = self.frames.pictures.get(i)
            seen = nothing if found is None else found.objects.tight_boxes
            true = Frame(np.arange(counts[i]), boxes[i, : counts[i]])
            return true, Frame(self.links[i].particle, seen)

        return total(mota(map(at, sequence)) for sequence in self.frames.sequences)


def _videos(frames: Frames) -> list[list[Places]]:
    """The places in each frame of each video."""
    width = next((p.objects.z_what.shape[1] for p in frames.pictures.values()), 0)
    nothing = Places(np.zeros((0, 2)), np.zeros((0, width)))
    places = [
        Places(places_of(frames.pictures[i]), frames.pictures[i].objects.z_what.astype(float))
        if i in frames.pictures
        else nothing
        for i in range(frames.number)
    ]
    return [[places[i] for i in sequence] for sequence in frames.sequences]


def places_of(picture: Picture) -> Float[np.ndarray, "n 2"]:
    """x and y of each object: the centre of its region, or, of one without a pixel in the picture,
    of its box."""
    boxes = picture.objects.tight_boxes.astype(float)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    centres = np.array([region.centre for region in picture.regions], float).reshape(-1, 2)
    return np.where(np.isnan(centres), middle, centres)


def _size(frames: Frames) -> float:
    """The median larger side of an object in pixels."""
    boxes = [picture.objects.tight_boxes for picture in frames.pictures.values()]
    sides = np.concatenate([(each[:, 2:] - each[:, :2]).max(1, initial=0.0) for each in boxes])
    return max(1.0, float(np.median(sides))) if len(sides) else 1.0


def _radius(region: Region) -> float:
    """The radius of gyration of a region in pixels; 0 if it has none."""
    if not region.area:
        return 0.0
    return float(np.sqrt(region.rows.var() + region.columns.var()))


def _typical(moved: np.ndarray) -> str:
    if not len(moved):
        return "none"
    middle, most = np.percentile(moved, [50, 95])
    return f"typically {middle:.2f}, 95 % less than {most:.2f}"
