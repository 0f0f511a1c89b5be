"""The agent as files, made from this very installation: one zipapp, one wheel, and a signed list of both.

So a node gets exactly the agent that this gateway speaks with, also where there is no internet. The same installation
always makes the same bytes: files in order, no time of day, no build tool.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from intertie import __version__
from intertie.core.errors import Misconfigured
from intertie.core.wire.enrolment import manifest_message
from intertie.core.wire.link import PROTOCOL

ZIPAPP: Final = "intertie-node.pyz"
WHEEL: Final = f"intertie_node-{__version__}-py3-none-any.whl"
COMMAND: Final = "intertie-node"
"""The wheel's only command: `intertie` belongs to the whole product, and both may be installed side by side."""

_PACKAGE: Final = "intertie"
_MAIN: Final = "intertie.agent.__main__"
_CARRIED: Final = MappingProxyType(
    {"ecdsa": "ecdsa", "six": "six", "truststore": "truststore", "pynvml": "nvidia-ml-py"}
)
"""Importable name -> distribution, of the pure-Python libraries inside the zipapp."""
_REQUIRES: Final = ("cryptography>=45", "truststore>=0.10", "nvidia-ml-py>=12")
"""What the wheel asks for instead."""
_LICENCES: Final = ("LICENSE", "LICENCE", "COPYING", "NOTICE")
_BEGINNING: Final = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archives: the earliest that the format knows."""

_START: Final = """\
# Written so that any Python can read it and say what is wrong.
import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "intertie-node needs Python 3.11 or later; this is %d.%d (%s).\\n"
        "Run it with a newer one, for example: python3.13 intertie-node.pyz status\\n"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
    sys.exit(1)

import runpy

runpy.run_module("intertie.agent.__main__", run_name="__main__", alter_sys=True)
"""


class Signer(Protocol):
    """The gateway's signing key."""

    @property
    def public(self) -> bytes:
        """32 bytes, Ed25519."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""


class AgentFiles(NamedTuple):
    """What a machine fetches to become a node."""

    files: Mapping[str, bytes]
    """Name -> bytes."""
    sha256: Mapping[str, str]
    """Name -> hexadecimal digest."""
    manifest: bytes
    """JSON: {"version", "files": [{"name", "sha256", "size"}], "protocols"}."""
    signature: bytes
    """64 bytes, by `public` over `core.wire.enrolment.manifest_message(manifest)`."""
    public: bytes
    """The gateway's public key, 32 bytes."""


def build(signer: Signer) -> AgentFiles:
    """The agent's files, signed. Blocks for a moment the first time; the archives are made once per process.

    Raises `Misconfigured` if this installation lacks a part of the agent.
    """
    files = _archives()
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    rows = [{"name": name, "sha256": sha256[name], "size": len(files[name])} for name in sorted(files)]
    manifest = json.dumps({"version": __version__, "files": rows, "protocols": [PROTOCOL]}, indent=1).encode()
    return AgentFiles(files, sha256, manifest, signer.sign(manifest_message(manifest)), signer.public)


@cache
def _archives() -> Mapping[str, bytes]:
    try:
        sources = _sources()
        return MappingProxyType({ZIPAPP: _zipapp(sources), WHEEL: _wheel(sources)})
    except (ImportError, OSError, SyntaxError) as error:
        raise Misconfigured(f"the agent's files cannot be made: {error}; install the gateway again") from error


# -- what goes in ----------------------------------------------------------------------------------------------------


def _sources() -> dict[str, bytes]:
    """Path inside an archive -> source, of the agent and of every module of ours that it imports, directly or not."""
    root = _folder(_PACKAGE)
    found: dict[str, bytes] = {}
    waiting = [path.relative_to(root.parent).as_posix() for path in root.joinpath("agent").rglob("*.py")]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = root.parent.joinpath(path).read_bytes()
        packages = Path(path).parents
        waiting += [f"{package.as_posix()}/__init__.py" for package in packages if package.name]
        waiting += _imported(found[path], root.parent)
    if _MAIN.replace(".", "/") + ".py" not in found:
        raise ImportError(f"{_MAIN} is missing")
    return found


def _imported(source: bytes, base: Path) -> Iterator[str]:
    """Paths of our own modules that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == _PACKAGE:
                place = base.joinpath(*name.split("."))
                for path in (place.with_suffix(".py"), place / "__init__.py"):
                    if path.is_file():
                        yield path.relative_to(base).as_posix()


def _carried() -> dict[str, bytes]:
    """The libraries inside the zipapp with their licences; their own tests stay behind."""
    found: dict[str, bytes] = {}
    for name, distribution in _CARRIED.items():
        place = _folder(name)
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        for path in files:
            if not path.name.startswith("test_"):
                found[path.relative_to(place.parent).as_posix()] = path.read_bytes()
        found |= _licences(distribution)
    return found


def _licences(distribution: str) -> dict[str, bytes]:
    """`licenses/<distribution>/…`: its licence files, or its description where the sources carry the text."""
    about = metadata.distribution(distribution)
    found = {}
    for path in about.files or ():
        if path.name.upper().startswith(_LICENCES) and ".dist-info" in path.parts[0]:
            found[f"licenses/{distribution}/{path.name}"] = Path(str(path.locate())).read_bytes()
    if not found:
        found[f"licenses/{distribution}/METADATA"] = (about.read_text("METADATA") or "").encode()
    return found


def _folder(name: str) -> Path:
    """Where a package lives, or the file of a module."""
    spec = find_spec(name)  # not imported: the gateway itself has no use for these
    if spec is None or spec.origin is None:
        raise ImportError(f"{name} is missing")
    path = Path(spec.origin)
    return path.parent if path.name == "__init__.py" else path


# -- the archives ----------------------------------------------------------------------------------------------------


def _zipapp(sources: Mapping[str, bytes]) -> bytes:
    content = {"__main__.py": _START.encode(), **sources, **_carried(), **_licences(_PACKAGE)}
    return b"#!/usr/bin/env python3\n" + _zip(dict(sorted(content.items())))


def _wheel(sources: Mapping[str, bytes]) -> bytes:
    about = f"intertie_node-{__version__}.dist-info"
    requires = "".join(f"Requires-Dist: {name}\n" for name in _REQUIRES)
    licences = {f"{about}/{path.split('/', 2)[2]}": text for path, text in _licences(_PACKAGE).items()}
    content = {
        **dict(sorted(sources.items())),
        **licences,
        f"{about}/METADATA": (
            f"Metadata-Version: 2.1\nName: intertie-node\nVersion: {__version__}\n"
            "Summary: The agent of Intertie: makes this machine's models part of a gateway.\n"
            f"License: Apache-2.0\nRequires-Python: >=3.11\n{requires}"
        ).encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: intertie\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{COMMAND} = {_MAIN}:main\n".encode(),
    }
    record = f"{about}/RECORD"
    rows = [f"{path},sha256={_digest(text)},{len(text)}\n" for path, text in content.items()]
    return _zip({**content, record: "".join([*rows, f"{record},,\n"]).encode()})


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zip(content: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in content.items():
            entry = zipfile.ZipInfo(path, _BEGINNING)
            entry.create_system = 3  # the same on every system: Unix, a plain file
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED, 9)
    return file.getvalue()
