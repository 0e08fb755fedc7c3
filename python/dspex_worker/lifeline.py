"""The lifeline: a pipe whose hang-up makes the kernel kill this process and its group.

Only the host holds the write end, and it never writes. When that end closes -- on purpose,
by a crash or because the host was killed -- the kernel sends SIGKILL to the process group
that armed the read end. No code of ours has to run for that, so it also works for a process
that is stopped or holds the GIL inside C.

This module is imported before everything else and imports next to nothing itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys

SIGKILL = 9
"""Written out because importing ``signal`` would cost a millisecond before arming."""

EXIT_HUNG_UP = 75
"""Exit status of a process that found its host gone when it had just armed itself."""


def arm(fd: int) -> None:
    """Let the kernel kill this process's group when the pipe behind ``fd`` hangs up.

    The setting belongs to the open file description, so it outlives ``exec`` and holds for
    every duplicate of ``fd``.

    Args:
        fd: Read end of a pipe.

    Raises:
        OSError: The platform cannot do it (``ENOTSUP`` where signals of choice are unknown).
    """
    if sys.platform != "linux" or not hasattr(fcntl, "F_SETSIG"):
        raise OSError(errno.ENOTSUP, "this platform cannot choose the signal of a hang-up")
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, fcntl.F_SETSIG, SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)


def hung_up(fd: int) -> bool:
    """Tell whether the other end of the pipe behind ``fd`` is closed. Never blocks."""
    poll = select.poll()
    poll.register(fd, select.POLLHUP)
    return bool(poll.poll(0))


def exit_if_hung_up(fd: int) -> None:
    """End this process at once when the host is gone.

    Called right after :func:`arm`: a hang-up before arming has sent no signal.
    """
    if hung_up(fd):
        os._exit(EXIT_HUNG_UP)


def lead_group() -> None:
    """Make this process the leader of its own process group, if it is not yet."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)


def enter(fd: int) -> None:
    """Put this process into its own group, arm ``fd`` for it, and exit if the host is gone.

    Raises:
        OSError: Arming is impossible here; the group was made nevertheless.
    """
    lead_group()
    arm(fd)
    exit_if_hung_up(fd)


def watch(fd: int) -> None:
    """Watch ``fd`` from a thread and kill the group on hang-up, where arming is impossible.

    Unlike an armed lifeline it cannot act while C code holds the GIL or the process is
    stopped.
    """
    import threading

    def wait() -> None:
        poll = select.poll()
        poll.register(fd, select.POLLHUP)
        while not poll.poll():
            pass
        os.kill(0, SIGKILL)

    threading.Thread(target=wait, name="dspex-lifeline", daemon=True).start()


def reopen(fd: int) -> int:
    """Open the pipe behind ``fd`` again: a description of its own, to be armed on its own.

    Returns:
        A descriptor that is not inherited.

    Raises:
        OSError: ``/proc`` is not mounted.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
