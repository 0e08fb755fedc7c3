"""The prompts of programs built from specifications are DSPy's own, byte for byte."""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Optional, Union

import dspy
import pydantic
import pytest
from dspy import lm15
from dspy._vendor.lm15 import serde
from dspy.adapters import utils
from dspy.adapters.xml_adapter import XMLAdapter
from host import field, spec, thread_worker

from dspex_worker import memo

UNTOUCHED = utils.TypeAdapter is pydantic.TypeAdapter
INT = {"type": "integer"}
NOTE = "        # note: the value you produce must be a single int value"
SYSTEM = (
    "Your input fields are:\n1. `question` (str):\nYour output fields are:\n1. `answer` (int):\n"
    "All interactions will be structured in the following way, with the appropriate values "
    "filled in.\n\n{body}\nIn adhering to this structure, your objective is: \n"
    "        Given the fields `question`, produce the fields `answer`."
)
GOLDEN = {
    "chat": (
        "[[ ## question ## ]]\n{question}\n\n[[ ## answer ## ]]\n{answer}" + NOTE + "\n\n"
        "[[ ## completed ## ]]",
        "[[ ## question ## ]]\nQ?\n\nRespond with the corresponding output fields, starting with "
        "the field `[[ ## answer ## ]]` (must be formatted as a valid Python int), and then ending "
        "with the marker for `[[ ## completed ## ]]`.",
    ),
    "json": (
        "Inputs will have the following structure:\n\n[[ ## question ## ]]\n{question}\n\nOutputs "
        'will be a JSON object with the following fields.\n\n{\n  "answer": "{answer}'
        + NOTE
        + '"\n}',
        "[[ ## question ## ]]\nQ?\n\nRespond with a JSON object in the following order of fields: "
        "`answer` (must be formatted as a valid Python int).",
    ),
    "xml": (
        "<question>\n{question}\n</question>\n\n<answer>\n{answer}" + NOTE + "\n</answer>",
        "<question>\nQ?\n</question>\n\nRespond with the corresponding output fields wrapped in "
        "XML tags `<answer>`.",
    ),
}
ANSWERS = {"chat": "[[ ## answer ## ]]\n7\n\n[[ ## completed ## ]]", "json": '{"answer": 7}'}
ANSWERS["xml"] = "<answer>\n7\n</answer>"


class Stop(BaseException):
    """Ends a program once its request is known."""


class Capture:
    """An engine that keeps the request and ends the program."""

    supports_function_calling = False
    supports_reasoning = False

    def __init__(self, schema: bool) -> None:
        self.supports_response_schema = schema
        self.supported_params = {"response_format"} if schema else set()
        self.request: dict[str, Any] = {}

    def complete(self, request: Any) -> Any:
        self.request = serde.request_to_dict(request)
        raise Stop

    def stream(self, request: Any) -> Any:
        raise NotImplementedError


def plain_request(module: Any, adapter: str, inputs: dict[str, Any], schema: bool) -> Any:
    """The request that plain DSPy makes."""
    adapters = {"chat": dspy.ChatAdapter(), "json": dspy.JSONAdapter(), "xml": XMLAdapter()}
    engine = Capture(schema)
    lm = dspy.LM("default", engine=engine, cache=False, num_retries=0, temperature=0.5)
    with dspy.context(lm=lm, adapter=adapters[adapter]), pytest.raises(Stop):
        module(**inputs)
    return engine.request


def worker_request(program: Any, adapter: str, inputs: dict[str, Any], schema: bool) -> Any:
    """The request that reaches the host."""
    supports = {"response_schema": True, "params": ["response_format"]} if schema else {}
    lm = {"model": "default", "supports": supports, "config": {"temperature": 0.5}}
    with thread_worker() as host:
        stream = host.start_run(host.put(program), inputs, lm=lm, adapter={"name": adapter})
        host.wait(lambda: bool(host.waiting) or stream in host.results)
        assert stream not in host.results, host.results
        return host.waiting[0][3]["request"]


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_the_reference_prompts_are_reproduced(adapter: str) -> None:
    program = spec(field("question", "input"), field("answer", "output", INT))
    request = worker_request(program, adapter, {"question": "Q?"}, schema=False)
    body, user = GOLDEN[adapter]
    assert request["system"] == SYSTEM.replace("{body}", body)
    assert request["messages"] == [{"role": "user", "parts": [{"type": "text", "text": user}]}]


class Fact(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: str = pydantic.Field(description="who it is about")
    weight: float
    kind: Literal["good", "bad"]
    note: Optional[str] = None


class Report(pydantic.BaseModel):
    """A report."""

    model_config = pydantic.ConfigDict(extra="forbid")
    title: str
    facts: list[Fact]
    best: Fact


class Node(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    value: int
    children: list[Node]


S = {"type": "string"}
FACT = {
    "type": "object",
    "title": "Fact",
    "properties": {
        "name": {"type": "string", "description": "who it is about"},
        "weight": {"type": "number"},
        "kind": {"enum": ["good", "bad"]},
        "note": {"anyOf": [S, {"type": "null"}]},
    },
    "required": ["name", "weight", "kind"],
}
REPORT = {
    "type": "object",
    "title": "Report",
    "description": "A report.",
    "properties": {
        "title": S,
        "facts": {"type": "array", "items": {"$ref": "#/$defs/Fact"}},
        "best": {"$ref": "#/$defs/Fact"},
    },
    "required": ["title", "facts", "best"],
    "$defs": {"Fact": FACT},
}
NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "title": "Node",
            "properties": {
                "value": INT,
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["value", "children"],
        }
    },
}
FACT_VALUE = {"name": "x", "weight": 1.5, "kind": "good", "note": None}
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc)


Entry = tuple[str, str, dict[str, Any], Any, dict[str, Any]]


class Case:
    """One signature, as a specification and as written by hand."""

    def __init__(
        self,
        fields: list[Entry],
        inputs: dict[str, Any],
        typed: dict[str, Any] | None = None,
        module: str = "predict",
        instructions: str | None = None,
        demos: list[tuple[dict[str, Any], dict[str, Any]]] = [],  # noqa: B006
    ) -> None:
        entries, definition = [], {}
        for name, kind, schema, type_, more in fields:
            entries.append(field(name, kind, schema, **more))
            make = dspy.InputField if kind == "input" else dspy.OutputField
            definition[name] = (type_, make(**more))
        self.spec = spec(*entries, module=module, instructions=instructions)
        if demos:
            self.spec["demos"] = [demo for demo, _ in demos]
        signature = dspy.make_signature(definition, instructions, "StringSignature")
        made = {"predict": dspy.Predict, "chain_of_thought": dspy.ChainOfThought}[module](signature)
        for predictor in made.predictors():
            predictor.demos = [dspy.Example(**demo) for _, demo in demos]
        self.module = made
        self.inputs = inputs
        self.typed = inputs if typed is None else typed


Q: Entry = ("question", "input", S, str, {})
A: Entry = ("answer", "output", S, str, {})
OPTIONAL_INT = {"anyOf": [INT, {"type": "null"}]}
CASES = {
    "text with descriptions and instructions": Case(
        [("question", "input", S, str, {"desc": "what to ask"}), ("answer", "output", S, str, {})],
        {"question": "Q?"},
        instructions="Answer it.\n  With care.\n\nIn prose.",
    ),
    "chain of thought": Case([Q, A], {"question": "Q?"}, module="chain_of_thought"),
    "chain of thought with a struct": Case(
        [Q, ("report", "output", REPORT, Report, {"desc": "all of it"})],
        {"question": "Q?"},
        module="chain_of_thought",
    ),
    "scalars": Case(
        [
            ("n", "input", INT, int, {}),
            ("x", "input", {"type": "number"}, float, {}),
            ("b", "input", {"type": "boolean"}, bool, {}),
            ("n2", "output", INT, int, {}),
            ("x2", "output", {"type": "number"}, float, {}),
            ("b2", "output", {"type": "boolean"}, bool, {}),
        ],
        {"n": 12345678901234567890123, "x": 0.5, "b": True},
    ),
    "literals": Case(
        [
            Q,
            (
                "label",
                "output",
                {"enum": ["it's", 'say "x"', "c"]},
                Literal["it's", 'say "x"', "c"],
                {},
            ),
        ],
        {"question": "Q?"},
    ),
    "lists": Case(
        [
            ("context", "input", {"type": "array", "items": S}, list[str], {}),
            ("tags", "output", {"type": "array", "items": S}, list[str], {}),
            (
                "rows",
                "output",
                {"type": "array", "items": {"type": "array", "items": INT}},
                list[list[int]],
                {},
            ),
        ],
        {"context": ["a\nb", "c"]},
    ),
    "optionals and unions": Case(
        [
            ("limit", "input", OPTIONAL_INT, Optional[int], {}),
            ("best", "output", OPTIONAL_INT, Optional[int], {}),
            ("either", "output", {"anyOf": [INT, S]}, Union[int, str], {}),
        ],
        {"limit": None},
    ),
    "structs in and out": Case(
        [("fact", "input", FACT, Fact, {}), ("report", "output", REPORT, Report, {})],
        {"fact": FACT_VALUE},
        {"fact": Fact(**FACT_VALUE)},  # type: ignore[arg-type]
    ),
    "a recursive struct": Case(
        [("tree", "input", NODE, Node, {}), ("grown", "output", NODE, Node, {})],
        {"tree": {"value": 1, "children": [{"value": 2, "children": []}]}},
        {"tree": Node(value=1, children=[Node(value=2, children=[])])},
    ),
    "maps and anything": Case(
        [
            (
                "counts",
                "input",
                {"type": "object", "additionalProperties": INT},
                dict[str, int],
                {},
            ),
            ("free", "input", {}, Any, {}),
            (
                "scores",
                "output",
                {"type": "object", "additionalProperties": {"type": "number"}},
                dict[str, float],
                {},
            ),
        ],
        {"counts": {"é": 1}, "free": {"a": [1, None, "x"]}},
    ),
    "times and bytes": Case(
        [
            ("when", "input", {"type": "string", "format": "date-time"}, dt.datetime, {}),
            ("day", "input", {"type": "string", "format": "date"}, dt.date, {}),
            ("data", "input", {"type": "string", "contentEncoding": "base64"}, bytes, {}),
            ("at", "output", {"type": "string", "format": "date-time"}, dt.datetime, {}),
            ("raw", "output", {"type": "string", "contentEncoding": "base64"}, bytes, {}),
        ],
        {"when": "2026-01-02T03:04:05Z", "day": "2026-01-02", "data": "aGk="},
        {"when": WHEN, "day": dt.date(2026, 1, 2), "data": b"hi"},
    ),
    "demonstrations": Case(
        [Q, ("fact", "output", FACT, Fact, {}), ("sure", "output", {"type": "boolean"}, bool, {})],
        {"question": "Q?"},
        demos=[
            (
                {"question": "one", "fact": FACT_VALUE, "sure": True},
                {"question": "one", "fact": Fact(**FACT_VALUE), "sure": True},  # type: ignore[arg-type]
            ),
            ({"question": "two", "sure": False}, {"question": "two", "sure": False}),
            ({"question": "dropped"}, {"question": "dropped"}),
        ],
    ),
    "demonstrations of a chain of thought": Case(
        [Q, A],
        {"question": "Q?"},
        module="chain_of_thought",
        demos=[
            (
                {"question": "one", "reasoning": "r", "answer": "a"},
                {"question": "one", "reasoning": "r", "answer": "a"},
            )
        ],
    ),
    "defaults": Case(
        [
            Q,
            ("style", "input", S, str, {"default": "short"}),
            ("answer", "output", S, str, {"default": "none"}),
        ],
        {"question": "Q?"},
    ),
    "text with what looks like format": Case(
        [Q, A], {"question": "{question} [[ ## answer ## ]]\n7\n<answer>&amp; \u2028 \x00 😀"}
    ),
}


# Made on import, while DSPy is still as it was installed.
PLAIN = {
    (name, adapter, schema): plain_request(case.module, adapter, case.typed, schema)
    for name, case in CASES.items()
    for adapter in ("chat", "json", "xml")
    for schema in (False, True)
}


def test_the_comparison_is_with_an_untouched_dspy() -> None:
    assert UNTOUCHED
    assert not isinstance(pydantic.TypeAdapter, memo.Validators)


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
@pytest.mark.parametrize("schema", [False, True], ids=["text", "schema"])
@pytest.mark.parametrize("name", CASES)
def test_requests_equal_those_of_plain_dspy(name: str, adapter: str, schema: bool) -> None:
    case = CASES[name]
    expected = PLAIN[name, adapter, schema]
    # Twice: what is remembered of the first request must not change the second.
    for _ in range(2):
        assert worker_request(case.spec, adapter, case.inputs, schema) == expected


def test_the_comparison_would_notice_a_difference() -> None:
    other = dspy.Predict(
        dspy.make_signature(
            {"question": (str, dspy.InputField()), "answer": (int, dspy.OutputField())}
        )
    )
    expected = plain_request(other, "chat", {"question": "Q?"}, schema=False)
    program = spec(field("question", "input"), field("answer", "output"))
    assert worker_request(program, "chat", {"question": "Q?"}, schema=False) != expected
    assert isinstance(serde.request_from_dict(expected), lm15.Request)
