"""`python -m intertie.agent`, and the way into the single file."""

from __future__ import annotations

import sys

from intertie.agent.command import main

if __name__ == "__main__":
    sys.exit(main())
