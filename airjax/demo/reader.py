"""One image read along many paths of the guide, however many of them are asked for."""

from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from airjax.air import AIR
from airjax.guide import Guide
from airjax.infer import Found
from airjax.model import Model
from airjax.scenes import Scenes
from airjax.spatial import image_to_window

MOST_PATHS = 50


class Reader:
    """Reads images of the model's size, as `airjax.air.AIR.predict` does.

    The number of paths is a constant of a compiled program, and a slider would have it compiled
    again and again. Here copies of the image, a path each, are read by one program, and the first K
    are averaged over.
    """

    def __init__(self, model: Model, guide: Guide):
        self.model, self.guide = model, guide

    @cached_property
    def air(self) -> AIR:
        """The estimator, of one path an image."""
        return AIR.of(self.model, self.guide, n_samples=1)

    def __call__(self, image: UInt8[np.ndarray, "H W *C"], num_paths: int) -> Scenes:
        """What there is in an image.

        Args:
            image: of the model's size.
            num_paths: K, the paths that the posterior over the count is averaged over, at most
                ``MOST_PATHS``.

        Returns:
            one scene.
        """
        copies = self.air.predict(np.repeat(image[None], MOST_PATHS, axis=0))
        count_probs = copies.count_probs[:num_paths].mean(axis=0, keepdims=True)
        # all else is that of the mean path, the same for all copies
        found = Found(*(field[:1] for field in copies.found))._replace(count_probs=count_probs)
        return Scenes(image[None], found, self.model)

    def all(self, images: UInt8[np.ndarray, "N H W *C"]) -> Scenes:
        """What there is in many images, one path each; compiles nothing else."""
        parts = list(self.air.predict_batches(images, MOST_PATHS))
        found = (np.concatenate(fields) for fields in zip(*(p.found for p in parts), strict=True))
        return Scenes(images, Found(*found), self.model)


def windows_of(scene: Scenes) -> Float[np.ndarray, "T w w *C"]:
    """What the guide looked at in each step of one scene: x_att, cut out of the image."""
    z_where = jnp.asarray(scene.found.z_where[0])
    image = jnp.asarray(scene.images[0], jnp.float32) / 255
    copies = jnp.broadcast_to(image, (len(z_where), *image.shape))
    return np.asarray(image_to_window(z_where, copies, scene.model.config.window_size))
