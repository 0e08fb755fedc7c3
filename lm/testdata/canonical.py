"""Writes canonical.jsonl: requests, responses and stream events as DSPy 3.4 itself writes them.

Run it with a Python that has dspy: ``python canonical.py > canonical.jsonl``. With ``--check`` it
reads lines of the same form from standard input and fails unless DSPy decodes each to the same
object as the line of that name in canonical.jsonl: that is how the Go encoder is checked.
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

from dspy._vendor.lm15 import serde
from dspy._vendor.lm15 import types as t
from dspy._vendor.lm15.adaptation import Adaptation

PIXEL = "iVBORw0KGgo="
STATE = t.ContinuationState(provider="anthropic", kind="signature", data={"sig": "a+/=", "n": [1, {"x": None}]})


def requests() -> dict[str, t.Request]:
    """Returns one request per feature, by name."""
    every_part = (
        t.TextPart("héllo \"quoted\" \\ \n\t\u2028 😀 </script>"),
        t.ImagePart(media_type="image/png", data=PIXEL, detail="low"),
        t.ImagePart(media_type="image/jpeg", url="https://example.com/a.jpg?x=1&y=2"),
        t.AudioPart(media_type="audio/wav", data="UklGRg=="),
        t.VideoPart(media_type="video/mp4", url="https://example.com/v.mp4"),
        t.DocumentPart(media_type="application/pdf", file_id="file-1"),
        t.BinaryPart(media_type="application/octet-stream", path=pathlib.Path("/tmp/x.bin")),
        t.DataPart(value={"a": [1, 2.5, None, True, "s"], "big": 123456789012345678901234567890}),
        t.DataPart(value=None),
    )
    tools = (
        t.FunctionTool(name="search", description="Search.", parameters={"type": "object", "properties": {}}),
        t.FunctionTool(name="empty", parameters={}),
        t.BuiltinTool(name="web_search", config={"max_uses": 3}),
        t.BuiltinTool(name="code"),
    )
    config = t.Config(
        max_tokens=100, temperature=0.0, top_p=0.5, top_k=2, stop=("a", "\n"),
        response_format={"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True},
        tool_choice=t.ToolChoice(mode="required", allowed=("search",), parallel=False),
        reasoning=t.Reasoning(effort="low", thinking_budget=9, summary="auto"),
        cache=t.CacheConfig(mode="auto", retention="short", key="k", prefix="stable", resource="r"),
        seed=0, frequency_penalty=0.0, presence_penalty=1.0, service_tier="flex", user_id="u", store=False,
        logprobs=0, probabilities="if_available",
        extensions={"logit_bias": {"50256": -100}, "metadata": {"k": "v"}, "f": 1.0, "e": 1e-30},
    )
    user = t.Message.user("hi")
    return {
        "smallest": t.Request(model="m", messages=(user,)),
        "system text": t.Request(model="m", messages=(user,), system="Be brief."),
        "system parts": t.Request(model="m", messages=(user,), system=(t.TextPart("a"), t.TextPart("b"))),
        "every part": t.Request(model="m", messages=(t.Message(role="user", parts=every_part),)),
        "every setting": t.Request(model="go/x", messages=(user,), tools=tools, config=config),
        "json object": t.Request(
            model="m", messages=(user,), config=t.Config(response_format={"type": "json_object"})
        ),
        "cache off, reasoning off, no tools": t.Request(
            model="m", messages=(user,),
            config=t.Config(
                cache=t.CacheConfig(mode="off"), reasoning=t.Reasoning(effort="off"),
                tool_choice=t.ToolChoice(mode="none"), store=True, seed=-(2**53), max_tokens=1, logprobs=20,
            ),
        ),
        "cache prefix index": t.Request(
            model="m", messages=(user,), config=t.Config(cache=t.CacheConfig(prefix_until_index=0))
        ),
        "a conversation with tools": t.Request(
            model="m",
            messages=(
                user,
                t.Message(
                    role="assistant",
                    parts=(
                        t.ThinkingPart("hmm", continuation=(STATE,)), t.ThinkingPart(""), t.TextPart(""),
                        t.RefusalPart("no"), t.CitationPart(url="https://e.com", title="T", text="x"),
                        t.CitationPart(title="only"),
                        t.ToolCallPart(id="c1", name="search", input={"q": "a", "n": 1.0, "deep": [[{}]]}),
                        t.ToolCallPart(id="c2", name="empty", input={}),
                    ),
                    continuation=(STATE, t.ContinuationState(provider="p", kind="k")),
                ),
                t.Message(
                    role="tool",
                    parts=(
                        t.ToolResultPart(id="c1", name="search", content=(
                            t.TextPart("found"), t.ImagePart(data=PIXEL), t.DataPart(value=[1]))),
                        t.ToolResultPart(id="c2", content=(t.TextPart("boom"),), is_error=True),
                    ),
                ),
                t.Message.developer("now be formal"),
            ),
            tools=tools,
        ),
    }


def responses() -> dict[str, t.Response]:
    """Returns one response per feature, by name."""
    text = t.Message.assistant("hi")
    logprobs = (
        t.TokenLogprob(token="hi", logprob=-0.25, bytes=(104, 105), top=(
            t.TopLogprob(token="ho", logprob=-3.5, bytes=(0, 9, 99, 100, 255)),
            t.TopLogprob(token="", logprob=0.0, token_id=7))),
        t.TokenLogprob(token="é", logprob=-1e-7, bytes=()),
    )
    every_usage = t.Usage(
        input_tokens=1, output_tokens=2, total_tokens=30, cache_read_tokens=0, cache_write_tokens=5,
        reasoning_tokens=0, input_audio_tokens=7, output_audio_tokens=8,
    )
    return {
        "smallest": t.Response(id=None, model="m", message=text, finish_reason="stop", usage=t.Usage()),
        "everything": t.Response(
            id="r1", model="m", message=text, finish_reason="length", usage=every_usage, logprobs=logprobs,
            provider_data={"raw": {"x": [1.0, None]}}, logprobs_complete=False,
            adaptations=(
                Adaptation("config.seed", "dropped", "no seed here", asked=7),
                Adaptation("config.top_p", "clamped", "at most 1", asked={"a": 2}, applied=[1]),
            ),
        ),
        "zero usage": t.Response(
            id="r", model="m", message=text, finish_reason="stop", usage=t.Usage(input_tokens=0, output_tokens=0)
        ),
        "tool calls": t.Response(
            id="r", model="m", finish_reason="tool_call", usage=t.Usage(input_tokens=3),
            message=t.Message(role="assistant", parts=(
                t.TextPart("let me see"), t.ToolCallPart(id="1", name="f", input={"partial_json": '{"a'}))),
        ),
        "measured data": t.Response(
            id=None, model="m", finish_reason="stop", usage=t.Usage(),
            message=t.Message(role="assistant", parts=(t.DataPart(
                value={"label": "a"}, probabilities={"label": {"a": 0.75, "b": 0.25}},
                method="provider_classification"),)),
        ),
        "content filter": t.Response(
            id=None, model="m", message=t.Message(role="assistant", parts=(t.RefusalPart("no"),)),
            finish_reason="content_filter", usage=t.Usage(),
        ),
    }


def events() -> dict[str, t.StreamEvent]:
    """Returns one stream event per kind and feature, by name."""
    def delta(d: t.Delta) -> t.StreamDeltaEvent:
        return t.StreamDeltaEvent(delta=d)

    return {
        "bare start": t.StreamStartEvent(),
        "start": t.StreamStartEvent(id="1", model="m", adaptations=(Adaptation("tools", "dropped", "none"),)),
        "text": delta(t.TextDelta("a\u0001b")),
        "text with logprobs": delta(t.TextDelta(
            "a", part_index=3, logprobs=(t.TokenLogprob(token="a", logprob=-1.5),), logprobs_complete=False)),
        "empty text": delta(t.TextDelta("")),
        "thinking": delta(t.ThinkingDelta("t", part_index=1)),
        "tool call, first": delta(t.ToolCallDelta(input="", id="c", name="f", part_index=2)),
        "tool call, more": delta(t.ToolCallDelta(input='{"a":', part_index=2)),
        "audio": delta(t.AudioDelta(data="AAA", media_type="audio/pcm")),
        "empty audio": delta(t.AudioDelta(data="")),
        "image": delta(t.ImageDelta(url="https://e.com/i.png")),
        "image file": delta(t.ImageDelta(file_id="f", media_type="image/png")),
        "citation": delta(t.CitationDelta(text="x", url="u", title="t")),
        "empty citation": delta(t.CitationDelta(text="")),
        "continuation of a part": delta(t.ContinuationDelta(provider="p", kind="k", data={"a": 1}, part_index=0)),
        "continuation of the message": delta(t.ContinuationDelta(provider="p", kind="k")),
        "bare end": t.StreamEndEvent(),
        "end": t.StreamEndEvent(
            finish_reason="stop", usage=t.Usage(input_tokens=1, output_tokens=0), provider_data={"a": {}}),
        "end with unknown usage": t.StreamEndEvent(finish_reason="length"),
        "error": t.StreamErrorEvent(error=t.ErrorDetail(
            code="rate_limit", message="slow down", provider_code="rl",
            http_response={"request_id": "req", "retry_after": 1.5})),
        "bare error": t.StreamErrorEvent(error=t.ErrorDetail(code="lock_timeout", message="")),
    }


def lines() -> dict[tuple[str, str], tuple[Any, dict[str, Any]]]:
    """Returns (object, its JSON) by (kind, name)."""
    out: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}
    for name, request in requests().items():
        out["request", name] = (request, serde.request_to_dict(request))
    for name, response in responses().items():
        out["response", name] = (response, serde.response_to_dict(response, include_provider_data=True))
    for name, event in events().items():
        out["event", name] = (event, serde.stream_event_to_dict(event))
    return out


DECODE = {
    "request": serde.request_from_dict,
    "response": serde.response_from_dict,
    "event": serde.stream_event_from_dict,
}


def main() -> int:
    """Writes the fixtures, or checks lines on standard input against them."""
    if sys.argv[1:] != ["--check"]:
        for (kind, name), (_, value) in lines().items():
            json.dump({"kind": kind, "name": name, "json": value}, sys.stdout)
            sys.stdout.write("\n")
        return 0
    known, seen = lines(), set()
    for line in sys.stdin:
        entry = json.loads(line)
        key = (entry["kind"], entry["name"])
        if DECODE[entry["kind"]](entry["json"]) != known[key][0]:
            sys.exit(f"{key}: DSPy decodes another object")
        seen.add(key)
    if seen != set(known):
        sys.exit(f"not seen: {sorted(set(known) - seen)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
