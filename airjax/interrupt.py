"""Stopping a training politely: a first signal asks, a second one may end the process at once."""

import os
import signal
import threading
from typing import Any

# Ctrl-C, kill, a lost terminal, and the warning that Slurm sends before it ends a job
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
SHOW_CURSOR = b"\x1b[?25h"


class Interrupt:
    """A context in which ``SIGNALS`` are noted, for a loop that checks ``signum``.

    Python runs no signal handler while compiled code runs. So a thread reads the numbers of the
    signals from the pipe that Python's own C handler writes them to. Python handles signals in its
    main thread only: in any other thread this context does nothing. A signal that the process
    ignores (under nohup, say) stays ignored.

    Args:
        ends_process: whether a second signal ends the process; otherwise it is ignored.

    Attributes:
        signum: number of the first signal, or None.
    """

    signum: int | None = None

    def __init__(self, ends_process: bool = True):
        self.ends_process = ends_process

    def arrived(self) -> bool:
        """Whether there was a signal."""
        return self.signum is not None

    def __enter__(self) -> "Interrupt":
        self._former: dict[int, Any] = {}
        heeded = [s for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
        if threading.current_thread() is not threading.main_thread() or not heeded:
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._former = {s: signal.signal(s, lambda *_: None) for s in heeded}
        self._former_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._former:
            return
        signal.set_wakeup_fd(self._former_fd)
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        os.close(self._write)  # ends the thread
        self._thread.join()
        os.close(self._read)

    def _watch(self) -> None:
        while byte := os.read(self._read, 1):
            if byte[0] not in self._former:
                continue
            if self.signum is not None and self.ends_process:
                if os.isatty(1):  # a progress bar has hidden it
                    os.write(1, SHOW_CURSOR)
                os._exit(128 + byte[0])  # a checkpoint is whole, or it is not there
            self.signum = self.signum or byte[0]
