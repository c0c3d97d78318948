"""A training that begins with the networks of another run, or of a ready model, instead of freshly
drawn ones: what its settings become."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax

from airjax.config import Config, EstimatorConfig, ModelConfig
from airjax.console import Decision
from airjax.errors import InputError
from airjax.programs.guide import Guide
from airjax.programs.model import Model

STEPS = 2000  # where nothing else is given
EXPLORING = 1  # steps in which the exploration of counts falls to its floor
# taken from the networks, unless they are given
OPEN = (
    "window_size", "encoder_latent_size", "rnn_hidden_size", "predict_net", "encoder_net",
    "decoder_net", "embed_net", "non_linearity", "decoder_output_use_sigmoid",
    "decoder_output_bias",
)  # fmt: skip
SAME = ("guide", "compose", "channels")  # decided from the images
OF_IMAGES = ("embed_channels", "image_size")  # that guides other than attend depend on


def begun_with(
    start: ModelConfig,
    asked: Config,
    decided: Config,
    decisions: list[Decision],
    given: Collection[str] = (),
) -> tuple[Config, list[Decision]]:
    """The settings of a training that begins with networks. The sizes of networks are theirs, and
    there are fewer steps, with less exploration.

    Args:
        start: of the networks.
        asked: settings as given.
        decided: settings decided from the images.
        decisions: made from the images.
        given: settings of the model that are kept even if they are the defaults.

    Raises:
        InputError: if the settings need other networks; it names ``from`` and the first of them.
    """
    taken: dict[str, Any] = {}
    for name in OPEN:
        is_open = getattr(asked.model, name) == getattr(ModelConfig, name) and name not in given
        if is_open:
            taken[name] = getattr(start, name)
    model = replace(decided.model, **taken)
    for name in (*OPEN, *SAME, *(OF_IMAGES if model.guide != "attend" else ())):
        here, there = getattr(model, name), getattr(start, name)
        if here != there:
            setting = name.replace("_", " ")
            rule = "must be a run whose networks fit; what differs is"
            raise InputError("from", f"{rule} {setting}: {there} there, {here} here")
    model = model.for_images(model.image_shape)  # whether the window is not larger
    train, estimator, dropped = decided.train, decided.estimator, {"--encoder-latent-size"}
    made = [Decision("code", f"{model.encoder_latent_size} numbers an object, as before",
                     "--encoder-latent-size")]  # fmt: skip
    if asked.train.steps is None:
        dropped.add("--steps")
        train = replace(train, steps=STEPS)
        made.append(Decision("steps", str(STEPS), "--steps"))
    if asked.estimator.exploration_steps == EstimatorConfig.exploration_steps:
        estimator = replace(estimator, exploration_steps=EXPLORING)
    kept = [each for each in decisions if each.flag not in dropped]
    return replace(decided, model=model, train=train, estimator=estimator), [*kept, *made]


def with_networks(programs: tuple[Model, Guide], start: tuple[Model, Guide]) -> tuple[Model, Guide]:
    """Programs with the networks of others, of the same sizes. The likelihood stays."""
    (model, guide), (its_model, its_guide) = programs, start
    decoder = _filled(model.decoder, its_model.decoder)
    networks = _filled(guide.networks, its_guide.networks)
    return replace(model, decoder=decoder), replace(guide, networks=networks, decoder=decoder)


def _filled(like: Any, other: Any) -> Any:
    """A tree of networks with the arrays of another one."""
    arrays, rest = eqx.partition(like, eqx.is_array)
    leaves = jax.tree.leaves(eqx.filter(other, eqx.is_array))
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), rest)
