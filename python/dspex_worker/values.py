"""Values in and out: JSON of a request to typed values, a prediction to JSON.

Nothing is guessed. A value of the wrong type, a missing or an unknown field is an error, and so is
an output that JSON cannot carry.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson
import pydantic
from dspy.adapters.utils import annotation_allows_none
from pydantic_core import PydanticSerializationError, to_jsonable_python

from dspex_worker.faults import ArgumentError, OutputError
from dspex_worker.signatures import FieldSpec

Reader: TypeAlias = Callable[[Any, Sequence[bytes]], Any]
_PLAIN: Final = frozenset({str, int, bool, type(None)})
# What orjson reads as a float although it was written as a whole number.
_EXACT_FLOATS_BELOW: Final = float(1 << 63)


def reader(type_: Any) -> Reader:
    """Return a function that turns JSON values into values of a type, strictly.

    The function takes the value and the message's attachments, and raises ValueError (pydantic's
    ValidationError among them) for a value that does not fit.
    """
    if type_ is str:
        return _read_text
    adapter = pydantic.TypeAdapter(type_)

    def read(value: Any, attachments: Sequence[bytes]) -> Any:
        try:
            data = orjson.dumps(value)
        except TypeError:  # a whole number of more than 64 bits
            data = json.dumps(value).encode()
        return adapter.validate_json(data, strict=True, context=attachments)

    return read


def _read_text(value: Any, attachments: Sequence[bytes]) -> str:  # noqa: ARG001
    if type(value) is not str:
        raise ValueError(f"this is text, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "an array", bool: "a bool", type(None): "null"}
    return kinds.get(type(value), "a number")


class Inputs:
    """Reads the inputs of a program's requests.

    Args:
        fields: the fields of its signature, outputs included.
    """

    def __init__(self, fields: Mapping[str, FieldSpec]) -> None:
        self._readers: dict[str, Reader] = {}
        self._required: list[str] = []
        self._exact = False
        for field in fields.values():
            if not field.is_input:
                continue
            self._readers[field.name] = reader(field.wire)
            if field.required and not _accepts_none(field.printed):
                self._required.append(field.name)
            self._exact = self._exact or field.wire not in (str, bool)

    def read(
        self, values: Any, attachments: Sequence[bytes], body: bytes | None = None
    ) -> dict[str, Any]:
        """Return typed inputs.

        Args:
            values: the request's ``inputs``.
            attachments: the request's attachments.
            body: the request as it came; from it, whole numbers of more than 64 bits are read
                again, which the fast parser turns into floats.

        Raises:
            ArgumentError: an input is missing, unknown or does not fit its type; all are named.
        """
        if not isinstance(values, dict):
            raise ArgumentError(f"inputs are an object, not {_kind(values)}")
        if self._exact and body is not None and _has_large_float(values):
            values = json.loads(body)["inputs"]
        problems: list[str] = []
        typed: dict[str, Any] = {}
        readers = self._readers
        for name, value in values.items():
            read = readers.get(name)
            if read is None:
                problems.append(f"{name}: the program has no such input")
                continue
            try:
                typed[name] = read(value, attachments)
            except ValueError as error:
                problems.append(f"{name}: {_explain(error)}")
        problems.extend(f"{name}: missing" for name in self._required if name not in values)
        if problems:
            raise ArgumentError("; ".join(problems))
        return typed


def _accepts_none(type_: Any) -> bool:
    """Whether DSPy lets an input of this type be absent (dspy/predict/predict.py)."""
    return type_ is Any or bool(annotation_allows_none(type_))


def _has_large_float(value: Any) -> bool:
    if type(value) is float:
        return abs(value) >= _EXACT_FLOATS_BELOW
    if type(value) is dict:
        return any(_has_large_float(item) for item in value.values())
    if type(value) is list:
        return any(_has_large_float(item) for item in value)
    return False


def _explain(error: ValueError) -> str:
    """Say what is wrong with a value in one line, without repeating the value."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    parts = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        place = ".".join(str(step) for step in detail["loc"])
        parts.append(f"{place}: {detail['msg']}" if place else detail["msg"])
    return ", ".join(parts)


class Demos:
    """Reads demonstrations: examples of inputs and outputs, which may be incomplete.

    Args:
        types: the type of every field, by name.
    """

    def __init__(self, types: Mapping[str, Any]) -> None:
        self._types = types
        self._readers: dict[str, Reader] = {}  # made when needed: most programs have no demos

    def read(self, demos: Any, attachments: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Return typed demonstrations; a null stands for a field that is not supplied.

        Raises:
            ArgumentError: a demonstration has an unknown field or a value that does not fit.
        """
        if demos is None:
            return []
        if not isinstance(demos, list):
            raise ArgumentError(f"demos are an array, not {_kind(demos)}")
        return [self._one(index, demo, attachments) for index, demo in enumerate(demos)]

    def _one(self, index: int, demo: Any, attachments: Sequence[bytes]) -> dict[str, Any]:
        if not isinstance(demo, dict):
            raise ArgumentError(f"demo {index} is an object, not {_kind(demo)}")
        typed: dict[str, Any] = {}
        for name, value in demo.items():
            if name not in self._types:
                raise ArgumentError(f"demo {index}: the program has no field {name!r}")
            read = self._readers.get(name)
            if read is None:
                read = self._readers[name] = reader(self._types[name])
            try:
                typed[name] = None if value is None else read(value, attachments)
            except ValueError as error:
                raise ArgumentError(f"demo {index}: {name}: {_explain(error)}") from error
        return typed


def write(outputs: Mapping[str, Any], attachments: list[bytes] | None = None) -> dict[str, Any]:
    """Return a prediction's fields as values that JSON has.

    Args:
        outputs: the fields, as `dspy.Prediction.toDict` returns them.
        attachments: where bytes go, each leaving ``{"$attachment": i}`` in its place; None where
            there are none to be expected, and bytes become text if they are UTF-8.

    Raises:
        OutputError: a value has no JSON form; the field is named.
    """
    plain: dict[str, Any] = {}
    for name, value in outputs.items():
        kind = type(value)
        if kind in _PLAIN:
            plain[name] = value
        elif kind is float:
            plain[name] = _finite(value, name)
        else:
            plain[name] = _write_other(name, value, attachments)
    return plain


def _write_other(name: str, value: Any, attachments: list[bytes] | None) -> Any:
    if attachments is not None:
        value = _externalise(value, attachments)
    try:
        jsonable = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise OutputError(f"output {name}: no JSON form: {error}") from error
    return _finite(jsonable, name)


def _externalise(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, (bytes, bytearray)):
        attachments.append(bytes(value))
        return {"$attachment": len(attachments) - 1}
    if isinstance(value, pydantic.BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return _externalise(fields, attachments)
    if isinstance(value, dict):
        return {key: _externalise(item, attachments) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_externalise(item, attachments) for item in value]
    return value


def _finite(value: Any, name: str) -> Any:
    """Return the value if JSON has all of its numbers."""
    kind = type(value)
    if kind is float:
        if not math.isfinite(value):
            raise OutputError(f"output {name}: {value} has no JSON form")
    elif kind is dict:
        for item in value.values():
            _finite(item, name)
    elif kind is list:
        for item in value:
            _finite(item, name)
    return value


def dumps(body: dict[str, Any]) -> bytes:
    """Return JSON; whole numbers of any size are written exactly.

    Raises:
        OutputError: text in it is not valid Unicode.
    """
    try:
        return orjson.dumps(body)
    except TypeError:
        pass
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"an output is not valid Unicode: {error}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputError(f"an output has no JSON form: {error}") from error
