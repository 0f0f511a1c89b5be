"""Who may do what in the admin API. Every route declares one permission; a route without one stops the start (T29)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Final

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount

from intertie.core.errors import BadCall, Unauthenticated

Opens = Callable[[str], bool]
"""Whether a presented key is the admin key; constant time."""

REMEDY: Final = "Send 'Authorization: Bearer <admin key>'; it is in admin.key of the gateway's data directory."


class Permission(StrEnum):
    """What a route of the admin API needs. Today the admin key holds all; roles will hold some."""

    PUBLIC = "public"
    """Tells nothing about this gateway, or is a probe."""
    STATUS_READ = "status:read"
    METRICS_READ = "metrics:read"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    PROJECTS_READ = "projects:read"
    PROJECTS_WRITE = "projects:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    UPSTREAMS_READ = "upstreams:read"
    UPSTREAMS_WRITE = "upstreams:write"
    ROUTES_READ = "routes:read"
    ROUTES_WRITE = "routes:write"
    RULES_READ = "rules:read"
    RULES_WRITE = "rules:write"
    LIMITS_READ = "limits:read"
    LIMITS_WRITE = "limits:write"
    CONFIGURATION_CHECK = "configuration:check"
    CONFIGURATION_APPLY = "configuration:apply"
    NODES_READ = "nodes:read"
    NODES_WRITE = "nodes:write"
    AUDIT_READ = "audit:read"
    CACHE_READ = "cache:read"
    CACHE_WRITE = "cache:write"
    USAGE_READ = "usage:read"
    LEDGER_READ = "ledger:read"
    BACKUP_READ = "backup:read"


class Need:
    """The dependency that a route declares. Calling it lets the request pass or raises `Unauthenticated`."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __repr__(self) -> str:
        return f"Need({self.permission})"

    async def __call__(self, request: Request) -> None:
        """Check one request."""
        if self.permission is Permission.PUBLIC:
            return
        allowed: Callable[[Request, Permission], Awaitable[None]] = request.app.state.allowed
        await allowed(request, self.permission)


def need(permission: Permission) -> Dependency:
    """What goes into a route's `dependencies`."""
    dependency: Dependency = Depends(Need(permission))
    return dependency


def declared(route: BaseRoute) -> Permission | None:
    """The permission a route declares; `None` if it declares none, or more than one."""
    if not isinstance(route, APIRoute):
        return None
    found = [found.dependency.permission for found in route.dependencies if isinstance(found.dependency, Need)]
    return found[0] if len(found) == 1 else None


def insist(routes: Iterable[BaseRoute]) -> None:
    """Raise `RuntimeError` naming every route that declares no permission. Mounted applications are refused as well."""
    bare = [
        getattr(route, "path", repr(route)) for route in routes if isinstance(route, Mount) or declared(route) is None
    ]
    if bare:
        raise RuntimeError(f"routes without a declared permission: {', '.join(bare)}")


def presented(request: Request) -> str:
    """The bearer key of a request: exactly one, in exactly one place (T26). Raises `Unauthenticated` or `BadCall`."""
    values = request.headers.getlist("authorization")
    if len(set(values)) > 1 or (values and "x-api-key" in request.headers):
        raise BadCall("More than one credential was sent; send one.", code="conflicting_credentials")
    if not values:
        raise Unauthenticated(f"No admin key was sent. {REMEDY}", code="missing_admin_key")
    scheme, _, key = values[0].partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated(f"The Authorization header is not a bearer token. {REMEDY}", code="missing_admin_key")
    return key.strip()
