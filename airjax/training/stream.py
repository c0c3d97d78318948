"""Mini-batches of images that are read while the device computes.

The images are shuffled anew in each epoch, all of them. The mini-batch of a step depends on the
seed and on the number of steps before it alone: to continue from a state, nothing else is needed.
"""

from collections import deque
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Array, UInt8

from airjax.console import Decision
from airjax.data.dataset import Dataset
from airjax.data.source import Source, size_of
from airjax.errors import InputError
from airjax.inference.blocks import cores
from airjax.training.devices import Devices

BUFFER = 2**25  # bytes of mini-batches that are on the device
THREADS = 16  # at most, that read


def check_installed() -> None:
    """Checks for the extra ``stream``.

    Raises:
        InputError: if it is not installed.
    """
    if find_spec("grain") is None:
        rule = "must be no for these images, or needs grain: pip install 'airjax[stream]'"
        raise InputError("stream", rule)


def decision(images: Dataset) -> Decision:
    """That images are streamed."""
    assert images.source is not None
    size = f"{size_of(images.source) / 2**30:.1f} GiB of images"
    return Decision("streamed", f"yes, {size}; decided from {len(images)} of them", "--stream")


class Stream:
    """The mini-batches of a training, of images on disk.

    Args:
        source: the images.
        batch_size: images in a mini-batch.
        seed: of the shuffle.
        most: mini-batches that are on the device at a time, if they are small.
        devices: that they are divided between; each process reads the share of its own.

    Attributes:
        steps: mini-batches that are on the device at a time.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, most: int, devices: Devices):
        import grain

        size = batch_size * int(np.prod(source.image_shape))
        self.steps, self.devices = min(most, max(1, BUFFER // size)), devices
        rows = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
        hosts = devices.hosts
        parts = rows.batch(batch_size // hosts.count)  # of each mini-batch, one a process
        parts = parts[hosts.index :: hosts.count] if hosts.count > 1 else parts
        self.batches = parts.map(lambda rows: source.read(rows.tolist()))
        threads = min(THREADS, cores() or 1, self.steps)
        self.options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=self.steps)
        self.reader: Any = None
        self.read: deque[np.ndarray] = deque()  # not yet used
        self.first = 0  # the step of the first of them
        self.ready: tuple[int, Array] | None = None

    def at(self, step: int) -> UInt8[Array, "n B H W *C"]:
        """The mini-batches of the next ``steps`` steps, on the devices.

        Args:
            step: the number of steps before.

        Raises:
            InputError: if no image can be read.
        """
        self.prepare(step)
        assert self.ready is not None
        return self.ready[1]

    def prepare(self, step: int) -> None:
        """Reads what `at` is asked for next, while the devices work."""
        if self.ready is not None and self.ready[0] == step:
            return
        if self.reader is None or not self.first <= step <= self.first + len(self.read):
            self.close()
            self.reader = iter(self.batches[step:].to_iter_dataset(self.options))
            self.first = step
        while self.first < step:
            self.read.popleft()
            self.first += 1
        while len(self.read) < self.steps:
            self.read.append(next(self.reader))
        self.ready = step, self.devices.in_shares(np.stack(self.read))

    def close(self) -> None:
        """Ends the reading."""
        if self.reader is not None:
            self.reader.close()
        self.reader, self.ready = None, None
        self.read.clear()
