"""What a program's run answers: outputs, and an error for everything else."""

from __future__ import annotations

from typing import Any

import pytest
from host import QA, Host, LMError, RemoteError, chat, field, response, spec, thread_worker

from dspex_worker import shortcut

INT = {"type": "integer"}
COUNT = spec(field("question", "input"), field("answer", "output", INT))
COT = spec(field("question", "input"), field("answer", "output", INT), module="chain_of_thought")


@pytest.fixture(params=["short way", "general way"])
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "general way":
        monkeypatch.setattr(shortcut.Shortcut, "prepare", lambda *_: None)
    with thread_worker() as given:
        yield given


def refused(host: Host, program: Any, inputs: Any, answer: Any = None, **more: Any) -> Any:
    with pytest.raises(RemoteError) as caught:
        host.run(program, inputs, answer, **more)
    return caught.value.body


def test_predict_returns_typed_outputs(host: Host) -> None:
    assert host.run(COUNT, {"question": "Q?"}, chat(answer="42")) == {"outputs": {"answer": 42}}


def test_chain_of_thought_returns_its_reasoning(host: Host) -> None:
    result = host.run(COT, {"question": "Q?"}, chat(reasoning="so", answer="42"))
    assert result == {"outputs": {"reasoning": "so", "answer": 42}}


def test_check_builds_the_program_and_names_its_predictors(host: Host) -> None:
    assert host.call("program.check", {"program": host.put(COT)}) == {"predictors": ["predict"]}
    assert host.call("program.check", {"program": host.put(QA)}) == {"predictors": ["self"]}


def test_the_model_is_asked_once_with_what_the_host_must_know(host: Host) -> None:
    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> str:
        seen.append(body)
        return chat(reasoning="r", answer="1")

    lm = {"model": "gpt-5-mini", "supports": {}, "config": {"temperature": 0.2, "max_tokens": 9}}
    host.run(COT, {"question": "Q?"}, answer, lm=lm, rollout_id=4)
    (body,) = seen
    assert {key: body[key] for key in ("model", "rollout_id", "candidate", "predictor")} == {
        "model": "gpt-5-mini",
        "rollout_id": 4,
        "candidate": 0,
        "predictor": "predict",
    }
    assert body["request"]["model"] == "gpt-5-mini"
    assert body["request"]["config"] == {"temperature": 0.2, "max_tokens": 9}


@pytest.mark.parametrize(
    "route", ["gpt-5", "o1", "x/o3-mini", "openai/gpt-4o", "ft:x", "a/", "gpt-5-chat", "default"]
)
def test_any_route_name_takes_any_setting(host: Host, route: str) -> None:
    models: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        models.extend((body["model"], body["request"]["model"]))
        return chat(answer="1")

    lm = {"model": route, "config": {"temperature": 0.1, "max_tokens": 5}}
    assert host.run(QA, {"question": "Q?"}, answer, lm=lm) == {"outputs": {"answer": "1"}}
    assert models == [route, route]


def test_settings_of_the_call_win_over_those_of_the_program_and_the_model(host: Host) -> None:
    configs: list[Any] = []

    def answer(body: dict[str, Any]) -> str:
        configs.append(body["request"]["config"])
        return chat(answer="1")

    program = {**QA, "config": {"temperature": 0.2, "top_p": 0.5}}
    lm = {"model": "m", "config": {"temperature": 0.1, "max_tokens": 7}}
    host.run(program, {"question": "Q?"}, answer, lm=lm, config={"temperature": 0.3})
    assert configs == [{"temperature": 0.3, "top_p": 0.5, "max_tokens": 7}]


def test_n_candidates_are_asked_for_one_by_one_and_all_returned(host: Host) -> None:
    seen: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        seen.append(body["candidate"])
        return chat(answer=str(body["candidate"]))

    result = host.run(COUNT, {"question": "Q?"}, answer, config={"n": 3, "temperature": 1.0})
    assert seen == [0, 1, 2]
    assert result["outputs"] == {"answer": 0}
    assert result["completions"] == [{"answer": 0}, {"answer": 1}, {"answer": 2}]


def test_a_trace_is_returned_on_request(host: Host) -> None:
    result = host.run(QA, {"question": "Q?"}, chat(answer="a"), trace=True)
    assert result["trace"] == [
        {"predictor": "self", "inputs": {"question": "Q?"}, "outputs": {"answer": "a"}}
    ]


def test_demonstrations_of_the_call_reach_the_prompt(host: Host) -> None:
    roles: list[list[str]] = []

    def answer(body: dict[str, Any]) -> str:
        roles.append([message["role"] for message in body["request"]["messages"]])
        return chat(answer="1")

    host.run(COUNT, {"question": "Q?"}, answer, demos=[{"question": "a", "answer": 1}])
    host.run(COUNT, {"question": "Q?"}, answer)
    assert roles == [["user", "assistant", "user"], ["user"]]


def test_an_unknown_program_is_said_to_be_unknown(host: Host) -> None:
    assert refused(host, "nope", {"question": "Q?"})["code"] == "unknown_program"


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ({}, "question: missing"),
        ({"question": 1}, "question"),
        ({"question": None}, "question"),
        ({"question": "Q?", "extra": 1}, "extra"),
        ([], "inputs are an object"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_before_any_model_is_asked(
    host: Host, inputs: Any, names: str
) -> None:
    body = refused(host, QA, inputs)
    assert body["code"] == "invalid_argument"
    assert names in body["message"]
    assert "python" not in body


@pytest.mark.parametrize(
    "more",
    [
        {"adapter": {"name": "yaml"}},
        {"adapter": "chat"},
        {"lm": {"model": ""}},
        {"lm": {"model": "m", "config": {"temperature": 9}}},
        {"lm": {"model": "m", "config": {"no_such_setting": 1}}},
        {"lm": {"model": "m", "config": {"api_key": "k"}}},
        {"lm": {"model": "m", "config": {"cache": True}}},
        {"config": {"engine": "litellm"}},
        {"config": {"n": 0}},
        {"demos": [{"nope": 1}]},
        {"demos": {"question": "Q?"}},
        {"rollout_id": "x"},
    ],
)
def test_options_that_cannot_be_used_are_refused(host: Host, more: dict[str, Any]) -> None:
    assert refused(host, QA, {"question": "Q?"}, **more)["code"] == "invalid_argument"


def test_without_a_model_the_first_need_of_one_says_so(host: Host) -> None:
    body = refused(host, QA, {"question": "Q?"}, lm=None)
    assert body["code"] == "invalid_argument"
    assert "language model" in body["message"]


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_an_answer_that_cannot_be_parsed_is_kept_in_the_error(host: Host, adapter: str) -> None:
    calls: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        calls.append(1)
        return f"gibberish {len(calls)} <"

    body = refused(host, COUNT, {"question": "Q?"}, answer, adapter={"name": adapter})
    assert len(calls) == (1 if adapter == "json" else 2)
    assert body["code"] == "parse_failed"
    assert body["completion"] == f"gibberish {len(calls)} <"
    assert body["adapter"] == "JSONAdapter"
    assert body["python"]["type"] == "dspy.utils.exceptions.AdapterParseError"


@pytest.mark.parametrize(("adapter", "name"), [("chat", "ChatAdapter"), ("xml", "XMLAdapter")])
def test_without_the_fallback_a_parse_failure_costs_one_call(
    host: Host, adapter: str, name: str
) -> None:
    calls: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        calls.append(1)
        return "gibberish"

    choice = {"name": adapter, "json_fallback": False}
    body = refused(host, COUNT, {"question": "Q?"}, answer, adapter=choice)
    assert (len(calls), body["code"], body["adapter"]) == (1, "parse_failed", name)


def test_the_fallback_to_json_succeeds(host: Host) -> None:
    answers = iter(["gibberish", '{"answer": 5}'])
    result = host.run(COUNT, {"question": "Q?"}, lambda _: next(answers))
    assert result == {"outputs": {"answer": 5}}


@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "refusal", "text": "no"}],
        [{"type": "thinking", "text": "hm"}],
        [{"type": "text", "text": ""}],
    ],
)
def test_an_answer_without_text_is_a_parse_failure(host: Host, parts: list[Any]) -> None:
    given = response("", message={"role": "assistant", "parts": parts})
    assert refused(host, QA, {"question": "Q?"}, lambda _: given)["code"] == "parse_failed"


def test_missing_output_fields_are_never_made_up(host: Host) -> None:
    program = spec(field("q", "input"), field("a", "output"), field("b", "output"))
    body = refused(host, program, {"q": "?"}, chat(a="1"))
    assert body["code"] == "parse_failed"


KINDS = [
    "rate_limit",
    "timeout",
    "server",
    "transport",
    "context_length",
    "auth",
    "billing",
    "invalid_request",
    "unsupported_model",
    "unsupported_feature",
    "provider",
    "not_configured",
    "unexpected",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_failure_passes_through_dspy_with_all_it_says(host: Host, kind: str) -> None:
    lm = {
        "kind": kind,
        "status": 418,
        "retry_after": 1.5,
        "request_id": "r1",
        "provider": "p",
        "provider_code": "c",
    }
    calls: list[int] = []

    def answer(body: dict[str, Any]) -> str:
        calls.append(1)
        raise LMError(code="lm", message="it said no", lm=lm, ref=77)

    body = refused(host, QA, {"question": "Q?"}, answer)
    assert len(calls) == 1
    assert body["code"] == "lm"
    assert body["message"] == "it said no"
    assert body["lm"] == lm
    assert body["ref"] == 77
    assert body["python"]["type"].startswith("dspy.utils.exceptions.")
    assert "Traceback" in body["python"]["traceback"]


@pytest.mark.parametrize("code", ["budget_exceeded", "deadline_exceeded", "internal", "whatever"])
def test_any_other_failure_of_the_host_passes_through_unchanged(host: Host, code: str) -> None:
    def answer(body: dict[str, Any]) -> str:
        raise LMError(code=code, message="stop", ref=5, limit=3)

    body = refused(host, COT, {"question": "Q?"}, answer)
    assert body == {"code": code, "message": "stop", "ref": 5, "limit": 3}


@pytest.mark.parametrize(
    "given", [b"", b"{}", b'{"response": {}}', b'{"response": {"model": "m", "message": 1}}', b"["]
)
def test_a_response_that_cannot_be_read_is_the_hosts_fault(host: Host, given: bytes) -> None:
    from dspex_worker import wire

    stream = host.start_run(host.put(QA), {"question": "Q?"})
    host.wait(lambda: bool(host.waiting))
    host.send(wire.encode_result(host.waiting.pop()[0], given))
    with pytest.raises(RemoteError) as caught:
        host.finish(stream)
    assert caught.value.code == "internal"


@pytest.mark.parametrize(
    "program",
    [
        None,
        {},
        {"module": "nope", "signature": QA["signature"]},
        {**QA, "options": {"x": 1}},
        {**QA, "config": {"cache": True}},
        {**QA, "config": {"temperature": -1}},
        {**QA, "demos": [{"question": 1}]},
        spec(field("question", "input")),
        spec(field("a", "input"), field("a", "output")),
        spec(field("lm", "input"), field("a", "output")),
        spec(field("_a", "input"), field("b", "output")),
        spec(field("signature", "input"), field("b", "output")),
        spec(field("class", "input"), field("b", "output")),
        spec(field("a b", "input"), field("b", "output")),
        spec(field("a", "sideways"), field("b", "output")),
        spec(field("a", "input", {"type": "tuple"}), field("b", "output")),
        spec(field("a", "input", {"type": "string", "minLength": 3}), field("b", "output")),
        spec(field("a", "input", {"$ref": "http://x/y"}), field("b", "output")),
        spec(field("a", "input", {"$ref": "#/$defs/X"}), field("b", "output")),
        spec(field("a", "input", {"type": "string"}, default=3), field("b", "output")),
    ],
)
def test_a_program_that_cannot_be_built_says_why(host: Host, program: Any) -> None:
    hash_ = host.put(program, "h")
    with pytest.raises(RemoteError) as caught:
        host.call("program.check", {"program": hash_})
    assert caught.value.code == "invalid_program"
    again = refused(host, hash_, {"question": "Q?"})
    assert again["code"] == "invalid_program"
    assert again["message"] == caught.value.body["message"]


@pytest.mark.parametrize("name", ["items", "keys", "values", "get", "copy", "toDict", "labels"])
def test_outputs_may_be_named_like_methods_of_a_prediction(host: Host, name: str) -> None:
    program = spec(field("question", "input"), field(name, "output"))
    answer = chat(**{name: "x"})
    assert host.run(program, {"question": "Q?"}, answer) == {"outputs": {name: "x"}}


def test_an_unknown_method_is_refused_and_a_malformed_body_too(host: Host) -> None:
    for method, body in (("no.such", b"{}"), ("program.run", b"[]"), ("program.run", b"{")):
        with pytest.raises(RemoteError) as caught:
            host.call(method, body)
        assert caught.value.code == "invalid_argument"


def test_programs_beyond_the_capacity_are_forgotten_oldest_first() -> None:
    from dspex_worker import faults, modules, programs

    kept = programs.Programs(modules.MODULES, capacity=2)
    for name in ("a", "b"):
        kept.put(name, QA)
    first = kept.get("a")
    kept.put("c", QA)
    assert kept.get("a") is first
    with pytest.raises(faults.UnknownProgramError):
        kept.get("b")
    assert len(kept) == 2
