"""The worker's main loop: one thread that watches descriptors and runs greenlets.

Everything that must not wait acts first in a turn: descriptors are read, then what other threads
posted is run, then cancellations; only then are greenlets resumed, for at most a slice of time,
after which the descriptors are read again. Whoever parks gives the thread back to the loop.

All methods belong to the hub's thread, except `post` and `stop`, which any thread may call.
"""

from __future__ import annotations

import contextvars
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeAlias, cast

import greenlet

# Between two reads of the descriptors, greenlets run for no longer than this (one that does not
# yield excepted), so that a CANCEL or PING is seen in time.
SLICE: Final = 0.010

# Greenlets kept for the next jobs; each takes about 20 KB.
_IDLE: Final = 64

Action: TypeAlias = Callable[[], object]
_Job: TypeAlias = "tuple[Callable[[Any], object], Any]"
_READ: Final = select.POLLIN | select.POLLHUP | select.POLLERR


class Hub:
    """A loop over descriptors and greenlets.

    Attributes:
        turn: called after every slice, to write what the slice produced.
    """

    def __init__(self) -> None:
        self.greenlet = cast("Any", greenlet.getcurrent())
        self.thread = threading.get_ident()
        self.turn: Action | None = None
        self._ready: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._urgent: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._posted: deque[Action] = deque()
        self._idle: list[Callable[[_Job | None], object]] = []
        self._poll = select.poll()
        self._watched: dict[int, tuple[Action, Action]] = {}
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.watch(self._wake_read, self._woken, self._woken)

    def watch(self, fd: int, readable: Action, writable: Action) -> None:
        """Call ``readable`` whenever ``fd`` can be read or is hung up; it must not block."""
        self._watched[fd] = (readable, writable)
        self._poll.register(fd, _READ)

    def want_write(self, fd: int, want: bool) -> None:
        """Start or stop calling the descriptor's ``writable``."""
        self._poll.modify(fd, _READ | select.POLLOUT if want else _READ)

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def spawn(self, function: Callable[[Any], object], argument: Any) -> None:
        """Run ``function(argument)`` in a greenlet with a context of its own, soon.

        The function must let no exception out.
        """
        self._ready.append((self._start, (function, argument)))

    def _start(self, job: _Job) -> None:
        if self._idle:
            self._idle.pop()(job)
        else:
            greenlet.greenlet(self._work, self.greenlet).switch(job)

    def _work(self, job: _Job) -> None:
        """Do one job after the other; what a greenlet is made of is costly to make anew."""
        switch = cast("Any", greenlet.getcurrent()).switch
        while True:
            function, argument = job
            contextvars.Context().run(function, argument)
            # What the job referred to must not live until the next one.
            del function, argument, job
            if len(self._idle) >= _IDLE:
                return
            self._idle.append(switch)
            job = self.greenlet.switch()
            if job is None:
                return

    def park(self) -> Any:
        """Give the thread back to the loop; return what the greenlet is resumed with.

        Raises:
            RuntimeError: called by the loop itself, which cannot wait for itself.
        """
        if greenlet.getcurrent() is self.greenlet:
            raise RuntimeError("the hub cannot wait: this code must run in a greenlet or a thread")
        return self.greenlet.switch()

    def resume(self, parked: Any, value: Any) -> None:
        """Resume a parked greenlet with a value, in its turn."""
        self._ready.append((parked.switch, value))

    def interrupt(self, parked: Any, error: BaseException) -> None:
        """Resume a parked greenlet before all others, with a value that is an error to raise."""
        self._urgent.append((parked.switch, error))

    def post(self, action: Action) -> None:
        """Run ``action`` on the hub's thread before greenlets are resumed. From any thread."""
        self._posted.append(action)
        self._wake()

    def stop(self) -> None:
        """Make `run` return at the end of the turn. From any thread."""
        self._stopping = True
        self._wake()

    def run(self) -> None:
        """Loop until `stop`."""
        poll, ready, posted = self._poll.poll, self._ready, self._posted
        while not self._stopping:
            for fd, events in poll(0 if ready or posted or self._urgent else None):
                self._dispatch(fd, events)
            while posted:
                posted.popleft()()
            self._run_urgent()
            self._run_ready()
            if self.turn is not None:
                self.turn()

    def finish(self) -> None:
        """Run what is urgent or ready now, once, and let go of the hub's own descriptors."""
        while self._posted:
            self._posted.popleft()()
        self._run_urgent()
        self._run_ready()
        while self._idle:
            self._idle.pop()(None)
        self.unwatch(self._wake_read)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _dispatch(self, fd: int, events: int) -> None:
        actions = self._watched.get(fd)
        if actions is None:
            return
        if events & _READ:
            actions[0]()
        if events & select.POLLOUT and fd in self._watched:
            actions[1]()

    def _run_urgent(self) -> None:
        urgent = self._urgent
        while urgent:
            function, argument = urgent.popleft()
            function(argument)

    def _run_ready(self) -> None:
        ready = self._ready
        if not ready:
            return
        end = monotonic() + SLICE
        while ready:
            function, argument = ready.popleft()
            function(argument)
            if monotonic() > end:
                return

    def _wake(self) -> None:
        try:
            os.write(self._wake_write, b"\0")
        except (BlockingIOError, OSError):
            return  # full: the loop will wake anyway; closed: the loop has ended

    def _woken(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
