"""Tools of the system, started for real: they are on every machine that runs these tests."""

from __future__ import annotations

import sys

import pytest

from intertie.agent.machine.command import output
from intertie.agent.machine.unreadable import Unreadable


def test_a_tool_that_fails_says_why() -> None:
    """In its own words, the first line; or that it is not there."""
    assert output([sys.executable, "-c", "print('fine')"], 10).strip() == "fine"
    with pytest.raises(Unreadable, match="failed: no such thing"):
        output([sys.executable, "-c", "import sys; sys.exit('no such thing\\nmore')"], 10)
    with pytest.raises(Unreadable, match="failed: exit code 3"):
        output([sys.executable, "-c", "import sys; sys.exit(3)"], 10)
    with pytest.raises(Unreadable, match="cannot be started: No such file"):
        output(["/nowhere/ioreg"])


def test_a_tool_that_hangs_is_left_behind() -> None:
    """The watch goes on."""
    with pytest.raises(Unreadable, match=r"did not answer within 0\.1 s"):
        output([sys.executable, "-c", "import time; time.sleep(60)"], 0.1)
