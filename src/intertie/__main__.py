"""`intertie` and `python -m intertie`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from intertie.cli import make_cli


def main() -> None:
    """Run the command line. The gateway itself is imported only by the command that runs one."""
    make_cli(_serve)()


def _serve(settings: Any, *, document: Any, on_ready: Callable[[Any], None]) -> int:
    from intertie.app import serve

    return serve(settings, document=document, on_ready=on_ready)


if __name__ == "__main__":
    main()
