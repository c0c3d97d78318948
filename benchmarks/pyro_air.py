"""The peer: AIR in Pyro, as the tutorial describes it, with this project's sizes.

Same model, same guide (the paper's: the LSTM reads the flat image), same baselines; trained with
``TraceGraph_ELBO`` and Adam. Needs the extra ``bench``.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, TraceGraph_ELBO
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, softplus

from airjax.config import ModelConfig
from airjax.programs.model import presence_probs


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLUs between them."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(sizes):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def transform(z_where: Tensor, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Samples images [N, h, w] on the grid that z_where = (s, x, y) maps ``size`` to."""
    s, x, y = z_where.T
    zero = torch.zeros_like(s)
    theta = torch.stack([torch.stack([s, zero, x], -1), torch.stack([zero, s, y], -1)], 1)
    grid = affine_grid(theta, [len(image), 1, *size], align_corners=False)
    return grid_sample(image[:, None], grid, align_corners=False)[:, 0]


def inverse(z_where: Tensor) -> Tensor:
    """z_where of the map the other way."""
    return torch.cat([torch.ones_like(z_where[:, :1]), -z_where[:, 1:]], 1) / z_where[:, :1]


class State(NamedTuple):
    """What one step of the guide hands to the next."""

    rnn: tuple[Tensor, Tensor]
    bl_rnn: tuple[Tensor, Tensor]
    z_pres: Tensor
    z_where: Tensor
    z_what: Tensor


class PyroAIR(nn.Module):
    """Model and guide of images [N, H, W]."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        h, z, pixels = config.rnn_hidden_size, config.encoder_latent_size, config.window_size**2
        inputs = int(np.prod(config.image_size)) + 3 + z + 1
        self.rnn = nn.LSTMCell(inputs, h)
        self.predict = mlp(h, *config.predict_net, 7)
        self.encode = mlp(pixels, *config.encoder_net, 2 * z)
        self.decode = mlp(z, *config.decoder_net, pixels)
        self.bl_rnn = nn.LSTMCell(inputs, h)
        self.bl_predict = mlp(h, *config.bl_predict_net, 1)
        self.register_buffer("p", torch.from_numpy(np.array(presence_probs(config))))
        loc = [config.scale_prior_mean, config.pos_prior_mean, config.pos_prior_mean]
        scale = [config.scale_prior_sd, config.pos_prior_sd, config.pos_prior_sd]
        self.register_buffer("where_loc", torch.tensor(loc))
        self.register_buffer("where_scale", torch.tensor(scale))

    def model(self, images: Tensor) -> None:
        """The generative program."""
        pyro.module("decode", self.decode)
        n, config = len(images), self.config
        with pyro.plate("images", n):
            canvas, z_pres = torch.zeros_like(images), images.new_ones(n, 1)
            for t in range(config.model_steps):
                presence = dist.Bernoulli(self.p[t] * z_pres).to_event(1)
                z_pres = pyro.sample(f"z_pres_{t}", presence)
                where = dist.Normal(self.where_loc.expand(n, 3), self.where_scale)
                z_where = pyro.sample(f"z_where_{t}", where.mask(z_pres).to_event(1))
                what = dist.Normal(images.new_zeros(n, config.encoder_latent_size), 1.0)
                z_what = pyro.sample(f"z_what_{t}", what.mask(z_pres).to_event(1))
                y_att = torch.sigmoid(self.decode(z_what) + config.decoder_output_bias)
                y_att = y_att.view(n, config.window_size, config.window_size)
                canvas = canvas + z_pres[:, :, None] * transform(z_where, y_att, config.image_size)
            pixels = dist.Normal(canvas, config.likelihood_sd).to_event(2)
            pyro.sample("obs", pixels, obs=images)

    def guide(self, images: Tensor) -> Tensor:
        """The inference program; returns the counts it sampled."""
        pyro.module("guide", nn.ModuleList([self.rnn, self.predict, self.encode]))
        pyro.module("baseline", nn.ModuleList([self.bl_rnn, self.bl_predict]))
        n, h, config = len(images), self.config.rnn_hidden_size, self.config
        zeros = (images.new_zeros(n, h), images.new_zeros(n, h))
        state = State(
            rnn=zeros,
            bl_rnn=zeros,
            z_pres=images.new_ones(n, 1),
            z_where=images.new_zeros(n, 3),
            z_what=images.new_zeros(n, config.encoder_latent_size),
        )
        count = images.new_zeros(n)
        with pyro.plate("images", n):
            for t in range(config.model_steps):
                state = self.guide_step(t, images, state)
                count = count + state.z_pres[:, 0]
        return count

    def guide_step(self, t: int, images: Tensor, last: State) -> State:
        """Baseline, presence, place, window, code."""
        latents = torch.cat([last.z_where, last.z_what, last.z_pres], 1)
        flat = images.reshape(len(images), -1)
        bl_rnn = self.bl_rnn(torch.cat([flat, latents.detach()], 1), last.bl_rnn)
        baseline = self.bl_predict(bl_rnn[0]) * last.z_pres
        rnn = self.rnn(torch.cat([flat, latents], 1), last.rnn)
        a = self.predict(rnn[0])
        presence = dist.Bernoulli(torch.sigmoid(a[:, :1]) * last.z_pres).to_event(1)
        infer = {"baseline": {"baseline_value": baseline.squeeze(-1)}}
        z_pres = pyro.sample(f"z_pres_{t}", presence, infer=infer)
        where = dist.Normal(self.where_loc + a[:, 1:4], self.where_scale * softplus(a[:, 4:]))
        z_where = pyro.sample(f"z_where_{t}", where.mask(z_pres).to_event(1))
        window = self.config.window_size
        x_att = transform(inverse(z_where), images, (window, window))
        loc, scale = self.encode(x_att.flatten(1)).chunk(2, -1)
        what = dist.Normal(loc, softplus(scale))
        z_what = pyro.sample(f"z_what_{t}", what.mask(z_pres).to_event(1))
        return State(rnn, bl_rnn, z_pres, z_where, z_what)


def trainer(
    config: ModelConfig,
    images: np.ndarray,
    batch_size: int,
    seed: int = 0,
    learning_rate: float = 1e-4,
    baseline_learning_rate: float = 1e-3,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
) -> tuple[PyroAIR, Callable[[int], float]]:
    """The programs, and a function that takes so many steps on bytes [N, H, W] and returns the last
    ELBO (nats an image).

    The learning rates are those of Pyro's AIR example for all networks and for the baselines.
    """
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    air = PyroAIR(config).to(device)
    on_device = torch.from_numpy(np.array(images)).to(device)

    def rates(name: str) -> dict[str, float]:
        return {"lr": baseline_learning_rate if name.startswith("baseline") else learning_rate}

    svi = SVI(air.model, air.guide, pyro.optim.Adam(rates), loss=TraceGraph_ELBO())

    def run(steps: int) -> float:
        loss = float("nan")
        for _ in range(steps):
            rows = torch.randint(len(on_device), (batch_size,), device=device)
            loss = svi.step(on_device[rows].float() / 255)
        return -loss / batch_size

    return air, run


def counts(air: PyroAIR, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """Counts that the guide samples, as the tutorial's accuracy has it."""
    device = air.p.device
    found = []
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
            found.append(air.guide(batch.float() / 255).cpu().numpy())
    return np.concatenate(found).astype(int)
