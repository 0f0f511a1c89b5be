"""Any server that speaks OpenAI's API at an address the operator gives."""

from __future__ import annotations

from intertie.core.providers._compatible import Compatible


class OpenAICompatible(Compatible):
    """No quirks: what the client sent is what the server gets."""

    kind = "openai_compatible"
    title = "OpenAI-compatible"


ADAPTER = OpenAICompatible()
