"""`/install.sh` and its like: how a machine gets the agent, from this gateway itself.

The scripts carry the gateway's configured address, the agent's version and SHA-256, and the gateway's public key. The
Host header of the request is not asked for anything: whoever can choose it must not choose where nodes connect to.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from intertie import __version__
from intertie.api.permissions import Permission, need
from intertie.api.state import AdminState, state
from intertie.controlplane import agent_files
from intertie.controlplane.addresses import base_url
from intertie.controlplane.admin_key import on_this_machine
from intertie.controlplane.agent_files import ZIPAPP, AgentFiles
from intertie.core.errors import NotFound

router: Final = APIRouter(tags=["installers"], include_in_schema=False, dependencies=[need(Permission.PUBLIC)])
State = Annotated[AdminState, Depends(state)]

ASSETS: Final = Path(__file__).parent / "assets"
"""Templates; `packaging/node` of the repository is this folder."""
_PLACE: Final = re.compile(r"'@([A-Z0-9_]+)@'|@([A-Z0-9_]+)@")
_PARTS: Final = {
    "VERIFY": "verify.py",
    "SYSTEM_UNIT": "intertie-node.service",
    "USER_UNIT": "intertie-node-user.service",
    "AGENT_PLIST": "intertie-node.agent.plist",
    "DAEMON_PLIST": "intertie-node.daemon.plist",
    "SERVICE": "service.py",
}
"""Places that other files fill."""
_FILES: Final = "application/octet-stream"
_REASONS: Final = {
    "install.sh": "#!/bin/sh\n# No installer: this only says why not.\n>&2 printf '%s\\n' {reason}\nexit 1\n",
    # Not `exit`: where this is run by `iex`, that would close the window before anybody has read the reason.
    "install.ps1": "# No installer: this only says why not.\nthrow {reason}\n",
}
"""What scripts do in place of the installer, with status 200: `curl -f` and `irm` show nobody the body of another."""


class NoAddress(Exception):
    """The gateway does not know by which address machines reach it; the message names the setting."""


@router.get("/install.sh")
async def shell(request: Request, state: State) -> Response:
    """The installer for Linux and macOS."""
    return await _script(request, state, "install.sh", "text/x-shellscript")


@router.get("/install.ps1")
async def powershell(request: Request, state: State) -> Response:
    """The installer for Windows."""
    return await _script(request, state, "install.ps1", "text/plain")


@router.get("/install/compose.yml")
async def compose(request: Request, state: State) -> Response:
    """A node in a container, for Docker Compose."""
    return await _script(request, state, "compose.yml", "application/yaml")


@router.get("/install/Dockerfile")
async def dockerfile(request: Request, state: State) -> Response:
    """The image of a node."""
    return await _script(request, state, "Dockerfile", "text/plain")


@router.get("/install/manifest.json")
async def manifest(state: State) -> Response:
    """The agent's files with their SHA-256."""
    return Response((await _files(state)).manifest, media_type="application/json")


@router.get("/install/manifest.sig")
async def signature(state: State) -> Response:
    """The gateway's Ed25519 signature over the manifest: 64 bytes."""
    return Response((await _files(state)).signature, media_type=_FILES)


@router.get("/install/files/{name}")
async def file(name: str, state: State) -> Response:
    """One of the files that the manifest lists."""
    content = (await _files(state)).files.get(name)
    if content is None:
        raise NotFound("There is no such file. The list is at /install/manifest.json.")
    return Response(content, media_type=_FILES, headers={"content-disposition": f'attachment; filename="{name}"'})


# -- where this gateway is -------------------------------------------------------------------------------------------


def address(public_url: str | None, request: Request) -> str:
    """The address that installers carry: as configured, or for this very machine its own loopback address.

    Raises `NoAddress`.
    """
    if public_url is not None:
        try:
            return base_url(public_url)
        except ValueError as error:
            raise NoAddress(f"The setting public_url cannot be put into a script: it {error}.") from None
    peer = request.client.host if request.client else None
    server: tuple[str, int | None] | None = request.scope.get("server")  # our end of the socket, not a header
    if server is None or not on_this_machine(peer, request.headers.get("host", ""), request.headers.keys()):
        raise NoAddress(
            "This gateway does not know by which address other machines reach it. Its operator sets public_url, "
            "for example INTERTIE_PUBLIC_URL=https://ai.example.com, and starts it again."
        )
    return f"http://{f'[{server[0]}]' if ':' in server[0] else server[0]}:{server[1]}"


# -- filling in ------------------------------------------------------------------------------------------------------


async def _files(state: AdminState) -> AgentFiles:
    return await run_in_threadpool(agent_files.build, state.control.vault.signer)


async def _script(request: Request, state: AdminState, name: str, kind: str) -> Response:
    kind = f"{kind}; charset=utf-8"
    try:
        where = address(state.public_url, request)
    except NoAddress as problem:
        if (script := _REASONS.get(name)) is not None:
            return Response(script.format(reason=_quoted(name, f"Not installed. {problem}")), media_type=kind)
        # A file to keep: better none than a wrong one. A comment, so that nothing happens to whoever builds from it.
        return Response(f"# {problem}\n", 409, media_type=kind)
    return Response(fill(name, where, await _files(state)), media_type=kind)


def fill(name: str, gateway: str, files: AgentFiles) -> str:
    """The template `name` for a gateway, with every value written as its language needs it."""
    values = {
        "GATEWAY": gateway,
        "VERSION": __version__,
        "PUBLIC_KEY": files.public.hex(),
        "ZIPAPP": ZIPAPP,
        "ZIPAPP_SHA256": files.sha256[ZIPAPP],
        "FILES": "\n# ".join(f"{digest}  {one}" for one, digest in sorted(files.sha256.items())),
    }
    if name == "compose.yml":
        inline = fill("Dockerfile", gateway, files).replace("$", "$$")  # Compose would fill in variables
        values["DOCKERFILE"] = "\n".join(f"        {line}".rstrip() for line in inline.splitlines())
    if name in {"Dockerfile", "compose.yml"}:
        values["GATEWAY"] = quote(gateway, safe=":/[]@~+-._")
    return _filled(_asset(name), name, values)


def _filled(template: str, name: str, values: Mapping[str, Any]) -> str:
    def value(found: re.Match[str]) -> str:
        quoted, bare = found.groups()
        if quoted is not None and quoted in values:
            return _quoted(name, values[quoted])
        if bare in _PARTS:
            return _asset(_PARTS[bare]).rstrip("\n")
        return str(values.get(bare, found[0]))

    return _PLACE.sub(value, template)


def _quoted(name: str, value: str) -> str:
    """A value as one literal word of a script's language."""
    if name.endswith(".ps1"):
        return "'" + value.replace("'", "''") + "'"
    return shlex.quote(value) if name.endswith(".sh") else json.dumps(value)


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
