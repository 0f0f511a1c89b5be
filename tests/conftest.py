"""For all tests: generated examples are the same in every run, and a busy machine is no failure.

Sixty examples unless a test asks for more: the same ones come each time, so more of them find nothing new for long.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
