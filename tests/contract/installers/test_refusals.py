"""install.sh refuses what its gateway did not sign, before anything of it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertie.agent.keys import SigningKey
from intertie.controlplane.agent_files import ZIPAPP
from intertie.core.wire.enrolment import manifest_message
from tests.contract.installers.conftest import Installs, left
from tests.support.front import Front

pytestmark = pytest.mark.slow


def test_a_file_that_was_changed_is_refused(installs: Installs, home: Path, served: Front) -> None:
    """One byte is enough, and nothing of it ran."""
    content = bytearray(served.files.files[ZIPAPP])
    content[len(content) // 2] ^= 1
    served.lies[f"/install/files/{ZIPAPP}"] = bytes(content)
    ran = installs("--user", "--no-service", "--yes")

    assert ran.returncode == 1
    assert "is damaged" in ran.stderr
    assert left(home) == []
    assert "/link/device" not in served.asked


def test_a_list_signed_by_somebody_else_is_refused(installs: Installs, home: Path, served: Front) -> None:
    """The key in the script is the gateway's, and no other will do."""
    other = SigningKey.generate().sign(manifest_message(served.files.manifest))
    served.lies["/install/manifest.sig"] = other
    ran = installs("--user", "--no-service", "--yes")

    assert ran.returncode == 1
    assert "does not bear this gateway's signature" in ran.stderr
    assert left(home) == []


def test_a_list_that_was_changed_is_refused(installs: Installs, home: Path, served: Front) -> None:
    """Also when the file fits it."""
    served.lies["/install/manifest.json"] = served.files.manifest.replace(b'"protocols"', b'"protocol5"')
    ran = installs("--user", "--no-service", "--yes")

    assert "does not bear this gateway's signature" in ran.stderr
    assert left(home) == []


def test_an_older_script_asks_to_be_fetched_again(installs: Installs, home: Path, served: Front) -> None:
    """After an upgrade of the gateway, what it signs is not what the script was told."""
    listed = json.loads(served.files.manifest)
    for row in listed["files"]:
        row["sha256"] = "0" * 64
    served.resign(json.dumps(listed).encode())
    ran = installs("--user", "--no-service", "--yes")

    assert "fetch the installer again" in ran.stderr
    assert left(home) == []


def test_a_gateway_that_is_gone_is_named(installs: Installs, home: Path, served: Front) -> None:
    """The address that did not answer, and what to look at."""
    script = served.script().replace(served.url, "http://127.0.0.1:9")
    ran = installs("--user", "--no-service", "--yes", script=script)

    assert ran.returncode == 1
    assert "cannot download http://127.0.0.1:9/install/manifest.json" in ran.stderr
    assert left(home) == []
