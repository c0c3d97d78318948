"""Decides the settings that depend on the data, once and in one place: `airjax.air.AIR` and
``airjax train`` have the same defaults for the same images."""

from dataclasses import replace
from typing import Any

import numpy as np

from airjax.background import is_visible, level
from airjax.config import Config
from airjax.data import DATASETS, NamedData
from airjax.object_size import fitted

OTHER: dict[str, Any] = NamedData._field_defaults  # of data sets that are not in DATASETS


def resolved(
    config: Config, images: np.ndarray, object_size: Any = None
) -> tuple[Config, list[str]]:
    """Decides the guide, the number of steps, the learning rate, the background, the size of
    objects and of images.

    Data sets of `airjax.data.DATASETS`, known by the config's ``data``, keep the paper's priors and
    have a guide and a number of steps of their own. For all others the size of objects is estimated
    unless it is given.

    Args:
        config: settings as given; what is given is kept.
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, to train on.
        object_size: typical larger side of an object in pixels, "auto" or None; see
            `airjax.object_size.fitted`.

    Returns:
        the settings, with all of them decided, and a line for each decision that names its flag.

    Raises:
        InputError: if settings contradict each other or the images.
    """
    known = DATASETS.get(config.train.data)
    defaults = OTHER if known is None else known._asdict()
    train, model, decisions = config.train, config.model, []
    if train.steps is None:
        train = replace(train, steps=defaults["steps"])
        decisions.append(f"{train.steps} steps (--steps)")
    train = replace(train, learning_rate=train.peak_learning_rate)
    if model.guide == "auto":
        model = replace(model, guide=defaults["guide"])
        decisions.append(f"the guide {model.guide} (--guide)")
    if model.background == "auto":
        visible = known is None and is_visible(images)
        model = replace(model, background="mean" if visible else "none")
        if visible:
            black = f"{100 * level(images):.0f} % from black"
            decisions.append(f"the background mean, {black} (--background)")
    if known is None or object_size is not None:
        model, size = fitted(model, object_size, images)
        if size is not None:
            decisions.append(f"objects of about {size:.0f} pixels (--object-size)")
    model = model.for_images(images.shape[1:])
    return replace(config, train=train, model=model), decisions
