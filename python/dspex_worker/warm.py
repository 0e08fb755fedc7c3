"""What the fork server does before it forks, so that no worker has to do it again.

Programs are run against an engine that answers at once, in every prompt format, with a parse
failure and a language model's failure among them, so that everything which Python or DSPy would
import or build at the first such call is there.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from typing import Any, Final

import dspy
import orjson

from dspex_worker import errors, logs, markers, memo, modules
from dspex_worker.adapters import Adapters
from dspex_worker.calls import SETTING
from dspex_worker.model import GatewayLM
from dspex_worker.programs import Program
from dspex_worker.values import dumps, write

_FIELDS: Final = (
    {"name": "question", "kind": "input", "schema": {"type": "string"}},
    {"name": "when", "kind": "input", "schema": {"type": "string", "format": "date-time"}},
    {"name": "answer", "kind": "output", "schema": {"type": "string"}},
    {
        "name": "facts",
        "kind": "output",
        "schema": {
            "type": "array",
            "items": {
                "type": "object",
                "title": "Fact",
                "properties": {"name": {"type": "string"}, "kind": {"enum": ["a", "b"]}},
                "required": ["name", "kind"],
            },
        },
    },
    {
        "name": "score",
        "kind": "output",
        "schema": {"anyOf": [{"type": "number"}, {"type": "null"}]},
    },
)
_INPUTS: Final = {"question": "Why?", "when": "2026-01-02T03:04:05Z"}
_ANSWER: Final = {
    "reasoning": "So.",
    "answer": "Because.",
    "facts": [{"name": "x", "kind": "a"}],
    "score": 0.5,
}
_SUPPORTS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"response_schema": True, "params": ["response_format"]},
)


class _NullCall:
    """Stands for a call of the host; answers every request of a language model at once.

    Args:
        answer: returns the text of the model, or an exception to raise.
    """

    def __init__(self, names: dict[int, str], answer: Callable[[], str | BaseException]) -> None:
        self.names = names
        self.rollout_id = None
        self.completion: str | None = None
        self._answer = answer

    def ask(self, method: str, body: bytes) -> bytes:  # noqa: ARG002
        answer = self._answer()
        if isinstance(answer, BaseException):
            raise answer
        message = {"role": "assistant", "parts": [{"type": "text", "text": answer}]}
        usage = {"input_tokens": 1, "output_tokens": 1}
        response = {"model": "warm", "message": message, "finish_reason": "stop", "usage": usage}
        return orjson.dumps({"response": response})


def preload(names: list[str]) -> None:
    """Import and warm everything that workers need, then freeze the heap.

    Args:
        names: further modules to import, as ``package.module``.

    Raises:
        ImportError: a module cannot be imported.
        RuntimeError: this DSPy is not supported.
    """
    for name in names:
        importlib.import_module(name)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    memo.install()
    armed = markers.arm()
    markers.prove(armed)
    logs.configure()
    for supports in _SUPPORTS:
        model = GatewayLM("warm", supports, {"temperature": 0.0, "max_tokens": 10}, armed)
        for module in modules.MODULES:
            _run(module, model)
    gc.collect()
    gc.freeze()


def _run(module: str, model: GatewayLM) -> None:
    spec = {"module": module, "signature": {"fields": list(_FIELDS)}}
    program = Program(spec, modules.MODULES)
    failure = errors.from_host(b'{"code":"lm","message":"","lm":{"kind":"rate_limit"}}')
    adapters = Adapters()
    for name, text in (("chat", _chat()), ("json", _json()), ("xml", _xml())):
        adapter = adapters.get({"name": name})
        for answer in (text, "unparsable", failure):
            call = _NullCall(program.names, _constant(answer))
            settings = {"lm": model, "adapter": adapter, "trace": [], "disable_history": True}
            with dspy.context(**settings, **{SETTING: call}):
                try:
                    prediction = program.module(**program.inputs.read(_INPUTS, ()))
                except Exception as error:
                    if answer is text:
                        raise
                    errors.encode(errors.to_host(error, call.completion))
                else:
                    dumps(write(prediction.toDict()))


def _constant(answer: str | BaseException) -> Callable[[], str | BaseException]:
    return lambda: answer


def _chat() -> str:
    parts = [f"[[ ## {name} ## ]]\n{_text(value)}" for name, value in _ANSWER.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _json() -> str:
    return orjson.dumps(_ANSWER).decode()


def _xml() -> str:
    plain: dict[str, Any] = {k: v for k, v in _ANSWER.items() if k != "facts"}
    tags = [f"<{name}>\n{value}\n</{name}>" for name, value in plain.items()]
    fact = "<facts><item><name>x</name><kind>a</kind></item></facts>"
    return "\n\n".join([*tags, fact])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
