"""The frame codec: golden vectors shared with Go, and properties of encode and decode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_worker import wire

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "internal/wire/testdata/golden.json").read_text(encoding="utf-8")
)
VECTORS = [pytest.param(vector, id=vector["name"]) for vector in GOLDEN["vectors"]]
ENCODABLE = [
    pytest.param(vector, id=vector["name"])
    for vector in GOLDEN["vectors"]
    if "error" not in vector and not any("oversized" in frame for frame in vector["frames"])
]

u64 = st.integers(0, 2**64 - 1)
sizes = st.lists(u64, max_size=20)
methods = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255)
frames = st.lists(
    st.builds(
        wire.Frame,
        st.integers(1, 11),
        st.integers(0, 255),
        u64,
        st.binary(max_size=300),
    ),
    max_size=20,
)


def stream_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex("".join(vector["hex"]))


def decode(data: bytes, step: int, max_frame: int) -> tuple[list[Any], str]:
    """Decode a whole stream, fed in pieces of ``step`` bytes; return frames and fault."""
    decoder = wire.Decoder(max_frame)
    found: list[Any] = []
    try:
        for start in range(0, len(data), step):
            found += decoder.feed(data[start : start + step])
        decoder.finish()
    except wire.WireError as error:
        return found + error.frames, error.kind
    return found, ""


def meaning(frame: wire.Frame | wire.Oversized, want: dict[str, Any]) -> dict[str, Any]:
    """Read a frame the way the golden file writes it."""
    got: dict[str, Any] = {
        "type": wire.type_name(frame.type),
        "flags": frame.flags,
        "stream": frame.stream,
    }
    if isinstance(frame, wire.Oversized):
        return {**got, "oversized": frame.length}
    payload, flags = frame.payload, frame.flags
    try:
        if frame.type == wire.CALL:
            call = wire.unpack_call(payload, flags)
            got["call"] = call._asdict() | {
                "sizes": list(call.sizes),
                "body": bytes(call.body).decode(),
            }
        elif frame.type == wire.RESULT:
            result = wire.unpack_result(payload, flags)
            got["result"] = {"sizes": list(result.sizes), "body": bytes(result.body).decode()}
        elif frame.type == wire.CREDIT:
            got["credit"] = wire.unpack_credit(payload)
        elif "text" in want:
            got["text"] = payload.decode()
        else:
            got["payload"] = payload.hex()
    except wire.WireError as error:
        got |= {"payload": payload.hex(), error.kind: True}
    return got


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("vector", VECTORS)
def test_the_decoder_agrees_with_the_golden_vectors(vector: dict[str, Any], step: int) -> None:
    found, fault = decode(stream_of(vector), step, GOLDEN["max_frame"])
    wanted = vector["frames"]
    assert len(found) == len(wanted)
    assert [meaning(*pair) for pair in zip(found, wanted, strict=True)] == wanted
    assert fault == vector.get("error", "")


@pytest.mark.parametrize("vector", ENCODABLE)
def test_the_encoder_agrees_with_the_golden_vectors(vector: dict[str, Any]) -> None:
    got = b""
    for frame in vector["frames"]:
        type_, stream = wire.TYPE_NAMES.index(frame["type"]), frame["stream"]
        if call := frame.get("call"):
            body = call["body"].encode()
            got += wire.encode_call(stream, call["method"], body, call["parent"], call["sizes"])
        elif result := frame.get("result"):
            got += wire.encode_result(stream, result["body"].encode(), result["sizes"])
        elif "credit" in frame:
            got += wire.encode_credit(stream, frame["credit"])
        else:
            text = frame.get("text")
            payload = bytes.fromhex(frame["payload"]) if text is None else text.encode()
            got += wire.encode(type_, stream, payload, frame["flags"])
    assert got == stream_of(vector)


@given(frames, st.lists(st.integers(1, 500), min_size=1, max_size=10))
def test_frames_survive_any_cutting_of_the_stream(sent: list[wire.Frame], steps: list[int]) -> None:
    data = b"".join(wire.encode(f.type, f.stream, f.payload, f.flags) for f in sent)
    decoder = wire.Decoder(300)
    found: list[Any] = []
    at = turn = 0
    while at < len(data):
        step = steps[turn % len(steps)]
        piece = bytearray(data[at : at + step])
        found += decoder.feed(memoryview(piece) if turn % 2 else piece)
        piece[:] = bytes(len(piece))  # what was decoded must not live in the caller's buffer
        at += step
        turn += 1
    decoder.finish()
    assert found == sent
    assert all(type(frame.payload) is bytes for frame in found)


@given(frames, st.integers(0, 300), st.integers(1, 2000))
def test_only_frames_over_the_limit_become_markers(
    sent: list[wire.Frame], limit: int, step: int
) -> None:
    data = b"".join(wire.encode(f.type, f.stream, f.payload, f.flags) for f in sent)
    found, fault = decode(data, step, limit)
    assert fault == ""
    assert found == [
        f if len(f.payload) <= limit else wire.Oversized(f.type, f.flags, f.stream, len(f.payload))
        for f in sent
    ]


@given(st.binary(max_size=2000), st.integers(1, 100), st.integers(0, 200))
def test_any_bytes_give_the_same_frames_and_fault_however_they_are_cut(
    data: bytes, step: int, limit: int
) -> None:
    assert decode(data, step, limit) == decode(data, len(data) + 1, limit)


@given(frames, st.binary(max_size=50), st.integers(1, 100))
def test_what_came_before_a_fault_is_not_lost(
    sent: list[wire.Frame], junk: bytes, step: int
) -> None:
    data = b"".join(wire.encode(f.type, f.stream, f.payload, f.flags) for f in sent)
    found, fault = decode(data + b"\x00" + b"x" * 15 + junk, step, 300)
    assert (found, fault) == (sent, "magic")


@given(methods, u64, sizes, st.binary(max_size=100))
def test_a_call_comes_back(method: str, parent: int, sizes: list[int], body: bytes) -> None:
    data = wire.encode_call(1, method, body, parent, sizes)
    (frame,) = wire.Decoder().feed(data)
    assert isinstance(frame, wire.Frame)
    assert frame[:3] == (wire.CALL, wire.FLAG_ATTACHMENTS if sizes else 0, 1)
    assert wire.unpack_call(frame.payload, frame.flags) == (method, parent, tuple(sizes), body)
    head = wire.pack_call_head(method, parent, sizes)
    buffers = wire.encode_buffers(wire.CALL, 1, head, body, flags=frame.flags)
    assert b"".join(buffers) == data
    assert buffers[-1] is body


@given(sizes, st.binary(max_size=100))
def test_a_result_comes_back(sizes: list[int], body: bytes) -> None:
    (frame,) = wire.Decoder().feed(wire.encode_result(2, body, sizes))
    assert isinstance(frame, wire.Frame)
    assert wire.unpack_result(frame.payload, frame.flags) == (tuple(sizes), body)


@given(st.integers(0, 2**32 - 1))
def test_credit_comes_back(count: int) -> None:
    (frame,) = wire.Decoder().feed(wire.encode_credit(2, count))
    assert isinstance(frame, wire.Frame)
    assert wire.unpack_credit(frame.payload) == count


@given(st.binary(max_size=100), st.integers(0, 1))
def test_any_payload_is_read_or_malformed(payload: bytes, flags: int) -> None:
    for unpack in (wire.unpack_call, wire.unpack_result):
        try:
            fault, body = "", unpack(payload, flags).body
        except wire.WireError as error:
            fault, body = error.kind, b""
        assert fault in ("", "malformed")
        assert payload.endswith(body)


def test_a_decoder_stays_broken_after_a_fault() -> None:
    decoder = wire.Decoder()
    good = wire.encode(wire.DRAIN, 0)
    with pytest.raises(wire.WireError) as first:
        decoder.feed(good + b"not a frame, surely")
    assert len(first.value.frames) == 1
    with pytest.raises(wire.WireError) as again:
        decoder.feed(good)
    assert again.value.kind == "magic"
    assert again.value.frames == []


@pytest.mark.parametrize("method", ["", "m" * 256, "é"])
def test_a_method_that_cannot_be_sent_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match=r"1 to 255 bytes|ascii"):
        wire.encode_call(1, method, b"")


def test_too_many_attachments_are_refused() -> None:
    with pytest.raises(ValueError, match="limit 65535"):
        wire.encode_result(1, b"", [0] * 65536)


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    data = wire.encode(wire.CHUNK, 1, bytes(8 << 20), 1)
    decoder = wire.Decoder()
    found = [
        frame for at in range(0, len(data), 4096) for frame in decoder.feed(data[at : at + 4096])
    ]
    assert [len(frame.payload) for frame in found if isinstance(frame, wire.Frame)] == [8 << 20]
