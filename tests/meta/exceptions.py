"""Every allowed breach of a house rule, each with its reason. A test fails when an entry is no longer needed."""

from __future__ import annotations

from typing import Final, NamedTuple


class Allowed(NamedTuple):
    """One place that may break one rule."""

    rule: str
    """file, function, class, parameters, broad except, border, name, door."""
    where: str
    """Dotted module, then `:` and the qualified name inside it where the rule is about a definition."""
    reason: str


EXCEPTIONS: Final[tuple[Allowed, ...]] = (
    Allowed("file", "core.errors", "the one table of everything that can go wrong, read from top to bottom"),
    Allowed("file", "store.schema", "the one list of all tables, which migrations must add up to"),
    Allowed("parameters", "cli.limits:set_", "the options of a command are its parameters: Typer reads them so"),
    Allowed("parameters", "cli.routes:put", "the options of a command are its parameters: Typer reads them so"),
    Allowed(
        "parameters",
        "dataplane.parts:Dataplane.__init__",
        "everything a request needs from outside, given once and by keyword; grouping it would only hide what there is",
    ),
    Allowed(
        "broad except",
        "dataplane.pipeline:serve",
        "the border of a request: what nobody foresaw becomes a 500 with a request id, and is still booked",
    ),
    Allowed(
        "broad except",
        "app:Gateway._poll",
        "the watch for changed configuration: whatever one look runs into, the next one must still happen",
    ),
    Allowed(
        "broad except",
        "dataplane.transport.inbox:Inbox._pour",
        "a callback of the event loop: what the waiting task's own code raises is handed to that task, not swallowed",
    ),
    Allowed(
        "broad except",
        "api.links:LinkDoor._guarded",
        "the border of what links do in the background: nobody awaits these tasks, so the log must have what failed",
    ),
    Allowed(
        "broad except",
        "api.edge.cycle:Cycle.run",
        "the border of the server: an application that raises must not take the connection's task down with it",
    ),
    Allowed(
        "broad except",
        "api.problems:Guard.__call__",
        "the border of the admin API: what nobody foresaw is logged and answered with an id",
    ),
    Allowed(
        "parameters",
        "cli.nodes:token",
        "a command's options are its parameters: what an operator may say of a token is one command's affair",
    ),
    Allowed(
        "parameters",
        "cli.route:explain",
        "a command's options are its parameters: each is something that placing a call depends on",
    ),
    Allowed(
        "broad except",
        "dataplane.local_embedder:LocalEmbedder._embedded",
        "the border to native libraries and files that are somebody else's: whatever they raise, a request is a miss",
    ),
    Allowed(
        "broad except",
        "agent.sensors:_tried",
        "the border to drivers and desktops: whatever one of them raises, the watch for the owner's return goes on",
    ),
)
