"""One image read along any number of paths of the guide, by one compiled program."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from airjax.air import AIR
from airjax.inference.infer import looked_again, read_paths
from airjax.inference.results import Scenes
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.programs.spatial import image_to_window

MOST_PATHS = 50


class Reader:
    """Reads images of the model's size, as `airjax.air.AIR.predict` does with the same seed.

    The number of paths is a constant of a compiled program: a slider would compile it again and
    again. Here one program reads the image along many paths, and the first K are averaged.
    """

    def __init__(self, model: Model, guide: Guide, seed: int = 0):
        self.model, self.guide, self.seed = model, guide, seed

    @cached_property
    def air(self) -> AIR:
        """The estimator, of one path an image."""
        return AIR.of(self.model, self.guide, num_paths=1)

    def __call__(self, image: UInt8[np.ndarray, "H W *C"], num_paths: int) -> Scenes:
        """Finds the objects in an image.

        Args:
            image: of the model's size.
            num_paths: K, the paths that the posterior over the count is averaged over, at most
                ``MOST_PATHS``.

        Returns:
            one scene.
        """
        paths = read_paths(self.model, self.guide, image, self.seed)
        count_probs = paths.count_probs[:num_paths].mean(axis=0, keepdims=True)
        # of the mean path, the same for all rows; what is doubtful depends on a row's count, too
        row = int((paths.count == count_probs.argmax()).argmax())
        reading = jax.tree.map(lambda field: field[row : row + 1], paths)
        reading = reading._replace(count_probs=count_probs)
        if self.guide.config.guide != "basic":
            reading = looked_again(self.model, self.guide, reading, image[None])
        return Scenes(image[None], reading, self.model)

    def all(self, images: UInt8[np.ndarray, "N H W *C"]) -> Scenes:
        """Finds the objects in many images, with one path each and the same compiled program."""
        return Scenes.joined(list(self.air.predict_batches(images, MOST_PATHS)))


def windows_of(scene: Scenes) -> Float[np.ndarray, "T w w *C"]:
    """The windows x_att that the guide attended to in each step of one scene."""
    z_where = jnp.asarray(scene.reading.z_where[0])
    image = jnp.asarray(scene.images[0], jnp.float32) / 255
    copies = jnp.broadcast_to(image, (len(z_where), *image.shape))
    return np.asarray(image_to_window(z_where, copies, scene.model.config.window_size))
