"""install.sh: lints, does nothing when cut short, says before it does, refuses what is not signed, leaves nothing."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest

from intertie.api.install import ASSETS
from intertie.controlplane.agent_files import ZIPAPP
from tests.contract.installers.conftest import AGENT, BESIDE, LAUNCHER, PYTHON, TOOLS, Installs, left
from tests.support.front import Front
from tests.support.gateway import require_command
from tests.support.machine import write_program

pytestmark = pytest.mark.slow

FOREIGN = ("apt-get", "launchctl", "loginctl", "systemctl", "useradd", "userdel")
MORE = ("curl", "openssl", "python", "python3", "sh", "sudo", "uv", "wget", *FOREIGN)


# -- as a text --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_script_has_no_findings(served: Front, tmp_path: Path, shell: str) -> None:
    """As its linter reads it, for POSIX shells and for bash."""
    file = tmp_path / "install.sh"
    file.write_text(served.script())
    found = subprocess.run(
        [BESIDE / "shellcheck", "-s", shell, str(file)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_script_cut_short_does_nothing(served: Front, tmp_path: Path, shell: str) -> None:
    """At every 50th byte, and at each of the last 200: no program runs, nothing is printed, no file appears."""
    traps, home, sprung = tmp_path / "traps", tmp_path / "home", tmp_path / "sprung"
    traps.mkdir()
    home.mkdir()
    for name in (*TOOLS, *MORE):
        write_program(traps / name, f'echo "{name} $*" >>{sprung}')
    script = served.script().encode()
    program = require_command(shell, shell)
    # Without its last newline it is whole.
    ends = [
        *range(0, len(script), 50),
        *range(len(script) - 200, len(script) - 1),
    ]
    for end in ends:
        ran = subprocess.run(
            [program, "-s", "--", "--yes"],
            input=script[:end],
            capture_output=True,
            env={"PATH": str(traps), "HOME": str(home)},
            cwd=home,
            timeout=10,
            check=False,
        )
        assert not sprung.exists(), f"cut at {end}: {sprung.read_text()}"
        assert ran.stdout == b"", f"cut at {end}: {ran.stdout!r}"
    assert left(home) == []
    assert served.asked == []


def test_the_whole_script_would_spring_those_traps(served: Front, tmp_path: Path) -> None:
    """The test above can fail."""
    write_program(tmp_path / "uname", f"echo sprung >>{tmp_path}/sprung")
    script, variables = served.script().encode(), {"PATH": str(tmp_path)}
    subprocess.run(["/bin/sh", "-s"], input=script, env=variables, capture_output=True, check=False)

    assert (tmp_path / "sprung").exists()


def test_the_template_itself_does_nothing(installs: Installs, home: Path) -> None:
    """Whoever runs the file from the repository learns where to get the real one."""
    ran = installs("--yes", script=(ASSETS / "install.sh").read_text())

    assert ran.returncode == 1
    assert "from your gateway" in ran.stderr
    assert left(home) == []


# -- what it says -----------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_done_and_does_none_of_it(installs: Installs, home: Path, served: Front) -> None:
    """Every place it would touch is named; nothing is downloaded."""
    ran = installs("--user", "--no-service", "--dry-run")

    assert ran.returncode == 0, ran.stderr
    assert served.url in ran.stdout
    for place in (LAUNCHER, ".local/share/intertie-node", ".intertie-node"):
        assert str(home / place) in ran.stdout
    assert "set up no service: you asked for none" in ran.stdout
    assert "Nothing was done" in ran.stdout
    assert left(home) == []
    assert served.asked == []


def test_a_dry_run_of_uninstalling_removes_nothing(installs: Installs, home: Path) -> None:
    """It names what would go."""
    (home / ".intertie-node").mkdir()
    (home / ".intertie-node/node.json").write_text("{}")
    ran = installs("--user", "--uninstall", "--dry-run")

    assert f"remove the identity in {home}/.intertie-node" in ran.stdout
    assert left(home) == [".intertie-node/node.json"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--token", "itne_secret"], "there is no option --token."),
        (["--token=itne_secret"], "there is no option --token."),
        (["--name"], "--name needs a value"),
        (["--label", "a=b\nc=d"], "more than one line"),
        (["--user", "--token-file", "nowhere"], "cannot read nowhere"),
    ],
)
def test_words_that_make_no_sense_are_refused(installs: Installs, home: Path, words: list[str], complaint: str) -> None:
    """Before anything is done, and without repeating what may be a secret."""
    ran = installs(*words)

    assert ran.returncode == 1
    assert complaint in ran.stderr
    assert "itne_secret" not in ran.stderr + ran.stdout
    assert left(home) == []


def test_a_gateway_without_tls_elsewhere_needs_a_word(installs: Installs, served: Front) -> None:
    """On loopback nobody can listen; to another machine only who says --insecure."""
    script = served.script().replace(served.url, "http://192.0.2.1:8080")
    disguised = served.script().replace(served.url, "http://127.0.0.1.example.com")

    assert "without TLS" in installs("--user", "--dry-run", script=script).stderr
    assert "without TLS" in installs("--user", "--dry-run", script=disguised).stderr
    assert installs("--user", "--dry-run", "--insecure", script=script).returncode == 0


# -- Python -----------------------------------------------------------------------------------------------------------


def test_without_a_python_it_says_what_to_install(installs: Installs, home: Path, tools: Path) -> None:
    """The command of this system's own package manager, and uv as the other way."""
    write_program(tools / "python3", "exit 1")  # an old one
    ran = installs("--user", path=tools)

    assert ran.returncode == 1
    assert "Python 3.11 or later is needed" in ran.stderr
    assert "uv" in ran.stderr
    assert left(home) == []


def test_uv_gets_a_python_where_there_is_none(installs: Installs, home: Path, tools: Path, served: Front) -> None:
    """Into the node's own folder, so that it goes away with it."""
    (tools / "python3").unlink()
    find = f'[ "$1 $2" != "python find" ] || echo {PYTHON}'
    write_program(tools / "uv", find, 'echo "$UV_PYTHON_INSTALL_DIR $*" >>"$HOME/uv"')
    (tools / "curl").symlink_to(require_command("curl", "curl"))
    dry = installs("--user", "--no-service", "--dry-run", path=tools)
    ran = installs("--user", "--no-service", path=tools, environ={"INTERTIE_TOKEN": served.house.token()})

    assert "get Python 3.13 with uv" in dry.stdout
    assert ran.returncode == 0, ran.stderr
    assert (home / "uv").read_text().startswith(f"{home}/.local/share/intertie-node/uv python install")


# -- what it does -----------------------------------------------------------------------------------------------------


def _token_file(folder: Path, served: Front) -> str:
    path = folder / "token"
    path.write_text(served.house.token() + "\n")
    return str(path)


def test_install_upgrade_and_uninstall_for_one_person(
    installs: Installs, home: Path, served: Front, tmp_path: Path
) -> None:
    """One node is enrolled; running it again keeps the identity; uninstalling leaves no file."""
    words = ["--user", "--no-service", "--name", "rig-1", "--label", "site=lab", "--runtime", "127.0.0.1:9"]
    first = installs(*words, "--token-file", _token_file(tmp_path, served))
    assert first.returncode == 0, first.stderr
    assert (home / LAUNCHER).stat().st_mode & 0o777 == 0o755
    identity = json.loads((home / ".intertie-node/node.json").read_text())
    (enrolled,) = [body for path, body in served.house.asked if path == "/link/enrol"]
    assert enrolled["name"] == "rig-1"
    assert stat.S_IMODE((home / ".intertie-node").stat().st_mode) == 0o700
    version = subprocess.run([home / LAUNCHER, "version"], capture_output=True, text=True, check=True, env={"PATH": ""})
    assert version.stdout.strip() == json.loads(served.files.manifest)["version"]
    assert "Start it by hand" in first.stdout

    (home / AGENT).write_bytes(b"an older one")
    second = installs("--user", "--no-service")
    assert second.returncode == 0, second.stderr
    assert "keep the identity" in second.stdout
    assert (home / AGENT).read_bytes() == served.files.files[ZIPAPP]
    assert json.loads((home / ".intertie-node/node.json").read_text()) == identity
    assert len(served.house.nodes) == 1

    last = installs("--user", "--uninstall")
    assert last.returncode == 0, last.stderr
    assert left(home) == []


def test_a_new_token_enrols_a_node_again(installs: Installs, home: Path, served: Front, tmp_path: Path) -> None:
    """As after a revocation. A token that is refused leaves the node what it was, and the upgrade is done."""
    installs("--user", "--no-service", "--token-file", _token_file(tmp_path, served))
    before = (home / ".intertie-node/node.json").read_text()
    used = installs("--user", "--no-service", environ={"INTERTIE_TOKEN": (tmp_path / "token").read_text().strip()})
    assert used.returncode == 0, used.stderr
    assert "stays the node it was" in used.stderr
    assert (home / ".intertie-node/node.json").read_text() == before

    fresh = installs("--user", "--no-service", environ={"INTERTIE_TOKEN": served.house.token()})

    assert (fresh.returncode, fresh.stderr) == (0, "")
    assert (home / ".intertie-node/node.json").read_text() != before
    assert len(served.house.nodes) == 2


def test_the_identity_may_be_kept(installs: Installs, home: Path, served: Front, tmp_path: Path) -> None:
    """--keep-key leaves what makes this machine the same node again."""
    installs("--user", "--no-service", "--token-file", _token_file(tmp_path, served))
    before = (home / ".intertie-node/node.json").read_text()
    installs("--user", "--uninstall", "--keep-key")
    assert not (home / LAUNCHER).exists()
    assert not (home / AGENT).exists()

    again = installs("--user", "--no-service")

    assert again.returncode == 0, again.stderr
    assert (home / ".intertie-node/node.json").read_text() == before


def test_the_token_is_in_no_argument_and_in_no_file(installs: Installs, home: Path, served: Front, tools: Path) -> None:
    """Every program that runs with its arguments is written down, and whatever is left in the home is searched."""
    log = home.parent / "arguments"
    for name in [one.name for one in tools.iterdir()]:
        real = PYTHON if name == "python3" else (tools / name).resolve()
        write_program(tools / name, f'echo "{name} $*" >>"{log}"', f'exec {real} "$@"')
    token = served.house.token()
    ran = installs("--user", "--no-service", path=tools, environ={"INTERTIE_TOKEN": token})

    assert ran.returncode == 0, ran.stderr
    assert token not in log.read_text() + ran.stdout + ran.stderr
    assert not [path for path in left(home) if token.encode() in (home / path).read_bytes()]


@pytest.mark.parametrize("program", ["curl", "python3"])
def test_any_program_that_is_there_downloads(
    installs: Installs, home: Path, served: Front, tools: Path, program: str
) -> None:
    """curl if there is one; Python can do it itself."""
    if program == "curl":
        (tools / "curl").symlink_to(require_command("curl", "curl"))
    ran = installs("--user", "--no-service", path=tools, environ={"INTERTIE_TOKEN": served.house.token()})

    assert ran.returncode == 0, ran.stderr
    assert (home / AGENT).read_bytes() == served.files.files[ZIPAPP]


def test_without_a_token_an_operator_approves_a_code(installs: Installs, home: Path, served: Front) -> None:
    """Nothing secret is typed anywhere; the code and the page are shown."""
    served.house.approval = ["yes"]
    ran = installs("--user", "--no-service", "--yes")

    assert ran.returncode == 0, ran.stderr
    assert "BCDF-GHJK" in ran.stdout + ran.stderr
    assert (home / ".intertie-node/node.json").exists()


def test_a_refused_token_is_told_and_undone(installs: Installs, home: Path, served: Front) -> None:
    """The agent's own words are shown; uninstalling takes back what had been done."""
    token = served.house.token()
    served.house.tokens.clear()
    ran = installs("--user", "--no-service", environ={"INTERTIE_TOKEN": token})
    assert ran.returncode == 1
    assert "not enrolled" in ran.stderr

    installs("--user", "--uninstall")

    assert left(home) == []


def test_a_program_of_the_same_name_is_not_replaced(installs: Installs, home: Path) -> None:
    """Neither by installing nor by uninstalling."""
    (home / ".local/bin").mkdir(parents=True)
    (home / LAUNCHER).write_text("#!/bin/sh\n# somebody else's\n")
    ran = installs("--user", "--no-service")
    installs("--user", "--uninstall")

    assert "was not made by this script" in ran.stderr
    assert left(home) == [LAUNCHER]


def test_uninstalling_works_without_the_gateway_and_without_python(
    installs: Installs, home: Path, served: Front, tools: Path
) -> None:
    """Whoever wants to be rid of it needs nobody's help."""
    ran = installs("--user", "--no-service", environ={"INTERTIE_TOKEN": served.house.token()})
    assert ran.returncode == 0, ran.stderr
    launcher = (home / LAUNCHER).read_text()
    (home / LAUNCHER).write_text(launcher.replace("exec '", "exec '/nowhere"))
    (tools / "python3").unlink()
    gone = installs("--user", "--uninstall", path=tools)

    assert gone.returncode == 0, gone.stderr
    assert "the gateway was not told" in gone.stderr
    assert left(home) == []


def test_without_a_service_manager_it_says_how_to_run_it(
    installs: Installs, home: Path, served: Front, tools: Path
) -> None:
    """In a container or a chroot it enrols all the same."""
    ran = installs("--user", path=tools, environ={"INTERTIE_TOKEN": served.house.token()})

    assert ran.returncode == 0, ran.stderr
    assert "systemd does not run here" in ran.stdout
    assert f"{home / LAUNCHER} run" in ran.stdout
    assert (home / ".intertie-node/node.json").exists()


def test_on_macos_it_is_a_launch_agent(installs: Installs, home: Path, served: Front, tools: Path) -> None:
    """With stand-ins for `uname` and `launchctl`: the plist is written and loaded, and unloaded and removed again."""
    told = home.parent / "told"
    (tools / "uname").unlink()
    write_program(tools / "uname", "echo Darwin")
    write_program(tools / "launchctl", f'echo "$*" >>"{told}"')
    ran = installs("--user", path=tools, environ={"INTERTIE_TOKEN": served.house.token()})
    assert ran.returncode == 0, ran.stderr
    plist = home / "Library/LaunchAgents/local.intertie-node.plist"
    assert plist.read_text() == (ASSETS / "intertie-node.agent.plist").read_text()
    uid = os.getuid()
    assert f"bootstrap gui/{uid} {plist}" in told.read_text().splitlines()

    last = installs("--user", "--uninstall", path=tools)

    assert last.returncode == 0, last.stderr
    assert told.read_text().splitlines()[-1] == f"bootout gui/{uid}/local.intertie-node"
    assert left(home) == []
