"""A worker process: one connection to the host, served until it ends."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

import dspy

import dspex_worker
from dspex_worker import debug, logs, markers, memo, modules
from dspex_worker.connection import Connection, Limits
from dspex_worker.hub import Hub
from dspex_worker.programs import Programs
from dspex_worker.runs import Runner
from dspex_worker.server import Server

EXIT_OK: Final = 0
EXIT_PROTOCOL: Final = 76  # EX_PROTOCOL of sysexits.h

_CAPABILITIES: Final = ("program", "echo", "info", "lm.complete", "lm.stream", "attachments")


def main(
    sock: socket.socket,
    worker_id: str,
    options: dict[str, Any],
    kinds: Mapping[str, modules.Kind] = modules.MODULES,
) -> int:
    """Serve the host on ``sock`` until it closes the connection or drains the worker.

    Args:
        sock: the worker's private socket; closed at the end.
        worker_id: what the host calls this worker.
        options: ``max_frame``, ``window`` and ``max_attachments`` in bytes, ``memory_limit`` in
            bytes of private memory (0 for none), ``log_level`` as `logging` names it, ``debug``
            (bool; also by DSPEX_WORKER_DEBUG=1) for the test faults of ``worker.debug``; other
            keys are ignored.
        kinds: the modules there are.

    Returns:
        The exit status: 0 after a drain or when the host has closed the connection, 76 when it
        broke the protocol.
    """
    logs.configure(str(options.get("log_level", "WARNING")))
    _limit_memory(int(options.get("memory_limit", 0)))
    debugging = bool(options.get("debug")) or os.environ.get("DSPEX_WORKER_DEBUG") == "1"
    memo.install()
    armed = markers.arm()
    programs = Programs(kinds)
    runner = Runner(programs, armed)
    hub = Hub()
    server = Server(hub, programs, runner, debug.METHODS if debugging else None)
    connection = Connection(sock, hub, server, _hello(worker_id, debugging), _limits(options))
    server.connection = connection
    hub.turn = connection.flush
    try:
        hub.run()
        connection.flush()
    finally:
        hub.finish()
        connection.close()
    lost = connection.lost
    if lost is None or isinstance(lost, (EOFError, OSError)):
        return EXIT_OK
    sys.stderr.write(f"dspex worker {worker_id}: the connection is lost: {lost}\n")
    return EXIT_PROTOCOL


def _limit_memory(most: int) -> None:
    """Let this process have ``most`` bytes of private memory, any number of them if it is 0.

    What is beyond is refused by the system, which Python raises as MemoryError.
    """
    if most <= 0:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _hello(worker_id: str, debugging: bool) -> dict[str, Any]:
    return {
        "version": dspex_worker.__version__,
        "capabilities": [*_CAPABILITIES, *(["debug"] if debugging else [])],
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "dspy": dspy.__version__,
        "worker": worker_id,
    }


def _limits(options: dict[str, Any]) -> Limits:
    known = {name: int(options[name]) for name in Limits._fields if options.get(name)}
    return Limits(**known)
