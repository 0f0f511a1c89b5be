"""The one table of the house rules. DESIGN of the layers: docs/explain/design.md."""

from __future__ import annotations

from typing import Final

PACKAGE: Final = "intertie"

RANKS: Final[tuple[tuple[str, ...], ...]] = (
    ("core.keeping",),
    ("core.terms", "core.errors", "settings", "auditor"),
    ("core.ledger", "core.wire", "core.pricing", "core.keys"),
    ("core.providers", "core.routing", "core.policy"),
    ("dataplane", "store", "agent"),
    ("controlplane",),
    ("api", "console", "cli"),
    ("app",),
    ("__main__",),
)
"""A unit imports only units of an earlier row, never one of its own row."""

DOORS_MAY_NOT: Final = {"console": ("store", "dataplane"), "cli": ("store", "dataplane"), "api": ("store",)}
"""Doors change and read state through the control plane, so all doors do the same; only `api` sends requests."""

FILE_LINES: Final = 400
FUNCTION_LINES: Final = 60
CLASS_LINES: Final = 300
PARAMETERS: Final = 7

BORDERS: Final[dict[str, tuple[frozenset[str], tuple[str, ...]]]] = {
    "HTTP client": (
        frozenset({"aiohttp", "http.client", "httpx", "httpx2", "pyreqwest", "requests", "urllib.request", "urllib3"}),
        ("dataplane.transport", "agent", "cli.client"),
    ),
    "SQL": (
        frozenset({"alembic", "apsw", "asyncpg", "psycopg", "pysqlite3", "sqlalchemy", "sqlite3"}),
        ("store",),
    ),
    "web framework": (
        frozenset({"fastapi", "jinja2", "starlette"}),
        ("api", "console"),
    ),
    "HTTP server": (
        frozenset({"uvicorn"}),
        ("api", "app"),
    ),
    "HTTP parser": (
        frozenset({"httptools"}),
        ("api.edge", "dataplane.transport"),
    ),
    "embedding model": (
        frozenset({"numpy", "onnxruntime", "tokenizers"}),
        ("dataplane.local_embedder",),
    ),
    "terminal": (
        frozenset({"rich", "typer"}),
        ("cli", "__main__"),
    ),
}
"""What a third-party kind of thing is for -> its modules, and the only units that may import them."""

IMPURE: Final = frozenset(
    {"asyncio", "concurrent", "logging", "multiprocessing", "os", "pathlib", "secrets", "select", "signal", "socket"}
    | {"sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid"}
)
"""Standard modules that reach the clock, the disk, the network or chance; `core` gets such things as arguments."""

BANNED_WORDS: Final = frozenset({"manager", "helper", "helpers", "util", "utils", "data", "info"})
"""Words that say nothing, not allowed in names of modules, classes and functions."""

IMPOSED: Final = frozenset({"data_received"})
"""Method names that a library calls, whatever they say."""

BANNED_STARTS: Final = ("process_", "handle_everything")
