"""A trained guide of solids on disk: weights, the empty table, and the settings."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from airjax import storage
from airjax.errors import InputError
from airjax.three_d.guide import SolidsGuide
from airjax.three_d.model import SolidsConfig
from airjax.three_d.renderer import Camera
from airjax.three_d.shapes import KINDS

PROGRAM = "solids"  # of the manifest: other models have none


def save(guide: SolidsGuide, folder: Path) -> None:
    """Writes a guide to a new folder.

    Raises:
        InputError: if the folder exists or cannot be written, or the kinds are not of
            `airjax.three_d.shapes.KINDS`.
    """
    names = [name for name, kinds in KINDS.items() if kinds == guide.config.kinds]
    if not names:
        rule = f"must be {', '.join(KINDS)}"
        raise InputError("kinds", rule, tuple(shape.name for shape in guide.config.kinds))
    settings = dataclasses.asdict(guide.config) | {"kinds": names[0]}
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(guide)]
    arrays = {f"array_{i}": leaf for i, leaf in enumerate(leaves)}
    storage.write(folder, "model", arrays, {"program": PROGRAM, "config": settings})


def is_solids(folder: Path) -> bool:
    """Whether `save` wrote this folder."""
    file = folder / storage.MANIFEST
    if not file.is_file():
        return False
    return storage.read_manifest(file, "model")["model"].get("program") == PROGRAM


def load(folder: Path) -> SolidsGuide:
    """The guide that `save` wrote.

    Raises:
        InputError: if a file is missing or damaged, or belongs to a newer airjax.
    """
    arrays, about = storage.read(folder, "model")
    settings = dict(about["config"])
    seen = settings.pop("camera")
    camera = Camera(**seen | {name: tuple(seen[name]) for name in ("position", "target")})
    kinds, hidden = KINDS[settings.pop("kinds")], tuple(settings.pop("hidden"))
    config = SolidsConfig(kinds=kinds, camera=camera, hidden=hidden, **settings)
    size = config.camera.size
    untrained = SolidsGuide(config, jnp.zeros((size, size, 3)), key=jax.random.key(0))
    leaves = [jnp.asarray(arrays[f"array_{i}"]) for i in range(len(arrays))]
    return jax.tree.unflatten(jax.tree.structure(untrained), leaves)
