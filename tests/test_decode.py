"""Pictures as instruments and phones write them: all flavours read to the same intensities."""

import csv
import struct

import numpy as np
import pytest
import tifffile
from conftest import TINY
from PIL import Image

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data.decode import Broken, decode
from airjax.data.folder import load_folder, read_images
from airjax.data.signal import as_image
from airjax.data.survey import survey
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run

MOST = 4080  # of 12-bit data


def scene(seed=0, shape=(60, 80), number=9, size=8):
    """Discs of different intensities, at most 1, on black."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    picture = np.zeros(shape)
    for _ in range(number):
        y, x = random.integers(size, np.array(shape) - size)
        inside = np.hypot(rows - y, columns - x) < size / 2
        picture[inside] = random.choice([0.6, 0.8, 1.0])
    return picture


SCENE = scene()
AS_12_BIT = np.round(SCENE * MOST).astype(np.uint16)


def rgb(channel):
    picture = np.zeros((*SCENE.shape, 3), np.uint8)
    picture[..., channel] = np.round(SCENE * 255)
    return picture


def tif(array, **options):
    return lambda path: tifffile.imwrite(path, array, **options)


def pil(array, **options):
    return lambda path: Image.fromarray(array).save(path, **options)


BYTES = np.round(SCENE * 255).astype(np.uint8)
FLAVOURS = {
    "u1.tif": tif(BYTES),
    "u2.tif": tif(np.round(SCENE * 65535).astype(np.uint16)),
    "u4.tif": tif(np.round(SCENE * (2**32 - 1)).astype(np.uint32)),
    "i1.tif": tif(np.round(SCENE * 127).astype(np.int8)),
    "i2.tif": tif(np.round(SCENE * 32767).astype(np.int16)),
    "i2negative.tif": tif(np.round(SCENE * 3000 - 1000).astype(np.int16)),
    "i4.tif": tif(np.round(SCENE * 1e6).astype(np.int32)),
    "f2.tif": tif(SCENE.astype(np.float16)),
    "f4.tif": tif(SCENE.astype(np.float32)),
    "f4bytes.tif": tif((SCENE * 255).astype(np.float32)),
    "f8.tif": tif(SCENE * 1e-3),
    "12bit.tif": tif(AS_12_BIT),
    "dim12bit.tif": tif(AS_12_BIT // 8),
    "bigendian.tif": tif(AS_12_BIT.astype(">u2"), byteorder=">"),
    "bigtiff.tif": tif(AS_12_BIT, bigtiff=True),
    "tiles.tif": tif(AS_12_BIT, tile=(16, 16)),
    "deflate.tif": tif(AS_12_BIT, compression="zlib"),
    "lzw.tif": tif(AS_12_BIT, compression="lzw", predictor=True),
    "zstd.tif": tif(AS_12_BIT, compression="zstd"),
    "whiteiszero.tif": tif(65535 - np.round(SCENE * 65535).astype(np.uint16),
                           photometric="miniswhite"),
    "whiteiszero8.tif": tif(255 - BYTES, photometric="miniswhite"),
    "imagej.tif": tif(AS_12_BIT, imagej=True),
    "ome.ome.tif": tif(AS_12_BIT, metadata={"axes": "YX"}),
    "rgb.tif": tif(np.stack([BYTES] * 3, -1), photometric="rgb"),
    "planar.tif": tif(np.stack([BYTES] * 3), photometric="rgb", planarconfig="separate"),
    "8.png": pil(BYTES),
    "16.png": pil(AS_12_BIT),
    "rgb.png": pil(np.stack([BYTES] * 3, -1)),
    "blue.png": pil(rgb(2)),
    "green.tif": tif(rgb(1), photometric="rgb"),
    "a.bmp": pil(BYTES),
    "a.webp": pil(np.stack([BYTES] * 3, -1), lossless=True),
    "mask.png": pil((SCENE > 0).astype(np.uint8)),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAVOURS)
def test_every_flavour_reads_to_the_same_intensities(name, tmp_path):
    FLAVOURS[name](tmp_path / name)
    found = load_folder(tmp_path, PictureConfig(crop=0), "all")
    assert found.broken == []
    image = found.parts[0].images[0]
    want = (SCENE > 0) * 255 if name == "mask.png" else BYTES
    assert image.shape == SCENE.shape
    assert np.abs(image.astype(int) - want).max() <= 4
    assert not image[SCENE == 0].any()


def test_packed_12_bit(tmp_path):
    """Two pixels in three bytes, as cameras write them."""
    pytest.importorskip("imagecodecs")
    values = AS_12_BIT
    pairs = values.reshape(len(values), -1, 2).astype(np.uint32)
    packed = np.stack([pairs[..., 0] >> 4, (pairs[..., 0] & 15) << 4 | pairs[..., 1] >> 8,
                       pairs[..., 1] & 255], -1).astype(np.uint8)  # fmt: skip
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, packed.size)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    header = b"II*\0" + struct.pack("<I", 8 + packed.size)
    (tmp_path / "a.tif").write_bytes(header + packed.tobytes() + directory)
    (frame,) = decode(tmp_path / "a.tif")
    assert frame.white == 4095
    np.testing.assert_array_equal(frame.pixels, values)


# pages, z and channels


@pytest.mark.parametrize(
    ("shape", "options", "pages", "number"),
    [
        ((5,), {"photometric": "minisblack"}, "auto", 5),
        ((5,), {"imagej": True, "metadata": {"axes": "TYX"}}, "auto", 5),
        ((5,), {"imagej": True, "metadata": {"axes": "ZYX"}}, "auto", 1),
        ((5,), {"imagej": True, "metadata": {"axes": "ZYX"}}, "each", 5),
        ((5,), {"metadata": {"axes": "ZYX"}, "ome": True}, "auto", 1),
        ((5,), {"photometric": "minisblack"}, "first", 1),
        ((5,), {"photometric": "minisblack"}, "mean", 1),
        ((2, 3), {"imagej": True, "metadata": {"axes": "TZYX"}}, "auto", 1),
        ((2,), {"imagej": True, "metadata": {"axes": "CYX"}}, "auto", 1),
    ],
)
def test_no_page_is_lost_without_a_word(shape, options, pages, number, tmp_path):
    stack = np.stack([np.full((6, 7), i, np.uint16) for i in range(int(np.prod(shape)))])
    stack = stack.reshape(*shape, 6, 7)
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    frames = decode(tmp_path / "a.tif", pages)
    assert len(frames) == number
    if number > 1:
        assert [frame.page for frame in frames] == list(range(number))
        assert [int(frame.pixels[0, 0]) for frame in frames] == list(range(number))
    elif "C" in options.get("metadata", {}).get("axes", ""):
        assert frames[0].pixels.shape == (6, 7, 2)
    else:
        want = {"first": 0, "mean": 2}.get(pages, stack.max())
        assert frames[0].pixels[0, 0] == want and frames[0].page is None


@pytest.mark.parametrize(("name", "options"), [
    ("a.png", {"save_all": True}), ("a.webp", {"save_all": True, "lossless": True}),
])  # fmt: skip
def test_animations_are_pictures(name, options, tmp_path):
    each = [Image.fromarray(np.roll(BYTES, 3 * i, 1)).convert("RGB") for i in range(3)]
    each[0].save(tmp_path / name, append_images=each[1:], **options)
    frames = decode(tmp_path / name)
    assert [frame.page for frame in frames] == [0, 1, 2]
    assert frames[2].pixels[..., 0].tolist() == np.asarray(each[2])[..., 0].tolist()


def test_pages_are_rows_of_the_tables(tmp_path):
    run = Run.create(
        Config(TrainConfig(data="digits"), TINY,
               pictures=PictureConfig("no", None, "grey", 0, normalise="none")),
        tmp_path / "run",
    )  # fmt: skip
    run.save(*untrained(TINY, 0))
    (tmp_path / "in").mkdir()
    images = np.random.default_rng(0).integers(0, 256, (14, 5, 6)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "in/stack.tif", images, photometric="minisblack")
    Image.fromarray(images[0]).save(tmp_path / "in/z.png")
    main(f"predict {tmp_path}/run {tmp_path}/in --out {tmp_path}/out --draw".split())
    with open(tmp_path / "out/counts.csv") as file:
        rows = [(row["file"], row["page"]) for row in csv.DictReader(file)]
    assert rows == [*(("stack.tif", str(i)) for i in range(14)), ("z.png", "")]
    assert len(list((tmp_path / "out/drawn").iterdir())) == 15


# hostile files


def test_a_header_may_claim_anything(tmp_path):
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, BYTES)
    content = bytearray(whole.read_bytes())
    with tifffile.TiffFile(whole) as file:
        for name in ("ImageWidth", "ImageLength"):
            offset = file.pages[0].tags[name].valueoffset
            content[offset : offset + 4] = (100_000).to_bytes(4, "little")
    (tmp_path / "lies.tif").write_bytes(content)
    found = decode(tmp_path / "lies.tif")
    assert isinstance(found, Broken) and "500000000 pixels" in found.why
    (tmp_path / "cut.tif").write_bytes(whole.read_bytes()[:2000])
    assert isinstance(decode(tmp_path / "cut.tif"), Broken)
    bomb = tmp_path / "bomb.png"
    Image.new("1", (30_000, 20_000)).save(bomb)
    found = decode(bomb)
    assert isinstance(found, Broken) and "30000 x 20000" in found.why
    nan = np.where(SCENE > 0, np.nan, 0).astype(np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", nan)
    assert decode(tmp_path / "nan.tif").why == "values must be finite"


def test_ninety_megapixels_are_read(tmp_path):
    Image.new("1", (10_000, 9_000), 1).save(tmp_path / "large.png")
    (frame,) = decode(tmp_path / "large.png")
    assert frame.pixels.shape == (9_000, 10_000) and frame.pixels[-1, -1] == 255


def test_a_folder_of_broken_files_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0and no more")
    with pytest.raises(InputError, match=r"a\.tif cannot be read"):
        survey([tmp_path / "a.tif"], PictureConfig())


def test_a_channel_that_is_not_there_is_one_line(tmp_path):
    Image.fromarray(rgb(0)).save(tmp_path / "a.png")
    config = PictureConfig("no", None, "7", 0, normalise="none")
    (found,) = read_images([tmp_path / "a.png"], config)
    assert found.why == "channel must be below 3, the number of channels, got 7"
    (frame,) = decode(tmp_path / "a.png")
    grey = PictureConfig("no", None, "max", 0, normalise="none")
    np.testing.assert_array_equal(as_image(frame, grey), BYTES)
