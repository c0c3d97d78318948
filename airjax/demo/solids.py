"""Solids on a table that are moved about, and how a trained guide reads them."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from airjax.demo import views
from airjax.three_d import files
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.reading import read
from airjax.three_d.renderer import ASIDE
from airjax.three_d.scenes import NOISE, drawn, scenes
from airjax.three_d.shapes import Box, Shape

MOST = 5  # solids in a scene
SHARPER = 4  # pixels of a scene as it was read, for one that was read, along a side
TURN = 90.0  # degrees after which every solid looks the same


class Solid(NamedTuple):
    """A solid of a scene: the number of its kind, its place on the table, and degrees about z."""

    kind: int
    x: float
    y: float
    angle: float


class OnTable(NamedTuple):
    """A scene; every change makes a new one. Only the first ``number`` solids are in it."""

    number: int
    solids: tuple[Solid, ...]

    def changed(self, i: int, solid: Solid) -> "OnTable":
        """This scene with another solid i."""
        return self._replace(solids=(*self.solids[:i], solid, *self.solids[i + 1 :]))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count, kinds and poses as `airjax.three_d.scenes.drawn` takes them."""
        poses = [[s.x, s.y, np.radians(s.angle)] for s in self.solids]
        kinds = [[s.kind for s in self.solids]]
        return np.array([self.number]), np.array(kinds), np.array([poses], np.float32)


@dataclasses.dataclass(frozen=True)
class SolidsExhibit:
    """A trained guide of solids.

    Attributes:
        name: of its folder.
        guide: as it was saved.
    """

    name: str
    guide: SolidsGuide

    @classmethod
    def of(cls, folder: Path) -> "SolidsExhibit":
        """Loads a guide, and reads a scene, so that the page is fast.

        Raises:
            InputError: if it cannot be loaded.
        """
        exhibit = cls(folder.name, files.load(folder))
        exhibit.shown(exhibit.random(0))
        return exhibit

    def random(self, seed: int) -> OnTable:
        """A scene of three solids, and two more that are not in it yet."""
        one = scenes(self.guide.config.kinds, 1, seed, (MOST,), self.guide.config.camera)
        solids = tuple(
            Solid(kind, round(x, 2), round(y, 2), round(np.degrees(angle) % TURN))
            for kind, (x, y, angle) in zip(
                one.kinds[0].tolist(), one.poses[0].tolist(), strict=True
            )
        )
        return OnTable(3, solids)

    def shown(self, scene: OnTable) -> str:
        """The scene, what was read, and the same from another side, as HTML."""
        shapes, camera = self.guide.config.kinds, self.guide.config.camera
        image = drawn(camera, shapes, *scene.arrays())
        noisy = image + np.random.default_rng(0).normal(0, NOISE, image.shape)
        pixels = np.clip(255 * noisy + 0.5, 0, 255).astype(np.uint8)
        found = read(self.guide, pixels, MOST + 1)
        again = [
            drawn(dataclasses.replace(seen_by, size=SHARPER * camera.size), shapes, *found)[0]
            for seen_by in (camera, ASIDE)
        ]
        titles = ("the scene", "as it was read", "as it was read, from another side")
        pictures = zip((pixels[0] / 255, *again), titles, strict=True)
        there = [shapes[kind] for kind in found.kinds[0, : found.counts[0]]]
        poses = found.poses[0].tolist()
        rows = {f"{i + 1}: {s.name}": _place(s, *poses[i]) for i, s in enumerate(there)}
        return views.read_again([views.picture(p, None, t) for p, t in pictures], rows)


def _place(shape: Shape, x: float, y: float, angle: float) -> str:
    """Where a solid is; how it is turned, if that is seen."""
    turned = f", turned by {np.degrees(angle) % TURN:.0f} degrees"
    return f"x {x:.2f}, y {y:.2f}{turned if isinstance(shape, Box) else ''}"
