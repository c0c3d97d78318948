"""Whether a picture looks unlike those that a model was trained on: what its objects leave
unexplained, beside what they left at the end of the training.

Two measures, since neither is enough. The reader of whole pictures searches until nothing is left
that is worth an object, so a photograph may be explained by hundreds of cells, but not precisely:
its residual is large. Few and faint objects leave a small residual even if none of them is drawn
well: the share that they explain is small.

The thresholds for images of one size were set with one run and checked with four others: of their
300 held-out images none is called unlike, of 240 real pictures of other kinds 205 are, of 100 of
noise all. Those for whole pictures were set with runs on two kinds of cells: of 16 of their own
pictures none is called unlike, of 48 of other kinds 30 are (docs/demo.md has each pair). For ready
models, whose training images were composed, the limit of the residual is the wide one.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from airjax.inference.blocks import superposed
from airjax.inference.results import Objects, Scenes
from airjax.programs.model import Model

# of the residual of held-out images, and of the share that is explained of them: single images
# vary, whole pictures are read more thoroughly
LARGE, LARGE_IN_WHOLE = 2.5, 1.0
LITTLE, LITTLE_IN_WHOLE = 0.5, 0.9
MORE = 2.0  # times as many objects as usual are far more; half of them are far fewer
SOME = 20  # objects, found or usual, from which their number is judged


class Explained(NamedTuple):
    """How well objects explain an image.

    Attributes:
        residual: root mean square of the pixels' errors, of full intensity.
        share: of the squared difference from the background, 1 if all is explained; None where
            there is no difference.
    """

    residual: float
    share: float | None


class Usual(NamedTuple):
    """How well objects explained the held-out images at the end of the training.

    Attributes:
        explained: of them together; None where it is not known.
        in_crops: whether images are crops of the pictures that are read.
        composed: whether they were composed, so that the pictures that are read may be more
            crowded, or have more noise: the residual says less.
        density: number of objects that were found in them, in a pixel; None where it is not known.
    """

    explained: Explained | None
    in_crops: bool
    composed: bool = False
    density: float | None = None

    @classmethod
    def of(
        cls,
        scores: dict[str, Any],
        health: dict[str, Any],
        in_crops: bool,
        composed: bool = False,
        pixels: int | None = None,
    ) -> "Usual":
        """From a run's ``evaluation.json`` and ``health.json``, and the ``pixels`` of an image."""
        error = scores.get("reconstruction_mse")
        if error is None:
            return UNKNOWN
        usual = Explained(float(np.sqrt(error)), health.get("explained"))
        count = health.get("mean_count")
        density = count / pixels if count and pixels else None
        return cls(usual, in_crops, composed, density)

    def unlike(self, this: Explained | None, number: int) -> str:
        """Why a picture looks unlike those of the training; "" if it does not.

        Args:
            this: how well its objects explain it; None if it is not known.
            number: of objects.
        """
        if self.explained is None or this is None:
            return ""
        usual, most, least = self.explained, LARGE, LITTLE
        if self.in_crops:
            most = LARGE if self.composed else LARGE_IN_WHOLE
            least = LITTLE_IN_WHOLE
        if this.residual > most * usual.residual:
            times = this.residual / usual.residual
            return f"the objects leave {times:.1f} times the residual of held-out images"
        if not number or this.share is None or usual.share is None:
            return ""
        if this.share < least * usual.share:
            return (
                f"the objects explain {100 * this.share:.0f} % of it, "
                f"of held-out images {100 * usual.share:.0f} %"
            )
        return ""

    def unlike_number(self, number: int, pixels: int) -> str:
        """Why pictures together have far more or far fewer objects than the held-out images of the
        training; "" if they do not.

        Args:
            number: of objects that were found in them.
            pixels: of their images.
        """
        if self.density is None or self.composed:
            return ""
        usual = self.density * pixels
        if max(number, usual) < SOME or 1 / MORE < number / usual < MORE:
            return ""
        times = number / usual
        much = f"{times:.1f} times as many" if times > 1 else f"only {100 * times:.0f} % of the"
        return f"{much} objects as held-out images of the training have in this area"


UNKNOWN = Usual(None, False)


def of_scenes(scenes: Scenes) -> list[Explained]:
    """How well the objects explain each image of the model's size."""
    pixels = scenes.images / np.float32(255)
    empty = np.asarray(scenes.model.likelihood.of(jnp.asarray(pixels)).empty)
    empty = np.broadcast_to(empty, pixels.shape)
    return [_explained(*each) for each in zip(pixels, scenes.reconstructions, empty, strict=True)]


def of_picture(
    model: Model, picture: UInt8[np.ndarray, "H W *C"], objects: Objects
) -> Explained | None:
    """How well the objects explain a picture of any size; None if the model does not read those.

    Args:
        model: that they were found with.
        picture: bytes.
        objects: as `airjax.inference.blocks.find` returns them.
    """
    if not model.config.sums_on_black:
        return None
    pixels, mean = picture / np.float32(255), superposed(model, picture.shape, objects)
    return _explained(pixels, mean, np.zeros_like(pixels))


def _explained(
    pixels: Float[np.ndarray, "H W *C"],
    mean: Float[np.ndarray, "H W *C"],
    empty: Float[np.ndarray, "H W *C"],
) -> Explained:
    error, without = float(np.square(pixels - mean).mean()), float(np.square(pixels - empty).mean())
    return Explained(float(np.sqrt(error)), 1 - error / without if without > 0 else None)
