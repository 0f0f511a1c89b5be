"""Makes the pages of docs/reference that repeat what the source says, so that they cannot say something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

import typer

from intertie.api.admin import AdminState, make_admin
from intertie.api.metrics import GAUGES, Readings
from intertie.cli import make_cli
from intertie.core import errors
from intertie.core.errors import GatewayError, Harm
from intertie.dataplane.observe import Counters
from intertie.settings import ENV_PREFIX, FIELDS

REFERENCE: Final = Path(__file__).parents[1] / "docs" / "reference"
_NOTE: Final = "<!-- Made by scripts/docs from the source. Change the source, then run it again. -->"
_YES: Final = {True: "yes", False: "no"}


def _page(title: str, *paragraphs: str) -> str:
    return "\n\n".join([f"# {title}", _NOTE, *paragraphs]) + "\n"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _meaning(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _error_classes() -> list[type[GatewayError]]:
    found = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, GatewayError)]
    return [kind for kind in found if kind not in {GatewayError, errors.UpstreamError}]


def _harm(kind: type[GatewayError]) -> str:
    return "nobody's" if kind.harm is Harm.NONE else kind.harm.value


def errors_page() -> str:
    """One row per class of `core/errors.py`."""
    rows = []
    for kind in _error_classes():
        elsewhere = _YES[kind.elsewhere] + (", or the same once more" if kind.again else "")
        retry = {None: "", True: "`true`", False: "`false`"}[kind.client_may_retry]
        rows.append(
            [
                f"`{kind.__name__}`",
                str(kind.status),
                f"`{kind.code}`",
                f"`{kind.type}`",
                kind.fault.value,
                elsewhere,
                _harm(kind),
                retry,
                _meaning(kind),
            ]
        )
    header = ["class", "status", "`code`", "`type`", "fault", "another target?", "whose health", "`x-should-retry`"]
    harms = [[f"`{harm.value}`", _harm_meaning(harm)] for harm in Harm]
    return _page(
        "Errors",
        "Every error the gateway answers with, one row per class of `core/errors.py`. The body is OpenAI's error "
        "object with `message`, `type`, `param`, `code`, and three members of our own: `request_id` (the same as the "
        "`x-request-id` header; quote it when you ask for help), `retryable` and `attempts`. An error after a stream "
        "has begun is one `data:` event with this object, and no `[DONE]` follows. "
        "[How failures are handled](../explain/failures.md) has the reasons.",
        _table([*header, "meaning"], rows),
        "The column *whose health* says what the failure counts against:",
        _table(["harm", "effect"], harms),
    )


def _harm_meaning(harm: Harm) -> str:
    return {
        Harm.NONE: "Nothing.",
        Harm.CONNECT: "A connection-level failure of the target: three in a row and it rests.",
        Harm.SERVER: "A server-side failure of the target: five in a row and it rests.",
        Harm.HALF: "Half a server-side failure.",
        Harm.COOLDOWN: "The credential used rests until the upstream's `retry-after`.",
        Harm.EXHAUSTED: "The credential used is out until its quota resets.",
        Harm.PARK: "The credential used is set aside until an operator changes it.",
        Harm.MODEL: "Only this model on this upstream rests.",
    }[harm]


def settings_page() -> str:
    """One heading per boot setting."""
    parts = []
    for name, field in FIELDS.items():
        secret = field.metadata["secret"]
        where = f"Environment: `{ENV_PREFIX}{name.upper()}`"
        if not secret:
            where += f" · file: `settings.{name}`"
        parts += [f"### `{name}`", field.metadata["help"], f"{where} · default: {_default(name, field.default)}"]
    return _page(
        "Boot settings",
        "What one process needs before it can read its database. A command line option wins over the environment, "
        "the environment over the `settings:` section of the configuration file, the file over the default. Everything "
        "else is [configuration](configuration.md) and changes while the gateway runs. Sizes take `KiB`, `MiB`, `GiB`; "
        "times are seconds.",
        *parts,
    )


def _default(name: str, value: object) -> str:
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and name.endswith("limit") and value % (1 << 20) == 0:
        return f"`{value >> 20} MiB`"
    return f"`{str(value).replace(str(Path.home()), '~')}`"


def metrics_page() -> str:
    """One row per metric family."""
    families = Readings(Counters(), dict.fromkeys(GAUGES, 0.0)).collect()
    rows = []
    for family in sorted(families, key=lambda family: family.name):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in getattr(family, "_labelnames", ()))
        rows.append([f"`{name}`", family.type, labels, family.documentation])
    return _page(
        "Metrics",
        "What `/metrics` says, in Prometheus' text format. Labels come from the configuration (names of routes and "
        "upstreams) and from fixed lists, so their number is bounded; a model name that no route has is not a label. "
        "Beside these there are the usual `process_*` and `python_info`.",
        _table(["metric", "type", "labels", "meaning"], rows),
    )


def admin_api_page() -> str:
    """One row per operation of the OpenAPI document."""
    nothing: Any = None
    app = make_admin(AdminState(**{field.name: nothing for field in fields(AdminState) if field.default is MISSING}))
    rows = []
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            rows.append([f"`{method.upper()} {path}`", _first_paragraph(operation)])
    return _page(
        "Admin API",
        "What the commands talk to, and what your tools may build on. Send `authorization: Bearer <admin key>`; the "
        "key is in `admin.key` of the data folder, or is what `INTERTIE_ADMIN_KEY` says. A running gateway describes "
        "the bodies at `/api/docs` (OpenAPI). Errors have the shape of [the others](errors.md).",
        _table(["operation", "what it does"], rows),
    )


def _first_paragraph(operation: dict[str, Any]) -> str:
    return " ".join(operation.get("description", "").split("\n\n")[0].split()) or operation.get("summary", "")


def cli_page() -> str:
    """One section per command, from its own help."""
    sections: list[str] = []
    for path, command in commands():
        name = " ".join(("intertie", *path))
        arguments = [one.name.upper() for one in command.params if one.param_type_name == "argument"]
        rows = [_option(parameter) for parameter in command.params if not parameter.hidden]
        sections += [
            f"## {name}",
            f"`{' '.join((name, '[OPTIONS]', *arguments))}`",
            inspect.cleandoc(command.help or ""),
        ]
        if rows:
            sections.append(_table(["argument or option", "meaning", "default"], rows))
    return _page(
        "Commands",
        "Every command talks to the running gateway through the [admin API](admin-api.md), except `up`, `migrate` and "
        "`local-model`. Its address and key come from `INTERTIE_URL` and `INTERTIE_ADMIN_KEY`, or from the data folder "
        "on the same machine. In a clone, `scripts/intertie` is `intertie`. Secrets are never arguments.",
        *sections,
    )


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Words and command object of everything that can be typed after `intertie`."""
    return _commands(typer.main.get_command(make_cli(lambda *_given, **_named: 0)), ())


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Name and command object of every leaf. Typer brings its own copy of click, which has no public types."""
    group = getattr(command, "commands", None)
    if group is None:
        yield path, command
        return
    for name in sorted(group):
        yield from _commands(group[name], (*path, name))


def _option(parameter: Any) -> list[str]:
    argument = parameter.param_type_name == "argument"
    names = [parameter.name.upper()] if argument else [*parameter.opts, *parameter.secondary_opts]
    default = parameter.default
    if isinstance(default, Enum):
        default = default.value
    if default is True and parameter.secondary_opts:
        default = parameter.opts[0]
    shown = "" if default in (None, (), "", False) or callable(default) else f"`{default}`"
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    return [", ".join(f"`{name}`" for name in names), meaning, "required" if parameter.required else shown]


PAGES: Final[dict[str, Callable[[], str]]] = {
    "admin-api.md": admin_api_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "metrics.md": metrics_page,
    "settings.md": settings_page,
}


def main() -> None:
    """Write all pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
