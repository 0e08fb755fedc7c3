"""What is remembered is what DSPy would compute, also after a program was changed."""

from __future__ import annotations

from typing import Any, Union

import dspy
import pydantic
import pytest
from dspy.adapters import json_adapter, utils, xml_adapter

from dspex_worker import memo

ADAPTERS = [dspy.ChatAdapter, dspy.JSONAdapter, xml_adapter.XMLAdapter]


def signature_of(**more: Any) -> Any:
    return dspy.make_signature(
        {
            "question": (str, dspy.InputField(desc="old")),
            "answer": (dict[str, int], dspy.OutputField(**more)),
        },
        "Old instructions.",
    )


@pytest.mark.parametrize("cls", ADAPTERS)
def test_a_system_message_is_the_same_object_until_its_signature_changes(cls: Any) -> None:
    adapter, signature = cls(), signature_of()
    first = adapter.format_system_message(signature)
    assert adapter.format_system_message(signature) is first
    assert cls().format_system_message(signature) is first
    signature.instructions = "New instructions."
    second = adapter.format_system_message(signature)
    assert second == first.replace("Old instructions.", "New instructions.")
    signature.fields["question"].json_schema_extra["desc"] = "new"
    assert adapter.format_system_message(signature) == second.replace("old", "new")
    other = signature.with_instructions("Third.")
    assert "Third." in adapter.format_system_message(other)


def test_messages_of_the_adapters_are_told_apart() -> None:
    signature = signature_of()
    assert len({cls().format_system_message(signature) for cls in ADAPTERS}) == 3


def test_an_adapter_of_another_class_is_asked_every_time() -> None:
    class Counting(dspy.ChatAdapter):  # type: ignore[misc]
        count = 0

        def format_task_description(self, signature: Any) -> str:
            self.count += 1
            return str(self.count)

    adapter, signature = Counting(), signature_of()
    messages = [adapter.format_system_message(signature) for _ in range(3)]
    assert [message[-1] for message in messages] == ["1", "2", "3"]


def test_fields_are_new_dicts_each_time() -> None:
    signature = signature_of()
    signature.input_fields.clear()
    assert list(signature.input_fields) == ["question"]
    assert list(signature.output_fields) == ["answer"]
    assert list(signature.fields) == ["question", "answer"]
    longer = signature.append("more", dspy.InputField())
    assert list(longer.input_fields) == ["question", "more"]
    assert list(signature.input_fields) == ["question"]


def test_types_that_compare_equal_but_differ_have_validators_of_their_own() -> None:
    first, second = Union[int, str], Union[str, int]
    assert first == second
    assert utils.TypeAdapter(first) is utils.TypeAdapter(first)
    assert utils.TypeAdapter(first) is not utils.TypeAdapter(second)


def test_a_validator_does_what_pydantic_does() -> None:
    ours, theirs = utils.TypeAdapter(list[int]), pydantic.TypeAdapter(list[int])
    assert ours.validate_python(["1"]) == theirs.validate_python(["1"])
    assert ours.dump_python([1], mode="json") == theirs.dump_python([1], mode="json")
    for by_alias in (True, False):
        assert ours.json_schema(by_alias=by_alias) == theirs.json_schema(by_alias=by_alias)
    with pytest.raises(pydantic.ValidationError):
        ours.validate_python(["x"])


def test_the_schema_of_an_answer_follows_its_signature() -> None:
    def build(signature: Any) -> Any:
        return json_adapter._get_structured_outputs_response_format(signature, True)

    signature = dspy.make_signature(
        {"q": (str, dspy.InputField()), "a": (int, dspy.OutputField(desc="old"))}
    )
    first = build(signature)
    assert build(signature) is first
    assert first.model_json_schema()["properties"]["a"]["type"] == "integer"
    signature.fields["a"].json_schema_extra["desc"] = "new"
    assert build(signature) is not first
    with pytest.raises(ValueError, match="open-ended"):
        build(signature_of())


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "_TYPES", 10)
    monkeypatch.setattr(memo, "_SIGNATURES", 10)
    validators = memo.Validators()
    for number in range(50):
        validators(pydantic.create_model(f"M{number}"))
    assert len(validators._known) <= 10
    results = memo.BySignature(lambda signature, other: other)
    for number in range(50):
        assert results.get(signature_of(), number, number) == number
    assert len(results._known) <= 10


def test_installing_twice_changes_nothing() -> None:
    before = utils.TypeAdapter
    memo.install()
    assert utils.TypeAdapter is before
