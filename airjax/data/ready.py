"""How pictures are read with a ready model, which was trained on others: everything is decided from
these pictures, and they are scaled until their objects have the size of the model's."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from airjax.config import Background
from airjax.console import Decision
from airjax.data.decode import Contents
from airjax.data.survey import Survey, survey
from airjax.data.working_scale import MOST, WORKING
from airjax.picture_config import PictureConfig

# ratio of the quartiles of pictures' sizes from which each has its own scale: less than in a
# training, which learns the sizes that there are
DIFFERENT = 1.25


class Asked(NamedTuple):
    """What is given for these pictures, beside their `airjax.picture_config.PictureConfig`.

    Attributes:
        object_size: typical larger side of an object in pixels of the files.
        background: what is subtracted: "none", "local" or "lines"; "auto" is decided.
    """

    object_size: float | None = None
    background: Background = "auto"


ASKED = Asked()  # nothing


def for_ready_model(
    files: Sequence[Path],
    config: PictureConfig,
    channels: int,
    contents: Contents | None = None,
    asked: Asked = ASKED,
) -> Survey:
    """The settings for these pictures.

    Args:
        files: of pictures.
        config: of the model; what is not ``auto`` or None is kept.
        channels: of the model's images.
        contents: gives the bytes of files that are not of this machine.
        asked: what else is given.
    """
    seen = _surveyed(files, config, contents, asked)
    if channels == 1 and seen.pictures.channel in ("colour", "all"):
        one = "grey" if seen.pictures.invert == "yes" else "max"
        seen = _surveyed(files, replace(config, channel=one), contents, asked)
    pictures, sizes, decisions = seen.pictures, seen.sizes, list(seen.decisions)
    if config.scale is None and pictures.scale != "picture" and sizes is not None:
        scale = min(MOST, round(pictures.ratio * WORKING[1] / sizes.typical, 4))
        pictures = replace(pictures, scale=scale)
        text = f"{scale:.3g} (objects of {sizes.typical / seen.pictures.ratio * scale:.0f} pixels)"
        decisions = [each for each in decisions if each.flag != "--scale"]
        decisions.append(Decision("working scale", text, "--scale"))
    return seen._replace(
        pictures=replace(pictures, anew=False),
        decisions=[each for each in decisions if each.flag != "--crop"],
    )


def _surveyed(
    files: Sequence[Path], config: PictureConfig, contents: Contents | None, asked: Asked
) -> Survey:
    return survey(
        files, config, asked.background, asked.object_size, contents=contents, different=DIFFERENT
    )
