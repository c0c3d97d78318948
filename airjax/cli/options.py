"""The flags of settings: made from the fields of the config classes, in groups for their
readers."""

import dataclasses
from dataclasses import field, make_dataclass
from typing import Annotated, Any, get_args, get_type_hints

import docstring_parser
import tyro

from airjax.config import Config, ModelConfig
from airjax.data import DATASETS
from airjax.data.composer import SceneConfig

ALIASES = {
    "model_steps": ("-t", "--model-steps"),
    "steps": ("-n",),
    "batch_size": ("-b",),
    "learning_rate": ("-lr",),
    "baseline_learning_rate": ("-blr",),
}
METAVARS = {"likelihood_sd": "FLOAT|auto|learned", "steps": "INT", "learning_rate": "FLOAT",
            "crop": "INT", "size": "HxW", "scale": "FLOAT|picture",
            "model_steps": "INT", "z_pres_prior": "FLOAT", "encoder_latent_size": "INT",
            "channel": "NAME|N", "compose": "{add,over}"}  # fmt: skip
DECIDED = {  # settings that are decided where they are not given, even as their default
    "model_steps": "(default: as many as pictures show, at most 10; otherwise 3)",
    "compose": "(default: over where background is flat, otherwise add)",
    "z_pres_prior": "(default: 0.1 in crops of pictures, otherwise 0.01)",
    "encoder_latent_size": "(default: 8 to 50 in crops, by the detail of objects; otherwise 50)",
}
SCENE_METAVARS: dict[Any, str] = {int: "INT", float: "FLOAT", tuple[int, ...]: "INT [INT ...]",
                                  tuple[float, ...]: "FLOAT [FLOAT ...]"}  # fmt: skip
FIRST = (
    "model_steps", "background", "steps", "seed", "seeds", "tensorboard",
    "channel", "normalise", "invert", "size", "scale", "crop", "pages",
)  # fmt: skip
GROUPS = {
    "training": (
        "How it is trained.",
        "batch_size", "stream", "learning_rate", "estimator", "particles", "exploration_steps",
        "exploration_floor", "restarts", "progress_every", "eval_every", "save_every",
    ),
    "model": (
        "The generative model, its priors, and the guide.",
        "guide", "compose", "likelihood_sd", "z_pres_prior", "scale_prior_mean", "scale_prior_sd",
        "pos_prior_mean", "pos_prior_sd",
    ),
    "network": (
        "Sizes of the networks.",
        "window_size", "encoder_latent_size", "rnn_hidden_size", "predict_net", "encoder_net",
        "decoder_net", "embed_channels", "embed_net", "non_linearity",
    ),
    "paper": (
        "Variants of the paper and of the Pyro tutorial.",
        "z_pres_prior_raw", "masking", "decoder_output_bias", "decoder_output_use_sigmoid",
        "baselines", "baseline_learning_rate", "bl_predict_net", "baseline_scalar",
        "anneal_prior", "anneal_prior_to", "anneal_prior_begin", "anneal_prior_duration",
    ),
}  # fmt: skip
PART_OF = {  # the part of the config that each setting is in
    setting.name: part.name
    for part in dataclasses.fields(Config)
    for setting in dataclasses.fields(getattr(Config(), part.name))
}


def options(base: Config, arguments: type, **groups_after: type) -> type:
    """A dataclass whose fields are flags: those of ``arguments``, and the settings.

    Args:
        base: the config that the defaults are taken from.
        arguments: a dataclass of the flags that are not settings.
        groups_after: further groups of such flags, behind the settings.
    """
    groups = []
    for name, (about, *settings) in GROUPS.items():
        group = make_dataclass(name, [_flag(base, setting) for setting in settings], frozen=True)
        group.__doc__ = about
        groups.append((name, group, field(default_factory=group)))
    groups += [(name, more, field(default_factory=more)) for name, more in groups_after.items()]
    first = [_flag(base, setting) for setting in FIRST]
    made = make_dataclass(arguments.__name__, [*first, *groups], bases=(arguments,), frozen=True)
    made.__doc__ = arguments.__doc__
    return made


def config_of(flags: Any, base: Config) -> Config:
    """The config that the flags ask for.

    Args:
        flags: an instance of a class that `options` made.
        base: the config that its defaults were taken from.

    Raises:
        InputError: if a setting breaks a rule.
    """
    values = _values(flags)
    for name in DECIDED:
        values[name] = getattr(base.model, name) if values[name] is None else values[name]
    parts: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        parts.setdefault(PART_OF[name], {})[name] = value
    changed = {k: dataclasses.replace(getattr(base, k), **v) for k, v in parts.items()}
    return dataclasses.replace(base, **changed)


def given(flags: Any) -> frozenset[str]:
    """Those settings in ``DECIDED`` that the flags have."""
    values = _values(flags)
    return frozenset(name for name in DECIDED if values[name] is not None)


def _values(flags: Any) -> dict[str, Any]:
    """All settings as flags; None where one is decided from the data."""
    values = {name: getattr(flags, name) for name in FIRST}
    for name, (_, *settings) in GROUPS.items():
        values |= {setting: getattr(getattr(flags, name), setting) for setting in settings}
    return values


def scene_options() -> type:
    """A dataclass whose fields are the settings of composed scenes, None where not given."""
    types, texts = get_type_hints(SceneConfig), _texts(SceneConfig)

    flags: list[Any] = []
    for name, kind in types.items():
        values = {key: _shown(getattr(known.scenes, name)) for key, known in DATASETS.items()}
        default, *others = dict.fromkeys(values.values())  # that of digits, then all others
        for other in others:
            keys = ", ".join(key for key, value in values.items() if value == other)
            default += f"; {keys}: {other}"
        choices = "{" + ",".join(map(str, get_args(kind))) + "}"
        arg = tyro.conf.arg(
            metavar=SCENE_METAVARS.get(kind, choices),
            help=texts[name],
            help_behavior_hint=f"(default: {default})",
        )
        flags.append((name, Annotated[kind | None, arg], None))
    made = make_dataclass("scenes", flags, frozen=True)
    made.__doc__ = "How scenes are composed."
    return made


def _flag(base: Config, name: str) -> tuple[str, Any, Any]:
    """A field of a dataclass that tyro makes a flag of."""
    part = getattr(base, PART_OF[name])
    value, kind = getattr(part, name), get_type_hints(type(part))[name]
    if name in DECIDED and value == getattr(ModelConfig, name):
        value, kind = None, kind | None
    arg = tyro.conf.arg(
        name="max-objects" if name == "model_steps" else None,
        aliases=ALIASES.get(name),
        metavar=METAVARS.get(name),
        help=_texts(type(part))[name],
        help_behavior_hint=DECIDED.get(name, "") if value is None else None,
    )
    return name, Annotated[kind, arg], value


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _texts(config: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    params = docstring_parser.parse(config.__doc__ or "").params
    texts = {p.arg_name: " ".join((p.description or "").split()) for p in params}
    return {  # "k, the ratio" stays as it is
        name: text if text[1:2] == "," else text[:1].upper() + text[1:]
        for name, text in texts.items()
    }
