"""The worker's end of the connection: handshake, limits, attachments, drain, broken peers."""

from __future__ import annotations

import os
import select
import socket
from typing import Any

import orjson
import pytest
from host import QA, Host, ProcessWorker, RemoteError, chat, thread_worker

from dspex_worker import wire

CANCELED = "canceled"


def test_the_worker_introduces_itself() -> None:
    with thread_worker(max_frame=1 << 20) as host:
        hello = host.hello
    assert (hello["protocol"], hello["role"], hello["worker"]) == (1, "worker", "w1")
    assert hello["max_frame"] == 1 << 20
    assert hello["dspy"].startswith("3.4.")
    assert "debug" not in hello["capabilities"]
    assert hello["pid"] == os.getpid()


def last_words(*data: bytes) -> tuple[int, str, list[wire.Frame]]:
    """Send bytes to a new worker; return its exit status, standard error and last frames."""
    process = ProcessWorker()
    for part in data:
        process.sock.sendall(part)
    process.sock.settimeout(20)
    received = b""
    while True:
        try:
            more = process.sock.recv(1 << 16)
        except ConnectionResetError:
            break
        if not more:
            break
        received += more
    code = process.exit()
    frames = [frame for frame in wire.Decoder().feed(received) if isinstance(frame, wire.Frame)]
    return code, process.output()[1], frames


def hello(**changes: Any) -> bytes:
    body = {"protocol": 1, "role": "host", "max_frame": 1 << 20, "window": 1 << 16, **changes}
    return wire.encode(wire.HELLO, 0, orjson.dumps(body))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"protocol": 2}, "protocol 2"),
        ({"role": "worker"}, "not a host"),
        ({"max_frame": 0}, "accepts nothing"),
    ],
)
def test_a_host_that_does_not_fit_is_told_why(changes: dict[str, Any], text: str) -> None:
    code, stderr, frames = last_words(hello(**changes))
    assert code == 76
    assert text in stderr
    (frame,) = frames
    assert (frame.type, frame.stream) == (wire.ERROR, 0)
    assert text in orjson.loads(frame.payload)["message"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x00" * 16, "0xd5"),
        (b"GET / HTTP/1.1\r\n\r\n", "0xd5"),
        (b"\xd5\x02" + b"\x00" * 14, "version 2"),
        (wire.encode(wire.CALL, 1, b"x"), "begin with HELLO"),
        (wire.encode(wire.HELLO, 0, b"[]"), "cannot be read"),
        (wire.encode(wire.HELLO, 0, b'{"protocol":1}'), "cannot be read"),
    ],
)
def test_a_host_that_begins_wrongly_is_left_with_a_message(data: bytes, text: str) -> None:
    code, stderr, _ = last_words(data)
    assert (code, text in stderr) == (76, True), stderr


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"garbage garbage garbage", "0xd5"),
        (b"\xd5\x01\x63\x00" + b"\x00" * 12, "type 99"),
        (hello(), "second HELLO"),
        (wire.encode_call(2, "worker.echo", b"{}"), "CALL on stream 2"),
        (
            wire.encode_call(5, "worker.echo", b"{}") + wire.encode_call(3, "worker.echo", b"{}"),
            "CALL on stream 3",
        ),
        (wire.encode(wire.CANCEL, 7), "never opened"),
        (wire.encode(wire.CHUNK, 7, b"x", 1), "never opened"),
        (wire.encode_result(8, b"{}"), "never opened"),
        (wire.encode(wire.CALL, 1, b""), "CALL is empty"),
        (wire.encode(wire.CREDIT, 0, b"x") + wire.encode(wire.PING, 0, b"x"), "PING"),
        (
            wire.encode_call(1, "worker.echo", b"{}", 0, [2])
            + wire.encode(wire.CHUNK, 1, b"xyz", wire.FLAG_ATTACHMENTS),
            "more than the attachments' sizes",
        ),
        (
            wire.encode_call(1, "worker.echo", b"{}", 0, [2]) + wire.encode(wire.CHUNK, 1, b"xy"),
            "an item on stream 1",
        ),
    ],
)
def test_a_broken_frame_ends_the_worker_with_a_message(data: bytes, text: str) -> None:
    code, stderr, _ = last_words(hello(), data)
    assert (code, text in stderr) == (76, True), stderr


def test_a_stream_that_ends_inside_of_a_frame_is_named() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    host.send(wire.encode(wire.PING, 0, b"12345678")[:20])
    process.sock.shutdown(socket.SHUT_WR)
    assert process.exit() == 76
    assert "20 bytes into a frame" in process.output()[1]


def test_what_was_complete_before_the_fault_is_still_served() -> None:
    data = hello() + wire.encode(wire.PING, 0, b"12345678") + b"garbage garbage garbage"
    code, _, frames = last_words(data)
    assert code == 76
    assert [frame.type for frame in frames] == [wire.HELLO, wire.PONG]


def test_ping_is_answered_with_the_same_bytes() -> None:
    with thread_worker() as host:
        host.send(wire.encode(wire.PING, 0, b"abcdefgh"))
        host.wait(lambda: bool(host.pongs))
        assert host.pongs == [b"abcdefgh"]


def test_an_oversized_call_is_refused_and_the_connection_lives() -> None:
    with thread_worker(max_frame=1000) as host:
        with pytest.raises(RemoteError) as caught:
            host.call("worker.echo", b'{"x":"' + b"y" * 5000 + b'"}')
        assert caught.value.code == "invalid_argument"
        assert "limit 1000" in str(caught.value)
        assert host.call("worker.echo", {"a": 1}) == {"a": 1}


def test_an_oversized_answer_of_the_host_fails_only_its_call() -> None:
    with thread_worker(max_frame=4000) as host:
        hash_ = host.put(QA)
        with pytest.raises(RemoteError) as caught:
            host.run(hash_, {"question": "q"}, chat(answer="x" * 5000))
        assert caught.value.code == "invalid_argument"
        assert "limit 4000" in str(caught.value)
        assert host.run(hash_, {"question": "q"}, chat(answer="x")) == {"outputs": {"answer": "x"}}


def test_a_request_to_the_model_beyond_the_limit_is_never_sent() -> None:
    with thread_worker(max_frame=2500) as host:
        with pytest.raises(RemoteError) as caught:
            host.run(QA, {"question": "q" * 2200})
        assert caught.value.code == "invalid_argument"
        assert host.waiting == []
        assert host.call("worker.echo", {"a": 1}) == {"a": 1}


def test_a_result_beyond_the_limit_is_refused() -> None:
    with thread_worker(max_frame=3000) as host:
        program = {**QA, "demos": []}
        with pytest.raises(RemoteError) as caught:
            # Every quote takes two bytes more in the outputs and in the trace.
            host.run(program, {"question": "q"}, chat(answer='"' * 1000), trace=True)
        assert caught.value.code == "invalid_argument"
        assert "the result" in str(caught.value)


@pytest.mark.parametrize("sizes", [(0,), (1,), (3, 0, 5), (1 << 20, 3 << 20), (9 << 20,)])
def test_attachments_are_echoed(sizes: tuple[int, ...]) -> None:
    parts = tuple(os.urandom(size) for size in sizes)
    with thread_worker() as host:
        stream = host.start("worker.echo", {"n": len(parts)}, parts)
        assert host.finish(stream) == {"n": len(parts)}
        assert host.attachments.get(stream, b"") == b"".join(parts)


def test_attachments_beyond_the_limit_are_refused_and_the_connection_lives() -> None:
    with thread_worker(max_attachments=1000) as host:
        stream = host.start("worker.echo", {}, (b"x" * 600, b"y" * 600))
        with pytest.raises(RemoteError) as caught:
            host.finish(stream)
        assert caught.value.code == "invalid_argument"
        assert host.call("worker.echo", {"a": 1}) == {"a": 1}


def test_a_host_that_grants_no_credit_delays_only_its_own_stream() -> None:
    with thread_worker() as host:
        host.grants = False
        stream = host.start("worker.echo", {}, (b"x" * (6 << 20),))
        host.wait(lambda: len(host.attachments.get(stream, b"")) >= host.window)
        for number in range(20):
            assert host.call("worker.echo", {"a": number}) == {"a": number}
        had = len(host.attachments[stream])
        assert host.window <= had < host.window + (512 << 10)
        host.send(wire.encode_credit(stream, 6 << 20))
        assert host.finish(stream) == {}
        assert len(host.attachments[stream]) == 6 << 20


def test_a_call_canceled_while_its_attachments_come_in_is_settled() -> None:
    with thread_worker() as host:
        host.send(wire.encode_call(1, "worker.echo", b"{}", 0, [100]))
        host.send(wire.encode(wire.CHUNK, 1, b"x" * 50, wire.FLAG_ATTACHMENTS))
        host.cancel(1)
        host.wait(lambda: 1 in host.results)
        assert host.results[1].code == CANCELED
        host.send(wire.encode(wire.CHUNK, 1, b"x" * 50, wire.FLAG_ATTACHMENTS))
        host._next = 3
        assert host.call("worker.echo", {"a": 1}) == {"a": 1}


def test_drain_waits_for_what_is_open_and_refuses_what_is_new() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    hash_ = host.put(QA)
    stream = host.start_run(hash_, {"question": "q"})
    host.wait(lambda: bool(host.waiting))
    host.send(wire.encode(wire.DRAIN, 0))
    with pytest.raises(RemoteError) as caught:
        host.call("worker.echo", {})
    assert caught.value.code == "closed"
    assert host.finish(stream, chat(answer="x")) == {"outputs": {"answer": "x"}}
    assert process.exit() == 0
    assert process.output() == ("", "")


def test_an_idle_worker_drains_at_once() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    host.send(wire.encode(wire.DRAIN, 0))
    assert process.exit() == 0


def test_a_worker_whose_host_is_gone_ends_even_with_calls_open() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    hash_ = host.put(QA)
    for i in range(20):
        host.start_run(hash_, {"question": f"q{i}"})
    host.wait(lambda: len(host.waiting) == 20)
    host.sock.close()
    assert process.exit() == 0


def test_an_idle_worker_uses_no_time() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    host.run(QA, {"question": "q"}, chat(answer="x"))

    def ticks() -> int:
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    select.select([], [], [], 0.3)
    assert ticks() - before <= 1
    host.sock.close()
    process.exit()


def test_what_is_printed_never_reaches_the_connection() -> None:
    process = ProcessWorker(debug=True)
    host = Host(process.sock)
    assert "debug" in host.hello["capabilities"]
    for c in (False, True):
        body = {"op": "print", "stdout": 3, "stderr": 2, "text": "noise", "c": c}
        host.call("worker.debug", body)
    assert host.run(QA, {"question": "q"}, chat(answer="x")) == {"outputs": {"answer": "x"}}
    host.sock.close()
    assert process.exit() == 0
    assert process.output() == ("noise\n" * 6, "noise\n" * 4)


def test_faults_on_demand_are_only_there_on_demand() -> None:
    with thread_worker() as host, pytest.raises(RemoteError) as caught:
        host.call("worker.debug", {"op": "exit"})
    assert caught.value.code == "invalid_argument"


def test_debug_ops_do_what_they_say() -> None:
    process = ProcessWorker(debug=True)
    host = Host(process.sock)
    assert host.call("worker.debug", {"op": "env"})["env"]["PATH"]
    child = host.call("worker.debug", {"op": "subprocess", "argv": ["true"]})
    assert child["pid"] > 0
    stream = host.start("worker.debug", {"op": "sleep", "seconds": 600})
    assert host.call("worker.debug", {"op": "sleep", "seconds": 0.01}) == {}
    host.cancel(stream)
    host.wait(lambda: stream in host.results)
    assert host.results[stream].code == CANCELED
    for kind in ("MemoryError", "RecursionError", "SystemExit"):
        with pytest.raises(RemoteError) as caught:
            host.call("worker.debug", {"op": "raise", "type": kind})
        assert caught.value.body["python"]["type"] == kind
        assert caught.value.code == "python"
    host.call("worker.debug", {"op": "spin_c", "seconds": 0.01})
    stream = host.start("worker.debug", {"op": "exit", "code": 7})
    assert process.exit() == 7


def test_log_records_and_warnings_go_to_standard_error_as_lines() -> None:
    process = ProcessWorker()
    host = Host(process.sock)
    lm = {"model": "m", "config": {"temperature": 0.0}}
    body: dict[str, Any] = {"model": "m", "finish_reason": "length"}
    body["message"] = {"role": "assistant", "parts": [{"type": "text", "text": chat(answer="x")}]}
    host.run(QA, {"question": "q"}, lambda _: body, lm=lm)
    host.sock.close()
    process.exit()
    out, err = process.output()
    assert out == ""
    assert all(line.split(" ", 1)[0].isupper() for line in err.splitlines()), err
