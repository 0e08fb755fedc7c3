"""Values of every type travel through a worker unchanged, or are refused by name."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from host import RemoteError, chat, field, spec, thread_worker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex_worker import faults, fields, runs, signatures, values

S: dict[str, Any] = {"type": "string"}
INT: dict[str, Any] = {"type": "integer"}
NUMBER: dict[str, Any] = {"type": "number"}
BYTES: dict[str, Any] = {"type": "string", "contentEncoding": "base64"}
WHEN: dict[str, Any] = {"type": "string", "format": "date-time"}
POINT: dict[str, Any] = {
    "type": "object",
    "title": "Point",
    "properties": {"x": NUMBER, "y": NUMBER, "tag": {"anyOf": [S, {"type": "null"}]}},
    "required": ["x", "y"],
}
BLOB: dict[str, Any] = {
    "type": "object",
    "title": "Blob",
    "properties": {"data": BYTES, "more": {"type": "array", "items": BYTES}},
    "required": ["data", "more"],
}


def types_of(schema: dict[str, Any]) -> tuple[Any, Any]:
    return fields.Types().build(schema)


def read(schema: dict[str, Any], value: Any, attachments: tuple[bytes, ...] = ()) -> Any:
    return values.reader(types_of(schema)[1])(value, attachments)


FITS = [
    (S, "é\u2028😀"),
    (S, ""),
    (INT, 0),
    (INT, -(1 << 63)),
    (INT, (1 << 64) - 1),
    (INT, 10**40),
    (NUMBER, 1.5),
    (NUMBER, 3),
    (NUMBER, 5e-324),
    ({"type": "boolean"}, True),
    ({"enum": ["a", 1, None]}, None),
    ({"const": "a"}, "a"),
    ({"type": "array", "items": INT}, [1, 2]),
    ({"type": "array", "items": INT}, []),
    ({"type": "object", "additionalProperties": INT}, {"a": 1, "": 2}),
    ({"type": "object"}, {"a": [1]}),
    ({"anyOf": [INT, {"type": "null"}]}, None),
    ({"type": ["integer", "null"]}, 3),
    ({"anyOf": [INT, S]}, "3"),
    ({}, {"a": [None, True, 1.5, "x"]}),
    (POINT, {"x": 1.0, "y": 2.0, "tag": None}),
]


@pytest.mark.parametrize(("schema", "value"), FITS)
def test_a_value_that_fits_goes_in_and_out_unchanged(schema: dict[str, Any], value: Any) -> None:
    typed = read(schema, value)
    assert json.loads(values.dumps(values.write({"v": typed}))) == {"v": value}


MISFITS = [
    (S, 1),
    (S, None),
    (INT, "1"),
    (INT, 1.0),
    (INT, True),
    (INT, None),
    (NUMBER, "1.5"),
    (NUMBER, True),
    ({"type": "boolean"}, 1),
    ({"type": "boolean"}, "true"),
    ({"enum": ["a", "b"]}, "c"),
    ({"enum": [1]}, "1"),
    ({"type": "array", "items": INT}, {}),
    ({"type": "array", "items": INT}, [1, "2"]),
    ({"type": "object", "additionalProperties": INT}, {"a": "1"}),
    (POINT, {"x": 1.0}),
    (POINT, {"x": 1.0, "y": 2.0, "z": 3.0}),
    (WHEN, 5),
    (WHEN, "yesterday"),
    ({"type": "string", "format": "date"}, "2026-13-01"),
    (BYTES, "not base64!"),
    (BYTES, 3),
    (BYTES, {"$attachment": 1}),
    (BYTES, {"$attachment": -1}),
    (BYTES, {"$attachment": "0"}),
    (BYTES, {"$attachment": True}),
]


@pytest.mark.parametrize(("schema", "value"), MISFITS)
def test_a_value_that_does_not_fit_is_refused(schema: dict[str, Any], value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(schema, value, (b"x",))


def test_bytes_are_attachments_or_base64_wherever_the_type_says_bytes() -> None:
    parts = (b"\x00\xff", b"two", b"")
    assert read(BYTES, {"$attachment": 0}, parts) == b"\x00\xff"
    assert read(BYTES, "aGk=", parts) == b"hi"
    assert read({"type": "array", "items": BYTES}, [{"$attachment": 1}, ""], parts) == [b"two", b""]
    blob = read(BLOB, {"data": {"$attachment": 2}, "more": [{"$attachment": 0}]}, parts)
    assert (blob.data, blob.more) == (b"", [b"\x00\xff"])


def test_what_looks_like_an_attachment_elsewhere_is_plain_data() -> None:
    value = {"$attachment": 0}
    assert read({}, value, (b"x",)) == value
    assert read({"type": "object", "additionalProperties": INT}, value, (b"x",)) == value


def test_bytes_leave_as_attachments() -> None:
    blob = read(BLOB, {"data": "aGk=", "more": ["AA=="]})
    out: list[bytes] = []
    written = values.write({"a": b"\xff", "b": blob, "c": {"k": [b"x"]}}, out)
    assert written == {
        "a": {"$attachment": 0},
        "b": {"data": {"$attachment": 1}, "more": [{"$attachment": 2}]},
        "c": {"k": [{"$attachment": 3}]},
    }
    assert out == [b"\xff", b"hi", b"\x00", b"x"]


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, -math.inf], {"a": {"b": math.nan}}])
def test_numbers_that_json_does_not_have_are_refused_by_the_name_of_the_output(value: Any) -> None:
    with pytest.raises(faults.OutputError, match="score"):
        values.write({"ok": 1.0, "score": value})


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(faults.OutputError, match="Unicode"):
        values.dumps(values.write({"a": "\ud800"}))


def test_an_output_without_json_form_is_refused() -> None:
    with pytest.raises(faults.OutputError, match="thing"):
        values.write({"thing": object()})


def test_equal_objects_of_a_program_share_one_class_and_different_ones_do_not() -> None:
    types = fields.Types()
    first, _ = types.build(POINT)
    second, _ = types.build({"type": "array", "items": POINT})
    other, _ = types.build({**POINT, "required": ["x"]})
    assert second.__args__[0] is first
    assert other is not first
    assert first.__name__ == other.__name__ == "Point"


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = INT
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    with pytest.raises(faults.ProgramError, match="deep"):
        types_of(schema)


def test_a_reference_that_leads_nowhere_but_to_itself_is_refused() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    with pytest.raises(faults.ProgramError):
        types_of(schema)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_any_json_value_passes_a_free_field_unchanged(value: Any) -> None:
    read_value = read({}, value)
    assert read_value == value
    assert json.loads(values.dumps(values.write({"v": read_value}))) == {"v": value}


TYPED = st.fixed_dictionaries(
    {
        "n": st.integers(-(10**30), 10**30),
        "x": st.floats(allow_nan=False, allow_infinity=False),
        "s": st.text(st.characters(exclude_categories=["Cs"])),
        "tags": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
        "o": st.none() | st.integers(-5, 5),
        "p": st.fixed_dictionaries(
            {"x": st.floats(-1e9, 1e9), "y": st.floats(-1e9, 1e9), "tag": st.none() | st.just("t")}
        ),
        "m": st.dictionaries(st.text(max_size=3), st.booleans(), max_size=3),
    }
)
TYPED_FIELDS = [
    ("n", INT),
    ("x", NUMBER),
    ("s", S),
    ("tags", {"type": "array", "items": S}),
    ("o", {"anyOf": [INT, {"type": "null"}]}),
    ("p", POINT),
    ("m", {"type": "object", "additionalProperties": {"type": "boolean"}}),
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TYPED)
def test_a_models_typed_answer_reaches_the_host_unchanged(value: dict[str, Any]) -> None:
    program = spec(
        *[field(name, "input", schema) for name, schema in TYPED_FIELDS],
        *[field(f"{name}_out", "output", schema) for name, schema in TYPED_FIELDS],
    )
    answer = json.dumps({f"{name}_out": item for name, item in value.items()})
    result = HOST.run(program, value, answer, adapter={"name": "json"})
    assert result == {"outputs": {f"{name}_out": item for name, item in value.items()}}


@pytest.fixture(autouse=True, scope="module")
def _host() -> Any:
    global HOST  # noqa: PLW0603
    with thread_worker() as given_host:
        HOST = given_host
        yield


HOST: Any = None


def test_big_numbers_of_inputs_reach_the_prompt_exactly() -> None:
    program = spec(field("n", "input", INT), field("free", "input", {}), field("a", "output"))
    big = 123456789012345678901234567890
    prompts: list[str] = []

    def answer(body: dict[str, Any]) -> str:
        prompts.append(body["request"]["messages"][-1]["parts"][0]["text"])
        return chat(a="x")

    HOST.run(program, {"n": big, "free": [big]}, answer)
    assert prompts[0].count(str(big)) == 2


@pytest.mark.parametrize(
    ("schema", "answer", "code"),
    [
        (NUMBER, "NaN", "invalid_output"),
        (NUMBER, "Infinity", "invalid_output"),
        (INT, "twelve", "parse_failed"),
        ({"enum": ["a"]}, "b", "parse_failed"),
        (POINT, '{"x": 1}', "parse_failed"),
        (POINT, '{"x": 1, "y": 2, "z": 3}', "parse_failed"),
    ],
)
def test_an_answer_of_the_wrong_type_is_a_typed_error(
    schema: dict[str, Any], answer: str, code: str
) -> None:
    program = spec(field("q", "input"), field("v", "output", schema))
    with pytest.raises(RemoteError) as caught:
        HOST.run(
            program, {"q": "?"}, chat(v=answer), adapter={"name": "chat", "json_fallback": False}
        )
    assert caught.value.code == code
    assert "v" in caught.value.body["message"]


def test_a_lone_surrogate_made_by_a_models_answer_is_an_invalid_output() -> None:
    program = spec(field("q", "input"), field("v", "output"))
    with pytest.raises(RemoteError) as caught:
        HOST.run(program, {"q": "?"}, '{"v": "\\ud800"}', adapter={"name": "json"})
    assert caught.value.code == "invalid_output"


def test_a_lone_surrogate_in_a_request_is_refused() -> None:
    with pytest.raises(faults.ArgumentError):
        runs.parse(b'{"inputs": {"q": "\\ud800"}}')


def test_a_number_beyond_64_bits_in_an_answer_is_exact() -> None:
    program = spec(field("q", "input"), field("v", "output", INT))
    assert HOST.run(program, {"q": "?"}, chat(v=str(10**30))) == {"outputs": {"v": 10**30}}


def test_attachments_come_in_and_go_out_with_a_run() -> None:
    program = spec(field("data", "input", BYTES), field("v", "output", BYTES))
    hash_ = HOST.put(program)
    stream = HOST.start_run(hash_, {"data": {"$attachment": 0}}, attachments=(b"hello",))
    result = HOST.finish(stream, chat(v="world"))
    assert result == {"outputs": {"v": {"$attachment": 0}}}
    assert HOST.attachments[stream] == b"world"


def test_a_signature_keeps_the_order_and_the_kinds_of_its_fields() -> None:
    given_spec = spec(field("b", "input"), field("z", "output"), field("a", "input"))["signature"]
    signature, built = signatures.build(given_spec, fields.Types())
    assert list(signature.fields) == ["b", "a", "z"]
    assert [name for name, info in built.items() if info.is_input] == ["b", "a"]
