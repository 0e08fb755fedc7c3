"""How code that runs a program waits for the host: one mailbox per call, one kind per way to run.

The hub puts; a greenlet parks for it, a thread blocks for it, a coroutine awaits it. What is put
is the body of a RESULT (bytes), an `Item` of its stream, or an exception to raise.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, cast

import greenlet

from dspex_worker.hub import Hub


class Item(NamedTuple):
    """One item of a result stream, JSON."""

    data: bytes


Mail: TypeAlias = "bytes | Item | BaseException"


class Mailbox(Protocol):
    """Where the hub's thread leaves what the host answered."""

    def put(self, mail: Mail) -> None:
        """Leave mail; the waiter takes it in its turn."""

    def interrupt(self, error: BaseException) -> None:
        """Leave an exception that overtakes all else."""


class GreenletMailbox:
    """A mailbox for a greenlet of the hub."""

    __slots__ = ("_hub", "_mail", "_parked")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._mail: deque[Mail] = deque()
        self._parked: Any = None

    def put(self, mail: Mail) -> None:
        """See `Mailbox`."""
        parked = self._parked
        if parked is None:
            self._mail.append(mail)
        else:
            self._parked = None
            self._hub.resume(parked, mail)

    def interrupt(self, error: BaseException) -> None:
        """See `Mailbox`."""
        parked = self._parked
        if parked is None:
            self._mail.appendleft(error)
        else:
            self._parked = None
            self._hub.interrupt(parked, error)

    def take(self) -> Mail:
        """Return the next mail; park until there is one."""
        if self._mail:
            return self._mail.popleft()
        self._parked = greenlet.getcurrent()
        return cast("Mail", self._hub.park())


class ThreadMailbox:
    """A mailbox for a thread other than the hub's."""

    __slots__ = ("_interrupt", "_mail")

    def __init__(self) -> None:
        self._mail: queue.SimpleQueue[Mail] = queue.SimpleQueue()
        self._interrupt: BaseException | None = None

    def put(self, mail: Mail) -> None:
        """See `Mailbox`."""
        self._mail.put(mail)

    def interrupt(self, error: BaseException) -> None:
        """See `Mailbox`."""
        self._interrupt = error
        self._mail.put(error)

    def take(self) -> Mail:
        """Return the next mail; block until there is one."""
        mail = self._mail.get()
        return mail if self._interrupt is None else self._interrupt


class LoopMailbox:
    """A mailbox for a coroutine of the running event loop."""

    __slots__ = ("_loop", "_mail")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._mail: asyncio.Queue[Mail] = asyncio.Queue()

    def put(self, mail: Mail) -> None:
        """See `Mailbox`."""
        self._call(self._mail.put_nowait, mail)

    def interrupt(self, error: BaseException) -> None:
        """See `Mailbox`."""
        self._call(self._mail.put_nowait, error)

    def _call(self, function: Callable[[Mail], None], mail: Mail) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, mail)

    async def take(self) -> Mail:
        """Return the next mail; wait until there is one."""
        return await self._mail.get()
