"""Objects that hide what is behind them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from numpyro import handlers
from test_elbo import each_count_alone, trace

from airjax.air import AIR
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.programs.colour import colour_at, matte
from airjax.programs.compose import composed, on_background, without_opacity
from airjax.programs.elbo import CountELBO
from airjax.programs.model import presence_probs
from airjax.programs.networks import LOGIT_SD, code_of
from airjax.programs.untrained import untrained
from airjax.training.resolve import resolved

OVER = dataclasses.replace(TINY, compose="over", model_steps=3, encoder_latent_size=5)
SHAPES = {1: (3, 5, 6), 3: (3, 5, 6, 3)}  # of images, by channels


def programs(channels, guide="attend", background="none"):
    """Untrained programs, and random images."""
    config = dataclasses.replace(OVER, channels=channels, guide=guide, background=background)
    images = np.random.default_rng(1).integers(0, 256, SHAPES[channels]).astype(np.uint8)
    model, guide = untrained(config, 0)
    likelihood = model.likelihood.with_mean_of(images)
    unit = jnp.asarray(images, jnp.float32) / 255
    return *(dataclasses.replace(p, likelihood=likelihood) for p in (model, guide)), unit


def painted(objects, on, background):
    """The image by the painter's algorithm, from the last object to the first, pixel by pixel."""
    image = np.array(background, float)
    for t in reversed(range(len(objects))):
        for y, x in np.ndindex(image.shape[:2]):
            *colours, opacity = objects[t, y, x]
            seen = np.array(colours) + (1 - opacity) * np.atleast_1d(image[y, x])
            image[y, x] = (seen if image.ndim == 3 else seen[0]) if on[t] else image[y, x]
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("black", [True, False])
def test_objects_hide_those_of_later_steps(channels, black):
    random = np.random.default_rng(0)
    opacity = random.random((4, 5, 6, 1))
    objects = np.concatenate([opacity * random.random((4, 5, 6, channels)), opacity], axis=-1)
    b = np.zeros(SHAPES[channels][1:]) if black else random.random(SHAPES[channels][1:])
    on = np.array([True, False, True, True])
    canvas = composed("over", jnp.asarray(objects, jnp.float32), jnp.asarray(on))
    mean = on_background("over", canvas, None if black else jnp.asarray(b, jnp.float32))
    np.testing.assert_allclose(mean, painted(objects, on, b), atol=1e-6)
    looks = without_opacity("over", canvas)
    np.testing.assert_allclose(looks, painted(objects, on, 0 * b), atol=1e-6)


@pytest.mark.slow  # compiles much
@pytest.mark.parametrize("background", ["none", "mean", "learned"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_program_draws_what_is_painted(channels, background):
    model, guide, images = programs(channels, background=background)
    b = model.likelihood.clipped_background
    values = {k: v["value"] for k, v in trace(handlers.seed(guide, 3), images).items()
              if v["type"] == "sample"}  # fmt: skip
    values |= {f"z_pres_{t}": jnp.array([1.0, float(t < 2), 0.0]) for t in range(3)}
    found = trace(handlers.substitute(handlers.seed(model, 0), values), images)
    mean = np.asarray(found["obs"]["fn"].mean)
    for i, n in enumerate((3, 2, 1)):
        on = [float(values[f"z_pres_{t}"][i]) == 1 for t in range(3)]
        objects = np.stack([found[f"y_{t}"]["value"][i] for t in range(3)])
        assert objects.shape[-1] == channels + 1 and (objects >= 0).all()
        assert (objects[..., :-1] <= objects[..., -1:] + 1e-6).all()  # colours times opacity
        empty = np.zeros(images.shape[1:]) if b is None else np.asarray(b)
        np.testing.assert_allclose(mean[i], painted(objects, on, empty), atol=1e-5)
        assert n >= sum(on)


@pytest.mark.parametrize("background", ["none", "learned"])
@pytest.mark.parametrize("guide", ["attend", "window"])
def test_the_elbo_is_the_sum_over_counts(guide, background):
    """For every draw of the noise, each count by a run of its own."""
    model, guide, images = programs(3, guide, background)

    brute_force = jax.jit(lambda key: each_count_alone(model, guide, images, 3, key))
    per_image = jax.jit(lambda key: CountELBO().per_image(key, {}, model, guide, images))
    for key in jax.random.split(jax.random.key(0), 5):
        np.testing.assert_allclose(per_image(key), brute_force(key), rtol=2e-4)


def test_what_has_the_attended_colour_is_explained_in_the_window():
    """However faintly the object is drawn; what has another colour, or is elsewhere, is not."""
    config = dataclasses.replace(
        OVER, guide="attend", image_size=(24, 24), channels=3, window_size=6
    )
    _, guide = untrained(config, 0)
    guide = eqx.tree_at(lambda g: g.decoder, guide, lambda z: jnp.zeros((len(z), 6, 6, 4)))
    images = jnp.zeros((1, 24, 24, 3)).at[:, 4:8, 4:8].set(jnp.array([0.9, 0.1, 0.1]))
    images = images.at[:, 6:10, 8:12].set(jnp.array([0.2, 0.2, 0.8])).at[:, 18, 18].set(0.9)
    _, start = guide.start(guide.networks, images)
    place, h, _ = guide.attend(guide.networks, images, jnp.zeros((1, 0)), start)
    z_where = jnp.insert(-2 * place, 0, 2.0, axis=-1)
    colour = np.asarray(guide.attended(h)[0])
    left, canvas = guide.explained(start, images, h, z_where, jnp.zeros((1, 5)))
    gone = (np.asarray(images) == colour).all(-1)
    assert 0 < gone.sum() < 33 and canvas is None
    np.testing.assert_allclose(np.asarray(left)[gone], 0, atol=1e-6)
    others = ~gone[..., None] * np.asarray(images)
    np.testing.assert_allclose(np.asarray(left)[0], others[0], atol=0.05)


def test_what_an_object_covers_is_explained():
    _, guide, images = programs(3)
    opacity = jnp.array([0.0, 0.4, 1.0])

    def decoded(z_what):
        return opacity[:, None, None, None] * jnp.ones((3, *guide.config.object_shape))

    guide = eqx.tree_at(lambda g: g.decoder, guide, decoded)
    _, start = guide.start(guide.networks, images)
    z_where = jnp.tile(jnp.array([0.5, 0.0, 0.0]), (3, 1))  # a window wider than the image
    h = jnp.full((3, guide.config.rnn_hidden_size + 3), -9.0)  # a colour that no pixel has
    left, _ = guide.explained(start, images, h, z_where, jnp.zeros((3, 5)))
    expected = (1 - opacity)[:, None, None, None] * images
    np.testing.assert_allclose(left, expected, atol=1e-5)


def overlapping(number, seed):
    """Up to two squares, red and blue: one may hide a part of the other."""
    random = np.random.default_rng(seed)
    images = np.full((number, 24, 24, 3), 120, np.uint8)
    for image, count in zip(images, random.integers(0, 3, number), strict=True):
        top, left = random.integers(1, 14, 2)
        for k in range(count):
            y, x = np.clip((top, left) + k * random.integers(3, 6, 2), 0, 16)
            image[y : y + 8, x : x + 8] = ((200, 30, 30), (30, 30, 200))[random.integers(2)]
    return images


@pytest.mark.slow
def test_a_training_with_all_that_shows_its_results(tmp_path):
    """On a grey background: objects are darker and brighter than it."""
    images = overlapping(80, 0)
    model = ModelConfig(
        compose="over", background="mean", encoder_latent_size=4, predict_net=(8,),
        encoder_net=(8,), decoder_net=(8,), embed_net=(8,),
    )  # fmt: skip
    air = AIR(2, object_size=8.0, steps=6, config=Config(model=model)).fit(images)
    scenes = air.predict(images[:6])
    assert scenes.reconstructions.shape == (6, 24, 24, 3) and scenes.windows.shape[-1] == 3
    again = AIR.of(air.model, air.guide, second_look=True).predict(images[:2])
    assert again.counts.shape == (2,)
    never = AIR.of(air.model, air.guide, second_look=False).predict(images[:6])
    np.testing.assert_array_equal(never.count_probs, scenes.count_probs)
    air.save(tmp_path / "air")
    again = AIR.load(tmp_path / "air").predict(images[:6])
    np.testing.assert_array_equal(again.reconstructions, scenes.reconstructions)
    assert presence_probs(air.model.config).shape == (2,)


def test_pictures_of_any_size_are_read_with_sums():
    config = Config(TrainConfig(), ModelConfig(compose="over"), pictures=PictureConfig(crop=24))
    with pytest.raises(
        InputError,
        match=r"compose must be add with crops, .* --crop 0 trains on whole images, got over",
    ):
        resolved(config, np.random.default_rng(0).integers(0, 256, (20, 24, 24)).astype(np.uint8))


def test_the_colour_of_an_object_is_read_off_the_image():
    config = ModelConfig(compose="over", guide="attend", background="flat", image_size=(40, 40),
                         channels=3, window_size=20, scale_prior_mean=2.0)  # fmt: skip
    colours = np.array([[0.9, 0.2, 0.1], [0.1, 0.3, 0.35], [0.5, 0.5, 0.5]])
    b = np.array([0.2, 0.3, 0.7])
    images = np.broadcast_to(b, (3, 40, 40, 3)).copy()
    images[:, 14:26, 16:24] = colours[:, None, None]
    guide = untrained(config, 0)[1].of(jnp.asarray(images, jnp.float32))
    seen = guide.likelihood.foreground(jnp.asarray(images, jnp.float32))
    z_where = jnp.tile(jnp.array([2.0, 0.0, 0.0]), (3, 1))
    h = guide.features(guide.networks, seen, seen, jnp.zeros((3, 2)))
    loc, _ = guide.encode(guide.networks, h, z_where, seen, seen)
    read = jax.nn.sigmoid(LOGIT_SD * loc[:, -3:])
    np.testing.assert_allclose(read, colours, atol=0.06)  # the untrained network adds a little


def test_scenes_are_drawn_over_their_own_backgrounds():
    config = ModelConfig(
        compose="over", guide="attend", background="flat", image_size=(40, 40), channels=3,
        window_size=20, scale_prior_mean=2.0, model_steps=1,
    )  # fmt: skip
    images = np.zeros((2, 40, 40, 3), np.uint8)
    images[0], images[1] = (200, 30, 60), (10, 90, 220)
    images[:, 15:25, 15:25] = 128
    scenes = AIR.of(*untrained(config, 0), second_look=False).predict(images)
    np.testing.assert_allclose(scenes.reconstructions[:, 0, 0], images[:, 0, 0] / 255, atol=1e-5)


@pytest.mark.parametrize("colour", [0.02, 0.3, 0.98])
def test_a_colour_has_one_code(colour):
    code = code_of(jnp.full((1, 3), colour))
    np.testing.assert_allclose(jax.nn.sigmoid(LOGIT_SD * code), colour, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_matte_is_the_opacity_of_what_has_the_colour(channels):
    """Over the background, however near to it the colour is; not of what has another colour."""
    colour, other = jnp.array([[0.3, -0.2, 0.1]])[:, :channels], jnp.array([-0.4, 0.3, 0.5])
    opacity = jnp.linspace(0, 1, 12).reshape(1, 3, 4)
    images = opacity[..., None] * colour
    mixed = jnp.concatenate([images, jnp.broadcast_to(other[:channels], images.shape)], axis=1)
    mixed = mixed[..., 0] if channels == 1 else mixed
    seen = matte(mixed, colour)
    np.testing.assert_allclose(seen[:, :3], opacity, atol=0.01)
    np.testing.assert_allclose(seen[:, 3:], 0, atol=1e-3)


def test_the_colour_of_the_largest_residual_near_the_place_is_attended_to():
    images = jnp.zeros((1, 20, 20, 3)).at[:, 4, 5].set(jnp.array([0.1, -0.6, 0.2]))
    images = images.at[:, 6, 6].set(0.5).at[:, 15, 15].set(0.9)
    place, explained = jnp.array([[-0.45, -0.5]]), jnp.ones_like(images).at[:, 4, 5].set(0)
    np.testing.assert_allclose(colour_at(place, 4.0, images, images)[0], [0.1, -0.6, 0.2])
    np.testing.assert_allclose(colour_at(place, 4.0, images, images * explained)[0], 0.5)


def test_an_object_has_more_than_its_colour():
    with pytest.raises(InputError, match="encoder_latent_size must be above 3, the colours"):
        dataclasses.replace(OVER, encoder_latent_size=3, channels=3)
