"""The prompt formats that a request may choose from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy
from dspy.adapters.xml_adapter import XMLAdapter

from dspex_worker.faults import ArgumentError


class Adapters:
    """One adapter object for each choice; they keep no state between calls."""

    def __init__(self) -> None:
        self._made: Mapping[tuple[str, bool], Any] = {
            ("chat", True): dspy.ChatAdapter(),
            ("chat", False): dspy.ChatAdapter(use_json_adapter_fallback=False),
            ("json", True): dspy.JSONAdapter(),
            ("json", False): dspy.JSONAdapter(),
            ("xml", True): XMLAdapter(),
            ("xml", False): XMLAdapter(use_json_adapter_fallback=False),
        }

    def get(self, spec: Any) -> Any:
        """Return the adapter for a request's ``adapter``.

        Args:
            spec: ``{"name": "chat" | "json" | "xml", "json_fallback": bool?}``, or None for
                DSPy's default: chat. With the fallback, as in DSPy, an answer that cannot be
                parsed is asked for once more as JSON.

        Raises:
            ArgumentError: there is no such adapter.
        """
        if spec is None:
            return self._made["chat", True]
        if not isinstance(spec, dict):
            raise ArgumentError(f"adapter is an object, not {spec!r}")
        fallback = spec.get("json_fallback")
        try:
            return self._made[spec.get("name", "chat"), fallback is not False]
        except (KeyError, TypeError):
            name = spec.get("name")
            raise ArgumentError(f"no adapter {name!r}: there are chat, json and xml") from None
