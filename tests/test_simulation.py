"""Errors in simulated pictures: as crowded, with the noise of the picture, its truth known."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats
from test_whole import a_picture, a_reader, apart

from airjax.air import AIR
from airjax.inference import blocks, simulation
from airjax.inference.results import NO_ERRORS, Errors, distribution, poisson_binomial
from airjax.inference.simulation import Simulated, compared, simulated

LEAST_SD = 0.1  # of the reader of discs
SHAPE = (110, 130)


@pytest.fixture(scope="module")
def reader():
    return a_reader(likelihood_sd=LEAST_SD)


def found_at(boxes):
    """Objects in these boxes."""
    n, boxes = len(boxes), np.asarray(boxes, np.float32).reshape(-1, 4)
    where, what, ones = np.zeros((n, 3)), np.zeros((n, 2)), np.ones(n)
    return blocks.Objects(boxes, boxes, ones, where, what, distribution(ones))


def boxes_at(places, half=4.0):
    places = np.asarray(places, float).reshape(-1, 2)
    return np.concatenate([places - half, places + half], axis=1)


def test_without_errors_objects_are_independent():
    scores = np.random.default_rng(0).random(9)
    np.testing.assert_array_equal(distribution(scores), poisson_binomial(scores))
    np.testing.assert_array_equal(distribution(np.zeros(0)), [1])


def test_the_distribution_after_one_value():
    """Against the integral over the mean of a Poisson variable of which one value is known; and the
    sum over all outcomes."""

    def after(known, number):
        def both(mean):
            return stats.poisson.pmf(number, mean) * stats.gamma.pdf(mean, known)

        return integrate.quad(both, 0, np.inf)[0]

    scores, known = np.array([0.9, 0.6, 0.8]), Errors(2.0, 1.5)
    missed, extra = ([after(value, i) for i in range(60)] for value in known)
    want = np.zeros(63)
    for n, m, e in itertools.product(range(4), range(60), range(60)):
        want[max(0, n + m - e)] += poisson_binomial(scores)[n] * missed[m] * extra[e]
    got = distribution(scores, known)
    np.testing.assert_allclose(got, want[: len(got)], atol=3e-6)
    assert got.sum() == pytest.approx(1, abs=1e-5)


def test_some_objects_have_errors_in_proportion():
    objects = found_at(boxes_at(np.arange(16).reshape(8, 2)))._replace(errors=Errors(4.0, 2.0))
    half = objects.some(np.arange(8) % 2 == 0)
    assert half.number == 4 and half.errors == (2, 1)
    np.testing.assert_array_equal(half.count_probs, distribution(np.ones(4), Errors(2.0, 1.0)))
    none = objects.some(np.zeros(8, bool))
    assert none.errors == (0, 0) and none.interval == (0, 0)


def test_objects_found_again_missed_and_too_many():
    """As many pairs as possible, at most half an object apart."""
    true = [(10, 10), (16, 10), (40, 40), (80, 20)]
    found = [(13, 10), (9, 10), (43.9, 40), (85, 20), (60, 60)]
    truth = Simulated(np.zeros((9, 9), np.uint8), np.array(true, float), 8.0)
    assert compared(truth, found_at(boxes_at(found))) == (1, 2)
    assert compared(truth, found_at(boxes_at([]))) == (4, 0)
    empty = Simulated(truth.image, np.zeros((0, 2)), 0.0)
    assert compared(empty, found_at(boxes_at(found))) == (0, 5)
    assert compared(empty, found_at(boxes_at([]))) == NO_ERRORS


def test_a_simulated_picture_has_the_same_objects_and_noise_near_their_places(reader):
    model, guide = reader
    random, places = np.random.default_rng(0), apart(25, SHAPE, 9)
    clean = a_picture(places, SHAPE) * 0.8 + 30
    picture = np.clip(clean + random.normal(0, 8, SHAPE), 0, 255).round().astype(np.uint8)
    objects = blocks.find(model, guide, a_picture(places, SHAPE))
    made = simulated(model, picture, objects, np.random.default_rng(1))
    again = simulated(model, picture, objects, np.random.default_rng(1))
    other = simulated(model, picture, objects, np.random.default_rng(2))
    np.testing.assert_array_equal(made.image, again.image)
    assert (made.image != other.image).any() and made.image.shape == picture.shape
    moves = made.centres - (objects.tight_boxes[:, :2] + objects.tight_boxes[:, 2:]) / 2
    assert 0.3 * made.size < moves.std() < 0.7 * made.size
    assert (made.centres >= 0).all() and (made.centres <= [130, 110]).all()
    mean = a_picture(made.centres, SHAPE)  # the model draws discs, too
    assert np.corrcoef(mean.ravel(), made.image.ravel())[0, 1] > 0.9
    dark = mean == 0
    sd = made.image[dark][made.image[dark] > 0].astype(float)
    assert np.sqrt((sd**2).mean()) == pytest.approx(8, rel=0.1)  # half of a normal one: the same
    empty = simulated(model, picture, objects.some(np.zeros(0, int)), random)
    assert len(empty.centres) == 0 and empty.image.mean() < 8


def test_objects_apart_are_certain_and_an_order_does_not_matter(reader):
    model, guide = reader
    few, many = a_picture([(20, 20), (60, 70)], SHAPE), a_picture(apart(600, SHAPE, 1), SHAPE)
    nothing = np.zeros(SHAPE, np.uint8)
    air = AIR.of(model, guide, random_state=3)
    first, second, third = air.find_each([few, many, nothing])
    assert first.interval == (2, 2) and first.errors == NO_ERRORS
    assert third.interval == (0, 0)
    assert sum(second.errors) > 0 and second.interval[1] > second.number
    for a, b in ((second, air.find(many)), (second, next(air.find_each(iter([many]))))):
        assert a.errors == b.errors
        np.testing.assert_array_equal(a.count_probs, b.count_probs)
    quick = next(air.find_each([many], intervals=False))
    assert quick.errors == NO_ERRORS
    np.testing.assert_array_equal(quick.count_probs, distribution(quick.scores))
    np.testing.assert_array_equal(quick.tight_boxes, second.tight_boxes)


@pytest.mark.slow
def test_intervals_hold_the_true_count_of_crowded_pictures(reader):
    """Discs at random places, most of which lie upon others: about nine of ten intervals should
    hold their number; those of independent objects hold few."""
    model, guide = reader
    numbers, random, pictures = range(120, 320, 10), np.random.default_rng(0), list[np.ndarray]()
    for number in numbers:
        picture = a_picture(random.uniform((2, 2), (68, 58), (number, 2)), (60, 70))
        noisy = picture + random.normal(0, 5, picture.shape)
        pictures.append(np.clip(noisy, 0, 255).round().astype(np.uint8))
    found = list(simulation.find_each(model, guide, pictures, 0))
    independent = [each._replace(count_probs=distribution(each.scores)) for each in found]

    def held(those):
        pairs = zip(numbers, (each.interval for each in those), strict=True)
        return sum(low <= number <= high for number, (low, high) in pairs)

    assert held(found) >= 14 and held(independent) <= 4
    missed = np.subtract(numbers, [each.number for each in found])
    expected = [each.errors.missed - each.errors.extra for each in found]
    assert abs(missed.mean() - np.mean(expected)) < missed.mean() / 3
    assert np.corrcoef(missed, expected)[0, 1] > 0.8
