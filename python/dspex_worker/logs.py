"""Where log records go: to standard error, which the host captures line by line."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, TextIO

_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"


if TYPE_CHECKING:
    _Handler = logging.StreamHandler[TextIO]
else:  # Python 3.10 cannot subscript the class
    _Handler = logging.StreamHandler


class _Stderr(_Handler):
    """Writes to whatever standard error is when the record is written."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(level: str = "WARNING") -> None:
    """Send the records of all loggers, and Python's warnings, to standard error.

    Args:
        level: the lowest level that is written, for loggers that have no level of their own.
    """
    root = logging.getLogger()
    if len(root.handlers) == 1 and isinstance(root.handlers[0], _Stderr):
        root.setLevel(level)
        return
    handler = _Stderr(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # DSPy has a handler of its own, which would write each record a second time in another form.
    dspy_logger = logging.getLogger("dspy")
    dspy_logger.handlers.clear()
    dspy_logger.propagate = True
    dspy_logger.setLevel(logging.NOTSET)
