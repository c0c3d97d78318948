"""The handwritten digits of scikit-learn: 1,797 of 8 x 8 pixels, without a download."""

from pathlib import Path

import numpy as np

from airjax.data.composer import Pool

MARGIN = 2  # pixels around a digit: in MNIST, too, digits fill 20 of 28 pixels
NUM_TRAIN = 1437  # four fifths; the digits are ordered by writer, so the others are by other hands


def load_digits(part: str, data_dir: Path | None = None) -> Pool:
    """The first 1,437 (``part="train"``) or last 360 digits; ``data_dir`` is not used."""
    from sklearn.datasets import load_digits as bundled  # heavy: only where used

    pixels, labels = bundled(return_X_y=True)
    images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    rows = slice(None, NUM_TRAIN) if part == "train" else slice(NUM_TRAIN, None)
    return Pool(images[rows], np.asarray(labels, np.int32)[rows])
