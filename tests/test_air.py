"""AIR with scikit-learn's conventions: parameters, fit, predict, transform, save."""

import dataclasses

import numpy as np
import pytest
from conftest import TINY, eager
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import airjax
from airjax.air import AIR
from airjax.config import Config, ModelConfig, ProgressConfig, TrainConfig
from airjax.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 5, 6)).astype(np.uint8)
CONFIG = Config(
    TrainConfig(steps=12, batch_size=4),
    dataclasses.replace(TINY, z_pres_prior=0.5),
    progress=ProgressConfig(progress_every=4, eval_every=8),
)


def tiny_air(**parameters):
    return AIR(max_objects=2, config=CONFIG, **parameters)


@pytest.fixture(scope="module")
def air():
    """Fitted, and made to find objects."""
    fitted = tiny_air().fit(IMAGES)
    fitted.guide_ = eager(fitted.guide_)
    return fitted


def test_air_is_there_for_all():
    assert airjax.AIR is AIR
    with pytest.raises(AttributeError, match="no attribute 'BIR'"):
        airjax.BIR  # noqa: B018


# scikit-learn's own checks: those that need tables [n_samples, n_features] do not apply to images
APPLY = [
    "check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types",
    "check_estimator_repr", "check_no_attributes_set_in_init", "check_mixin_order",
    "check_parameters_default_constructible", "check_get_params_invariance", "check_set_params",
    "check_estimators_unfitted",
]  # fmt: skip


@pytest.mark.parametrize("name", APPLY)
def test_scikit_learns_checks(name):
    getattr(estimator_checks, name)("AIR", AIR())


def test_what_is_not_fitted_says_so():
    for call in (AIR().predict, AIR().transform, AIR().score):
        with pytest.raises(NotFittedError):
            list(call(IMAGES))
    with pytest.raises(NotFittedError):
        AIR().sample(1)


def test_parameters_are_kept_as_given():
    air = AIR(4, steps=7, learning_rate=0.1, estimator="iwae", second_look=True, random_state=5)
    assert clone(air).get_params() == air.get_params()
    assert air.set_params(steps=8).steps == 8
    settings = air._resolved(np.zeros((2, 50, 50), np.uint8))[0]
    assert (settings.train.steps, settings.train.learning_rate) == (8, 0.1)
    assert (settings.train.estimator, settings.train.seed) == ("iwae", 5)
    assert settings.model.model_steps == 4


def test_unset_parameters_are_the_configs():
    base = Config(TrainConfig(steps=9, estimator="score", learning_rate=0.5))
    train = AIR(config=base)._resolved(np.zeros((2, 50, 50), np.uint8))[0].train
    assert (train.steps, train.estimator, train.learning_rate) == (9, "score", 0.5)
    # another estimator has its own default rate
    assert (
        AIR(config=base, estimator="count")
        ._resolved(np.zeros((2, 50, 50), np.uint8))[0]
        .train.learning_rate
        == 2e-3
    )
    assert AIR()._resolved(np.zeros((2, 50, 50), np.uint8))[0].train.steps == 6000


def test_fit_gives_itself_with_a_history():
    air = tiny_air().fit(IMAGES)
    again = tiny_air()
    assert again.fit(IMAGES) is again
    assert [row["step"] for row in again.history_] == [4, 8, 12]
    assert "test_elbo" in again.history_[-1] and again.restarts_ == 0
    assert "trained for 12 steps" in str(again) and "AIR(" in str(again)
    found, same = air.predict(IMAGES).reading, again.predict(IMAGES).reading
    np.testing.assert_array_equal(found.z_what, same.z_what)
    other = tiny_air(random_state=1).fit(IMAGES).predict(IMAGES).reading
    assert not np.array_equal(found.z_what, other.z_what)


@pytest.mark.parametrize("kind", [int, np.int64, np.int32, np.float64, float])
def test_numbers_of_any_type_are_the_same_settings(kind, tmp_path):
    """`GridSearchCV` over np.arange hands out NumPy's."""
    given = {"max_objects": 2, "steps": 4, "random_state": 3, "num_paths": 1}
    air = tiny_air().set_params(**{name: kind(value) for name, value in given.items()})
    assert air._resolved(IMAGES) == tiny_air().set_params(**given)._resolved(IMAGES)
    air.fit(IMAGES).save(tmp_path / "model")
    assert AIR.load(tmp_path / "model").model.config.model_steps == 2
    air.predict(IMAGES[:2])


@pytest.mark.parametrize("state", [None, np.random.RandomState(3), np.random.default_rng(0)])
def test_random_states_of_scikit_learn(state):
    first, second = (tiny_air(random_state=state)._resolved(IMAGES)[0].train.seed for _ in "12")
    assert first != second


def test_a_callback_sees_every_row_and_can_end_the_training():
    rows = []

    def callback(row):
        rows.append(row)
        return row["step"] == 8

    air = tiny_air().fit(IMAGES, validation_images=IMAGES[:7] / 255, callback=callback)
    assert [row["step"] for row in rows] == [4, 8] and air.history_ == rows
    assert len(air.predict(IMAGES)) == 30


def test_a_collapse_is_tried_again_and_reported_if_it_is_the_last(monkeypatch):
    monkeypatch.setattr(
        "airjax.training.loop.collapse", lambda rows, *_: "bad" if len(rows) >= 2 else None
    )
    rows = []
    with pytest.warns(ConvergenceWarning, match="this training has collapsed: bad"):
        air = tiny_air().fit(IMAGES, callback=rows.append)
    assert air.restarts_ == CONFIG.tries.restarts
    assert [row["step"] for row in rows] == [4, 8] * air.restarts_ + [4, 8, 12]


def test_who_stops_a_collapsed_training_has_it(monkeypatch):
    monkeypatch.setattr("airjax.training.loop.collapse", lambda rows, *_: "bad")
    with pytest.warns(ConvergenceWarning, match="bad"):
        air = tiny_air().fit(IMAGES, callback=lambda row: True)
    assert air.restarts_ == 0 and [row["step"] for row in air.history_] == [4]


def test_predictions_have_their_shapes(air):
    scenes = air.predict(IMAGES)
    assert scenes.counts.max() > 0
    config = air.model.config
    t, z, w = config.model_steps, config.encoder_latent_size, config.window_size
    assert scenes.counts.shape == (30,) and scenes.count_probs.shape == (30, t + 1)
    assert scenes.window_boxes.shape == scenes.tight_boxes.shape == (30, t, 4)
    assert scenes.z_what.shape == (30, t, z) and scenes.z_where.shape == (30, t, 3)
    assert scenes.windows.shape == (30, t, w, w) and scenes.reconstructions.shape == (30, 5, 6)
    np.testing.assert_allclose(scenes.count_probs.sum(1), 1, rtol=1e-5)
    absent = ~scenes.present
    assert (scenes.window_boxes[absent] == -1).all() and (scenes.z_what[absent] == 0).all()
    assert len(scenes[:4]) == 4 and "Scenes of 30 images" in repr(scenes)
    assert scenes._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow  # compiles much
def test_predictions_are_those_of_read(air):
    from airjax.inference.infer import read

    scenes, reading = air.predict(IMAGES), read(air.model, air.guide, IMAGES, 0, air.num_paths)
    np.testing.assert_allclose(scenes.count_probs, reading.count_probs, atol=1e-6)
    np.testing.assert_allclose(scenes.reconstructions, reading.reconstruction, atol=1e-5)
    np.testing.assert_allclose(air.score(IMAGES), np.mean(reading.elbo), rtol=1e-5)


def test_predictions_do_not_depend_on_the_form_of_the_images(air, tmp_path):
    whole = air.predict(IMAGES)
    np.save(tmp_path / "images.npy", IMAGES)
    forms = {
        "floats": [air.predict(IMAGES / 255)],
        "channel": [air.predict(IMAGES[..., None])],
        "generator": [air.predict(image for image in IMAGES)],
        "memory map": [air.predict(np.load(tmp_path / "images.npy", mmap_mode="r"))],
        "batches": list(air.predict_batches(IMAGES, 7)),
    }
    for scenes in forms.values():
        probs = np.concatenate([s.count_probs for s in scenes])
        np.testing.assert_allclose(probs, whole.count_probs, atol=1e-6)
        codes = np.concatenate([s.z_what for s in scenes])
        np.testing.assert_allclose(codes, whole.z_what, atol=1e-5)
    assert [len(scenes) for scenes in forms["batches"]] == [7, 7, 7, 7, 2]


def test_codes_go_before_a_classifier(air):
    names = air.get_feature_names_out()
    assert air.transform(IMAGES).shape == (30, len(names)) == (30, 2 * (1 + 3 + 2))
    assert names[0] == "z_pres_0" and names[-1] == "z_what1_1"
    pipeline = make_pipeline(tiny_air(), LogisticRegression()).fit(IMAGES, np.arange(30) % 2)
    assert pipeline.predict(IMAGES).shape == (30,)


def test_a_saved_air_finds_the_same(air, tmp_path):
    air.save(tmp_path / "model")
    again = AIR.load(tmp_path / "model")
    np.testing.assert_array_equal(again.transform(IMAGES), air.transform(IMAGES))
    assert again.max_objects == 2
    with pytest.raises(InputError, match="nothing is overwritten"):
        air.save(tmp_path / "model")


def test_samples_are_scenes(air):
    samples = air.sample(5)
    assert samples.shape == (5, 5, 6) and np.isfinite(samples).all()
    np.testing.assert_array_equal(samples, air.sample(5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda a: a.predict(IMAGES[0]),
            "X must have shape [N, H, W] or [N, H, W, C], all at least 1, got [5, 6]",
        ),
        (
            lambda a: a.predict(IMAGES[:0]),
            "X must have shape [N, H, W] or [N, H, W, C], all at least 1",
        ),
        (lambda a: a.predict([]), "X must have shape [N, H, W] or [N, H, W, C], all at least 1"),
        (
            lambda a: a.predict(IMAGES / 100),
            "X must be integers from 0 to 255, or floats in [0, 1], got float64 from 0 to 2.55; "
            "divide by what is white: X / 2.55",
        ),
        (
            lambda a: a.predict(IMAGES * np.uint16(16)),
            "X must be integers from 0 to 255, or floats in [0, 1], got uint16 from 0 to 4080; "
            "divide by what is white: X / 4080",
        ),
        (lambda a: a.predict(IMAGES[:, :4]), "X must have images of the model's size (5, 6)"),
        (lambda a: a.predict(iter([IMAGES[0], IMAGES[0].T])), "X must hold images of one size"),
        (lambda a: a.score(IMAGES[:, :4]), "X must have images of the model's size (5, 6)"),
        (lambda a: list(a.predict_batches(IMAGES, 0)), "batch_size must be at least 1, got 0"),
        (lambda a: a.sample(0), "n_samples must be at least 1, got 0"),
        (lambda a: a.set_params(num_paths=0).predict(IMAGES), "num_paths must be at least 1"),
        (lambda a: tiny_air(steps=0).fit(IMAGES), "steps must be at least 1, got 0"),
        (
            lambda a: AIR().set_params(max_objects=3.5).fit(IMAGES),
            "max_objects must be a whole number, got 3.5",
        ),
        (
            lambda a: tiny_air().set_params(steps="100").fit(IMAGES),
            "steps must be a whole number, got 100",
        ),
        (
            lambda a: tiny_air().set_params(random_state="x").fit(IMAGES),
            "random_state must be a whole number",
        ),
        (lambda a: AIR(0).fit(IMAGES), "max_objects must be at least 1, got 0"),
        (
            lambda a: AIR(config=Config(model=ModelConfig(window_size=6))).fit(IMAGES),
            "window_size must be at most the images' smaller side, 5",
        ),
        (lambda a: tiny_air(random_state=-1).fit(IMAGES), "seed must be 0 to 2**32 - 1, got -1"),
        (
            lambda a: tiny_air().fit(IMAGES, validation_images=IMAGES[:, :4]),
            "validation_images must have the size of X, (5, 6), got (4, 6)",
        ),
    ],
)
def test_mistakes_are_reported(call, message, air):
    copy = AIR.of(air.model, air.guide)
    with pytest.raises(InputError) as info:
        call(copy)
    assert str(info.value).startswith(message)


@pytest.mark.slow
def test_colours_all_the_way(tmp_path):
    images = np.random.default_rng(0).random((30, 5, 6, 3))
    fitted = tiny_air(steps=4).fit(images)
    fitted.guide_ = eager(fitted.guide_)
    scenes = fitted.predict(images)
    assert scenes.reconstructions.shape == images.shape
    assert scenes.windows.shape == (30, 2, 3, 3, 3)
    assert scenes._repr_png_()[:4] == b"\x89PNG"
    assert fitted.sample(2).shape == (2, 5, 6, 3)
    fitted.save(tmp_path / "model")
    again = AIR.load(tmp_path / "model").predict(images)
    np.testing.assert_array_equal(scenes.reconstructions, again.reconstructions)
    with pytest.raises(InputError, match=r"X must have images of the model's size \(5, 6, 3\)"):
        fitted.predict(images[..., 0])


def test_the_size_of_objects_sets_the_prior():
    """Of any size that is given; of the paper's settings also if none is."""
    images = np.zeros((12, 40, 60), np.uint8)
    for i, image in enumerate(images):
        image[3 * i : 3 * i + 10, i : i + 6] = 255
    for size, scale in ((None, 40 / 13), ("auto", 40 / 13), (20.0, 40 / 26)):
        config = AIR(object_size=size)._resolved(images)[0].model
        assert config.scale_prior_mean == pytest.approx(scale, rel=1e-3)
    own = dataclasses.replace(CONFIG, model=dataclasses.replace(TINY, window_size=7))
    assert AIR(config=own)._resolved(images)[0].model.window_size == 7
    with pytest.raises(InputError, match="object_size must be left out where scale_prior_mean is"):
        own = Config(model=dataclasses.replace(TINY, scale_prior_mean=4.0, window_size=20))
        AIR(config=own, object_size=9.0)._resolved(images)[0]
