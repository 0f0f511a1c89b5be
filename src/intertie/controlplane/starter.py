"""The configuration file that somebody without one is shown."""

from __future__ import annotations


def starter() -> str:
    """A cloud account to fill in."""
    return (
        "upstreams:\n"
        "  - name: openai\n"
        "    provider: openai\n"
        "    credentials: [{env: OPENAI_API_KEY}]\n"
        "    models:\n"
        "      - {name: gpt-4o-mini}\n"
        "routes:\n"
        "  - model: gpt-4o-mini\n"
        "    targets: [{upstream: openai, model: gpt-4o-mini}]\n"
    )
