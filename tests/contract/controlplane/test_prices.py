"""What the price catalogue costs at start."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_is_loaded_before_it_is_needed() -> None:
    """The catalogue costs some tenths of a second, which a gateway over own machines must not pay at every start."""
    program = (
        "import sys; from intertie.controlplane import prices; prices.preload(['ollama', 'openai_compatible']);"
        "prices.price_for('vllm', 'm'); print('genai_prices' in sys.modules);"
        "prices.preload(['ollama', 'openai']); print('genai_prices.data' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.split() == ["False", "True"]
