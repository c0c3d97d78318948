"""Looks for objects where their tracks expect them.

A model reads each frame alone. So two objects that cross may be read as one, and a faint one may be
missed. Where the objects of a frame cannot all be linked, what was read competes with what the
tracks predict: their objects, with the mean codes of the frames before, at the best places near
those that are expected. The explanation of the largest value is taken, which is

    log p(pixels | objects) - (nats for new objects) - (nats for objects that were not read).

Each of these costs ``|z_what|^2 / 2``, its share of -log p(z). One that was not read also costs the
logarithm of the number of pixels that its place is chosen from. So a place that shows nothing stays
empty. Frames are gone through forwards, then backwards. Kosiorek et al., Sequential attend, infer,
repeat, 2018, propagate objects from frame to frame in a model that is trained on videos; here, it
is one of still images.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.special import expit

from airjax.console import tracked
from airjax.inference.blocks import SOFT
from airjax.inference.results import PER_OBJECT, Objects
from airjax.prediction.predictor import only
from airjax.programs.model import Model
from airjax.tracking.compare import Change, Frame, Group, better, known
from airjax.tracking.fit import MOST, Known
from airjax.tracking.frames import Frames
from airjax.tracking.link import Linking, Places, assigned


@dataclass
class Live:
    """Tracks that may be continued; a row each.

    Attributes:
        last: the frame in which it was read last.
        at: the frame in which it is at ``xy``.
        xy: its place.
        velocity: in pixels a frame.
        scale: mean scale of its windows.
        codes: mean code.
        length: number of objects that these are means of.
    """

    last: Int[np.ndarray, " n"]
    at: Int[np.ndarray, " n"]
    xy: Float[np.ndarray, "n 2"]
    velocity: Float[np.ndarray, "n 2"]
    scale: Float[np.ndarray, " n"]
    codes: Float[np.ndarray, "n Z"]
    length: Float[np.ndarray, " n"]

    @classmethod
    def begun(cls, found: Known, t: int) -> "Live":
        """A track for each object."""
        n = len(found.xy)
        xy, scale, codes = (each.copy() for each in found)
        now = np.full(n, t)
        return cls(now, now.copy(), xy, np.zeros((n, 2)), scale, codes, np.ones(n))

    def some(self, rows: np.ndarray) -> "Live":
        """These of them."""
        return Live(*(each[rows] for each in vars(self).values()))

    def and_others(self, more: "Live") -> "Live":
        """They, then others."""
        pairs = zip(vars(self).values(), vars(more).values(), strict=True)
        return Live(*(np.concatenate(pair) for pair in pairs))

    def expected(self, t: int, steady: bool) -> Known:
        """Their objects in a frame."""
        xy = self.xy + (self.velocity * (t - self.at)[:, None] if steady else 0)
        return Known(xy, self.scale, self.codes)

    def extend(self, rows: np.ndarray, found: Known, t: int) -> None:
        """Continues them with objects that were read."""
        self.velocity[rows] = (found.xy - self.xy[rows]) / (t - self.at[rows])[:, None]
        self.length[rows] += 1
        self.scale[rows] += (found.scale - self.scale[rows]) / self.length[rows]
        self.codes[rows] += (found.codes - self.codes[rows]) / self.length[rows, None]
        self.xy[rows], self.at[rows], self.last[rows] = found.xy, t, t


@dataclass
class Propagation:
    """Looks for the objects of tracks in the frames of videos.

    Attributes:
        model: trained; its images are sums of objects.
        how: objects are linked, in pixels of the frames as the model reads them.
        any_size: whether frames may have any size; otherwise they have that of the model's images.
        pixels: gives the pixels of a frame.
        objects: that were read in each frame that can be read; they are replaced.
        propagated: of frames that were changed, which objects have a look or a place that was not
            read.
    """

    model: Model
    how: Linking
    any_size: bool
    pixels: Callable[[int], np.ndarray]
    objects: dict[int, Objects]
    propagated: dict[int, Bool[np.ndarray, " n"]] = field(default_factory=dict)

    def __call__(self, order: Iterable[int]) -> None:
        """Goes through the frames of a video in this order."""
        live: Live | None = None
        for t, i in enumerate(order):
            if i not in self.objects:
                continue
            found = known(self.objects[i])
            if live is None:
                live = Live.begun(found, t)
            else:
                live = self._next(live.some(t - live.last <= self.how.memory + 1), found, t, i)

    def _next(self, live: Live, found: Known, t: int, i: int) -> Live:
        """The tracks after frame i."""
        expected = live.expected(t, self.how.steady)
        ends = [Places(each.xy, each.codes) for each in (expected, found)]
        rows, columns = assigned(ends[0], ends[1], self.how)
        missing = np.setdiff1d(np.flatnonzero(t - live.last <= self.how.memory), rows)
        new = np.setdiff1d(np.arange(len(found.xy)), columns)
        changes = self._changes(i, expected, Group(rows, columns, missing, new))
        as_read = ~np.isin(rows, [row for change in changes for row in change.group.tracks])
        live.extend(rows[as_read], found.some(columns[as_read]), t)
        begun = [found.some(np.setdiff1d(new, [j for c in changes for j in c.group.new]))]
        for group, by, fit, _ in changes:
            n = len(by.tracks)
            live.xy[by.tracks], live.at[by.tracks] = fit.xy[:n], t
            live.last[group.tracks] = t
            linked = dict(zip(group.objects.tolist(), group.tracks.tolist(), strict=True))
            for j, xy in zip(by.objects.tolist(), fit.xy[n:], strict=True):
                if j in linked:
                    live.xy[linked[j]], live.at[linked[j]] = xy, t
                else:
                    begun.append(found.some(np.array([j]))._replace(xy=xy[None]))
        for more in begun:
            live = live.and_others(Live.begun(more, t))
        return live

    def _changes(self, i: int, expected: Known, every: Group) -> list[Change]:
        """What is changed in frame i."""
        if not len(every.missing) + len(every.new):
            return []
        found = known(self.objects[i])
        groups = close(self.model, every, expected, found) if self.any_size else [every]
        groups = [
            group
            for group in groups
            if len(group.tracks) + len(group.missing) and group.size <= MOST
        ]
        if not groups:
            return []
        frame = Frame(self.pixels(i), self.objects[i], self.any_size)
        changes = better(self.model, frame, groups, expected, self.how.search_range)
        if changes:
            before = self.propagated.get(i, np.zeros(self.objects[i].number, bool))
            self.objects[i], self.propagated[i] = changed(self.objects[i], before, changes)
        return changes


def propagate(frames: Frames, how: Linking) -> tuple[Frames, dict[int, Bool[np.ndarray, " n"]]]:
    """Frames with the objects that were found where tracks expect them, and which those are.

    Args:
        frames: as they were read.
        how: objects are linked, in pixels of the files.
    """
    predictor, again = frames.predictor, frames.again
    if predictor is None or again is None or predictor.air.model.config.compose != "add":
        return frames, {}
    in_images = replace(how, search_range=how.search_range * frames.scale)
    look = Propagation(predictor.air.model, in_images, bool(predictor.pictures.crop),
                       lambda i: again(i).image, dict(frames.objects))  # fmt: skip
    for sequence in tracked(frames.sequences, "looking", len(frames.sequences)):
        look(sequence)
        look(reversed(sequence))
    pictures, objects, propagated = dict(frames.pictures), look.objects, dict[int, np.ndarray]()
    for i, found in look.propagated.items():
        file = pictures[i].file
        pictures[i], kept = predictor.picture(again(i), objects[i], file)
        objects[i], propagated[i] = only(objects[i], kept), found[kept]
    return replace(frames, pictures=pictures, objects=objects), propagated


def close(model: Model, every: Group, expected: Known, found: Known) -> list[Group]:
    """Tracks and objects that are not linked, in groups of those that are within half a window of
    each other; with linked ones as close to them."""
    seeds = np.concatenate([expected.xy[every.missing], found.xy[every.new]])
    xy = np.concatenate([seeds, found.xy[every.objects]])
    scale = np.concatenate([expected.scale, found.scale])
    side = min(model.config.image_size) / float(np.median(scale))
    pairs = KDTree(xy).query_pairs(side / 2, output_type="ndarray")
    pairs = pairs[(pairs < len(seeds)).any(1)]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(xy), len(xy)))
    label = connected_components(graph, directed=False)[1]
    groups, u = list[Group](), len(every.missing)
    for one in np.unique(label[: len(seeds)]):
        at = np.flatnonzero(label == one)
        alone, linked = at[at < len(seeds)], at[at >= len(seeds)] - len(seeds)
        missing, new = every.missing[alone[alone < u]], every.new[alone[alone >= u] - u]
        groups.append(Group(every.tracks[linked], every.objects[linked], missing, new))
    return groups


def changed(
    objects: Objects, propagated: Bool[np.ndarray, " n"], changes: list[Change]
) -> tuple[Objects, Bool[np.ndarray, " m"]]:
    """The objects of a frame after changes, and which of them were looked for."""
    kept = np.setdiff1d(np.arange(objects.number), [j for c in changes for j in c.group.read])
    rows = {name: [getattr(objects, name)[kept]] for name in PER_OBJECT}
    found = [propagated[kept]]
    for group, by, fit, gain in changes:
        n = len(by.tracks)
        of_track = dict(zip(group.tracks.tolist(), group.objects.tolist(), strict=True))
        sure = float(expit(gain / SOFT))
        scores = [float(objects.scores[of_track[k]]) if k in of_track else sure
                  for k in by.tracks.tolist()]  # fmt: skip
        rows["tight_boxes"].append(fit.boxes[:, 0])
        rows["window_boxes"].append(fit.boxes[:, 1])
        rows["scores"].append(np.append(scores, objects.scores[by.objects]))
        rows["z_where"].append(fit.where)
        rows["z_what"].append(by.known.codes)
        found.append(np.append(np.ones(n, bool), propagated[by.objects]))
    joined = {
        name: np.concatenate(rows[name]).astype(getattr(objects, name).dtype) for name in PER_OBJECT
    }
    return objects._replace(**joined), np.concatenate(found)
