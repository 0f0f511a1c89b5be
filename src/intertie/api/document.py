"""The OpenAPI document: what routes take and answer, read from the types of the operations they call.

The operations answer msgspec structs and take pydantic entries; FastAPI knows only the latter and would convert the
former once more, so routes declare both here and answer bytes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel

from intertie import __version__
from intertie.api.permissions import Permission, declared, need
from intertie.core.wire.browser import PAGE

E = TypeVar("E", bound=Callable[..., Any])

router: Final = APIRouter(tags=["documentation"])
_TYPES: Final = "intertie_types"
_REFERENCE: Final = "#/components/schemas/{name}"
_MODEL_REFERENCE: Final = "#/components/schemas/{model}"
_STYLE: Final = "/static/intertie.css"


def speaks(*, answer: Any = None, takes: type[BaseModel] | None = None) -> Callable[[E], E]:
    """Declare the type a route answers with, and the model of its JSON body where FastAPI cannot see it."""

    def declare(endpoint: E) -> E:
        setattr(endpoint, _TYPES, (answer, takes))
        return endpoint

    return declare


def shown(value: object, status: int = 200) -> Response:
    """Any struct, or list of them, as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, with the declared types and the permission of every operation."""
    document = get_openapi(title="Intertie admin API", version=__version__, routes=app.routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = {"admin_key": {"type": "http", "scheme": "bearer"}}
    schemas = components.setdefault("schemas", {})
    for route in app.routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                operation = document["paths"][route.path_format][method.lower()]
                _complete(operation, route, schemas)
    return document


def _complete(operation: dict[str, Any], route: APIRoute, schemas: dict[str, Any]) -> None:
    permission = declared(route)
    operation["x-permission"] = str(permission)
    if permission is not Permission.PUBLIC:
        operation["security"] = [{"admin_key": []}]
    answer, takes = getattr(route.endpoint, _TYPES, (None, None))
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = {"description": "An error: `error.message`, `code`, `remedy`, `problems`."}
    if answer is not None:
        (schema,), found = msgspec.json.schema_components([answer], ref_template=_REFERENCE)
        schemas |= found
        status = str(route.status_code or 200)
        operation["responses"][status]["content"] = {"application/json": {"schema": schema}}
    if takes is not None:
        schema = takes.model_json_schema(ref_template=_MODEL_REFERENCE)
        schemas |= schema.pop("$defs", {})
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}


@router.get("/api/openapi.json", dependencies=[need(Permission.PUBLIC)])
async def openapi(request: Request) -> JSONResponse:
    """This document. The same for every gateway of this version, so nobody learns anything about this one."""
    return JSONResponse(request.app.openapi())


@router.get("/api/docs", dependencies=[need(Permission.PUBLIC)], include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """The same as a page, without scripts and without anything from elsewhere."""
    return HTMLResponse(_page(request.app.openapi()), headers=dict(PAGE))


def _prose(text: str) -> str:
    """A docstring as HTML: escaped, with `code` set as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _page(document: dict[str, Any]) -> str:
    rows = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names = [parameter["name"] for parameter in operation.get("parameters", ())]
            body = "JSON body" if "requestBody" in operation else ""
            cells = (
                f'<code class="whole">{method.upper()} {html.escape(path)}</code>',
                _prose(operation.get("description") or operation.get("summary") or ""),
                html.escape(", ".join([*names, body] if body else names)) or "&mdash;",
                f'<code class="whole">{html.escape(operation["x-permission"])}</code>',
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Intertie admin API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="{_STYLE}"></head><body><header><h1>Intertie admin API</h1>'
        f"<p>Version {html.escape(document['info']['version'])}. "
        "Send <code>Authorization: Bearer &lt;admin key&gt;</code>. "
        'For programs: <a href="/api/openapi.json">openapi.json</a>.</p></header><main><div class="scroll"><table>'
        "<thead><tr><th>Operation</th><th>What it does</th><th>Takes</th><th>Permission</th></tr></thead><tbody>"
        + "".join(rows)
        + "</tbody></table></div></main></body></html>"
    )
