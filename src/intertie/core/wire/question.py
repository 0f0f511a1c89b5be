"""The last thing a user said in a conversation, apart from everything around it: what may be compared with others.

Only for calls that are nothing but such a question. What is not known to be harmless makes it none: a member we have
never heard of, tools, pictures, several answers at once.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from msgspec.structs import replace

from intertie.core.terms import Call, Operation

PLAIN: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "user", "metadata", "store", "safety_identifier"}
    | {"prompt_cache_key", "service_tier", "n", "temperature", "top_p", "top_k", "min_p", "seed", "stop"}
    | {"max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "repetition_penalty"}
    | {"repeat_penalty", "logit_bias", "response_format", "reasoning_effort", "verbosity"}
)
"""Members that a call with a question may have. Those that a model sees must be the same in both."""

_ROLES: Final = frozenset({"system", "developer", "user", "assistant"})
_MESSAGES: Final = msgspec.json.Decoder(list[dict[str, Any]])
_NOTHING: Final[tuple[Any, ...]] = (None, [], {})


class Question(NamedTuple):
    """`frame` is the call without the text; two questions have the same frame if all else is the same."""

    text: str
    frame: Call


def question(call: Call) -> Question | None:
    """The question that this call is; `None` if it is something else, or more."""
    if call.operation is not Operation.CHAT or not PLAIN.issuperset(call.fields):
        return None
    if bytes(call.fields.get("n", b"1")) not in (b"1", b"null"):
        return None
    try:
        messages = _MESSAGES.decode(call.fields["messages"])
    except (KeyError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not messages or not all(map(_is_plain, messages)) or messages[-1]["role"] != "user":
        return None
    text = messages[-1]["content"]
    messages[-1]["content"] = ""
    frame = {**call.fields, "messages": msgspec.Raw(msgspec.json.encode(messages))}
    return Question(text, replace(call, fields=frame))


def _is_plain(message: dict[str, Any]) -> bool:
    """Somebody's words, and nothing else: clients that repeat an answer send its empty members along."""
    extra = (value for name, value in message.items() if name not in {"role", "content", "name"})
    return (
        message.get("role") in _ROLES
        and isinstance(message.get("content"), str)
        and isinstance(message.get("name", ""), str)
        and all(value in _NOTHING for value in extra)
    )
