"""LM Studio's local server."""

from types import MappingProxyType

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.wire.openai_errors import WireError


class LMStudio(Compatible):
    """Reports a prompt that is too long inside a stream of status 200, as words without a code."""

    kind = "lm_studio"
    title = "LM Studio"
    base_url: str | None = "http://127.0.0.1:1234/v1"
    bills_cancelled = False
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        words = said.message.lower()
        if "context" in words and ("overflow" in words or "length" in words or "exceeded" in words):
            said = WireError(said.message, "invalid_request_error", "context_length_exceeded", said.param)
            status = 400
        return super()._judge(status, said, wait)


ADAPTER = LMStudio()
