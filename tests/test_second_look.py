"""The second look: a model that is known, and a guide that takes two close objects for one."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY, mistake
from numpyro import handlers
from PIL import Image
from scipy import stats
from scipy.optimize import minimize

from airjax.air import AIR
from airjax.config import Config, ModelConfig, TrainConfig
from airjax.errors import InputError
from airjax.inference import infer, second_look
from airjax.inference.explained import unexplained
from airjax.inference.infer import read
from airjax.inference.reading import Reading
from airjax.inference.second_look import APART, Explainer, refined
from airjax.programs.compose import composed
from airjax.programs.model import where_prior
from airjax.programs.spatial import window_to_image
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

SIZE, STEPS, WINDOW = (24, 30), 3, 7
CONFIG = ModelConfig(
    background="none",
    model_steps=STEPS, z_pres_prior=0.3, window_size=WINDOW, image_size=SIZE, guide="attend",
    scale_prior_mean=4.0, likelihood_sd=0.1, encoder_latent_size=2, rnn_hidden_size=4,
    predict_net=(4,), encoder_net=(4,), decoder_net=(4,), embed_channels=0, embed_net=(4,),
)  # fmt: skip
UNSURE = jnp.log(jnp.array([0.002, 0.99, 0.006, 0.002]))  # nearly sure of one object


def constant(mlp, values):
    """A network that says the same of everything."""
    last = mlp.layers[-1]
    new = (jnp.zeros_like(last.weight), jnp.asarray(values))
    return eqx.tree_at(lambda m: (m.layers[-1].weight, m.layers[-1].bias), mlp, new)


@pytest.fixture(scope="module")
def blobs():
    """A model that draws round blobs, and a guide that puts one where most of the image is left."""
    model, guide = untrained(CONFIG, 0)
    u = np.linspace(-1, 1, WINDOW)
    blob = np.clip(0.9 * np.exp(-4 * (u[:, None] ** 2 + u**2)), 0.01, 0.99).ravel()
    logits = np.log(blob / (1 - blob)) - CONFIG.decoder_output_bias
    model = eqx.tree_at(lambda m: m.decoder.mlp, model, constant(model.decoder.mlp, logits))
    one, tenth = np.log(np.expm1([1.0, 0.1]))
    encoder, predict = guide.networks.encoder.mlp, guide.networks.predict.mlp
    said = [np.float32([0, 0, one, one]), np.float32([0, 0, 0, 0, tenth, tenth, tenth])]
    new = (constant(encoder, said[0]), constant(predict, said[1]))
    return model, eqx.tree_at(
        lambda g: (g.networks.encoder.mlp, g.networks.predict.mlp), guide, new
    )


def drawn(model, *places):
    """An image of blobs around places (u, v) in [-1, 1]."""
    s = CONFIG.scale_prior_mean
    where = jnp.array([[s, -s * u, -s * v] for u, v in places])
    objects = window_to_image(where, model.decoder(jnp.zeros((len(places), 2))), SIZE)
    return jnp.clip(objects.sum(0), 0, 1)


@pytest.fixture(scope="module")
def look(blobs):
    return jax.jit(lambda image, log_q: refined(*blobs, image, log_q))


CLOSE = [(-0.11, 0.05), (0.11, 0.1)]


@pytest.mark.parametrize(
    "places",
    [
        [(0.3, -0.2)], CLOSE, [(-0.3, 0.1), (-0.38, 0.42)], [(0.6, -0.5), (-0.5, 0.6)],
        [(0.0, 0.0), (0.0, -0.22)],
    ],
)  # fmt: skip
def test_one_object_stays_one_and_two_are_separated(blobs, look, places):
    image = drawn(blobs[0], *places)
    probs, found = look(image, UNSURE)
    assert probs.argmax() == len(places)
    centres = np.asarray(-found.z_where[:, 1:] / found.z_where[:, :1])[: len(places)]
    nearest = np.abs(centres[:, None] - np.array(places)).max(-1)
    assert nearest.min(0).max() < 0.1  # a window is half as wide as that of 0.25
    error = np.abs(composed("add", found.y, jnp.arange(STEPS) < len(places)) - image)
    assert error.mean() < 0.02


def test_a_third_object_is_found_beside_two(blobs, look):
    image = drawn(blobs[0], (-0.6, -0.5), *CLOSE)
    assert look(image, jnp.log(jnp.array([0.001, 0.004, 0.99, 0.005])))[0].argmax() == 3


@pytest.mark.parametrize("n", [2, 3])
def test_one_object_too_many_is_left_out(blobs, look, n):
    """The guide, all but sure of n objects, has one more than there are."""
    places = [(0.6, -0.5), (-0.5, 0.6)][: n - 1]
    sure = jnp.log(jnp.full(STEPS + 1, 1e-4).at[n].set(0.9997))
    probs, found = look(drawn(blobs[0], *places), sure)
    assert probs.argmax() == n - 1
    centres = np.asarray(-found.z_where[:, 1:] / found.z_where[:, :1])[: n - 1]
    assert np.abs(centres[:, None] - np.array(places)).max(-1).min(0).max() < 0.1


def test_the_guides_doubt_counts_too(blobs, look):
    """Where it is sure enough, no evidence is."""
    sure = jnp.array([-200.0, 0.0, -np.inf, -200.0])
    assert look(drawn(blobs[0], *CLOSE), sure)[0].argmax() == 1


@pytest.mark.parametrize("n", range(STEPS + 1))
def test_only_one_object_more_or_less_is_weighed(blobs, look, n):
    """Probabilities sum to 1, all others keep their ratios; without objects nothing changes."""
    image = drawn(blobs[0], *[(0.3, -0.2), (-0.5, 0.6), (0.6, 0.7)][: max(n, 1)])
    log_q = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4])[(jnp.arange(4) + 3 - n) % 4])
    assert log_q.argmax() == n
    probs, found = look(image, log_q)
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)
    weighed = [n + 1] * (0 < n < STEPS) + [n - 1] * (n > 1)
    others = ~np.isin(np.arange(STEPS + 1), weighed)
    kept = probs[others] / probs[others].sum()
    q = np.exp(log_q)[others]
    np.testing.assert_allclose(kept, q / q.sum(), rtol=1e-4)
    if n == 0:
        for a, b in zip(found, Explainer(*blobs, image).read(image, STEPS), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_as_many_may_be_found_in_another_way(blobs, look):
    """The guide's first window lies between the two, and leaves little for the second."""
    image = drawn(blobs[0], *CLOSE)
    probs, found = look(image, jnp.array([-200.0, -200.0, 0.0, -200.0]))
    assert probs.argmax() == 2
    on, as_read = jnp.array([True, True, False]), Explainer(*blobs, image).read(image, STEPS)
    errors = [np.abs(composed("add", each.y, on) - image).mean() for each in (found, as_read)]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.slow  # compiles much
def test_the_best_of_the_pairs_is_taken(blobs, monkeypatch):
    look, on = Explainer(*blobs, drawn(blobs[0], (-0.6, -0.5), *CLOSE)), jnp.ones(STEPS, bool)

    def best(apart):
        monkeypatch.setattr(second_look, "APART", apart)
        return look.elbo(look.one_as_two(look.read(look.image, STEPS), jnp.array(2)), on)

    each = [best((apart,)) for apart in APART]
    assert max(each) - min(each) > 1
    np.testing.assert_allclose(best(APART), max(each))


def test_a_pair_is_read_in_turn(tiny):
    """The first in all that the others leave, the second in what the first leaves of that."""
    image = jax.random.uniform(jax.random.key(4), TINY.image_size)
    look = Explainer(*tiny, image)
    objects = look.read(image, 2)
    pair = look.one_as_two(objects, jnp.array(1))
    s = TINY.scale_prior_mean
    np.testing.assert_allclose(pair.z_where[:, 0], s)
    centre, places = -objects.z_where[0, 1:] / objects.z_where[0, 0], -pair.z_where[:, 1:] / s
    np.testing.assert_allclose(places.mean(0), centre, rtol=1e-4, atol=1e-5)
    apart = np.linalg.norm(places[0] - centre) * s / 2
    assert np.abs(apart - np.array(APART)).min() < 1e-4
    for t, seen in ((0, image), (1, image - pair.y[0])):
        again = look.at(places[t], objects.where_scale[0], jnp.clip(seen, 0, 1))
        np.testing.assert_allclose(again.z_what[0], pair.z_what[t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(again.y[0], pair.y[t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("learned", [False, True])
def test_elbo_is_that_of_the_programs(tiny, learned):
    """The model's own densities of picture and count, less KL by quadrature."""
    config, image = TINY, jax.random.uniform(jax.random.key(2), TINY.image_size)
    programs = tiny
    if learned:
        config = dataclasses.replace(TINY, likelihood_sd="learned", background="learned")
        programs = untrained(config, 0)
        backdrop = jnp.full(config.image_size, 0.2)
        programs = [
            eqx.tree_at(
                lambda p: (p.likelihood.background, p.likelihood.log_sd),
                p,
                (backdrop, jnp.log(0.1)),
            )
            for p in programs
        ]
    look = Explainer(*programs, image)
    objects = look.read(image, config.model_steps)
    q = {"z_where": objects[:2], "z_what": objects[2:4]}
    prior = {"z_where": where_prior(config), "z_what": (np.zeros(2), np.ones(2))}
    for n in range(3):
        values = {f"z_pres_{t}": jnp.array([t < n], float) for t in range(2)}
        values |= {f"{s}_{t}": q[s][0][t][None] for s in q for t in range(2)}
        model = handlers.substitute(handlers.seed(programs[0], jax.random.key(0)), values)
        trace = handlers.trace(model).get_trace(image[None])
        names = ["obs", *(f"z_pres_{t}" for t in range(2))]
        sites = [(trace[name]["scale"] or 1, trace[name]) for name in names]
        expected = sum((c * site["fn"].log_prob(site["value"])).sum() for c, site in sites)
        for name, (loc, scale) in q.items():
            for t in range(n):
                for i, (p_loc, p_scale) in enumerate(zip(*prior[name], strict=True)):
                    here = stats.norm(float(loc[t, i]), float(scale[t, i]))
                    there = stats.norm(float(p_loc), float(p_scale))
                    expected -= here.expect(lambda z, p=there, q=here: q.logpdf(z) - p.logpdf(z))
        value = look.elbo(objects, jnp.arange(2) < n)
        np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_explanations_are_fitted_to_the_image(blobs, monkeypatch):
    """Nearly as well as BFGS fits them, or, with more steps, as well; an object that is off stays
    where it was."""
    image = drawn(blobs[0], (-0.5, 0.2), (0.5, 0.1))
    look, on = Explainer(*blobs, image), jnp.array([True, True, False])
    read = look.read(image, STEPS)
    moved = read.z_where.at[:, 1:].add(jnp.array([[0.3, -0.3], [-0.2, 0.3], [0.1, 0.1]]))
    start = look.drawn(moved, read.where_scale, read.z_what + 0.5, read.what_scale)
    found = jax.jit(look.fitted)(start, on)
    for name in ("z_where", "z_what", "y"):
        np.testing.assert_allclose(getattr(found, name)[2], getattr(start, name)[2], rtol=1e-6)
    for name in ("where_scale", "what_scale"):
        np.testing.assert_array_equal(getattr(found, name), getattr(start, name))

    def loss(means):
        where, what = means[: 3 * STEPS].reshape(STEPS, 3), means[3 * STEPS :].reshape(STEPS, -1)
        return -look.elbo(look.drawn(where, start.where_scale, what, start.what_scale), on)

    first = jnp.concatenate([start.z_where.ravel(), start.z_what.ravel()])
    best = minimize(jax.jit(jax.value_and_grad(loss)), first, jac=True, method="BFGS")
    before = look.elbo(start, on)
    assert look.elbo(found, on) - before > 0.98 * (-best.fun - before) > 100
    monkeypatch.setattr(second_look, "FITS", 200)
    np.testing.assert_allclose(look.elbo(look.fitted(start, on), on), -best.fun, atol=0.1)


def test_the_residual_is_the_background_and_the_others():
    config = dataclasses.replace(TINY, background="mean")
    model, guide = untrained(config, 0)
    backdrop = jnp.linspace(0, 0.5, 30).reshape(config.image_size)
    model, guide = (
        eqx.tree_at(lambda p: p.likelihood.background, program, backdrop)
        for program in (model, guide)
    )
    look = Explainer(model, guide, backdrop)
    objects = look.read(backdrop, 2)
    on = jnp.array([True, False])
    mean = model.likelihood.mean(composed("add", objects.y, on))
    left = look._replace(image=mean).residual(objects, on)
    np.testing.assert_allclose(left, backdrop, atol=1e-6)


def test_the_object_missed_least_is_left_out(blobs):
    image = drawn(blobs[0], (-0.5, 0.2), (0.5, 0.1))
    look = Explainer(*blobs, image)
    objects = look.read(image, STEPS)  # the third is where nothing is left
    order = jnp.array([0, 2, 1])
    mixed = jax.tree.map(lambda x: x[order], objects)
    for a, b in zip(look.without_one(mixed, jnp.ones(STEPS, bool)), objects, strict=True):
        np.testing.assert_allclose(a, b)


@pytest.fixture(scope="module")
def pictures(blobs):
    random = np.random.default_rng(0)
    centres = random.uniform(-0.6, 0.6, (7, 1, 2)) + np.array([[0, 0], [0.2, 0.08]])
    images = [drawn(blobs[0], *places[: 1 + i % 2]) for i, places in enumerate(centres)]
    return np.round(255 * np.stack(images)).astype(np.uint8)


@pytest.mark.slow  # compiles much
def test_reading(blobs, pictures, monkeypatch):
    """Fields belong together; images do not depend on the batch; the guide's bound stays."""
    on_a_path = infer.counts_on_a_path

    def unsure(*args):  # of every image
        return UNSURE[:, None], *on_a_path(*args)[1:]

    monkeypatch.setattr(infer, "counts_on_a_path", unsure)
    once, again = (read(*blobs, pictures, 3, 2, second_look=look) for look in (False, True))
    np.testing.assert_allclose(once.elbo, again.elbo, rtol=1e-6)  # two programs
    np.testing.assert_array_equal(once.sampled_count, again.sampled_count)
    assert once.count.tolist() == [1] * 7
    assert again.count.tolist() == [1, 2, 1, 2, 1, 2, 1]
    for i, n in enumerate(again.count):
        objects = window_to_image(
            jnp.asarray(again.z_where[i]), jnp.asarray(again.windows[i]), SIZE
        )
        np.testing.assert_allclose(again.reconstruction[i], objects[:n].sum(0), atol=1e-5)
    error = [np.square(r.reconstruction - pictures / 255).mean((1, 2)) for r in (once, again)]
    assert np.all(error[1][1::2] < 0.5 * error[0][1::2])
    monkeypatch.setattr(infer, "BATCH", 3)
    for a, b in zip(again, read(*blobs, pictures, 3, 2, second_look=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


BASIC = dataclasses.replace(TINY, guide="basic")
TOLD = "second_look must be off for the guide basic, which reads no windows"


def test_the_basic_guide_is_refused():
    programs, images = untrained(BASIC, 0), np.zeros((2, 5, 6), np.uint8)
    for call in (
        lambda: read(*programs, images, second_look=True),
        lambda: AIR.of(*programs, second_look=True).predict(images),
    ):
        with pytest.raises(InputError) as info:
            call()
        assert str(info.value) == TOLD


@pytest.mark.parametrize("command", ["evaluate {0}/run", "predict {0}/run {0}/in --out {0}/out"])
def test_the_flag_is_refused_too(command, tmp_path, capsys):
    images = np.zeros((10, 5, 6), np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    (tmp_path / "in").mkdir()
    Image.fromarray(images[0]).save(tmp_path / "in/0.png")
    run = Run.create(Config(TrainConfig(data=f"{tmp_path}/images.npz"), BASIC), tmp_path / "run")
    run.save(*untrained(BASIC, 0))
    message = TOLD.replace("second_look", "--second-look")
    assert mistake(f"{command.format(tmp_path)} --second-look all", capsys) == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "default"), [({}, None), ({"compose": "over"}, False), ({"guide": "basic"}, False)]
)
def test_there_is_none_by_default_where_objects_hide_others(blobs, change, default):
    guide = dataclasses.replace(blobs[1], config=dataclasses.replace(CONFIG, **change))
    assert infer.which_look(guide, None) is default
    assert infer.which_look(guide, True) is True and infer.which_look(guide, False) is False


@pytest.fixture(scope="module")
def sure(blobs):
    """The same programs, but the guide always finds T objects."""
    model, guide = blobs
    said = np.float32([3, 0, 0, 0, *np.log(np.expm1([0.1, 0.1, 0.1]))])
    predict = constant(guide.networks.predict.mlp, said)
    return model, eqx.tree_at(lambda g: g.networks.predict.mlp, guide, predict)


@pytest.mark.slow
def test_by_default_doubtful_images_get_one(sure, pictures, monkeypatch):
    """They are read as with a second look of all, the others as without."""
    once, again = (read(*sure, pictures, second_look=look) for look in (False, True))
    assert (once.count == STEPS).all() and (again.count < STEPS).any()
    monkeypatch.setattr(infer, "DOUBTFUL", float(np.median(once.weakest)))
    doubtful = once.weakest < np.median(once.weakest)
    assert 0 < doubtful.sum() < len(pictures)
    found = read(*sure, pictures)
    for name in Reading._fields:
        rows = doubtful.reshape(-1, *[1] * (getattr(once, name).ndim - 1))
        want = np.where(rows, getattr(again, name), getattr(once, name))
        np.testing.assert_allclose(getattr(found, name), want, rtol=1e-4, atol=1e-4)


def test_what_is_unexplained_is_the_squared_error_beyond_noise(blobs):
    """Of a bar, its worth in nats; of noise, nearly nothing."""
    model, _ = blobs
    mean, bar = drawn(model, (0.3, -0.2)), np.zeros(SIZE, np.float32)
    bar[2:4, 2:12] = 0.8
    worth = np.square(bar).sum() / (2 * 0.1**2)
    np.testing.assert_allclose(unexplained(model, mean + bar, mean), worth, rtol=1e-5)
    noise = np.float32(0.1 * np.random.default_rng(0).standard_normal((50, *SIZE)))
    of_noise = [float(unexplained(model, mean + each, mean)) for each in noise]
    assert abs(np.mean(of_noise)) < 0.1 * SIZE[0] * SIZE[1] / 2
    of_both = [float(unexplained(model, mean + bar + each, mean)) for each in noise]
    np.testing.assert_allclose(np.mean(of_both) - np.mean(of_noise), worth, rtol=0.1)


@pytest.mark.slow  # compiles much
def test_the_weakest_object_is_the_one_that_explains_least(sure):
    model, guide = sure
    image = np.asarray(drawn(model, (0.6, -0.5), (-0.5, 0.6)))[None]
    images = np.round(255 * image).astype(np.uint8)
    reading = read(model, guide, images, second_look=False)
    n = int(reading.count[0])
    y = window_to_image(
        jnp.asarray(reading.z_where[0]), model.decoder(jnp.asarray(reading.z_what[0])), SIZE
    )
    on = jnp.arange(STEPS) < n
    pixels = images[0] / np.float32(255)

    def loss(on):
        return np.square(pixels - np.asarray(composed("add", y, on))).sum() / 0.02

    each = [loss(on & (jnp.arange(STEPS) != t)) - loss(on) for t in range(n)]
    np.testing.assert_allclose(reading.weakest[0], min(each, default=np.inf), rtol=1e-4)
