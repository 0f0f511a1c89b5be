"""The shell door: one module per command group, and `make_cli` that puts them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def make_cli(serve: Callable[..., int]) -> typer.Typer:
    """The command line. `serve(settings, *, document, source, on_ready) -> exit code` runs a gateway, for `up` alone.

    Modules are imported here, not above, so that the child process of the local model does not pay for them.
    """
    from intertie.cli.assembly import assemble

    return assemble(serve)
