"""Programs by the hash of their specification: stored as data, built when first needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from dspex_worker import configs, signatures
from dspex_worker.faults import ArgumentError, Fault, ProgramError, UnknownProgramError
from dspex_worker.fields import Types
from dspex_worker.modules import Kind, Way
from dspex_worker.values import Demos, Inputs

# A built program takes 50 to 200 KB; the host sends one again that was dropped.
CAPACITY: Final = 256


class Program:
    """A built program. It keeps no state between runs: one object serves them all.

    Args:
        spec: its specification.
        kinds: the modules there are.

    Attributes:
        module: the `dspy.Module`.
        way: how it runs.
        inputs: reads the inputs of its requests.
        demos: reads demonstrations of a request.
        has_bytes: whether values may contain bytes.
        names: the names of its predictors, by their ids.

    Raises:
        ProgramError: the specification cannot be built.
    """

    def __init__(self, spec: Any, kinds: Mapping[str, Kind]) -> None:
        if not isinstance(spec, dict):
            raise ProgramError(f"a specification is an object, not {spec!r}")
        kind = kinds.get(str(spec.get("module")))
        if kind is None:
            known = ", ".join(sorted(kinds))
            raise ProgramError(f"no module {spec.get('module')!r}: there are {known}")
        if spec.get("options"):
            raise ProgramError(f"module {spec['module']} has no options: {spec['options']!r}")
        types = Types()
        signature, fields = signatures.build(spec.get("signature"), types)
        config = _checked(configs.check, spec.get("config"))
        self.way: Way = kind.way
        self.module: Any = kind.build(signature, config)
        self.has_bytes = types.has_bytes
        self.inputs = Inputs(fields)
        predictors = self.module.named_predictors()
        self.names: dict[int, str] = {id(predictor): name for name, predictor in predictors}
        self.demos = Demos(_demo_types(predictors, fields))
        demos = _checked(self.demos.read, spec.get("demos"))
        for _, predictor in predictors:
            predictor.demos = demos

    def predictor_names(self) -> list[str]:
        """Return the names of the predictors, as DSPy gives them."""
        return list(self.names.values())


def _checked(function: Any, value: Any) -> Any:
    """Call a function; what is wrong with its argument is wrong with the program."""
    try:
        return function(value)
    except ArgumentError as error:
        raise ProgramError(str(error)) from error


def _demo_types(
    predictors: list[tuple[str, Any]], fields: Mapping[str, signatures.FieldSpec]
) -> dict[str, Any]:
    types: dict[str, Any] = {}
    for _, predictor in predictors:
        for name, info in predictor.signature.fields.items():
            types[name] = fields[name].wire if name in fields else info.annotation
    return types


class _Entry:
    __slots__ = ("problem", "program", "spec")

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        self.program: Program | None = None
        self.problem: Fault | None = None  # why it cannot be built


class Programs:
    """The programs of a worker, the least recently used dropped first; for one thread.

    Args:
        kinds: the modules there are.
        capacity: how many are kept.
    """

    def __init__(self, kinds: Mapping[str, Kind], capacity: int = CAPACITY) -> None:
        self._kinds = kinds
        self._capacity = capacity
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, hash_: Any, spec: Any) -> None:
        """Store a specification under its hash.

        Raises:
            ArgumentError: the hash is not text.
        """
        if not isinstance(hash_, str) or not hash_:
            raise ArgumentError(f"a program's hash is text, not {hash_!r}")
        if hash_ not in self._entries:
            self._entries[hash_] = _Entry(spec)
        self._entries.move_to_end(hash_)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def get(self, hash_: Any) -> Program:
        """Return the built program.

        Raises:
            UnknownProgramError: it is not here: the host must send it.
            ProgramError: it cannot be built.
        """
        entry = self._entries.get(hash_) if isinstance(hash_, str) else None
        if entry is None:
            raise UnknownProgramError(f"program {hash_!r} is not in this worker")
        self._entries.move_to_end(hash_)
        if entry.program is None:
            if entry.problem is not None:
                raise ProgramError(str(entry.problem)) from entry.problem.__cause__
            try:
                entry.program = Program(entry.spec, self._kinds)
            except Fault as error:
                entry.problem = error
                raise
        return entry.program
