"""A recurrent guide that reads what earlier steps have not explained (DAIR)."""

import jax.numpy as jnp

from airjax.programs.compose import behind
from airjax.programs.guide import ResidualGuide
from airjax.programs.spatial import window_to_image


class DifferenceGuide(ResidualGuide):
    """The paper's guide, but it reads the residual, the image less the objects of earlier steps,
    wherever that reads the image: LSTM and encoder. Gradients flow through the residual.

    Source: difference-AIR (DAIR; Eslami et al., 2016, section 3.2).
    """

    def attend(self, networks, images, from_image, last):
        """The centre, and the output of the LSTM, which reads the residual."""
        assert networks.rnn is not None
        read = networks.rnn.image(networks.embed(last.residual))
        return super().attend(networks, images, read, last)

    def encode(self, networks, h, z_where, images, residual):
        """Location and scale of z_what, from the window of the residual."""
        return super().encode(networks, h, z_where, residual, residual)

    def explained(self, last, images, h, z_where, z_what):
        """The residual less the decoded object, or what is visible of it, and the canvas with
        it."""
        y = window_to_image(z_where, self.decoder(z_what), self.config.image_size)
        if self.config.compose == "add":
            return last.residual - y, None
        before = jnp.zeros_like(y) if last.canvas is None else last.canvas
        canvas, mean = behind("over", before, y), self.likelihood.mean
        return last.residual - (mean(canvas) - mean(before)), canvas
