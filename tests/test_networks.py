"""The convolution that reads the image against JAX's own; the sizes of what it gives."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.config import ModelConfig
from airjax.programs.networks import Embed, Linear, patches


def embed_of(image_size, **settings):
    config = dataclasses.replace(ModelConfig(**settings), image_size=image_size)
    return Embed(config, key=jax.random.key(0))


@pytest.mark.parametrize("use_bias", [True, False])
def test_linear_is_equinox_s_for_mini_batches(use_bias):
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (5, 3))
    expected = jax.vmap(eqx.nn.Linear(3, 4, use_bias, key=key))(x)
    np.testing.assert_allclose(Linear(3, 4, use_bias, key=key)(x), expected, rtol=1e-6)


@pytest.mark.parametrize("image_size", [(50, 50), (20, 33), (17, 12)])
def test_embed_is_a_convolution(image_size):
    """Kernel 2 s, stride s, padded as evenly as can be: against JAX's convolution."""
    embed = embed_of(image_size, window_size=12, embed_channels=5, embed_net=())
    images = jnp.asarray(np.random.default_rng(0).random((3, *image_size)), jnp.float32)
    stride = 3
    cells = [-(-side // stride) for side in image_size]
    padding = [
        (p // 2, p - p // 2)
        for p in ((n + 1) * stride - side for n, side in zip(cells, image_size, strict=True))
    ]
    # our pixels lie by quarters of the kernel: (upper or lower, left or right, row, column)
    kernel = embed.conv.weight.T.reshape(5, 2, 2, stride, stride).transpose(0, 1, 3, 2, 4)
    expected = jax.lax.conv_general_dilated(
        images[:, None], kernel.reshape(5, 1, 6, 6), (stride, stride), padding
    )
    expected = jax.nn.relu(expected + embed.conv.bias[None, :, None, None])
    expected = expected.transpose(0, 2, 3, 1).reshape(3, -1)
    np.testing.assert_allclose(embed(images), expected, atol=1e-5)
    assert embed.size == expected.shape[1] == 5 * cells[0] * cells[1]


@pytest.mark.parametrize("embed_net", [(), (7,), (9, 4)])
@pytest.mark.parametrize("embed_channels", [0, 3])
def test_embed_sizes(embed_channels, embed_net):
    """With and without either part; the tutorial's LSTM reads the flat image itself."""
    embed = embed_of((20, 24), embed_channels=embed_channels, embed_net=embed_net)
    images = jnp.ones((2, 20, 24))
    assert embed(images).shape == (2, embed.size)
    if not embed_channels and not embed_net:
        np.testing.assert_array_equal(embed(images), images.reshape(2, -1))


def test_embed_with_a_window_of_few_pixels():
    """A stride is at least one pixel."""
    assert embed_of((6, 6), window_size=2, embed_channels=2, embed_net=()).size == 72


def test_embed_reads_every_colour():
    """The convolution of colours is the sum of those of each alone."""
    config = dataclasses.replace(
        ModelConfig(window_size=12, embed_channels=5, embed_net=()), image_size=(20, 33), channels=3
    )
    embed = Embed(config, key=jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).random((2, 20, 33, 3)), jnp.float32)
    # a row of the kernel has its pixels' colours side by side
    kernel = embed.conv.weight.T.reshape(5, 4, 3, 3, 3)
    cells = (patches(images[..., c], 3) @ kernel[..., c].reshape(5, -1).T for c in range(3))
    expected = jax.nn.relu(sum(cells) + embed.conv.bias[None]).reshape(2, -1)
    np.testing.assert_allclose(embed(images), expected, atol=1e-5)
