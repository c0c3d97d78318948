"""Models on disk: weights as safetensors beside a manifest with their sha256. No pickle.

A model is a folder with ``weights.safetensors`` and ``manifest.json``; it is written beside its
place and renamed, so that it is there whole or not at all.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import safetensors
import safetensors.numpy

import airjax
from airjax.config import ModelConfig, from_json, to_json
from airjax.errors import InputError
from airjax.guide import Guide
from airjax.model import Model
from airjax.train import untrained

FORMAT = 1
WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"


def save_model(folder: Path, model: Model, guide: Guide) -> None:
    """Writes a model to a folder that does not exist yet.

    Raises:
        InputError: if ``folder`` exists (nothing is overwritten) or cannot be made.
    """
    if os.path.lexists(folder):  # false, not an error, where the parent cannot be searched
        raise InputError(str(folder), "must not exist yet: nothing is overwritten")
    weights = safetensors.numpy.save(
        {name: np.asarray(array) for name, array in _named(model, guide).items()}
    )
    manifest = {
        "format": FORMAT,
        "version": airjax.__version__,
        "sha256": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
        "model": json.loads(to_json(model.config)),
    }
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise InputError(str(folder), f"cannot be written ({error.strerror})") from None
        _write(temporary / WEIGHTS, weights)
        _write(temporary / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_model(folder: Path) -> tuple[Model, Guide]:
    """Reads what `save_model` wrote; nothing in it is executed.

    Raises:
        InputError: if a file is missing or damaged, or belongs to a newer airjax.
    """
    manifest = _read_manifest(folder / MANIFEST)
    name = str(folder / WEIGHTS)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise InputError(name, f"must be readable: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest["sha256"].get(WEIGHTS):
        raise InputError(name, "is damaged: its sha256 must be the manifest's", digest)
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise InputError(name, f"must be a safetensors file: {error}") from None
    text = json.dumps(manifest["model"])
    config = from_json(ModelConfig, text, f"{folder / MANIFEST}: model")
    return from_arrays(config, arrays, name)


def _networks(model: Model, guide: Guide) -> dict[str, Any]:
    return {"decoder": model.decoder, "guide": guide.networks, "baseline": guide.baseline}


def _named(model: Model, guide: Guide) -> dict[str, Any]:
    """The arrays of both programs by their path, ``decoder.mlp.layers.0.weight`` and so on."""
    leaves = jax.tree_util.tree_leaves_with_path(_networks(model, guide))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def from_arrays(
    config: ModelConfig, arrays: dict[str, np.ndarray], name: str
) -> tuple[Model, Guide]:
    """Programs of this config with these arrays, named as in a model's file, as their weights.

    Raises:
        InputError: if they are not exactly the weights of such programs; it names ``name``.
    """
    baseline = any(key.startswith("baseline.") for key in arrays)
    empty = eqx.filter_eval_shape(untrained, config, 0, baseline)
    wanted = _named(*empty)
    if set(arrays) != set(wanted):
        odd = sorted(set(arrays) ^ set(wanted))[0]
        raise InputError(name, "must hold the weights of the manifest's model; differs in", odd)
    for key, want in wanted.items():
        have = arrays[key]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            rule = f"{key} must be {want.dtype}{list(want.shape)}"
            raise InputError(name, rule, f"{have.dtype}{list(have.shape)}")
    leaves = [jax.numpy.asarray(arrays[key]) for key in wanted]
    like = _networks(*empty)
    filled = jax.tree.unflatten(jax.tree.structure(like), leaves)
    guide = type(empty[1])(config, filled["guide"], filled["baseline"])
    return Model(config, filled["decoder"]), guide


def _read_manifest(path: Path) -> dict[str, Any]:
    name = str(path)
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise InputError(name, f"must be readable: {error.strerror}") from None
    except ValueError as error:
        raise InputError(name, f"must be JSON: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise InputError(name, "must be the manifest of a model")
    if manifest["format"] > FORMAT:
        rule = f"was written by a newer airjax; this one reads format {FORMAT}"
        raise InputError(name, rule, manifest["format"])
    if not isinstance(manifest.get("sha256"), dict) or not isinstance(manifest.get("model"), dict):
        raise InputError(name, "must hold sha256 and model")
    return manifest


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
