"""The event loop for async programs: a thread of its own, started when first needed."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class LoopThread:
    """An event loop on a daemon thread, which ends with the process."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, make: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run the coroutine that ``make`` returns, in a copy of the caller's context.

        Returns:
            A function that cancels it, for any thread.
        """
        loop = self._start()
        context = contextvars.copy_context()
        tasks: list[asyncio.Task[None]] = []
        canceled = threading.Event()

        def start() -> None:
            task = loop.create_task(make())
            tasks.append(task)
            task.add_done_callback(_retrieve)
            if canceled.is_set():
                task.cancel()

        def cancel() -> None:
            canceled.set()
            loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])

        loop.call_soon_threadsafe(start, context=context)
        return cancel

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            thread = threading.Thread(
                target=self._loop.run_forever, name="dspex-async", daemon=True
            )
            thread.start()
        return self._loop


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take a task's exception so that asyncio prints nothing; the task has dealt with it."""
    if not task.cancelled():
        task.exception()
