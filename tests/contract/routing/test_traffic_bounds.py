"""What is learned from calls is bounded."""

from __future__ import annotations

from intertie.core.routing.traffic import CONVERSATIONS, ROUTES, TARGETS, USUAL_OUTPUT, Traffic

A = ("up_a", "m")


def test_memory_is_bounded() -> None:
    """Whatever names callers think of; what runs is never forgotten."""
    made = Traffic()
    running = made.begin(A, 0.0, 1, stream=True)
    for n in range(3 * TARGETS):
        made.end(made.begin((f"u{n}", "m"), float(n), 1, stream=True), float(n), 1)
    for n in range(2 * ROUTES):
        made.answered(("org", str(n)), 1)
    for n in range(2 * CONVERSATIONS):
        made.remember(str(n).encode(), A, 1, 0.0)
    assert made.in_flight(A) == 1
    made.end(running, 1.0, 1)
    assert "targets" in repr(made)
    assert int(repr(made).split()[2]) <= TARGETS
    assert made.holder(b"0", 0.0) is None
    assert made.expected_output(("org", "0"), None) == USUAL_OUTPUT
