"""What is decided from a sample of pictures: intensities, polarity, channel, background, scale."""

import json

import numpy as np
import pytest
import tifffile
from conftest import TINY
from PIL import Image
from test_decode import SCENE, scene

from airjax.cli.main import main
from airjax.config import Config, TrainConfig
from airjax.data.decode import Frame, decode
from airjax.data.folder import load_folder, read_images
from airjax.data.signal import without_background
from airjax.data.survey import find_channel, sample, survey
from airjax.data.working_scale import of_picture
from airjax.errors import InputError
from airjax.object_size import estimate
from airjax.picture_config import PictureConfig
from airjax.programs.untrained import untrained
from airjax.training.runs import Run


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


LIGHT = np.array([255, 218, 102])  # brown light, as of an incandescent lamp


@pytest.mark.parametrize(
    ("colours", "channel"),
    [
        ([0.4 * LIGHT], "grey"),  # dark objects in brown light
        ([0.8 * LIGHT, [120, 40, 160]], "colour"),  # stained ones among them
        ([[180, 140, 180]], "colour"),  # one channel brightens where others darken
    ],
)
def test_a_tint_is_no_colour(colours, channel, tmp_path):
    noise = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for i in range(6):
        part = scene(i)[..., None]
        picture = (1 - part) * 0.9 * LIGHT + part * colours[i % len(colours)]
        picture = np.clip(picture + noise.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    found = survey(sorted((tmp_path / "in").iterdir()), PictureConfig()).pictures
    assert (found.invert, found.channel) == ("yes", channel)


def test_pictures_of_one_tint_each_are_colourful():
    red, green = np.zeros((2, 20, 20, 3), np.uint8)
    red[5:9, 5:9, 0] = green[5:9, 5:9, 1] = 200
    found = [
        find_channel([Frame(x, None, 255.0, is_colour=True) for x in pictures])
        for pictures in ([red], [red, green])
    ]
    assert found == ["0", "colour"]


def test_a_transparent_picture_has_no_colour():
    nothing = Frame(np.full((9, 9, 3), 200, np.uint8), np.zeros((9, 9)), 255.0, is_colour=True)
    assert find_channel([nothing]) == "grey"


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


@pytest.mark.slow
def test_a_frame_is_not_an_object(tmp_path):
    """It is found in the pictures, printed with its flag, and subtracted; objects stay."""
    scenes = [scene(seed, (200, 240), 12) for seed in range(8)]
    framed = [s.copy() for s in scenes]
    for f in framed[::2]:
        f[20:26, 10:230] = f[170:176, 10:230] = 0.8
        f[20:176, 10:16] = f[20:176, 224:230] = 0.8
    path = folder_of([np.round(255 * f).astype(np.uint8) for f in framed], tmp_path / "in")
    files = sorted(path.iterdir())
    found = survey(files, PictureConfig(), "auto")
    assert found.background == "lines" and found.pictures.lines > 3 * found.sizes.typical
    said = {each.what: each for each in found.decisions}["background"]
    assert (
        said.flag == "--background" and f"lines of {found.pictures.lines:.0f} pixels" in said.value
    )
    for read, s, f in zip(read_images(files, found.pictures), scenes, framed, strict=True):
        frame = (f != s) & (s == 0)
        assert not frame.any() or read.image[frame].mean() < 15
        assert read.image[(s > 0) & (f == s)].mean() > 110
    local = survey(files, PictureConfig(), "local")
    assert local.background == "local" and local.pictures.lines is None
    plain = folder_of([np.round(255 * s).astype(np.uint8) for s in scenes], tmp_path / "plain")
    assert survey(sorted(plain.iterdir()), PictureConfig(), "auto").pictures.lines is None
    asked = survey(sorted(plain.iterdir()), PictureConfig(), "lines")
    assert asked.background == "lines" and asked.pictures.lines is not None


def test_dense_objects_have_smaller_crops(tmp_path):
    sides = []
    for number in (6, 250):
        pictures = [np.round(255 * scene(i, (200, 240), number)).astype(np.uint8) for i in range(4)]
        path = folder_of(pictures, tmp_path / str(number))
        found = survey(sorted(path.iterdir()), PictureConfig(), "none", object_size=12.0)
        sides.append(found.pictures.crop)
    assert sides[0] == 36 and 24 <= sides[1] < 36


def test_what_varies_slowly_is_the_opening_smoothed():
    flat = np.full((40, 50), 0.3, np.float32)
    np.testing.assert_allclose(without_background(flat, 10.0), 0, atol=1e-6)
    spot = flat.copy()
    spot[18:22, 20:24] += 0.5
    rest = without_background(spot, 12.0)
    np.testing.assert_allclose(rest[18:22, 20:24], 0.5, atol=0.02)
    assert np.abs(rest[:10]).max() < 0.01


@pytest.mark.slow
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


def white_pages(number=12, blank=(), noise=0.0, side=120):
    """Three dark discs of 11 pixels on white each, less than 1 % of a page of 240."""
    random, pages = np.random.default_rng(0), []
    y, x = np.mgrid[:side, :side]
    for i in range(number):
        page = np.full((side, side), 255.0) + noise * random.standard_normal((side, side))
        for _ in range(0 if i in blank else 3):
            cy, cx = random.uniform(8, side - 8, 2)
            page[(y - cy) ** 2 + (x - cx) ** 2 < 5.5**2] = 30
        pages.append(np.clip(page - 3 * noise, 0, 255).round().astype(np.uint8))
    return pages


@pytest.mark.parametrize("blank", [(), range(4), range(8)])
@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("side", [120, 300])
def test_blank_pages_and_few_dark_objects_do_not_hide_a_white_background(
    tmp_path, blank, noise, side
):
    pages = white_pages(blank=blank, noise=noise, side=side)
    found = load_folder(folder_of(pages, tmp_path / "a"), PictureConfig(crop=0), "all")
    assert found.survey.pictures.invert == "yes"
    assert 9 <= found.survey.sizes.typical <= 13
    images = found.parts[0].images
    assert np.median(images, axis=(1, 2)).max() <= 10  # also those of blank pages
    shown = [i for i in range(len(pages)) if i not in blank]
    assert (np.percentile(images[shown], 99.9, axis=(1, 2)) > 200).all()


def test_blank_pages_are_black_where_each_picture_has_its_own_polarity(tmp_path):
    pages = white_pages(16, blank=range(4), noise=3.0)
    pages[8:] = [255 - page for page in pages[8:]]
    found = load_folder(folder_of(pages, tmp_path / "a"), PictureConfig(crop=0), "all")
    assert found.survey.pictures.invert == "picture"
    assert np.median(found.parts[0].images, axis=(1, 2)).max() <= 10


def test_whole_pictures_have_one_scale(tmp_path):
    """Also where their objects differ so much in size that crops would have several."""
    sizes = [8, 12, 24, 40, 60] * 2
    pictures = [scene(i, (200, 200), 2, n) for i, n in enumerate(sizes)]
    path = folder_of([np.round(255 * p).astype(np.uint8) for p in pictures], tmp_path / "in")
    files = sorted(path.iterdir())
    assert survey(files, PictureConfig()).pictures.scale == "picture"
    whole = survey(files, PictureConfig(crop=0)).pictures
    assert whole.crop == 0 and whole.scale != "picture"
    assert len({read.image.shape for read in read_images(files, whole)}) == 1
    with pytest.raises(InputError, match="scale must be a number with --crop 0"):
        survey(files, PictureConfig(crop=0, scale="picture"))


def test_sizes_and_crops_that_do_not_fit_name_their_rule(tmp_path):
    folder = folder_of([np.round(255 * s).astype(np.uint8) for s in SCENES], tmp_path / "scenes")
    files = sorted(folder.iterdir())
    side = min(SCENES[0].shape)
    for size in (1.0, side + 1.0):
        with pytest.raises(InputError, match=f"object_size must be 2 to {side} pixels"):
            survey(files, PictureConfig(), object_size=size)
    least = int(np.ceil(survey(files, PictureConfig()).sizes.typical))
    for crop in (least - 1, least):
        settings = PictureConfig(crop=crop)
        if crop < least:
            with pytest.raises(InputError, match=f"crop must be at least {least}, .*--object-size"):
                survey(files, settings)
        else:
            assert survey(files, settings).pictures.crop == crop
