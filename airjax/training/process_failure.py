"""The end of a process whose training others take part in, or of one that has lost another.

JAX would end such a process with a trace of its C++ code, or only after it has waited for the
others. Here it ends at once, with one line.
"""

import ctypes
import os
import re
import signal
import sys
import threading
import traceback
from typing import NoReturn

from airjax.interrupt import SHOW_CURSOR

LOST = 4  # exit status of a process that has lost another
ABOUT_OTHERS = re.compile(rb"coordination_service|preemption_sync|JAX distributed service")
FATAL = b"JAX distributed service detected fatal errors"
OF_OTHERS = re.compile("gloo|nccl|coordination|connection (reset|closed)|unavailable:", re.I)


class Watch:
    """From here on, what C++ writes to stderr is passed on, except its reports about other
    processes; and an abort because of them is one line.

    Args:
        line: the line.
    """

    current: "Watch | None" = None  # while other processes wait for this one

    def __init__(self, line: str):
        self.line = line
        sys.stderr.flush()
        self._stderr = os.dup(2)
        self._read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._former = sys.stderr
        sys.stderr = open(  # noqa: SIM115
            self._stderr, "w", buffering=1, errors="backslashreplace", closefd=False
        )
        self._hidden: bytes | None = None
        self._ends = threading.Lock()
        threading.Thread(target=self._pass_on, daemon=True).start()
        # Python's own handlers do not run when C++ aborts
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)
        Watch.current = self

    def close(self) -> None:
        """Everything is as it was before."""
        Watch.current = None
        ctypes.CDLL(None).signal(signal.SIGABRT, None)
        sys.stderr.flush()
        sys.stderr = self._former
        os.dup2(self._stderr, 2)  # closes the pipe, and so ends the thread

    def lost(self) -> NoReturn:
        """Ends the process, since another one has ended."""
        self._ends.acquire()  # and keeps it: there is one line
        if os.isatty(1):  # a progress bar has hidden it
            os.write(1, SHOW_CURSOR)
        os.write(self._stderr, f"airjax: {self.line}\n".encode())
        os._exit(LOST)

    def _pass_on(self) -> None:
        while data := os.read(self._read, 2**16):
            self._show(data)

    def _show(self, data: bytes) -> None:
        if self._hidden is None and ABOUT_OTHERS.search(data):
            self._hidden = b""
        if self._hidden is None:
            os.write(self._stderr, data)
        else:
            self._hidden += data

    def _aborted(self, signum: int) -> None:
        os.set_blocking(self._read, False)
        try:
            while data := os.read(self._read, 2**16):
                self._show(data)
        except OSError:  # nothing is left
            pass
        hidden = self._hidden or b""
        if FATAL in hidden:
            self.lost()
        os.write(self._stderr, hidden)  # and the process aborts


def end(error: BaseException) -> None:
    """Ends the process at once where others take part in its training: at Python's own end, JAX
    would wait for them, as they do for this one. Returns where there are none.

    Args:
        error: that the process ends with; ``SystemExit`` has been reported.
    """
    watch = Watch.current
    if watch is None:
        return
    status = error.code if isinstance(error, SystemExit) else 1
    if not isinstance(error, SystemExit):
        if OF_OTHERS.search(str(error)):
            watch.lost()
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)
