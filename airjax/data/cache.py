"""The cache of scenes, downloads and compiled programs: ``AIRJAX_CACHE_DIR``, or the user's
own."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import platformdirs

import airjax
from airjax.data.composer import SceneConfig
from airjax.data.dataset import Dataset, load_dataset, save_dataset
from airjax.errors import InputError


def cache_dir() -> Path:
    """The folder of airjax's cache, which may not exist yet."""
    return Path(os.environ.get("AIRJAX_CACHE_DIR") or platformdirs.user_cache_dir("airjax"))


def on_disk(collection: str, name: str, data_dir: Path | None) -> Path | None:
    """A file of a public data set, where it need not be downloaded: in ``data_dir`` or its folder
    named after the data set, or in that folder in ``AIRJAX_DATA_DIR``."""
    folders = [] if data_dir is None else [data_dir / collection, data_dir]
    if "AIRJAX_DATA_DIR" in os.environ:
        folders.append(Path(os.environ["AIRJAX_DATA_DIR"]) / collection)
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def keep_programs() -> None:
    """Makes JAX keep compiled programs in airjax's cache, so that a second process need not compile
    them. A process that keeps programs elsewhere, or is not to keep any, is left alone."""
    import jax  # slow to import, and the command line's help needs none of it
    from jax.experimental.compilation_cache import compilation_cache

    settings: Any = jax.config
    if settings.jax_compilation_cache_dir is None and settings.jax_enable_compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        compilation_cache.reset_cache()  # JAX looks at its settings only once


def cached(name: str, part: str, config: SceneConfig, make: Callable[[], Dataset]) -> Dataset:
    """The data set that ``make`` makes from these parameters, made once and kept.

    The name of the file is a hash of the parameters and of airjax's version, so that a changed
    composer never reads old scenes. A damaged file is replaced. If the cache cannot be written, the
    scenes are made every time.
    """
    key = {"name": name, "part": part, "version": airjax.__version__, **asdict(config)}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir() / f"{name}-{part}-{digest}.npz"
    if path.is_file():
        try:
            return replace(load_dataset(path), name=name, part=part)
        except InputError:
            pass
    data = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_dataset(data, path)
    except OSError:
        pass
    return data
