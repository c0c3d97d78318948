import dataclasses
import os
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY

from airjax import trace_cache as module
from airjax.cli import main as cli
from airjax.config import Config, EstimatorConfig, TrainConfig
from airjax.programs import untrained as train
from airjax.programs.elbo import CountELBO, CountIWAE
from airjax.trace_cache import described, traced
from airjax.training.trainer import Trainer

X = {"a": jnp.arange(3.0), "b": jnp.array(2)}
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 5, 6)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(module.FOLDER, str(tmp_path / "traces"))
    module._loaded.cache_clear()  # other tests set variables of JAX
    return tmp_path / "traces"


def double(tree):
    return jax.tree.map(lambda x: 2 * x, tree)


def never(tree):
    raise AssertionError("traced")


never.__name__ = never.__qualname__ = "double"


def same(a, b):
    key = jax.dtypes.prng_key
    a, b = (
        [jax.random.key_data(x) if jnp.issubdtype(x.dtype, key) else x for x in jax.tree.leaves(t)]
        for t in (a, b)
    )
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_without_a_folder_it_is_the_function(monkeypatch):
    monkeypatch.delenv(module.FOLDER, raising=False)
    assert traced(double, (X,), X) is double


def test_found_again_without_a_trace(folder):
    first = jax.jit(traced(double, (X,), X))(X)
    (file,) = folder.iterdir()
    assert file.name.startswith("double-")
    again = traced(never, (X,), X)
    assert again is not never and again.__name__ == "double"
    found = jax.jit(again)({"a": X["a"] + 1, "b": X["b"]})
    assert same(first, double(X)) and same(found, {"a": 2 * (X["a"] + 1), "b": jnp.array(4)})


@pytest.mark.parametrize(
    "args",
    [
        ({"a": jnp.arange(4.0), "b": jnp.array(2)},),
        ({"a": jnp.arange(3), "b": jnp.array(2)},),
        ({"a": X["a"], "c": X["b"]},),
    ],
    ids=["shape", "dtype", "structure"],
)
def test_other_arguments_are_another_trace(folder, args):
    traced(double, (X,), X)
    with pytest.raises(AssertionError, match="traced"):
        traced(never, args, *args)(*args)


@pytest.fixture
def edited(monkeypatch, tmp_path):
    """The file of a module of Optax's."""
    fake, file = ModuleType("optax.fake"), tmp_path / "fake.py"
    file.write_text("x = 1\n")
    fake.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "optax.fake", fake)
    module._loaded.cache_clear()
    yield file
    module._loaded.cache_clear()


def is_found(*captured):
    return traced(never, (X,), X, *captured) is not never


def test_so_is_all_else_it_depends_on(folder, edited, monkeypatch):
    traced(double, (X,), X, TINY)
    assert is_found(TINY) and not is_found(dataclasses.replace(TINY, model_steps=3))
    edited.write_text("x = 2\n")  # as long as before
    os.utime(edited, ns=(1, 1))
    module._loaded.cache_clear()
    assert not is_found(TINY)
    traced(double, (X,), X, TINY)
    assert is_found(TINY)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=false")
    module._loaded.cache_clear()
    assert not is_found(TINY)


def test_code_edited_since_it_was_loaded_is_not_kept(folder, edited):
    traced(double, (X,), X, "a")
    edited.write_text("x = 12\n")
    assert traced(double, (X,), X, "b") is double
    assert is_found("a")  # made of what was loaded


def test_damage_is_mended(folder):
    traced(double, (X,), X)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], bytes(len(whole))):
        file.write_bytes(damaged)
        assert same(jax.jit(traced(double, (X,), X))(X), double(X))
        assert file.stat().st_size == len(whole)


def test_where_nothing_can_be_kept_it_is_the_function(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(module.FOLDER, str(tmp_path / "file" / "traces"))
    assert traced(double, (X,), X) is double


@pytest.mark.slow  # trains
@pytest.mark.parametrize(
    ("estimator", "background"),
    [("count", "none"), pytest.param("score", "mean", marks=pytest.mark.slow)],
)
def test_training_is_the_same_bit_for_bit(folder, monkeypatch, estimator, background):
    """Of this seed and of another one, and of other images: none of these may be in the trace, but
    for the mean of the images where it is the background."""
    model = dataclasses.replace(TINY, background=background)
    base = TrainConfig(data="x", estimator=estimator, steps=20, batch_size=4)
    how = EstimatorConfig(baselines=estimator == "score")

    def trained(seed, images):
        config = Config(dataclasses.replace(base, seed=seed), model, how)
        trainer = Trainer(config, images)
        state = trainer.init()
        return trainer.compiled(state)(state, trainer.images, jnp.array(5))

    def kept(name):
        return len(list(folder.glob(f"{name}-*")))

    runs = [(0, IMAGES), (1, IMAGES), (0, IMAGES[::-1] // 2)]
    with monkeypatch.context() as without:
        without.delenv(module.FOLDER)
        train._drawn.cache_clear()
        plain = [trained(*run) for run in runs]
    train._drawn.cache_clear()
    assert same(trained(*runs[0]), plain[0]) and (kept("drawn"), kept("chunk")) == (1, 1)
    train._drawn.cache_clear()
    assert [same(trained(*run), want) for run, want in zip(runs, plain, strict=True)] == [True] * 3
    assert (kept("drawn"), kept("chunk")) == (1, 2 if background == "mean" else 1)
    assert not same(plain[0], plain[1])
    train._drawn.cache_clear()


def test_only_the_command_line_keeps_traces(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(module.FOLDER, "")  # for what is set here to be undone
    monkeypatch.delenv(module.FOLDER)
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert module.FOLDER not in os.environ
    monkeypatch.setattr(sys, "argv", ["airjax", "train", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert os.environ[module.FOLDER] == str(tmp_path / "traces")


class MyELBO(CountELBO):
    """An estimator of a user's, in a file that no key of a trace knows."""


@pytest.mark.slow
def test_the_estimator_is_part_of_the_trace(folder):
    """So are its settings; one whose code may change unnoticed is never kept."""
    config = Config(TrainConfig(data="x", steps=20, batch_size=4), TINY)

    def elbo(estimator):
        trainer = Trainer(config, IMAGES, estimator)
        state = trainer.init()
        return float(trainer.compiled(state)(state, trainer.images, jnp.array(1))[0].elbo_sum)

    def kept():
        return len(list(folder.glob("chunk-*")))

    count = elbo(CountELBO())
    assert kept() == 1 and elbo(CountELBO()) == count and kept() == 1
    assert elbo(CountIWAE(20)) > count and kept() == 2
    elbo(CountIWAE(5))
    assert kept() == 3
    assert elbo(MyELBO()) == count and kept() == 3


@pytest.mark.parametrize(
    ("thing", "known"),
    [
        (3, True), ("a", True), (CountELBO, True), (CountELBO(2), True), (MyELBO(), False),
        (MyELBO, False), (lambda x: x, False), (np.zeros(3), False), (jax.vmap, True),
    ],
)  # fmt: skip
def test_what_a_key_can_describe(thing, known):
    assert (described(thing) is not None) is known
    assert described(CountELBO(2)) != described(CountELBO(3)) != described(CountIWAE(3))
