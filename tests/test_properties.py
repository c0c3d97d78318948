"""Properties over random shapes and values: nothing that is valid gives NaN, and nothing that is
not gives a traceback."""

import contextlib
import io
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from airjax.cli.main import main
from airjax.data.composer import SceneConfig, compose
from airjax.data.dataset import Dataset, as_images, load_dataset
from airjax.data.digits import load_digits
from airjax.errors import InputError
from airjax.inference.explained import tight_boxes
from airjax.inference.infer import read
from airjax.inference.metrics import empty_elbo, importance_weighted_bound, score
from airjax.inference.second_look import refined
from airjax.programs.elbo import log_count_probs
from airjax.programs.model import geometric_like
from airjax.programs.spatial import image_to_window, window_boxes, window_to_image

quick = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def finite(*trees) -> bool:
    return all(bool(np.isfinite(np.asarray(x)).all()) for x in jax.tree.leaves(trees))


@quick
@given(k=st.floats(1e-30, 1e9), steps=st.integers(1, 12))
def test_priors_are_probabilities(k, steps):
    p = geometric_like(k, steps)
    assert p.shape == (steps,) and finite(p) and bool(((p >= 0) & (p <= 1)).all())


@quick
@given(p=hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)))
def test_counts_have_probabilities_that_add_up(p):
    log_q = log_count_probs(jnp.asarray(p))
    assert not bool(jnp.isnan(log_q).any())
    np.testing.assert_allclose(jnp.exp(log_q).sum(0), 1, atol=1e-4)
    assert finite(jax.grad(lambda p: (jnp.exp(log_count_probs(p)) * 2.0).sum())(jnp.asarray(p)))


@quick
@given(
    where=hnp.arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32)),
    scale=st.floats(2**-10, 2**10, width=32),
    shape=st.sampled_from([(1, 1), (2, 9), (8, 5)]),  # a shape is a compilation
    size=st.sampled_from([1, 4]),
)
def test_windows_anywhere_are_finite(where, scale, shape, size):
    where = jnp.asarray(where).at[:, 0].set(scale)
    window = image_to_window(where, jnp.ones((2, *shape)), size)
    image = window_to_image(where, window, shape)
    assert window.shape == (2, size, size) and image.shape == (2, *shape)
    assert finite(window, image, window_boxes(where, shape))
    assert finite(tight_boxes(image, window_boxes(where, shape)))


@pytest.mark.parametrize("estimate", ["read", "bound"])
@quick
@given(data=st.data())
def test_any_images_are_read(estimate, tiny, data):
    n = data.draw(st.sampled_from([1, 3]))  # a shape is a compilation
    images = data.draw(hnp.arrays(np.uint8, (n, *TINY.image_size)))
    counts = data.draw(hnp.arrays(np.int32, n, elements=st.integers(0, 5)))
    if estimate == "bound":
        assert finite(importance_weighted_bound(*tiny, images, 3))
        return
    reading = read(*tiny, images, num_paths=2)
    assert finite(reading)
    np.testing.assert_allclose(reading.count_probs.sum(1), 1, rtol=1e-5)
    report = score(reading, Dataset(images, counts))
    numbers = [value for value in report.values() if isinstance(value, float)]
    assert numbers and finite(numbers)
    assert np.isfinite(empty_elbo(images, tiny[0].likelihood, 0.1))


@pytest.fixture(scope="module")
def look(tiny):
    return jax.jit(lambda image, log_q_n: refined(*tiny, image, log_q_n))


@quick
@given(
    pixels=hnp.arrays(np.uint8, TINY.image_size),
    n=st.integers(0, TINY.model_steps),
    doubt=st.floats(2**-126, 0.25, width=32),  # float32's smallest: what a guide may be sure of
)
def test_any_image_may_have_a_second_look(look, pixels, n, doubt):
    q_n = np.full(TINY.model_steps + 1, doubt, np.float32)
    q_n[n] = 1
    probs, found = look(jnp.asarray(pixels / np.float32(255)), jnp.log(jnp.asarray(q_n)))
    assert finite(probs, *found)
    np.testing.assert_allclose(probs.sum(), 1, rtol=1e-5)


@pytest.mark.slow  # compiles much
@quick
@given(
    height=st.integers(9, 30),
    width=st.integers(9, 30),
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    sd=st.floats(0, 0.5),
    seed=st.integers(0, 2**31),
    overlap=st.sampled_from(["redraw", "clip"]),
)
def test_any_scenes_are_composed_or_refused(height, width, counts, sd, seed, overlap):
    try:
        config = SceneConfig(
            3, height, width, tuple(counts), object_size=9, scale_mean=1.0, scale_sd=sd,
            overlap=overlap, seed=seed,
        )  # fmt: skip
        scenes = compose(load_digits("train"), config)
    except InputError:
        return
    boxes = scenes.boxes[np.arange(scenes.boxes.shape[1]) < scenes.counts[:, None]]
    assert finite(boxes) and (boxes >= 0).all() and (boxes <= [width, height] * 2).all()


@quick
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.float32, np.float64, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_any_array_is_images_or_refused(array):
    try:
        images = as_images(array, "images")
    except InputError:
        return
    assert images.dtype == np.uint8 and images.ndim == 3


@quick
@given(content=st.binary(max_size=200))
def test_any_file_is_a_data_set_or_refused(content, tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(InputError):
        load_dataset(path)


FLAGS = [
    "--data", "--steps", "-n", "--batch-size", "-lr", "--seed", "--model-steps", "--window-size",
    "--z-pres-prior", "--z-pres-prior-raw", "--encoder-net", "--embed-channels", "--particles",
    "--exploration-floor", "--anneal-prior", "--anneal-prior-to", "--seeds", "--restarts", "--out",
    "--resume", "--estimator", "--non-linearity", "--nothing", "--num-scenes", "--counts",
    "--max-steps", "--no-masking", "--what", "--bound",
]  # fmt: skip
VALUES = ["0", "-1", "1.5", "nan", "inf", "1e400", "", "x", "é", "none", "99999999999", "\n"]
COMMANDS = ["train", "evaluate", "plot", "sample", "data", "import-pyro", "", "fly"]


@settings(quick, max_examples=100)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(st.sampled_from(FLAGS) | st.sampled_from(VALUES), max_size=6),
)
def test_any_wrong_command_line_is_one_line(command, words, tmp_path, monkeypatch):
    """(A line that is right by chance has nothing to work on: the data do not exist.)"""
    monkeypatch.chdir(tmp_path)
    right = {
        "train": ["--data", "no.npz"],
        "data": ["digits", "no/x.npz"],
        "sample": ["--steps", "0"],
    }
    error = io.StringIO()
    with contextlib.redirect_stderr(error), pytest.raises(SystemExit) as end:
        main([command, *words, *right.get(command, ["no", "no"])])
    assert end.value.code == 2
    assert error.getvalue().startswith("airjax: ") and error.getvalue().count("\n") == 1
    assert os.listdir(tmp_path) == []
