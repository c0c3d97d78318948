"""Which images figures show."""

import numpy as np

from airjax.inference.plots import not_blank


def test_blank_images_are_passed_over_while_there_are_others():
    images = np.zeros((6, 4, 5, 3), np.uint8)
    images[1] = 200  # of one value
    images[[2, 3, 5], 1, 1] = 9
    assert not_blank(images, 2).tolist() == [2, 3]
    assert not_blank(images, 3).tolist() == [2, 3, 5]
    assert not_blank(images, 4).tolist() == [0, 2, 3, 5]
    assert not_blank(images, 9).tolist() == [0, 1, 2, 3, 4, 5]
