"""The fork server: imports everything once, then forks a worker on request.

It has one thread, no event loop and no socket but its control socket, so that a fork copies
nothing that cannot be copied. Its workers are children of the host, not of itself: the host
waits for them, and they outlive their fork server.

The control socket is a ``SOCK_SEQPACKET`` pair that carries one JSON object per message.
The fork server sends ``{"ready": true, ...}`` once. The host sends::

    {"op": "fork", "id": 7, "worker": "w3", "env": {...}, "options": {...}}
        with five descriptors: socket, lifeline, stdout, stderr, stacks
        -> {"id": 7, "pid": 4711}  or  {"id": 7, "error": "..."}
    {"op": "gone", "id": 7}    the worker's group has ended; its lifeline may be let go
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import platform
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from dspex_worker import entry, lifeline, offspring, stdio

MAX_MESSAGE = 1 << 17
"""Longest control message in bytes; a request is a few hundred, plus its environment."""

FDS_PER_FORK = 5

CLONE_PARENT = 0x00008000
CLONE_PARENT_SETTID = 0x00100000
CLONE_CHILD_CLEARTID = 0x00200000
CLONE_CHILD_SETTID = 0x01000000
PR_GET_TID_ADDRESS = 40

CLONE = {"x86_64": 56, "aarch64": 220}
"""Number of the clone system call by machine."""


class Board:
    """A page shared with the host, on which the kernel notes each fork as it happens.

    ``clone`` stores the child's pid here before the child runs, so the host learns of a
    child even when the fork server is killed before it can reply.

    Layout: pid, i32 at 0; id of the request, i64 at 8.
    """

    def __init__(self, fd: int) -> None:
        """Map the page behind ``fd`` and close it.

        Raises:
            OSError: It cannot be mapped.
        """
        # Not mmap.mmap, which keeps a duplicate of the descriptor that workers would inherit.
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
        address = libc.mmap(
            None, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0
        )
        if address is None or address == ctypes.c_void_p(-1).value:
            raise OSError(ctypes.get_errno(), "mmap")
        os.close(fd)
        self.address: int = address
        """Where the kernel is to store the pid."""
        self._pid = ctypes.c_int32.from_address(address)
        self._request = ctypes.c_int64.from_address(address + 8)

    def announce(self, request: int) -> None:
        """Note which request the next fork is for."""
        self._pid.value = 0
        self._request.value = request


class Forker:
    """Forks this process so that the child's parent is the host.

    It does what ``os.fork`` does, but with a raw ``clone(CLONE_PARENT)``. What C's ``fork``
    does beyond that -- ``pthread_atfork`` handlers and unlocking malloc -- is not needed with
    a single thread, except for the thread id that glibc keeps: the kernel is told to store
    the child's at the place that glibc registered for it.
    """

    def __init__(self, board: Board) -> None:
        """Prepare all that is needed, so that nothing can fail between fork and arming.

        Raises:
            OSError: The machine or the C library is not supported.
        """
        machine = platform.machine()
        if sys.platform != "linux" or machine not in CLONE:
            raise OSError(f"cannot fork on {sys.platform} {machine}")
        # PyDLL keeps the GIL: nothing may run between the fork and PyOS_AfterFork_*.
        libc = ctypes.PyDLL(None, use_errno=True)
        self._syscall = libc.syscall
        self._syscall.restype = ctypes.c_long
        self._syscall.argtypes = [ctypes.c_long] * 6
        self._before = _hook("PyOS_BeforeFork")
        self._in_child = _hook("PyOS_AfterFork_Child")
        self._in_parent = _hook("PyOS_AfterFork_Parent")

        flags = CLONE_PARENT | CLONE_PARENT_SETTID | signal.SIGCHLD
        tid = _tid_address(libc)
        if tid:
            flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
        tail = (tid, 0) if machine == "x86_64" else (0, tid)  # child_tid and tls
        self._arguments = (CLONE[machine], flags, 0, board.address, *tail)

    def fork(self) -> int:
        """Fork.

        Returns:
            0 in the child, its pid in this process.

        Raises:
            OSError: There are too many processes or too little memory.
        """
        self._before()
        pid = int(self._syscall(*self._arguments))
        if pid == 0:
            self._in_child()
            return 0
        number = ctypes.get_errno()
        self._in_parent()
        if pid < 0:
            raise OSError(number, os.strerror(number))
        return pid


class Server:
    """Serves the control socket of one fork server."""

    def __init__(
        self, control: socket.socket, forker: Forker, board: Board, main: entry.Main, own: list[int]
    ) -> None:
        """Take over ``control``; ``own`` are further descriptors that no worker may have."""
        self._offspring = offspring.Offspring()
        self._control = control
        self._forker = forker
        self._board = board
        self._main = main
        self._own = own
        self._lifelines: dict[int, int] = {}  # a duplicate of each worker's, by request

    def serve(self) -> None:
        """Serve until the host closes the control socket."""
        while True:
            data, fds, _, _ = socket.recv_fds(
                self._control, MAX_MESSAGE, FDS_PER_FORK, socket.MSG_CMSG_CLOEXEC
            )
            if not data:
                return
            message = json.loads(data)
            if message["op"] == "gone":
                fd = self._lifelines.pop(message["id"], None)
                if fd is not None:
                    os.close(fd)
            elif message["op"] == "fork":
                self._fork(message, fds)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message. A host that is gone is not an error: the lifeline acts on it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(json.dumps(message).encode())

    def _fork(self, message: dict[str, Any], fds: list[int]) -> None:
        request = message["id"]
        if len(fds) != FDS_PER_FORK:
            for fd in fds:
                os.close(fd)
            self.send({"id": request, "error": f"{len(fds)} of {FDS_PER_FORK} descriptors came"})
            return
        self._board.announce(request)
        try:
            pid = self._forker.fork()
        except OSError as error:
            for fd in fds:
                os.close(fd)
            self.send({"id": request, "error": f"fork: {error}"})
            return
        if pid == 0:
            self._become(message, fds)
        sock, line, out, err, stacks = fds
        for fd in (sock, out, err, stacks):
            os.close(fd)
        self._lifelines[request] = line
        self.send({"id": request, "pid": pid})

    def _become(self, message: dict[str, Any], fds: list[int]) -> NoReturn:
        """Be the worker. Until the group is left, the fork server's lifeline covers it too."""
        sock, line, out, err, stacks = fds
        try:
            lifeline.enter(line)
            stdio.redirect(out, err)
            self._control.close()
            for fd in (*self._own, *self._lifelines.values()):
                os.close(fd)
            os.environ.update(message["env"])
            self._offspring.protect(line)
        except BaseException as error:
            os.write(2, f"cannot become a worker: {error!r}\n".encode())
            os._exit(1)
        entry.run(self._main, sock, stacks, message["worker"], message["options"])


def run(config: dict[str, Any]) -> int:
    """Be a fork server.

    Args:
        config: ``control``, ``board`` and ``lifeline`` are descriptors; ``main`` and ``warm``
            name functions as ``module:function``; ``preload`` lists modules.

    Returns:
        The exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    entry.prepare()
    control = socket.socket(fileno=config["control"])
    control.setblocking(True)
    began = time.perf_counter()
    sockets = _sockets()
    board = Board(config["board"])
    forker = Forker(board)
    warm: entry.Warm = entry.load(config["warm"])
    main: entry.Main = entry.load(config["main"])
    warm(config["preload"])
    server = Server(control, forker, board, main, [config["lifeline"]])
    stdio.flush()
    server.send(
        {
            "ready": True,
            "threads": _threads(),
            "sockets": sorted(_sockets() - sockets),
            "python": platform.python_version(),
            "seconds": time.perf_counter() - began,
        }
    )
    server.serve()
    return 0


def _hook(name: str) -> Any:
    function = getattr(ctypes.pythonapi, name)
    function.restype = None
    function.argtypes = []
    return function


def _tid_address(libc: ctypes.PyDLL) -> int:
    """Return where the C library keeps the main thread's id, 0 if that cannot be told.

    glibc registers the very field with the kernel when a process starts. A kernel without
    PR_GET_TID_ADDRESS, or a C library that registers something else, gives 0; then the id in
    a worker stays that of the fork server, which matters to no function that Python calls.
    """
    where = ctypes.c_size_t(0)
    if libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(where), 0, 0, 0) != 0 or not where.value:
        return 0
    kept = ctypes.c_int32.from_address(where.value).value
    return where.value if kept == threading.get_native_id() else 0


def _threads() -> list[str]:
    """Name every thread of this process but the main one."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    names = []
    for tid in sorted(int(task) for task in os.listdir("/proc/self/task")):
        if tid == os.getpid():
            continue
        comm = "?"
        with contextlib.suppress(OSError), open(f"/proc/self/task/{tid}/comm") as file:
            comm = file.read().strip()
        names.append(known.get(tid) or f"{comm} (started by C code)")
    return names


def _sockets() -> set[str]:
    """Describe every open socket of this process."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as sock:
                found.add(f"fd {name} {sock.family.name} {sock.getsockname()!r}")
        except OSError:  # closed since it was listed
            continue
    return found
