"""Decides the settings that depend on the data, once and in one place: `airjax.air.AIR` and
``airjax train`` have the same defaults for the same images."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from airjax.background import look
from airjax.config import LIKELIHOOD_SD, Config, ModelConfig
from airjax.console import Decision
from airjax.data import DATASETS, NamedData
from airjax.data.survey import Survey
from airjax.detail import latent_size, likelihood_sd, sd_of_objects, window_margin
from airjax.errors import InputError
from airjax.object_size import MARGIN, fitted, pixels

IN_CROPS = 0.1  # k
WHOLE = "; --crop 0 trains on whole images"
OTHER: dict[str, Any] = NamedData._field_defaults  # of data sets that are not in DATASETS


def resolved(
    config: Config,
    images: np.ndarray,
    object_size: Any = None,
    seen: Survey | None = None,
    max_objects: int | None = None,
    given: Collection[str] = (),
) -> tuple[Config, list[Decision]]:
    """Decides the guide, the number of steps, the learning rate, the background, the size of
    objects and of images.

    Data sets of `airjax.data.DATASETS`, known by the config's ``data``, keep the paper's priors and
    have a guide and a number of steps of their own. For all others the size of objects is estimated
    unless it is given.

    Args:
        config: settings as given; what is given is kept.
        images: uint8 ``[N, H, W]`` or ``[N, H, W, C]``, to train on.
        object_size: typical larger side of an object in pixels (of the pictures, where they were
            looked at), "auto" or None; see `airjax.object_size.fitted`.
        seen: what was decided when picture files were looked at; None for other images.
        max_objects: T, if it is given.
        given: settings of the model that are kept even if they are the defaults.

    Returns:
        the settings, with all of them decided, and the decisions.

    Raises:
        InputError: if settings contradict each other or the images.
    """
    decisions, estimated = list[Decision](), None
    if max_objects is not None:
        config = replace(config, model=replace(config.model, model_steps=max_objects))
    if seen is not None:
        config, decisions = _of_pictures(config, seen, max_objects is not None, given)
        estimated = seen.image_object_size
        if estimated is not None and pixels(object_size) is not None:
            object_size = estimated  # the same size, in pixels of the images
    known = DATASETS.get(config.train.data)
    defaults = OTHER if known is None else known._asdict()
    is_paper = known is not None and known.is_paper
    if known is not None and not is_paper and max_objects is None and "model_steps" not in given:
        most = max(config.model.model_steps, *known.scenes.counts)
        config = replace(config, model=replace(config.model, model_steps=most))
        decisions.append(Decision("most objects", f"{most}, as the data set has", "--max-objects"))
    train, model = config.train, config.model
    if train.steps is None:
        train = replace(train, steps=defaults["steps"])
        decisions.append(Decision("steps", str(train.steps), "--steps"))
    train = replace(train, learning_rate=train.peak_learning_rate)
    if model.guide == "auto":
        model = replace(model, guide="attend" if config.pictures.crop else defaults["guide"])
        decisions.append(Decision("guide", model.guide, "--guide"))
    if model.background == "local":
        rule = "must be another one for images in memory: this one is subtracted from picture files"
        raise InputError("background", rule, model.background)
    if model.background == "auto":
        open_to = not is_paper and not config.pictures.crop
        background, what = look(images) if open_to else ("none", "")
        model = replace(model, background=background)
        if background != "none":
            decisions.append(Decision("background", f"{background}, {what}", "--background"))
    if model.background == "flat" and model.compose == "add" and "compose" not in given:
        model = replace(model, compose="over")
        decisions.append(Decision("objects", "hide what is behind them", "--compose"))
    if not is_paper or object_size is not None:
        detail = None if seen is None else seen.detail
        margin = MARGIN if detail is None else window_margin(detail)
        model, size = fitted(model, object_size, images, estimated, margin)
        if size is not None and estimated is None:
            decisions.append(Decision("object size", f"{size:.0f} pixels", "--object-size"))
        open_to = size is not None and detail is None and model.background == "none"
        if open_to and model.likelihood_sd == "auto":
            sd = sd_of_objects(images)
            if sd < LIKELIHOOD_SD:
                model = replace(model, likelihood_sd=sd)
                decisions.append(Decision("pixel sd", f"{sd:g}", "--likelihood-sd"))
    if config.pictures.crop:  # pictures of any size are read with these
        if model.guide != "attend":
            rule = f"must be attend with crops: other guides read images of one size{WHOLE}"
            raise InputError("guide", rule, model.guide)
        if model.compose != "add":
            rule = f"must be add with crops, which are read as sums{WHOLE}"
            raise InputError("compose", rule, model.compose)
        if model.background != "none":
            rule = f"must be none, local or lines with crops: others have the images' size{WHOLE}"
            raise InputError("background", rule, model.background)
    model = model.for_images(images.shape[1:])
    return replace(config, train=train, model=model), decisions


def _of_pictures(
    config: Config, seen: Survey, has_max_objects: bool, given: Collection[str]
) -> tuple[Config, list[Decision]]:
    """The settings with what was decided when picture files were looked at. In crops, any number
    of objects is as probable as another, and the likelihood suits their detail."""
    model, decisions = config.model, list(seen.decisions)
    if seen.background in ("local", "lines"):  # subtracted before the model sees the pictures
        model = replace(model, background="none")
    is_open = not has_max_objects and model.model_steps == ModelConfig.model_steps
    if is_open and seen.max_objects is not None:
        model = replace(model, model_steps=seen.max_objects)
        decisions.append(Decision("most objects", str(seen.max_objects), "--max-objects"))
    is_open = model.z_pres_prior == ModelConfig.z_pres_prior and "z_pres_prior" not in given
    if seen.pictures.crop and is_open:
        model = replace(model, z_pres_prior=IN_CROPS)
        decisions.append(Decision("prior of counts", "k = 0.1", "--z-pres-prior"))
    if seen.detail is not None:
        if model.likelihood_sd == "auto":
            model = replace(model, likelihood_sd=likelihood_sd(seen.detail))
            decisions.append(Decision("pixel sd", f"{model.likelihood_sd:g}", "--likelihood-sd"))
        size = model.encoder_latent_size
        if size == ModelConfig.encoder_latent_size and "encoder_latent_size" not in given:
            model = replace(model, encoder_latent_size=latent_size(seen.detail))
            numbers = f"{model.encoder_latent_size} numbers an object"
            decisions.append(Decision("code", numbers, "--encoder-latent-size"))
    return replace(config, pictures=seen.pictures, model=model), decisions
