"""The short way ends where DSPy's general way does."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from host import QA, Host, LMError, RemoteError, chat, response, thread_worker
from test_golden import CASES, PLAIN, worker_request

from dspex_worker import modules, shortcut

CONFIGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 1},
    {"max_tokens": 10, "top_p": 0.5, "stop": ["a", "b"]},
    {"max_completion_tokens": 5},
    {"reasoning_effort": "low"},
    {"seed": 0, "frequency_penalty": 0.0, "user": "u"},
    {"metadata": {"a": 1}},
    {"response_format": {"type": "json_object"}},
    {"n": 1},
    {"logprobs": True, "top_logprobs": 2},
]
RESPONSES: list[dict[str, Any]] = [
    response(chat(answer="x")),
    response("", message={"role": "assistant", "parts": [
        {"type": "text", "text": "[[ ## answer ## ]]\n"}, {"type": "text", "text": "y"}]}),
    response("", message={"role": "assistant", "parts": [
        {"type": "thinking", "text": "hm"}, {"type": "text", "text": chat(answer="x")}]}),
    response("", message={"role": "assistant", "parts": [
        {"type": "citation", "text": "c", "url": "u"},
        {"type": "text", "text": chat(answer="x")}]}),
    response("", message={"role": "assistant", "parts": [
        {"type": "data", "value": {"answer": "x"}}]}),
    response(chat(answer="x"), finish_reason="length"),
    response(chat(answer="x"), finish_reason="content_filter", id="i", provider_data={"a": 1}),
    response(chat(answer="x"), logprobs=[{"token": "t", "logprob": -0.5}]),
]  # fmt: skip
BROKEN: list[dict[str, Any]] = [
    response(chat(answer="x"), finish_reason="tool_calls"),
    response(chat(answer="x"), model=""),
    response("", message={"role": "user", "parts": [{"type": "text", "text": "x"}]}),
    response("", message={"role": "assistant", "parts": []}),
    response("", message={"role": "assistant", "parts": [{"type": "text", "text": 3}]}),
    response("", message={"role": "assistant", "parts": [{"type": "nope"}]}),
    response("", message=None),
]


def both_ways(monkeypatch: pytest.MonkeyPatch, ask: Any) -> tuple[Any, Any, list[bool]]:
    """Return what ``ask(host)`` returns on the short way and on the general one."""
    used: list[bool] = []
    prepare = shortcut.Shortcut.prepare

    def watched(self: Any, *args: Any) -> Any:
        plain = prepare(self, *args)
        used.append(plain is not None)
        return plain

    monkeypatch.setattr(shortcut.Shortcut, "prepare", watched)
    with thread_worker() as host:
        short = ask(host)
    monkeypatch.setattr(shortcut.Shortcut, "prepare", lambda *_: None)
    with thread_worker() as host:
        general = ask(host)
    return short, general, used


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_same_request_is_made_for_any_settings(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(host: Host) -> Any:
        seen = []

        def answer(body: dict[str, Any]) -> str:
            seen.append(body)
            return chat(answer="x")

        lm = {"model": "m", "config": config}
        results = [
            host.run(QA, {"question": "q"}, answer, lm=lm),
            host.run(QA, {"question": "q"}, answer, config=config, rollout_id=3),
        ]
        return seen, results

    short, general, used = both_ways(monkeypatch, ask)
    assert short == general
    assert used == [not {"n", "logprobs"} & config.keys()] * 2


@pytest.mark.parametrize("given", RESPONSES)
def test_the_same_outputs_are_read_from_any_response(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(host: Host) -> Any:
        return host.run(QA, {"question": "q"}, lambda _: given)

    short, general, used = both_ways(monkeypatch, ask)
    assert short == general
    assert all(used)


@pytest.mark.parametrize("given", BROKEN)
def test_the_same_responses_are_refused(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(host: Host) -> Any:
        with pytest.raises(RemoteError) as caught:
            host.run(QA, {"question": "q"}, lambda _: given)
        return caught.value.code, caught.value.body["message"]

    short, general, _ = both_ways(monkeypatch, ask)
    assert short == general
    assert short[0] == "internal"


def test_the_same_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(host: Host) -> Any:
        bodies = []
        for kind in ("rate_limit", "context_length", "unexpected"):

            def fail(_: Any, kind: str = kind) -> str:
                raise LMError(code="lm", message="no", lm={"kind": kind, "status": 400}, ref=1)

            with pytest.raises(RemoteError) as caught:
                host.run(QA, {"question": "q"}, fail)
            del caught.value.body["python"]["traceback"]
            bodies.append(caught.value.body)
        return bodies

    short, general, _ = both_ways(monkeypatch, ask)
    assert short == general


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
@pytest.mark.parametrize("name", CASES)
def test_the_general_way_makes_the_golden_requests_too(
    name: str, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcut.Shortcut, "prepare", lambda *_: None)
    case = CASES[name]
    for schema in (False, True):
        request = worker_request(case.spec, adapter, case.inputs, schema)
        assert request == PLAIN[name, adapter, schema]


class Watched(dspy.Module):  # type: ignore[misc]
    """Runs with what makes a call more than plain."""

    def __init__(self, signature: Any, config: dict[str, Any]) -> None:
        super().__init__()
        self.predict = dspy.Predict(signature)

    def forward(self, question: str) -> Any:
        class Callback(dspy.utils.callback.BaseCallback):  # type: ignore[misc]
            seen: list[str] = []  # noqa: RUF012

            def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
                self.seen.append("start")

            def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
                self.seen.append("end")

        callback = Callback()
        with dspy.context(callbacks=[callback]):
            first = self.predict(question=question)
        with dspy.context(disable_history=False):
            self.predict(question=question)
        with dspy.track_usage() as tracker:
            self.predict(question=question)
        return dspy.Prediction(
            answer=first["answer"],
            seen=callback.seen,
            history=len(self.predict.history),
            usage=tracker.get_total_tokens(),
        )


def test_callbacks_history_and_usage_are_dspys_own() -> None:
    with thread_worker({"watched": modules.Kind(Watched, modules.Way.GREENLET)}) as host:
        result = host.run({**QA, "module": "watched"}, {"question": "q"}, chat(answer="x"))
    outputs = result["outputs"]
    assert outputs["seen"] == ["start", "end"]
    assert outputs["history"] == 1
    assert outputs["usage"]["default"]["total_tokens"] == 5


def test_a_setting_changed_on_the_model_is_seen() -> None:
    class Changes(dspy.Module):  # type: ignore[misc]
        def __init__(self, signature: Any, config: dict[str, Any]) -> None:
            super().__init__()
            self.predict = dspy.Predict(signature)

        def forward(self, question: str) -> Any:
            lm = dspy.settings.lm.copy()
            with dspy.context(lm=lm):
                for temperature in (0.1, 0.2):
                    lm.kwargs["temperature"] = temperature
                    self.predict(question=question)
            with dspy.context(lm=lm.copy(temperature=0.3)):
                return self.predict(question=question)

    seen = []

    def answer(body: dict[str, Any]) -> str:
        seen.append(body["request"]["config"]["temperature"])
        return chat(answer="x")

    with thread_worker({"changes": modules.Kind(Changes, modules.Way.GREENLET)}) as host:
        host.run({**QA, "module": "changes"}, {"question": "q"}, answer)
    assert seen == [0.1, 0.2, 0.3]
