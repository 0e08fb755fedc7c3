"""The modules that a specification may name, and the way in which each of them runs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import dspy


class Way(enum.Enum):
    """How a program's code runs in the worker."""

    GREENLET = "greenlet"  # plain code that waits for nothing but the host
    THREAD = "thread"  # plain code that blocks, or starts threads that ask the host
    ASYNC = "async"  # the module's `aforward`, on the event loop's thread


class Kind(NamedTuple):
    """A module.

    Attributes:
        build: makes one from a signature and the settings of its predictor.
        way: how it runs.
    """

    build: Callable[[Any, dict[str, Any]], Any]
    way: Way


def _predict(signature: Any, config: dict[str, Any]) -> Any:
    return dspy.Predict(signature, **config)


def _chain_of_thought(signature: Any, config: dict[str, Any]) -> Any:
    return dspy.ChainOfThought(signature, **config)


MODULES: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "predict": Kind(_predict, Way.GREENLET),
        "chain_of_thought": Kind(_chain_of_thought, Way.GREENLET),
    }
)
