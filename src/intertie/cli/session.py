"""What every command shares: which gateway it talks to, and how its failures are told."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from intertie.cli.client import Client, CommandProblem, folder, locate
from intertie.cli.render import complain
from intertie.core.errors import GatewayError

Json = Annotated[bool, typer.Option("--json", help="Print JSON, in the admin API's own shapes.")]

_JSON: Final = "--json"


@dataclass(frozen=True)
class Session:
    """The root command's options. `data` is the data directory, whether or not it exists."""

    data: Path

    def client(self, *, timeout: float = 30.0) -> Client:
        """A client for the running gateway. Raises `CommandProblem` with a remedy if there is none."""
        return Client(locate(self.data), timeout=timeout)


_CURRENT: ContextVar[Session | None] = ContextVar("intertie session", default=None)


class Group(TyperGroup):
    """The root command: turns every failure that has a remedy into one clear line on standard error and exit code 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember whether the words ask for JSON, so that errors come as JSON too."""
        ctx.meta[_JSON] = _JSON in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (CommandProblem, GatewayError) as failure:
            problem = (
                failure if isinstance(failure, CommandProblem) else CommandProblem(failure.public, code=failure.code)
            )
            complain(problem, json_wanted=bool(ctx.meta.get(_JSON)))
            raise typer.Exit(1) from None


def begin(data: Path | None) -> None:
    """Open the session of this run, on this data directory or the default one."""
    _CURRENT.set(Session(data or folder()))


def session() -> Session:
    """The session of this run."""
    return _CURRENT.get() or Session(folder())
