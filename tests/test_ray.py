"""Reading with Ray: a real one, started here, or a cluster of two nodes on this machine. Nothing
costs a result: no bad file, no killed actor, node or driver, no full disk."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from airjax.cli.main import main
from airjax.prediction.on_ray import Pool

parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray")
PICTURES, A_PART, PARTS = 150, 6, 26
CODE = f"""
import sys
from airjax.prediction import parts
parts.PICTURES = {A_PART}
from airjax.cli.main import main
main(sys.argv[1:])
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures in folders, and two files that are none."""
    top = tmp_path_factory.mktemp("pictures")
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, 5, 6)).astype(np.uint8)
    for i, image in enumerate(images):
        folder = top / str(i % 3)
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}.png")
    (top / "0/bad.jpg").write_text("no")
    (top / "2/empty.tif").write_text("")
    return top


@pytest.fixture(scope="module")
def alone(run, pictures, tmp_path_factory):
    """What one process finds in them."""
    out = tmp_path_factory.mktemp("alone") / "out"
    main(f"predict {run} {pictures} --out {out} --format parquet".split())
    return {name: as_bytes(out / f"{name}.parquet") for name in ("counts", "objects")}


def as_bytes(path) -> bytes:
    """A sorted table as the bytes of a Parquet file."""
    table = parquet.read_table(path)
    keys = [name for name in ("file", "page", "object") if name in table.column_names]
    import pyarrow

    buffer = pyarrow.BufferOutputStream()
    ordered = table.sort_by([(key, "ascending") for key in keys]).combine_chunks()
    parquet.write_table(ordered, buffer)
    return buffer.getvalue().to_pybytes()


def start(run, pictures, out, **environment) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        CODE,
        "predict",
        run,
        pictures,
        "--out",
        out,
        "--engine",
        "ray",
    ]
    known = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.Popen(
        [str(word) for word in command], env=known | environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finished(process, code: int = 0) -> tuple[str, str]:
    """Its output and errors, once it has ended."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == code, (output, errors)
    return output, errors


def wait_for_parts(out: Path, number: int) -> set[Path]:
    """The parts that are finished, once there are as many."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if len(there := set((out / "counts").glob("part-*"))) >= number:
            return there
        time.sleep(0.02)
    raise AssertionError(f"no {number} parts in {out}")


def descendants(pid: int) -> dict[int, str]:
    """The processes below one: their numbers and command lines."""
    parent_of, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has ended
            continue
        parent_of[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
        lines[int(folder.name)] = line
    found = {pid}
    while new := {child for child, parent in parent_of.items() if parent in found} - found:
        found |= new
    return {each: lines[each] for each in found - {pid}}


def actors(pid: int) -> list[int]:
    """The actors below a process that hold the model."""
    return [each for each, line in descendants(pid).items() if "_Actor" in line]


def check_complete(out: Path, alone) -> None:
    for name, content in alone.items():
        assert as_bytes(out / name) == content
    broken = parquet.read_table(out / "broken").to_pydict()
    assert sorted(broken["file"]) == ["0/bad.jpg", "2/empty.tif"] and all(broken["why"])


@contextmanager
def mounted(folder: Path, size: str):
    """A context in which a folder is a file system of this size."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def listening() -> set[str]:
    """The addresses beyond loopback on which processes listen, as hexadecimal numbers."""
    found = set()
    for name, own in (("tcp", "0100007F"), ("tcp6", "0000000000000000FFFF00000100007F")):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            loopback = address.startswith((own, "0" * 24 + "01000000"))
            if state == "0A" and not loopback:
                found.add(address)
    return found


def test_what_stopped_goes_on_to_the_bytes_of_one_process(run, pictures, alone, tmp_path):
    out = tmp_path / "out"
    # Ctrl-C
    before = listening()
    process = start(run, pictures, out)
    wait_for_parts(out, 2)
    assert listening() <= before  # nothing beyond this machine
    process.send_signal(signal.SIGINT)
    _, errors = finished(process, 130)
    said = rf"airjax: stopped; \d+ of {PARTS} parts are finished; to continue, repeat the command "
    assert re.fullmatch(f"{said}with --out {out}\n", errors)
    # a killed driver
    process = start(run, pictures, out)
    wait_for_parts(out, len(list((out / "counts").glob("part-*"))) + 3)
    working = actors(process.pid)
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while any(Path(f"/proc/{each}").exists() for each in working):  # they end, too
        assert working and time.monotonic() < end
        time.sleep(0.2)
    had = {path: path.stat().st_mtime_ns for path in (out / "counts").glob("part-*")}
    assert 5 <= len(had) < PARTS
    output, errors = finished(start(run, pictures, out))
    assert f"{len(had)} parts are finished already" in output
    assert f"{PICTURES + 2} pictures in {PARTS} parts" in output
    assert errors == f"airjax: left out: 2 files that cannot be read, see {out}/broken\n"
    assert all(path.stat().st_mtime_ns == time for path, time in had.items())
    check_complete(out, alone)
    # other pictures, or other flags, are not mixed with these
    _, errors = finished(start(run, pictures / "0", out), 2)
    assert errors.startswith("airjax: --out must be a new folder, or hold results of the same")
    assert errors.count("\n") == 1


def test_a_full_disk_and_killed_actors_cost_nothing(run, pictures, alone, tmp_path):
    with mounted(tmp_path / "small", "100k"):
        out = tmp_path / "small" / "out"
        _, errors = finished(start(run, pictures, out), 2)
        assert errors.count("\n") == 1 and "No space left on device" in errors
        assert re.search(rf"\d+ of {PARTS} parts are finished; to continue, repeat", errors)
        done = len(list((out / "counts").glob("part-*")))
        assert done and not list(out.rglob("*.tmp"))
        shutil.copytree(out, tmp_path / "out")  # where there is room
    out = tmp_path / "out"
    process = start(run, pictures, out)
    for parts in (2, 10):
        wait_for_parts(out, done + parts)
        killed = actors(process.pid)
        assert killed
        for each in killed:
            os.kill(each, signal.SIGKILL)
    output, _ = finished(process)
    assert f"{done} parts are finished already" in output
    check_complete(out, alone)


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster()
nodes = [cluster.add_node(num_cpus=1, object_store_memory=100_000_000) for _ in range(2)]
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


def test_a_cluster_that_loses_a_node(run, pictures, alone, tmp_path):
    cluster = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert cluster.stdin is not None and cluster.stdout is not None
    try:
        address = cluster.stdout.readline().strip()
        out = tmp_path / "out"
        process = start(run, pictures, out, RAY_ADDRESS=address)
        wait_for_parts(out, 4)
        assert len(actors(cluster.pid)) == 2
        cluster.stdin.write("\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "removed\n"
        finished(process)
        check_complete(out, alone)
    finally:
        cluster.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            cluster.wait(60)
        for each in descendants(cluster.pid):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        cluster.kill()
        cluster.wait()
        cluster.stdout.close()


def test_a_bucket(run, pictures, alone, tmp_path):
    server_of = pytest.importorskip("moto.server")
    import boto3

    server = server_of.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        client = boto3.client(
            "s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b",
            region_name="us-east-1",
        )  # fmt: skip
        client.create_bucket(Bucket="cells")
        for path in pictures.rglob("*.*"):
            client.upload_file(str(path), "cells", f"in/{path.relative_to(pictures)}")
        environment = keys | {"AWS_ENDPOINT_URL": url}
        finished(start(run, "s3://cells/in", "s3://cells/out", **environment))
        for each in client.list_objects_v2(Bucket="cells", Prefix="out/")["Contents"]:
            path = tmp_path / each["Key"]
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file("cells", each["Key"], str(path))
        check_complete(tmp_path / "out", alone)
        plan = json.loads((tmp_path / "out/plan.json").read_text())
        assert plan["pictures"] == PICTURES + 2 and plan["parts"] == PARTS
        _, errors = finished(start(run, "s3://other/in", tmp_path / "no", **environment), 2)
        assert errors.startswith("airjax: PICTURES must hold pictures (.png")
        # from here on, these keys have no rights
        plain = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{url}/moto-api/reset-auth", b"0", plain)
        urllib.request.urlopen(request).close()
        _, errors = finished(start(run, "s3://cells/in", tmp_path / "no", **environment), 2)
        assert errors.startswith("airjax: PICTURES cannot be read") and errors.count("\n") == 1
        assert not (tmp_path / "no").exists()
    finally:
        server.stop()


def test_a_cluster_that_is_not_there_is_one_line(run, pictures, tmp_path):
    process = start(run, pictures, tmp_path / "out", RAY_ADDRESS="127.0.0.1:1")
    _, errors = finished(process, 2)
    assert errors.startswith("airjax: RAY_ADDRESS must be the address of a Ray cluster that runs")
    assert errors.count("\n") == 1 and errors.endswith(", got 127.0.0.1:1\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("nodes", "pool"),
    [
        ([{"CPU": 1.0}], (1, 1, 0.75, 0.0, 0.25)),
        ([{"CPU": 2.0}], (1, 2, 1.5, 0.0, 0.5)),
        ([{"CPU": 0.0}, {"CPU": 64.0}, {"CPU": 64.0}], (32, 4, 3.0, 0.0, 1.0)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}], (4, 8, 1.0, 1.0, 1.0)),
    ],
)
def test_readers_have_cores_of_their_own(nodes, pool):
    assert Pool.of(nodes) == pool
