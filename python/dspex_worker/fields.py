"""JSON Schema to Python types: what the fields of a signature are made of.

Only the dialect that specifications use is understood, and a schema can name nothing: types come
from the closed set below and from classes that are built here. Class names appear in prompts and
in JSON schemas, so a schema's ``title`` is kept as the name of its class, and equal schemas of one
program share one class, as they would in a program written by hand.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Final, ForwardRef, Literal, Optional, Union, cast

import orjson
import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from dspex_worker.faults import ProgramError

_SCALARS: Final = MappingProxyType(
    {"string": str, "integer": int, "number": float, "boolean": bool, "null": NoneType}
)
_KEYWORDS: Final = frozenset(
    {
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "contentEncoding",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "properties",
        "required",
        "title",
        "type",
    }
)
_FORMATS: Final = MappingProxyType({"date-time": datetime.datetime, "date": datetime.date})
_REF_PREFIX: Final = "#/$defs/"
_MODEL_CONFIG: Final = ConfigDict(extra="forbid", protected_namespaces=())
_DEPTH_LIMIT: Final = 64  # a type nested deeper is a mistake or an attack


def attachment_bytes(value: Any, info: ValidationInfo) -> Any:
    """Read what stands at a bytes position of a request: ``{"$attachment": i}`` or base64 text.

    Outside of a request (no validation context) values pass unchanged: there DSPy parses a
    model's answer, and its own rules apply.
    """
    attachments = info.context
    if attachments is None or isinstance(value, bytes):
        return value
    if isinstance(value, dict) and list(value) == ["$attachment"]:
        index = value["$attachment"]
        if type(index) is not int or not 0 <= index < len(attachments):
            raise ValueError(f"there is no attachment {index!r} in {len(attachments)}")
        return attachments[index]
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"not base64: {error}") from None
    raise ValueError("bytes are an attachment or base64 text")


# The type of bytes inside classes, where an annotation is not printed.
WireBytes: Final = Annotated[bytes, BeforeValidator(attachment_bytes)]


class Types:
    """Builds the types of one program; not safe for use by several threads at once."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, bytes], type[pydantic.BaseModel]] = {}
        self.has_bytes = False  # some type built so far contains bytes

    def build(self, schema: dict[str, Any]) -> tuple[Any, Any]:
        """Return the types for one field's schema.

        Args:
            schema: the field's JSON Schema, with its ``$defs`` at the root.

        Returns:
            The type as DSPy shall see it, and the type to validate requests with; they differ
            where bytes stand outside of classes, since DSPy prints annotations.

        Raises:
            ProgramError: the schema is outside of the dialect.
        """
        if not isinstance(schema, dict):
            raise ProgramError(f"a schema is an object, not {schema!r}")
        definitions = schema.get("$defs", {})
        if not isinstance(definitions, dict):
            raise ProgramError("$defs is not an object")
        printed = _Builder(self, definitions, bytes).of(schema)
        wire = _Builder(self, definitions, WireBytes).of(schema) if self.has_bytes else printed
        return printed, wire

    def class_of(self, builder: _Builder, schema: dict[str, Any]) -> type[pydantic.BaseModel]:
        """Return the class for an object schema, the same one for equal schemas."""
        key = (_title(schema), orjson.dumps([schema, builder.definitions], option=_SORTED))
        known = self._classes.get(key)
        if known is None:
            known = builder.make_class(schema)
            self._classes[key] = known
        return known


_SORTED: Final = orjson.OPT_SORT_KEYS


class _Builder:
    """Builds the types of one field.

    Args:
        owner: where classes are shared.
        definitions: the field's ``$defs``.
        bytes_type: what stands for bytes outside of classes.
    """

    def __init__(self, owner: Types, definitions: dict[str, Any], bytes_type: Any) -> None:
        self.owner = owner
        self.definitions = definitions
        self._bytes_type = bytes_type
        self._open: dict[str, str] = {}  # definitions being built, by the name of their reference
        self._names: dict[str, type[pydantic.BaseModel]] = {}
        self._depth = 0

    def of(self, schema: Any, *, inside: bool = False) -> Any:
        """Return the type for a schema; ``inside`` a class, bytes are always `WireBytes`."""
        if not isinstance(schema, dict):
            raise ProgramError(f"a schema is an object, not {schema!r}")
        unknown = schema.keys() - _KEYWORDS
        if unknown:
            raise ProgramError(f"schema keywords not supported: {', '.join(sorted(unknown))}")
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise ProgramError(f"a schema is nested more than {_DEPTH_LIMIT} deep")
        try:
            return self._of(schema, inside)
        finally:
            self._depth -= 1

    def _of(self, schema: dict[str, Any], inside: bool) -> Any:
        if "$ref" in schema:
            return self._reference(schema["$ref"], inside)
        if "enum" in schema:
            return _literal(schema["enum"])
        if "const" in schema:
            return _literal([schema["const"]])
        if "anyOf" in schema:
            return self._union(schema["anyOf"], inside)
        kind = schema.get("type")
        if isinstance(kind, list):
            return self._union([{**schema, "type": one} for one in kind], inside)
        if kind is None:
            return Any
        if kind == "array":
            return list[self.of(schema.get("items", {}), inside=inside)]  # type: ignore[misc]
        if kind == "object":
            return self._object(schema, inside)
        if kind == "string":
            return self._string(schema, inside)
        if kind in _SCALARS:
            return _SCALARS[kind]
        raise ProgramError(f"schema type not supported: {kind!r}")

    def _string(self, schema: dict[str, Any], inside: bool) -> Any:
        encoding, form = schema.get("contentEncoding"), schema.get("format")
        if encoding is not None:
            if encoding != "base64":
                raise ProgramError(f"contentEncoding not supported: {encoding!r}")
            self.owner.has_bytes = True
            return WireBytes if inside else self._bytes_type
        if form is None:
            return str
        if form not in _FORMATS:
            raise ProgramError(f"string format not supported: {form!r}")
        return _FORMATS[form]

    def _union(self, schemas: Any, inside: bool) -> Any:
        if not isinstance(schemas, list) or not schemas:
            raise ProgramError("anyOf needs at least one schema")
        members = [self.of(schema, inside=inside) for schema in schemas]
        others = [member for member in members if member is not NoneType]
        if len(others) == 1 and len(members) > 1:
            return Optional[others[0]]  # noqa: UP045 - the member is a value
        return Union[tuple(members)]  # noqa: UP007 - the members are values

    def _object(self, schema: dict[str, Any], inside: bool) -> Any:
        if "properties" in schema:
            return self.owner.class_of(self, schema)
        values = schema.get("additionalProperties", {})
        value_type = Any if isinstance(values, bool) else self.of(values, inside=inside)
        return dict[str, value_type]  # type: ignore[valid-type]

    def _reference(self, ref: Any, inside: bool) -> Any:
        name = ref[len(_REF_PREFIX) :] if isinstance(ref, str) else ""
        if not isinstance(ref, str) or not ref.startswith(_REF_PREFIX):
            raise ProgramError(f"only references into $defs are supported, not {ref!r}")
        target = self.definitions.get(name)
        if not isinstance(target, dict):
            raise ProgramError(f"there is no $defs entry {name!r}")
        if "properties" not in target:
            return self.of(target, inside=inside)
        if name in self._open:
            # A class that contains itself: pydantic resolves the name below, among classes that
            # were built here and nothing else.
            return ForwardRef(self._open[name])
        self._open[name] = f"Ref{len(self._open)}"
        try:
            built = self.owner.class_of(self, {"title": name, **target})
        finally:
            alias = self._open.pop(name)
        self._names[alias] = built
        built.model_rebuild(_types_namespace=self._names)
        return built

    def make_class(self, schema: dict[str, Any]) -> type[pydantic.BaseModel]:
        """Build a pydantic class with the schema's title, description and properties."""
        properties, required = schema["properties"], schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise ProgramError("properties is an object and required a list")
        fields: dict[str, Any] = {}
        for name, sub in properties.items():
            type_ = self.of(sub, inside=True)
            default = ... if name in required else sub.get("default")
            description = sub.get("description")
            field = Field(default, description=description) if description else Field(default)
            fields[name] = (type_, field)
        try:
            return pydantic.create_model(
                _title(schema),
                __config__=_MODEL_CONFIG,
                __doc__=schema.get("description"),
                __module__=__name__,
                **fields,
            )
        except (TypeError, NameError, ValueError, pydantic.errors.PydanticUserError) as error:
            raise ProgramError(f"type {_title(schema)} cannot be built: {error}") from error


def _title(schema: dict[str, Any]) -> str:
    title = schema.get("title", "Object")
    if not isinstance(title, str) or not title.isidentifier():
        raise ProgramError(f"a type's title is an identifier, not {title!r}")
    return title


def _literal(values: Any) -> Any:
    if not isinstance(values, list) or not values:
        raise ProgramError("an enum needs at least one value")
    for value in values:
        if not (value is None or isinstance(value, (str, int, bool))):
            raise ProgramError(f"an enum value is text, a whole number, a bool or null: {value!r}")
    return cast("Any", Literal)[tuple(values)]
