"""Errors both ways: what Go answered becomes an exception, what a program raised an ERROR payload.

A language model's failure passes through DSPy as a canonical lm15 error, which DSPy's
`error_boundary` (dspy/clients/errors.py) wraps in its public counterpart, keeping ours as the
cause. The host's reference of the Go error rides on our exception and is found again along the
chain of causes, so that the Go error keeps its identity.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

import greenlet
import orjson
import pydantic
from dspy import lm15
from dspy.utils import exceptions as public

from dspex_worker import faults

# A traceback is for a person to read; deep recursion makes thousands of lines.
_TRACEBACK_LIMIT: Final = 16 << 10
# An answer that could not be parsed is returned whole unless it would make a frame absurd.
_COMPLETION_LIMIT: Final = 1 << 20
_MESSAGE_LIMIT: Final = 16 << 10
_CHAIN_LIMIT: Final = 32

_PYDANTIC_LINK: Final = re.compile(r"\s*For further information visit \S+")

_KIND_TO_ERROR: Final = MappingProxyType(
    {
        "rate_limit": lm15.RateLimitError,
        "timeout": lm15.TimeoutError,
        "server": lm15.ServerError,
        "transport": lm15.TransportError,
        "context_length": lm15.ContextLengthError,
        "auth": lm15.AuthError,
        "billing": lm15.BillingError,
        "invalid_request": lm15.InvalidRequestError,
        "unsupported_model": lm15.UnsupportedModelError,
        "unsupported_feature": lm15.UnsupportedFeatureError,
        "provider": lm15.ProviderError,
        "not_configured": lm15.NotConfiguredError,
        "unexpected": lm15.LM15Error,
    }
)

# Most specific first; the first class that fits names the kind.
_ERROR_TO_KIND: Final = (
    (public.ContextWindowExceededError, "context_length"),
    (public.LMUnsupportedModelError, "unsupported_model"),
    (public.LMInvalidRequestError, "invalid_request"),
    (public.LMRateLimitError, "rate_limit"),
    (public.LMTimeoutError, "timeout"),
    (public.LMServerError, "server"),
    (public.LMTransportError, "transport"),
    (public.LMAuthError, "auth"),
    (public.LMBillingError, "billing"),
    (public.LMUnsupportedFeatureError, "unsupported_feature"),
    (public.LMConfigurationError, "not_configured"),
    (public.LMProviderError, "provider"),
)


def from_host(payload: bytes) -> BaseException:
    """Return the exception for an ERROR that answers a call to the host.

    Args:
        payload: the JSON of the ERROR frame. With code ``"lm"`` the result is an lm15 error of the
            class that ``lm.kind`` names (an unknown kind: LM15Error), whose ``dspex_ref`` is the
            payload's ``ref``; with any other code an `Abort`, ``"canceled"`` a `Canceled`.
    """
    try:
        body = orjson.loads(payload)
        code, message = body["code"], str(body.get("message", ""))
        ref = body.get("ref")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return faults.Abort("internal", f"the host sent an unreadable error: {payload[:200]!r}")
    if code == "canceled":
        canceled = faults.Canceled(message or "the call was canceled")
        canceled.ref = ref
        return canceled
    if code != "lm":
        return faults.Abort(str(code), message, ref, _rest(body))
    return _lm_error(body.get("lm") or {}, message, ref)


def _rest(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("code", "message", "ref")}


def _lm_error(lm: dict[str, Any], message: str, ref: int | None) -> Exception:
    kind = lm.get("kind", "unexpected")
    cls = _KIND_TO_ERROR.get(kind, lm15.LM15Error)
    error: Exception = cls(
        message,
        provider=lm.get("provider"),
        provider_code=lm.get("provider_code"),
        status=lm.get("status"),
        request_id=lm.get("request_id"),
        retry_after=lm.get("retry_after"),
    )
    error.dspex_ref = ref  # type: ignore[attr-defined]
    error.dspex_message = message  # type: ignore[attr-defined]  # lm15 adds advice to some
    return error


def _parse_message(error: public.AdapterParseError) -> str:
    """Return what is wrong with an answer, without the answer, which travels beside it.

    The text before "Adapter … failed" is DSPy's reason, where it has one
    (dspy/utils/exceptions.py); pydantic's part of it ends in links to its own pages.
    """
    reason, _, _ = error.message.partition(f"Adapter {error.adapter_name} failed to parse")
    reason = _PYDANTIC_LINK.sub("", reason).strip()
    if not reason:
        found = ", ".join(error.parsed_result or ()) or "none"
        reason = (
            f"it has the outputs {found}, wanted are {', '.join(error.signature.output_fields)}"
        )
    return f"the model's answer is not in the form that {error.adapter_name} asked for: {reason}"


def to_host(error: BaseException, completion: str | None = None) -> dict[str, Any]:
    """Return the ERROR body for an exception that ended a call.

    Args:
        error: what was raised.
        completion: the raw text of the last answer of the model, if any.

    Returns:
        ``code`` and ``message``, and as far as they apply ``python`` (type, mro, message,
        traceback), ``lm``, ``completion``, ``adapter`` and ``ref``.
    """
    if isinstance(error, faults.Fault):
        body = _body(error.code, str(error))
        if error.__cause__ is not None:
            body["python"] = describe(error.__cause__)
        return body
    if isinstance(error, faults.Abort):
        body = {**error.details, **_body(error.code, str(error))}
    elif isinstance(error, greenlet.GreenletExit):
        body = _body("canceled", "the call was canceled")
    elif isinstance(error, public.AdapterParseError):
        body = _body("parse_failed", _parse_message(error))
        body["adapter"] = error.adapter_name
        answer = completion if completion is not None else str(error.lm_response)
        body["completion"] = _cut(answer, _COMPLETION_LIMIT)
        body["python"] = describe(error)
    elif isinstance(error, public.LMError):
        body = _body("lm", _given_message(error) or error.message or str(error))
        body["lm"] = _lm_fields(error)
        body["python"] = describe(error)
    elif isinstance(error, pydantic.ValidationError):
        body = _body("invalid_output", str(error))
        body["python"] = describe(error)
    else:
        body = _body("python", f"{type(error).__name__}: {error}".rstrip(": "))
        body["python"] = describe(error)
    ref = find_ref(error)
    if ref is not None:
        body["ref"] = ref
    return body


def _given_message(error: BaseException) -> str | None:
    """Return the message of the Go error behind a language model's failure, as it was given."""
    for link in chain(error):
        message = getattr(link, "dspex_message", None)
        if message is not None:
            return str(message)
    return None


def _body(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": _cut(message, _MESSAGE_LIMIT)}


def _lm_fields(error: Any) -> dict[str, Any]:
    kind = next((kind for cls, kind in _ERROR_TO_KIND if isinstance(error, cls)), "unexpected")
    fields = {
        "kind": kind,
        "status": error.status,
        "retry_after": error.retry_after,
        "request_id": error.request_id,
        "provider": error.provider,
        "provider_code": error.provider_code,
    }
    return {key: value for key, value in fields.items() if value is not None}


def describe(error: BaseException) -> dict[str, Any]:
    """Return what a person needs to find a Python error: type, mro, message and traceback."""
    try:
        lines = traceback.format_exception(error)
    except Exception as second:  # a __str__ of user code may raise
        lines = [f"(the traceback could not be formatted: {second!r})"]
    return {
        "type": _qualified(type(error)),
        "mro": [_qualified(cls) for cls in type(error).__mro__ if cls is not object],
        "message": _cut(_text(error), _MESSAGE_LIMIT),
        "traceback": _tail("".join(lines), _TRACEBACK_LIMIT),
    }


def _qualified(cls: type) -> str:
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return f"(no text: {_qualified(type(error))}.__str__ raised)"


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes, nearest first; at most 32."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < _CHAIN_LIMIT:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def find_ref(error: BaseException) -> int | None:
    """Return the reference of the Go error that caused ``error``, or None."""
    for link in chain(error):
        ref = link.ref if isinstance(link, faults.Abort) else getattr(link, "dspex_ref", None)
        if ref is not None:
            return int(ref)
    return None


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text)} characters in all)"


def _tail(text: str, limit: int) -> str:
    """Keep the end: the innermost frames are what matters."""
    if len(text) <= limit:
        return text
    return f"… ({len(text)} characters in all)\n{text[-limit:]}"


def encode(body: dict[str, Any]) -> bytes:
    """Return an ERROR body as JSON; text that is not valid Unicode is escaped, never an error."""
    try:
        return orjson.dumps(body)
    except TypeError:
        return orjson.dumps(_clean(body))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 64:
        return value
    return str(value).encode("utf-8", "backslashreplace").decode()
