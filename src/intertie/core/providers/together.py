"""Together AI."""

from types import MappingProxyType

from intertie.core.errors import UpstreamError
from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.wire.openai_errors import WireError


class Together(Compatible):
    """Its 403 means that prompt and `max_tokens` together exceed the model's context; a refused key is a 401."""

    kind = "together"
    title = "Together AI"
    base_url = "https://api.together.xyz/v1"
    catalogue = "together"
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))

    def _judge(self, status: int, said: WireError, wait: float | None) -> UpstreamError:
        return super()._judge(400 if status == 403 else status, said, wait)


ADAPTER = Together()
