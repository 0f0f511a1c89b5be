"""What the gateway hands to machines that shall become nodes: its own files, its configured address, nobody's Host."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from httpx2 import Response
from starlette.testclient import TestClient

from intertie.agent.keys import verify
from intertie.api.install import ASSETS, fill
from intertie.controlplane.agent_files import build
from intertie.core.wire.enrolment import manifest_message
from tests.contract.api.conftest import Gateway
from tests.meta.source import ROOT

PUBLIC_URL = "https://ai.example.com"
SCRIPTS = {
    "/install.sh": "text/x-shellscript; charset=utf-8",
    "/install.ps1": "text/plain; charset=utf-8",
    "/install/compose.yml": "application/yaml; charset=utf-8",
    "/install/Dockerfile": "text/plain; charset=utf-8",
}
AWKWARD = "https://ai.example.com/it's;$(touch-x)&$HOME"
"""What the grammar of addresses allows, and every language reads differently."""


@pytest.fixture
def known(gateway: Gateway) -> Gateway:
    """A gateway that knows its address."""
    gateway.state.public_url = PUBLIC_URL
    return gateway


@pytest.fixture
def served_here(gateway: Gateway) -> Iterator[TestClient]:
    """A client on this machine; the server's end of the socket is 127.0.0.1, port 18080."""
    with TestClient(gateway.app, "http://127.0.0.1:18080", client=("127.0.0.1", 50_000)) as client:
        yield client


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_carry_address_version_digest_and_key(known: Gateway, path: str) -> None:
    """To anybody, never from a cache."""
    answer = known.remote.get(path)
    files = build(known.state.control.vault.signer)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == SCRIPTS[path]
    assert answer.headers["cache-control"] == "no-store"
    assert PUBLIC_URL in answer.text
    assert files.sha256["intertie-node.pyz"] in answer.text
    if path.startswith("/install."):
        assert files.public.hex() in answer.text
    assert set(re.findall(r"@[A-Z0-9_]+@", answer.text)) <= {"@SERVICE_USER@"}  # that one is the machine's to fill


@pytest.mark.parametrize("path", SCRIPTS)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:443", "127.0.0.1:9", "$(touch x).example"])
def test_the_host_of_a_request_has_no_effect(known: Gateway, path: str, host: str) -> None:
    """Whoever chooses it does not choose where nodes connect to."""
    forged = {"host": host, "x-forwarded-host": host, "x-forwarded-proto": "http", "forwarded": f"host={host}"}

    assert known.remote.get(path, headers=forged).text == known.remote.get(path).text


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def refused(gateway: Gateway, path: str) -> list[Response]:
    """What others get, and this machine when it comes by another name, while no address is configured."""
    elsewhere = gateway.remote.get(path, headers={"host": "127.0.0.1:8080"})
    proxied = gateway.stranger.get(path, headers={"x-forwarded-for": "203.0.113.9"})
    rebound = gateway.stranger.get(path, headers={"host": "evil.example"})
    return [elsewhere, proxied, rebound]


@pytest.mark.parametrize("path", ["/install/compose.yml", "/install/Dockerfile"])
def test_without_a_configured_address_there_is_no_file_for_others(gateway: Gateway, path: str) -> None:
    """What would be kept is refused; the answer names the setting and is harmless to whoever builds from it."""
    for answer in refused(gateway, path):
        assert answer.status_code == 409
        assert "public_url" in answer.text
        assert all(line.startswith("#") for line in answer.text.splitlines())


def test_without_a_configured_address_the_shell_script_only_says_why(gateway: Gateway, empty: Path) -> None:
    """`curl -f … | sh` shows no body of a refusal, so the reason is a program; it says it, fails, and that is all."""
    for answer in refused(gateway, "/install.sh"):
        assert (answer.status_code, answer.headers["content-type"]) == (200, SCRIPTS["/install.sh"])
        for words in ((), ("--yes",), ("--uninstall",)):
            ran = run_script(answer.text, *words, home=empty)
            assert (ran.returncode, ran.stdout) == (1, "")
            assert ran.stderr.startswith("Not installed. This gateway does not know")
            assert "INTERTIE_PUBLIC_URL=https://ai.example.com" in ran.stderr
    assert list(empty.iterdir()) == []


def test_the_reason_cut_short_does_nothing(gateway: Gateway, empty: Path) -> None:
    """Wherever the download breaks off: no output but complaints, no file."""
    whole = refused(gateway, "/install.sh")[0].text
    for end in range(len(whole)):
        ran = run_script(whole[:end], home=empty)
        assert ran.stdout == ""
        assert list(empty.iterdir()) == []


def test_without_a_configured_address_the_powershell_script_only_throws_why(gateway: Gateway) -> None:
    """One statement with one literal text; `exit` would close the window of whoever pipes it into `iex`."""
    for answer in refused(gateway, "/install.ps1"):
        assert (answer.status_code, answer.headers["content-type"]) == (200, SCRIPTS["/install.ps1"])
        comment, statement = answer.text.splitlines()
        assert comment.startswith("#")
        assert re.fullmatch(r"throw '(?:[^']|'')*public_url(?:[^']|'')*'", statement)
        assert answer.text.isascii()


def run_script(text: str, *words: str, home: Path) -> subprocess.CompletedProcess[str]:
    """As `curl … | sh -s -- words` does, with no program to call."""
    environ = {"PATH": "", "HOME": str(home)}
    return subprocess.run(
        ["/bin/sh", "-s", "--", *words], input=text, env=environ, cwd=home, capture_output=True, text=True, check=False
    )


def test_on_this_machine_the_gateway_is_its_own_socket(served_here: TestClient) -> None:
    """The address comes from our end of the connection; another loopback port in Host changes nothing."""
    for host in ("127.0.0.1:18080", "localhost:1", "[::1]:2"):
        text = served_here.get("/install.sh", headers={"host": host}).text
        assert "GATEWAY=http://127.0.0.1:18080\n" in text


def test_an_address_that_no_script_can_carry_is_an_error_not_an_accident(gateway: Gateway) -> None:
    """A line break in a setting would be a command."""
    gateway.state.public_url = "https://ai.example.com/\ntouch x"
    for path in SCRIPTS:
        answer = gateway.remote.get(path)
        assert answer.status_code == (200 if path.startswith("/install.") else 409)
        assert "The setting public_url cannot be put into a script" in answer.text
        assert "touch" not in answer.text


def test_every_language_reads_back_the_address_that_was_set(known: Gateway) -> None:
    """Quotes, dollars and brackets arrive as they were, and nothing of them runs."""
    known.state.public_url = AWKWARD
    shell = known.remote.get("/install.sh").text
    settings = shell[shell.index("settings() {") : shell.index("usage() {")]
    ran = subprocess.run(
        ["/bin/sh", "-c", settings + '\nsettings; printf %s "$GATEWAY"'], capture_output=True, text=True, check=True
    )
    assert ran.stdout == AWKWARD

    powershell = known.remote.get("/install.ps1").text
    literal = re.search(r"Gateway = '((?:[^']|'')*)'", powershell)
    assert literal is not None
    assert literal[1].replace("''", "'") == AWKWARD

    inline = yaml.safe_load(known.remote.get("/install/compose.yml").text)["services"]["node"]["build"]
    image = known.remote.get("/install/Dockerfile").text
    assert inline["dockerfile_inline"].replace("$$", "$").strip() == image.strip()
    (line,) = [line for line in image.splitlines() if line.startswith("ADD")]
    assert len(line.split()) == 5
    assert "$" not in line
    assert "'" not in line


def test_files_are_the_ones_that_are_listed_and_signed(known: Gateway) -> None:
    """What is downloaded is what the manifest says, and the signature is the gateway's."""
    manifest = known.remote.get("/install/manifest.json")
    signature = known.remote.get("/install/manifest.sig").content
    assert manifest.headers["content-type"] == "application/json"
    public = build(known.state.control.vault.signer).public
    assert verify(public, manifest_message(manifest.content), signature)
    for row in json.loads(manifest.content)["files"]:
        answer = known.remote.get(f"/install/files/{row['name']}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert hashlib.sha256(answer.content).hexdigest() == row["sha256"]
        assert len(answer.content) == row["size"]


@pytest.mark.parametrize("name", ["install.sh", "..%2finstall.py", "%2e%2e", "x"])
def test_no_other_file_is_served(known: Gateway, name: str) -> None:
    """The list is the whole of it."""
    assert known.remote.get(f"/install/files/{name}").status_code == 404


def test_templates_are_package_resources(known: Gateway) -> None:
    """`packaging/node` is the same folder, not a copy."""
    assert (ROOT / "packaging/node").resolve() == ASSETS.resolve()
    assert (
        fill("install.sh", PUBLIC_URL, build(known.state.control.vault.signer)) == known.remote.get("/install.sh").text
    )
