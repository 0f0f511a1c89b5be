"""Ollama: local models behind its OpenAI-compatible endpoints."""

from types import MappingProxyType

from intertie.core.providers._compatible import Compatible, Quirks


class Ollama(Compatible):
    """Knows only `max_tokens` and ignores members it does not know, so a limit by the newer name would be lost."""

    kind = "ollama"
    title = "Ollama"
    base_url = "http://127.0.0.1:11434/v1"
    bills_cancelled = False
    quirks = Quirks(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))


ADAPTER = Ollama()
