"""What a worker process does between its birth and its main function.

Forked and spawned workers come through here alike, with their lifeline armed and their
standard streams in place.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, cast

from dspex_worker import stdio

Main = Callable[[socket.socket, str, dict[str, Any]], int]
"""Serves the socket as the worker of that id until told to stop; returns the exit status."""

Warm = Callable[[list[str]], None]
"""Imports the named modules, and all else that a worker will need."""

OOM_SCORE = 500
"""Makes the kernel prefer a worker over its host when memory runs out: half the scale."""


def load(name: str) -> Any:
    """Return the object named ``module:attribute``.

    Raises:
        ImportError, AttributeError: There is no such object.
    """
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def prepare() -> None:
    """Do what a worker needs and a fork inherits, so that no fork has to do it again."""
    stdio.line_buffer()
    faulthandler.enable(file=2, all_threads=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def run(
    main: Main, sock: int, stacks: int | None, worker: str, options: dict[str, Any]
) -> NoReturn:
    """Turn this process into a worker; it ends with what ``main`` returns.

    Args:
        main: The worker's main function.
        sock: Descriptor of the worker's private socket.
        stacks: Descriptor to which SIGUSR1 makes the process write the stacks of all its
            threads, even while C code holds the GIL.
        worker: Id of the worker.
        options: Passed on to ``main``.
    """
    code = 1
    try:
        _settle(stacks, worker)
        code = main(socket.socket(fileno=sock), worker, options)
    except SystemExit as stop:
        code = _status(stop)
    except BaseException:
        traceback.print_exc()
    finally:
        stdio.flush()
        os._exit(code)


def _settle(stacks: int | None, worker: str) -> None:
    _write("/proc/self/comm", f"dspex-{worker}")
    _write("/proc/self/oom_score_adj", str(OOM_SCORE))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if stacks is not None:
        faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    _reseed()


def _reseed() -> None:
    """Give this worker random numbers of its own; Python's ``random`` does so by itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        cast(Any, numpy_random).seed()


def _status(stop: SystemExit) -> int:
    """Return the exit status that Python itself would give, and print what it would print."""
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    with contextlib.suppress(Exception):
        sys.stderr.write(f"{stop.code}\n")
    return 1


def _write(path: str, text: str) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
