"""The worker's end of the connection: streams, attachments, credit, cancellation.

It belongs to the hub's thread altogether. Frames are sorted here as they are read: what must act
at once (CANCEL, PING, DRAIN, CREDIT) does, calls of the host go to the `Server`, answers to the
mailbox of whoever called. Output is gathered and written once in a turn of the hub.

Streams with odd ids were opened by the host, those with even ids here.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import orjson

from dspex_worker import errors, faults, wire
from dspex_worker.attachments import Incoming, Outgoing
from dspex_worker.hub import Hub
from dspex_worker.mailbox import Item, Mailbox

PROTOCOL: Final = 1
DEFAULT_MAX_ATTACHMENTS: Final = 1 << 30

# Small enough for malloc's heap: larger ones are mapped anew for every call.
_RECEIVE: Final = 64 << 10
# What is read in one turn before greenlets run; more waits in the kernel.
_RECEIVE_TURN: Final = 8 << 20
# Chunks are not queued beyond this much unwritten output, so that answers can overtake them.
_OUTPUT_HIGH: Final = 1 << 20
_MAX_BUFFERS: Final = min(os.sysconf("SC_IOV_MAX") if hasattr(os, "sysconf") else 16, 1024)


class Limits(NamedTuple):
    """What this end accepts, in bytes.

    Attributes:
        max_frame: the longest payload of a frame.
        window: chunk bytes of one stream that may be under way before more credit is granted.
        max_attachments: all attachments of one message together.
    """

    max_frame: int = wire.DEFAULT_MAX_FRAME
    window: int = wire.DEFAULT_WINDOW
    max_attachments: int = DEFAULT_MAX_ATTACHMENTS


class Inbound(NamedTuple):
    """A call of the host with everything that belongs to it."""

    stream: int
    method: str
    body: bytes
    attachments: list[bytes]


class Server(Protocol):
    """Serves the host's calls; must answer each one with `Connection.answer` or `fail`."""

    def call(self, inbound: Inbound) -> None:
        """Start to serve a call; must not take long."""

    def cancel(self, stream: int) -> None:
        """Stop serving a call, which must still be answered."""


class _Serving:
    """A call of the host between its CALL and our answer."""

    __slots__ = ("call", "incoming", "received")

    def __init__(self, call: wire.Call) -> None:
        self.call = call
        self.incoming: Incoming | None = None  # attachments still under way
        self.received = 0  # chunk bytes since credit was last granted


class _Pending:
    """A call of ours between its CALL and the host's answer."""

    __slots__ = ("body", "incoming", "mailbox", "received")

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        self.body = b""
        self.incoming: Incoming | None = None
        self.received = 0


class _Sending:
    """Attachments of our answer that are still to be sent."""

    __slots__ = ("credit", "outgoing")

    def __init__(self, outgoing: Outgoing, credit: int) -> None:
        self.outgoing = outgoing
        self.credit = credit


class ProtocolError(Exception):
    """The host broke the protocol: the connection is of no use any more."""


class Connection:
    """One connection to the host.

    Args:
        sock: the worker's private socket; made non-blocking here.
        hub: the loop that watches it.
        server: serves the host's calls.
        hello: what this end says of itself in its HELLO, besides protocol and limits.
        limits: what this end accepts.
    """

    def __init__(
        self, sock: socket.socket, hub: Hub, server: Server, hello: dict[str, Any], limits: Limits
    ) -> None:
        sock.setblocking(False)
        self.lost: Exception | None = None  # why the connection cannot be used any more
        self.drained = False  # the host wants no more, and nothing is left to do
        self._gone = False  # nobody is at the other end
        self._sock = sock
        self._hub = hub
        self._server = server
        self._hello = hello
        self._limits = limits
        self._decoder = wire.Decoder(limits.max_frame)
        self._greeted = False
        self._draining = False
        self._peer_window = wire.DEFAULT_WINDOW
        self._serving: dict[int, _Serving] = {}
        self._pending: dict[int, _Pending] = {}
        self._sending: dict[int, _Sending] = {}
        self._last_inbound = -1
        self._next_outbound = 2
        self._output: list[wire.Buffer] = []
        self._output_size = 0
        self._wants_write = False
        hub.watch(sock.fileno(), self._readable, self.flush)

    # What the worker does.

    def answer(self, stream: int, body: bytes, attachments: Sequence[bytes] = ()) -> None:
        """End a call of the host with a RESULT, or with an ERROR where it is too large to send."""
        if self._serving.pop(stream, None) is None:
            return
        sizes = [len(part) for part in attachments]
        head = 2 + 8 * len(sizes) if sizes else 0
        problem = self._too_large(head + len(body), "the result")
        if problem is None and len(sizes) > wire.MAX_ATTACHMENTS:
            problem = f"{len(sizes)} attachments, limit {wire.MAX_ATTACHMENTS}"
        if problem is not None:
            self._send(wire.encode(wire.ERROR, stream, _refusal(problem)))
        else:
            self._send(wire.encode_result(stream, body, sizes))
            if any(sizes):
                outgoing = Outgoing(attachments, self._limits.max_frame)
                self._sending[stream] = _Sending(outgoing, self._peer_window)
        self._check_drained()

    def fail(self, stream: int, payload: bytes) -> None:
        """End a call of the host with an ERROR; ``payload`` is its JSON."""
        serving = self._serving.pop(stream, None)
        if serving is None:
            return
        if serving.incoming is not None:
            serving.incoming.close()
        problem = self._too_large(len(payload), "the error")
        if problem is not None:
            payload = _refusal(problem)
        self._send(wire.encode(wire.ERROR, stream, payload))
        self._check_drained()

    def open(self, parent: int, method: str, body: bytes, mailbox: Mailbox) -> int:
        """Call the host; its answer, or why there is none, comes to ``mailbox``.

        Returns:
            The stream's id; 0 when none was opened.
        """
        if self.lost is not None:
            mailbox.put(faults.Canceled(f"the connection is lost: {self.lost}"))
            return 0
        if parent not in self._serving:
            mailbox.put(faults.Canceled("the call it belongs to has ended"))
            return 0
        problem = self._too_large(9 + len(method) + len(body), f"a call of {method}")
        if problem is not None:
            mailbox.put(faults.Abort("invalid_argument", problem))
            return 0
        stream = self._next_outbound
        self._next_outbound += 2
        self._pending[stream] = _Pending(mailbox)
        self._send(wire.encode_call(stream, method, body, parent))
        return stream

    def abandon(self, stream: int) -> None:
        """Tell the host that the answer of a call of ours is not wanted any more."""
        pending = self._pending.pop(stream, None)
        if pending is None:
            return
        if pending.incoming is not None:
            pending.incoming.close()
        self._send(wire.encode(wire.CANCEL, stream))

    def send_raw(self, data: bytes) -> None:
        """Write bytes that need not be a frame: a test fault."""
        self._send(data)

    def flush(self) -> None:
        """Write as much as the socket takes; watch for room if some is left."""
        if self._sending:
            self._pump()
        if self._output_size and not self._gone:
            self._write()
        want = not self._gone and (self._output_size > 0 or self._can_pump())
        if want != self._wants_write:
            self._wants_write = want
            self._hub.want_write(self._sock.fileno(), want)
        self._check_drained()

    def close(self) -> None:
        """Stop watching the socket and close it."""
        if self._sock.fileno() >= 0:
            self._hub.unwatch(self._sock.fileno())
            self._sock.close()

    # Output.

    def _send(self, frame: wire.Buffer) -> None:
        self._output.append(frame)
        self._output_size += len(frame)

    def _write(self) -> None:
        output = self._output
        try:
            while output:
                if self._output_size <= _RECEIVE and len(output) > 1:
                    output[:] = [b"".join(output)]
                if len(output) == 1:
                    sent = self._sock.send(output[0])
                else:
                    sent = self._sock.sendmsg(output[:_MAX_BUFFERS])
                self._output_size -= sent
                _drop(output, sent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)

    def _can_pump(self) -> bool:
        """Whether there are chunks that may be sent: the next turn goes on with them."""
        return any(sending.credit > 0 for sending in self._sending.values())

    def _pump(self) -> None:
        """Queue chunks of the attachments being sent, one of each stream in turn."""
        moved = True
        while moved and self._output_size < _OUTPUT_HIGH:
            moved = False
            for stream, sending in list(self._sending.items()):
                if sending.credit <= 0:
                    continue
                part = sending.outgoing.next()
                sending.credit -= len(part)
                for buffer in wire.encode_buffers(
                    wire.CHUNK, stream, part, flags=wire.FLAG_ATTACHMENTS
                ):
                    self._send(buffer)
                if sending.outgoing.done:
                    del self._sending[stream]
                moved = True

    def _too_large(self, size: int, what: str) -> str | None:
        if size <= self._limits.max_frame:
            return None
        return f"{what} has {size} bytes, limit {self._limits.max_frame}"

    # Input.

    def _readable(self) -> None:
        total = 0
        while self.lost is None and total < _RECEIVE_TURN:
            try:
                data = self._sock.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._end()
                return
            total += len(data)
            self._feed(data)
            if len(data) < _RECEIVE // 2:
                return

    def _feed(self, data: bytes) -> None:
        broken: wire.WireError | None = None
        try:
            frames = self._decoder.feed(data)
        except wire.WireError as error:
            broken, frames = error, error.frames
        try:
            for frame in frames:
                if type(frame) is wire.Frame:
                    self._take(frame)
                else:
                    self._take_oversized(frame)  # type: ignore[arg-type]
        except (ProtocolError, wire.WireError) as error:
            self._lose(error)
            return
        if broken is not None:
            self._lose(broken)

    def _end(self) -> None:
        try:
            self._decoder.finish()
        except wire.WireError as error:
            self._lose(error)
        else:
            self._lose(EOFError("the host closed the connection"))

    def _lose(self, error: Exception) -> None:
        if self.lost is not None:
            return
        self.lost = error
        # Whoever broke the protocol may still read why this ends.
        self._gone = isinstance(error, (EOFError, OSError))
        for pending in self._pending.values():
            if pending.incoming is not None:
                pending.incoming.close()
        self._pending.clear()
        self._sending.clear()
        for stream in list(self._serving):
            self._server.cancel(stream)
        self._hub.stop()

    def _take(self, frame: wire.Frame) -> None:
        kind = frame.type
        if not self._greeted:
            self._greet(frame)
        elif kind == wire.CALL:
            self._take_call(frame)
        elif kind in (wire.RESULT, wire.ERROR):
            self._take_answer(frame)
        elif kind == wire.CHUNK:
            self._take_chunk(frame)
        elif kind == wire.CREDIT:
            self._check_opened(frame.stream, "CREDIT")
            sending = self._sending.get(frame.stream)
            if sending is not None:
                sending.credit += wire.unpack_credit(frame.payload)
        elif kind == wire.CANCEL:
            self._take_cancel(frame.stream)
        elif kind == wire.PING:
            if len(frame.payload) != 8:
                raise ProtocolError(f"PING has {len(frame.payload)} bytes, not 8")
            self._send(wire.encode(wire.PONG, 0, frame.payload))
        elif kind == wire.DRAIN:
            self._draining = True
            self._check_drained()
        elif kind == wire.LOG:
            self._print_log(frame.payload)
        elif kind == wire.HELLO:
            raise ProtocolError("a second HELLO")

    def _greet(self, frame: wire.Frame) -> None:
        if frame.type != wire.HELLO or frame.stream != 0:
            raise ProtocolError(f"the host must begin with HELLO, not {wire.type_name(frame.type)}")
        try:
            hello = orjson.loads(frame.payload)
            protocol, role = hello["protocol"], hello["role"]
            max_frame, window = int(hello["max_frame"]), int(hello["window"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the host's HELLO cannot be read: {error!r}") from error
        problem = None
        if protocol != PROTOCOL:
            problem = f"the host speaks protocol {protocol}, this worker {PROTOCOL}"
        elif role != "host":
            problem = f"the peer is a {role!r}, not a host"
        elif max_frame <= 0 or window <= 0:
            problem = f"the host accepts nothing: max_frame {max_frame}, window {window}"
        if problem is not None:
            body = errors.encode({"code": "unsupported", "message": problem})
            self._send(wire.encode(wire.ERROR, 0, body))
            raise ProtocolError(problem)
        own = {
            "protocol": PROTOCOL,
            "role": "worker",
            "max_frame": self._limits.max_frame,
            "window": self._limits.window,
            **self._hello,
        }
        self._send(wire.encode(wire.HELLO, 0, orjson.dumps(own)))
        self._limits = self._limits._replace(max_frame=min(self._limits.max_frame, max_frame))
        self._decoder.max_frame = self._limits.max_frame
        self._peer_window = window
        self._greeted = True

    def _take_call(self, frame: wire.Frame) -> None:
        stream = frame.stream
        self._open_inbound(stream)
        call = wire.unpack_call(frame.payload, frame.flags)
        serving = self._serving[stream] = _Serving(call)
        total = sum(call.sizes)
        if total > self._limits.max_attachments:
            limit = self._limits.max_attachments
            self.fail(stream, _refusal(f"attachments of {total} bytes, limit {limit}"))
        elif self._draining:
            self.fail(stream, errors.encode({"code": "closed", "message": "the worker drains"}))
        elif total:
            serving.incoming = Incoming(call.sizes)
        else:
            self._deliver(stream, call, [b""] * len(call.sizes))

    def _deliver(self, stream: int, call: wire.Call, attachments: list[bytes]) -> None:
        self._server.call(Inbound(stream, call.method, call.body, attachments))

    def _take_answer(self, frame: wire.Frame) -> None:
        stream = frame.stream
        self._check_opened(stream, wire.type_name(frame.type))
        if frame.type == wire.ERROR and stream == 0:
            raise ProtocolError(f"the host gave up: {frame.payload[:500]!r}")
        pending = self._pending.get(stream)
        if pending is None:
            return  # late: nobody waits for it
        if frame.type == wire.ERROR:
            del self._pending[stream]
            pending.mailbox.put(errors.from_host(frame.payload))
            return
        if not frame.flags & wire.FLAG_ATTACHMENTS:
            del self._pending[stream]
            pending.mailbox.put(frame.payload)
            return
        result = wire.unpack_result(frame.payload, frame.flags)
        # No method of the host answers with attachments: they are received and left aside.
        if sum(result.sizes) > self._limits.max_attachments:
            del self._pending[stream]
            problem = f"attachments of {sum(result.sizes)} bytes in an answer"
            pending.mailbox.put(faults.Abort("invalid_argument", problem))
        elif not any(result.sizes):
            del self._pending[stream]
            pending.mailbox.put(result.body)
        else:
            pending.body = result.body
            pending.incoming = Incoming(result.sizes)

    def _take_chunk(self, frame: wire.Frame) -> None:
        stream = frame.stream
        self._check_opened(stream, "CHUNK")
        target = self._serving.get(stream) if stream & 1 else self._pending.get(stream)
        if target is None:
            return  # late
        if not frame.flags & wire.FLAG_ATTACHMENTS:
            if not isinstance(target, _Pending):
                raise ProtocolError(f"an item on stream {stream}, which the host opened itself")
            target.mailbox.put(Item(frame.payload))
            self._credit(stream, target, len(frame.payload))
            return
        incoming = target.incoming
        if incoming is None:
            raise ProtocolError(f"attachment bytes on stream {stream}, which announced none")
        try:
            incoming.add(frame.payload)
        except ValueError as error:
            raise ProtocolError(f"stream {stream}: {error}") from error
        except OSError as error:
            self._refuse_attachments(stream, target, error)
            return
        if not incoming.complete:
            self._credit(stream, target, len(frame.payload))
            return
        target.incoming = None
        if isinstance(target, _Pending):
            incoming.close()
            del self._pending[stream]
            target.mailbox.put(target.body)
        else:
            self._deliver(stream, target.call, incoming.take())

    def _refuse_attachments(self, stream: int, target: _Serving | _Pending, error: OSError) -> None:
        message = f"attachments cannot be stored: {error}"
        if isinstance(target, _Serving):
            self.fail(stream, errors.encode({"code": "internal", "message": message}))
        else:
            self.abandon(stream)
            target.mailbox.put(faults.Abort("internal", message))

    def _credit(self, stream: int, target: _Serving | _Pending, size: int) -> None:
        target.received += size
        if target.received * 2 >= self._limits.window:
            self._send(wire.encode_credit(stream, target.received))
            target.received = 0

    def _take_cancel(self, stream: int) -> None:
        self._check_opened(stream, "CANCEL")
        serving = self._serving.get(stream)
        if serving is None:
            if self._sending.pop(stream, None) is not None:
                # The answer was under way: an ERROR in its place ends the stream at once.
                self._send(wire.encode(wire.ERROR, stream, _canceled()))
            return
        if serving.incoming is not None:
            self.fail(stream, _canceled())
        else:
            self._server.cancel(stream)

    def _take_oversized(self, frame: wire.Oversized) -> None:
        name = wire.type_name(frame.type)
        if not self._greeted:
            raise ProtocolError(f"{name} of {frame.length} bytes before the handshake")
        problem = f"{name} of {frame.length} bytes, limit {self._limits.max_frame}"
        if frame.type == wire.CALL:
            self._open_inbound(frame.stream)
            self._serving[frame.stream] = _Serving(wire.Call("", 0, (), b""))
            self.fail(frame.stream, _refusal(problem))
            return
        self._check_opened(frame.stream, name)
        if frame.type not in (wire.RESULT, wire.ERROR, wire.CHUNK):
            return
        if frame.stream & 1:
            self.fail(frame.stream, _refusal(problem))
            return
        pending = self._pending.pop(frame.stream, None)
        if pending is not None:
            if pending.incoming is not None:
                pending.incoming.close()
            pending.mailbox.put(faults.Abort("invalid_argument", problem))

    def _open_inbound(self, stream: int) -> None:
        if stream <= self._last_inbound or not stream & 1:
            raise ProtocolError(f"CALL on stream {stream} after stream {self._last_inbound}")
        self._last_inbound = stream

    def _check_opened(self, stream: int, what: str) -> None:
        if stream == 0:
            return
        opened = stream <= self._last_inbound if stream & 1 else stream < self._next_outbound
        if not opened:
            raise ProtocolError(f"{what} on stream {stream}, which was never opened")

    def _check_drained(self) -> None:
        if not self._draining or self._serving or self._pending or self._sending:
            return
        if self._output_size == 0:
            self.drained = True
            self._hub.stop()

    @staticmethod
    def _print_log(payload: bytes) -> None:
        sys.stderr.write(f"host: {payload[:2000].decode('utf-8', 'replace')}\n")


def _refusal(message: str) -> bytes:
    return errors.encode({"code": "invalid_argument", "message": message})


def _canceled() -> bytes:
    return errors.encode({"code": "canceled", "message": "the call was canceled"})


def _drop(output: list[wire.Buffer], sent: int) -> None:
    """Remove the first ``sent`` bytes from a list of buffers."""
    done = 0
    for buffer in output:
        if sent < len(buffer):
            break
        sent -= len(buffer)
        done += 1
    del output[:done]
    if sent:
        output[0] = memoryview(output[0])[sent:]
