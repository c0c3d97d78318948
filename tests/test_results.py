"""What `AIR.predict` returns: one image's objects, iteration, tables."""

import sys

import numpy as np
import pytest
from conftest import TINY, eager

from airjax.air import AIR
from airjax.errors import InputError
from airjax.inference.results import COLUMNS, Objects
from airjax.programs.untrained import untrained

IMAGES = np.random.default_rng(1).integers(0, 256, (7, 5, 6)).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes():
    model, guide = untrained(TINY, 3)
    found = AIR.of(model, eager(guide)).predict(IMAGES)
    probs = found.reading.count_probs.copy()
    probs[2] = [0.7, 0.2, 0.1]  # an empty image
    probs[3] = [0.1, 0.6, 0.3]
    found = type(found)(found.images, found.reading._replace(count_probs=probs), model)
    assert set(found.counts.tolist()) == {0, 1, 2}
    return found


def test_an_index_gives_one_images_objects(scenes):
    for i in (0, 2, 3, -1):
        objects, n = scenes[i], scenes.counts[i]
        assert objects.number == n == len(objects.tight_boxes) == len(objects.z_what)
        np.testing.assert_array_equal(objects.tight_boxes, scenes.tight_boxes[i, :n])
        np.testing.assert_array_equal(objects.window_boxes, scenes.window_boxes[i, :n])
        np.testing.assert_array_equal(objects.z_where, scenes.z_where[i, :n])
        np.testing.assert_array_equal(objects.scores, scenes.scores[i, :n])
        assert objects.probability == pytest.approx(scenes.count_probs[i].max())
    with pytest.raises(IndexError, match="index 7 is out of range for 7 images"):
        scenes[7]


def test_iteration_goes_over_the_images(scenes):
    assert [objects.number for objects in scenes] == scenes.counts.tolist()
    assert len(scenes[1:4]) == 3 and scenes[1:4].counts.tolist() == scenes.counts[1:4].tolist()


def test_scores_are_the_probability_of_presence(scenes):
    np.testing.assert_allclose(scenes.scores[3], [0.9, 0.3], rtol=1e-6)
    assert scenes.present[3].tolist() == [True, False] and not scenes.present[2].any()
    np.testing.assert_array_equal(scenes.reading.scores, scenes.scores)


def test_objects_as_a_table(scenes):
    table = scenes.to_dataframe()
    assert list(table.columns) == ["image", "object", *COLUMNS]
    assert len(table) == scenes.counts.sum()
    assert table.groupby("image").size().to_dict() == {
        i: n for i, n in enumerate(scenes.counts.tolist()) if n
    }
    row = table[(table.image == 0) & (table.object == 1)].iloc[0]
    np.testing.assert_allclose(
        row[["x0", "y0", "x1", "y1"]].to_numpy(float), scenes[0].tight_boxes[1]
    )
    np.testing.assert_allclose(row[["scale", "x", "y"]].to_numpy(float), scenes[0].z_where[1])
    assert len(scenes[0].to_dataframe()) == scenes.counts[0]
    empty = scenes[2:3].to_dataframe()
    assert len(empty) == 0 and list(empty.columns) == list(table.columns)


def test_without_pandas_one_line_says_what_to_install(scenes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"to_dataframe needs pandas: pip install 'airjax\[pandas"):
        scenes.to_dataframe()


@pytest.mark.parametrize(("most_probable", "interval"), [(32, (32, 40)), (40, (40, 40))])
def test_the_interval_holds_the_count(most_probable, interval):
    """Each of many objects is more probable than not; all of them together may not be."""
    none = np.zeros((40, 4), np.float32)
    scores, probs = np.full(40, 0.8), np.eye(41)[most_probable]
    objects = Objects(none, none, scores, none[:, :3], none, probs)
    assert objects.interval == interval
