"""Standard input, output and error of a worker.

What a worker prints is captured line by line by the host. It is never part of the protocol,
which has a socket of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from typing import TextIO

_IOLBF = 1
"""C's constant for line buffering, the same in glibc, musl and macOS."""


def redirect(out: int, err: int) -> None:
    """Put ``/dev/null`` on 0, ``out`` on 1 and ``err`` on 2, and close the originals."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (out, 1), (err, 2)):
        if fd != target:
            os.dup2(fd, target)
            os.close(fd)


def line_buffer() -> None:
    """Make Python and C pass on each finished line at once, and never fail to encode."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    libc = _libc()
    with contextlib.suppress(ValueError, AttributeError):  # a C library without that symbol
        stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        libc.setvbuf(stdout, None, _IOLBF, ctypes.c_size_t(0))


def flush() -> None:
    """Write out what Python and C still hold back. Never fails."""
    streams: tuple[TextIO | None, ...] = (sys.stdout, sys.stderr)
    for stream in streams:
        with contextlib.suppress(Exception):
            if stream is not None:
                stream.flush()
    with contextlib.suppress(Exception):
        _libc().fflush(None)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
