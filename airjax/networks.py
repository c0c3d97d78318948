"""The neural networks, on mini-batches: plain layers, the recurrent core, encoder and decoder."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from airjax.config import ModelConfig

_NON_LINEARITIES: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
}


def linear(layer: eqx.nn.Linear, x: Float[Array, "N i"]) -> Float[Array, "N o"]:
    """An Equinox layer applied to a mini-batch."""
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias[None]


class MLP(eqx.Module):
    """Linear layers of the given sizes (the first is the input's), a non-linearity between them."""

    layers: list[eqx.nn.Linear]
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
        self.layers = [
            eqx.nn.Linear(i, o, key=k) for i, o, k in zip(sizes, sizes[1:], keys, strict=False)
        ]
        self.non_linearity = non_linearity
        self.final_non_linearity = final_non_linearity

    def __call__(self, x: Float[Array, "N i"]) -> Float[Array, "N o"]:
        activate = _NON_LINEARITIES[self.non_linearity]
        for i, layer in enumerate(self.layers):
            x = linear(layer, x)
            if self.final_non_linearity or i + 1 < len(self.layers):
                x = activate(x)
        return x


class LSTMState(NamedTuple):
    """Hidden state and cell of an LSTM."""

    h: Float[Array, "N hidden"]
    c: Float[Array, "N hidden"]


class LSTM(eqx.Module):
    """An LSTM cell that reads the image and the latents of the step before.

    Its input matrix is kept in two parts, because the image is the same at every step: its share
    of the gates (most of the arithmetic) is computed once an image. Gates in the order i, f, g, o.
    The initial state is learned.
    """

    image: eqx.nn.Linear
    latents: eqx.nn.Linear
    hidden: eqx.nn.Linear
    h_init: Float[Array, " hidden"]
    c_init: Float[Array, " hidden"]

    def __init__(self, image: int, latents: int, hidden: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.image = eqx.nn.Linear(image, 4 * hidden, key=keys[0])
        self.latents = eqx.nn.Linear(latents, 4 * hidden, use_bias=False, key=keys[1])
        self.hidden = eqx.nn.Linear(hidden, 4 * hidden, use_bias=False, key=keys[2])
        self.h_init, self.c_init = jnp.zeros(hidden), jnp.zeros(hidden)

    def initial_state(self, n: int) -> LSTMState:
        """The state before the first step, for n images."""
        shape = (n, self.h_init.size)
        return LSTMState(jnp.broadcast_to(self.h_init, shape), jnp.broadcast_to(self.c_init, shape))

    def __call__(
        self,
        from_image: Float[Array, "N gates"],
        latents: Float[Array, "N latents"],
        state: LSTMState,
    ) -> LSTMState:
        """One step; ``from_image`` is ``linear(self.image, image)``."""
        gates = from_image + linear(self.latents, latents) + linear(self.hidden, state.h)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return LSTMState(jax.nn.sigmoid(o) * jnp.tanh(c), c)


class Decoder(eqx.Module):
    """z_what to the small image y_att of one object."""

    mlp: MLP
    output_bias: float = eqx.field(static=True)
    use_sigmoid: bool = eqx.field(static=True)
    window_size: int = eqx.field(static=True)

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        w, z = config.window_size, config.encoder_latent_size
        self.mlp = MLP((z, *config.decoder_net, w * w), config.non_linearity, key=key)
        self.output_bias = config.decoder_output_bias
        self.use_sigmoid = config.decoder_output_use_sigmoid
        self.window_size = w

    def __call__(self, z_what: Float[Array, "N Z"]) -> Float[Array, "N w w"]:
        y = self.mlp(z_what) + self.output_bias
        y = jax.nn.sigmoid(y) if self.use_sigmoid else y
        return y.reshape(len(y), self.window_size, self.window_size)


class Encoder(eqx.Module):
    """The window x_att to location and scale of the guide's z_what."""

    mlp: MLP

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        w, z = config.window_size, config.encoder_latent_size
        self.mlp = MLP((w * w, *config.encoder_net, 2 * z), config.non_linearity, key=key)

    def __call__(
        self, x_att: Float[Array, "N w w"]
    ) -> tuple[Float[Array, "N Z"], Float[Array, "N Z"]]:
        loc, scale = jnp.split(self.mlp(x_att.reshape(len(x_att), -1)), 2, axis=-1)
        return loc, jax.nn.softplus(scale)


class Predict(eqx.Module):
    """The LSTM's state h_t to the probability of z_pres_t, and location and scale of z_where_t."""

    mlp: MLP

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        sizes = (config.rnn_hidden_size, *config.predict_net, 1 + 3 + 3)
        self.mlp = MLP(sizes, config.non_linearity, key=key)

    def __call__(
        self, h: Float[Array, "N hidden"]
    ) -> tuple[Float[Array, " N"], Float[Array, "N 3"], Float[Array, "N 3"]]:
        a = self.mlp(h)
        return jax.nn.sigmoid(a[:, 0]), a[:, 1:4], jax.nn.softplus(a[:, 4:])


class GuideNetworks(eqx.Module):
    """All networks of the guide, and the latents that it reads before the first step."""

    embed: MLP
    rnn: LSTM
    predict: Predict
    encoder: Encoder
    z_where_init: Float[Array, "3"]
    z_what_init: Float[Array, " Z"]

    def __init__(self, config: ModelConfig, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        height, width = config.image_size
        sizes = (height * width, *config.embed_net)
        z = config.encoder_latent_size
        self.embed = MLP(sizes, config.non_linearity, key=keys[0], final_non_linearity=True)
        self.rnn = LSTM(sizes[-1], 3 + z + 1, config.rnn_hidden_size, key=keys[1])
        self.predict = Predict(config, key=keys[2])
        self.encoder = Encoder(config, key=keys[3])
        self.z_where_init, self.z_what_init = jnp.zeros(3), jnp.zeros(z)
