"""Signatures from structured fields, never from a signature string.

DSPy imports modules while it reads a signature string (dspy/signatures/signature.py,
`_parse_type_node`); `make_signature` with a dict of types does not.
"""

from __future__ import annotations

import keyword
import types
import warnings
from typing import Any, Final, NamedTuple

import dspy
import pydantic
from dspy.signatures import signature as dspy_signature

from dspex_worker.faults import ProgramError
from dspex_worker.fields import Types

# Names that a class of DSPy or pydantic already uses for something else.
_UNDEFINABLE: Final = frozenset(
    {
        "fields",
        "input_fields",
        "instructions",
        "model_config",
        "model_dump",
        "output_fields",
        "signature",
    }
)
# Keyword arguments that `Predict.forward` and Python's call protocol take for themselves.
_NOT_INPUTS: Final = frozenset({"completions", "config", "demos", "lm", "new_signature", "self"})


class FieldSpec(NamedTuple):
    """A field of a built signature.

    Attributes:
        name: its name.
        is_input: whether it is an input.
        printed: its type as DSPy sees it.
        wire: its type for validating requests.
        required: whether a request must give it: it is an input without a default.
        schema: its JSON Schema.
    """

    name: str
    is_input: bool
    printed: Any
    wire: Any
    required: bool
    schema: dict[str, Any]


def build(spec: Any, made: Types) -> tuple[Any, dict[str, FieldSpec]]:
    """Build a `dspy.Signature` class from its specification.

    Args:
        spec: ``{"name", "instructions", "fields": [{"name", "kind", "schema", "desc"?,
            "default"?}]}``; without instructions DSPy writes its default ones.
        made: the program's types.

    Returns:
        The signature, and its fields by name.

    Raises:
        ProgramError: the specification is malformed or names what DSPy cannot take.
    """
    if not isinstance(spec, dict) or not isinstance(spec.get("fields"), list):
        raise ProgramError("a signature has a list of fields")
    fields: dict[str, FieldSpec] = {}
    definition: dict[str, tuple[Any, Any]] = {}
    for entry in spec["fields"]:
        field, dspy_field = _field(entry, made)
        if field.name in fields:
            raise ProgramError(f"field {field.name!r} is there twice")
        fields[field.name] = field
        definition[field.name] = (field.printed, dspy_field)
    if all(field.is_input for field in fields.values()):
        raise ProgramError("a signature needs an output field")
    name = spec.get("name") or "StringSignature"
    if not isinstance(name, str) or not name.isidentifier():
        raise ProgramError(f"a signature's name is an identifier, not {name!r}")
    instructions = spec.get("instructions") or None
    if instructions is not None and not isinstance(instructions, str):
        raise ProgramError("a signature's instructions are text")
    if instructions is None:
        instructions = _default_instructions(fields)
    try:
        with warnings.catch_warnings():
            # Outputs are read by key: a name like "copy" is in nobody's way.
            warnings.filterwarnings("ignore", message=".*shadows an attribute.*")
            return dspy.make_signature(definition, instructions, name), fields
    except (TypeError, NameError, ValueError, pydantic.errors.PydanticUserError) as error:
        raise ProgramError(f"signature {name} cannot be built: {error}") from error


def _default_instructions(fields: dict[str, FieldSpec]) -> str:
    """Return DSPy's default instructions, which it would build a signature of its own to make."""
    names = types.SimpleNamespace(
        input_fields=[name for name, field in fields.items() if field.is_input],
        output_fields=[name for name, field in fields.items() if not field.is_input],
    )
    return str(dspy_signature._default_instructions(names))  # noqa: SLF001


def _field(entry: Any, made: Types) -> tuple[FieldSpec, Any]:
    if not isinstance(entry, dict):
        raise ProgramError(f"a field is an object, not {entry!r}")
    name, kind = entry.get("name"), entry.get("kind")
    if kind not in ("input", "output"):
        raise ProgramError(f"field {name!r} is neither input nor output: {kind!r}")
    name = _checked_name(name, is_input=kind == "input")
    try:
        printed, wire = made.build(entry.get("schema", {}))
    except ProgramError as error:
        raise ProgramError(f"field {name!r}: {error}") from error
    options: dict[str, Any] = {}
    if entry.get("desc"):
        options["desc"] = entry["desc"]
    if "default" in entry:
        options["default"] = _default(name, wire, entry["default"])
    make = dspy.InputField if kind == "input" else dspy.OutputField
    required = kind == "input" and "default" not in entry
    field = FieldSpec(name, kind == "input", printed, wire, required, entry.get("schema", {}))
    return field, make(**options)


def _checked_name(name: Any, *, is_input: bool) -> str:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise ProgramError(f"a field's name is an identifier, not {name!r}")
    if name.startswith("_"):
        raise ProgramError(f"DSPy takes no field name with a leading underscore: {name!r}")
    if name in _UNDEFINABLE or (is_input and name in _NOT_INPUTS):
        raise ProgramError(f"DSPy uses the name {name!r} itself: choose another field name")
    return name


def _default(name: str, wire: Any, value: Any) -> Any:
    try:
        return pydantic.TypeAdapter(wire).validate_python(value, context=())
    except pydantic.ValidationError as error:
        raise ProgramError(f"the default of field {name!r} does not fit: {error}") from error
