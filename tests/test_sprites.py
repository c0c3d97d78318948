"""Coloured sprites, and scenes of them."""

import numpy as np

from airjax.data import DATASETS, make
from airjax.data.composer import SceneConfig
from airjax.data.sprites import SHAPES, load_sprites


def test_sprites_fill_their_pictures_in_one_colour():
    pool = load_sprites("test")
    assert pool.images.shape == (1000, 28, 28, 3) and set(pool.labels) == {0, 1, 2}
    for image, label in zip(pool.images[:50], pool.labels, strict=False):
        middle = image[14, 14].astype(float)
        assert middle.max() == 255 and middle.min() < 129  # bright, and half saturated at least
        share = image.max(-1).mean() / 255
        want = {"square": 1, "triangle": 0.5, "disc": np.pi / 4}[SHAPES[label]]
        assert abs(share - want) < 0.03
        inside = image.max(-1) > 200
        np.testing.assert_allclose(image[inside] / image[inside].max(-1)[:, None],
                                   np.tile(middle / 255, (inside.sum(), 1)), atol=0.02)  # fmt: skip


def test_train_and_test_sprites_are_others():
    train, test = load_sprites("train"), load_sprites("test")
    assert len(train.labels) == 3000
    assert not (train.images[:1000] == test.images).all(axis=(1, 2, 3)).any()


def test_scenes_of_sprites():
    config = DATASETS["sprites"].scenes
    data = make("sprites", "test", SceneConfig(**(vars(config) | {"num_scenes": 100})))
    assert data.images.shape == (100, 64, 64, 3) and set(data.counts) == {0, 1, 2, 3, 4}
    for image, boxes, count in zip(data.images, data.boxes, data.counts, strict=True):
        seen = (image > 25.5).any(-1)
        inside = np.zeros_like(seen)
        for x0, y0, x1, y1 in boxes[:count].astype(int):
            assert not inside[y0:y1, x0:x1].any()  # apart
            inside[y0:y1, x0:x1] = True
            box = seen[y0:y1, x0:x1]
            assert all(side.any() for side in (box[0], box[-1], box[:, 0], box[:, -1]))
        assert not (seen & ~inside).any()
