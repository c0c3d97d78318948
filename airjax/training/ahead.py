"""Programs that evaluate a training, compiled while it goes on: neither training nor compilation
keeps several cores busy."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax.numpy as jnp

from airjax.data.dataset import Dataset
from airjax.inference.infer import lowered
from airjax.inference.metrics import EVALUATED, QUICKLY
from airjax.training.trainer import Trainer, TrainState


class Ahead:
    """Compiles programs in turn, in a thread.

    Args:
        programs: traced ones, as `jax.jit` has them with ``lower``. Tracing is not for a thread:
            the handlers of NumPyro are those of all threads.
    """

    def __init__(self, programs: Iterable[Any]):
        self.thread = ThreadPoolExecutor(1, "compile")
        for program in programs:
            self.thread.submit(program.compile)

    def end(self) -> None:
        """Waits for the program that is being compiled; the others are not begun."""
        self.thread.shutdown(cancel_futures=True)


def of_evaluation(
    trainer: Trainer, state: TrainState, held_out: Dataset, num_paths: int
) -> list[Any]:
    """The programs that evaluate a training on its way and, with K paths, at its end; traced."""
    images, last = held_out.images, trainer.config.train.num_steps
    now = trainer.programs(state, trainer.config.model)
    quickly = lowered(*now, images[:EVALUATED], z_pres_prior=trainer.prior(state.step), **QUICKLY)
    at_the_end = trainer.programs(state._replace(step=jnp.full_like(state.step, last)))
    return quickly + lowered(*at_the_end, images, num_paths)
