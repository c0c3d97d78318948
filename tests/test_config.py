"""Settings: checked when made, and the same after a trip through JSON."""

import json
from dataclasses import FrozenInstanceError, replace

import jaxtyping
import pytest

from airjax.config import (
    AnnealConfig,
    Config,
    EstimatorConfig,
    ModelConfig,
    ProgressConfig,
    TrainConfig,
)
from airjax.config_file import from_json, to_json
from airjax.errors import InputError

INF, NAN = float("inf"), float("nan")
OTHER = Config(
    TrainConfig(data="a.npz", steps=7, learning_rate=0.1 + 0.2, seed=2**32 - 1),
    ModelConfig(
        model_steps=5,
        predict_net=(),
        embed_channels=0,
        embed_net=(3, 4),
        non_linearity="silu",
        decoder_output_use_sigmoid=False,
        pos_prior_mean=-1e-30,
        image_size=(30, 60),
    ),
    EstimatorConfig(particles=3, baselines=False),
    AnnealConfig("exp", 1e-5, 10, 20),
    ProgressConfig(eval_every=7),
)


# rules


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("model_steps", 0, "must be at least 1, got 0"),
        ("window_size", 0, "must be at least 1, got 0"),
        ("encoder_latent_size", 0, "must be at least 1, got 0"),
        ("rnn_hidden_size", -1, "must be at least 1, got -1"),
        ("predict_net", (0,), "must be at least 1, got (0,)"),
        ("encoder_net", (5, 0), "must be at least 1, got (5, 0)"),
        ("decoder_net", (-1, 5), "must be at least 1, got (-1, 5)"),
        ("embed_net", (0,), "must be at least 1, got (0,)"),
        ("embed_channels", -1, "must be at least 0, got -1"),
        ("image_size", (50, 0), "must be at least 1, got (50, 0)"),
        ("z_pres_prior", 0.0, "must be positive, got 0.0"),
        ("z_pres_prior", INF, "must be positive, got inf"),
        ("scale_prior_mean", -3.0, "must be positive, got -3.0"),
        ("scale_prior_sd", 0.0, "must be positive, got 0.0"),
        ("pos_prior_sd", NAN, "must be positive, got nan"),
        ("likelihood_sd", 0.0, "must be positive, got 0.0"),
        ("pos_prior_mean", INF, "must be finite, got inf"),
        ("decoder_output_bias", NAN, "must be finite, got nan"),
        ("baseline_scalar", 0.0, "must be positive, got 0.0"),
        ("bl_predict_net", (3, -1), "must be at least 1, got (3, -1)"),
        ("guide", "mean", "must be one of auto, attend, window, difference, basic, got mean"),
        (
            "non_linearity",
            "cos",
            "must be one of relu, tanh, sigmoid, softplus, elu, gelu, silu, got cos",
        ),
    ],
)
def test_rules_of_the_model(argument, value, rule, monkeypatch):
    # the tests' check of types would come before the rule on names
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as info:
        ModelConfig(**{argument: value})
    assert (info.value.argument, str(info.value)) == (argument, f"{argument} {rule}")


@pytest.mark.parametrize(
    ("argument", "value", "rule"),
    [
        ("steps", 0, "must be at least 1, got 0"),
        ("batch_size", 0, "must be at least 1, got 0"),
        ("learning_rate", 0.0, "must be positive, got 0.0"),
        ("learning_rate", NAN, "must be positive, got nan"),
        ("seed", -1, "must be 0 to 2**32 - 1, got -1"),
        ("seed", 2**32, "must be 0 to 2**32 - 1, got 4294967296"),
        ("estimator", "reinforce", "must be one of count, score, iwae, got reinforce"),
    ],
)
def test_rules_of_training(argument, value, rule, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as info:
        TrainConfig(**{argument: value})
    assert (info.value.argument, str(info.value)) == (argument, f"{argument} {rule}")


@pytest.mark.parametrize(
    ("kind", "argument", "value", "rule"),
    [
        (EstimatorConfig, "particles", 0, "must be at least 1, got 0"),
        (EstimatorConfig, "exploration_steps", 0, "must be at least 1, got 0"),
        (EstimatorConfig, "exploration_floor", 1.0, "must be 0 to 1, got 1.0"),
        (EstimatorConfig, "baseline_learning_rate", -0.1, "must be positive, got -0.1"),
        (AnnealConfig, "anneal_prior", "cos", "must be one of none, lin, exp, got cos"),
        (AnnealConfig, "anneal_prior_to", 0.0, "must be positive, got 0.0"),
        (AnnealConfig, "anneal_prior_begin", -1, "must be at least 0, got -1"),
        (AnnealConfig, "anneal_prior_duration", 0, "must be at least 1, got 0"),
        (ProgressConfig, "progress_every", 0, "must be at least 1, got 0"),
        (ProgressConfig, "eval_every", -5, "must be at least 1, got -5"),
    ],
)
def test_rules_of_the_rest(kind, argument, value, rule, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(InputError) as info:
        kind(**{argument: value})
    assert (info.value.argument, str(info.value)) == (argument, f"{argument} {rule}")


def test_rules_that_need_two_settings():
    with pytest.raises(InputError, match="estimator must be score without masking"):
        Config(TrainConfig(estimator="iwae"), ModelConfig(masking=False))
    with pytest.raises(InputError, match=r"z_pres_prior must be below 1, as raw, got 1\.5"):
        ModelConfig(z_pres_prior=1.5, z_pres_prior_raw=True)
    with pytest.raises(InputError, match="anneal_prior_to must be below 1, as raw, got 2"):
        raw = ModelConfig(z_pres_prior=0.5, z_pres_prior_raw=True)
        Config(model=raw, anneal=AnnealConfig("lin", anneal_prior_to=2.0))


def test_nets_without_hidden_layers_are_allowed():
    nets = ("predict_net", "encoder_net", "decoder_net", "embed_net")
    assert ModelConfig(**dict.fromkeys(nets, ())).decoder_net == ()


def test_replacing_a_setting_checks_it():
    with pytest.raises(InputError, match="model_steps must be at least 1, got 0"):
        replace(ModelConfig(), model_steps=0)


@pytest.mark.parametrize("config", [Config(), ModelConfig(), TrainConfig()])
def test_settings_are_frozen(config):
    with pytest.raises(FrozenInstanceError):
        setattr(config, next(iter(vars(config))), 1)


def test_settings_are_hashable():
    assert len({Config(), Config(), OTHER}) == 2


def test_for_images_changes_nothing_else():
    config = ModelConfig(model_steps=2).for_images((20, 60))
    assert config == ModelConfig(model_steps=2, image_size=(20, 60))


def test_the_window_must_fit_the_images():
    with pytest.raises(InputError) as info:
        ModelConfig().for_images((60, 19))
    assert str(info.value) == "window_size must be at most the images' smaller side, 19, got 20"


# JSON


@pytest.mark.parametrize("config", [Config(), OTHER, OTHER.model, OTHER.train])
def test_json_gives_equal_settings_back(config):
    assert from_json(type(config), to_json(config), "config.json") == config


def test_fields_that_a_file_lacks_have_their_defaults():
    assert from_json(Config, '{"train": {"steps": 5}}', "f") == Config(TrainConfig(steps=5))


def test_a_whole_number_is_a_float_too():
    config = from_json(ModelConfig, '{"scale_prior_mean": 2}', "f")
    assert (config.scale_prior_mean, type(config.scale_prior_mean)) == (2.0, float)


@pytest.mark.parametrize("place", ["top", "train", "model"])
def test_an_unknown_field_is_named(place):
    settings = json.loads(to_json(Config()))
    (settings if place == "top" else settings[place])["modle_steps"] = 3
    with pytest.raises(InputError, match="modle_steps") as info:
        from_json(Config, json.dumps(settings), "config.json")
    assert info.value.argument == "config.json"


def test_a_broken_rule_is_reported_with_file_and_field():
    with pytest.raises(InputError) as info:
        from_json(Config, '{"model": {"model_steps": 0}}', "config.json")
    assert str(info.value) == "config.json: model_steps must be at least 1, got 0"


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "3", '"a"', '{"model": [1]}'])
def test_text_that_is_no_settings_is_an_error(text):
    with pytest.raises(InputError, match=r"^config\.json must hold the settings of a run: "):
        from_json(Config, text, "config.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_steps", "three"),
        ("model_steps", None),
        ("model_steps", [3]),
        ("model_steps", INF),
        ("scale_prior_sd", "wide"),
        ("decoder_net", 200),
        ("decoder_net", ["wide"]),
        ("image_size", [50]),
        ("image_size", [50, 50, 1]),
        ("non_linearity", "cos"),
        ("non_linearity", 3),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error(field, value):
    with pytest.raises(InputError, match=r"^config\.json"):
        from_json(ModelConfig, json.dumps({field: value}), "config.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_steps", 2.7),
        ("model_steps", "3"),
        ("model_steps", True),
        ("scale_prior_sd", "0.2"),
        ("decoder_net", "23"),
        ("decoder_output_use_sigmoid", "false"),
        ("decoder_output_use_sigmoid", 1),
    ],
)
def test_a_value_is_never_bent_into_another(field, value):
    with pytest.raises(InputError, match=r"^config\.json"):
        from_json(ModelConfig, json.dumps({field: value}), "config.json")
