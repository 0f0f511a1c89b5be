"""Configuration texts for these tests, resolved with made-up secrets."""

from __future__ import annotations

from intertie.controlplane import config
from intertie.controlplane.config import Document

ENV = {
    "KEY_1": "canary-cred-one",
    "KEY_2": "canary-cred-two",
    "EXTRA": "canary-header-value",
    "WEB_KEY": "canary-web-key-0123456789",
    "OTHER_KEY": "canary-other-key-0123456789",
}

WHOLE = """
upstreams:
  - name: acme
    provider: openai_compatible
    base_url: https://api.example-llm.com/v1
    credentials: [{env: KEY_1}, {env: KEY_2}]
    headers: {X-Api-Key: {env: EXTRA}}
    models: [{name: big-model, price: {input: 2.50, output: 10.00, cached_input: 0.25}}, {name: f, price: free}, odd]
  - {name: open, provider: openai, base_url: https://api.example.org/v1, trust: company, enabled: false}
routes:
  - model: gpt-4o-mini
    strategy: weighted
    deadline: 60
    max_attempts: 2
    targets: [{upstream: acme, model: big-model, weight: 3}, {upstream: open, model: m, tier: 1}]
  - {model: "*", targets: [{upstream: open}]}
projects:
  - name: web
    keys:
      - {name: dev, value: {env: WEB_KEY}, models: [gpt-4o-mini], trust: company, expires: 2027-01-31}
      - {name: made}
"""


def document(text: str) -> Document:
    """The text as the gateway receives it."""
    return config.resolve(config.parse(text), ENV, lambda path: f"canary-of-{path}")
