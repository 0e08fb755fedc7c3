"""The work itself: a plain DSPy loop in one process, answered by an instant engine.

Reads one JSON object per line from standard input, ``{"n": int}``, runs that many
predictions one after the other, and answers ``{"seconds": float, "cpu": float}`` (wall
and processor time, in seconds). History, trace and cache are off, as in a worker, so
that the comparison is with DSPy at its fastest.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import dspy
from dspy.lm15 import Request, Response
from dspy._vendor.lm15.serde import response_from_dict


class Instant:
    """An engine that always gives the same answer."""

    def __init__(self, text: str) -> None:
        """Keep ``text``, the completion that every request gets."""
        self._response = {
            "model": "bare",
            "message": {"role": "assistant", "parts": [{"type": "text", "text": text}]},
            "finish_reason": "stop",
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }

    def complete(self, request: Request) -> Response:
        """Return the answer."""
        return response_from_dict(self._response)


def main() -> None:
    """Answer requests until standard input ends."""
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    text = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n"
    lm = dspy.LM("bare", engine=Instant(text), cache=False, num_retries=0)
    signature = dspy.make_signature(
        {"question": (str, dspy.InputField()), "answer": (str, dspy.OutputField())},
        "Answer the question.",
    )
    predict = dspy.Predict(signature)
    settings: dict[str, Any] = {"lm": lm, "adapter": dspy.ChatAdapter(), "disable_history": True}
    for line in sys.stdin:
        n = json.loads(line)["n"]
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(n):
            with dspy.context(**settings, trace=[]):
                if predict(question="What is the capital of France?").answer != "Paris":
                    raise RuntimeError("wrong answer")
        taken = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
