"""Several devices, of one host or of several: each has all the images and the whole state, and
computes its share of every mini-batch. XLA adds up their gradients."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from airjax.errors import InputError
from airjax.training.hosts import Hosts

BATCH = "batch"  # the axis of the mesh
T = TypeVar("T")


def number_of(devices: int | None, batch_size: int, processes: int = 1) -> int:
    """How many devices of each host to train on.

    Args:
        devices: as many; None for as many of those here as a mini-batch can be divided between.
        batch_size: images in a mini-batch, on all devices together.
        processes: that have as many devices each.

    Raises:
        InputError: if there are not as many, or they do not divide a mini-batch evenly.
    """
    here = jax.local_device_count()
    if batch_size % processes:
        raise InputError("processes", f"must divide the batch size, {batch_size}", processes)
    share = batch_size // processes
    if devices is None:
        return max(n for n in range(1, here + 1) if share % n == 0)
    if not 1 <= devices <= here:
        raise InputError("devices", f"must be 1 to {here}, the devices here", devices)
    if share % devices:
        each = "" if processes == 1 else f" in each of {processes} processes"
        raise InputError("devices", f"must divide the batch size, {share}{each}", devices)
    return devices


class Devices:
    """The devices of a training.

    Args:
        number: how many of each host; its first ones.
        hosts: the processes.

    Attributes:
        number: of all hosts together.
    """

    def __init__(self, number: int = 1, hosts: Hosts | None = None):
        self.hosts = hosts or Hosts()
        self.number = number * self.hosts.count
        self.mesh: Mesh | None = None
        if self.number > 1:
            of_each = [[d for d in jax.devices() if d.process_index == i][:number]
                       for i in range(self.hosts.count)]  # fmt: skip
            # in the order of the processes, so that each reads the rows of its devices
            self.mesh = Mesh(np.ravel(of_each), (BATCH,), axis_types=(AxisType.Auto,))

    def on_all(self, tree: T) -> T:
        """A tree of arrays, the same in all processes, with a copy on each device."""
        if self.mesh is None:
            return tree
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if self.hosts.count == 1:
            return jax.device_put(tree, everywhere)

        def copied(leaf: jax.Array) -> jax.Array:
            if not leaf.is_fully_addressable:  # it is there already
                return leaf
            return jax.make_array_from_process_local_data(everywhere, np.asarray(leaf))

        return jax.tree.map(lambda leaf: _of_data(copied, leaf), tree)

    def on_first(self, tree: T) -> T:
        """A tree of arrays on the first device of this process alone."""
        if self.mesh is None:
            return tree
        if self.hosts.count == 1:
            return jax.device_put(tree, jax.local_devices()[0])
        return jax.tree.map(lambda leaf: _of_data(lambda x: x.addressable_data(0), leaf), tree)

    def in_shares(self, batches: np.ndarray) -> jax.Array:
        """Mini-batches ``[n, B, ...]``, of which each device has its share.

        Args:
            batches: this process' share of them, ``[n, B / processes, ...]``.
        """
        if self.mesh is None:
            return jnp.asarray(batches)
        by_image = NamedSharding(self.mesh, PartitionSpec(None, BATCH))
        n, rows, *shape = batches.shape
        whole = n, rows * self.hosts.count, *shape
        return jax.make_array_from_process_local_data(by_image, batches, whole)

    def divided(self, batch: T) -> T:
        """In a compiled program, a mini-batch of which each device has its share."""
        if self.mesh is None:
            return batch
        by_image = NamedSharding(self.mesh, PartitionSpec(BATCH))
        return jax.lax.with_sharding_constraint(batch, by_image)


def _of_data(call: Callable[[jax.Array], jax.Array], leaf: jax.Array) -> jax.Array:
    """A call on an array, or on the words of random keys."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return call(leaf)
    return jax.random.wrap_key_data(call(jax.random.key_data(leaf)))
