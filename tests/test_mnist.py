"""MNIST's files: found, downloaded, and never taken for good when they are not."""

import gzip
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from airjax.data import SceneConfig, make, mnist
from airjax.data.mnist import load_mnist
from airjax.errors import InputError

DATA_DIR = os.environ.get("AIRJAX_DATA_DIR", "")
NAMES = mnist.FILES["train"]


def idx(number):
    """The content of both training files, with this many digits, compressed."""
    images = bytes(16) + np.arange(number, dtype=np.uint8).repeat(784).tobytes()
    content = (images, bytes(8) + bytes(range(number)))
    return dict(zip(NAMES, map(gzip.compress, content), strict=True))


NO_GZIP, OTHER = dict.fromkeys(NAMES, b"damaged"), idx(1)


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def is_read(pool):
    assert pool.images.tolist() == [[[k] * 28] * 28 for k in (0, 1)]
    assert pool.labels.tolist() == [0, 1]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no folder of data but those a test names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("AIRJAX_CACHE_DIR", str(folder))
    monkeypatch.delenv("AIRJAX_DATA_DIR", raising=False)
    return folder


@pytest.fixture
def files(monkeypatch):
    """Two digits as the training files, which are taken for MNIST's."""
    content = idx(2)
    digests = {k: hashlib.sha256(gzip.decompress(v)).hexdigest() for k, v in content.items()}
    monkeypatch.setattr(mnist, "SHA256", digests)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    return content


# MNIST itself

real_mnist = pytest.mark.skipif(
    not DATA_DIR, reason="AIRJAX_DATA_DIR names no folder with MNIST's files"
)


@real_mnist
@pytest.mark.parametrize(("part", "number"), [("train", 60_000), ("test", 10_000)])
def test_mnist_is_whole(part, number, monkeypatch):
    monkeypatch.setenv("AIRJAX_DATA_DIR", DATA_DIR)
    pool = load_mnist(part)
    assert (pool.images.shape, pool.images.dtype) == ((number, 28, 28), np.uint8)
    assert (pool.labels.shape, pool.labels.dtype) == ((number,), np.int32)
    assert set(pool.labels) == set(range(10))


@real_mnist
def test_multi_mnist_digits_have_the_tutorials_size(monkeypatch):
    monkeypatch.setenv("AIRJAX_DATA_DIR", DATA_DIR)
    boxes = make("multi-mnist", "test", SceneConfig(num_scenes=300, counts=(1,))).boxes
    assert boxes is not None
    longer = (boxes[:, 0, 2:] - boxes[:, 0, :2]).max(1)
    sides = (28 / np.random.RandomState(0).normal(1.3, 0.1, 10_000)).astype(int)
    assert abs(longer.mean() - sides.mean() * 20 / 28) < 1  # a digit fills 20 of MNIST's 28 pixels
    assert longer.max() <= sides.max()


# on disk


@pytest.mark.parametrize(
    ("place", "data_dir"),
    [("mine/mnist", "mine"), ("mine", "mine"), ("env/mnist", None), ("env/mnist", "elsewhere")],
)
def test_mnist_is_found_in_data_dir_then_in_the_environments(
    place, data_dir, files, tmp_path, monkeypatch
):
    put(tmp_path / "env" / "mnist", NO_GZIP)  # an error if it is read
    put(tmp_path / place, files)
    monkeypatch.setenv("AIRJAX_DATA_DIR", str(tmp_path / "env"))
    is_read(load_mnist("train", data_dir and tmp_path / data_dir))


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_named(name, files, tmp_path):
    put(tmp_path, files | {name: files[name][:-9]})
    with pytest.raises(InputError) as info:
        load_mnist("train", tmp_path)
    assert str(info.value).startswith(f"{tmp_path / name} must be MNIST's whole gzip file: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_other_content_is_named(name, files, tmp_path):
    put(tmp_path, files | {name: OTHER[name]})
    with pytest.raises(InputError) as info:
        load_mnist("train", tmp_path)
    rule = f"must be MNIST's file: the content's sha256 must be {mnist.SHA256[name]}, got "
    assert str(info.value).startswith(f"{tmp_path / name} {rule}")


# downloads


@pytest.fixture
def serve(monkeypatch):
    """Makes folders of files the mirrors (None: one out of reach); gives the paths asked for."""
    served, asked = {}, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = served.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, format, *args):
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:

        def serve(*folders):
            mirrors = []
            for i, files in enumerate(folders):
                port = 1 if files is None else server.server_port
                mirrors.append(f"http://127.0.0.1:{port}/{i}/")
                served.update({f"/{i}/{name}": content for name, content in (files or {}).items()})
            monkeypatch.setattr(mnist, "MIRRORS", tuple(mirrors))
            return asked

        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield serve
        server.shutdown()
        thread.join()


bad_mirrors = pytest.mark.parametrize(
    "bad", [None, {}, NO_GZIP, OTHER], ids=["unreachable", "404", "no gzip", "other content"]
)


@bad_mirrors
def test_the_second_mirror_stands_in_for_the_first(bad, files, serve, cache):
    serve(bad, files)
    is_read(load_mnist("train"))
    assert {path.name: path.read_bytes() for path in (cache / "mnist").iterdir()} == files


@bad_mirrors
def test_without_a_good_mirror_the_file_and_the_remedy_are_named(bad, files, serve, cache):
    serve(bad, bad)
    with pytest.raises(InputError) as info:
        load_mnist("train")
    assert str(info.value).startswith(f"{NAMES[0]} could not be downloaded (")
    assert str(info.value).endswith("name that folder with --data-dir or AIRJAX_DATA_DIR")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_download_is_kept(files, serve):
    asked = serve(files)
    for _ in range(2):
        is_read(load_mnist("train"))
    assert asked == [f"/0/{name}" for name in NAMES]


def test_a_download_damaged_on_disk_is_replaced(files, serve, cache):
    put(cache / "mnist", NO_GZIP)
    serve(files)
    is_read(load_mnist("train"))
