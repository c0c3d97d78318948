"""Training on images that are read from disk while the device computes."""

import io
import json
import sys
from itertools import islice

import numpy as np
import pytest
import zarr
from array_record.python.array_record_module import ArrayRecordWriter
from conftest import TINY, mistake
from PIL import Image
from test_session import FLAGS, learned, stop_after

from airjax.cli.main import main
from airjax.config import Config, ProgressConfig, TrainConfig
from airjax.data import load, source
from airjax.data.dataset import part_of
from airjax.data.folder import load_folder
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.training import loop, stream
from airjax.training.devices import Devices
from airjax.training.record import RunRecord
from airjax.training.runs import Run
from airjax.training.stream import Stream
from airjax.training.trainer import Trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 10, 12)).astype(np.uint8)
AS_THEY_ARE = PictureConfig(invert="no", channel="grey", normalise="none", crop=0, scale=1.0)
KINDS = ("npy", "zarr", "pictures", "records")
TRAIN = ["--stream", "yes", "--crop", "0", *FLAGS.split()]


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_records(path, contents):
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for content in contents:
        writer.write(content)
    writer.close()


def stored(kind, folder, images=IMAGES):
    """Images on disk: an .npy, a .zarr, a folder of files or of two archives."""
    path = folder / {"npy": "images.npy", "zarr": "images.zarr"}.get(kind, kind)
    if kind == "npy":
        np.save(path, images)
    elif kind == "zarr":
        zarr.save_array(str(path), images)
    else:
        path.mkdir()
        contents = [png(image) for image in images]
        if kind == "records":
            write_records(path / "a.array_record", contents[:25])
            write_records(path / "b.array_record", contents[25:])
        else:
            for i, content in enumerate(contents):
                (path / f"{i:03}.png").write_bytes(content)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_each_source_has_the_images(kind, tmp_path):
    path = stored(kind, tmp_path)
    every = kind in ("pictures", "records")
    for part in ("train", "test", "all"):
        want = IMAGES[part_of(60, "data", part, every)]
        streamed = load(str(path), part, pictures=AS_THEY_ARE, stream="yes")
        assert streamed.source is not None and streamed.part == part
        assert (len(streamed.source), streamed.image_shape) == (len(want), (10, 12))
        order = np.random.default_rng(0).permutation(len(want)).tolist()
        np.testing.assert_array_equal(streamed.source.read(order), want[order])
        np.testing.assert_array_equal(streamed.source.read([1, 0, 1]), want[[1, 0, 1]])
        np.testing.assert_array_equal(streamed.images, want)
        small = load(str(path), part, pictures=AS_THEY_ARE, stream="auto")
        assert small.source is None
        np.testing.assert_array_equal(small.images, want)


def test_what_arrays_may_hold(tmp_path):
    floats = (IMAGES / np.float32(255)).astype(np.float32)
    for name, array in {"floats": floats, "bools": IMAGES > 99, "one": IMAGES[..., None]}.items():
        np.save(tmp_path / f"{name}.npy", array)
        path = str(tmp_path / f"{name}.npy")
        some = load(path, "all", stream="yes").source
        np.testing.assert_array_equal(some.read(range(60)), load(path, "all", stream="no").images)


@pytest.mark.parametrize(
    ("version", "how"),
    [
        (2, {}),
        (3, {"chunks": (4, 5, 12), "shards": (20, 10, 12)}),
        (3, {"chunks": (1, 10, 12)}),
    ],
)
@pytest.mark.parametrize("images", [IMAGES, IMAGES > 99, (IMAGES / 255).astype(np.float16)])
def test_zarr_is_read_as_zarr_python_writes_it(version, how, images, tmp_path):
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    group.create_array("images", shape=images.shape, dtype=images.dtype, **how)[...] = images
    found = load(str(tmp_path / "a.zarr"), "all", stream="yes")
    want = load(str(tmp_path / "a.zarr"), "all", stream="no").images
    np.testing.assert_array_equal(found.source.read([7, 2, 7]), want[[7, 2, 7]])
    np.save(tmp_path / "a.npy", images)
    np.testing.assert_array_equal(load(str(tmp_path / "a.npy"), "all").images, want)


def test_a_damaged_chunk_is_one_line(tmp_path, capsys):
    path = stored("zarr", tmp_path)
    for chunk in (path / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:9])
    line = f"train --data {path} --out {tmp_path}/run --stream yes"
    assert f"{path} must be whole (" in mistake(line, capsys)


def test_large_sets_are_streamed_and_a_sample_stands_for_them(tmp_path, monkeypatch):
    path = str(stored("npy", tmp_path))
    monkeypatch.setattr(source, "LARGE", IMAGES.nbytes - 1)
    monkeypatch.setattr(source, "SAMPLE", 20)
    found = load(path, "all", stream="auto")
    assert (found.total, len(found)) == (60, 20)
    rows = [int(np.flatnonzero((image == IMAGES).all((1, 2)))[0]) for image in found.images]
    assert len(set(rows)) == 20 and max(rows) > 40 and min(rows) < 20
    np.testing.assert_array_equal(load(path, "all", stream="yes").images, found.images)
    monkeypatch.setattr(source, "SAMPLE_BYTES", 5 * 120)
    assert len(load(path, "all", stream="auto")) == 5
    monkeypatch.setattr(source, "LARGE", IMAGES.nbytes)
    assert load(path, "all", stream="auto").source is None
    crops = load(path, "train", pictures=PictureConfig(crop=6), stream="no")
    monkeypatch.setattr(source, "LARGE", 1)  # crops are read one picture at a time
    again = load(path, "train", pictures=PictureConfig(crop=6), stream="auto")
    np.testing.assert_array_equal(crops.images, again.images)


class Numbered:
    """Images that are their own number."""

    image_shape = (1, 1)

    def __len__(self):
        return 60

    def read(self, rows):
        return np.array(rows, np.uint8)[:, None, None]

    def identity(self):
        return {}


def drawn(seed, first=0):
    """The images of training steps one after another, from a step on."""
    made = Stream(Numbered(), 7, seed, 4, Devices())
    try:
        for step in range(first, 1000):
            yield from np.asarray(made.at(step))[0].ravel().tolist()
    finally:
        made.close()


def test_every_image_is_seen_once_in_an_epoch():
    epochs = [list(islice(drawn(seed), 120)) for seed in (0, 0, 1)]
    orders = [tuple(e[i : i + 60]) for e in (epochs[0], epochs[2]) for i in (0, 60)]
    assert all(sorted(order) == list(range(60)) for order in orders)
    assert len(set(orders)) == 4 and epochs[0] == epochs[1]
    # the shuffle is global: what is drawn first comes from everywhere
    assert min(orders[0][:20]) < 20 and max(orders[0][:20]) >= 40


def test_the_batch_of_a_step_depends_on_the_step_alone():
    whole = list(islice(drawn(3), 30 * 7))
    assert list(islice(drawn(3, 11), 19 * 7)) == whole[11 * 7 :]
    made = Stream(Numbered(), 7, 3, 4, Devices())
    for step in (0, 3, 4, 20, 5, 5, 9):
        batches = np.asarray(made.at(step)).reshape(4, 7)
        assert batches.ravel().tolist() == whole[step * 7 : (step + 4) * 7]
    made.close()


def test_a_restart_shuffles_with_its_own_seed():
    config = Config(TrainConfig(steps=1, batch_size=7), TINY)
    for n in (0, 1):
        again = config.restarted(n)
        made = Trainer(again, IMAGES[:, :5, :6], source=Numbered())
        first = np.asarray(made.shown(0))[0].ravel().tolist()
        made.close()
        assert first == list(islice(drawn(again.train.seed), 7))
    assert again.train.seed != config.train.seed


def test_large_batches_are_few_on_the_device(monkeypatch):
    monkeypatch.setattr(stream, "BUFFER", 15)
    made = Stream(Numbered(), 7, 0, 100, Devices())
    assert made.steps == 2 and made.at(0).shape == (2, 7, 1, 1)
    made.close()


def trained(folder, *parts):
    """The rows and weights of a training of 20 steps in parts, each up to a step."""
    config = Config(
        TrainConfig(steps=20, batch_size=8, stream="yes"), TINY, progress=ProgressConfig(5, 10, 10)
    )
    path = folder / "images.npy"
    np.save(path, IMAGES[:, :5, :6])
    data, run = load(str(path), "train", stream="yes"), Run.create(config, folder / "run")
    for last in parts:
        outcome = loop.train(
            config, data, {"test": data}, RunRecord(run, data), report=print,
            show_progress=False, callback=lambda row, last=last: row["step"] == last,
        )  # fmt: skip
    run.save(*outcome.trainer.programs(outcome.state))
    return learned(run.path)


@pytest.mark.slow  # compiles much
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert trained(tmp_path / "parts", 5, 15, 20) == trained(tmp_path / "whole", 20)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(kind, tmp_path, capsys):
    path = str(stored(kind, tmp_path))
    for name in ("whole", "run"):
        arguments = ["train", path, "--out", str(tmp_path / name), *TRAIN]
        if name == "whole":
            main(arguments)
        else:
            stop_after(2, arguments)
    out = capsys.readouterr().out
    assert "training on 54 images" in out and "images are streamed (--stream)" in out
    main(["train", "--resume", str(tmp_path / "run")])
    assert "continuing from step 15" in capsys.readouterr().out
    assert learned(tmp_path / "run") == learned(tmp_path / "whole")
    run = Run.open(tmp_path / "run")
    assert run.config.train.stream == "yes" and len(run.data(None, None, None)) == 6
    if kind == "npy":
        np.save(path, IMAGES[::-1])
        with pytest.raises(InputError, match="the images that the run was started with have chang"):
            run.data(None, None, None)


@pytest.mark.slow
def test_small_images_are_on_the_device_as_ever(tmp_path):
    np.savez(tmp_path / "images.npz", images=IMAGES)
    path = stored("npy", tmp_path)
    runs = [tmp_path / name for name in ("npz", "npy", "no")]
    for run, data in zip(runs, (path.with_suffix(".npz"), path, path), strict=True):
        flags = ["--stream", "no"] if run.name == "no" else []
        main(["train", str(data), "--out", str(run), *flags, *FLAGS.split()])
        assert Run.open(run).config.train.stream == "no"
    assert learned(runs[0]) == learned(runs[1]) == learned(runs[2])


# files that cannot be read


def test_a_broken_picture_is_left_out_and_named_once(tmp_path):
    path, told = stored("pictures", tmp_path), []
    (path / "003.png").write_bytes(png(IMAGES[3])[:60])
    (path / "020.png").write_bytes(png(IMAGES[20, :5]))
    train = load_folder(path, AS_THEY_ARE, "train", stream="yes", on_broken=told.append).parts[0]
    wanted = part_of(60, "data", "train", every=True)
    wanted[[3, 20]] = False
    seen = {image.tobytes() for image in train.source.read(range(54))}
    assert seen == {image.tobytes() for image in IMAGES[wanted]}
    np.testing.assert_array_equal(train.source.read([3]), IMAGES[4:5])  # the next one
    assert [broken.path.name for broken in told] == ["003.png", "020.png"]
    assert "must be 10 x 12 pixels as the model's images, got 5 x 12" in told[1].why


def test_a_broken_picture_is_named_on_the_command_line(tmp_path, capsys):
    path = stored("pictures", tmp_path)
    (path / "003.png").write_bytes(b"no picture")
    line = f"train {path} --out {tmp_path}/run --stream yes --crop 0 --model-steps 2"
    assert "003.png cannot be read (" in mistake(f"{line} --strict", capsys)
    with pytest.raises(SystemExit):
        main(f"{line} --window-size 99".split())  # a mistake that is seen after the data are read
    error = capsys.readouterr().err
    assert error.count("left out: ") == 1 == error.count("003.png cannot be read (")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", IMAGES[0], "must have shape [N, H, W] or [N, H, W, C], all at least 1, got [10"),
        ("a.npy", IMAGES[:0], "must have shape [N, H, W] or [N, H, W, C], all at least 1, got [0"),
        ("a.npy", IMAGES[:9], "--data must hold 10 images or more to hold some out, got 9"),
        ("a.npy", IMAGES.astype(int), "must be uint8, bool, or floats in [0, 1] to be streamed"),
        ("a.npy", IMAGES / 200, "must be integers from 0 to 255, or floats in [0, 1], got float64"),
        ("a.npy", np.asfortranarray(IMAGES), "must be in C's order (np.ascontiguousarray)"),
        ("a.npy", b"\x93NUMPY", "must be a whole .npy without pickles: "),
        ("a.npy", np.array([{}, None], object), "must be a whole .npy without pickles: "),
        ("a.zarr", IMAGES[:0], "must have shape [N, H, W] or [N, H, W, C], all at least 1, got [0"),
        ("a.zarr", None, "must be a .zarr of an array, or of a group with an array images"),
        ("a", [], "--data must hold pictures: its ArrayRecord files have no records"),
        ("a", b"no archive", "must be a whole ArrayRecord file"),
        (
            "a.npz",
            IMAGES,
            "--stream must be auto or no, except for an .npy, a .zarr, pictures or Arr",
        ),
    ],
)
def test_wrong_images_are_one_line(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if name == "a":
        path.mkdir()
        write_records(path / "a.array_record", [])
        if content:
            (path / "a.array_record").write_bytes(content)
    elif name == "a.zarr" and content is None:
        zarr.open_group(str(path), mode="w")
    elif name == "a.zarr":
        zarr.save_array(str(path), content)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif name == "a.npz":
        np.savez(path, images=content)
    else:
        np.save(path, content)
    line = f"train --data {path} --out {tmp_path}/run --stream yes"
    assert message in mistake(line, capsys)
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_cut_off(tmp_path, capsys):
    path = stored("npy", tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "must be a whole .npy" in mistake(f"train {path} --out {tmp_path}/run", capsys)


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path):
    path = stored("npy", tmp_path)
    images = load(str(path), "all", stream="yes").source
    path.write_bytes(path.read_bytes()[:-1])
    np.testing.assert_array_equal(images.read([58]), IMAGES[58:59])
    with pytest.raises(InputError, match="must hold image 59, but was cut off"):
        images.read([58, 59])


def test_crops_are_not_streamed(tmp_path, capsys):
    for kind in ("pictures", "npy"):
        line = f"train {stored(kind, tmp_path)} --out {tmp_path}/run --stream yes --crop 8"
        assert "--stream must be auto or no with crops" in mistake(line, capsys)


def test_several_pages_of_a_file_are_not_streamed(tmp_path, capsys):
    pages = [Image.fromarray(image) for image in IMAGES[:2]]
    (tmp_path / "pages").mkdir()
    for i in range(12):
        path = tmp_path / "pages" / f"{i}.tif"
        pages[0].save(path, save_all=True, append_images=pages[1:])
    line = f"train {tmp_path}/pages --out {tmp_path}/run --stream yes --crop 0 --pages each"
    assert "--stream must be auto or no where pages of files" in mistake(line, capsys)
    each = PictureConfig(**{**vars(AS_THEY_ARE), "pages": "each"})
    loaded = load_folder(tmp_path / "pages", each, "all", stream="auto").parts[0]
    assert loaded.source is None and len(loaded) == 24


def test_without_the_extra(tmp_path, monkeypatch, capsys):
    path = stored("npy", tmp_path)
    monkeypatch.setattr(stream, "find_spec", lambda name: None)
    line = f"train {path} --out {tmp_path}/run"
    found = mistake(f"{line} --stream yes", capsys)
    assert found == (
        "--stream must be no for these images, or needs grain: pip install 'airjax[stream]'"
    )
    monkeypatch.setattr(source, "LARGE", 1)
    assert mistake(line, capsys) == found
    for module, kind in (("tensorstore", "zarr"), ("grain.sources", "records")):
        path = stored(kind, tmp_path)
        monkeypatch.setitem(sys.modules, module, None)
        assert "airjax[stream]" in mistake(f"train {path} --out {tmp_path}/run", capsys)


def test_other_images_have_another_fingerprint(tmp_path):
    from airjax.training.identity import fingerprint

    def found(kind):
        path = stored(kind, tmp_path)
        return [
            fingerprint(load(str(path), part, pictures=AS_THEY_ARE, stream="yes"))
            for part in ("train", "test", "train")
        ]

    train, test, again = found("pictures")
    assert train == again != test and train["streamed"]["length"] == 54
    (tmp_path / "pictures" / "059.png").rename(tmp_path / "pictures" / "060.png")
    renamed = load(str(tmp_path / "pictures"), "train", pictures=AS_THEY_ARE, stream="yes")
    assert fingerprint(renamed) != train
    json.dumps(found("records"))
