"""Decides the settings that depend on the data, once and in one place: `airjax.air.AIR` and
``airjax train`` have the same defaults for the same images."""

from dataclasses import replace
from typing import Any

import numpy as np

from airjax.background import is_visible, level
from airjax.config import Config
from airjax.console import Decision
from airjax.data import DATASETS, NamedData
from airjax.errors import InputError
from airjax.object_size import fitted

OTHER: dict[str, Any] = NamedData._field_defaults  # of data sets that are not in DATASETS


def resolved(
    config: Config, images: np.ndarray, object_size: Any = None, estimated: float | None = None
) -> tuple[Config, list[Decision]]:
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
        estimated: size of the objects in pixels of the images, if pictures were looked at before.

    Returns:
        the settings, with all of them decided, and the decisions.

    Raises:
        InputError: if settings contradict each other or the images.
    """
    known = DATASETS.get(config.train.data)
    defaults = OTHER if known is None else known._asdict()
    train, model, decisions = config.train, config.model, list[Decision]()
    if train.steps is None:
        train = replace(train, steps=defaults["steps"])
        decisions.append(Decision("steps", str(train.steps), "--steps"))
    train = replace(train, learning_rate=train.peak_learning_rate)
    if model.guide == "auto":
        model = replace(model, guide=defaults["guide"])
        decisions.append(Decision("guide", model.guide, "--guide"))
    if model.background == "local":
        rule = "must be another one for images in memory: local is subtracted from picture files"
        raise InputError("background", rule, model.background)
    if model.background == "auto":
        visible = known is None and is_visible(images)
        model = replace(model, background="mean" if visible else "none")
        if visible:
            black = f"{100 * level(images):.0f} % from black"
            decisions.append(Decision("background", f"mean, {black}", "--background"))
    if known is None or object_size is not None:
        model, size = fitted(model, object_size, images, estimated)
        if size is not None and estimated is None:
            decisions.append(Decision("object size", f"{size:.0f} pixels", "--object-size"))
    model = model.for_images(images.shape[1:])
    return replace(config, train=train, model=model), decisions
