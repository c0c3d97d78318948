"""Stopping a training politely: a first SIGINT or SIGTERM asks; of a run, a second one ends the
process."""

import os
import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A context in which signals are noted and not obeyed, for a loop that looks at ``signum``.

    While compiled code runs, Python does not get to its signal handlers: a thread reads the
    signals' numbers from the pipe that Python's own C handler writes them to.

    Args:
        ends_process: whether a second signal does; else it changes nothing.

    Attributes:
        signum: number of the first signal, or None.
    """

    signum: int | None = None

    def __init__(self, ends_process: bool = True):
        self.ends_process = ends_process

    def __enter__(self) -> "Interrupt":
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former = {s: signal.signal(s, lambda *_: None) for s in SIGNALS}
        self._former_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._former_fd)
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        os.close(self._write)  # ends the thread
        self._thread.join()
        os.close(self._read)

    def _watch(self) -> None:
        while byte := os.read(self._read, 1):
            if byte[0] not in SIGNALS:
                continue
            if self.signum is not None and self.ends_process:
                os._exit(128 + byte[0])  # checkpoints are whole, or not there
            self.signum = self.signum or byte[0]
