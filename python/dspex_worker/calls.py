"""A call of the host while it is served: how its code reaches the host, and how it is stopped."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

from dspex_worker import errors
from dspex_worker.connection import Connection, Inbound
from dspex_worker.faults import Abort, Canceled
from dspex_worker.hub import Hub
from dspex_worker.mailbox import GreenletMailbox, Item, LoopMailbox, Mailbox, ThreadMailbox

# The key under which `dspy.settings` carries the call whose code is running. DSPy hands settings
# on to the threads it starts, which it does not do with context variables in general.
SETTING: Final = "dspex_call"


class _Slot:
    """Where the hub's thread leaves the id of a stream that another thread asked for."""

    __slots__ = ("stream",)

    def __init__(self) -> None:
        self.stream = 0  # no stream: it was never opened


class Call:
    """One call of the host.

    The greenlet, threads and coroutines that run for it may all `ask` the host; once it is
    canceled each of them is interrupted where it waits, and refused when it asks again.

    Args:
        hub: the loop.
        connection: the way to the host.
        inbound: the call as it came.
        ended: called with the stream's id, on the hub's thread, just before the answer goes out.

    Attributes:
        stream: the id of the call's stream.
        canceled: whether the host wants it stopped.
        inbound: the call as it came.
        names: the names of the program's predictors, by their ids.
        rollout_id: the rollout this run is, where the host says so.
        completion: the raw text of the last answer of a language model; None before the first.
    """

    __slots__ = (
        "_connection",
        "_ended",
        "_hub",
        "_on_cancel",
        "_waiting",
        "canceled",
        "completion",
        "inbound",
        "names",
        "rollout_id",
        "stream",
    )

    def __init__(
        self,
        hub: Hub,
        connection: Connection,
        inbound: Inbound,
        ended: Callable[[int], object],
    ) -> None:
        self.stream = inbound.stream
        self.inbound = inbound
        self.canceled = False
        self.completion: str | None = None
        self.rollout_id: int | None = None
        self.names: dict[int, str] = {}
        self._hub = hub
        self._connection = connection
        self._ended = ended
        self._waiting: dict[int, Mailbox] = {}
        self._on_cancel: Callable[[], None] | None = None

    # For the hub's thread.

    def cancel(self) -> None:
        """Interrupt whatever waits; it ends with `Canceled`."""
        if self.canceled:
            return
        self.canceled = True
        waiting, self._waiting = self._waiting, {}
        for stream, mailbox in waiting.items():
            self._connection.abandon(stream)
            mailbox.interrupt(Canceled())
        if self._on_cancel is not None:
            self._on_cancel()

    def answer(self, body: bytes, attachments: Sequence[bytes] = ()) -> None:
        """End the call with a result. From any thread."""

        def end() -> None:
            self._ended(self.stream)
            self._connection.answer(self.stream, body, attachments)

        self._on_hub(end)

    def fail(self, error: BaseException) -> None:
        """End the call with an error. From any thread."""
        if self.canceled and not isinstance(error, Canceled):
            error = Canceled()  # what the interrupted code made of it is of no interest
        payload = errors.encode(errors.to_host(error, self.completion))

        def end() -> None:
            self._ended(self.stream)
            self._connection.fail(self.stream, payload)

        self._on_hub(end)

    def _on_hub(self, action: Callable[[], None]) -> None:
        if threading.get_ident() == self._hub.thread:
            action()
        else:
            self._hub.post(action)

    def on_cancel(self, action: Callable[[], None]) -> None:
        """Have ``action`` called on the hub's thread when the call is canceled."""
        self._on_cancel = action

    # For the code that runs.

    def ask(self, method: str, body: bytes) -> bytes:
        """Call the host and return the body of its result; park or block until it is there.

        Raises:
            Canceled: the call was canceled meanwhile.
            Abort, lm15.LM15Error: the host answered with an error.
        """
        self.check()
        if threading.get_ident() == self._hub.thread:
            mailbox = GreenletMailbox(self._hub)
            stream = self._open(method, body, mailbox)
            mail = mailbox.take()
        else:
            slow = ThreadMailbox()
            slot = self._open_soon(method, body, slow)
            mail = slow.take()
            stream = slot.stream
        self._waiting.pop(stream, None)
        return self._body(mail)

    async def ask_async(self, method: str, body: bytes) -> bytes:
        """As `ask`, for a coroutine on an event loop of another thread."""
        self.check()
        mailbox = LoopMailbox()
        slot = self._open_soon(method, body, mailbox)
        try:
            return self._body(await mailbox.take())
        finally:
            self._hub.post(lambda: self._leave(slot.stream))

    def ask_stream(self, method: str, body: bytes) -> Iterator[bytes]:
        """Call the host and yield the items of its result stream.

        Leaving the iterator early tells the host to stop.

        Raises:
            As `ask`.
        """
        self.check()
        mailbox: GreenletMailbox | ThreadMailbox
        on_hub = threading.get_ident() == self._hub.thread
        if on_hub:
            mailbox, slot = GreenletMailbox(self._hub), _Slot()
            slot.stream = self._open(method, body, mailbox)
        else:
            mailbox = ThreadMailbox()
            slot = self._open_soon(method, body, mailbox)
        try:
            while True:
                mail = mailbox.take()
                if type(mail) is not Item:
                    self._body(mail)
                    return
                yield mail.data
                self.check()
        finally:
            if on_hub:
                self._leave(slot.stream)
            else:
                self._hub.post(lambda: self._leave(slot.stream))

    async def ask_stream_async(self, method: str, body: bytes) -> AsyncIterator[bytes]:
        """As `ask_stream`, for a coroutine on an event loop of another thread."""
        self.check()
        mailbox = LoopMailbox()
        slot = self._open_soon(method, body, mailbox)
        try:
            while True:
                mail = await mailbox.take()
                if type(mail) is not Item:
                    self._body(mail)
                    return
                yield mail.data
                self.check()
        finally:
            self._hub.post(lambda: self._leave(slot.stream))

    def sleep(self, seconds: float) -> None:
        """Park the greenlet for a while; a CANCEL ends it at once."""
        self.check()
        mailbox = GreenletMailbox(self._hub)
        key = -1 - id(mailbox)  # no stream has a negative id
        self._waiting[key] = mailbox
        timer = threading.Timer(seconds, lambda: self._hub.post(lambda: mailbox.put(b"")))
        timer.daemon = True
        timer.start()
        try:
            self._body(mailbox.take())
        finally:
            timer.cancel()
            self._waiting.pop(key, None)

    def check(self) -> None:
        """Raise `Canceled` if the call was canceled."""
        if self.canceled:
            raise Canceled

    def _open(self, method: str, body: bytes, mailbox: Mailbox) -> int:
        """Open a stream; on the hub's thread."""
        if self.canceled:
            mailbox.put(Canceled())
            return 0
        stream = self._connection.open(self.stream, method, body, mailbox)
        if stream:
            self._waiting[stream] = mailbox
        return stream

    def _open_soon(self, method: str, body: bytes, mailbox: Mailbox) -> _Slot:
        """Have the hub open a stream; its id is known before any mail arrives."""
        slot = _Slot()

        def action() -> None:
            slot.stream = self._open(method, body, mailbox)

        self._hub.post(action)
        return slot

    def _leave(self, stream: int) -> None:
        self._waiting.pop(stream, None)
        self._connection.abandon(stream)

    @staticmethod
    def _body(mail: Any) -> bytes:
        if type(mail) is bytes:
            return mail
        if isinstance(mail, BaseException):
            raise mail
        raise Abort("internal", "the host sent an item where a result was expected")
