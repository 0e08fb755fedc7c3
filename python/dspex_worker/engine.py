"""The engine of every language model in a worker: it asks the host.

DSPy's LM calls `complete` with a canonical request (dspy/clients/engines/base.py); the request
goes to the host as it is, and the host's answer becomes the canonical response. An engine makes
one attempt and yields one candidate: retries, caching and budgets are the host's.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import dspy
import orjson
from dspy import lm15
from dspy._vendor.lm15 import serde

from dspex_worker.calls import SETTING, Call
from dspex_worker.faults import Abort
from dspex_worker.markers import Markers


class Attempt:
    """What one call of an LM object knows and its requests do not carry.

    Attributes:
        rollout_id: the rollout the call belongs to; None for none.
        candidate: the index of the next candidate: with ``n`` above 1, DSPy makes equal requests
            one after the other.
    """

    __slots__ = ("candidate", "rollout_id")

    def __init__(self, rollout_id: int | None) -> None:
        self.rollout_id = rollout_id
        self.candidate = 0


ATTEMPT: Final[contextvars.ContextVar[Attempt | None]] = contextvars.ContextVar(
    "dspex_attempt", default=None
)


class _Engine:
    """What the engines for plain and for async code share.

    Args:
        route: the name by which the host knows the model; None when there is none.
        markers: what must not leave the worker.
    """

    def __init__(self, route: str | None, markers: Markers) -> None:
        self.route = route
        self._markers = markers

    def __copy__(self) -> _Engine:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Engine:
        return self  # a program's copy asks the same host

    def _prepare(self, request: Any) -> tuple[Call, bytes]:
        """Return the call that runs, and the body to send."""
        call: Call | None = dspy.settings.get(SETTING)
        if call is None:
            raise lm15.NotConfiguredError("this language model is only usable in a call of dspex")
        if self.route is None:
            raise Abort("invalid_argument", "the program needs a language model: none is given")
        attempt = ATTEMPT.get()
        candidate, rollout_id = 0, None
        if attempt is not None:
            candidate, rollout_id = attempt.candidate, attempt.rollout_id
            attempt.candidate += 1
        return call, self.encode(call, serde.request_to_dict(request), rollout_id, candidate)

    def encode(
        self, call: Call, request: dict[str, Any], rollout_id: int | None, candidate: int
    ) -> bytes:
        """Return the body of a call to the host.

        The same request of the same program gives the same bytes in any worker: the host answers
        from its journal when it runs a program again.

        Args:
            call: the call that runs.
            request: the canonical request; it is given the route as its model.
            rollout_id: the rollout it belongs to; None for the call's own, if it has one.
            candidate: the index of the candidate.

        Raises:
            TypeError: text in it is not valid Unicode.
        """
        request["model"] = self.route
        body = {
            "request": request,
            "model": self.route,
            "rollout_id": call.rollout_id if rollout_id is None else rollout_id,
            "candidate": candidate,
            "predictor": _predictor(call),
        }
        return self._markers.restore_bytes(orjson.dumps(body))


class GatewayEngine(_Engine):
    """The engine for plain code: parks the greenlet, or blocks the thread, until it is answered."""

    def complete(self, request: Any) -> Any:
        """Return the host's response to one request.

        Raises:
            lm15.LM15Error: the model failed, in the class of the host's error.
            Abort: the call was canceled, its budget is spent, and the like.
        """
        call, body = self._prepare(request)
        return read_response(call, call.ask("lm.complete", body))

    def stream(self, request: Any) -> Iterator[Any]:
        """Yield the canonical events of one request as they arrive.

        Raises:
            As `complete`.
        """
        call, body = self._prepare(request)
        for item in call.ask_stream("lm.stream", body):
            yield read_event(item)


class AsyncGatewayEngine(_Engine):
    """The engine for async code."""

    async def complete(self, request: Any) -> Any:
        """As `GatewayEngine.complete`."""
        call, body = self._prepare(request)
        return read_response(call, await call.ask_async("lm.complete", body))

    async def stream(self, request: Any) -> AsyncIterator[Any]:
        """As `GatewayEngine.stream`."""
        call, body = self._prepare(request)
        async for item in call.ask_stream_async("lm.stream", body):
            yield read_event(item)


def _predictor(call: Call) -> str | None:
    """Return the name of the predictor that is asking, as the program names it."""
    modules = dspy.settings.get("caller_modules")
    if not modules:
        return None
    return call.names.get(id(modules[-1]))


def loads_response(body: bytes) -> Any:
    """Return the JSON of the response in the host's answer.

    Raises:
        Abort: there is none.
    """
    try:
        return orjson.loads(body)["response"]
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def read_response(call: Call, body: bytes) -> Any:
    """Return the canonical response in the host's answer, and note its text in the call.

    Raises:
        Abort: it is none.
    """
    try:
        response = serde.response_from_dict(loads_response(body))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(error) from error
    call.completion = text_of(response)
    return response


def _unreadable(error: Exception) -> Abort:
    return Abort("internal", f"the host's response cannot be read: {error!r}")


def text_of(response: Any) -> str:
    """Return what the model said, without what it thought."""
    return "".join(part.text for part in response.message.parts if part.type in _SAID)


_SAID: Final = frozenset({"text", "refusal"})


def read_event(item: bytes) -> Any:
    """Return the canonical stream event in an item."""
    try:
        return serde.stream_event_from_dict(orjson.loads(item))
    except (KeyError, TypeError, ValueError) as error:
        raise Abort("internal", f"the host's event cannot be read: {error!r}") from error
