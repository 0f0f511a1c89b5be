"""Fireworks AI."""

from types import MappingProxyType

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.wire.openai_errors import WireError


class Fireworks(Compatible):
    """A suspended account, over its spending limit or with an unpaid invoice, is a 412."""

    kind = "fireworks"
    title = "Fireworks AI"
    base_url = "https://api.fireworks.ai/inference/v1"
    catalogue = "fireworks"
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        return super()._judge(402 if status == 412 else status, said, wait)


ADAPTER = Fireworks()
