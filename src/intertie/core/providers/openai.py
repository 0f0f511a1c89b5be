"""OpenAI itself."""

from types import MappingProxyType

from intertie.core.providers._compatible import Compatible, Quirks


class OpenAI(Compatible):
    """The dialect's origin. Its reasoning models refuse `max_tokens`; every chat model takes the newer name."""

    kind = "openai"
    title = "OpenAI"
    base_url = "https://api.openai.com/v1"
    catalogue = "openai"
    quirks = Quirks(rename=MappingProxyType({"max_tokens": "max_completion_tokens"}))


ADAPTER = OpenAI()
