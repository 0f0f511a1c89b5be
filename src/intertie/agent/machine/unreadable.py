"""The one error of everything that measures a machine."""

from __future__ import annotations


class Unreadable(Exception):
    """Something cannot be measured here; the message says why, and what its owner can do about it."""
