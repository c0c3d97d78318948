"""Models on disk: whole and equal, or an error that names the file."""

import errno
import hashlib
import json
import os
from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import safetensors.numpy

from airjax.config import ModelConfig
from airjax.errors import InputError
from airjax.programs.untrained import untrained
from airjax.storage import ARRAYS, MANIFEST
from airjax.training.checkpoint import load_model, save_model

WEIGHTS = ARRAYS["model"]

SMALL = ModelConfig(
    background="none",
    guide="window",
    image_size=(12, 14),
    window_size=6,
    encoder_latent_size=3,
    rnn_hidden_size=8,
    predict_net=(5,),
    encoder_net=(5,),
    decoder_net=(5,),
)


def drawn(config, seed):
    """Programs with weights from NumPy: JAX would compile for seconds to draw them."""
    random = np.random.default_rng(seed)
    shapes = eqx.filter_eval_shape(untrained, config, 0)
    draw = jax.tree.map(lambda x: jax.numpy.asarray(random.normal(size=x.shape), x.dtype), shapes)
    model, guide = draw
    return model, eqx.tree_at(lambda g: g.decoder, guide, model.decoder)  # they share it


@pytest.fixture(scope="module")
def programs():
    return drawn(SMALL, 3)


@pytest.fixture
def folder(tmp_path, programs):
    """A saved model."""
    save_model(tmp_path / "model", *programs)
    return tmp_path / "model"


def edit(folder, **changes):
    """Changes fields of the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def edit_config(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(folder, model=manifest["model"] | changes)


def change(path, new):
    path.write_bytes(new(path.read_bytes()))


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def weights(folder, content):
    """Other weights, under the sha256 that is theirs."""
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, sha256={WEIGHTS: hashlib.sha256(content).hexdigest()})


def weights_of(folder, config):
    """Weights of another config, under this model's manifest."""
    other = folder.with_name("other")
    save_model(other, *drawn(config, 0))
    weights(folder, (other / WEIGHTS).read_bytes())


# round trip


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, embed_net=(4,), decoder_net=())])
def test_a_model_comes_back_bit_for_bit(config, tmp_path):
    saved = drawn(config, 3)
    save_model(tmp_path / "model", *saved)
    loaded = load_model(tmp_path / "model")
    assert (loaded[0].config, loaded[1].config) == (config, config)
    assert jax.tree.structure(loaded) == jax.tree.structure(saved)
    for have, want in zip(jax.tree.leaves(loaded), jax.tree.leaves(saved), strict=True):
        assert isinstance(have, jax.Array)
        assert (have.shape, have.dtype) == (want.shape, want.dtype)
        assert have.tobytes() == want.tobytes()


def test_a_model_is_two_files(folder):
    assert sorted(os.listdir(folder)) == sorted([MANIFEST, WEIGHTS])
    assert os.listdir(folder.parent) == ["model"]


def test_folders_above_are_made(tmp_path, programs):
    save_model(tmp_path / "a" / "b", *programs)
    load_model(tmp_path / "a" / "b")


def test_weights_are_named_by_their_place(folder):
    names = safetensors.numpy.load_file(folder / WEIGHTS)
    assert {name.split(".")[0] for name in names} == {"decoder", "guide"}


# nothing is overwritten, nothing is left behind


@pytest.mark.parametrize("kind", ["empty", "file", "model"])
def test_what_exists_is_not_overwritten(kind, tmp_path, programs):
    path = tmp_path / "model"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        save_model(path, *drawn(SMALL, 4))
    before = {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")}
    with pytest.raises(InputError) as info:
        save_model(path, *programs)
    assert str(info.value) == f"{path} must not exist yet: nothing is overwritten"
    assert {p: p.is_file() and p.read_bytes() for p in tmp_path.rglob("*")} == before


def test_no_model_is_saved_below_a_file(tmp_path, programs):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "model"
    with pytest.raises(InputError) as info:
        save_model(folder, *programs)
    assert str(info.value) == f"{folder} cannot be written (Not a directory)"


def test_no_model_is_saved_where_nothing_may_be_written(tmp_path, programs, monkeypatch):
    def refuse(*arguments):  # permissions would not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(InputError) as info:
        save_model(tmp_path / "model", *programs)
    assert str(info.value) == f"{tmp_path / 'model'} cannot be written (Permission denied)"


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_failed_save_leaves_nothing(call, tmp_path, programs, monkeypatch):
    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(InputError, match="model cannot be written \\(disk full\\)"):
        save_model(tmp_path / "model", *programs)
    assert list(tmp_path.iterdir()) == []


# damage


@pytest.mark.parametrize(
    ("damage", "file", "rule"),
    [
        (lambda f: change(f / WEIGHTS, flipped), WEIGHTS, "is damaged: its sha256 must be"),
        (
            lambda f: change(f / WEIGHTS, lambda c: c[:-4]),
            WEIGHTS,
            "is damaged: its sha256 must be",
        ),
        (lambda f: change(f / WEIGHTS, lambda c: b""), WEIGHTS, "is damaged: its sha256 must be"),
        (lambda f: (f / WEIGHTS).unlink(), WEIGHTS, "must be readable: No such file"),
        (lambda f: weights(f, b"damaged"), WEIGHTS, "must be a safetensors file: "),
        (
            lambda f: weights_of(f, replace(SMALL, encoder_latent_size=4)),
            WEIGHTS,
            "decoder.mlp.layers.0.weight must be float32[3, 5], got float32[4, 5]",
        ),
        (
            lambda f: weights_of(f, replace(SMALL, decoder_net=(5, 5))),
            WEIGHTS,
            "must hold the weights of the manifest's model; differs in, got decoder.mlp.layers.2",
        ),
        (lambda f: (f / MANIFEST).unlink(), MANIFEST, "must be readable: No such file"),
        (lambda f: change(f / MANIFEST, lambda c: c[:-9]), MANIFEST, "must be JSON: "),
        (lambda f: change(f / MANIFEST, lambda c: b"\xff" + c), MANIFEST, "must be JSON: "),
        (
            lambda f: change(f / MANIFEST, lambda c: b"[]"),
            MANIFEST,
            "must be the manifest of a model",
        ),
        (lambda f: edit(f, format="1"), MANIFEST, "must be the manifest of a model"),
        (
            lambda f: edit(f, format=3),
            MANIFEST,
            "was written by a newer airjax; this one reads format 2, got 3",
        ),
        (lambda f: edit(f, sha256=None), MANIFEST, "must hold sha256 and model"),
        (lambda f: edit(f, model=None), MANIFEST, "must hold sha256 and model"),
    ],
    ids=[
        "weights flipped", "weights cut", "weights empty", "no weights", "no safetensors",
        "other shapes", "other layers", "no manifest", "manifest cut", "no UTF-8", "a list",
        "no format", "newer", "no sha256", "no model",
    ],
)  # fmt: skip
def test_damage_is_reported_with_the_file(damage, file, rule, folder):
    damage(folder)
    with pytest.raises(InputError) as info:
        load_model(folder)
    assert str(info.value).startswith(f"{folder / file} {rule}")


@pytest.mark.parametrize(
    "changes",
    [{"modle_steps": 3}, {"model_steps": 0}, {"model_steps": [3]}, {"non_linearity": "cos"}],
    ids=["unknown field", "broken rule", "wrong type", "unknown name"],
)
def test_a_config_that_is_none_is_reported_with_the_manifest(changes, folder):
    edit_config(folder, **changes)
    with pytest.raises(InputError) as info:
        load_model(folder)
    assert str(info.value).startswith(f"{folder / MANIFEST}: model")


def test_a_folder_that_is_not_there_is_reported_with_its_manifest(tmp_path):
    with pytest.raises(InputError, match="must be readable") as info:
        load_model(tmp_path / "none")
    assert info.value.argument == str(tmp_path / "none" / MANIFEST)
