"""Arrays on disk: a folder with a safetensors file and a JSON manifest with its sha256. No pickle.

A folder is written under a temporary name, synced and renamed: it is complete or not there.
"""

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import airjax
from airjax.errors import InputError

FORMAT = 2  # the only one that was released
MANIFEST = "manifest.json"
TEMPORARY = re.compile(r"^\.(.+)\.\d+\.tmp$")
ARRAYS = {"model": "weights.safetensors", "checkpoint": "state.safetensors"}


class OtherFormat(InputError):
    """Intact files of an airjax whose format this one does not read."""


def write(
    folder: Path, kind: str, arrays: dict[str, np.ndarray], about: dict[str, Any], **more: Any
) -> None:
    """Writes arrays to a folder that does not exist yet.

    Args:
        folder: the new folder; folders above it are made.
        kind: a key of ``ARRAYS``.
        arrays: by name.
        about: description of the arrays for the manifest, as JSON.
        more: further entries of the manifest.

    Raises:
        InputError: if ``folder`` exists (nothing is overwritten) or cannot be written.
    """
    if os.path.lexists(folder):  # False, not an error, if the parent cannot be searched
        raise InputError(str(folder), "must not exist yet: nothing is overwritten")
    content = safetensors.numpy.save(arrays)
    manifest = {
        "format": FORMAT,
        "version": airjax.__version__,
        "sha256": {ARRAYS[kind]: hashlib.sha256(content).hexdigest()},
        kind: about,
        **more,
    }
    try:
        with new_folder(folder) as temporary:
            _write(temporary / ARRAYS[kind], content)
            _write(temporary / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(str(folder), f"cannot be written ({reason})") from None


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A context with a temporary folder, which gets its name at the end: the folder is complete or
    not there. Temporary folders of processes that were killed are removed.

    Raises:
        OSError: if the folder cannot be written.
    """
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        if not _is_running(leftover.name.split(".")[-2]):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync(temporary)
        os.rename(temporary, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_running(pid: str) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def read(folder: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays that `write` wrote, and their description; nothing is executed.

    Raises:
        InputError: if a file is missing or damaged, or belongs to a newer airjax.
    """
    manifest = read_manifest(folder / MANIFEST, kind)
    name = str(folder / ARRAYS[kind])
    try:
        content = (folder / ARRAYS[kind]).read_bytes()
    except OSError as error:
        raise InputError(name, f"must be readable: {error.strerror}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != manifest["sha256"].get(ARRAYS[kind]):
        raise InputError(name, "is damaged: its sha256 must be the manifest's", digest)
    try:
        arrays = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise InputError(name, f"must be a safetensors file: {error}") from None
    return arrays, manifest[kind]


def write_file(path: Path, content: bytes) -> None:
    """Writes or replaces a file; an interruption leaves the old or the new content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, content)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_new(path: Path, content: bytes, argument: str = "out") -> None:
    """Writes a file that does not exist yet; it is complete or not there.

    Raises:
        InputError: if it exists, even if another process has just made it; it names ``argument``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, content)
        os.link(temporary, path)  # unlike a rename, this fails if the file exists
        _sync(path.parent)
    except FileExistsError:
        raise InputError(argument, "must be a new file (nothing is overwritten)", path) from None
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, line: str) -> None:
    """Appends a line to a file and syncs it."""
    with _named(path), open(path, "a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def sweep(folder: Path) -> None:
    """Removes temporary files of a `write` or `write_file` that was killed, at any depth."""
    for leftover in list(folder.rglob(".*.tmp")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def check_arrays(
    arrays: dict[str, np.ndarray], wanted: dict[str, Any], name: str, owner: str
) -> None:
    """Checks names, shapes and dtypes.

    Raises:
        InputError: if they differ. ``name`` is the file, ``owner`` is what the arrays belong to.
    """
    if set(arrays) != set(wanted):
        odd = sorted(set(arrays) ^ set(wanted))[0]
        raise InputError(name, f"must hold the weights of {owner}; differs in", odd)
    for key, want in wanted.items():
        have = arrays[key]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            rule = f"{key} must be {want.dtype}{list(want.shape)}"
            raise InputError(name, rule, f"{have.dtype}{list(have.shape)}")


def read_manifest(path: Path, kind: str) -> dict[str, Any]:
    """The manifest of a folder that `write` made.

    Raises:
        InputError: if it is missing or damaged, or belongs to a newer airjax.
    """
    name = str(path)
    try:
        manifest = json.loads(path.read_text())
    except OSError as error:
        raise InputError(name, f"must be readable: {error.strerror}") from None
    except ValueError as error:
        raise InputError(name, f"must be JSON: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise InputError(name, f"must be the manifest of a {kind}")
    if manifest["format"] != FORMAT:
        age = "a newer" if manifest["format"] > FORMAT else "an unreleased, older"
        rule = f"was written by {age} airjax; this one reads format {FORMAT}"
        raise OtherFormat(name, rule, manifest["format"])
    if not isinstance(manifest.get("sha256"), dict) or not isinstance(manifest.get(kind), dict):
        raise InputError(name, f"must hold sha256 and {kind}")
    return manifest


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A context in which errors name the file, whatever its temporary name; Python's own do not
    where a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            name = TEMPORARY.sub(r"\1", path.name)
            error.filename = str(path.with_name(name))
        raise


def _write(path: Path, content: bytes) -> None:
    with _named(path), open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Makes the entries of a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
