"""OpenRouter: many vendors behind one account."""

from types import MappingProxyType

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.wire.openai_errors import WireError

_CONTENT = ("flagged", "guardrail", "moderation")


class OpenRouter(Compatible):
    """Sends `: OPENROUTER PROCESSING` comments while it waits, and a vendor's late failure as an event with `error`.

    A 403 has three meanings: the key's own spending limit, the content of this request, or the key itself.
    """

    kind = "openrouter"
    title = "OpenRouter"
    base_url = "https://openrouter.ai/api/v1"
    catalogue = "openrouter"
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        if status == 403:
            words = said.message.lower()
            if "limit exceeded" in words:
                status = 402
            elif any(word in words for word in _CONTENT):
                status, said = 400, WireError(said.message, "invalid_request_error", "content_filter")
        return super()._judge(status, said, wait)


ADAPTER = OpenRouter()
