"""Reading with Ray Data: tasks read the files, a pool of actors holds the model and writes."""

import contextlib
import logging
import os
import pickle
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from airjax.console import report
from airjax.data.decode import Contents
from airjax.data.folder import read_images
from airjax.errors import InputError
from airjax.picture_config import PictureConfig
from airjax.prediction import parts
from airjax.prediction.parts import Parts
from airjax.prediction.places import Place
from airjax.prediction.predictor import Predictor, below

CORES = 4  # of an actor and its readers; a fourth of them reads
ADDRESS = "RAY_ADDRESS"
REACHED = 10.0  # seconds in which a cluster must answer


class Done(NamedTuple):
    """A part that is finished: the numbers of its pictures, objects, objects that were left out,
    and files that cannot be read."""

    part: int
    pictures: int
    objects: int
    dropped: int
    broken: int


def read_parts(
    ray: Any, predictor: Predictor, planned: Parts, root: Path, contents: Contents | None
) -> Iterator[Done]:
    """Reads the parts that are not finished; yields each once it is written. Parts of actors or
    workers that die are read again by others.

    Args:
        ray: Ray, as `started`.
        predictor: for all pictures.
        planned: the parts.
        root: that names of files in the results are relative to.
        contents: gives the bytes of a file; None for files of this machine, or of a file system
            that all machines share.

    Raises:
        InputError: if a worker cannot write.
    """
    rows = [
        {"part": i, "files": pickle.dumps(files)}
        for i, files in enumerate(planned.files)
        if i not in planned.finished
    ]
    if not rows:
        return
    from ray import data

    pool = Pool.of([node["Resources"] for node in ray.nodes() if node["Alive"]])
    # each part is a block of its own, so that it is a task of its own
    found = data.from_items(rows, override_num_blocks=len(rows)).map(
        _Reader(predictor.pictures, predictor.air.model.config.image_size, contents),
        num_cpus=pool.reader_cpus,
    )
    actor: Any = _Actor  # Ray makes the actors
    found = found.map(
        actor,
        fn_constructor_args=(predictor, planned.out, root),
        compute=data.ActorPoolStrategy(size=pool.actors),
        num_cpus=pool.actor_cpus,
        num_gpus=pool.actor_gpus,
        # XLA's own threads
        runtime_env={"env_vars": {"NPROC": str(pool.threads)}},
    )
    for row in found.iter_rows():
        done = pickle.loads(row["done"])
        if isinstance(done, InputError):
            raise done
        yield done


class Pool(NamedTuple):
    """How a cluster is divided: the number of actors, and what each of them and of its readers
    takes."""

    actors: int
    threads: int
    actor_cpus: float
    actor_gpus: float
    reader_cpus: float

    @classmethod
    def of(cls, nodes: list[dict[str, float]]) -> "Pool":
        """For a cluster whose nodes have these resources. An actor never takes all cores of a node:
        its readers would starve."""
        cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = int(sum(node.get("GPU", 0) for node in nodes))
        if gpus:
            return cls(gpus, max(1, sum(cpus) // gpus), 1.0, 1.0, 1.0)
        cores = min([CORES, *cpus])
        return cls(sum(n // cores for n in cpus), cores, 0.75 * cores, 0.0, 0.25 * cores)


class _Reader:
    """The images of a part. It runs in many processes that need neither model nor device."""

    def __init__(self, pictures: PictureConfig, size: tuple[int, ...], contents: Contents | None):
        self.how = pictures, size, contents

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        images = list(read_images(pickle.loads(row["files"]), *self.how))
        return {"part": row["part"], "images": pickle.dumps(images, protocol=5)}


class _Actor:
    """Holds the model; finds the objects of a part, and writes them."""

    def __init__(self, predictor: Predictor, out: Place, root: Path):
        self.predictor, self.out, self.root = predictor, out, root

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A `Done`, or an `InputError`: raised, it would arrive as text alone."""
        tables = self.predictor.tables(pickle.loads(row["images"]), below(self.root))
        rows = tables.counts, tables.objects, tables.broken
        pictures, objects, broken = (table.num_rows for table in rows)
        try:
            parts.write(self.out, row["part"], tables)
        except InputError as error:
            return {"done": pickle.dumps(error)}
        done = Done(row["part"], pictures, objects, tables.dropped, broken)
        return {"done": pickle.dumps(done)}


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """A context with Ray, connected to the cluster at ``RAY_ADDRESS``, or started here: nothing
    listens beyond this machine then. Ray's own statistics of usage are not sent. It has to be
    entered before there are threads, of JAX or of file systems: Ray forks.

    Raises:
        InputError: if it is not installed, or there is no cluster.
    """
    with _messages_kept():
        ray, is_ours = _connected(os.environ.get(ADDRESS))
        from ray import data

        context = data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield ray
        finally:
            if is_ours:
                ray.shutdown()


def _connected(address: str | None) -> tuple[Any, bool]:
    """Ray, and whether it was started or connected here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:  # Ray's name for: no cluster of several machines
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise InputError("engine", "ray needs Ray: pip install 'airjax[ray]'") from None
    if ray.is_initialized():
        return ray, False
    if address is not None:
        _check_reachable(address)
    # "local" never joins another cluster of this machine, or one that has died
    where: dict[str, Any] = {"address": address or "local"}
    if address is None:
        where["include_dashboard"] = False
    try:
        with warnings.catch_warnings():  # of forks: Ray's processes are other programs at once
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(**where, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        why = " ".join(str(error).split())
        rule = f"must be the address of a Ray cluster that runs ({why})"
        raise InputError(ADDRESS, rule, address) from None
    return ray, True


def _check_reachable(address: str) -> None:
    """Checks that something listens at an address with a port: Ray itself waits for minutes.

    Raises:
        InputError: if not.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # a name that Ray knows, such as auto
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except (OSError, OverflowError) as error:
        rule = f"must be the address of a Ray cluster that runs ({error})"
        raise InputError(ADDRESS, rule, address) from None


@contextlib.contextmanager
def _messages_kept() -> Iterator[None]:
    """A context in which what Ray writes to stderr goes to a file: warnings about its own insides.
    The file is kept, and named, if there is an error that is not a user's. Python's ``sys.stderr``
    is where it was."""
    descriptor, name = tempfile.mkstemp(prefix="airjax-ray-", suffix=".log")
    former, own, handler = sys.stderr, os.dup(2), logging.FileHandler(name)
    logger, keep = logging.getLogger("ray"), False
    former.flush()
    os.dup2(descriptor, 2)
    sys.stderr = os.fdopen(os.dup(own), "w", buffering=1)
    logger.addHandler(handler)
    try:
        yield
    except (InputError, GeneratorExit, KeyboardInterrupt):
        raise
    except Exception:
        keep = True
        raise
    finally:
        logger.removeHandler(handler)
        handler.close()
        sys.stderr.close()
        sys.stderr = former
        os.dup2(own, 2)
        os.close(own)
        os.close(descriptor)
        if keep:
            report(f"the messages of Ray are in {name}", to_stderr=True)
        else:
            os.unlink(name)
