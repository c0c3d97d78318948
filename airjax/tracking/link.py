"""Links the objects of successive frames into tracks: the assignment of least cost, by place and
code.

As in Crocker and Grier, Methods of digital video microscopy for colloidal studies, 1996, an object
moves at most a search range from a frame to the next, and all links of a frame are chosen together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from airjax.checks import positive
from airjax.errors import InputError


class Places(NamedTuple):
    """The n objects of one frame.

    Attributes:
        xy: places in pixels.
        codes: z_what of each.
    """

    xy: Float[np.ndarray, "n 2"]
    codes: Float[np.ndarray, "n Z"]


class Links(NamedTuple):
    """The tracks that the n objects of one frame belong to.

    Attributes:
        particle: number of the track, from 0.
        moved: pixels from where the object was expected; nan for the first one of a track.
        code_distance: distance of its code from the mean code of the earlier objects of its track;
            nan for the first one.
    """

    particle: Int[np.ndarray, " n"]
    moved: Float[np.ndarray, " n"]
    code_distance: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Linking:
    """How objects are linked.

    The cost of a link is ``(d / search_range)^2 + code_weight min(1, c / code_scale)^2`` for an
    object at a distance d from where it is expected, and a distance c of its code from the mean
    code of the track. No link has the largest cost that a link can have.

    Attributes:
        search_range: greatest d, in pixels.
        memory: for how many frames an object may be missing.
        steady: whether an object is expected to keep its velocity, or where it was last.
        code_weight: of the code; 0 for places alone.
        code_scale: distance of two codes that says nothing.
    """

    search_range: float
    memory: int = 3
    steady: bool = False
    code_weight: float = 0.0
    code_scale: float = 1.0

    def __post_init__(self):
        positive(search_range=self.search_range, code_scale=self.code_scale)
        if self.memory < 0:
            raise InputError("memory", "must be at least 0", self.memory)
        if not 0 <= self.code_weight < np.inf:
            raise InputError("code_weight", "must be at least 0", self.code_weight)


class _Live:
    """The tracks that may be continued; a row each."""

    def __init__(self, codes: int):
        self.number, self.last = np.zeros(0, int), np.zeros(0, int)
        self.xy, self.velocity = np.zeros((0, 2)), np.zeros((0, 2))
        self.codes, self.length = np.zeros((0, codes)), np.zeros(0, int)  # sums of codes

    def keep(self, rows: np.ndarray) -> None:
        for name, values in vars(self).items():
            setattr(self, name, values[rows])

    def begin(self, number: np.ndarray, frame: int, places: Places) -> None:
        n = len(number)
        self.number = np.append(self.number, number)
        self.last = np.append(self.last, np.full(n, frame))
        self.xy = np.concatenate([self.xy, places.xy])
        self.velocity = np.concatenate([self.velocity, np.zeros((n, 2))])
        self.codes = np.concatenate([self.codes, places.codes])
        self.length = np.append(self.length, np.ones(n, int))

    def extend(self, rows: np.ndarray, frame: int, places: Places) -> None:
        elapsed = (frame - self.last[rows])[:, None]
        self.velocity[rows] = (places.xy - self.xy[rows]) / elapsed
        self.xy[rows], self.last[rows] = places.xy, frame
        self.codes[rows] += places.codes
        self.length[rows] += 1

    def expected(self, frame: int, steady: bool) -> np.ndarray:
        return self.xy + (self.velocity * (frame - self.last)[:, None] if steady else 0)


def link(frames: Sequence[Places], how: Linking, first: int = 0) -> list[Links]:
    """The tracks of the objects of each frame; the same input gives the same tracks.

    Args:
        frames: in their order; one may be empty.
        how: objects are linked.
        first: number of the first track.
    """
    live, links = _Live(frames[0].codes.shape[1] if frames else 0), list[Links]()
    for t, places in enumerate(frames):
        n = len(places.xy)
        particle, moved, code_distance = np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan)
        live.keep(t - live.last <= how.memory + 1)
        expected, codes = live.expected(t, how.steady), live.codes / live.length[:, None]
        rows, columns = assigned(Places(expected, codes), places, how)
        particle[columns] = live.number[rows]
        moved[columns] = np.linalg.norm(places.xy[columns] - expected[rows], axis=1)
        code_distance[columns] = np.linalg.norm(places.codes[columns] - codes[rows], axis=1)
        live.extend(rows, t, Places(places.xy[columns], places.codes[columns]))
        new = np.flatnonzero(particle < 0)
        particle[new] = first + np.arange(len(new))
        first += len(new)
        live.begin(particle[new], t, Places(places.xy[new], places.codes[new]))
        links.append(Links(particle, moved, code_distance))
    return links


def assigned(
    expected: Places, found: Places, how: Linking
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """The links of least total cost: rows of ``expected``, and those of ``found``.

    Objects that no chain of candidate links connects are independent: each such group is an
    assignment of its own, so that thousands of objects cost little.
    """
    near = KDTree(found.xy).query_ball_point(expected.xy, how.search_range, return_sorted=True)
    rows = np.repeat(np.arange(len(near)), [len(each) for each in near])
    columns = np.array([j for each in near for j in each], int)
    d = np.linalg.norm(expected.xy[rows] - found.xy[columns], axis=1) / how.search_range
    c = np.linalg.norm(expected.codes[rows] - found.codes[columns], axis=1) / how.code_scale
    gain = 1 - d**2 + how.code_weight * (1 - np.minimum(c, 1) ** 2)
    n, m = len(expected.xy), len(found.xy)
    graph = coo_array((np.ones(len(rows)), (rows, n + columns)), shape=(n + m, n + m))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    ends = np.flatnonzero(np.diff(group[order])) + 1
    pairs = [_best(rows[some], columns[some], gain[some]) for some in np.split(order, ends)]
    chosen = np.concatenate(pairs)
    return chosen[:, 0], chosen[:, 1]


def _best(rows: np.ndarray, columns: np.ndarray, gain: np.ndarray) -> Int[np.ndarray, "k 2"]:
    """The pairs of largest total gain in a group; others than these candidates are none."""
    if len(rows) < 2:
        return np.stack([rows, columns], axis=1)
    row, i = np.unique(rows, return_inverse=True)
    column, j = np.unique(columns, return_inverse=True)
    table, is_candidate = np.zeros((len(row), len(column))), np.zeros((len(row), len(column)), bool)
    table[i, j], is_candidate[i, j] = gain, True
    a, b = linear_sum_assignment(table, maximize=True)
    taken = is_candidate[a, b]
    return np.stack([row[a[taken]], column[b[taken]]], axis=1)
