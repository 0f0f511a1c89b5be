"""What a gateway that just became ready has to tell whoever started it."""

from __future__ import annotations

from dataclasses import dataclass, field

from intertie.controlplane.keys import CreatedKey


@dataclass(frozen=True)
class Ready:
    """The start is over and requests are accepted."""

    url: str
    """Where this machine reaches it, such as `http://127.0.0.1:8080`."""
    first_start: bool = False
    """The data directory was made just now."""
    dev_key: str | None = field(default=None, repr=False)
    """The API key made at the first start, when the configuration gave none. Shown once."""
    routes: tuple[str, ...] = ()
    """Models that clients can ask for."""
    keys: tuple[CreatedKey, ...] = field(default=(), repr=False)
    """Keys that applying the configuration generated. Shown once."""
    warnings: tuple[str, ...] = ()
    """What applying the configuration, or reading the settings, wants known."""
