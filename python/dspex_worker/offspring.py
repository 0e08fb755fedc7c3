"""Processes that a worker's Python code starts.

A child stays in its worker's process group and dies with it. One that is started into a
session or group of its own would not: it is given a lifeline of its own, which it arms before
it executes anything. What C code turns into a daemon by itself is out of reach.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import signal
import subprocess
import weakref
from collections.abc import Callable
from typing import Any

from dspex_worker import lifeline


class Offspring:
    """Gives every process that leaves this one's group a lifeline of its own.

    Covers ``subprocess`` (and what is built on it: ``os.popen``, ``asyncio``), ``os.posix_spawn``,
    and ``os.fork``, ``os.forkpty`` and ``multiprocessing`` with ``os.setsid``, ``os.setpgid`` or
    ``os.setpgrp`` in the child. Hooks into these functions at once, and acts from :meth:`protect`
    on, so that a fork server can do the slow part for its workers.
    """

    def __init__(self) -> None:
        self._line = -1
        self._worker = self._group = 0
        self._hook_popen()
        for name in ("setsid", "setpgid", "setpgrp"):
            self._hook(name)
        self._hook_spawn("posix_spawn", os.execve)
        self._hook_spawn("posix_spawnp", os.execvpe)
        os.register_at_fork(after_in_child=self._follow)  # os.forkpty leaves the group by itself

    def protect(self, line: int) -> None:
        """Act from now on.

        Args:
            line: Descriptor of this process's own lifeline, which must stay open.
        """
        self._worker, self._group = os.getpid(), os.getpgrp()
        self._line = line

    def _hook_popen(self) -> None:
        original = subprocess.Popen.__init__
        signature = inspect.signature(original)

        @functools.wraps(original)
        def init(popen: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
            call = signature.bind(popen, *args, **kwargs)
            if self._line >= 0 and (self._has_left() or _may_leave(call.arguments)):
                self._start(popen, original, call)
            else:
                original(popen, *args, **kwargs)

        subprocess.Popen.__init__ = init  # type: ignore[method-assign, assignment]

    def _start(
        self,
        popen: subprocess.Popen[Any],
        original: Callable[..., None],
        call: inspect.BoundArguments,
    ) -> None:
        given = call.arguments
        line = lifeline.reopen(self._line)
        try:
            # Only code that runs in the child before exec can close the gap between leaving
            # the group and being armed.
            given["preexec_fn"] = functools.partial(_join, line, given.get("preexec_fn"))
            if given.get("close_fds", True):
                given["pass_fds"] = (*given.get("pass_fds", ()), line)
            else:
                os.set_inheritable(line, True)
            original(*call.args, **call.kwargs)
        except BaseException:
            os.close(line)
            raise
        # Held here as well, for a child that closes what it inherited.
        weakref.finalize(popen, os.close, line)

    def _hook(self, name: str) -> None:
        original: Callable[..., Any] = getattr(os, name)

        @functools.wraps(original)
        def call(*args: Any) -> Any:
            result = original(*args)
            self._follow()
            return result

        setattr(os, name, call)

    def _hook_spawn(self, name: str, execute: Callable[..., Any]) -> None:
        original: Callable[..., int] = getattr(os, name)

        @functools.wraps(original)
        def call(path: Any, argv: Any, env: Any, **attributes: Any) -> int:
            leaves = attributes.get("setsid") or attributes.get("setpgroup") is not None
            if self._line < 0 or not leaves:
                return original(path, argv, env, **attributes)
            return _fork_and_execute(functools.partial(execute, path, argv, env), path, attributes)

        setattr(os, name, call)

    def _has_left(self) -> bool:
        """Tell whether this is a descendant of the worker in a group of its own."""
        return os.getpid() != self._worker and os.getpgrp() != self._group

    def _follow(self) -> None:
        """Arm a lifeline for the group that this process is in, if it left the worker's."""
        if self._line >= 0 and self._has_left():
            line = lifeline.reopen(self._line)
            os.set_inheritable(line, True)  # the group may live on in another program
            lifeline.arm(line)
            lifeline.exit_if_hung_up(line)


def _may_leave(given: dict[str, Any]) -> bool:
    group = given.get("process_group")
    return bool(
        given.get("start_new_session")
        or (group is not None and group >= 0)
        or given.get("preexec_fn") is not None
    )


def _join(line: int, preexec: Callable[[], Any] | None) -> None:
    """Runs in the child, in its new group: arm, then do what the caller wanted done."""
    lifeline.arm(line)
    lifeline.exit_if_hung_up(line)
    if preexec is not None:
        group = os.getpgrp()
        preexec()
        if os.getpgrp() != group:
            lifeline.arm(line)
            lifeline.exit_if_hung_up(line)


def _fork_and_execute(execute: Callable[[], Any], path: Any, attributes: dict[str, Any]) -> int:
    """Do what ``os.posix_spawn`` does, with code that runs in the child before ``execute``.

    Returns:
        The pid of the child.

    Raises:
        OSError: The program could not be executed.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        number = errno.EINVAL
        try:
            _apply(attributes)
            execute()
        except OSError as error:
            number = error.errno or number
        finally:
            os.write(write, str(number).encode())
            os._exit(127)
    os.close(write)
    try:
        failure = os.read(read, 16)
    finally:
        os.close(read)
    if failure:
        os.waitpid(pid, 0)
        raise OSError(int(failure), os.strerror(int(failure)), path)
    return pid


def _apply(attributes: dict[str, Any]) -> None:
    """Apply the attributes of ``os.posix_spawn`` in the order in which the C library does."""
    if attributes.get("setsid"):
        os.setsid()  # followed: see Offspring
    if attributes.get("setpgroup") is not None:
        os.setpgid(0, attributes["setpgroup"])
    if attributes.get("scheduler") is not None:
        policy, parameter = attributes["scheduler"]
        os.sched_setscheduler(0, os.sched_getscheduler(0) if policy is None else policy, parameter)
    if attributes.get("resetids"):
        os.setegid(os.getgid())
        os.seteuid(os.getuid())
    for number in attributes.get("setsigdef") or ():
        signal.signal(number, signal.SIG_DFL)
    if attributes.get("setsigmask") is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, attributes["setsigmask"])
    for action, fd, *rest in attributes.get("file_actions") or ():
        if action == os.POSIX_SPAWN_CLOSE:
            os.close(fd)
        elif action == os.POSIX_SPAWN_DUP2:
            os.dup2(fd, rest[0])
        else:
            opened = os.open(*rest)
            os.dup2(opened, fd)
            if opened != fd:
                os.close(opened)
