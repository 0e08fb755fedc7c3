"""Bytes that travel beside a message: collected from CHUNK frames, and cut into them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import IO, Final

# A message's attachments up to this size stay in memory; larger ones go to an unlinked file.
SPILL: Final = 8 << 20
# The most that is put into one CHUNK: a large attachment must leave room for other streams.
CHUNK_SIZE: Final = 256 << 10


class Incoming:
    """Collects the attachments of one message.

    Args:
        sizes: their sizes in bytes, in order.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._missing = sum(sizes)
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=SPILL)  # noqa: SIM115

    @property
    def complete(self) -> bool:
        """Whether all bytes are in."""
        return self._missing == 0

    def add(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            ValueError: there are more than the sizes say.
            OSError: they cannot be stored.
        """
        if len(data) > self._missing:
            raise ValueError(f"{len(data) - self._missing} bytes more than the attachments' sizes")
        self._missing -= len(data)
        self._file.write(data)

    def take(self) -> list[bytes]:
        """Return the attachments and free what held them; only once, and only when complete."""
        self._file.seek(0)
        parts = [self._file.read(size) for size in self.sizes]
        self.close()
        return parts

    def close(self) -> None:
        """Free what was collected."""
        self._file.close()


class Outgoing:
    """Cuts the attachments of one message into chunks.

    Args:
        parts: the attachments, in order.
        limit: the longest CHUNK payload the peer accepts, in bytes.
    """

    def __init__(self, parts: Sequence[bytes], limit: int) -> None:
        self._parts = [memoryview(part) for part in reversed(parts) if part]
        self._limit = min(limit, CHUNK_SIZE)

    @property
    def done(self) -> bool:
        """Whether everything has been taken."""
        return not self._parts

    def next(self) -> memoryview:
        """Return the next chunk; only while not `done`."""
        part = self._parts.pop()
        if len(part) > self._limit:
            self._parts.append(part[self._limit :])
            part = part[: self._limit]
        return part
