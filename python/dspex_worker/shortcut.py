"""The short way of a plain request to the host, beside DSPy's general one.

`dspy.LM` serves every backend there is: each call is validated, converted to a canonical request
(dspy/clients/execution.py, dspy/_vendor/lm15), converted again for the wire, and the answer runs
the same way back. For most calls of a worker - text messages, one candidate, no tools - all of this
ends in the same bytes and the same text as what is done here, at a third of a request's whole cost.
Whatever is not plain goes the general way, and so does everything that raises there.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from dspy._vendor.lm15 import serde
from dspy._vendor.lm15.types import FINISH_REASONS
from dspy.clients import execution
from dspy.dsp.utils.settings import thread_local_overrides

from dspex_worker.calls import SETTING, Call
from dspex_worker.engine import GatewayEngine, loads_response, read_response

# Settings of calls remembered for one model; then it begins anew.
_SETTINGS: Final = 128
# What makes a call more than plain; the rest is settings of the generation.
_GENERAL: Final = frozenset(
    {"cache", "logprobs", "n", "num_generations", "prompt_cache", "request", "tools"}
)
_ROW: Final = frozenset({"role", "content"})
_PROBE: Final = ({"role": "user", "content": "x"},)


class Shortcut:
    """The short way for one `GatewayLM`.

    Args:
        lm: the model.
        engine: its engine, which knows how to reach the host.

    Attributes:
        lm: the model.
    """

    def __init__(self, lm: Any, engine: GatewayEngine) -> None:
        self.lm = lm
        self._engine = engine
        self._configs: dict[Any, dict[str, orjson.Fragment] | None] = {}

    def prepare(
        self, messages: Any, kwargs: dict[str, Any], rollout_id: int | None
    ) -> tuple[Call, bytes] | None:
        """Return the call that runs and the body to send, or None if the call is not plain.

        Args:
            messages: rows of role and content, as DSPy's adapters make them.
            kwargs: settings of the call.
            rollout_id: the rollout it belongs to.
        """
        settings = thread_local_overrides.get()
        call = settings.get(SETTING)
        if (
            call is None
            or self._engine.route is None
            or not settings["disable_history"]
            or settings["usage_tracker"]
            or settings["send_stream"] is not None
            or settings["callbacks"]
            or self.lm.callbacks
        ):
            return None
        config = self._config(kwargs)
        if config is None:
            return None
        request = _request(messages)
        if request is None:
            return None
        request.update(config)
        try:
            return call, self._engine.encode(call, request, rollout_id, 0)
        except TypeError:
            return None  # text that is not Unicode: the general way says so

    def _config(self, kwargs: dict[str, Any]) -> dict[str, orjson.Fragment] | None:
        """Return the request's ``config``, if it has one, or None if the call is not plain."""
        try:
            key = self._key(kwargs)
        except TypeError:  # a value that cannot be remembered
            return None
        if key in self._configs:
            return self._configs[key]
        if len(self._configs) >= _SETTINGS:
            self._configs.clear()
        config = self._configs[key] = self._make_config(kwargs)
        return config

    def _key(self, kwargs: dict[str, Any]) -> Any:
        """Return what tells settings apart; 1, 1.0 and True are not the same setting."""
        items = [
            (name, type(value), value)
            for settings in (kwargs, self.lm.kwargs)
            for name, value in settings.items()
        ]
        key = tuple(items)
        try:
            hash(key)
        except TypeError:
            return orjson.dumps([kwargs, self.lm.kwargs])
        return key

    def _make_config(self, kwargs: dict[str, Any]) -> dict[str, orjson.Fragment] | None:
        if not _GENERAL.isdisjoint([*self.lm.kwargs, *kwargs]):
            return None
        try:
            # DSPy's own conversion, of a request that differs in nothing but its messages.
            prepared = execution.prepare(self.lm, None, list(_PROBE), kwargs)
            canonical = serde.request_to_dict(execution._canonical(prepared))  # noqa: SLF001
        except Exception:
            return None  # the general way raises it as it should
        if canonical.keys() - {"model", "messages", "config"}:
            return None
        if "config" not in canonical:
            return {}
        return {"config": orjson.Fragment(orjson.dumps(canonical["config"]))}


def _request(messages: Any) -> dict[str, Any] | None:
    """Return the canonical form of plain messages, or None if there is more to them."""
    if type(messages) is not list:
        return None
    request: dict[str, Any] = {}
    converted: list[dict[str, Any]] = []
    for row in messages:
        if type(row) is not dict or row.keys() != _ROW:
            return None
        role, content = row["role"], row["content"]
        if type(content) is not str or not content:
            return None
        if role == "system" and row is messages[0]:
            request["system"] = content
        elif role in ("user", "assistant"):
            converted.append({"role": role, "parts": [{"type": "text", "text": content}]})
        else:
            return None
    if not converted:
        return None
    request["messages"] = converted
    return request


def outputs(call: Call, body: bytes) -> list[Any]:
    """Return what `dspy.LM` returns for the host's answer.

    Raises:
        Abort: the answer cannot be read.
    """
    response = loads_response(body)
    try:
        message = response["message"]
        parts = message["parts"]
        if (
            parts
            and message["role"] == "assistant"
            and response["finish_reason"] in FINISH_REASONS
            and response["model"]
            and all(part["type"] == "text" for part in parts)
        ):
            text = parts[0]["text"] if len(parts) == 1 else "".join(p["text"] for p in parts)
            if type(text) is str:
                call.completion = text
                return [text]
    except (AttributeError, KeyError, TypeError):
        pass  # it is read again below, by code that says what is wrong
    result = execution.CallResult.native(read_response(call, body))
    given: list[Any] = result.outputs
    return given
