"""The renderer of airjax.three_d: its gradients against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.three_d.renderer import Camera, over, render, table
from airjax.three_d.shapes import BLOCKS, TABLEWARE, Shape

pytestmark = pytest.mark.slow  # compiles the renderer
CAMERA = Camera()
H = 1e-4  # of a central difference, in float64


@pytest.mark.parametrize("shape", [*BLOCKS, *TABLEWARE], ids=lambda shape: shape.name)
def test_gradients_agree_with_finite_differences(shape: Shape):
    """Of all pixels by x, y and angle, within 5 % (root mean square)."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        poses = jnp.array(rng.uniform([-0.9, -0.9, 0], [0.9, 0.9, 6.28], (6, 3)))
        draw = jax.jit(lambda poses: render(CAMERA, shape, poses, 0.015))
        for i in range(3):
            along = jnp.eye(3)[i][None] * jnp.ones((6, 1))
            _, gradient = jax.jvp(draw, (poses,), (along,))
            difference = (draw(poses + H * along) - draw(poses - H * along)) / (2 * H)
            error = jnp.linalg.norm(gradient - difference)
            assert error < 0.05 * jnp.linalg.norm(difference) + 1e-6


def test_an_object_hides_what_is_behind_it():
    near, far = (render(CAMERA, BLOCKS[1], jnp.array([[0.0, y, 0.0]]), 0.01) for y in (-0.2, 0.0))
    image = over(table(CAMERA)[None], jnp.stack([far, near]))
    alone = over(table(CAMERA)[None], near[None])
    hidden = near[..., 3] > 0.999
    assert hidden.sum() > 10
    np.testing.assert_allclose(image[hidden], alone[hidden], atol=1e-3)


def test_objects_outside_of_the_image_are_not_drawn():
    assert not render(CAMERA, BLOCKS[0], jnp.array([[9.0, 0.0, 0.0]]), 0.01).any()
