"""Strictness for every test, and small models that many tests share."""

import gc
import os
from collections import Counter
from pathlib import Path

from jaxlib.version import __version_info__ as version_info

# most of the tests' time is compilation; set before JAX is imported, for child processes too
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if version_info < (0, 11):  # takes half the time to compile; XLA stops at a flag that it has lost
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import equinox as eqx
import jax
import numpy as np
import pytest
from PIL import Image

from airjax.cli.main import main
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.picture_config import PictureConfig
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

# many tests compile the same programs; the folder is not in git, and begins empty in a clean clone
CACHE = Path(__file__).parent.parent / ".pytest_cache" / "xla"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"  # of child processes
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

TINY = ModelConfig(
    guide="window",
    background="none",
    model_steps=2,
    z_pres_prior=0.3,
    window_size=3,
    encoder_latent_size=2,
    rnn_hidden_size=4,
    predict_net=(4,),
    encoder_net=(4,),
    decoder_net=(4,),
    embed_channels=2,
    embed_net=(),
    image_size=(5, 6),
)

# their slow tests take minutes each; two processes that begin with them end at about the same time
LONG = ("test_docs_commands", "test_hosts", "test_ray", "test_paper_three_d", "test_track",
        "test_ready", "test_kills", "test_paper_codes", "test_stream_processes",
        "test_devices")  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Files with long tests come first, then those with many (``--no-loadscope-reorder``)."""
    number = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.stem not in LONG, -number[item.path], item.path))


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Each compiled program holds memory maps, whose number a process has a limit of (65,530 on
    Linux): past it, XLA crashes. With a third of them, memory is 5 GiB."""
    yield
    maps = Path("/proc/self/maps")
    if not maps.exists() or len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def strict():
    """No silent promotion of dtypes or ranks. (NumPyro's own code promotes both.)"""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="session")
def tiny() -> tuple[Model, Guide]:
    """Untrained programs of two steps on images of 5 x 6."""
    return untrained(TINY, 0)


@pytest.fixture(scope="session")
def tiny_images() -> jax.Array:
    """Three images of 5 x 6."""
    return jax.random.uniform(jax.random.key(7), (3, 5, 6))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """A file of small images."""
    path = tmp_path_factory.mktemp("data") / "scenes.npz"
    images = np.random.default_rng(0).integers(0, 256, (60, 10, 12)).astype(np.uint8)
    np.savez(path, images=images, counts=np.arange(60, dtype=np.int32) % 3)
    return path


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of an untrained run for grey pictures of 5 x 6 that finds objects everywhere."""
    settings = PictureConfig("no", None, "grey", 0, normalise="none")
    config = Config(TrainConfig(data="digits"), TINY, pictures=settings)
    made = Run.create(config, tmp_path_factory.mktemp("run") / "run")
    model, guide = untrained(TINY, 1)
    made.save(model, eager(guide))
    return made.path


@pytest.fixture
def pictures(tmp_path):
    """A folder of twelve pictures with a square each."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        image = np.zeros((10, 12), np.uint8)
        image[2 + i % 4 : 6 + i % 4, 3:7] = 255
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def eager(guide: Guide) -> Guide:
    """An untrained guide that finds objects everywhere."""
    layer = guide.networks.predict.mlp.layers[-1]
    return eqx.tree_at(
        lambda g: g.networks.predict.mlp.layers[-1].bias, guide, layer.bias.at[0].add(5.0)
    )


def mistake(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a wrong command line ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(line.split())
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("airjax: ")
    return error.removeprefix("airjax: ").removesuffix("\n")
