"""Settings of language models and predictors, checked before DSPy acts on them.

DSPy takes such settings as keyword arguments, among others that mean something else altogether: a
key named ``cache`` would switch DSPy's own cache on, ``engine`` replace the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dspy import lm15
from dspy.clients import backend_selection

from dspex_worker.faults import ArgumentError

# What LM.__init__, LM.__call__ and Predict.__init__ take besides settings of the generation.
_TAKEN: Final = frozenset(
    {
        "async_engine",
        "cache",
        "callbacks",
        "engine",
        "finetuning_model",
        "launch_kwargs",
        "lm",
        "lm_kwargs",
        "messages",
        "model",
        "model_type",
        "num_retries",
        "prompt",
        "prompt_cache",
        "provider",
        "request",
        "self",
        "signature",
        "train_kwargs",
        "use_developer_role",
    }
) | frozenset(backend_selection.CLIENT_KEYS)
# What DSPy keeps to itself and does not put into the request.
_KEPT: Final = frozenset({"n", "num_generations", "rollout_id"})


def check(config: Any) -> dict[str, Any]:
    """Return the settings as a dict if DSPy can put them into a request.

    Args:
        config: settings under DSPy's names, such as ``temperature`` and ``max_tokens``; None
            stands for none.

    Raises:
        ArgumentError: a setting is unknown, has no place here or a value that cannot be sent.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ArgumentError(f"settings are an object, not {config!r}")
    taken = sorted(_TAKEN.intersection(config))
    if taken:
        raise ArgumentError(f"not settings of a language model's call: {', '.join(taken)}")
    n = config.get("n")
    if n is not None and (type(n) is not int or n < 1):
        raise ArgumentError(f"n is a positive whole number, not {n!r}")
    body = {k: v for k, v in config.items() if k not in _KEPT and v is not None}
    body["model"] = "check"
    body["messages"] = [{"role": "user", "content": "check"}]
    try:
        # What dspy/clients/execution.py does with each request.
        lm15.request_from_openai_chat(body)
    except (lm15.LM15Error, TypeError, ValueError) as error:
        raise ArgumentError(f"settings that cannot be sent: {error}") from error
    return dict(config)
