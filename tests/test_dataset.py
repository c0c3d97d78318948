"""Data sets as .npz files: given back as saved, or an error that names the file and the array."""

import io
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from airjax.data.dataset import Dataset, load_dataset, save_dataset
from airjax.errors import InputError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_a_data_set_knows_its_sizes():
    assert (len(Dataset(IMAGES)), Dataset(IMAGES).image_shape) == (2, (3, 4))


# good files


def test_a_file_gives_back_what_was_saved(tmp_path):
    counts, labels = np.array([1, 3]), np.array([[4, -1, -1], [5, 6, 7]])
    boxes = np.tile([0.0, 1.0, 2.5, 3.0], (2, 3, 1))
    boxes[0, 1:] = -1
    data = Dataset(IMAGES, counts, labels, boxes, "scenes")
    save_dataset(data, tmp_path / "scenes.npz")
    np.testing.assert_equal(asdict(load_dataset(tmp_path / "scenes.npz")), asdict(data))
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.npz"]


def test_all_arrays_but_images_are_optional(tmp_path):
    save_dataset(Dataset(IMAGES), tmp_path / "images.npz")
    data = load_dataset(tmp_path / "images.npz")
    assert (data.counts, data.labels, data.boxes, data.name) == (None, None, None, "images")


@pytest.mark.parametrize("integer", [np.int8, np.int32, np.int64])
@pytest.mark.parametrize("floating", [np.float16, np.float32, np.float64])
def test_truth_becomes_int32_and_float32(integer, floating, tmp_path):
    truth: dict[str, Any] = {
        "counts": np.array([0, 1], integer),
        "labels": np.array([[-1], [7]], integer),
        "boxes": np.array([[[-1] * 4], [[0, 0.5, 1, 2]]], floating),
    }
    np.savez(tmp_path / "a.npz", images=IMAGES, **truth)
    data = asdict(load_dataset(tmp_path / "a.npz"))
    for name, value in truth.items():
        want = value.astype(np.float32 if name == "boxes" else np.int32)
        np.testing.assert_array_equal(data[name], want, strict=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_1_become_bytes(dtype, tmp_path):
    images = np.array([[[0, 1, 0.5, 254 / 255]]], dtype)
    np.savez(tmp_path / "a.npz", images=images)
    data = load_dataset(tmp_path / "a.npz")
    assert data.images.dtype == np.uint8
    assert data.images.tolist() == [[[0, 255, 128, 254]]]


# bad files

SHAPE = "images must have shape [N, H, W] or [N, H, W, C], all at least 1, got"
BYTES_OR_FLOATS = "images must be integers from 0 to 255, or floats in [0, 1], got"


@pytest.mark.parametrize(
    ("arrays", "rule"),
    [
        ({"pictures": IMAGES}, " must hold an array `images`"),
        ({"images": IMAGES[0]}, f": {SHAPE} [3, 4]"),
        ({"images": IMAGES[:0]}, f": {SHAPE} [0, 3, 4]"),
        (
            {"images": IMAGES.astype(np.int64) - 1},
            f": {BYTES_OR_FLOATS} int64 from -1 to 22",
        ),
        (
            {"images": IMAGES.astype(np.float32)},
            f": {BYTES_OR_FLOATS} float32 from 0 to 23; divide by what is white: X / 23",
        ),
        ({"images": IMAGES / -24}, f": {BYTES_OR_FLOATS} float64 from -0.958333 to -0"),
        ({"images": np.full((2, 3, 4), np.nan)}, f": {BYTES_OR_FLOATS} float64 from nan to nan"),
        ({"counts": np.zeros(3, int)}, ": counts must have shape [2], got [3]"),
        ({"counts": np.zeros((2, 1), int)}, ": counts must have shape [2], got [2, 1]"),
        ({"counts": np.zeros(2)}, ": counts must be integers, got float64"),
        ({"counts": np.array([1, -2])}, ": counts must be at least 0, got -2"),
        ({"counts": np.array([0, 2**31])}, ": counts must fit int32, got 2147483648"),
        (
            {"counts": np.array([1, 2]), "labels": np.zeros((2, 1), int)},
            ": counts must be at most the number of labels (1), got 2",
        ),
        (
            {"counts": np.array([1, 4]), "boxes": np.zeros((2, 3, 4))},
            ": counts must be at most the number of boxes (3), got 4",
        ),
        ({"labels": np.zeros(2, int)}, ": labels must have shape [2, max], got [2]"),
        ({"labels": np.zeros((2, 1))}, ": labels must be integers, got float64"),
        ({"labels": np.array([[0], [-(2**40)]])}, ": labels must fit int32, got -1099511627776"),
        ({"boxes": np.zeros((2, 4))}, ": boxes must have shape [2, max, 4], got [2, 4]"),
        ({"boxes": np.zeros((2, 1, 3))}, ": boxes must have shape [2, max, 4], got [2, 1, 3]"),
        ({"boxes": np.zeros((2, 1, 4), int)}, ": boxes must be floats, got int64"),
        ({"boxes": np.full((2, 1, 4), np.nan)}, ": boxes must be finite"),
        ({"boxes": np.full((2, 1, 4), 1e39)}, ": boxes must be finite"),  # in float32
    ],
)
def test_arrays_that_are_no_data_set_are_named(arrays, rule, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **(arrays if "pictures" in arrays else {"images": IMAGES} | arrays))
    with pytest.raises(InputError) as info:
        load_dataset(path)
    assert str(info.value) == f"{path}{rule}"


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


PICKLED = npz(images=np.array([{}, None], object))
WHOLE = npz(images=IMAGES)
NO_ARCHIVE = "must be a whole .npz archive, or a folder of pictures"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "must be a file: there is none"),
        (b"", NO_ARCHIVE),
        (b"text", NO_ARCHIVE),
        (npy(IMAGES), NO_ARCHIVE),
        (PICKLED, "must be an .npz without pickles: Object arrays cannot be loaded"),
        (WHOLE[:-30], NO_ARCHIVE),
        (WHOLE[: len(WHOLE) // 2], NO_ARCHIVE),
        (WHOLE[:80] + b"\xff" * 20 + WHOLE[100:], "must be an .npz without pickles: "),
    ],
    ids=["missing", "empty", "text", "npy", "pickled", "cut", "half", "overwritten"],
)
def test_files_that_are_no_npz_are_named(content, rule, tmp_path):
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as info:
        load_dataset(path)
    assert str(info.value).startswith(f"{path} {rule}")


def test_no_single_wrong_byte_is_more_than_an_input_error(tmp_path):
    path = tmp_path / "a.npz"
    for i in range(len(WHOLE)):
        path.write_bytes(WHOLE[:i] + bytes([WHOLE[i] ^ 255]) + WHOLE[i + 1 :])
        try:
            data = load_dataset(path)
        except InputError:
            continue
        np.testing.assert_array_equal(data.images, IMAGES)
