"""xAI (Grok)."""

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible
from intertie.core.terms import Operation
from intertie.core.wire.openai_errors import WireError


class XAI(Compatible):
    """Errors are `{"code": "<sentence>", "error": "<sentence>"}`, and the status alone misleads.

    A wrong key is a 400, an account without credits a 403 or a 429; only the words tell. Reasoning tokens are counted
    beside `completion_tokens`, not within (see `core.wire.openai_usage`).
    """

    kind = "xai"
    title = "xAI"
    base_url = "https://api.x.ai/v1"
    catalogue = "x-ai"
    operations = frozenset({Operation.CHAT, Operation.COMPLETION})

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        words = said.message.lower()
        if status == 400 and "incorrect api key" in words:
            status = 401
        elif status in (403, 429) and ("credits" in words or "spending limit" in words):
            status = 402
        # Its codes are sentences, which a client cannot match.
        return super()._judge(status, WireError(said.message, param=said.param), wait)


ADAPTER = XAI()
