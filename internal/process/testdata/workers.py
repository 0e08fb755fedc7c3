"""Worker mains for tests that need no DSPy: each serves one command per line."""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import Any

held: list[Any] = []


def preload(modules: list[str]) -> None:
    for name in modules:
        __import__(name)


def preload_with_thread(modules: list[str]) -> None:
    threading.Thread(target=time.sleep, args=(3600,), name="lazy-thread", daemon=True).start()


def preload_with_socket(modules: list[str]) -> None:
    held.append(socket.create_server(("127.0.0.1", 0)))


def preload_that_fails(modules: list[str]) -> None:
    print("about to fail", flush=True)
    raise RuntimeError("no model weights in /nowhere")


def preload_that_exits(modules: list[str]) -> None:
    os._exit(7)


def preload_that_hangs(modules: list[str]) -> None:
    print("hanging", os.getpid(), flush=True)
    time.sleep(3600)


def preload_with_gap(modules: list[str]) -> None:
    """Make every worker wait, between leaving the group and arming, for its host's death."""
    from dspex_worker import lifeline

    server, arm = os.getpid(), lifeline.arm

    def wait(fd: int) -> None:
        if os.getpid() != server:
            os.write(2, b"in the gap\n")
            poll = select.poll()
            poll.register(fd, select.POLLHUP)
            poll.poll()
        arm(fd)

    lifeline.arm = wait


def preload_that_dies_after_a_fork(modules: list[str]) -> None:
    """Kill the first fork server between its first fork and its reply."""
    from dspex_worker import forkserver

    send = forkserver.Server.send
    if os.path.exists(os.environ["FAIL_FILE"]):
        return

    def die(self: Any, message: dict[str, Any]) -> None:
        if "pid" in message:
            open(os.environ["FAIL_FILE"], "w").close()
            os.kill(os.getpid(), 9)
        send(self, message)

    forkserver.Server.send = die


def preload_once(modules: list[str]) -> None:
    """Fails whenever the file named by FAIL_FILE exists."""
    if os.path.exists(os.environ["FAIL_FILE"]):
        raise RuntimeError("told to fail")


def main(sock: socket.socket, worker: str, options: dict[str, Any]) -> int:
    """Answer JSON commands, one per line, until the end of file or "exit"."""
    stream = sock.makefile("rwb")
    reply(stream, {"hello": worker, "pid": os.getpid(), "options": options})
    for line in stream:
        command = json.loads(line)
        op = command["op"]
        if op == "exit":
            return int(command["code"])
        result = perform(op, command)
        reply(stream, {"result": result})
    return 0


def reply(stream: Any, value: Any) -> None:
    stream.write(json.dumps(value).encode() + b"\n")
    stream.flush()


def perform(op: str, command: dict[str, Any]) -> Any:
    if op == "env":
        return dict(os.environ)
    if op == "print":
        print(command["text"], file=getattr(sys, command.get("stream", "stdout")))
        return None
    if op == "printf":
        ctypes.CDLL(None).printf(b"%s\n", command["text"].encode())
        return None
    if op == "long":
        fd = {"stdout": 1, "stderr": 2}[command["stream"]]
        left = command["bytes"]
        while left:
            left -= os.write(fd, b"x" * min(left, 1 << 16))
        os.write(fd, b"\n")
        return None
    if op == "fds":
        return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_open(fd)}
    if op == "spin_c":
        # PyDLL keeps the GIL while C sleeps.
        ctypes.PyDLL(None).usleep.argtypes = [ctypes.c_uint]
        ctypes.PyDLL(None).sleep(int(command["seconds"]))
        return None
    if op == "spawn":
        child = subprocess.Popen(
            command["argv"],
            start_new_session=command.get("new_session", False),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        held.append(child)
        return child.pid
    if op == "fork_setsid":
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(3600)
        return pid
    if op == "forkpty":
        pid, fd = os.forkpty()
        if pid == 0:
            time.sleep(3600)
        held.append(fd)
        return pid
    if op == "grow":
        held.append(bytearray(os.urandom(1 << 20)) * command["megabytes"])
        return None
    if op == "segfault":
        ctypes.string_at(0)
    if op == "raise":
        raise ValueError("as told")
    if op == "sys_exit":
        sys.exit(command["code"])
    if op == "recurse":
        return perform(op, command)
    if op == "random":
        import random

        return random.random()
    if op == "status":
        with open("/proc/self/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    if op == "run":
        scope: dict[str, Any] = {}
        exec(command["code"], scope)
        return scope.get("result")
    raise ValueError(f"unknown op {op}")


def fd_open(fd: str) -> bool:
    try:
        os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False
    return True


def main_that_fails(sock: socket.socket, worker: str, options: dict[str, Any]) -> int:
    raise RuntimeError("this worker cannot start")
