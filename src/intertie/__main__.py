"""`intertie` and `python -m intertie`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Run the command line. The gateway itself is imported only by the command that runs one."""
    if sys.argv[1:2] == ["node"]:  # an agent starts often, on small machines, and needs nothing of the rest
        from intertie.agent.command import main as node

        sys.exit(node(sys.argv[2:], prog="intertie node"))
    from intertie.cli import make_cli

    make_cli(_serve)()


def _serve(settings: Any, *, document: Any, source: str, on_ready: Callable[[Any], None]) -> int:
    from intertie.app import serve

    return serve(settings, document=document, source=source, on_ready=on_ready)


if __name__ == "__main__":
    main()
