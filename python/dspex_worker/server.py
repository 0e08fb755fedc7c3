"""The methods that the host may call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import orjson

from dspex_worker import info, runs
from dspex_worker.calls import Call
from dspex_worker.connection import Connection, Inbound
from dspex_worker.faults import ArgumentError
from dspex_worker.hub import Hub
from dspex_worker.programs import Programs
from dspex_worker.runs import Runner

Method: TypeAlias = Callable[["Server", Call], None]


class Server:
    """Serves the host's calls, each in a greenlet of its own; belongs to the hub's thread.

    Args:
        hub: the loop.
        programs: where programs are.
        runner: runs them.
        extra: further methods, by name.
    """

    def __init__(
        self,
        hub: Hub,
        programs: Programs,
        runner: Runner,
        extra: Mapping[str, Method] | None = None,
    ) -> None:
        self.hub = hub
        self.programs = programs
        self.runner = runner
        self.connection: Connection
        self._methods = MappingProxyType({**METHODS, **(extra or {})})
        self._calls: dict[int, Call] = {}

    def call(self, inbound: Inbound) -> None:
        """See `dspex_worker.connection.Server`."""
        call = Call(self.hub, self.connection, inbound, self._calls.pop)
        self._calls[inbound.stream] = call
        self.hub.spawn(self._serve, call)

    def cancel(self, stream: int) -> None:
        """See `dspex_worker.connection.Server`."""
        call = self._calls.get(stream)
        if call is not None:
            call.cancel()

    def count(self) -> int:
        """Return how many calls are under way."""
        return len(self._calls)

    def _serve(self, call: Call) -> None:
        try:
            call.check()
            method = self._methods.get(call.inbound.method)
            if method is None:
                known = ", ".join(sorted(self._methods))
                raise ArgumentError(f"no method {call.inbound.method!r}: there are {known}")
            method(self, call)
        except BaseException as error:
            call.fail(error)


def _put(server: Server, call: Call) -> None:
    body = runs.parse(call.inbound.body)
    server.programs.put(body.get("hash"), body.get("spec"))
    call.answer(b"{}")


def _check(server: Server, call: Call) -> None:
    program = server.programs.get(runs.parse(call.inbound.body).get("program"))
    call.answer(orjson.dumps({"predictors": program.predictor_names()}))


def _run(server: Server, call: Call) -> None:
    server.runner.start(call)


def _echo(server: Server, call: Call) -> None:  # noqa: ARG001
    call.answer(call.inbound.body, call.inbound.attachments)


def _info(server: Server, call: Call) -> None:
    facts: dict[str, Any] = info.collect(len(server.programs), server.count())
    call.answer(orjson.dumps(facts))


METHODS: Final = MappingProxyType(
    {
        "program.check": _check,
        "program.put": _put,
        "program.run": _run,
        "worker.echo": _echo,
        "worker.info": _info,
    }
)
