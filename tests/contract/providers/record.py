"""Record what a real server answers: `python -m tests.contract.providers.record BASE_URL MODEL SOURCE [KEY]`.

Prints one JSON document whose cases go, with the expectations a person has checked, into a provider's folder. Keys are
never part of it: only the request's body is kept.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import Any, Final

_KEPT: Final = ("content-type", "retry-after")
_QUESTION: Final = [{"role": "user", "content": "Say hello in three words."}]
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def cases(model: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of the case -> path and body."""
    chat = {"model": model, "messages": _QUESTION, "max_tokens": 8, "temperature": 0, "seed": 7}
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    weather = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    tools = {**chat, "messages": weather, "max_tokens": 48, "tools": [_TOOL]}
    return {
        "answer": ("/chat/completions", chat),
        "stream": ("/chat/completions", {**chat, **stream}),
        "tools": ("/chat/completions", tools),
        "tools streamed": ("/chat/completions", {**tools, **stream}),
        "completion": ("/completions", {"model": model, "prompt": "One, two,", "max_tokens": 4, "temperature": 0}),
        "completion streamed": (
            "/completions",
            {"model": model, "prompt": "One, two,", "max_tokens": 4, "temperature": 0, **stream},
        ),
        "embedding": ("/embeddings", {"model": model, "input": "hello"}),
        "context too long": ("/chat/completions", {**chat, "messages": [{"role": "user", "content": "word " * 3000}]}),
        "malformed": ("/chat/completions", {**chat, "messages": "not a list"}),
    }


def ask(url: str, body: dict[str, Any], key: str) -> dict[str, Any]:
    """Status, kept headers and body of one answer; a stream as the pieces it arrived in."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
            if not body.get("stream"):
                return {"status": answer.status, "headers": kept, "body": answer.read().decode()}
            pieces = []
            while piece := answer.read1(65536):
                pieces.append(piece.decode())
            return {"status": answer.status, "headers": kept, "stream": pieces}
    except urllib.error.HTTPError as error:
        kept = {name: error.headers[name] for name in _KEPT if name in error.headers}
        return {"status": error.code, "headers": kept, "body": error.read().decode()}


def main(base: str, model: str, source: str, key: str = "none") -> None:
    """Ask every case, and one with a wrong key."""
    recorded = []
    for name, (path, body) in cases(model).items():
        recorded.append({"name": name, "source": source, "request": body, "reply": ask(base + path, body, key)})
    path, body = cases(model)["answer"]
    recorded.append({"name": "wrong key", "source": source, "request": body, "reply": ask(base + path, body, "wrong")})
    print(json.dumps(recorded, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
