"""``worker.debug``: faults on demand, for tests. Only there when the worker's options say so."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson

from dspex_worker import runs
from dspex_worker.calls import Call
from dspex_worker.faults import ArgumentError
from dspex_worker.server import Method, Server

Op: TypeAlias = Callable[[Server, Call, dict[str, Any]], Any]


def debug(server: Server, call: Call) -> None:
    """Do what ``op`` says; answer with what it returns."""
    body = runs.parse(call.inbound.body)
    op = OPS.get(str(body.get("op")))
    if op is None:
        raise ArgumentError(f"no op {body.get('op')!r}: there are {', '.join(sorted(OPS))}")
    call.answer(orjson.dumps(op(server, call, body) or {}))


def _print(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Write ``text`` as often as ``stdout`` and ``stderr`` say; with ``c``, from C code."""
    text = str(body.get("text", "noise")) + "\n"
    for fd, name in ((1, "stdout"), (2, "stderr")):
        for _ in range(int(body.get(name, 0))):
            if body.get("c"):
                libc = ctypes.CDLL(None)
                libc.dprintf(fd, b"%s", text.encode())
            else:
                stream = sys.stdout if fd == 1 else sys.stderr
                stream.write(text)
                stream.flush()


def _exit(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    os._exit(int(body.get("code", 1)))


def _signal(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    os.kill(os.getpid(), int(body.get("signal", signal.SIGSEGV)))


def _spin_c(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Hold the interpreter's lock inside C code: a PyDLL call does not let go of it."""
    os.write(2, b"spinning in C\n")
    libc = ctypes.PyDLL(None)
    end = time.monotonic() + float(body.get("seconds", 1))
    while time.monotonic() < end:
        libc.usleep(min(999_999, int(1e6 * max(0.0, end - time.monotonic())) + 1))


def _spin(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Keep Python busy without yielding."""
    end = time.monotonic() + float(body.get("seconds", 1))
    while time.monotonic() < end:
        pass


def _garbage(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    server.connection.send_raw(bytes.fromhex(str(body.get("hex", "00" * 16))))


def _subprocess(server: Server, call: Call, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    argv = body.get("argv") or [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(  # noqa: S603
        argv, start_new_session=bool(body.get("new_session")), stdin=subprocess.DEVNULL
    )
    threading.Thread(target=child.wait, daemon=True).start()
    return {"pid": child.pid}


def _sleep(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    call.sleep(float(body.get("seconds", 1)))


def _env(server: Server, call: Call, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    return {"env": dict(os.environ)}


def _fork(server: Server, call: Call, body: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """Fork without exec, as C libraries do; the child sleeps."""
    pid = os.fork()
    if pid == 0:
        time.sleep(float(body.get("seconds", 600)))
        os._exit(0)
    return {"pid": pid}


def _allocate(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Fill ``mb`` MiB of memory and let go of it."""
    bytearray(os.urandom(1)) * (int(body.get("mb", 1)) << 20)


def _raise(server: Server, call: Call, body: dict[str, Any]) -> None:  # noqa: ARG001
    """Raise the built-in exception named ``type``."""
    known = {cls.__name__: cls for cls in (MemoryError, RecursionError, RuntimeError, SystemExit)}
    raise known.get(str(body.get("type")), RuntimeError)(str(body.get("text", "raised on demand")))


def _recurse(server: Server, call: Call, body: dict[str, Any]) -> None:
    """Recurse until Python has enough of it."""
    _recurse(server, call, body)


OPS: Final = MappingProxyType(
    {
        "allocate": _allocate,
        "env": _env,
        "exit": _exit,
        "fork": _fork,
        "garbage": _garbage,
        "print": _print,
        "raise": _raise,
        "recurse": _recurse,
        "signal": _signal,
        "sleep": _sleep,
        "spin": _spin,
        "spin_c": _spin_c,
        "subprocess": _subprocess,
    }
)

METHODS: Final[MappingProxyType[str, Method]] = MappingProxyType({"worker.debug": debug})
