"""Which images figures show, and where."""

import numpy as np

from airjax.inference.plots import images as drawn
from airjax.inference.plots import not_blank


def test_blank_images_are_passed_over_while_there_are_others():
    images = np.zeros((6, 4, 5, 3), np.uint8)
    images[1] = 200  # of one value
    images[[2, 3, 5], 1, 1] = 9
    assert not_blank(images, 2).tolist() == [2, 3]
    assert not_blank(images, 3).tolist() == [2, 3, 5]
    assert not_blank(images, 4).tolist() == [0, 2, 3, 5]
    assert not_blank(images, 9).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_notebook_shows_figures_that_pyplot_does_not_know():
    from IPython.core.formatters import DisplayFormatter

    shown, _ = DisplayFormatter().format(drawn([np.zeros((4, 5))]))
    assert shown["image/png"].startswith(b"\x89PNG")
