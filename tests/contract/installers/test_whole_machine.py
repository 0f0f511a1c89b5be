"""install.sh --system on this very machine, in a mount namespace where every place it touches is a scratch copy."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from intertie.controlplane.agent_files import ZIPAPP
from tests.support.front import Front
from tests.support.machine import LIST, Machine

pytestmark = pytest.mark.slow


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine to install on."""
    return Machine(tmp_path)


def _script(served: Front, folder: Path) -> str:
    path = folder / "install.sh"
    path.write_text(served.script())
    return shlex.quote(str(path))


def test_a_node_for_the_whole_machine_and_back(machine: Machine, served: Front, tmp_path: Path) -> None:
    """A user, a unit, the agent, an identity; and after uninstalling the machine is as it was, to the last file."""
    script, token = _script(served, tmp_path), tmp_path / "token"
    token.write_text(served.house.token())
    ran = machine.run(
        f"({LIST}) >{tmp_path}/before",
        f"sh {script} --name rig-1 --token-file {token}",
        f"cp /etc/systemd/system/intertie-node.service {tmp_path}/unit",
        f"stat -c '%U %a %n' /opt/intertie-node/* /var/lib/intertie-node /var/lib/intertie-node/* >{tmp_path}/owners",
        f"id -nG intertie-node >{tmp_path}/groups; intertie-node status >{tmp_path}/status",
        f"sh {script} --uninstall",
        f"({LIST}) >{tmp_path}/after",
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr

    assert (tmp_path / "after").read_text() == (tmp_path / "before").read_text()
    rows = [line.split() for line in (tmp_path / "owners").read_text().splitlines()]
    owners, modes = {path: owner for owner, _, path in rows}, {path: mode for _, mode, path in rows}
    assert owners[f"/opt/intertie-node/{ZIPAPP}"] == "root"
    assert owners["/var/lib/intertie-node/node.json"] == "intertie-node"
    assert modes["/var/lib/intertie-node"] == "700"
    assert "rig-1" in (tmp_path / "status").read_text()
    assert "User=intertie-node" in (tmp_path / "unit").read_text()
    told = machine.told.read_text().splitlines()
    assert told[:3] == ["daemon-reload", "enable --quiet intertie-node.service", "restart intertie-node.service"]
    assert "disable --now --quiet intertie-node.service" in told


def test_running_it_again_upgrades_in_place(machine: Machine, served: Front, tmp_path: Path) -> None:
    """Same identity, same user, and the service is started anew."""
    script = _script(served, tmp_path)
    ran = machine.run(
        f"INTERTIE_TOKEN={served.house.token()} sh {script}",
        f"cp /var/lib/intertie-node/node.json {tmp_path}/first; echo old >/opt/intertie-node/{ZIPAPP}",
        f"sh {script}",
        f"cmp /var/lib/intertie-node/node.json {tmp_path}/first; intertie-node version",
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(served.house.nodes) == 1
    assert machine.told.read_text().count("restart intertie-node.service") == 2


def test_the_identity_may_be_kept(machine: Machine, served: Front, tmp_path: Path) -> None:
    """And the user with it, to whom it belongs."""
    script = _script(served, tmp_path)
    ran = machine.run(
        f"INTERTIE_TOKEN={served.house.token()} sh {script}",
        f"sh {script} --uninstall --keep-key",
        "test -e /var/lib/intertie-node/node.json; id intertie-node; ! test -e /opt/intertie-node",
        f"sh {script}; intertie-node status; sh {script} --uninstall",
        "! test -e /var/lib/intertie-node; ! id intertie-node 2>/dev/null",
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(served.house.nodes) == 1


def test_in_a_container_it_enrols_and_says_how_to_run(machine: Machine, served: Front, tmp_path: Path) -> None:
    """No systemd runs: no unit is written, and the command to type is named."""
    script = _script(served, tmp_path)
    ran = machine.run(
        f"INTERTIE_TOKEN={served.house.token()} sh {script}; ! test -e /etc/systemd/system/intertie-node.service",
        booted=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "systemd does not run here" in ran.stdout
    assert "/usr/local/bin/intertie-node run" in ran.stdout
    assert not machine.told.exists()


def test_other_users_are_told_whose_node_it_is(machine: Machine, served: Front, tmp_path: Path) -> None:
    """They may not read its key, and learn what to type."""
    ran = machine.run(
        f"INTERTIE_TOKEN={served.house.token()} sh {_script(served, tmp_path)} >/dev/null",
        "runuser -u nobody -- intertie-node status",
    )

    assert ran.returncode == 1
    assert "sudo intertie-node status" in ran.stderr
