"""The agent as files: complete without anything installed, the same bytes each time, signed, installable."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from intertie import __version__
from intertie.agent.keys import SigningKey
from intertie.controlplane import agent_files
from intertie.controlplane.agent_files import WHEEL, ZIPAPP, AgentFiles, build
from intertie.core.wire.enrolment import manifest_message
from tests.meta.source import package

SIGNER = SigningKey(bytes(range(32)))


@pytest.fixture(scope="module")
def files() -> AgentFiles:
    """The files of this installation."""
    return build(SIGNER)


@pytest.fixture(scope="module")
def zipapp(files: AgentFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single file on a disk."""
    path = tmp_path_factory.mktemp("zipapp") / ZIPAPP
    path.write_bytes(files.files[ZIPAPP])
    return path


def _names(content: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(content)).namelist())


def _bare(*words: str) -> subprocess.CompletedProcess[str]:
    """This Python without anything that is installed in its environment."""
    return subprocess.run(
        [sys.executable, "-I", "-S", *words], capture_output=True, text=True, check=False, timeout=60, cwd="/"
    )


def test_the_list_names_every_file_and_is_signed(files: AgentFiles) -> None:
    """Name, size and SHA-256 of each; the signature is good for these very bytes."""
    listed = json.loads(files.manifest)
    rows = {row["name"]: (row["sha256"], row["size"]) for row in listed["files"]}

    assert (listed["version"], listed["protocols"]) == (__version__, [1])
    assert rows == {name: (hashlib.sha256(one).hexdigest(), len(one)) for name, one in files.files.items()}
    Ed25519PublicKey.from_public_bytes(files.public).verify(files.signature, manifest_message(files.manifest))


def test_the_same_installation_makes_the_same_bytes(files: AgentFiles) -> None:
    """In this process again, and in another one with another time zone and another order of hashes."""
    agent_files._archives.cache_clear()
    again = build(SIGNER)
    program = (
        "import hashlib; from intertie.controlplane.agent_files import _archives;"
        "print(*(hashlib.sha256(one).hexdigest() for one in _archives().values()))"
    )
    environ = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, env=environ
    )

    assert again == files
    assert other.stdout.split() == [hashlib.sha256(one).hexdigest() for one in files.files.values()]


def test_all_of_the_agent_is_inside_and_nothing_of_the_gateway(files: AgentFiles) -> None:
    """Every module of the agent, what it imports, and no part that serves, stores or routes."""
    agent = {f"intertie/{path}" for path in _modules("agent")}
    for name in (ZIPAPP, WHEEL):
        inside = {one for one in _names(files.files[name]) if one.startswith("intertie/") and one.endswith(".py")}
        assert agent <= inside
        rest = {one.split("/")[1] for one in inside - agent}
        assert rest <= {"__init__.py", "core"}
        assert not {"intertie/core/terms.py", "intertie/core/providers/__init__.py"} & inside


def _modules(prefix: str) -> set[str]:
    found = set()
    for module in package():
        if module.name == prefix or module.name.startswith(prefix + "."):
            place = module.name.replace(".", "/")
            found.add(f"{place}/__init__.py" if module.package else f"{place}.py")
    return found


def test_carried_libraries_come_with_their_licences_and_without_their_tests(files: AgentFiles) -> None:
    """Whoever passes the file on passes the licences on."""
    names = _names(files.files[ZIPAPP])

    for library in ("ecdsa", "six", "truststore", "nvidia-ml-py", "intertie"):
        assert any(name.startswith(f"licenses/{library}/") for name in names), library
    assert {"ecdsa/eddsa.py", "six.py", "truststore/__init__.py", "pynvml.py"} <= names
    assert not [name for name in names if Path(name).name.startswith("test_")]
    assert len(files.files[ZIPAPP]) < 1_000_000


def test_every_module_of_the_single_file_imports_without_anything_installed(zipapp: Path) -> None:
    """The standard library and what is inside is enough."""
    names = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in sorted(_names(zipapp.read_bytes()))
        if name.startswith("intertie/") and name.endswith(".py") and not name.endswith("__main__.py")
    ]
    program = f"import sys; sys.path.insert(0, {str(zipapp)!r})\nfor name in {names!r}: __import__(name)\nprint('all')"
    ran = _bare("-c", program)

    assert ran.stdout.strip() == "all", ran.stderr


def test_the_single_file_signs_like_the_gateway_without_anything_installed(zipapp: Path) -> None:
    """The carried pure-Python Ed25519 gives the bytes that the native one gives."""
    program = (
        f"import sys; sys.path.insert(0, {str(zipapp)!r})\n"
        "from intertie.agent.keys import SigningKey\n"
        "print(SigningKey(bytes(range(32))).sign(b'message').hex())"
    )
    ran = _bare("-c", program)

    assert ran.stdout.strip() == SIGNER.sign(b"message").hex(), ran.stderr


def test_the_single_file_runs(zipapp: Path) -> None:
    """As a program, also by its own first line."""
    assert _bare(str(zipapp), "version").stdout.strip() == __version__
    zipapp.chmod(0o755)
    assert subprocess.run([zipapp, "version"], capture_output=True, text=True, check=True).stdout.strip() == __version__


def test_an_older_python_says_so(zipapp: Path) -> None:
    """The first thing that runs is readable to any Python, and names the version it found."""
    with zipfile.ZipFile(zipapp) as archive:
        start = archive.read("__main__.py").decode()
    ast.parse(start, feature_version=(3, 4))
    program = f"import runpy, sys; sys.version_info = (3, 9, 2, 'final', 0); runpy.run_path({str(zipapp)!r})"
    ran = _bare("-c", program)

    assert ran.returncode == 1
    assert "needs Python 3.11 or later; this is 3.9" in ran.stderr


def test_the_wheel_is_valid(files: AgentFiles) -> None:
    """The record lists every file with its digest; the description can be read; the command is not the product's."""
    archive = zipfile.ZipFile(io.BytesIO(files.files[WHEEL]))
    about = f"intertie_node-{__version__}.dist-info"
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(archive.read(f"{about}/RECORD").decode()))}
    assert set(rows) == set(archive.namelist())
    for name, (digest, size) in rows.items():
        if name != f"{about}/RECORD":
            content = archive.read(name)
            made = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert (digest, size) == (f"sha256={made}", str(len(content)))
    described = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
    assert (described["Name"], described["Version"]) == ("intertie-node", __version__)
    assert described["Requires-Python"] == ">=3.11"
    required = {line.split(">")[0] for line in described.get_all("Requires-Dist", [])}
    assert required == {"cryptography", "truststore", "nvidia-ml-py"}
    commands = archive.read(f"{about}/entry_points.txt").decode().split("\n")[1:]
    assert [line.split(" = ")[0] for line in commands if line] == ["intertie-node"]


@pytest.mark.slow
def test_pip_installs_the_wheel(files: AgentFiles, tmp_path: Path) -> None:
    """Into an environment of its own; its command runs there, and uninstalling takes everything back."""
    wheel = tmp_path / WHEEL
    wheel.write_bytes(files.files[WHEEL])
    place = tmp_path / "environment"
    venv.create(place, with_pip=False)
    before = {path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", str(wheel)], check=True, capture_output=True)
    ran = subprocess.run([place / "bin/intertie-node", "version"], capture_output=True, text=True, check=True, cwd="/")
    subprocess.run([*pip, "uninstall", "-y", "intertie-node"], check=True, capture_output=True)

    assert ran.stdout.strip() == __version__
    assert {path for path in place.rglob("*") if path.is_file() and "__pycache__" not in path.parts} == before
