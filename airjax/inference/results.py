"""What was found in images: `Scenes` of N images, `Objects` of one; and their figures and
tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib.figure import Figure
from scipy.stats import nbinom

from airjax.errors import InputError
from airjax.inference import plots
from airjax.inference.infer import BATCH
from airjax.inference.reading import AnyArray, Reading, joined
from airjax.programs.compose import composed, without_opacity
from airjax.programs.model import Model
from airjax.programs.spatial import over_pixels, window_to_image

if TYPE_CHECKING:
    import pandas as pd

INTERVAL = 0.9  # probability of the interval of a count
TAIL = 1e-6  # probability of larger numbers of errors, which are left out
ABSENT = -1.0  # the boxes of absent objects
PER_OBJECT = ("tight_boxes", "window_boxes", "scores", "z_where", "z_what")  # of Objects
CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = ("score", *CORNERS, *(f"window_{corner}" for corner in CORNERS), "scale", "x", "y")


class Errors(NamedTuple):
    """How many errors a model makes in a simulated picture that is as crowded as the one that was
    read; see `airjax.inference.simulation`.

    Attributes:
        missed: objects of the simulated picture that are not found again.
        extra: objects that are found where it has none.
    """

    missed: float
    extra: float


NO_ERRORS = Errors(0.0, 0.0)


class Objects(NamedTuple):
    """The n objects found in one image.

    Attributes:
        tight_boxes: float32 ``[n, 4]``, boxes around the visible pixels: x0, y0, x1, y1 in pixels.
        window_boxes: float32 ``[n, 4]``, outlines of the windows: x0, y0, x1, y1 in pixels.
        scores: ``[n]``, probability that the object is present.
        z_where: ``[n, 3]``, scale and position in the image, or (of a picture of another size than
            the model's images) in a patch of the image's size around the object.
        z_what: ``[n, Z]``, codes.
        count_probs: posterior over the number of objects, ``[T + 1]``; of a picture of another
            size, `distribution` of its scores and errors.
        errors: in a simulated picture; none of images of the model's size.
    """

    tight_boxes: Float[np.ndarray, "n 4"]
    window_boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, " n"]
    z_where: Float[np.ndarray, "n 3"]
    z_what: Float[np.ndarray, "n Z"]
    count_probs: Float[np.ndarray, " counts"]
    errors: Errors = NO_ERRORS

    @property
    def number(self) -> int:
        """The number of objects."""
        return len(self.scores)

    @property
    def probability(self) -> float:
        """Probability of this number of objects."""
        return float(self.count_probs[self.number])

    @property
    def interval(self) -> tuple[int, int]:
        """The smallest and the largest number of objects of the central 90 % interval, widened to
        hold the count: each object is more probable than not, but all of them together may not be.
        """
        below = np.cumsum(self.count_probs)
        tail = (1 - INTERVAL) / 2 * below[-1]
        low, high = np.searchsorted(below, [tail, below[-1] - tail])
        return min(int(low), self.number), max(int(high), self.number)

    def some(self, which: Bool[np.ndarray, " n"] | Int[np.ndarray, " m"]) -> "Objects":
        """Some of the objects: the `distribution` of their number has errors in proportion."""
        rows = {name: getattr(self, name)[which] for name in PER_OBJECT}
        share = len(rows["scores"]) / max(1, self.number)
        errors = Errors(*(share * number for number in self.errors))
        probs = distribution(rows["scores"], errors)
        return self._replace(**rows, count_probs=probs, errors=errors)

    def rows(self) -> list[dict[str, float]]:
        """A row for each object: its score, boxes and z_where."""
        columns = (self.scores[:, None], self.tight_boxes, self.window_boxes, self.z_where)
        table = np.concatenate(columns, axis=1).tolist()
        return [dict(zip(COLUMNS, row, strict=True)) for row in table]

    def to_dataframe(self) -> "pd.DataFrame":
        """A table with a row for each object; needs pandas. See `Scenes.to_dataframe`."""
        return _dataframe([self]).drop(columns="image")


@dataclass(frozen=True)
class Scenes:
    """What a model found in N images, at most T objects each. A notebook shows it as a picture.

    ``scenes[i]`` are the `Objects` of image i, ``scenes[a:b]`` the scenes of a slice, and iteration
    goes over the images.

    Attributes:
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``.
        reading: of these images, with at least the fields ``airjax.inference.reading.FOUND``.
        model: the program whose decoder draws windows and reconstructions.
    """

    images: UInt8[np.ndarray, "N H W *C"]
    reading: Reading
    model: Model

    @classmethod
    def joined(cls, parts: Sequence["Scenes"]) -> "Scenes":
        """The scenes of several batches together."""
        images = np.concatenate([part.images for part in parts])
        return cls(images, joined([part.reading for part in parts]), parts[0].model)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, rows: int) -> Objects: ...

    @overload
    def __getitem__(self, rows: slice) -> "Scenes": ...

    def __getitem__(self, rows: int | slice) -> "Objects | Scenes":
        """The objects of one image, or the scenes of a slice."""
        if isinstance(rows, slice):
            reading = jax.tree.map(lambda field: field[rows], self.reading)
            return Scenes(self.images[rows], reading, self.model)
        if not -len(self) <= rows < len(self):
            raise IndexError(f"index {rows} is out of range for {len(self)} images")
        read, n = self.reading, self.counts[rows]
        tight_boxes, window_boxes, scores, z_where, z_what = (
            np.asarray(field[rows])[:n]
            for field in (
                read.tight_boxes,
                read.window_boxes,
                read.scores,
                read.z_where,
                read.z_what,
            )
        )
        probs = self.count_probs[rows]
        return Objects(tight_boxes, window_boxes, scores, z_where, z_what, probs)

    def __iter__(self) -> Iterator[Objects]:
        return (self[i] for i in range(len(self)))

    @property
    def counts(self) -> Int[np.ndarray, " N"]:
        """The most probable number of objects in each image."""
        return np.asarray(self.reading.count)

    @property
    def count_probs(self) -> Float[np.ndarray, "N counts"]:
        """The posterior over the number of objects, 0 to T."""
        return np.asarray(self.reading.count_probs)

    @property
    def scores(self) -> Float[np.ndarray, "N T"]:
        """Probability that each object is present, that is, that the count is above t."""
        return np.asarray(self.reading.scores)

    @property
    def present(self) -> Bool[np.ndarray, "N T"]:
        """Which objects are present; those come first."""
        return np.asarray(self.reading.present)

    @property
    def window_boxes(self) -> Float[np.ndarray, "N T 4"]:
        """Outlines of the windows: x0, y0, x1, y1 in pixels; -1 for absent objects."""
        return self._masked(self.reading.window_boxes, ABSENT)

    @property
    def tight_boxes(self) -> Float[np.ndarray, "N T 4"]:
        """Boxes around the visible pixels of each object: x0, y0, x1, y1 in pixels; -1 for absent
        objects."""
        return self._masked(self.reading.tight_boxes, ABSENT)

    @property
    def z_what(self) -> Float[np.ndarray, "N T Z"]:
        """The code of each object; 0 for absent ones."""
        return self._masked(self.reading.z_what, 0.0)

    @property
    def z_where(self) -> Float[np.ndarray, "N T 3"]:
        """Scale and position (s, x, y) of each object; 0 for absent ones."""
        return self._masked(self.reading.z_where, 0.0)

    @property
    def windows(self) -> Float[np.ndarray, "N T w w *C"]:
        """Each object in its window, decoded now, in [0, 1]; 0 for absent ones."""
        return self._decoded(placed=False)

    @property
    def reconstructions(self) -> Float[np.ndarray, "N H W *C"]:
        """The mean of the pixels given the present objects, decoded now, in [0, 1]."""
        return self._decoded(placed=True)

    def to_dataframe(self) -> "pd.DataFrame":
        """A table with a row for each object: ``image`` (index), ``object``, ``score``, tight box
        (``x0`` ...), window box (``window_x0`` ...), and z_where (``scale``, ``x``, ``y``).

        Raises:
            InputError: if pandas is not installed.
        """
        return _dataframe(list(self))

    def draw(self, n: int = 10) -> Figure:
        """The first images, above their reconstructions with the window of each step in a colour of
        its own."""
        some = self[:n]
        return plots.over(some.images / 255, some.reconstructions, some.window_boxes, some.counts)

    def _repr_png_(self) -> bytes:
        return plots.as_png(self.draw(), dpi=100)

    def __repr__(self) -> str:
        numbers = ", ".join(f"{n}: {(self.counts == n).sum()}" for n in np.unique(self.counts))
        return f"Scenes of {len(self)} images; images by number of objects {{{numbers}}}"

    def _masked(self, values: AnyArray, absent: float) -> np.ndarray:
        return np.where(self.present[..., None], values, np.float32(absent))

    def _decoded(self, placed: bool) -> np.ndarray:
        parts = []
        for start in range(0, max(len(self), 1), BATCH):
            rows = slice(start, start + BATCH)
            where, what = self.reading.z_where[rows], self.reading.z_what[rows]
            present, images = jnp.asarray(self.present[rows]), self.images[rows]
            parts.append(np.asarray(_decode(self.model, images, where, what, present, placed)))
        return np.concatenate(parts)


def poisson_binomial(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n+1"]:
    """The distribution of the number of successes of independent trials with probabilities p (Le
    Cam, 1960), by adding one trial after the other."""
    probs = np.ones(1)
    for each in np.clip(p, 0, 1):
        probs = np.append(probs * (1 - each), 0) + np.append(0, probs * each)
    return probs.astype(np.float32)


def distribution(
    scores: Float[np.ndarray, " n"], errors: Errors = NO_ERRORS
) -> Float[np.ndarray, " counts"]:
    """The distribution of the number of objects in a picture of which these were found.

    If there were no errors, they would be independent. The numbers of those missed and of those
    found too many have the distribution of a Poisson variable of which one other value, that of the
    simulated picture, is known: a negative binomial one (with the scale-invariant prior of its
    mean; Gelman et al., Bayesian Data Analysis, 2013, section 2.6).

    Args:
        scores: probability that each is present.
        errors: in the simulated picture.
    """
    missed, extra = (_predicted(number) for number in errors)
    probs = np.convolve(np.convolve(poisson_binomial(scores), missed), extra[::-1])
    below = len(extra) - 1  # there are at least 0 objects
    probs[below] += probs[:below].sum()
    return probs[below:].astype(np.float32)


def _predicted(known: float) -> Float[np.ndarray, " numbers"]:
    """The distribution of a Poisson variable after one value of it."""
    if not known:
        return np.ones(1)
    most = int(nbinom.isf(TAIL, known, 0.5))
    return nbinom.pmf(np.arange(most + 1), known, 0.5)


def _dataframe(scenes: Sequence[Objects]) -> "pd.DataFrame":
    try:
        import pandas as pd
    except ImportError:
        raise InputError("to_dataframe", "needs pandas: pip install 'airjax[pandas]'") from None
    rows = [
        {"image": i, "object": t} | row
        for i, objects in enumerate(scenes)
        for t, row in enumerate(objects.rows())
    ]
    return pd.DataFrame(rows, columns=["image", "object", *COLUMNS])


def _decode(model: Model, images, where, what, present, placed: bool) -> jax.Array:
    """Windows ``[N, T, w, w]``, or, if placed, images ``[N, H, W]`` over their backgrounds."""
    n, steps = present.shape
    flat = model.decoder(jnp.asarray(what).reshape(n * steps, -1))
    if not placed:
        flat = without_opacity(model.config.compose, flat)
        windows = flat.reshape(n, steps, *flat.shape[1:])
        return windows * over_pixels(present, windows)
    size = model.config.image_size
    objects = window_to_image(jnp.asarray(where).reshape(n * steps, 3), flat, size)
    objects = jnp.moveaxis(objects.reshape(n, steps, *objects.shape[1:]), 1, 0)
    likelihood = model.likelihood.of(jnp.asarray(images, jnp.float32) / 255)
    return likelihood.mean(composed(model.config.compose, objects, jnp.asarray(present).T))
