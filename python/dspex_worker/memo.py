"""Remembers three results that DSPy computes anew for every request.

All of them are functions of a program, not of a request, and take more than a third of what a
request costs: the validators of types (pydantic's `TypeAdapter`), the fields of a signature, and
the system message of an adapter. The functions are replaced where DSPy looks them up, so that
every module and adapter gains, whoever wrote it; what they return is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import dspy
import pydantic
from dspy.adapters import base, utils, xml_adapter
from dspy.signatures.signature import SignatureMeta

# Types remembered; a program uses one for each field and one for each kind of value.
_TYPES: Final = 1024
# Signatures remembered, for each of DSPy's adapters; then it begins anew.
_SIGNATURES: Final = 1024
# Adapters of other classes may depend on more than their class.
_EXACT_ADAPTERS: Final = (dspy.ChatAdapter, dspy.JSONAdapter, xml_adapter.XMLAdapter)


class Adapters:
    """Stands for `pydantic.TypeAdapter` where DSPy makes one for each value.

    Types are told apart by identity: two unions that compare equal may list their members in
    another order, and then validate differently.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Any, Any]] = OrderedDict()

    def __call__(self, type_: Any) -> Any:
        """Return the adapter for a type; the same one for the same type."""
        key = id(type_)
        known = self._known.get(key)
        if known is not None:
            return known[1]
        adapter = pydantic.TypeAdapter(type_)
        self._known[key] = (type_, adapter)  # the type is kept: its id stays its own
        if len(self._known) > _TYPES:
            self._known.popitem(last=False)
        return adapter


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


class SystemMessages:
    """Stands for `Adapter.format_system_message`, a function of adapter class and signature.

    A signature can change after it was made: its instructions have a setter, and the description
    of a field is an entry of a dict. Both are compared.
    """

    def __init__(self, original: Callable[[Any, Any], str]) -> None:
        self._original = original
        self._known: dict[tuple[int, type], tuple[Any, Any, str]] = {}

    def get(self, adapter: Any, signature: Any) -> str:
        """Return the system message."""
        cls = type(adapter)
        if cls not in _EXACT_ADAPTERS:
            return self._original(adapter, signature)
        source = signature.__pydantic_fields__
        key = (id(source), cls)
        state = (
            signature.__doc__,
            [(*info.json_schema_extra.values(),) for info in source.values()],
        )
        known = self._known.get(key)
        if known is not None and known[1] == state:
            return known[2]
        text = self._original(adapter, signature)
        if len(self._known) >= _SIGNATURES:
            self._known.clear()
        self._known[key] = (source, state, text)
        return text


def install() -> None:
    """Replace the three functions in this process; a second call does nothing."""
    if isinstance(utils.TypeAdapter, Adapters):
        return
    adapters = Adapters()
    utils.TypeAdapter = adapters
    xml_adapter.TypeAdapter = adapters

    fields = Fields(SignatureMeta._get_fields_with_type)  # noqa: SLF001
    messages = SystemMessages(base.Adapter.format_system_message)

    # Functions, so that they become methods of what they are put into.
    def get_fields_with_type(cls: Any, field_type: str) -> dict[str, Any]:
        return fields.get(cls, field_type)

    def format_system_message(self: Any, signature: Any) -> str:
        return messages.get(self, signature)

    SignatureMeta._get_fields_with_type = get_fields_with_type  # noqa: SLF001
    base.Adapter.format_system_message = format_system_message
