"""Units, plists, images and compose files: read by the programs and libraries that read them for real."""

from __future__ import annotations

import plistlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from compose_spec import PyCompose

from intertie.api.install import ASSETS
from tests.contract.installers.conftest import BESIDE
from tests.meta.source import ROOT
from tests.support.front import Front
from tests.support.gateway import require_command

UNITS = ("intertie-node.service", "intertie-node-user.service")
PLISTS = ("intertie-node.agent.plist", "intertie-node.daemon.plist")


def _settings(unit: str) -> dict[str, str]:
    lines = (ASSETS / unit).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


@pytest.mark.parametrize("name", UNITS)
def test_units_have_no_findings(tmp_path: Path, name: str) -> None:
    """As systemd itself reads them; the program and the user are there, as they are after an installation."""
    text = (ASSETS / name).read_text(encoding="utf-8")
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE).replace("User=intertie", "#")
    unit = tmp_path / "intertie-node.service"
    unit.write_text(text)
    program = [require_command("systemd-analyze", "systemd"), "verify", "--man=no"]
    words = ["--user"] if "user" in name else []
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    found = subprocess.run([*program, *words, str(unit)], capture_output=True, text=True, check=False, env=environ)

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_a_wrong_unit_is_found(tmp_path: Path) -> None:
    """The test above can fail."""
    unit = tmp_path / "wrong.service"
    unit.write_text("[Service]\nExecStart=/bin/true\nRestrat=always\n")
    found = subprocess.run(
        [require_command("systemd-analyze", "systemd"), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Restrat" in found.stderr


@pytest.mark.parametrize("name", UNITS)
def test_units_come_back_however_often_they_fail(name: str) -> None:
    """No start limit locks a node out; only a machine that is no node stays still."""
    unit = _settings(name)

    assert (unit["Restart"], unit["StartLimitIntervalSec"]) == ("always", "0")
    assert int(unit["RestartSec"]) >= 1
    assert unit["RestartPreventExitStatus"] == "78"
    assert unit["Type"] == "notify"


def test_the_system_unit_is_sandboxed_and_still_sees_cards_and_people() -> None:
    """What would hide graphics cards, or whether somebody uses the machine, is not set."""
    unit = _settings(UNITS[0])

    assert unit["User"] == unit["StateDirectory"] == "intertie-node"
    assert unit["CapabilityBoundingSet"] == ""
    for name in ("NoNewPrivileges", "ProtectHome", "ProtectKernelModules", "RestrictNamespaces", "RestrictSUIDSGID"):
        assert unit[name] == "true", name
    assert not {"PrivateDevices", "DeviceAllow", "DevicePolicy", "PrivateTmp", "ProtectProc", "PrivateNetwork"} & set(
        unit
    )


@pytest.mark.parametrize("name", PLISTS)
def test_plists_have_what_launchd_needs(name: str) -> None:
    """Parsed as property lists, with every key of the type that launchd expects."""
    plist = plistlib.loads((ASSETS / name).read_bytes(), fmt=plistlib.FMT_XML)

    assert plist["Label"] == "local.intertie-node"
    assert plist["ProgramArguments"][0].startswith("/")
    assert (plist["RunAtLoad"], plist["KeepAlive"], plist["Umask"]) == (True, True, 0o077)
    assert plist["ThrottleInterval"] >= 10
    assert set(plist) <= {
        *("Label", "ProgramArguments", "RunAtLoad", "KeepAlive", "ThrottleInterval", "ExitTimeOut", "ProcessType"),
        *("Umask", "UserName", "EnvironmentVariables", "StandardOutPath", "StandardErrorPath"),
    }
    assert ("UserName" in plist) == (name == PLISTS[1])


def test_the_agents_command_line_is_one_for_a_shell(tmp_path: Path) -> None:
    """The launch agent's line runs the launcher of the home folder and keeps what it says."""
    line = plistlib.loads((ASSETS / PLISTS[0]).read_bytes())["ProgramArguments"]
    launcher = tmp_path / "a home" / ".local/bin/intertie-node"
    launcher.parent.mkdir(parents=True)
    launcher.write_text('#!/bin/sh\necho "told: $*"\n')
    launcher.chmod(0o755)
    (tmp_path / "a home/Library/Logs").mkdir(parents=True)
    subprocess.run(line, check=True, env={"HOME": str(tmp_path / "a home"), "PATH": "/usr/bin:/bin"})

    assert (tmp_path / "a home/Library/Logs/intertie-node.log").read_text() == "told: run\n"


@pytest.mark.parametrize("name", ["node", "gateway"])
def test_images_have_no_findings(served: Front, tmp_path: Path, name: str) -> None:
    """As the linter of Dockerfiles reads them."""
    file = tmp_path / "Dockerfile"
    gateway = (ROOT / "packaging/gateway.Dockerfile").read_text(encoding="utf-8")
    file.write_text(served.script("Dockerfile") if name == "node" else gateway)
    found = subprocess.run([BESIDE / "hadolint", "--no-color", file], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_images_run_as_nobody_special_and_keep_what_matters(served: Front) -> None:
    """Not as root, the identity on a volume, a health check, and only the file that the gateway named."""
    image = served.script("Dockerfile")

    assert re.search(r"^USER [1-9]\d+$", image, re.MULTILINE)
    assert "VOLUME /var/lib/intertie-node" in image
    assert "HEALTHCHECK" in image
    assert f"--checksum=sha256:{served.files.sha256['intertie-node.pyz']} " in image


def test_the_compose_file_is_one(served: Front) -> None:
    """Read by a strict reader of the format: every key is one that the format knows."""
    text = served.script("compose.yml")
    read = PyCompose.from_yaml(text)
    read.validate()
    service = yaml.safe_load(text)["services"]["node"]

    assert read.service_names() == ["node"]
    assert service["network_mode"] == "host"
    assert service["volumes"] == ["node:/var/lib/intertie-node"]
    assert service["build"]["dockerfile_inline"].strip() == served.script("Dockerfile").replace("$", "$$").strip()


def test_a_wrong_compose_file_is_found(served: Front) -> None:
    """The test above can fail."""
    with pytest.raises(ValueError, match="network_mod"):
        PyCompose.from_yaml(served.script("compose.yml").replace("network_mode:", "network_mod:"))


def test_the_hidden_service_writes_what_the_agent_says(tmp_path: Path) -> None:
    """The task of Windows has no console: everything goes to a file, and a file that grew is put aside."""
    place = tmp_path / "program"
    place.mkdir()
    (place / "service.py").write_text((ASSETS / "service.py").read_text(encoding="utf-8"))
    (place / "intertie-node.pyz").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(3)\n")
    folder = tmp_path / "node"
    for _ in range(2):
        ran = subprocess.run([sys.executable, "-I", place / "service.py", folder], capture_output=True, check=False)
        assert (ran.returncode, ran.stdout) == (3, b"")
    said = str(["run", "--data", str(folder)])
    assert (folder / "node.log").read_text().splitlines() == [said, said]

    service = runpy.run_path(str(place / "service.py"))
    with (folder / "node.log").open("ab") as file:
        file.truncate(service["MOST"] + 1)
    subprocess.run([sys.executable, "-I", place / "service.py", folder], capture_output=True, check=False)

    assert (folder / "node.log").read_text() == said + "\n"
    assert (folder / "node.log.1").stat().st_size == service["MOST"] + 1
