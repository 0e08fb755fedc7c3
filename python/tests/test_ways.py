"""Programs that run in threads and on the event loop ask the host just like those in greenlets."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import dspy
import pytest
from host import QA, Host, LMError, RemoteError, chat, thread_worker

from dspex_worker import modules
from dspex_worker.modules import Kind, Way


class Parallel(dspy.Module):  # type: ignore[misc]
    """Asks from DSPy's own pool of threads."""

    def __init__(self, signature: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.predict = dspy.Predict(signature)

    def forward(self, question: str) -> Any:
        assert threading.current_thread().name.startswith("dspex-run-")
        pairs = [(self.predict, {"question": f"{question}{i}"}) for i in range(6)]
        pool = dspy.Parallel(num_threads=3, disable_progress_bar=True)
        results = pool([(module, dspy.Example(**x).with_inputs("question")) for module, x in pairs])
        return dspy.Prediction(answer=" ".join(result["answer"] for result in results))


class Async(dspy.Module):  # type: ignore[misc]
    """Asks from coroutines."""

    def __init__(self, signature: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.predict = dspy.Predict(signature)

    def forward(self, question: str) -> Any:
        raise NotImplementedError

    async def aforward(self, question: str) -> Any:
        assert threading.current_thread().name == "dspex-async"
        results = await asyncio.gather(
            *[self.predict.acall(question=f"{question}{i}") for i in range(4)]
        )
        return dspy.Prediction(answer=" ".join(result["answer"] for result in results))


class Streams(dspy.Module):  # type: ignore[misc]
    """Reads the model's answer as events, and leaves early when asked to."""

    def __init__(self, signature: Any, config: dict[str, Any]) -> None:
        super().__init__()

    def forward(self, question: str) -> Any:
        from dspy.lm15 import Message, Request

        engine = dspy.settings.lm.engine
        texts = []
        stream = engine.stream(Request(model="m", messages=(Message.user(question),)))
        for event in stream:
            if event.type == "delta":
                texts.append(event.delta.text)
            if question == "early" and texts:
                stream.close()
                break
        return dspy.Prediction(answer="".join(texts))


class AsyncStreams(Streams):
    """As above, with the async engine."""

    async def aforward(self, question: str) -> Any:
        from dspy.lm15 import Message, Request

        engine = dspy.settings.lm._async_engine_spec
        texts = []
        stream = engine.stream(Request(model="m", messages=(Message.user(question),)))
        async for event in stream:
            if event.type == "delta":
                texts.append(event.delta.text)
            if question == "early" and texts:
                await stream.aclose()
                break
        return dspy.Prediction(answer="".join(texts))


KINDS = {
    **modules.MODULES,
    "parallel": Kind(Parallel, Way.THREAD),
    "predict_thread": Kind(lambda signature, config: dspy.Predict(signature), Way.THREAD),
    "predict_async": Kind(lambda signature, config: dspy.Predict(signature), Way.ASYNC),
    "async": Kind(Async, Way.ASYNC),
    "streams": Kind(Streams, Way.GREENLET),
    "streams_thread": Kind(Streams, Way.THREAD),
    "streams_async": Kind(AsyncStreams, Way.ASYNC),
}
WAYS = ["predict", "predict_thread", "predict_async"]


@pytest.fixture
def host() -> Any:
    with thread_worker(KINDS) as given:
        yield given


def program(module: str) -> dict[str, Any]:
    return {**QA, "module": module}


def echo(body: dict[str, Any]) -> str:
    text = body["request"]["messages"][-1]["parts"][0]["text"]
    return chat(answer="a-" + text.split("]]\n", 1)[1].split("\n", 1)[0])


@pytest.mark.parametrize("module", WAYS)
def test_every_way_returns_the_same(host: Host, module: str) -> None:
    result = host.run(program(module), {"question": "q"}, echo, trace=True)
    assert result["outputs"] == {"answer": "a-q"}
    assert result["trace"][0]["predictor"] == "self"


@pytest.mark.parametrize("module", WAYS)
def test_every_way_keeps_the_errors_of_the_host(host: Host, module: str) -> None:
    def fail(_: Any) -> str:
        raise LMError(code="lm", message="m", lm={"kind": "auth", "status": 401}, ref=3)

    def abort(_: Any) -> str:
        raise LMError(code="budget_exceeded", message="m", ref=4)

    for answer, code, ref in ((fail, "lm", 3), (abort, "budget_exceeded", 4)):
        with pytest.raises(RemoteError) as caught:
            host.run(program(module), {"question": "q"}, answer)
        assert (caught.value.code, caught.value.body["ref"]) == (code, ref)
    with pytest.raises(RemoteError) as caught:
        host.run(program(module), {"question": "q"}, "gibberish")
    assert caught.value.code == "parse_failed"
    assert caught.value.body["completion"] == "gibberish"


@pytest.mark.parametrize("module", [*WAYS, "parallel", "async"])
def test_every_way_can_be_canceled_while_it_waits(host: Host, module: str) -> None:
    host.run(program(module), {"question": "q"}, echo)
    stream = host.start_run(host.put(program(module)), {"question": "q"})
    host.wait(lambda: bool(host.waiting))
    began = time.monotonic()
    host.cancel(stream)
    with pytest.raises(RemoteError) as caught:
        host.finish(stream)
    assert caught.value.code == "canceled"
    assert time.monotonic() - began < 0.5
    assert host.run(program("predict"), {"question": "r"}, echo)["outputs"] == {"answer": "a-r"}
    assert host.call("worker.info")["calls"] == 1


@pytest.mark.parametrize("module", WAYS)
def test_many_of_every_way_never_mix(host: Host, module: str) -> None:
    hash_ = host.put(program(module))
    streams = {host.start_run(hash_, {"question": f"q{i}"}): i for i in range(40)}
    host.wait(lambda: len(host.waiting) == 40)
    host.waiting.reverse()
    host.answer(echo)
    host.wait(lambda: len(host.results) == 40)
    for stream, i in streams.items():
        assert host.results[stream]["outputs"] == {"answer": f"a-q{i}"}


def test_threads_of_dspy_ask_for_the_call_they_work_for(host: Host) -> None:
    stream = host.start_run(host.put(program("parallel")), {"question": "p"})
    host.wait(lambda: len(host.waiting) == 3)
    assert {call[2] for call in host.waiting} == {stream}
    result = host.finish(stream, echo)
    assert result["outputs"]["answer"] == "a-p0 a-p1 a-p2 a-p3 a-p4 a-p5"


def test_coroutines_ask_at_once(host: Host) -> None:
    stream = host.start_run(host.put(program("async")), {"question": "p"})
    host.wait(lambda: len(host.waiting) == 4)
    assert host.finish(stream, echo)["outputs"]["answer"] == "a-p0 a-p1 a-p2 a-p3"


def test_a_program_in_a_thread_does_not_hold_up_those_in_greenlets(host: Host) -> None:
    host.start_run(host.put(program("predict_thread")), {"question": "slow"})
    host.wait(lambda: bool(host.waiting))
    kept = host.waiting.pop()
    assert host.run(program("predict"), {"question": "q"}, echo)["outputs"] == {"answer": "a-q"}
    host.reply(kept[0], {"response": {}})
    host.wait(lambda: bool(host.results))


EVENTS: list[dict[str, Any]] = [
    {"type": "start", "model": "m"},
    {"type": "delta", "delta": {"type": "text", "part_index": 0, "text": "he"}},
    {"type": "delta", "delta": {"type": "text", "part_index": 0, "text": "llo"}},
    {"type": "end", "finish_reason": "stop"},
]
STREAMS = ["streams", "streams_thread", "streams_async"]


def send_events(host: Host, stream: int, events: list[dict[str, Any]]) -> None:
    import orjson

    from dspex_worker import wire

    for event in events:
        host.send(wire.encode(wire.CHUNK, stream, orjson.dumps(event)))


@pytest.mark.parametrize("module", STREAMS)
def test_a_stream_of_events_is_read_as_it_comes(host: Host, module: str) -> None:
    run = host.start_run(host.put(program(module)), {"question": "all"})
    host.wait(lambda: bool(host.waiting))
    stream, method, parent, _ = host.waiting.pop()
    assert (method, parent) == ("lm.stream", run)
    send_events(host, stream, EVENTS)
    host.reply(stream, {})
    assert host.finish(run) == {"outputs": {"answer": "hello"}}
    assert host.canceled == []


@pytest.mark.parametrize("module", STREAMS)
def test_leaving_a_stream_early_cancels_it(host: Host, module: str) -> None:
    run = host.start_run(host.put(program(module)), {"question": "early"})
    host.wait(lambda: bool(host.waiting))
    stream = host.waiting[0][0]
    send_events(host, stream, EVENTS[:2])
    assert host.finish(run) == {"outputs": {"answer": "he"}}
    host.wait(lambda: host.canceled == [stream])


@pytest.mark.parametrize("module", STREAMS)
def test_a_stream_that_fails_raises_what_the_host_said(host: Host, module: str) -> None:
    run = host.start_run(host.put(program(module)), {"question": "all"})
    host.wait(lambda: bool(host.waiting))
    stream = host.waiting[0][0]
    send_events(host, stream, EVENTS[:2])
    host.refuse(stream, {"code": "budget_exceeded", "message": "spent", "ref": 2})
    with pytest.raises(RemoteError) as caught:
        host.finish(run)
    assert (caught.value.code, caught.value.body["ref"]) == ("budget_exceeded", 2)


@pytest.mark.parametrize("module", STREAMS)
def test_a_stream_is_left_when_its_call_is_canceled(host: Host, module: str) -> None:
    run = host.start_run(host.put(program(module)), {"question": "all"})
    host.wait(lambda: bool(host.waiting))
    send_events(host, host.waiting[0][0], EVENTS[:2])
    host.cancel(run)
    with pytest.raises(RemoteError) as caught:
        host.finish(run)
    assert caught.value.code == "canceled"


def test_items_beyond_the_window_are_granted_as_they_are_read(host: Host) -> None:
    import orjson

    from dspex_worker import wire

    run = host.start_run(host.put(program("streams")), {"question": "all"})
    host.wait(lambda: bool(host.waiting))
    stream = host.waiting.pop()[0]
    send_events(host, stream, EVENTS[:1])
    credit, text = host.hello["window"], "x" * 50_000
    for _ in range(60):
        event = {"type": "delta", "delta": {"type": "text", "part_index": 0, "text": text}}
        data = orjson.dumps(event)
        while credit <= 0:
            host.wait(lambda: host._credit.get(stream, 0) > 0)
            credit += host._credit.pop(stream)
        credit -= len(data)
        host.send(wire.encode(wire.CHUNK, stream, data))
    host.reply(stream, {})
    assert len(host.finish(run)["outputs"]["answer"]) == 60 * 50_000
