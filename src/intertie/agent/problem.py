"""What the owner of a machine can mend, and the exit codes that a service unit or a script may look at."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
USAGE: Final = 2
"""The words on the command line make no sense; argparse ends with it too."""
BUSY: Final = 75
"""Another agent works on the same folder."""
NOT_A_NODE: Final = 78
"""This machine is not enrolled, or its identity is damaged: starting again changes nothing."""
INTERRUPTED: Final = 130


class Problem(Exception):
    """One clear sentence, the remedy, a stable code for programs, and the exit code."""

    def __init__(self, message: str, remedy: str = "", *, code: str = "node_failed", status: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code
        self.status = status
