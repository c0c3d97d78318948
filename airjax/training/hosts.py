"""Several hosts: on each, a process of the same training. Process 0 decides and writes; all take
the same steps, each with its share of every mini-batch.

    hosts = connect(coordinator="10.0.0.1:1234", process=0, processes=2)
    Session.begin("PICTURES", hosts=hosts).train()
"""

import contextlib
import json
import os
import re
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int

from airjax.console import console, report
from airjax.errors import InputError
from airjax.training.process_failure import Watch

WAIT = 300  # seconds for all processes to start
DEAD = 25  # seconds without a sign of life, after which a process counts as dead
ENDED = "another process of this training has ended, or cannot be reached any more"
PART, BLOCK = 2**26, 2**10  # bytes that are sent at a time: at most, and a multiple of
T = TypeVar("T")


class Hosts:
    """The processes of a training. By default, this one alone.

    Each method must be called by all of them, in the same order.

    Args:
        index: of this process.
        count: of all processes.
        flags: of the command line, which connect this process.
    """

    def __init__(self, index: int = 0, count: int = 1, flags: str = ""):
        self.index, self.count, self.flags = index, count, flags

    @property
    def is_first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.index == 0

    def gathered(self, numbers: Sequence[int]) -> Int[np.ndarray, "count n"]:
        """The numbers of all processes, as many in each."""
        mine = np.asarray(numbers, np.int32)
        if self.count == 1:
            return mine[None]
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(mine)).reshape(self.count, -1)

    def any(self, number: int | None) -> int | None:
        """A number that is not 0 or None in one of the processes; None if there is none."""
        return int(self.gathered([number or 0]).max()) or None

    def of_first(self, number: int) -> int:
        """Process 0's number."""
        return int(self.gathered([number])[0, 0])

    def agreed(self, value: T) -> T:
        """Process 0's value, which is JSON."""
        if self.count == 1:
            return value
        return json.loads(self._sent(json.dumps(value).encode(), 0))

    def shared(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Process 0's arrays."""
        if self.count == 1:
            return arrays
        from safetensors import numpy as safetensors

        content = safetensors.save(arrays) if self.is_first else b""
        return safetensors.load(self._sent(content, 0))

    def by_first(self, call: Callable[[], T]) -> T:
        """What a call returns in process 0, which alone makes it; JSON.

        Raises:
            InputError: in all processes, if it is raised there.
        """
        return self.agreed(self.by_all(call if self.is_first else lambda: None))  # pyright: ignore

    def by_all(self, call: Callable[[], T]) -> T:
        """What a call returns in this process; all make it.

        Raises:
            InputError: in all processes, if it is raised in one.
        """
        try:
            value, error = call(), None
        except InputError as raised:
            if self.count == 1:
                raise
            value, error = None, raised
        if self.count > 1:
            self._raise_first(error)
        return value  # pyright: ignore[reportReturnType]

    def check_same(self, what: str, values: dict[str, Any]) -> None:
        """Checks that something is the same in all processes.

        Args:
            what: it is, in plain words.
            values: JSON, by name.

        Raises:
            InputError: in all processes, if it is not.
        """
        if self.count == 1:
            return
        mine, error = json.loads(json.dumps(values)), None
        first = self.agreed(mine)
        names = [name for name in mine | first if mine.get(name) != first.get(name)]
        if names:
            rule = f"must have the same {what} as process 0; these differ: {', '.join(names)}"
            error = InputError("processes", rule)
        self._raise_first(error)

    def leave(self) -> None:
        """Ends the connection, when all processes have come here. Process 0 can still use its own
        devices."""
        if Watch.current is not None:
            import jax

            jax.distributed.shutdown()
            Watch.current.close()

    def continue_with(self, command: str) -> None:
        """What continues the training is named if another process ends."""
        if Watch.current is not None:
            Watch.current.line = f"{ENDED}; to continue: {command}"

    def _raise_first(self, error: InputError | None) -> None:
        """Raises, in all processes, the first error in any."""
        failed = self.gathered([error is not None])[:, 0]
        if not failed.any():
            return
        who = int(failed.argmax())
        parts = None if error is None else [error.argument, error.rule, error.value]
        argument, rule, value = json.loads(self._sent(json.dumps(parts, default=str).encode(), who))
        self.leave()
        raise InputError(argument, f"{rule} (in process {who})" if who else rule, value)

    def _sent(self, content: bytes, source: int) -> bytes:
        """The content that a process has, in all."""
        from jax.experimental import multihost_utils

        many, rest = self.gathered(divmod(len(content), PART))[source].tolist()
        mine, got = np.frombuffer(content, np.uint8), list[bytes]()
        for start in range(0, many * PART + rest, PART):
            size = min(PART, many * PART + rest - start)
            part = np.zeros(-(-size // BLOCK) * BLOCK, np.uint8)  # few sizes: they are compiled
            if self.index == source:
                part[:size] = mine[start : start + size]
            sent = multihost_utils.broadcast_one_to_all(part, self.index == source)
            got.append(np.asarray(sent)[:size].tobytes())
        return b"".join(got)


def connect(
    hosts: str | None = None,
    coordinator: str | None = None,
    process: int | None = None,
    processes: int | None = None,
) -> Hosts:
    """Connects this process to the others. To be called before JAX is used.

    Args:
        hosts: "auto" under Slurm, Kubernetes or whatever else JAX finds the processes of.
        coordinator: otherwise, ``HOST:PORT``: an address of process 0 that the others reach.
        process: the number of this process, from 0.
        processes: of the training.

    Raises:
        InputError: if they contradict each other, nothing is found, or processes do not come.
    """
    if not check(hosts, coordinator, process, processes):
        return Hosts()
    import jax

    where = "the address that was found" if coordinator is None else coordinator
    if process == 0 and coordinator is not None:
        _check_free(coordinator)
    watch = Watch(f"the processes did not all meet at {where} within {WAIT} s")
    if process == 0:
        report(f"waiting for {processes} processes at {where}, at most {WAIT} s")
    try:
        _initialize(coordinator, process, processes)
    except (RuntimeError, ValueError) as error:
        watch.close()
        raise _as_input_error(error, hosts, where) from None
    flags = "--hosts auto"
    if coordinator is not None:
        flags = f"--coordinator {coordinator} --process {process} --processes {processes}"
    connected = Hosts(jax.process_index(), jax.process_count(), flags)
    console.quiet = not connected.is_first
    connected.continue_with("repeat the command in all of them")
    numbers = [device.process_index for device in jax.devices()]
    counts = [numbers.count(index) for index in range(connected.count)]
    if len(set(counts)) > 1:
        connected.leave()
        raise InputError("processes", "must have as many devices each", counts)
    with _silent_stdout():  # gloo says that it is connected
        connected.gathered([0])
    return connected


def check(
    hosts: str | None, coordinator: str | None, process: int | None, processes: int | None
) -> bool:
    """Whether arguments of `connect` ask for other processes.

    Raises:
        InputError: if they contradict each other.
    """
    numbers = {"process": process, "processes": processes}
    if coordinator is None:
        for name, number in numbers.items():
            if number is not None:
                rule = "must come with the address of process 0 (--coordinator HOST:PORT)"
                raise InputError(name, rule, number)
        if hosts not in (None, "auto"):
            raise InputError("hosts", "must be auto", hosts)
        return hosts is not None
    if hosts is not None:
        raise InputError("hosts", "must be left out where --coordinator is given", hosts)
    address = re.fullmatch(r".+:(\d{1,5})", coordinator)
    if address is None or not 0 < int(address[1]) < 2**16:
        raise InputError("coordinator", "must be HOST:PORT, with a port of 1 to 65535", coordinator)
    for given, number in numbers.items():
        if number is None:
            raise InputError(given, "must be given with --coordinator")
    assert process is not None and processes is not None
    if processes < 1:
        raise InputError("processes", "must be at least 1", processes)
    if not 0 <= process < processes:
        rule = f"must be 0 to {processes - 1}, as there are {processes} processes"
        raise InputError("process", rule, process)
    return True


def _check_free(coordinator: str) -> None:
    """Checks that nothing else listens at a port of this machine; JAX would crash."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", int(coordinator.rpartition(":")[2])))
        except OSError as error:
            rule = f"must have a port that is free here ({error.strerror})"
            raise InputError("coordinator", rule, coordinator) from None


def _initialize(coordinator: str | None, process: int | None, processes: int | None) -> None:
    """Connects JAX. What its coordinator binds to an address of this machine's own stays there."""
    import jax

    host = (coordinator or "").rpartition(":")[0]
    own = coordinator if host.startswith("127.") or host in ("localhost", "[::1]") else None
    # JAX would take SIGTERM for itself
    jax.config.update("jax_enable_preemption_service", False)
    with warnings.catch_warnings():  # about a package: it is named where nothing is found
        warnings.simplefilter("ignore")
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=WAIT,
            heartbeat_timeout_seconds=DEAD, shutdown_timeout_seconds=WAIT,
            coordinator_bind_address=own,
        )  # fmt: skip


def _as_input_error(error: Exception, hosts: str | None, where: str) -> InputError:
    text = " ".join(str(error).split())
    if "before any JAX" in text:
        return InputError("hosts", "must be connected before JAX is used")
    if hosts is not None and isinstance(error, ValueError):
        kubernetes = "KUBERNETES_SERVICE_HOST" in os.environ
        hint = "needs the package: pip install kubernetes" if kubernetes else "found none"
        rule = f"must be auto under Slurm or Kubernetes ({hint}); or give --coordinator"
        return InputError("hosts", rule, hosts)
    return InputError("coordinator" if hosts is None else "hosts", f"failed: {text[:300]}", where)


@contextlib.contextmanager
def _silent_stdout() -> Iterator[None]:
    """A context in which what C++ writes to stdout is dropped."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
