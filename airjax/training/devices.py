"""Several devices of one host: each has all the images and the whole state, and computes its share
of every mini-batch. XLA adds up their gradients."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from airjax.errors import InputError

BATCH = "batch"  # the axis of the mesh
T = TypeVar("T")


def number_of(devices: int | None, batch_size: int) -> int:
    """How many devices to train on.

    Args:
        devices: as many; None for as many of those here as a mini-batch can be divided between.
        batch_size: images in a mini-batch, on all devices together.

    Raises:
        InputError: if there are not as many, or they do not divide a mini-batch evenly.
    """
    here = jax.local_device_count()
    if devices is None:
        return max(n for n in range(1, here + 1) if batch_size % n == 0)
    if not 1 <= devices <= here:
        raise InputError("devices", f"must be 1 to {here}, the devices here", devices)
    if batch_size % devices:
        raise InputError("devices", f"must divide the batch size, {batch_size}", devices)
    return devices


class Devices:
    """The devices of a training.

    Args:
        number: how many; the first ones of this host.
    """

    def __init__(self, number: int = 1):
        self.number = number
        self.mesh: Mesh | None = None
        if number > 1:
            self.mesh = jax.make_mesh(
                (number,), (BATCH,), (AxisType.Auto,), devices=jax.local_devices()[:number]
            )

    def on_all(self, tree: T) -> T:
        """A tree of arrays with a copy on each device."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def on_first(self, tree: T) -> T:
        """A tree of arrays on the first device alone."""
        return tree if self.mesh is None else jax.device_put(tree, jax.local_devices()[0])

    def in_shares(self, batches: np.ndarray) -> jax.Array:
        """Mini-batches ``[n, B, ...]``, of which each device has its share."""
        if self.mesh is None:
            return jnp.asarray(batches)
        return jax.device_put(batches, NamedSharding(self.mesh, PartitionSpec(None, BATCH)))

    def divided(self, batch: T) -> T:
        """In a compiled program, a mini-batch of which each device has its share."""
        if self.mesh is None:
            return batch
        by_image = NamedSharding(self.mesh, PartitionSpec(BATCH))
        return jax.lax.with_sharding_constraint(batch, by_image)
