"""The frame codec of the dspex protocol: bytes in, frames out, and back.

Nothing here knows sockets, streams in flight or JSON: a connection feeds what it received into a
`Decoder` and writes what the ``encode…`` functions return. The protocol is specified in
``docs/protocol.md``; the vectors that this module and its Go twin must agree on are in
``internal/wire/testdata/golden.json``.

A frame is a header of 16 bytes, big-endian, and a payload::

    magic u8 = 0xD5 | version u8 = 1 | type u8 | flags u8 | length u32 | stream u64
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

MAGIC: Final = 0xD5
VERSION: Final = 1
HEADER_SIZE: Final = 16

HELLO: Final = 1
CALL: Final = 2
RESULT: Final = 3
ERROR: Final = 4
CHUNK: Final = 5
CREDIT: Final = 6
CANCEL: Final = 7
PING: Final = 8
PONG: Final = 9
DRAIN: Final = 10
LOG: Final = 11

TYPE_NAMES: Final = (
    "",
    "HELLO",
    "CALL",
    "RESULT",
    "ERROR",
    "CHUNK",
    "CREDIT",
    "CANCEL",
    "PING",
    "PONG",
    "DRAIN",
    "LOG",
)

# On CALL and RESULT: the payload starts with the sizes of attachments. On CHUNK: the payload is
# the next bytes of those attachments; without it, the payload is one item of the result stream.
FLAG_ATTACHMENTS: Final = 1

DEFAULT_MAX_FRAME: Final = 64 << 20
DEFAULT_WINDOW: Final = 1 << 20
MAX_PAYLOAD: Final = 0xFFFFFFFF
MAX_METHOD: Final = 255
MAX_ATTACHMENTS: Final = 0xFFFF

_HEADER: Final = Struct(">BBBBIQ")
_PREFIX: Final = (MAGIC << 8) | VERSION
_HEAD: Final = Struct(">HBBIQ")  # the same 16 bytes, magic and version read as one number
_U16: Final = Struct(">H")
_U32: Final = Struct(">I")
_U64: Final = Struct(">Q")


class WireError(Exception):
    """The peer sent bytes that break the protocol; the connection cannot be used any more.

    Attributes:
        kind: ``"magic"``, ``"version"``, ``"type"``, ``"truncated"`` or ``"malformed"``.
        frames: the frames that were complete before the fault, in order; usually empty.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.frames: list[Frame | Oversized] = []


class Frame(NamedTuple):
    """One frame: ``type`` (1 to 11), ``flags``, ``stream`` id and ``payload``."""

    type: int
    flags: int
    stream: int
    payload: bytes


class Oversized(NamedTuple):
    """The header of a frame whose payload was longer than the decoder's limit.

    It stands where the frame stood; its ``length`` bytes of payload are skipped.
    """

    type: int
    flags: int
    stream: int
    length: int


class Call(NamedTuple):
    """The content of a CALL: ``parent`` is 0 for none, ``sizes`` are attachment sizes in bytes."""

    method: str
    parent: int
    sizes: tuple[int, ...]
    body: bytes


class Result(NamedTuple):
    """The content of a RESULT: ``sizes`` are the attachment sizes in bytes."""

    sizes: tuple[int, ...]
    body: bytes


def type_name(type_: int) -> str:
    """Return a frame type's name, such as ``"CALL"``, or ``"type 77"`` for one not known."""
    return TYPE_NAMES[type_] if 0 < type_ < len(TYPE_NAMES) else f"type {type_}"


def encode(type_: int, stream: int, payload: Buffer = b"", flags: int = 0) -> bytes:
    """Return one frame as bytes.

    Raises:
        struct.error: a number does not fit its field (the payload: 4 GiB).
    """
    return b"".join(
        (_HEADER.pack(MAGIC, VERSION, type_, flags, len(payload), stream), payload),
    )


def encode_buffers(type_: int, stream: int, *parts: Buffer, flags: int = 0) -> list[Buffer]:
    """Return one frame as a list of buffers, for ``sendmsg``, without copying its payload.

    Args:
        parts: byte buffers (a memoryview must have items of one byte) that make up the payload.

    Raises:
        struct.error: a number does not fit its field (the payload: 4 GiB).
    """
    length = 0
    for part in parts:
        length += len(part)
    return [_HEADER.pack(MAGIC, VERSION, type_, flags, length, stream), *parts]


def pack_sizes(sizes: Sequence[int]) -> bytes:
    """Return the attachment table that starts a payload with FLAG_ATTACHMENTS.

    Raises:
        ValueError: more than 65,535 attachments.
        struct.error: a size does not fit 64 bits.
    """
    if len(sizes) > MAX_ATTACHMENTS:
        raise ValueError(f"{len(sizes)} attachments, limit {MAX_ATTACHMENTS}")
    return b"".join([_U16.pack(len(sizes)), *[_U64.pack(size) for size in sizes]])


def pack_call_head(method: str, parent: int = 0, sizes: Sequence[int] = ()) -> bytes:
    """Return what precedes the body in a CALL's payload.

    With sizes, the frame needs FLAG_ATTACHMENTS.

    Raises:
        ValueError: the method is empty, not ASCII or longer than 255 bytes; too many attachments.
    """
    name = method.encode("ascii")
    if not 0 < len(name) <= MAX_METHOD:
        raise ValueError(f"a method name has 1 to {MAX_METHOD} bytes, not {len(name)}")
    head = b"".join((bytes((len(name),)), name, _U64.pack(parent)))
    return head + pack_sizes(sizes) if sizes else head


def encode_call(
    stream: int, method: str, body: Buffer, parent: int = 0, sizes: Sequence[int] = ()
) -> bytes:
    """Return a CALL frame. The attachments themselves follow as CHUNK frames.

    Raises:
        ValueError: as `pack_call_head`.
    """
    head = pack_call_head(method, parent, sizes)
    flags = FLAG_ATTACHMENTS if sizes else 0
    length = len(head) + len(body)
    return b"".join((_HEADER.pack(MAGIC, VERSION, CALL, flags, length, stream), head, body))


def encode_result(stream: int, body: Buffer, sizes: Sequence[int] = ()) -> bytes:
    """Return a RESULT frame. The attachments themselves follow as CHUNK frames.

    Raises:
        ValueError: too many attachments.
    """
    if not sizes:
        return encode(RESULT, stream, body)
    table = pack_sizes(sizes)
    length = len(table) + len(body)
    header = _HEADER.pack(MAGIC, VERSION, RESULT, FLAG_ATTACHMENTS, length, stream)
    return b"".join((header, table, body))


def encode_credit(stream: int, count: int) -> bytes:
    """Return a CREDIT frame that grants ``count`` more bytes of CHUNK payload (1 to 2**32 - 1)."""
    return encode(CREDIT, stream, _U32.pack(count))


def _unpack_sizes(payload: bytes, offset: int, what: str) -> tuple[tuple[int, ...], int]:
    """Read an attachment table at ``offset``; return the sizes and the offset after it."""
    end = offset + 2
    if end > len(payload):
        raise WireError("malformed", f"{what} ends inside its attachment table")
    count: int = _U16.unpack_from(payload, offset)[0]
    body = end + 8 * count
    if body > len(payload):
        raise WireError("malformed", f"{what} ends inside its attachment table")
    sizes = tuple([size for (size,) in _U64.iter_unpack(payload[end:body])])
    return sizes, body


def unpack_call(payload: bytes, flags: int = 0) -> Call:
    """Read a CALL's payload.

    Raises:
        WireError: of kind ``"malformed"``.
    """
    if not payload:
        raise WireError("malformed", "CALL is empty")
    end = 1 + payload[0]
    offset = end + 8
    if end == 1:
        raise WireError("malformed", "CALL has no method")
    if offset > len(payload):
        raise WireError("malformed", "CALL ends inside its head")
    try:
        method = payload[1:end].decode("ascii")
    except UnicodeDecodeError:
        raise WireError("malformed", "CALL has a method that is not ASCII") from None
    parent: int = _U64.unpack_from(payload, end)[0]
    sizes: tuple[int, ...] = ()
    if flags & FLAG_ATTACHMENTS:
        sizes, offset = _unpack_sizes(payload, offset, "CALL")
    return Call(method, parent, sizes, payload[offset:])


def unpack_result(payload: bytes, flags: int = 0) -> Result:
    """Read a RESULT's payload.

    Raises:
        WireError: of kind ``"malformed"``.
    """
    if not flags & FLAG_ATTACHMENTS:
        return Result((), payload)
    sizes, offset = _unpack_sizes(payload, 0, "RESULT")
    return Result(sizes, payload[offset:])


def unpack_credit(payload: bytes) -> int:
    """Read a CREDIT's payload.

    Raises:
        WireError: of kind ``"malformed"``.
    """
    if len(payload) != 4:
        raise WireError("malformed", f"CREDIT has {len(payload)} bytes, not 4")
    count: int = _U32.unpack(payload)[0]
    return count


class Decoder:
    """Cuts a byte stream into frames.

    It holds at most one incomplete frame: about ``max_frame`` bytes. Not safe for use by several
    threads at once.

    Attributes:
        max_frame: the longest payload accepted, in bytes. It may be lowered or raised between two
            calls of `feed`, as the handshake does.
    """

    __slots__ = ("_error", "_need", "_skip", "_tail", "max_frame")

    def __init__(self, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        self.max_frame = max_frame
        self._tail = bytearray()  # the beginning of an incomplete frame
        self._need = HEADER_SIZE  # bytes in _tail before anything can be decoded
        self._skip = 0  # bytes of an oversized payload still to be dropped
        self._error: WireError | None = None

    def feed(self, data: Buffer) -> list[Frame | Oversized]:
        """Take the next bytes received and return the frames that are now complete.

        Args:
            data: any number of bytes. Payloads are copies: the buffer may be used again.

        Raises:
            WireError: of kind ``"magic"``, ``"version"`` or ``"type"``. What was complete before
                the fault is in its ``frames``. Every later call raises it again, without frames.
        """
        if self._error is not None:
            self._error.frames = []
            raise self._error
        if self._skip:
            dropped = min(self._skip, len(data))
            self._skip -= dropped
            data = memoryview(data)[dropped:]
        tail = self._tail
        if tail:
            tail += data
            if len(tail) < self._need:
                return []
            data = tail
            self._tail = bytearray()
        frames: list[Frame | Oversized] = []
        try:
            consumed = self._cut(data, frames)
        except WireError as error:
            self._error = error
            error.frames = frames
            raise
        if consumed < len(data):
            self._tail += memoryview(data)[consumed:]
        return frames

    def _cut(self, data: Buffer, frames: list[Frame | Oversized]) -> int:
        """Append the frames in ``data`` to ``frames``; return how many bytes they took."""
        size = len(data)
        at = 0
        is_bytes = type(data) is bytes
        view: Buffer = data if is_bytes else memoryview(data)
        unpack = _HEAD.unpack_from
        while size - at >= HEADER_SIZE:
            prefix, type_, flags, length, stream = unpack(data, at)
            if prefix != _PREFIX:
                raise _prefix_error(prefix)
            if not 0 < type_ <= LOG:
                raise WireError("type", f"unknown frame type {type_}")
            body = at + HEADER_SIZE
            end = body + length
            if length > self.max_frame:
                frames.append(Oversized(type_, flags, stream, length))
                if end > size:
                    self._skip = end - size
                    end = size
                at = end
                continue
            if end > size:
                self._need = HEADER_SIZE + length
                return at
            payload = view[body:end]
            frames.append(Frame(type_, flags, stream, bytes(payload)))
            at = end
        self._need = HEADER_SIZE
        return at

    def finish(self) -> None:
        """Say that the byte stream has ended.

        Raises:
            WireError: of kind ``"truncated"`` when it ended inside a frame.
        """
        if self._skip:
            raise WireError("truncated", f"{self._skip} bytes of a payload are missing")
        if self._tail:
            have = len(self._tail)
            raise WireError("truncated", f"the stream ended {have} bytes into a frame")


def _prefix_error(prefix: int) -> WireError:
    """Name what is wrong with the first two bytes of a header."""
    magic, version = prefix >> 8, prefix & 0xFF
    if magic != MAGIC:
        return WireError("magic", f"a frame starts with 0x{magic:02x}, not 0x{MAGIC:02x}")
    return WireError("version", f"the peer speaks protocol version {version}, not {VERSION}")
