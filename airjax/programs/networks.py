"""The neural networks, on mini-batches: plain layers, the recurrent core, encoder and decoder."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from airjax.config import ModelConfig

MIN_SCALE = 1e-6
LOGIT_SD = 1.8  # about the standard deviation of the logit of a uniform variable
DARKEST = 0.02  # colours nearer to 0 or 1 have the same code
FAINTEST = 1e-3  # a matte that still has some weight in an object's colour
_NON_LINEARITIES: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def positive(a: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Softplus, but never 0. The scales of absent objects have no gradient and may drift until
    float32 underflows; a scale of 0 has no finite log-probability."""
    return jnp.maximum(jax.nn.softplus(a), MIN_SCALE)


class Linear(eqx.Module):
    """A linear layer for mini-batches, ``x W + b``, initialised as Equinox's.

    W is [in, out], unlike Equinox's [out, in]: no product needs a transpose, and a training step
    takes about 5 % less time.
    """

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"] | None

    def __init__(self, i: int, o: int, use_bias: bool = True, *, key: PRNGKeyArray):
        layer = eqx.nn.Linear(i, o, use_bias, key=key)
        self.weight, self.bias = layer.weight.T, layer.bias

    def __call__(self, x: Float[Array, "N i"]) -> Float[Array, "N o"]:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias[None]


class MLP(eqx.Module):
    """Linear layers of the given sizes (the first is the input's), a non-linearity between them."""

    layers: list[Linear]
    sizes: tuple[int, ...] = eqx.field(static=True)
    non_linearity: str = eqx.field(static=True)
    final_non_linearity: bool = eqx.field(static=True)

    def __init__(
        self,
        sizes: Sequence[int],
        non_linearity: str,
        *,
        key: PRNGKeyArray,
        final_non_linearity: bool = False,
    ):
        keys = jax.random.split(key, max(len(sizes) - 1, 1))
        self.layers = [Linear(i, o, key=k) for i, o, k in zip(sizes, sizes[1:], keys, strict=False)]
        self.sizes = tuple(sizes)
        self.non_linearity = non_linearity
        self.final_non_linearity = final_non_linearity

    def __call__(self, x: Float[Array, "N i"]) -> Float[Array, "N o"]:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.final_non_linearity or i + 1 < len(self.layers):
                x = self.activate(x)
        return x

    @property
    def size(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    def activate(self, x: Array) -> Array:
        """The non-linearity."""
        return _NON_LINEARITIES[self.non_linearity](x)


class LSTMState(NamedTuple):
    """Hidden state and cell of an LSTM."""

    h: Float[Array, "N hidden"]
    c: Float[Array, "N hidden"]


class LSTM(eqx.Module):
    """An LSTM cell that reads the image (or the attended windows) and the latents of the last step.

    Its input matrix has two parts. If the whole image is read, its contribution to the gates, most
    of the arithmetic, is computed once for all steps. The gates are in the order i, f, g, o. The
    initial state is learned.
    """

    image: Linear
    latents: Linear
    hidden: Linear
    h_init: Float[Array, " hidden"]
    c_init: Float[Array, " hidden"]

    def __init__(self, image: int, latents: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.image = Linear(image, 4 * hidden, key=keys[0])
        self.latents = Linear(latents, 4 * hidden, use_bias=False, key=keys[1])
        self.hidden = Linear(hidden, 4 * hidden, use_bias=False, key=keys[2])
        self.h_init, self.c_init = jnp.zeros(hidden), jnp.zeros(hidden)

    @property
    def initial_state(self) -> LSTMState:
        """The state before the first step: one row, the same for all images."""
        return LSTMState(self.h_init[None], self.c_init[None])

    def __call__(
        self,
        from_image: Float[Array, "N gates"],
        latents: Float[Array, "#N latents"],
        state: LSTMState,
    ) -> LSTMState:
        """One step. ``from_image`` is ``self.image(image)``. Latents and state may have one row for
        all images."""
        gates = from_image + self.latents(latents) + self.hidden(state.h)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


class Decoder(eqx.Module):
    """z_what to the small image y_att of one object.

    An object with opacity has a colour, the last C of its code: ``sigmoid(1.8 z)``, which is nearly
    uniform under the prior. Its pixels may differ from that. So a shape is learned once, whatever
    colours it comes in.
    """

    mlp: MLP
    output_bias: float = eqx.field(static=True)
    use_sigmoid: bool = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    has_opacity: bool = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        z, outputs = config.encoder_latent_size, math.prod(config.object_shape)
        self.mlp = MLP((z, *config.decoder_net, outputs), config.non_linearity, key=key)
        self.output_bias = config.decoder_output_bias
        self.use_sigmoid = config.decoder_output_use_sigmoid
        self.shape, self.has_opacity = config.object_shape, config.compose == "over"

    def __call__(self, z_what: Float[Array, "N Z"]) -> Float[Array, "N w w *K"]:
        y = self.mlp(z_what).reshape(len(z_what), *self.shape)
        if not self.has_opacity:
            y = y + self.output_bias
            return jax.nn.sigmoid(y) if self.use_sigmoid else y
        opacity = jax.nn.sigmoid(y[..., -1:] + self.output_bias)
        colour = LOGIT_SD * z_what[:, None, None, 1 - self.shape[-1] :]
        return jnp.concatenate([opacity * jax.nn.sigmoid(y[..., :-1] + colour), opacity], axis=-1)


def code_of(colour: Float[Array, "N C"]) -> Float[Array, "N C"]:
    """The part of z_what that `Decoder` makes this colour of; colours near 0 and 1 are clipped."""
    colour = jnp.clip(colour, DARKEST, 1 - DARKEST)
    return (jnp.log(colour) - jnp.log1p(-colour)) / LOGIT_SD


def reads_colour(config: ModelConfig) -> bool:
    """Whether the guide attends to colours, and reads those of objects off the image."""
    return config.guide == "attend" and config.compose == "over"


def read_size(config: ModelConfig) -> int:
    """The number of values in the windows that a guide reads at a place."""
    if config.guide != "attend":
        return math.prod(config.window_shape)
    channels = config.channels + reads_colour(config)
    return 2 * config.window_size**2 * channels


class Encoder(eqx.Module):
    """The window x_att to location and scale of the guide's z_what. In the guide attend it reads
    two windows, of the image and of the residual; in the guide basic, the LSTM's output h_t.

    Where objects have opacity, the guide attend reads their colour off the image: it is the mean of
    the window's pixels, weighted by the matte (`airjax.programs.colour`) and by an attention that
    is learned.
    """

    mlp: MLP
    attention: int = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        size = read_size(config)
        size = config.rnn_hidden_size if config.guide == "basic" else size
        z = config.encoder_latent_size
        self.attention = config.window_size**2 if reads_colour(config) else 0
        outputs = 2 * z + self.attention
        self.mlp = MLP((size, *config.encoder_net, outputs), config.non_linearity, key=key)

    def __call__(
        self, x: Float[Array, "N ..."], window: Float[Array, "N w w *C"] | None = None
    ) -> tuple[Float[Array, "N Z"], Float[Array, "N Z"]]:
        """Location and scale of z_what.

        Args:
            x: what the network reads.
            window: of the image in [0, 1], if the colour is read off it.
        """
        y = self.mlp(x.reshape(len(x), -1))
        loc, scale = jnp.split(y[:, self.attention :], 2, axis=-1)
        if window is not None:
            matte = x[:, 0, ..., -1].reshape(len(x), -1)
            logits = y[:, : self.attention] + jnp.log(matte + FAINTEST)
            pixels = window.reshape(len(x), self.attention, -1)
            colour = jnp.einsum("np,npc->nc", jax.nn.softmax(logits, axis=-1), pixels)
            loc = loc.at[:, -colour.shape[1] :].add(code_of(colour))
        return loc, positive(scale)


class Predict(eqx.Module):
    """The LSTM's output h_t (in the guide attend, the features of the attended windows) to the
    probability of z_pres_t, and location and scale of z_where_t."""

    mlp: MLP

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        features = config.rnn_hidden_size + reads_colour(config) * config.channels
        sizes = (features, *config.predict_net, 1 + 3 + 3)
        self.mlp = MLP(sizes, config.non_linearity, key=key)

    def __call__(
        self, h: Float[Array, "N hidden"]
    ) -> tuple[Float[Array, " N"], Float[Array, "N 3"], Float[Array, "N 3"]]:
        a = self.mlp(h)
        return jax.nn.sigmoid(a[:, 0]), a[:, 1:4], positive(a[:, 4:])


class Embed(eqx.Module):
    """The image to the features that the LSTM reads: a convolution (optional), then an MLP.

    The kernel of the convolution is half a window wide, its stride a quarter. The paper's network
    reads the flat image; with weights shared between places, close pairs are separated sooner.
    """

    conv: Linear | None
    mlp: MLP
    stride: int = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key)
        self.stride = max(1, config.window_size // 4)
        height, width = config.image_size
        channels = config.embed_channels
        self.conv = (
            Linear(config.channels * (2 * self.stride) ** 2, channels, key=keys[0])
            if channels
            else None
        )
        cells = -(-height // self.stride) * -(-width // self.stride)
        flat = cells * channels if channels else math.prod(config.image_shape)
        sizes = (flat, *config.embed_net)
        self.mlp = MLP(sizes, config.non_linearity, key=keys[1], final_non_linearity=True)

    @property
    def size(self) -> int:
        """The number of features."""
        return self.mlp.size

    def __call__(self, images: Float[Array, "N H W *C"]) -> Float[Array, "N features"]:
        if self.conv is None:
            return self.mlp(images.reshape(len(images), -1))
        cells = patches(images, self.stride)
        features = self.mlp.activate(self.conv(cells))
        return self.mlp(features.reshape(len(images), -1))


def patches(images: Float[Array, "N H W *C"], stride: int) -> Float[Array, "cells pixels"]:
    """Overlapping squares of side 2 stride, one every ``stride`` pixels, that cover each image:
    image by image, row by row. Pixels outside the image are 0.

    A convolution is a matrix product with these; on CPUs, XLA's own convolutions take many times as
    long.
    """
    n, height, width, *channels = images.shape
    rows, columns = -(-height // stride), -(-width // stride)
    down, across = (rows + 1) * stride - height, (columns + 1) * stride - width
    padding = [(0, 0), (down // 2, -(-down // 2)), (across // 2, -(-across // 2))]
    padded = jnp.pad(images, padding + [(0, 0)] * len(channels))
    tiles = padded.reshape(n, rows + 1, stride, columns + 1, stride * math.prod(channels))
    tiles = tiles.transpose(0, 1, 3, 2, 4).reshape(n, rows + 1, columns + 1, -1)
    quarters = (tiles[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1))
    return jnp.concatenate(list(quarters), axis=-1).reshape(n * rows * columns, -1)


class GuideNetworks(eqx.Module):
    """All networks of the guide, and the latents that it reads before the first step. In the guide
    attend, ``embed`` reads two windows, of the image and of the residual, and there are neither
    LSTM nor such latents."""

    embed: Embed | MLP
    rnn: LSTM | None
    predict: Predict
    encoder: Encoder
    z_where_init: Float[Array, "3"] | None
    z_what_init: Float[Array, " Z"] | None

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        z = config.encoder_latent_size
        if config.guide == "attend":
            sizes = (read_size(config), *config.embed_net, config.rnn_hidden_size)
            self.embed = MLP(sizes, config.non_linearity, key=keys[0], final_non_linearity=True)
            self.rnn = self.z_where_init = self.z_what_init = None
        else:
            self.embed = Embed(config, key=keys[0])
            self.rnn = LSTM(self.embed.size, 3 + z + 1, config.rnn_hidden_size, key=keys[1])
            self.z_where_init, self.z_what_init = jnp.zeros(3), jnp.zeros(z)
        self.predict = Predict(config, key=keys[2])
        self.encoder = Encoder(config, key=keys[3])


class Baseline(eqx.Module):
    """A second recurrent network: at each step it predicts the terms of the ELBO still to come."""

    embed: Embed
    rnn: LSTM
    predict: MLP
    scalar: float = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.embed = Embed(config, key=keys[0])
        latents = 3 + config.encoder_latent_size + 1
        self.rnn = LSTM(self.embed.size, latents, config.rnn_hidden_size, key=keys[1])
        sizes = (config.rnn_hidden_size, *config.bl_predict_net, 1)
        self.predict = MLP(sizes, config.non_linearity, key=keys[2])
        self.scalar = config.baseline_scalar

    def value(self, h: Float[Array, "N hidden"]) -> Float[Array, " N"]:
        """The baseline, given the LSTM's state h."""
        return self.predict(h)[:, 0] * self.scalar
