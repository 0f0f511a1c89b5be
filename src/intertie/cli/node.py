"""`intertie node`: the agent's own commands, so that help and completion have them.

`intertie/__main__.py` hands `intertie node …` to the agent before Typer is imported; what is made here from the same
table of words is for `intertie --help`, the reference, and whoever calls through Typer anyway.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from intertie.agent.words import COMMANDS, Command, Word

PROG: Final = "intertie node"

app = typer.Typer(no_args_is_help=True, help="This machine as a node: join a gateway, run, pause, leave.")


def typed(command: Command, given: dict[str, Any]) -> list[str]:
    """The words that were typed, again, from what Typer made of them."""
    words = [command.name]
    for word in command.words:
        value = given[word.member]
        if word.positional:
            words.append(str(value))
        elif word.kind is bool:
            if value is not None and (value or word.negated):
                words.append(word.names[0] if value else word.negated)
        else:
            for one in value or () if word.many else () if value is None else (value,):
                words += [word.names[0], str(one)]
    return words


def _parameter(word: Word) -> inspect.Parameter:
    kind: Any = word.kind
    if word.positional:
        annotation = Annotated[kind, typer.Argument(metavar=word.names[0], help=word.help)]
        return inspect.Parameter(word.member, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
    names = [f"{word.names[0]}/{word.negated}", *word.names[1:]] if word.negated else list(word.names)
    default: Any = False if kind is bool and not word.negated else None
    kind = list[kind] | None if word.many else kind | None if default is None else kind
    option = typer.Option(*names, metavar=word.metavar or None, help=word.help)
    return inspect.Parameter(
        word.member, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _function(command: Command) -> Callable[..., None]:
    def run(**given: Any) -> None:
        from intertie.agent.command import main

        raise typer.Exit(main(typed(command, given), prog=PROG))

    parameters = [_parameter(word) for word in command.words]
    run.__doc__ = "\n\n".join(part for part in (command.help, command.more) if part)
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


for _command in COMMANDS:
    app.command(_command.name)(_function(_command))
