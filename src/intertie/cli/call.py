"""The request that every message ends with, ready to copy."""

from __future__ import annotations

from typing import Final

KEY_VARIABLE: Final = "$INTERTIE_API_KEY"


def curl(url: str, model: str, key: str) -> list[str]:
    """A request to copy into a shell. `key` is an API key or the name of a shell variable."""
    quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("'", "'\\''")
    return [
        f"  curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\",
        f'    -H "Authorization: Bearer {key}" \\',
        f"""    -d '{{"model": "{quoted}", "messages": [{{"role": "user", "content": "Say hello"}}]}}'""",
    ]
