"""Objects are linked into tracks: small cases by hand, and what is decided from the data."""

import numpy as np
import pytest

from airjax.errors import InputError
from airjax.tracking.decide import decided
from airjax.tracking.link import Linking, Places, assigned, link


def frame(*xy, codes=None):
    """A frame with objects at these places."""
    places = np.array(xy, float).reshape(-1, 2)
    return Places(places, np.zeros((len(places), 2)) if codes is None else np.array(codes, float))


def tracks(frames, **how):
    """The numbers of the tracks in each frame."""
    return [each.particle.tolist() for each in link(frames, Linking(**how))]


def test_an_object_is_linked_within_the_search_range():
    frames = [frame((0, 0)), frame((3, 4)), frame((6, 8.1))]
    assert tracks(frames, search_range=5.0) == [[0], [0], [1]]
    links = link(frames, Linking(5.0))
    assert np.isnan(links[0].moved[0]) and links[1].moved[0] == 5 and np.isnan(links[2].moved[0])


def test_all_links_of_a_frame_are_chosen_together():
    """The nearest one first would leave the other object without a link."""
    frames = [frame((0, 0), (2, 0)), frame((1.5, 0), (4, 0))]
    assert tracks(frames, search_range=3.0) == [[0, 1], [0, 1]]


def test_objects_in_another_order_keep_their_tracks():
    frames = [frame((0, 0), (10, 0)), frame((10, 1), (0, 1)), frame((0, 2), (10, 2))]
    assert tracks(frames, search_range=4.0) == [[0, 1], [1, 0], [0, 1]]


def test_objects_appear_and_disappear():
    frames = [frame((0, 0)), frame((0, 0), (9, 9)), frame((9, 9)), frame((9, 9), (0, 0))]
    assert tracks(frames, search_range=2.0, memory=0) == [[0], [0, 1], [1], [1, 2]]


def test_an_object_may_be_missing_for_as_many_frames_as_memory():
    frames = [frame((0, 0)), frame(), frame(), frame((1, 0))]
    assert tracks(frames, search_range=2.0, memory=2) == [[0], [], [], [0]]
    assert tracks(frames, search_range=2.0, memory=1) == [[0], [], [], [1]]


def test_crossing_objects_keep_their_velocity():
    """Two objects that pass through each other: places alone let them turn back."""
    ways = [frame((2 * t, 0), (10 - 2 * t, 0.5)) for t in range(6)]
    swapped = tracks(ways, search_range=5.0)
    assert swapped[-1] == [1, 0]
    assert tracks(ways, search_range=5.0, steady=True) == [[0, 1]] * 6


def test_a_velocity_bridges_a_gap():
    frames = [frame((0, 0)), frame((3, 0)), frame(), frame(), frame((12, 0))]
    assert tracks(frames, search_range=4.0, steady=True) == [[0], [0], [], [], [0]]
    assert tracks(frames, search_range=4.0) == [[0], [0], [], [], [1]]


def test_codes_tell_objects_at_the_same_place_apart():
    codes = [[1, 0], [0, 1]]
    frames = [frame((0, 0), (2, 0), codes=codes), frame((1, 0), (1, 0.1), codes=codes[::-1])]
    assert tracks(frames, search_range=4.0, code_weight=0.5) == [[0, 1], [1, 0]]
    links = link(frames, Linking(4.0, code_weight=0.5))
    np.testing.assert_allclose(links[1].code_distance, 0)
    # a code never forbids what a place allows
    other = [frame((0, 0), codes=[[0, 0]]), frame((3.9, 0), codes=[[9, 9]])]
    assert tracks(other, search_range=4.0, code_weight=3.0) == [[0], [0]]


def test_frames_without_objects():
    assert tracks([frame(), frame(), frame((1, 1))], search_range=1.0) == [[], [], [0]]
    assert tracks([frame((1, 1))], search_range=1.0) == [[0]]
    assert tracks([], search_range=1.0) == []


def test_numbers_begin_where_they_are_told_to():
    links = link([frame((0, 0), (9, 9)), frame((0, 1))], Linking(2.0), first=7)
    assert [each.particle.tolist() for each in links] == [[7, 8], [7]]


@pytest.mark.parametrize("seed", range(5))
def test_groups_together_are_the_best_assignment(seed):
    """Against one assignment of all objects, in which a link beyond the search range has the cost
    of none."""
    from scipy.optimize import linear_sum_assignment

    random = np.random.default_rng(seed)
    a, b = (Places(random.uniform(0, 30, (n, 2)), random.normal(size=(n, 3))) for n in (40, 35))
    how = Linking(3.0, code_weight=0.7, code_scale=2.0)
    d = np.linalg.norm(a.xy[:, None] - b.xy[None], axis=-1)
    c = np.linalg.norm(a.codes[:, None] - b.codes[None], axis=-1)
    cost = np.where(d <= 3, (d / 3) ** 2 + 0.7 * np.minimum(1, c / 2) ** 2, 1.7)
    want = cost[linear_sum_assignment(cost)].sum()
    rows, columns = assigned(a, b, how)
    assert len(set(rows)) == len(rows) > 10 and len(set(columns)) == len(columns)
    got = cost[rows, columns].sum() + 1.7 * (35 - len(rows))
    assert got == pytest.approx(want) and (d[rows, columns] <= 3).all()


def walks(step, n=12, frames=30, seed=0, distance=20, codes=True):
    """Objects on a grid that make random steps, in an order that changes; their codes."""
    random = np.random.default_rng(seed)
    at = distance * np.stack(np.divmod(np.arange(n), 4), axis=1).astype(float)
    own = random.normal(size=(n, 5)) if codes else np.zeros((n, 5))
    made, orders = [], []
    for _ in range(frames):
        order = random.permutation(n)
        noise = 0.1 * random.normal(size=(n, 5)) if codes else random.normal(size=(n, 5))
        made.append(Places(at[order], (own + noise)[order]))
        orders.append(order)
        at = at + random.normal(0, step, at.shape)
    return made, orders


def test_random_walks_are_followed_without_a_flag():
    frames, orders = walks(0.5)
    done = decided([frames], size=5.0)
    assert done.linking.search_range == pytest.approx(done.spacing / 2) and done.spacing > 14
    assert decided([frames], size=12.0).linking.search_range == 12
    assert not done.linking.steady and 0.7 < done.linking.code_weight < 1
    assert [d.flag for d in done.decisions] == ["--search-range", "--motion", "--code-weight"]
    links = link(frames, done.linking)
    of_object = [
        particle.particle[np.argsort(o)] for particle, o in zip(links, orders, strict=True)
    ]
    assert (np.array(of_object) == of_object[0]).all()


def test_codes_that_say_nothing_weigh_nothing():
    frames, _ = walks(0.5, codes=False)
    assert decided([frames], size=5.0).linking.code_weight < 0.1


def test_steady_motion_is_recognised():
    ways = [frame(*((20 * i + 2.0 * t, 5.0 * i) for i in range(6))) for t in range(10)]
    done = decided([ways], size=5.0)
    assert done.linking.steady
    assert done.decisions[1].value.startswith(
        "steady: off by 0.00 pixels with the last velocity, 2"
    )
    assert not decided([ways], size=5.0, motion="random").linking.steady


def test_single_objects_have_their_size_as_search_range():
    ways = [frame((t, 0)) for t in range(3)]
    done = decided([ways], size=8.0)
    assert (done.linking.search_range, done.spacing, done.linking.code_weight) == (8, None, 0)
    assert done.decisions[0].value == "8.0 pixels, the size of objects"


def test_what_is_given_is_not_decided():
    frames, _ = walks(0.5)
    done = decided([frames], 5.0, memory=1, search_range=2.5, motion="steady", code_weight=0.2)
    assert done.decisions == [] and done.linking.search_range == 2.5 and done.linking.memory == 1
    assert done.linking.steady and done.linking.code_weight == 0.2


def test_nothing_at_all_can_be_decided_on():
    assert decided([[frame(), frame()]], 1.0).linking == Linking(1.0)


@pytest.mark.parametrize(("how", "message"), [
    ({"search_range": -1.0}, "search_range must be positive, got -1.0"),
    ({"search_range": 1.0, "memory": -1}, "memory must be at least 0, got -1"),
    ({"search_range": 1.0, "code_weight": -1.0}, "code_weight must be at least 0, got -1.0"),
])  # fmt: skip
def test_wrong_settings(how, message):
    with pytest.raises(InputError, match=message):
        Linking(**how)
