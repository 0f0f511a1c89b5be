"""Boot settings: what one process needs before it can read its database. Frozen; declared once with default and help.

Order of precedence: command line, environment (`INTERTIE_<NAME>`), the `settings:` section of the configuration file,
default. Everything else (routes, upstreams, keys) lives in the database and changes while the gateway runs.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

ENV_PREFIX: Final = "INTERTIE_"

OTHER_NAMES: Final = frozenset({"INTERTIE_URL", "INTERTIE_TOKEN", "INTERTIE_NODE_DATA"})
"""Environment names of the command line client and of nodes, which are no settings of a gateway."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")
_UNITS: Final = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


class Problem(NamedTuple):
    """Something wrong with one setting. `name` is as the operator wrote it."""

    name: str
    message: str


class SettingsError(ValueError):
    """The settings cannot be used; `problems` lists everything that is wrong with them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(f"{problem.name}: {problem.message}" for problem in problems))
        self.problems = tuple(problems)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text")
    return value.strip()


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


def _number(low: float, high: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            number = float("nan") if isinstance(value, bool) else float(str(value))
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return number

    return read


def _whole(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,12}", str(value)) or not low <= int(str(value)) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(str(value))

    return read


def _size(value: object) -> int:
    found = re.fullmatch(r"(\d{1,15})\s*([a-z]*)", str(value).strip().lower())
    if isinstance(value, bool) or found is None or found[2] not in _UNITS or int(found[1]) == 0:
        raise ValueError("must be a size such as 32MiB or a number of bytes")
    return int(found[1]) * _UNITS[found[2]]


def _size_or_none(value: object) -> int:
    return 0 if not isinstance(value, bool) and str(value).strip() == "0" else _size(value)


def _flag(value: object) -> bool:
    word = str(value).lower()
    if word not in {"true", "false", "yes", "no", "on", "off", "1", "0"}:
        raise ValueError("must be true or false")
    return word in {"true", "yes", "on", "1"}


def _choice(*allowed: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if str(value).lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value).lower()

    return read


def _hosts(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("must be host names separated by commas, or a list of them")
    names = tuple(item.strip().lower() for item in items if item.strip())
    for name in names:
        if not re.fullmatch(r"(\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\]|\*", name):
            raise ValueError(f"{name!r} is not a host name: write it without scheme, port and path")
    return names


def _networks(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("must be addresses or networks separated by commas, or a list of them")
    found = []
    for item in filter(None, map(str.strip, items)):
        try:
            network = ipaddress.ip_network(item)
        except ValueError:
            raise ValueError(f"{item!r} is neither an address nor a network such as 10.0.0.0/8") from None
        if not network.prefixlen:
            raise ValueError(f"{item} is everybody, and everybody could then choose the address they are seen with")
        found.append(str(network))
    return tuple(found)


def _address(value: object) -> str:
    text = _text(value).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
        parts = urlsplit("")
    if not usable or parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://ai.example.com")
    return text


def _workers(value: object) -> int:
    if str(value) != "1":
        raise ValueError("must be 1: the embedded database belongs to one process, and one uses one core well")
    return 1


def _setting(default: object, read: Callable[[object], object], help_: str, *, secret: bool = False) -> Any:
    return dataclasses.field(default=default, repr=not secret, metadata={"read": read, "help": help_, "secret": secret})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Sizes are bytes, times are seconds. Secrets are not printed."""

    host: str = _setting("127.0.0.1", _text, "Address to listen on. 0.0.0.0 listens on every interface.")
    port: int = _setting(8080, _whole(0, 65535), "Port to listen on. 0 takes any free one.")
    data: Path = _setting(  # noqa: RUF009 - a path is immutable
        Path("~/.intertie").expanduser(), _path, "Folder of the database, the spool and the generated keys. Local disk."
    )
    public_url: str | None = _setting(
        None,
        _address,
        "The address by which clients and nodes reach the gateway, where a proxy or balancer is in front.",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (),
        _hosts,
        "Host names that requests may carry; *.example.com allows subdomains, * allows any. "
        "Empty: loopback names, `host`, and the host of `public_url`; any, when listening on every interface.",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        _networks,
        "Addresses or networks of the proxies in front, such as 127.0.0.1 or 10.0.0.0/8. Their `X-Forwarded-For` says "
        "where requests come from: in the audit trail, for nodes, and where failed enrolments are counted. "
        "Empty: nobody's is believed.",
    )
    durability: str = _setting(
        "write",
        _choice("write", "fsync"),
        "When an account in the books is safe: `write` survives a killed process, `fsync` also a power cut.",
    )
    spool_limit: int = _setting(
        1 << 30, _size, "Bytes of accounts waiting for the database before new work is refused."
    )
    body_limit: int = _setting(32 << 20, _size, "Largest request body.")
    memory_limit: int | None = _setting(
        None,
        _size,
        "Memory of the process above which new requests are refused. Omitted: four fifths of the machine's.",
    )
    cache_memory: int = _setting(
        64 << 20, _size_or_none, "Memory for kept answers (routes with `cache`, idempotency keys). 0 does without."
    )
    cache_disk: int = _setting(1 << 30, _size_or_none, "Disk for kept answers, encrypted. 0 does without.")
    log_level: str = _setting("info", _choice("debug", "info", "warning", "error"), "Least severe log line written.")
    log_requests: bool = _setting(default=True, read=_flag, help_="Write one log line per request (never its content).")
    drain_seconds: float = _setting(120.0, _number(0, 3600), "How long running requests may take after SIGTERM.")
    accept_seconds: float | None = _setting(
        None,
        _number(0, 300),
        "How long new requests are still accepted after SIGTERM, while balancers notice. "
        "Omitted: 5 with a `public_url`, where there may be a balancer, else 0.",
    )
    local_node: bool = _setting(
        default=True,
        read=_flag,
        help_="Offer the model servers that run on this machine's loopback as a node of this gateway.",
    )
    workers: int = _setting(1, _workers, "Processes. The embedded database allows one.")
    master_key: str | None = _setting(
        None, _text, "Key that encrypts stored secrets: 32 bytes in base64 or hex. Environment only.", secret=True
    )
    master_key_file: Path | None = _setting(  # noqa: RUF009 - a path is immutable
        None, _path, "File with the master key. Omitted: `master.key` in the data folder, made at the first start."
    )
    admin_key: str | None = _setting(
        None,
        _text,
        "Key of the admin API. Environment only. Omitted: `admin.key` in the data folder, made at the first start.",
        secret=True,
    )

    def accepting(self) -> float:
        """Seconds to keep accepting after SIGTERM."""
        if self.accept_seconds is not None:
            return self.accept_seconds
        return 5.0 if self.public_url else 0.0

    def hosts(self) -> tuple[str, ...]:
        """Host names that requests may carry, lower case, without port; `*` is any."""
        if self.allowed_hosts:
            return self.allowed_hosts
        if self.host in {"0.0.0.0", "::", ""}:
            return ("*",)
        own = f"[{self.host}]" if ":" in self.host else self.host.lower()
        public = urlsplit(self.public_url).hostname if self.public_url else None
        return tuple(dict.fromkeys([*_LOOPBACK, own, *([public] if public else [])]))


class Loaded(NamedTuple):
    """Settings, and warnings about names that were ignored."""

    settings: Settings
    warnings: tuple[str, ...]


FIELDS: Final = {field.name: field for field in dataclasses.fields(Settings)}


def load(
    section: Mapping[str, object], environ: Mapping[str, str], options: Mapping[str, object | None] | None = None
) -> Loaded:
    """Settings from the file's `settings:` section, the environment and command line `options` (None is not given).

    Raises `SettingsError` with every problem at once. Unknown names in the file are errors; unknown `INTERTIE_` names
    in the environment are warnings, because container platforms set some of their own. An empty variable is not set.
    """
    problems = list(check_section(section))
    values: dict[str, tuple[str, object]] = {name: (f"settings.{name}", section[name]) for name in section}
    warnings = []
    for variable, text in environ.items():
        name = variable.removeprefix(ENV_PREFIX).lower()
        if not variable.startswith(ENV_PREFIX) or variable in OTHER_NAMES or not text:
            continue
        if name == "port" and "://" in text:
            warnings.append(
                f"{variable} looks set by Kubernetes for a service and is ignored; disable enableServiceLinks"
            )
        elif name in FIELDS:
            values[name] = (variable, text)
        else:
            warnings.append(
                f"{variable} is no setting{_nearest(name, lambda known: ENV_PREFIX + known.upper())}; ignored"
            )
    values |= {name: (f"--{name}", value) for name, value in (options or {}).items() if value is not None}
    read: dict[str, Any] = {}
    for name, (written, value) in values.items():
        if name in FIELDS:
            try:
                read[name] = FIELDS[name].metadata["read"](value)
            except ValueError as error:
                problems.append(Problem(written, str(error)))
    unique = list(dict.fromkeys(problems))
    if unique:
        raise SettingsError(unique)
    return Loaded(Settings(**read), tuple(warnings))


def check_section(section: Mapping[str, object]) -> Iterator[Problem]:
    """Problems of the `settings:` section of a configuration file."""
    for name, value in section.items():
        written = f"settings.{name}"
        if name not in FIELDS:
            yield Problem(written, f"unknown setting{_nearest(str(name), str)}")
        elif FIELDS[name].metadata["secret"]:
            yield Problem(written, f"does not belong in a file: set {ENV_PREFIX}{name.upper()} in the environment")
        else:
            try:
                FIELDS[name].metadata["read"](value)
            except ValueError as error:
                yield Problem(written, str(error))


def _nearest(name: str, spell: Callable[[str], str]) -> str:
    found = difflib.get_close_matches(name, FIELDS, n=1)
    return f", did you mean {spell(found[0])}?" if found else ""
