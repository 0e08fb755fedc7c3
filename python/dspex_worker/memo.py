"""Remembers four results that DSPy computes anew for every request.

All of them are functions of a program, not of a request, and take from a third to nine tenths of
what a request costs: the validators of types (pydantic's `TypeAdapter`), the fields of a
signature, the system message of an adapter, and the JSON schema of an answer. The functions are
replaced where DSPy looks them up, so that every module and adapter gains, whoever wrote it; what
they return is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import dspy
import pydantic
from dspy.adapters import base, json_adapter, utils, xml_adapter
from dspy.signatures.signature import SignatureMeta

# Types remembered, one for each field and for each kind of value; then it begins anew.
_TYPES: Final = 1024
# Results remembered that belong to a signature; then it begins anew.
_SIGNATURES: Final = 1024
# Adapters of other classes may depend on more than their class.
_EXACT_ADAPTERS: Final = (dspy.ChatAdapter, dspy.JSONAdapter, xml_adapter.XMLAdapter)


class Validator:
    """Stands for one `pydantic.TypeAdapter`: the three methods that DSPy's adapters call.

    Args:
        type_: the type; kept, so that its id stays its own.
    """

    __slots__ = ("_adapter", "_schemas", "dump_python", "type", "validate_python")

    def __init__(self, type_: Any) -> None:
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type_)
        self.type = type_
        self.dump_python = adapter.dump_python
        self.validate_python = adapter.validate_python
        self._adapter = adapter
        self._schemas: dict[bool, dict[str, Any]] = {}

    def json_schema(self, *, by_alias: bool = True) -> dict[str, Any]:
        """Return the type's JSON Schema, the same object each time: it must not be changed."""
        schema = self._schemas.get(by_alias)
        if schema is None:
            schema = self._schemas[by_alias] = self._adapter.json_schema(by_alias=by_alias)
        return schema


class Validators:
    """Stands for `pydantic.TypeAdapter` where DSPy's adapters make one for each value.

    Types are told apart by identity: two unions that compare equal may list their members in
    another order, and then validate differently.
    """

    def __init__(self) -> None:
        self._known: dict[int, Validator] = {}

    def __call__(self, type_: Any) -> Validator:
        """Return the validator for a type; the same one for the same type."""
        known = self._known.get(id(type_))
        if known is None:
            known = Validator(type_)
            if len(self._known) >= _TYPES:
                self._known.clear()
            self._known[id(type_)] = known
        return known


class Fields:
    """Stands for `SignatureMeta._get_fields_with_type`, which filters pydantic's fields by kind."""

    def __init__(self, original: Callable[[Any, str], dict[str, Any]]) -> None:
        self._original = original
        self._known: dict[int, tuple[Any, dict[str, dict[str, Any]]]] = {}

    def get(self, signature: Any, kind: str) -> dict[str, Any]:
        """Return a new dict of the signature's fields of one kind."""
        source = signature.__pydantic_fields__
        # The dict is kept with what was made of it, so that no other can have its identity.
        known = self._known.get(id(source))
        if known is None:
            if len(self._known) >= _SIGNATURES:
                self._known.clear()
            known = self._known[id(source)] = (source, {})
        fields = known[1].get(kind)
        if fields is None:
            fields = known[1][kind] = self._original(signature, kind)
        return fields.copy()


def _state(signature: Any) -> list[Any]:
    """Return what of a signature can change after it was made.

    Its instructions have a setter, and the description of a field is an entry of a dict.
    """
    extras = [
        (*info.json_schema_extra.values(),) for info in signature.__pydantic_fields__.values()
    ]
    return [signature.__doc__, extras]


class BySignature:
    """Remembers what a function makes of a signature and one thing more.

    Args:
        function: takes the signature and the other thing.
    """

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function
        self._known: dict[tuple[int, Any], tuple[Any, list[Any], Any]] = {}

    def get(self, signature: Any, other: Any, key: Any) -> Any:
        """Return the function's result; ``key`` stands for the other thing, and is hashable."""
        source = signature.__pydantic_fields__
        state = _state(signature)
        known = self._known.get((id(source), key))
        if known is not None and known[1] == state:
            return known[2]
        result = self._function(signature, other)
        if len(self._known) >= _SIGNATURES:
            self._known.clear()
        self._known[id(source), key] = (source, state, result)
        return result


def install() -> None:
    """Replace the four functions in this process; a second call does nothing."""
    if isinstance(utils.TypeAdapter, Validators):
        return
    validators = Validators()
    utils.TypeAdapter = validators
    xml_adapter.TypeAdapter = validators

    fields = Fields(SignatureMeta._get_fields_with_type)  # noqa: SLF001
    original_message = base.Adapter.format_system_message
    messages = BySignature(lambda signature, adapter: original_message(adapter, signature))
    formats = BySignature(json_adapter._get_structured_outputs_response_format)  # noqa: SLF001

    # Functions, so that they become methods of what they are put into.
    def get_fields_with_type(cls: Any, field_type: str) -> dict[str, Any]:
        return fields.get(cls, field_type)

    def format_system_message(self: Any, signature: Any) -> Any:
        if type(self) not in _EXACT_ADAPTERS:
            return original_message(self, signature)
        return messages.get(signature, self, type(self))

    def get_response_format(signature: Any, use_native_function_calling: bool = True) -> Any:
        return formats.get(signature, use_native_function_calling, use_native_function_calling)

    SignatureMeta._get_fields_with_type = get_fields_with_type  # noqa: SLF001
    base.Adapter.format_system_message = format_system_message
    json_adapter._get_structured_outputs_response_format = get_response_format  # noqa: SLF001
