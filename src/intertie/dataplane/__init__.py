"""Moves. The hot path of a request; imports core only, so a request cannot reach SQL."""
