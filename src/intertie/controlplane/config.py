"""Configuration as code: text to a validated document, every problem reported at once.

`parse` reads the text, `resolve` fetches the secrets it names, `dump` and `receive` carry a resolved document between
the command line and the admin API. `apply.apply` makes it so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import SecretStr, ValidationError

from intertie import settings
from intertie.controlplane import consistency, document
from intertie.controlplane.consistency import Problem, nearest
from intertie.controlplane.entries import Document, HeaderEntry, KeyEntry, SecretEntry, UpstreamEntry
from intertie.controlplane.shapes import Entry
from intertie.core import keys
from intertie.core.errors import BadCall

__all__ = ["ConfigProblems", "Document", "Problem", "digest", "dump", "parse", "receive", "receive_entry", "resolve"]

E = TypeVar("E", bound=Entry)
S = TypeVar("S", bound=SecretEntry)

_LIMITS: Final = ("limits", "quotas", "budgets", "max_output")
"""What a file says beside the noun it limits and the admin API says at a place of its own."""
_SHORTEST: Final = 16
_ENROL: Final = "a machine becomes a node by enrolling: intertie nodes token NAME; routes then name it as {node: NAME}"


class ConfigProblems(BadCall):
    """The configuration cannot be used; `problems` lists everything wrong with it. Never quotes a secret."""

    code = "invalid_configuration"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = (f"{p.path}: {p.message}" + (f" ({p.hint})" if p.hint else "") for p in self.problems)
        super().__init__("\n".join(lines))


def parse(text: str) -> Document:
    """The document in a YAML text. Raises `ConfigProblems` with all problems at once."""
    try:
        raw = document.read(text)
    except document.YamlError as error:
        raise ConfigProblems([Problem("file", str(error))]) from None
    return _document(raw, resolved=False)


def receive(payload: Mapping[str, Any]) -> Document:
    """A resolved document as `dump` made it, validated again. Raises `ConfigProblems`."""
    made = _document(payload, resolved=True)
    if found := list(_secret_problems(made)):
        raise ConfigProblems(found)
    return made


def receive_entry(kind: type[E], payload: Mapping[str, Any]) -> E:
    """One entry from the admin API, with its secrets in `value`. Raises `ConfigProblems`."""
    made, found = _validated(kind, payload, resolved=True)
    if issubclass(kind, UpstreamEntry):
        found += consistency.upstream_problems(payload)
    found += [Problem(name, "is not set here", "use PUT /api/limits") for name in _LIMITS if payload.get(name)]
    if found or made is None:
        raise ConfigProblems(found)
    wrapped = Document(upstreams=[made]) if isinstance(made, UpstreamEntry) else Document()
    if found := list(_secret_problems(wrapped)):
        raise ConfigProblems(p._replace(path=p.path.removeprefix("upstreams[0].")) for p in found)
    return made


def dump(document_: Document) -> dict[str, Any]:
    """A resolved document as JSON values, secrets included: for the way to the admin API, never for showing.

    Boot settings stay behind: they are read when a gateway starts.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    shown: dict[str, Any] = plain(document_.model_dump(exclude_none=True, exclude={"settings"}))
    return shown


def digest(document_: Document) -> str:
    """SHA-256 (hexadecimal) of the document without its secrets: each is replaced by the place it came from.

    So the same file gives the same digest, and nobody can try passwords on it.
    """
    bare = _with_secrets(document_, lambda entry, _: entry.model_copy(update={"value": SecretStr(entry.label)}))
    text = json.dumps(dump(bare), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def resolve(document_: Document, env: Mapping[str, str], read_file: Callable[[str], str]) -> Document:
    """The document with every secret fetched from `env` or by `read_file(path)`.

    Raises `ConfigProblems` naming every variable that is missing and every file that cannot be read.
    """
    found: list[Problem] = []

    def fetch(entry: S, path: str) -> S:
        try:
            value = env[entry.env] if entry.env else read_file(entry.file).strip() if entry.file else entry.reveal()
        except KeyError:
            found.append(Problem(path, f"the environment variable {entry.env} is not set"))
            return entry
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            found.append(Problem(path, f"cannot read {entry.file}: {reason}"))
            return entry
        if not value.strip() and not (isinstance(entry, HeaderEntry) and entry.label == "given"):
            found.append(Problem(path, f"the secret ({entry.label}) is empty"))
        return entry.model_copy(update={"value": SecretStr(value.strip())})

    made = _with_secrets(document_, fetch)
    found += _secret_problems(made) if not found else []
    if found:
        raise ConfigProblems(found)
    return made


def _with_secrets(document_: Document, fetch: Callable[[Any, str], Any]) -> Document:
    upstreams = [
        entry.model_copy(
            update={
                "credentials": [fetch(c, f"upstreams[{i}].credentials[{n}]") for n, c in enumerate(entry.credentials)],
                "headers": {h: fetch(value, f"upstreams[{i}].headers.{h}") for h, value in entry.headers.items()},
            }
        )
        for i, entry in enumerate(document_.upstreams)
    ]

    def key(entry: KeyEntry, path: str) -> KeyEntry:
        return entry.model_copy(update={"value": fetch(entry.value, f"{path}.value")}) if entry.value else entry

    projects = [
        entry.model_copy(update={"keys": [key(k, f"projects[{i}].keys[{n}]") for n, k in enumerate(entry.keys)]})
        for i, entry in enumerate(document_.projects)
    ]
    alerts = document_.alerts
    if alerts is not None:
        alerts = alerts.model_copy(update={"secret": fetch(alerts.secret, "alerts.secret")})
    return document_.model_copy(update={"upstreams": upstreams, "projects": projects, "alerts": alerts})


def _secret_problems(document_: Document) -> Iterator[Problem]:
    """Secrets that could not be sent or are too weak; looked at only once they are known."""
    found: list[Problem] = []

    def look(entry: SecretEntry, path: str) -> SecretEntry:
        value = entry.reveal()
        if path.startswith("projects") and (flaw := keys.flaw(value)):
            found.append(Problem(path, f"cannot be an API key: {flaw}"))
        elif path.startswith("alerts") and len(value) < _SHORTEST:
            found.append(Problem(path, f"has less than {_SHORTEST} characters", "make one with: openssl rand -hex 32"))
        elif not value.isascii() or not all(" " <= character <= "~" for character in value):
            found.append(Problem(path, "has a line break, a control character or a letter outside ASCII"))
        elif not value or (" " in value and ".credentials[" in path):
            found.append(Problem(path, "is empty or has a space inside"))
        return entry

    _with_secrets(document_, look)
    return iter(found)


def _document(raw: Mapping[str, Any], *, resolved: bool) -> Document:
    made, found = _validated(Document, raw, resolved=resolved)
    found += consistency.problems(raw)
    section = raw.get("settings")
    if isinstance(section, dict):
        found += (Problem(problem.name, problem.message) for problem in settings.check_section(section))
    if found or made is None:
        raise ConfigProblems(found)
    return made


def _validated(kind: type[E], raw: Mapping[str, Any], *, resolved: bool) -> tuple[E | None, list[Problem]]:
    """The entry, or what is wrong with its fields. A section without content (`routes:`) is left out."""
    content = {name: value for name, value in raw.items() if value is not None}
    try:
        return kind.model_validate(content, context={"resolved": resolved}), []
    except ValidationError as error:
        return None, [p for found in error.errors(include_url=False) if (p := _problem(kind, found, content))]


def _problem(kind: type[Entry], found: Any, raw: Any) -> Problem | None:
    where, type_, context = found["loc"], found["type"], found.get("ctx", {})
    path, name = _path(where), str(where[-1]) if where else ""
    if type_ == "extra_forbidden":
        if path == "nodes":
            return Problem(path, "nodes are not declared in the configuration", _ENROL)
        known = _fields(kind, where[:-1])
        return Problem(path, "unknown key", nearest(name, known) or f"known are {', '.join(known)}")
    if type_ == "missing":
        return Problem(path, "is required")
    if type_ == "intertie":
        return Problem(path, context["message"], context["hint"])
    if type_ == "enum":
        return Problem(path, f"must be {context['expected']}", nearest(_at(raw, where), _words(context["expected"])))
    return Problem(path, _PLAIN.get(type_) or found["msg"].lower().replace("input should", "must"))


_PLAIN: Final = {
    "string_type": "must be a text (put quotes around it)",
    "list_type": "must be a list",
    "too_short": "must have at least one item",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def _words(expected: str) -> list[str]:
    return expected.replace(" or ", ", ").replace("'", "").split(", ")


def _path(where: tuple[str | int, ...]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.removeprefix(".") or "file"


def _at(raw: Any, where: tuple[str | int, ...]) -> Any:
    for step in where:
        if isinstance(raw, str):
            return raw  # one value where several are allowed
        try:
            raw = raw[step]
        except (KeyError, IndexError, TypeError):
            return None
    return raw


def _fields(kind: Any, where: tuple[str | int, ...]) -> list[str]:
    """Names of the fields that are allowed at a path inside `kind`."""
    for step in where:
        inner = _entry(kind)
        if isinstance(step, str) and inner is not None and step in inner.model_fields:
            kind = inner.model_fields[step].annotation
        elif get_origin(kind) in {list, dict}:
            kind = get_args(kind)[-1]
    inner = _entry(kind)
    return list(inner.model_fields) if inner else []


def _entry(annotation: Any) -> type[Entry] | None:
    """The entry class inside `X`, `X | None` or `Annotated[X, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        return annotation
    if get_origin(annotation) in {Union, UnionType} or hasattr(annotation, "__metadata__"):
        return next((found for part in get_args(annotation) if (found := _entry(part))), None)
    return None
