"""A host for tests: the other end of a worker's socket, on the real codec."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from dspex_worker import modules, warm, wire, worker

Answer = Callable[[dict[str, Any]], Any]
TIMEOUT = 20.0


class RemoteError(Exception):
    """An ERROR that the worker answered with."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__(f"{body.get('code')}: {body.get('message')}")
        self.body = body
        self.code: str = body["code"]


class LMError(Exception):
    """Raised by an `Answer` to have the host answer with an ERROR."""

    def __init__(self, **body: Any) -> None:
        super().__init__(str(body))
        self.body = body


def response(text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "m",
        "message": {"role": "assistant", "parts": [{"type": "text", "text": text}]},
        "finish_reason": "stop",
        "usage": {"input_tokens": 3, "output_tokens": 2},
        **more,
    }


def chat(**outputs: Any) -> str:
    return "\n\n".join(
        [f"[[ ## {name} ## ]]\n{value}" for name, value in outputs.items()]
        + ["[[ ## completed ## ]]"]
    )


def field(name: str, kind: str, schema: dict[str, Any] | None = None, **more: Any) -> Any:
    return {
        "name": name,
        "kind": kind,
        "schema": {"type": "string"} if schema is None else schema,
        **more,
    }


def spec(*fields: Any, module: str = "predict", **more: Any) -> dict[str, Any]:
    instructions = more.pop("instructions", None)
    signature: dict[str, Any] = {"name": "StringSignature", "fields": list(fields)}
    if instructions:
        signature["instructions"] = instructions
    return {"module": module, "signature": signature, **more}


QA = spec(field("question", "input"), field("answer", "output"))


class Host:
    """Speaks to one worker. What it receives is kept by stream until asked for."""

    def __init__(self, sock: socket.socket, *, greet: bool = True, window: int = 1 << 20) -> None:
        self.sock = sock
        self.window = window
        self.hello: dict[str, Any] = {}
        self.results: dict[int, Any] = {}  # bodies, or RemoteError
        self.attachments: dict[int, bytes] = {}
        self.waiting: list[tuple[int, str, int, dict[str, Any]]] = []  # calls of the worker
        self.canceled: list[int] = []
        self.pongs: list[bytes] = []
        self.closed = False
        self.grants = True  # whether chunks are paid for with new credit
        self._decoder = wire.Decoder()
        self._next = 1
        self._sizes: dict[int, int] = {}
        self._bodies: dict[int, Any] = {}
        self._credit: dict[int, int] = {}
        if greet:
            self.send(wire.encode(wire.HELLO, 0, orjson.dumps(self.greeting())))
            self.wait(lambda: bool(self.hello))

    def greeting(self, **changes: Any) -> dict[str, Any]:
        return {
            "protocol": 1,
            "version": "0.1.0",
            "role": "host",
            "capabilities": [],
            "max_frame": 64 << 20,
            "window": self.window,
            **changes,
        }

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def receive(self, timeout: float) -> bool:
        """Take what is there; False when nothing came in time."""
        readable, _, _ = select.select([self.sock], [], [], max(0.0, timeout))
        if not readable:
            return False
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return True
        for frame in self._decoder.feed(data):
            assert isinstance(frame, wire.Frame)
            self._take(frame)
        return True

    def wait(self, done: Callable[[], bool], timeout: float = TIMEOUT) -> None:
        end = time.monotonic() + timeout
        while not done():
            if self.closed or not self.receive(end - time.monotonic()):
                raise AssertionError("the worker hung up" if self.closed else "nothing came")

    def _take(self, frame: wire.Frame) -> None:
        stream = frame.stream
        if frame.type == wire.HELLO:
            self.hello = orjson.loads(frame.payload)
        elif frame.type == wire.RESULT:
            result = wire.unpack_result(frame.payload, frame.flags)
            body = json.loads(result.body)  # whole numbers of any size
            if sum(result.sizes):
                self._sizes[stream] = sum(result.sizes)
                self._bodies[stream] = body
                self.attachments[stream] = b""
            else:
                self.results[stream] = body
        elif frame.type == wire.ERROR:
            self.results[stream] = RemoteError(orjson.loads(frame.payload))
        elif frame.type == wire.CHUNK:
            self.attachments[stream] += frame.payload
            if self.grants:
                self.send(wire.encode_credit(stream, len(frame.payload)))
            if len(self.attachments[stream]) == self._sizes[stream]:
                self.results[stream] = self._bodies[stream]
        elif frame.type == wire.CALL:
            call = wire.unpack_call(frame.payload, frame.flags)
            self.waiting.append((stream, call.method, call.parent, orjson.loads(call.body)))
        elif frame.type == wire.CANCEL:
            self.canceled.append(stream)
            self.waiting = [call for call in self.waiting if call[0] != stream]
        elif frame.type == wire.PONG:
            self.pongs.append(frame.payload)
        elif frame.type == wire.CREDIT:
            self._credit[stream] = self._credit.get(stream, 0) + wire.unpack_credit(frame.payload)

    def start(self, method: str, body: Any = None, attachments: tuple[bytes, ...] = ()) -> int:
        stream = self._next
        self._next += 2
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        sizes = [len(part) for part in attachments]
        self.send(wire.encode_call(stream, method, data, 0, sizes))
        credit = self.hello["window"]
        for part in attachments:
            for at in range(0, len(part), 1 << 16):
                while credit <= 0:
                    self.wait(lambda: self._credit.get(stream, 0) > 0)
                    credit += self._credit.pop(stream)
                chunk = part[at : at + (1 << 16)]
                credit -= len(chunk)
                self.send(wire.encode(wire.CHUNK, stream, chunk, wire.FLAG_ATTACHMENTS))
        return stream

    def reply(self, stream: int, body: Any) -> None:
        self.send(wire.encode_result(stream, orjson.dumps(body)))

    def refuse(self, stream: int, body: dict[str, Any]) -> None:
        self.send(wire.encode(wire.ERROR, stream, orjson.dumps(body)))

    def answer(self, answer: Answer) -> None:
        """Answer every call of the worker that is waiting."""
        while self.waiting:
            stream, method, _, body = self.waiting.pop(0)
            assert method == "lm.complete"
            try:
                given = answer(body)
            except LMError as error:
                self.refuse(stream, error.body)
                continue
            if isinstance(given, str):
                given = response(given)
            self.reply(stream, {"response": given})

    def finish(self, stream: int, answer: Answer | str | None = None) -> Any:
        """Return the result of a call, answering the worker's calls meanwhile."""
        fixed = answer
        given: Answer | None = (lambda _: fixed) if isinstance(fixed, str) else fixed

        def done() -> bool:
            if given is not None:
                self.answer(given)
            return stream in self.results

        self.wait(done)
        result = self.results.pop(stream)
        if isinstance(result, RemoteError):
            raise result
        return result

    def call(
        self,
        method: str,
        body: Any = None,
        answer: Answer | str | None = None,
        attachments: tuple[bytes, ...] = (),
    ) -> Any:
        return self.finish(self.start(method, body, attachments), answer)

    def put(self, program: dict[str, Any], name: str | None = None) -> str:
        hash_ = name or str(hash(orjson.dumps(program, option=orjson.OPT_SORT_KEYS)))
        assert self.call("program.put", {"hash": hash_, "spec": program}) == {}
        return hash_

    def start_run(
        self, hash_: str, inputs: Any, attachments: tuple[bytes, ...] = (), **more: Any
    ) -> int:
        lm = {"model": "default", "supports": {}, "config": {}}
        body = {"program": hash_, "inputs": inputs, "lm": lm, **more}
        return self.start("program.run", body, attachments)

    def run(
        self,
        program: dict[str, Any] | str,
        inputs: Any,
        answer: Answer | str | None = None,
        attachments: tuple[bytes, ...] = (),
        **more: Any,
    ) -> Any:
        hash_ = program if isinstance(program, str) else self.put(program)
        return self.finish(self.start_run(hash_, inputs, attachments, **more), answer)

    def cancel(self, stream: int) -> None:
        self.send(wire.encode(wire.CANCEL, stream))


@contextlib.contextmanager
def thread_worker(
    kinds: Mapping[str, modules.Kind] = modules.MODULES, **options: Any
) -> Iterator[Host]:
    """A worker on a thread of this process, for tests that look inside or bring modules."""
    ours, theirs = socket.socketpair()
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(worker.main(theirs, "w1", options, kinds)), daemon=True
    )
    thread.start()
    try:
        yield Host(ours)
    finally:
        ours.close()
        thread.join(TIMEOUT)
        assert codes == [0], codes


class ProcessWorker:
    """A forked worker with standard output and error on pipes."""

    def __init__(self, **options: Any) -> None:
        self.sock, theirs = socket.socketpair()
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self.sock.close()
                os.dup2(out, 1)
                os.dup2(err, 2)
                import sys

                sys.stdout = os.fdopen(1, "w", buffering=1)
                sys.stderr = os.fdopen(2, "w", buffering=1)
                code = worker.main(theirs, "w1", options)
            finally:
                os._exit(code)
        theirs.close()
        os.close(out)
        os.close(err)
        self._code: int | None = None

    def exit(self) -> int:
        """Wait for the process to end; return its exit status."""
        if self._code is None:
            _, status = os.waitpid(self.pid, 0)
            self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def output(self) -> tuple[str, str]:
        """Return standard output and error; only after `exit`."""
        texts = []
        for fd in (self._out, self._err):
            with os.fdopen(fd, "r") as file:
                texts.append(file.read())
        return texts[0], texts[1]


def warm_up() -> None:
    """Import and warm DSPy once in the process of the tests."""
    warm.preload([])
