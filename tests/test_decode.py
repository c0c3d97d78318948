"""Pictures as instruments and phones write them: all flavours read to the same intensities."""

import csv
import json
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
from airjax.data.signal import as_image, without_background
from airjax.data.survey import sample, survey
from airjax.data.working_scale import of_picture
from airjax.errors import InputError
from airjax.object_size import estimate
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


# what is decided


def folder_of(pictures, path, save=None):
    path.mkdir()
    for i, picture in enumerate(pictures):
        if save is None:
            tifffile.imwrite(path / f"{i:02}.tif", picture)
        else:
            save(picture, path / f"{i:02}.png")
    return path


SCENES = [scene(seed) for seed in range(12)]


def images_in(path, **settings):
    return load_folder(path, PictureConfig(crop=0, **settings), "all").parts[0].images


def test_dim_12_bit_the_same_in_8_bit_and_twice_as_bright_are_the_same(tmp_path):
    dim = folder_of([np.round(500 * s).astype(np.uint16) for s in SCENES], tmp_path / "dim")
    twice = folder_of([np.round(1000 * s).astype(np.uint16) for s in SCENES], tmp_path / "twice")
    byte = folder_of([np.round(255 * s).astype(np.uint8) for s in SCENES], tmp_path / "byte")
    want = images_in(byte).astype(int)
    for path in (dim, twice):
        assert np.abs(images_in(path) - want).max() <= 2


def test_a_run_of_8_bit_reads_12_bit(tmp_path, capsys):
    """Of another type, intensities are decided anew, which is printed."""
    byte = folder_of([np.round(255 * s).astype(np.uint8) for s in SCENES], tmp_path / "byte")
    dim = folder_of([np.round(500 * s).astype(np.uint16) for s in SCENES], tmp_path / "dim")
    config = load_folder(byte, PictureConfig(crop=0), "all").survey.pictures
    model = TINY.for_images((60, 80))
    run = Run.create(Config(TrainConfig(data="digits"), model, pictures=config), tmp_path / "run")
    run.save(*untrained(model, 0))
    for path, said in ((byte, False), (dim, True)):
        capsys.readouterr()
        main(f"predict {run.path} {path} --out {tmp_path}/{path.name}-out --format json".split())
        assert ("--normalise" in capsys.readouterr().out) is said
    a, b = (
        np.array([entry["count_probs"] for entry in json.loads(path.read_text())])
        for path in (tmp_path / f"{name}-out/predictions.json" for name in ("byte", "dim"))
    )
    assert len(a) == len(b) == 12
    np.testing.assert_allclose(a, b, atol=0.03)


def test_a_bright_background_of_a_dim_picture_is_seen(tmp_path):
    dark = folder_of([4000 - np.round(3000 * s).astype(np.uint16) for s in SCENES],
                     tmp_path / "dark")  # fmt: skip
    found = survey(sorted(dark.iterdir()), PictureConfig())
    assert found.pictures.invert == "yes"
    images = images_in(dark)
    assert np.abs(images - np.round(255 * np.array(SCENES))).max() <= 4


def test_pictures_of_both_polarities_each_decide(tmp_path):
    mixed = folder_of(
        [np.round(255 * (s if i % 3 else 1 - s)).astype(np.uint8) for i, s in enumerate(SCENES)],
        tmp_path / "mixed",
    )
    assert survey(sorted(mixed.iterdir()), PictureConfig()).pictures.invert == "picture"
    assert np.abs(images_in(mixed) - np.round(255 * np.array(SCENES))).max() <= 4


def test_two_kinds_of_files_in_turn_are_both_looked_at(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(200):
        colours = i % 2 == 1
        array = np.full((9, 9, 3), 255 if colours else 0, np.uint8)
        array[3:6, 3:6] = [255, 0, 0] if colours else [200, 200, 200]
        Image.fromarray(array).save(tmp_path / "in" / f"s{i // 2:03}_ch{i % 2}.png")
    found = survey(sorted((tmp_path / "in").iterdir()), PictureConfig()).pictures
    assert (found.invert, found.channel) == ("picture", "colour")
    frames = sample(sorted((tmp_path / "in").iterdir()), "auto").middles
    kinds = [frame.pixels[0, 0, 0] for frame in frames]
    assert 4 < sum(kind == 255 for kind in kinds) < len(kinds) - 4


@pytest.mark.parametrize("brightness", [255, 40])
def test_the_channel_of_the_signal_is_read(brightness, tmp_path):
    (tmp_path / "in").mkdir()
    for i, s in enumerate(SCENES):
        picture = np.zeros((*s.shape, 3), np.uint8)
        picture[..., 2] = np.round(brightness * s)
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    found = load_folder(tmp_path / "in", PictureConfig(crop=0), "all")
    assert found.survey.pictures.channel == "2"
    order = sorted(range(12), key=str)
    want = np.round(255 * np.array([SCENES[i] for i in order]))
    assert np.abs(found.parts[0].images - want).max() <= 4


def test_pictures_of_different_brightness_have_their_own_levels(tmp_path):
    """An empty picture's noise does not become white."""
    random = np.random.default_rng(0)
    pictures = [np.round(s * 250 * (0.1 + 0.9 * (i % 2))) for i, s in enumerate(SCENES)]
    pictures.append(random.integers(0, 6, SCENE.shape))
    path = folder_of([p.astype(np.uint8) for p in pictures], tmp_path / "in")
    found = load_folder(path, PictureConfig(crop=0), "all")
    assert found.survey.pictures.normalise == "picture"
    images = found.parts[0].images
    assert np.abs(images[:12] - np.round(255 * np.array(SCENES))).max() <= 25
    assert images[12].mean() < 150


def haze(seed, shape=(120, 160)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    y, x = np.random.default_rng(seed).integers(20, 100, 2)
    return 0.5 * np.exp(-(((rows - y) / 50) ** 2) - ((columns - x) / 60) ** 2)


def test_an_uneven_background_is_subtracted_from_each_picture(tmp_path):
    scenes = [scene(seed, (120, 160), 25) for seed in range(12)]
    hazy = [np.clip(0.45 * s + haze(i) + 0.05, 0, 1) for i, s in enumerate(scenes)]
    path = folder_of([np.round(60000 * h).astype(np.uint16) for h in hazy], tmp_path / "in")
    found = survey(sorted(path.iterdir()), PictureConfig(), "auto")
    assert found.background == "local" and found.pictures.local_background is not None
    assert 15 < found.pictures.local_background < 35
    images = [read.image for read in read_images(sorted(path.iterdir()), found.pictures)]
    for image, s in zip(images, scenes, strict=True):
        off = s == 0
        assert image[off].mean() < 12 and np.percentile(image[off], 99) < 60
        assert image[~off].mean() > 110
    even = folder_of([np.round(255 * s).astype(np.uint8) for s in scenes], tmp_path / "even")
    assert survey(sorted(even.iterdir()), PictureConfig(), "auto").background == "auto"


def test_what_varies_slowly_is_the_opening_smoothed():
    flat = np.full((40, 50), 0.3, np.float32)
    np.testing.assert_allclose(without_background(flat, 10.0), 0, atol=1e-6)
    spot = flat.copy()
    spot[18:22, 20:24] += 0.5
    rest = without_background(spot, 12.0)
    np.testing.assert_allclose(rest[18:22, 20:24], 0.5, atol=0.02)
    assert np.abs(rest[:10]).max() < 0.01


def test_pictures_of_several_magnifications_have_scales_of_their_own(tmp_path):
    sizes = [8, 12, 24, 40, 60] * 2
    pictures = [scene(i, (12 * n, 14 * n), 8, n) for i, n in enumerate(sizes)]
    path = folder_of([np.round(255 * p).astype(np.uint8) for p in pictures], tmp_path / "in")
    files = sorted(path.iterdir())
    found = survey(files, PictureConfig())
    assert found.pictures.scale == "picture" and found.pictures.crop == 48
    assert found.image_object_size == pytest.approx(16, rel=0.15)
    for read, n, picture in zip(read_images(files, found.pictures), sizes, pictures, strict=True):
        assert estimate(read.image[None]) == pytest.approx(16, rel=0.25), n
        back = read.placement.in_file(np.float32([[0, 0, *read.image.shape[1::-1]]]))
        np.testing.assert_allclose(back[0], [0, 0, *picture.shape[::-1]], atol=1.0)
    text = {d.what: (d.value, d.flag) for d in found.decisions}["working scale"]
    assert text[0].startswith("each picture (objects of ") and text[1] == "--scale"
    same = survey(files, PictureConfig(scale=0.5))
    assert same.pictures.scale == 0.5
    empty = np.zeros((30, 40), np.uint8)
    (frame,) = decode(folder_of([empty], tmp_path / "empty") / "00.tif", "each")
    assert of_picture(frame, found.pictures).scale is None


@pytest.mark.parametrize("size", [8, 30, 100])
def test_large_objects_are_read_at_a_working_scale(size, tmp_path):
    shape = (16 * size, 20 * size)
    pictures = [scene(seed, shape, 12, size) for seed in range(4)]
    path = folder_of([np.round(255 * p).astype(np.uint8) for p in pictures], tmp_path / "in")
    found = survey(sorted(path.iterdir()), PictureConfig())
    assert found.sizes is not None
    assert found.sizes.typical / found.pictures.ratio == pytest.approx(size, rel=0.25)
    if size == 8:
        assert found.pictures.scale is None
    else:
        assert found.image_object_size == pytest.approx(16, rel=0.02)
    assert found.pictures.crop is not None and 24 <= found.pictures.crop <= 64
    (read, *_) = read_images(sorted(path.iterdir()), found.pictures)
    back = read.placement.in_file(np.float32([[0, 0, *read.image.shape[1::-1]]]))
    np.testing.assert_allclose(back[0], [0, 0, shape[1], shape[0]], atol=0.6)


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
