"""Networks of `paper_codes.py`: classifiers of two digits, and an autoencoder.

Each is trained with AdamW, a falling learning rate and dropout, and is the one of its checkpoints
that does best on labels that were held out of those given.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8
from sklearn.base import BaseEstimator, ClassifierMixin

BATCH = 64
CHECKS = 20  # checkpoints of a training
DECAY = 1e-2  # of the weights
DIGITS, SUMS = 10, 19
# PAIRS[i, j, s]: whether digits i and j have the sum s
PAIRS = np.eye(SUMS, dtype=np.float32)[np.add.outer(np.arange(DIGITS), np.arange(DIGITS))]
IN_ORDER = np.triu(np.ones((DIGITS, DIGITS), np.float32), 1)

Split = tuple[np.ndarray, np.ndarray]  # rows to train on, and rows to check on


class Net(eqx.Module):
    """Convolutions of stride 2, if any, then dense layers; ReLU between them."""

    convolutions: list[eqx.nn.Conv2d]
    layers: list[eqx.nn.Linear]
    dropout: eqx.nn.Dropout

    def __init__(
        self,
        channels: Sequence[int],
        sizes: Sequence[int],
        dropout: float = 0.0,
        *,
        key: PRNGKeyArray,
    ):
        keys = iter(jax.random.split(key, len(channels) + len(sizes)))
        self.convolutions = [
            eqx.nn.Conv2d(i, o, 5 if i == 1 else 3, 2, 2 if i == 1 else 1, key=next(keys))
            for i, o in itertools.pairwise(channels)
        ]
        self.layers = [eqx.nn.Linear(i, o, key=next(keys)) for i, o in itertools.pairwise(sizes)]
        self.dropout = eqx.nn.Dropout(dropout)

    def __call__(self, x: Float[Array, "..."], key: PRNGKeyArray | None = None) -> Array:
        """One input, an image [H, W] or a code [Z], to its outputs. Dropout needs a key."""
        if self.convolutions:
            x = x[None]
            for convolution in self.convolutions:
                x = jax.nn.relu(convolution(x))
            x = x.ravel()
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        for i, (layer, k) in enumerate(zip(self.layers, keys, strict=True)):
            if i:
                x = jax.nn.relu(x)
            if i or self.convolutions:
                x = self.dropout(x, key=k, inference=k is None)
            x = layer(x)
        return x


def flat_size(channels: Sequence[int], side: int) -> int:
    """The number of outputs of these convolutions of a square image."""
    for _ in channels[1:]:
        side = -(-side // 2)
    return side * side * channels[-1]


def trained(
    net: Any,
    loss: Callable[[Any, Any, PRNGKeyArray, Array], Array],
    data: Any,
    steps: int,
    key: PRNGKeyArray,
    rate: float = 2e-3,
    check: Callable[[Any], float] | None = None,
) -> Any:
    """A net after training.

    Args:
        net: to start with.
        loss: of the net, the data, a key and the share of the training that is over.
        data: passed to the loss.
        steps: of the training.
        key: of mini-batches and noise.
        rate: the learning rate, which falls to 0 (cosine).
        check: of a checkpoint; the one with the lowest is returned, without it the last one.
    """
    optimizer = optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=DECAY)
    params, static = eqx.partition(net, eqx.is_inexact_array)
    state, each = optimizer.init(params), max(steps // CHECKS, 1)

    @jax.jit
    def step(params, state, data, t):  # on CPUs, XLA's convolutions are slow in a scan
        now = jax.random.fold_in(key, t)
        grads = jax.grad(lambda p: loss(eqx.combine(p, static), data, now, t / steps))(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    best, lowest = net, np.inf
    for t in range(steps):
        params, state = step(params, state, data, t)
        if (t + 1) % each and t + 1 < steps:
            continue
        net = eqx.combine(params, static)
        value = -np.inf if check is None else check(net)
        if check is None or value < lowest:
            best, lowest = net, value
    return best


def log_sums(log_digits: Float[Array, "N 2 10"]) -> Float[Array, "N 19"]:
    """Log-probabilities of the sum of two independent digits."""
    p = jnp.exp(log_digits)
    return jnp.log(jnp.einsum("ni,nj,ijs->ns", p[:, 0], p[:, 1], PAIRS) + 1e-8)


def loss_of(log_probs: Float[Array, "N classes"], y: Int[Array, " N"]) -> Float[Array, ""]:
    """The mean negative log-likelihood of labels."""
    return -jnp.take_along_axis(log_probs, y[:, None], axis=1).mean()


def held_out(labels: int) -> int:
    """The number of labels that are kept for choosing the checkpoint."""
    return max(labels // 10, 20)


class SharedDigits(ClassifierMixin, BaseEstimator):
    """One net that reads either digit of an image, trained on sums only.

    Scenes are ``[N, 2, 2, Z]``: of each of two digits, mean and standard deviation of its code. In
    training, codes are drawn from that normal distribution. A scene with the label -1 has none, as
    in scikit-learn's semi-supervised classifiers: where the net is sure of a digit given the mean
    code, it must also find it in a draw with more noise (FixMatch, Sohn et al., 2020).
    """

    def __init__(self, steps: int = 2000, sure: float = 0.9, weight: float = 1.0, seed: int = 0):
        self.steps, self.sure, self.weight, self.seed = steps, sure, weight, seed

    def fit(self, X: Float[np.ndarray, "N 2 2 Z"], y: Int[np.ndarray, " N"]) -> "SharedDigits":
        """Trains; a tenth of the labels chooses the checkpoint."""
        known = np.random.default_rng(self.seed).permutation(np.flatnonzero(y >= 0))
        others, num = np.flatnonzero(y < 0), held_out(len(known))
        checked, used = known[:num], known[num:]
        self.mean_, self.scale_ = X[:, :, 0].mean((0, 1)), X[:, :, 0].std((0, 1)).max()
        codes, z = self._scaled(X), X.shape[-1]
        key = jax.random.key(self.seed)
        net = Net((), (z, 256, 256, DIGITS), 0.3, key=key)
        data = codes[used], y[used], codes[others]

        def check(net):
            return float(loss_of(log_sums(_digits(net, codes[checked])), y[checked]))

        self.net_ = trained(net, self._loss, data, self.steps, key, check=check)
        self.classes_ = np.arange(SUMS)
        return self

    def predict_digits(self, X: Float[np.ndarray, "N 2 2 Z"]) -> Float[np.ndarray, "N 2 10"]:
        """Log-probabilities of each digit."""
        return np.asarray(_digits(self.net_, self._scaled(X)))

    def predict(self, X: Float[np.ndarray, "N 2 2 Z"]) -> Int[np.ndarray, " N"]:
        """The most probable sums."""
        return np.asarray(log_sums(jnp.asarray(self.predict_digits(X)))).argmax(-1)

    def predict_order(self, X: Float[np.ndarray, "N 2 2 Z"]) -> Int[np.ndarray, " N"]:
        """Whether the first digit is probably the smaller one."""
        p = np.exp(self.predict_digits(X))
        return (np.einsum("ni,nj,ij->n", p[:, 0], p[:, 1], IN_ORDER) > 0.5).astype(int)

    def _scaled(self, X: np.ndarray) -> np.ndarray:
        mean = np.stack([self.mean_, np.zeros_like(self.mean_)])
        return ((X - mean) / self.scale_).astype(np.float32)

    def _loss(self, net: Net, data: Any, key: PRNGKeyArray, share: Array) -> Array:
        (codes, y, others), keys = data, jax.random.split(key, 6)
        i = jax.random.randint(keys[0], (BATCH,), 0, len(codes))
        digits = _digits(net, _drawn(codes[i], keys[1]), keys[2])
        loss = loss_of(log_sums(digits), y[i])
        if len(others) == 0:
            return loss
        some = others[jax.random.randint(keys[3], (2 * BATCH,), 0, len(others))]
        target = jax.lax.stop_gradient(_digits(net, some))
        sure = target.max(-1) > np.log(self.sure)
        answer = _digits(net, _drawn(some, keys[4], 1.5), keys[5])
        same = jnp.take_along_axis(answer, target.argmax(-1)[..., None], axis=-1)[..., 0]
        return loss - self.weight * jnp.minimum(1, 5 * share) * (sure * same).mean()


def _drawn(codes: Array, key: PRNGKeyArray, noise: float = 1.0) -> Array:
    """Codes from q(z_what | x), as means of zero spread."""
    loc, scale = codes[:, :, 0], codes[:, :, 1]
    z = loc + noise * scale * jax.random.normal(key, loc.shape)
    return jnp.stack([z, jnp.zeros_like(z)], axis=2)


@eqx.filter_jit
def _digits(net: Net, codes: Array, key: PRNGKeyArray | None = None) -> Array:
    flat = jnp.asarray(codes)[:, :, 0].reshape(-1, codes.shape[-1])
    keys = None if key is None else jax.random.split(key, len(flat))
    logits = jax.vmap(net, in_axes=(0, None if key is None else 0))(flat, keys)
    return jax.nn.log_softmax(logits).reshape(len(codes), 2, DIGITS)


CHANNELS = (1, 16, 32, 64, 128)


def convolutional(
    images: UInt8[np.ndarray, "N H W"],
    targets: tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]],
    split: Split,
    steps: int,
    seed: int,
) -> Callable[[UInt8[np.ndarray, "M H W"]], tuple[np.ndarray, np.ndarray]]:
    """A convolutional network of sum and order, trained on both at once; its two answers, each of
    the checkpoint that is best at it."""
    key, (used, checked) = jax.random.key(seed), split
    size = flat_size(CHANNELS, images.shape[1])
    net = Net(CHANNELS, (size, 256, SUMS + 2), 0.5, key=key)
    data = tuple(a[used] for a in (images, *targets))
    best: dict[int, tuple[float, Net]] = {}

    def loss(net, data, key, share):
        images, sums, orders = data
        keys = jax.random.split(key, 3)
        i = jax.random.randint(keys[0], (BATCH,), 0, len(images))
        x = jax.vmap(warped)(images[i] / np.float32(255), jax.random.split(keys[1], BATCH))
        y = jax.vmap(net)(x, jax.random.split(keys[2], BATCH))
        sums, orders = sums[i], orders[i]
        return loss_of(jax.nn.log_softmax(y[:, :SUMS]), sums) + loss_of(
            jax.nn.log_softmax(y[:, SUMS:]), orders
        )

    def check(net):
        answers = outputs(net, images[checked])
        for task, logits in enumerate((answers[:, :SUMS], answers[:, SUMS:])):
            y = jnp.asarray(targets[task][checked])
            value = float(loss_of(jax.nn.log_softmax(jnp.asarray(logits)), y))
            if task not in best or value < best[task][0]:
                best[task] = value, net
        return best[0][0]

    trained(net, loss, data, steps, key, 1e-3, check)

    def answer(images):
        sums = outputs(best[0][1], images)[:, :SUMS]
        return sums.argmax(-1), outputs(best[1][1], images)[:, SUMS:].argmax(-1)

    return answer


def warped(image: Float[Array, "H W"], key: PRNGKeyArray) -> Float[Array, "H W"]:
    """The image, shifted by up to 4 pixels and turned by up to 10 degrees: neither task changes
    unless digits are nearly above each other."""
    turn = jax.random.uniform(key, minval=-0.17, maxval=0.17)
    shift = jax.random.uniform(jax.random.fold_in(key, 1), (2,), minval=-4, maxval=4)
    middle = (np.array(image.shape, np.float32) - 1) / 2
    rows, columns = jnp.indices(image.shape, dtype=jnp.float32)
    rows, columns = rows - middle[0], columns - middle[1]
    where = [
        jnp.cos(turn) * rows - jnp.sin(turn) * columns + middle[0] + shift[0],
        jnp.sin(turn) * rows + jnp.cos(turn) * columns + middle[1] + shift[1],
    ]
    return jax.scipy.ndimage.map_coordinates(image, where, order=1)


@eqx.filter_jit
def _outputs(net: Net, images: Array) -> Array:
    return jax.vmap(net)(images.astype(jnp.float32) / 255)


def outputs(net: Net, images: UInt8[np.ndarray, "N H W"], at_once: int = 500) -> np.ndarray:
    """The outputs of all images, in bounded memory."""
    parts = [_outputs(net, images[i : i + at_once]) for i in range(0, len(images), at_once)]
    return np.concatenate([np.asarray(part) for part in parts])


class Autoencoder(eqx.Module):
    """A convolutional encoder to a code, and a decoder of transposed convolutions."""

    encoder: Net
    dense: eqx.nn.Linear
    decoder: list[eqx.nn.ConvTranspose2d]
    shape: tuple[int, int, int] = eqx.field(static=True)

    def __init__(self, size: int, side: int, key: PRNGKeyArray):
        keys = jax.random.split(key, 1 + len(CHANNELS))
        sides = [side]
        for _ in CHANNELS[1:]:
            sides.append(-(-sides[-1] // 2))
        flat = flat_size(CHANNELS, side)
        self.encoder = Net(CHANNELS, (flat, 256, size), key=keys[0])
        self.shape = (CHANNELS[-1], sides[-1], sides[-1])
        self.dense = eqx.nn.Linear(size, flat, key=keys[1])
        self.decoder = [
            eqx.nn.ConvTranspose2d(i, o, 3, 2, output_padding=1 - big % 2, padding=1, key=k)
            for i, o, big, k in zip(
                CHANNELS[:0:-1], CHANNELS[-2::-1], sides[-2::-1], keys[2:], strict=True
            )
        ]

    def __call__(self, image: Float[Array, "H W"]) -> Float[Array, "H W"]:
        y = self.dense(self.encoder(image)).reshape(self.shape)
        for layer in self.decoder:
            y = layer(jax.nn.relu(y))
        return y[0]


def autoencoder(images: UInt8[np.ndarray, "N H W"], size: int, steps: int, seed: int) -> Net:
    """The encoder of an autoencoder of these images, trained on their squared errors."""

    def loss(net, images, key, share):
        i = jax.random.randint(key, (BATCH,), 0, len(images))
        x = images[i] / np.float32(255)
        return ((jax.vmap(net)(x) - x) ** 2).sum((1, 2)).mean()

    key = jax.random.key(seed)
    net = Autoencoder(size, images.shape[1], key)
    return trained(net, loss, jnp.asarray(images), steps, key, 1e-3).encoder
