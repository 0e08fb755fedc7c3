"""The worker's own exceptions: each knows the code under which the host learns of it."""

from __future__ import annotations

from typing import Any, ClassVar


class Fault(Exception):
    """Something the worker refuses or cannot do; an ordinary exception.

    Attributes:
        code: the error code of the answer, such as ``"invalid_argument"``.
    """

    code: ClassVar[str] = "internal"


class ProgramError(Fault):
    """A program's specification cannot be built."""

    code = "invalid_program"


class ArgumentError(Fault):
    """A request carries something that cannot be used: an input, an option, an unknown method."""

    code = "invalid_argument"


class OutputError(Fault):
    """A program produced a value that cannot be returned."""

    code = "invalid_output"


class UnknownProgramError(Fault):
    """The host named a program that this worker does not hold (any more)."""

    code = "unknown_program"


class Abort(BaseException):
    """Ends a program from outside, past every ``except Exception`` of DSPy and of user code.

    DSPy passes exceptions derived from BaseException through unchanged; ReAct, for one, would turn
    an ordinary exception into an observation for the model.

    Args:
        code: the error code under which the run fails.
        message: what happened.
        ref: the host's reference of the Go error that is the cause, if there is one.
        details: further fields for the ERROR frame.
    """

    def __init__(
        self,
        code: str,
        message: str,
        ref: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.ref = ref
        self.details = details or {}


class Canceled(Abort):
    """The host canceled the call, or its connection is gone."""

    def __init__(self, message: str = "the call was canceled") -> None:
        super().__init__("canceled", message)
