"""The language model that programs see: a `dspy.LM` whose engine is the gateway."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import dspy
import orjson
from dspy.clients import lm as dspy_lm
from dspy.clients.errors import error_boundary

from dspex_worker import configs
from dspex_worker.engine import ATTEMPT, AsyncGatewayEngine, Attempt, GatewayEngine
from dspex_worker.faults import ArgumentError
from dspex_worker.markers import Markers
from dspex_worker.shortcut import Shortcut, outputs

# DSPy reads meaning into a model's name: one that ends like a reasoning model's is refused
# ordinary settings (dspy/clients/lm.py, _is_openai_reasoning_model), "openai/" picks a trainer.
_ALIAS: Final = "route:"
# Kept LM objects; each is about 2 KB.
_CACHED: Final = 256
_NO_ROUTE: Final = "none"


def alias(route: str) -> str:
    """Return a name for a route that DSPy reads no meaning into: the route itself if it can."""
    neutral = not (
        dspy_lm._is_openai_reasoning_model(route)  # noqa: SLF001
        or dspy_lm.OpenAIProvider.is_provider_model(route)
        or "gpt-5" in route
        or route.endswith("/")
    )
    return route if neutral else _ALIAS + route.replace("/", ":").replace("gpt-5", "gpt_5")


class GatewayLM(dspy.LM):  # type: ignore[misc]  # DSPy ships no types
    """A language model reached through the host.

    Args:
        route: the host's name for it; None makes a model that refuses every call.
        supports: what the host says it can do: ``response_schema``, ``function_calling`` and
            ``reasoning`` as booleans, ``params`` as a list of parameter names.
        config: settings of every call, already checked.
        markers: what must not leave the worker.
    """

    def __init__(
        self, route: str | None, supports: dict[str, Any], config: dict[str, Any], markers: Markers
    ) -> None:
        self._supports = supports
        self._params = set(supports.get("params") or ())
        super().__init__(
            model=_NO_ROUTE if route is None else alias(route),
            engine=GatewayEngine(route, markers),
            async_engine=AsyncGatewayEngine(route, markers),
            cache=False,
            num_retries=0,
            **config,
        )

    @property
    def supports_function_calling(self) -> bool:
        """Whether the model takes tools."""
        return bool(self._supports.get("function_calling"))

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model has a reasoning mode of its own."""
        return bool(self._supports.get("reasoning"))

    @property
    def supports_response_schema(self) -> bool:
        """Whether the model can be held to a JSON schema."""
        return bool(self._supports.get("response_schema"))

    @property
    def supported_params(self) -> set[str]:
        """The parameters the model takes, under OpenAI's names."""
        return self._params

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """As `dspy.LM`, telling the engine the rollout and which candidate it is asked for."""
        rollout_id = self._rollout(kwargs)
        if prompt is None:
            plain = self._shortcut().prepare(messages, kwargs, rollout_id)
            if plain is not None:
                call, body = plain
                with error_boundary(self.model, unexpected=True):
                    return outputs(call, call.ask("lm.complete", body))
        token = ATTEMPT.set(Attempt(rollout_id))
        try:
            return super().__call__(prompt, messages=messages, **kwargs)
        finally:
            ATTEMPT.reset(token)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """As `__call__`, for async code."""
        rollout_id = self._rollout(kwargs)
        if prompt is None:
            plain = self._shortcut().prepare(messages, kwargs, rollout_id)
            if plain is not None:
                call, body = plain
                with error_boundary(self.model, unexpected=True):
                    return outputs(call, await call.ask_async("lm.complete", body))
        token = ATTEMPT.set(Attempt(rollout_id))
        try:
            return await super().acall(prompt, messages=messages, **kwargs)
        finally:
            ATTEMPT.reset(token)

    def _shortcut(self) -> Shortcut:
        """Return the short way of this object: a copy with other settings has one of its own."""
        made: Shortcut | None = self.__dict__.get("_short")
        if made is None or made.lm is not self:
            made = self.__dict__["_short"] = Shortcut(self, self._engine_spec)
        return made

    def _rollout(self, kwargs: dict[str, Any]) -> int | None:
        rollout = kwargs.get("rollout_id", self.kwargs.get("rollout_id"))
        return None if rollout is None else int(rollout)


class Models:
    """Makes language models and keeps those in use; for one thread.

    Args:
        markers: what must not leave the worker.
    """

    def __init__(self, markers: Markers) -> None:
        self._markers = markers
        self._cache: OrderedDict[bytes, GatewayLM] = OrderedDict()

    def get(self, spec: Any) -> GatewayLM:
        """Return the model for a request's ``lm``.

        Args:
            spec: ``{"model", "supports", "config"}``, or None for no model.

        Raises:
            ArgumentError: it is malformed or its settings cannot be sent.
        """
        key = orjson.dumps(spec)
        model = self._cache.get(key)
        if model is None:
            model = self._cache[key] = self._make(spec)
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return model

    def _make(self, spec: Any) -> GatewayLM:
        if spec is None:
            return GatewayLM(None, {}, {}, self._markers)
        if not isinstance(spec, dict):
            raise ArgumentError(f"lm is an object or null, not {spec!r}")
        route, supports = spec.get("model"), spec.get("supports") or {}
        if not isinstance(route, str) or not route:
            raise ArgumentError(f"lm.model is the name of a route, not {route!r}")
        if not isinstance(supports, dict):
            raise ArgumentError(f"lm.supports is an object, not {supports!r}")
        return GatewayLM(route, supports, configs.check(spec.get("config")), self._markers)
