"""Label images: read as they are stored, boxes as scikit-image has them, or refused."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import regionprops

from airjax.cli.label_images import boxes_of, numbered, pieces, read_labels
from airjax.errors import InputError

LABELS = np.kron([[0, 0, 1, 1], [2, 0, 0, 3]], np.ones((4, 5), int))


def test_labels_are_those_of_skimage(tmp_path):
    random = np.random.default_rng(0)
    image = np.kron(random.integers(0, 9, (5, 6)), np.ones((8, 7), int)) * 1000
    tifffile.imwrite(tmp_path / "l.tif", image.astype(np.uint16), compression="zlib")
    (labels,) = read_labels(tmp_path / "l.tif")
    expected = [(p.bbox[1], p.bbox[0], p.bbox[3], p.bbox[2]) for p in regionprops(image)]
    np.testing.assert_array_equal(boxes_of(numbered(labels)), expected)
    whole = np.full((3, 4), 5)  # no background
    assert boxes_of(numbered(whole)).tolist() == [[0, 0, 4, 3]]


@pytest.mark.parametrize("kind", [bool, np.uint8, np.uint16, np.int32, np.uint32, np.float32])
def test_types_of_labels(kind, tmp_path):
    values = LABELS.astype(kind)
    tifffile.imwrite(tmp_path / "l.tif", values)
    np.testing.assert_array_equal(read_labels(tmp_path / "l.tif"), values[None])
    if kind in (np.uint8, np.uint16):
        Image.fromarray(values).save(tmp_path / "l.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "l.png"), values[None])


def test_pieces_of_a_mask():
    parts, is_mask = pieces((LABELS > 0).astype(int))
    assert is_mask and parts.max() == 2  # 1 and 3 touch
    assert pieces(LABELS)[0] is LABELS and not pieces(np.minimum(LABELS, 0))[1]


BAD = {
    "rgb": np.stack(3 * [LABELS], -1).astype(np.uint8),
    "fractions": LABELS + np.float32(0.5),
    "nan": np.where(LABELS, np.nan, 0).astype(np.float32),
    "negative": -LABELS.astype(np.int16),
    "complex": LABELS.astype(np.complex64),
    "too large": LABELS.astype(np.uint64) + 2**63,
}


@pytest.mark.parametrize("kind", BAD)
def test_values_that_are_no_labels(kind, tmp_path):
    paths = [tmp_path / "a.tif"]
    tifffile.imwrite(paths[0], BAD[kind], photometric="rgb" if kind == "rgb" else "minisblack")
    if kind == "rgb":
        Image.fromarray(BAD[kind]).save(tmp_path / "a.png")
        paths.append(tmp_path / "a.png")
    for path in paths:
        with pytest.raises(InputError, match="must be labels: integers from 0 in one channel, got"):
            read_labels(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"II*\0", b"II*\0\x08\0\0\0\xff\xff"]
)
def test_files_that_cannot_be_read(content, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.png cannot be read \("):
        read_labels(path)


def test_files_that_claim_too_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr("airjax.cli.label_images.MAX_PIXELS", 50)
    for path in (tmp_path / "a.png", tmp_path / "a.tif"):
        Image.fromarray(LABELS.astype(np.uint8)).save(path)
        with pytest.raises(InputError, match="must have at most 50 pixels, got 160"):
            read_labels(path)
