"""The MNIST digits (LeCun, Cortes, Burges), from disk or downloaded, with checksums."""

import gzip
import hashlib
import logging
import zlib
from pathlib import Path

import numpy as np

from airjax.data.cache import cache_dir, on_disk
from airjax.data.composer import Pool
from airjax.errors import InputError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# of the uncompressed content: mirrors compress in different ways
_SHA256 = """
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte.gz
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte.gz
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte.gz
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte.gz
"""
SHA256 = {name: digest for digest, name in map(str.split, _SHA256.strip().splitlines())}


def load_mnist(part: str, data_dir: Path | None = None) -> Pool:
    """The 60,000 training (``part="train"``) or 10,000 test digits, 28 x 28.

    The files are taken from ``data_dir`` (or its folder ``mnist``), from the folder ``mnist`` in
    ``AIRJAX_DATA_DIR``, or downloaded to the user's cache.

    Raises:
        InputError: if a file is damaged, or not found and cannot be downloaded.
    """
    images, labels = (_content(name, data_dir) for name in FILES[part])
    return Pool(
        np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28),
        np.frombuffer(labels, np.uint8, offset=8).astype(np.int32),
    )


def _content(name: str, data_dir: Path | None) -> bytes:
    path = on_disk("mnist", name, data_dir)
    return _download(name) if path is None else _read(path)


def _read(path: Path) -> bytes:
    """The checked, uncompressed content of a file."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(str(path), f"must be MNIST's whole gzip file: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[path.name]:
        rule = f"must be MNIST's file: the content's sha256 must be {SHA256[path.name]}"
        raise InputError(str(path), rule, digest)
    return content


def _download(name: str) -> bytes:
    import pooch  # slow, and needed once

    pooch.get_logger().setLevel(logging.WARNING)
    cache = cache_dir() / "mnist"
    if (cache / name).is_file():
        try:
            return _read(cache / name)
        except InputError:  # damaged: download it again
            (cache / name).unlink()
    failures = []
    for mirror in MIRRORS:
        try:
            path = pooch.retrieve(mirror + name, known_hash=None, fname=name, path=cache)
            return _read(Path(path))
        except InputError as error:  # damaged on the way: do not keep it
            (cache / name).unlink(missing_ok=True)
            failures.append(str(error))
        except Exception as error:  # pooch raises errors of requests, urllib3 and ssl
            failures.append(f"{mirror}: {type(error).__name__}")
    rule = f"could not be downloaded ({'; '.join(failures)}); put it into a folder and name that"
    raise InputError(name, f"{rule} folder with --data-dir or AIRJAX_DATA_DIR")
