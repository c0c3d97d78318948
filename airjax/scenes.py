"""What was found in images: counts, boxes, codes; and its picture."""

import io
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure

from airjax import plots
from airjax.infer import BATCH, Found
from airjax.model import Model
from airjax.spatial import over_pixels, window_to_image

ABSENT = -1.0  # the boxes of objects that are not there


class Objects(NamedTuple):
    """The n objects found in one image.

    Attributes:
        boxes: float32 ``[n, 4]``, around the visible pixels: x0, y0, x1, y1 in pixels.
        windows: ``[n, 4]``, the windows' outlines, likewise.
        scores: ``[n]``, probability that the object is there.
        positions: ``[n, 3]``, z_where, in the image or (of a large picture) in its tile.
        codes: ``[n, Z]``, z_what.
    """

    boxes: Float[np.ndarray, "n 4"]
    windows: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    positions: Float[np.ndarray, "n 3"]
    codes: Float[np.ndarray, "n Z"]


@dataclass(frozen=True)
class Scenes:
    """What a model found in N images, at most T objects each. A notebook shows it as a picture.

    Attributes:
        images: uint8 ``[N, H, W]``.
        found: of these images, see `airjax.infer.Found`.
        model: the program whose decoder draws windows and reconstructions.
    """

    images: UInt8[np.ndarray, "N H W *C"]
    found: Found
    model: Model

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> "Scenes":
        """The scenes of a slice."""
        return Scenes(self.images[rows], Found(*(a[rows] for a in self.found)), self.model)

    @property
    def counts(self) -> Int[np.ndarray, " N"]:
        """The most probable number of objects in each image."""
        return np.asarray(self.count_probs).argmax(-1)

    @property
    def count_probs(self) -> Float[np.ndarray, "N counts"]:
        """The posterior over the number of objects, 0 to T."""
        return np.asarray(self.found.count_probs)

    @property
    def present(self) -> np.ndarray:
        """Which of an image's objects are there, bool ``[N, T]``; first those that are."""
        return np.arange(self.found.z_where.shape[1]) < self.counts[:, None]

    @property
    def probabilities(self) -> Float[np.ndarray, "N T"]:
        """Probability that each object is there, that is, that the image has more than t."""
        return np.clip(1 - np.cumsum(self.count_probs, axis=-1)[:, :-1], 0, 1)

    @property
    def boxes(self) -> Float[np.ndarray, "N T 4"]:
        """The windows' outlines, x0, y0, x1, y1 in pixels; -1 for absent objects."""
        return np.where(self.present[..., None], self.found.window_boxes, np.float32(ABSENT))

    @property
    def tight_boxes(self) -> Float[np.ndarray, "N T 4"]:
        """Boxes around each object's visible pixels, likewise."""
        return np.where(self.present[..., None], self.found.tight_boxes, np.float32(ABSENT))

    @property
    def codes(self) -> Float[np.ndarray, "N T Z"]:
        """z_what of each object, zero for absent ones."""
        return np.where(self.present[..., None], self.found.z_what, np.float32(0))

    @property
    def positions(self) -> Float[np.ndarray, "N T 3"]:
        """z_where of each object (scale, x, y); zero for absent ones."""
        return np.where(self.present[..., None], self.found.z_where, np.float32(0))

    @property
    def windows(self) -> Float[np.ndarray, "N T w w *C"]:
        """What each object looks like in its window, decoded now; zero for absent ones."""
        return self._decoded(placed=False)

    @property
    def reconstructions(self) -> Float[np.ndarray, "N H W *C"]:
        """The objects that are there, drawn in their places now, and added up."""
        return self._decoded(placed=True)

    def objects(self, i: int) -> Objects:
        """Those of image i."""
        n, found = self.counts[i], self.found
        fields = (found.tight_boxes, found.window_boxes, self.probabilities)
        return Objects(*(np.asarray(a)[i, :n] for a in (*fields, found.z_where, found.z_what)))

    def draw(self, n: int = 10) -> Figure:
        """The first images, over what was found in them: each step's window has its own colour."""
        some = self[:n]
        return plots.over(some.images / 255, some.reconstructions, some.boxes, some.counts)

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.draw().savefig(content, format="png", dpi=100)
        return content.getvalue()

    def __repr__(self) -> str:
        told = ", ".join(f"{n}: {(self.counts == n).sum()}" for n in np.unique(self.counts))
        return f"Scenes of {len(self)} images; images by number of objects {{{told}}}"

    def _decoded(self, placed: bool) -> np.ndarray:
        parts = []
        for start in range(0, max(len(self), 1), BATCH):
            rows = slice(start, start + BATCH)
            where, what = self.found.z_where[rows], self.found.z_what[rows]
            present = jnp.asarray(self.present[rows])
            parts.append(np.asarray(_decode(self.model, where, what, present, placed)))
        return np.concatenate(parts)


def _decode(model: Model, where, what, present, placed: bool) -> jax.Array:
    """Windows ``[N, T, w, w]``, or, placed, their canvases ``[N, H, W]``."""
    n, steps = present.shape
    flat = model.decoder(jnp.asarray(what).reshape(n * steps, -1))
    if not placed:
        windows = flat.reshape(n, steps, *flat.shape[1:])
        return windows * over_pixels(present, windows)
    size = model.config.image_size
    objects = window_to_image(jnp.asarray(where).reshape(n * steps, 3), flat, size)
    objects = objects.reshape(n, steps, *objects.shape[1:])
    return model.likelihood.on_ground((objects * over_pixels(present, objects)).sum(1))
