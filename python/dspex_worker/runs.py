"""``program.run``: one request of a program, from its body to its answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import dspy
import orjson

from dspex_worker import configs, values
from dspex_worker.adapters import Adapters
from dspex_worker.calls import SETTING, Call
from dspex_worker.faults import ArgumentError, OutputError
from dspex_worker.loops import LoopThread
from dspex_worker.markers import Markers
from dspex_worker.model import Models
from dspex_worker.modules import Way
from dspex_worker.programs import Program, Programs


class Run(NamedTuple):
    """A request that is ready to run.

    Attributes:
        call: the call it came in.
        program: the built program.
        arguments: the keyword arguments of the module.
        settings: what is in force for DSPy while it runs.
        traced: whether the answer shall contain the trace.
    """

    call: Call
    program: Program
    arguments: dict[str, Any]
    settings: dict[str, Any]
    traced: bool


class Runner:
    """Runs programs.

    Args:
        programs: where they are.
        markers: what must not leave the worker.
    """

    def __init__(self, programs: Programs, markers: Markers) -> None:
        self._programs = programs
        self._markers = markers
        self._models = Models(markers)
        self._adapters = Adapters()
        self._loop = LoopThread()

    def start(self, call: Call) -> None:
        """Run a request to its answer; in a greenlet, which ends early where the way is another.

        Raises:
            BaseException: whatever ended the run.
        """
        run = self._prepare(call)
        if run.program.way is Way.GREENLET:
            call.answer(*self._execute(run))
        elif run.program.way is Way.THREAD:
            thread = threading.Thread(
                target=self._in_thread, args=(run,), name=f"dspex-run-{call.stream}", daemon=True
            )
            thread.start()
        else:
            call.on_cancel(self._loop.submit(lambda: self._in_loop(run)))

    def _prepare(self, call: Call) -> Run:
        inbound = call.inbound
        body = parse(inbound.body)
        program = self._programs.get(body.get("program"))
        arguments = program.inputs.read(body.get("inputs"), inbound.attachments, inbound.body)
        if body.get("config"):
            arguments["config"] = configs.check(body["config"])
        if body.get("demos") is not None:
            arguments["demos"] = program.demos.read(body["demos"], inbound.attachments)
        rollout = body.get("rollout_id")
        if rollout is not None and type(rollout) is not int:
            raise ArgumentError(f"rollout_id is a whole number, not {rollout!r}")
        call.rollout_id = rollout
        call.names = program.names
        settings = {
            "lm": self._models.get(body.get("lm")),
            "adapter": self._adapters.get(body.get("adapter")),
            "trace": [],
            "callbacks": [],
            "disable_history": True,
            "track_usage": False,
            "usage_tracker": None,
            "send_stream": None,
            "stream_listeners": [],
            "caller_modules": None,
            # Inputs have been checked more strictly than DSPy does.
            "warn_on_type_mismatch": False,
            SETTING: call,
        }
        return Run(call, program, arguments, settings, bool(body.get("trace")))

    def _execute(self, run: Run) -> tuple[bytes, list[bytes]]:
        with dspy.context(**run.settings):
            prediction = run.program.module(**run.arguments)
            return self._encode(run, prediction)

    def _in_thread(self, run: Run) -> None:
        try:
            body, attachments = self._execute(run)
        except BaseException as error:
            run.call.fail(error)
        else:
            run.call.answer(body, attachments)

    async def _in_loop(self, run: Run) -> None:
        try:
            with dspy.context(**run.settings):
                prediction = await run.program.module.acall(**run.arguments)
                body, attachments = self._encode(run, prediction)
        except BaseException as error:
            run.call.fail(error)
        else:
            run.call.answer(body, attachments)

    def _encode(self, run: Run, prediction: Any) -> tuple[bytes, list[bytes]]:
        attachments: list[bytes] | None = [] if run.program.has_bytes else None
        if not isinstance(prediction, dspy.Prediction):
            raise OutputError(f"the program returned {type(prediction).__name__}, no Prediction")
        answer: dict[str, Any] = {"outputs": values.write(prediction.toDict(), attachments)}
        completions = prediction.completions
        if completions is not None and len(completions) > 1:
            answer["completions"] = [
                values.write(completions[i].toDict(), attachments) for i in range(len(completions))
            ]
        if run.traced:
            answer["trace"] = _trace(run, run.settings["trace"], attachments)
        return self._markers.restore_bytes(values.dumps(answer)), attachments or []


def _trace(
    run: Run, trace: Sequence[tuple[Any, dict[str, Any], Any]], attachments: list[bytes] | None
) -> list[dict[str, Any]]:
    return [
        {
            "predictor": run.program.names.get(id(predictor)),
            "inputs": values.write(inputs, attachments),
            "outputs": values.write(prediction.toDict(), attachments),
        }
        for predictor, inputs, prediction in trace
    ]


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a call's body; an empty body is an empty object.

    Raises:
        ArgumentError: it is none.
    """
    try:
        parsed = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise ArgumentError(f"the body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise ArgumentError(f"the body is an object, not {type(parsed).__name__}")
    return parsed
