"""Models and training states on disk, in the format of `airjax.storage`."""

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from airjax import storage
from airjax.config import Config, ModelConfig
from airjax.config_file import from_json, to_json
from airjax.errors import InputError
from airjax.precision import in_32_bits
from airjax.programs.guide import Guide
from airjax.programs.model import Model
from airjax.programs.untrained import untrained
from airjax.training.trainer import TrainState


def save_model(
    folder: Path, model: Model, guide: Guide, training: dict[str, Any] | None = None
) -> None:
    """Writes a model to a folder that does not exist yet.

    Args:
        folder: the new folder.
        model: trained generative program.
        guide: trained guide.
        training: how it was trained, as JSON; see `load_training`.

    Raises:
        InputError: if ``folder`` exists (nothing is overwritten) or cannot be written.
    """
    arrays = {name: np.asarray(array) for name, array in _named(_networks(model, guide)).items()}
    about = json.loads(to_json(model.config))
    storage.write(folder, "model", arrays, about, training=training or {})


@in_32_bits()
def load_model(folder: Path) -> tuple[Model, Guide]:
    """Reads what `save_model` wrote; nothing in it is executed.

    Raises:
        InputError: if a file is missing or damaged, or belongs to a newer airjax.
    """
    arrays, about = storage.read(folder, "model")
    arrays = {name: in_single(array) for name, array in arrays.items()}
    config = from_json(ModelConfig, json.dumps(about), f"{folder / storage.MANIFEST}: model")
    return from_arrays(config, arrays, str(folder / storage.ARRAYS["model"]))


def in_single(array: np.ndarray) -> np.ndarray:
    """An array in single precision if it is in half precision, as in ready models."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def load_training(folder: Path) -> dict[str, Any]:
    """How the model in a folder was trained, as `save_model` was given it: ``config``, ``history``,
    ``restarts``, ``collapsed`` (what is wrong with it, or None); of `airjax.air.AIR` also
    ``settings``. Empty where that is not known.

    Raises:
        InputError: if there is no model, or it is damaged.
    """
    found = storage.read_manifest(folder / storage.MANIFEST, "model").get("training")
    return found if isinstance(found, dict) else {}


def from_arrays(
    config: ModelConfig, arrays: dict[str, np.ndarray], name: str
) -> tuple[Model, Guide]:
    """Programs of this config with these arrays, named as in a model's file, as their weights.

    Raises:
        InputError: if they are not exactly the weights of such programs; it names ``name``.
    """
    baseline = any(key.startswith("baseline.") for key in arrays)
    empty = eqx.filter_eval_shape(untrained, config, 0, baseline)
    like = _networks(*empty)
    storage.check_arrays(arrays, _named(like), name, "the manifest's model")
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(name, f"{key} must be finite")
    filled = _filled(like, arrays)
    networks, decoder, likelihood = (filled[name] for name in ("guide", "decoder", "likelihood"))
    guide = type(empty[1])(config, networks, likelihood, decoder, filled["baseline"])
    return Model(config, decoder, likelihood), guide


@dataclass(frozen=True)
class Checkpoints:
    """The states of a run that can be resumed: ``step_00000500/`` and so on in a folder.

    Attributes:
        path: the folder.
        keep: how many of the newest are kept.
    """

    path: Path
    keep: int = 2

    def save(self, state: TrainState, config: Config) -> Path:
        """Writes a checkpoint, then removes those no longer needed.

        Raises:
            InputError: if it cannot be written; earlier ones are unchanged.
        """
        step = int(state.step)
        folder = self.path / f"step_{step:08d}"
        if not folder.exists():
            about = {"step": step, "config": json.loads(to_json(config))}
            storage.write(folder, "checkpoint", state_arrays(state), about)
            for old in self.folders()[: -self.keep]:
                shutil.rmtree(old, ignore_errors=True)
        return folder

    def newest(self, like: TrainState) -> tuple[TrainState | None, list[str]]:
        """The newest state that can be resumed, or None; and what is wrong with newer checkpoints.
        These are renamed to ``damaged_...``, so that their steps can be saved again.

        Args:
            like: a state of the same run, for its structure.

        Raises:
            InputError: if the newest intact one was written by a version of airjax that trains in
                another way, or by a newer one.
        """
        storage.sweep(self.path)
        damaged, state = {}, None
        for folder in reversed(self.folders()):
            try:
                arrays, _ = storage.read(folder, "checkpoint")
            except storage.OtherFormat:
                raise
            except InputError as error:
                damaged[folder] = str(error)
                continue
            try:
                storage.check_arrays(arrays, state_arrays(like), "checkpoint", "this run's state")
            except InputError as error:
                rule = "must be of a version of airjax that trains as this one does"
                raise InputError(str(folder), f"{rule} ({error})") from None
            state = from_state_arrays(like, arrays)
            break
        for folder in damaged:
            names = (self.path / f"damaged_{folder.name}_{i}" for i in itertools.count())
            folder.rename(next(name for name in names if not name.exists()))
        return state, list(damaged.values())

    def folders(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(self.path.glob("step_*"))


def _networks(model: Model, guide: Guide) -> dict[str, Any]:
    return {
        "decoder": model.decoder,
        "guide": guide.networks,
        "baseline": guide.baseline,
        "likelihood": model.likelihood,
    }


def _named(tree: Any) -> dict[str, Any]:
    """The arrays of a tree by their path, ``decoder.mlp.layers.0.weight`` and so on."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _filled(like: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A tree of the structure of ``like`` with these arrays."""
    leaves = [jnp.asarray(arrays[name]) for name in _named(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def state_arrays(state: TrainState) -> dict[str, np.ndarray]:
    """A state's arrays by name; of random keys, their words."""
    named = _named(state).items()
    return {n: np.asarray(jax.random.key_data(x) if _is_key(x) else x) for n, x in named}


def from_state_arrays(like: TrainState, arrays: dict[str, np.ndarray]) -> TrainState:
    """The state with these arrays; see `state_arrays`."""

    def leaf(name: str, want: Any) -> jax.Array:
        array = jnp.asarray(arrays[name])
        return jax.random.wrap_key_data(array) if _is_key(want) else array

    leaves = [leaf(name, want) for name, want in _named(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
