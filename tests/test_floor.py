"""The arithmetic of benchmarks/floor.py, against the programs that XLA makes."""

import importlib
import math
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from airjax.config import Config, ModelConfig, TrainConfig
from airjax.train import Trainer, exploration, to_unit

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SHAPED = re.compile(r"%([\w.-]+) = f32\[([\d,]*)\]")
DOT = re.compile(r"%([\w.-]+) = f32\[.*? dot\(%([\w.-]+), .*?lhs_contracting_dims=\{(\d+)\}")


@pytest.fixture(scope="module")
def floor():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("floor")
    sys.path.remove(str(BENCHMARKS))


def dots(program: str) -> list[int]:
    """Floating-point operations of each matrix product in a compiled program."""
    shapes = {
        name: [int(x) for x in dims.split(",") if x] for name, dims in SHAPED.findall(program)
    }
    return [
        2 * math.prod(shapes[name]) * shapes[first][int(axis)]
        for name, first, axis in DOT.findall(program)
    ]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("sizes", [(1, 64, 256, 100), (4, 20, 50, 20)])
def test_a_turn_makes_all_products(floor, sizes, transposed):
    p = floor.Product("", *sizes, 1)
    a, b = map(jnp.asarray, floor.factors(p))
    a = a.mT if transposed else a
    program = floor.looped.lower(a, b, floor.loops(p), transposed).compile().as_text()
    (times,) = re.findall(r'known_trip_count":\{"n":"(\d+)"', program)
    assert int(times) == floor.loops(p)
    assert dots(program) == [p.flops]


@pytest.mark.parametrize(
    "sizes", [{"embed_channels": 0, "embed_net": ()}, {"embed_channels": 4, "embed_net": (24,)}]
)
def test_products_are_those_of_a_step(floor, sizes):
    model = ModelConfig(
        image_size=(20, 30), window_size=8, model_steps=2, rnn_hidden_size=16, predict_net=(18,),
        encoder_net=(22, 14), decoder_net=(10, 26), encoder_latent_size=6, **sizes,
    )  # fmt: skip
    images = np.zeros((32, *model.image_size), np.uint8)
    trainer = Trainer(Config(TrainConfig(batch_size=4), model), images)
    params = trainer.svi.get_params(trainer.init().svi)
    settings = {"z_pres_prior": trainer.prior(0), "exploration": exploration(trainer.config, 0)}

    @jax.jit
    def gradient(params, key):
        rows = jax.random.randint(key, (4,), 0, len(images))
        programs = trainer.model, trainer.guide
        batch = to_unit(jnp.asarray(images)[rows])
        return jax.grad(
            lambda params: trainer.svi.loss.loss(key, params, *programs, batch, **settings)
        )(params)

    program = gradient.lower(params, jax.random.key(0)).compile().as_text()
    listed = sum(p.flops for p in floor.products(model, 4))
    assert sum(dots(program)) == pytest.approx(listed, rel=0.01)
