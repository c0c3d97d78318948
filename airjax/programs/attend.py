"""A guide without a recurrent network: it looks at the place with the largest residual, and reads
what earlier steps have not explained."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from airjax.programs.colour import colour_at, magnitude, matte, with_channel
from airjax.programs.guide import ResidualGuide
from airjax.programs.spatial import image_to_window, over_pixels, pixel_centres, window_to_image

SHARPER = 2  # outlines are half background, and are explained, too
WIDER = 2  # side of the region that is attended to, in sides of a window


class AttendGuide(ResidualGuide):
    """A guide without memory: each step attends to the place with the largest residual.

    The residual is the image less the objects of earlier steps, and all that a step knows of them.
    The place is where a window of the prior's scale would cover most of it. The networks read two
    wider windows there, of the image and of the residual, and infer presence and place of one
    object; the code is read from two windows at that place. So an object is read in the same way
    wherever it is, and after any number of others: the same networks read pictures of any size with
    any number of objects (`airjax.inference.whole`), and few images suffice for training.

    Where objects hide others, a step attends to one colour at its place, too: see
    `airjax.programs.colour`. The residual is then the image where no object was found yet.

    The place is not a random variable and has no gradient, and neither has the residual.
    """

    def attend(self, networks, images, from_image, last):
        """The place with the largest residual, and the features of the windows there."""
        s, (height, width) = self.config.scale_prior_mean, self.config.image_size
        # what hides others may be darker than they are
        hides = self.config.compose == "over"
        light = jnp.abs(last.residual) if hides else jnp.clip(last.residual, 0, 1)
        covered = coverage(light, s)
        best = covered.reshape(len(images), -1).argmax(-1)
        place = jnp.stack(
            [pixel_centres(width)[best % width], pixel_centres(height)[best // width]], axis=-1
        )
        return place, self.features(networks, images, last.residual, place), None

    def features(self, networks, images, residual, place):
        """The features of image and residual around a place. Where objects hide others, they end
        with the colour that is attended to."""
        wider = self.config.scale_prior_mean / WIDER
        z_where = jnp.insert(-wider * place, 0, wider, axis=-1)
        if self.config.compose == "add":
            windows = self.windows(z_where, images, residual)
            return networks.embed(windows.reshape(len(images), -1))
        colour = colour_at(place, self.config.scale_prior_mean, images, residual)
        windows = self.windows(z_where, images, residual, colour)
        return jnp.concatenate([networks.embed(windows.reshape(len(images), -1)), colour], axis=-1)

    def encode(self, networks, h, z_where, images, residual):
        """Location and scale of z_what, from the windows of image and residual. Where objects hide
        others, their colour is read off the image itself, with its background."""
        if self.config.compose == "add":
            return networks.encoder(self.windows(z_where, images, residual))
        windows = self.windows(z_where, images, residual, self.attended(h))
        whole = images + jax.lax.stop_gradient(self.likelihood.empty)
        return networks.encoder(windows, image_to_window(z_where, whole, self.config.window_size))

    def windows(
        self,
        z_where: Float[Array, "N 3"],
        images: Float[Array, "N H W *C"],
        residual: Float[Array, "N H W *C"],
        colour: Float[Array, "N C"] | None = None,
    ) -> Float[Array, "N 2 w w *K"]:
        """The windows of image and residual. Where objects hide others, both have a channel more:
        how much of the attended colour is in a pixel, and the residual's magnitude. A shape is then
        read whatever its colour."""
        size, both = self.config.window_size, (images, residual)
        if colour is not None:
            extra = matte(images, colour), magnitude(residual)
            both = [with_channel(x, more) for x, more in zip(both, extra, strict=True)]
        return jnp.stack([image_to_window(z_where, x, size) for x in both], axis=1)

    def attended(self, h: Float[Array, "N hidden"]) -> Float[Array, "N C"]:
        """The colour that is attended to, which features end with."""
        return h[:, -self.config.channels :]

    def explained(self, last, images, h, z_where, z_what):
        """The residual less the decoded object. Where objects hide others, what an object covers is
        explained, and so is what has the attended colour in its window: the next step attends to
        another object, however blurred this one is drawn."""
        z_where, window = jax.lax.stop_gradient((z_where, self.decoder(z_what)))
        y = window_to_image(z_where, window, self.config.image_size)
        if self.config.compose == "add":
            return last.residual - y, None
        inside = window_to_image(z_where, jnp.ones_like(window[..., 0]), self.config.image_size)
        read = inside * jnp.clip(SHARPER * matte(images, self.attended(h)), 0, 1)
        unseen = 1 - jnp.maximum(y[..., -1], read)
        return last.residual * over_pixels(unseen, last.residual), None


def coverage(images: Float[Array, "N H W *C"], s: float) -> Float[Array, "N H W"]:
    """How much of images a window of scale s covers, centred at each pixel: the sum of intensities,
    weighted less towards the window's outline."""
    light = images.reshape(*images.shape[:3], -1).sum(-1)
    return _hats(images.shape[1], s) @ light @ _hats(images.shape[2], s)


def _hats(n: int, s: float) -> Float[Array, "n n"]:
    """The weights of a window of scale s, centred at each pixel, along one axis."""
    u = pixel_centres(n)
    return jnp.maximum(0, 1 - s * jnp.abs(u[:, None] - u[None]))
