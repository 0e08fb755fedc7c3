"""The fork server as its host sees it: through its control socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dspex_worker import forkserver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")

SCRIPT = str(Path(forkserver.__file__).parent / "bootstrap.py")
PATIENCE = 30.0

WORKERS = """
import json, os, socket, sys, threading, time

def warm(modules):
    for name in modules:
        __import__(name)

def warm_with_thread(modules):
    threading.Thread(target=time.sleep, args=(3600,), name="too-early", daemon=True).start()

def main(sock, worker, options):
    stream = sock.makefile("rw")
    for line in stream:
        value = eval(line, {"worker": worker, "options": options, "os": os, "sys": sys})
        stream.write(json.dumps(value) + "\\n")
        stream.flush()
    return 5

def thread_id(modules=None):
    # The thread id that the C library keeps, as seen by one of the few functions that use it.
    import ctypes
    libc = ctypes.CDLL(None)
    clock = ctypes.c_int()
    libc.pthread_self.restype = ctypes.c_ulong
    thread = ctypes.c_ulong(libc.pthread_self())
    return libc.pthread_getcpuclockid(thread, ctypes.byref(clock)), clock.value
"""

_EXEC = """
import os, sys
fds = [int(n) for n in sys.argv[1].split(",")]
high = [os.dup(fd) for fd in fds]
high = [__import__("fcntl").fcntl(fd, 0, 100) for fd in high]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
os.environ["DSPEX_DESCRIPTORS"] = str(3 + len(fds))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Worker:
    def __init__(self, sock: socket.socket, line: int, out: int, pid: int) -> None:
        self.sock, self.line, self.out, self.pid = sock, line, out, pid
        self._stream = sock.makefile("rw")

    def ask(self, expression: str) -> Any:
        self._stream.write(expression + "\n")
        self._stream.flush()
        return json.loads(self._stream.readline())

    def finish(self) -> int:
        """End the worker's input and return its exit status: it is our own child."""
        self.sock.shutdown(socket.SHUT_WR)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        self._stream.close()
        self.sock.close()
        os.close(self.line)
        os.close(self.out)


class Host:
    """Does what the Go side does."""

    def __init__(self, path: Path, warm: str = "warm") -> None:
        (path / "workers.py").write_text(WORKERS)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE)
        self.board = os.memfd_create("board")
        os.truncate(self.board, 4096)
        read, self.line = os.pipe()
        config = {
            "control": 4,
            "board": 5,
            "main": "workers:main",
            "warm": f"workers:{warm}",
            "preload": ["colorsys"],
        }
        fds = (read, theirs.fileno(), self.board)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", _EXEC, ",".join(map(str, fds))),
                *(SCRIPT, "forkserver", json.dumps(config)),
            ],
            env={"PYTHONPATH": str(path), "PATH": os.environ["PATH"], "SECRET": "no"},
            pass_fds=fds,
        )
        theirs.close()
        os.close(read)
        self.ready = self.receive()
        self._next = 0
        self._workers: list[Worker] = []

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.control.recv(1 << 17))
        return message

    def send(self, message: dict[str, Any], fds: list[int]) -> None:
        socket.send_fds(self.control, [json.dumps(message).encode()], fds)

    def fork(self, **options: Any) -> Worker:
        self._next += 1
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        line_read, line = os.pipe()
        out, out_write = os.pipe()
        message = {
            "op": "fork",
            "id": self._next,
            "worker": f"w{self._next}",
            "env": {"EXTRA": "1"},
            "options": options,
        }
        self.send(message, [theirs.fileno(), line_read, out_write, out_write, out_write])
        theirs.close()
        os.close(line_read)
        os.close(out_write)
        reply = self.receive()
        assert reply["id"] == self._next
        worker = Worker(ours, line, out, reply["pid"])
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.close()
        self.control.close()
        os.close(self.board)
        os.close(self.line)
        self.process.wait(PATIENCE)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.close()


def test_it_tells_when_it_is_ready_and_that_nothing_forbids_forking(host: Host) -> None:
    assert host.ready["ready"] is True
    assert host.ready["threads"] == []
    assert host.ready["sockets"] == []


def test_it_names_threads_that_importing_has_started(tmp_path: Path) -> None:
    host = Host(tmp_path, warm="warm_with_thread")
    try:
        assert host.ready["threads"] == ["too-early"]
    finally:
        host.close()


def test_a_worker_is_the_hosts_own_child_and_its_status_comes_back(host: Host) -> None:
    worker = host.fork(a=1)
    assert worker.ask("[worker, options, os.getpid(), os.getppid()]") == [
        "w1",
        {"a": 1},
        worker.pid,
        os.getpid(),
    ]
    assert worker.finish() == 5


def test_a_worker_has_what_was_imported_and_its_own_environment(host: Host) -> None:
    worker = host.fork()
    assert worker.ask("'colorsys' in sys.modules")
    assert worker.ask("os.environ.get('EXTRA')") == "1"
    assert worker.ask("os.environ.get('DSPEX_DESCRIPTORS')") is None
    worker.finish()


def test_what_a_worker_prints_is_captured(host: Host) -> None:
    worker = host.fork()
    worker.ask("print('hello')")
    assert os.read(worker.out, 100) == b"hello\n"
    worker.finish()


def test_a_worker_leads_its_own_group_and_dies_with_its_lifeline(host: Host) -> None:
    worker = host.fork()
    assert worker.ask("os.getpgrp()") == worker.pid
    os.close(worker.line)
    _, status = os.waitpid(worker.pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    worker.line = os.open(os.devnull, os.O_RDONLY)


def test_workers_outlive_the_fork_server(host: Host) -> None:
    worker = host.fork()
    host.process.kill()
    host.process.wait(PATIENCE)
    assert worker.ask("os.getpid()") == worker.pid
    assert worker.finish() == 5


def test_the_board_shows_the_last_fork_without_a_reply(host: Host) -> None:
    worker = host.fork()
    pid, request = struct.unpack("=i4xq", os.pread(host.board, 16, 0))
    assert (pid, request) == (worker.pid, 1)
    worker.finish()


def test_the_c_librarys_thread_id_is_the_workers(host: Host) -> None:
    worker = host.fork()
    expected = "__import__('workers').thread_id() == (0, (~os.getpid() << 3) | 6)"
    assert worker.ask(expected)
    worker.finish()


def test_too_few_descriptors_are_refused_and_the_next_fork_works(host: Host) -> None:
    host.send({"op": "fork", "id": 99, "worker": "w", "env": {}, "options": {}}, [host.board])
    assert host.receive() == {"id": 99, "error": "1 of 5 descriptors came"}
    assert host.fork().finish() == 5


def test_it_holds_a_workers_lifeline_until_it_is_told_that_the_group_is_gone(host: Host) -> None:
    before = _descriptors(host)
    worker = host.fork()
    worker.finish()
    host.fork().finish()
    assert _descriptors(host) == before + 2
    host.send({"op": "gone", "id": 1}, [])
    host.send({"op": "gone", "id": 2}, [])
    host.send({"op": "gone", "id": 77}, [])
    worker = host.fork()  # the messages before it have been read
    assert _descriptors(host) == before + 1
    worker.finish()


def test_it_ends_when_the_host_closes_the_control_socket(host: Host) -> None:
    host.control.shutdown(socket.SHUT_RDWR)
    assert host.process.wait(PATIENCE) == 0


def _descriptors(host: Host) -> int:
    return len(os.listdir(f"/proc/{host.process.pid}/fd"))
