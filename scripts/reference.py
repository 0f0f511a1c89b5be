"""Makes the pages of docs/reference that repeat what the source says, so that they cannot say something else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from intertie.core import errors
from intertie.core.errors import GatewayError, Harm
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


PAGES: Final[dict[str, Callable[[], str]]] = {
    "errors.md": errors_page,
    "settings.md": settings_page,
}


def stale() -> Iterator[str]:
    """Names of pages that do not say what the source says."""
    for name, make in PAGES.items():
        path = REFERENCE / name
        if not path.is_file() or path.read_text(encoding="utf-8") != make():
            yield name


def main() -> None:
    """Write all pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (REFERENCE / name).write_text(make(), encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
