"""Processes that a worker's Python code starts.

A child stays in its worker's process group and dies with it. One that is started into a
session or group of its own would not: it is given a lifeline of its own, which it arms before
it executes anything. What C code turns into a daemon by itself is out of reach.
"""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import weakref
from collections.abc import Callable
from typing import Any

from dspex_worker import lifeline


def protect(fd: int) -> None:
    """Give every process that leaves this one's group a lifeline of its own, from now on.

    Covers ``subprocess`` (and what is built on it: ``os.popen``, ``asyncio``), and ``os.fork``,
    ``os.forkpty`` and ``multiprocessing`` with ``os.setsid``, ``os.setpgid`` or ``os.setpgrp``
    in the child.

    Args:
        fd: This worker's own lifeline, which must stay open.
    """
    _protect_popen(fd)
    _protect_fork(fd)


def _protect_popen(fd: int) -> None:
    original = subprocess.Popen.__init__
    signature = inspect.signature(original)

    @functools.wraps(original)
    def init(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        call = signature.bind(self, *args, **kwargs)
        given = call.arguments
        if not _may_leave(given):
            return original(self, *args, **kwargs)
        line = lifeline.reopen(fd)
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
        weakref.finalize(self, os.close, line)

    subprocess.Popen.__init__ = init  # type: ignore[method-assign]


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


def _protect_fork(fd: int) -> None:
    worker, group = os.getpid(), os.getpgrp()

    def follow() -> None:
        """Arm a lifeline for the group that this process is in, if it is not the worker's."""
        if os.getpid() != worker and os.getpgrp() != group:
            line = lifeline.reopen(fd)
            lifeline.arm(line)
            lifeline.exit_if_hung_up(line)

    for name in ("setsid", "setpgid", "setpgrp"):
        setattr(os, name, _followed(getattr(os, name), follow))
    os.register_at_fork(after_in_child=follow)  # os.forkpty leaves the group by itself


def _followed(original: Callable[..., Any], follow: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any) -> Any:
        result = original(*args)
        follow()
        return result

    return call
