"""install.ps1, read by a grammar of PowerShell: it parses, does nothing when cut short, and plans what it should.

PowerShell itself runs in none of these tests (docs/explain/not-run.md). What would be done is therefore a table, and
which of its rows count is a rule without side effects; both are read from the script's syntax tree here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from intertie.api.install import ASSETS
from tests.support.front import Front

LANGUAGE = Language(tree_sitter_powershell.language())
FACTS = {"UvWanted": False, "System": False, "Enrolled": False, "TokenGiven": False, "Service": True, "KeepKey": False}
"""What the rows ask for, as on a fresh machine of one person."""


def _parse(text: str) -> Node:
    return Parser(LANGUAGE).parse(text.encode()).root_node


def _find(node: Node, kind: str) -> Iterator[Node]:
    if node.type == kind:
        yield node
    for child in node.children:
        yield from _find(child, kind)


def _text(node: Node) -> str:
    assert node.text is not None
    return node.text.decode()


def _functions(root: Node) -> dict[str, Node]:
    return {_text(next(_find(node, "function_name"))): node for node in _find(root, "function_statement")}


def _literal(node: Node) -> str:
    """The value of a text in single quotes."""
    text = _text(next(_find(node, "verbatim_string_characters")))
    return text[1:-1].replace("''", "'")


def _statements(root: Node) -> list[Node]:
    return [one for part in root.children if part.type == "statement_list" for one in part.children]


@pytest.fixture
def script(served: Front) -> str:
    """The installer as the gateway serves it."""
    return served.script("install.ps1")


@pytest.fixture
def table(script: str) -> list[dict[str, str]]:
    """The rows of everything that may be done, in order."""
    function = _functions(_parse(script))["Get-IntertieTable"]
    return [
        {_text(next(_find(entry, "key_expression"))): _literal(entry) for entry in _find(row, "hash_entry")}
        for row in _find(function, "hash_literal_expression")
    ]


def _steps(table: list[dict[str, str]], mode: str, **changes: bool) -> list[str]:
    """What is done, by the rule that `Select-IntertieSteps` states in its comment."""
    facts: Mapping[str, bool] = FACTS | changes

    def counts(row: dict[str, str]) -> bool:
        words = row["If"].split()
        return row["Mode"] == mode and all(facts[word.lstrip("!")] != word.startswith("!") for word in words)

    return [row["Do"] for row in table if counts(row) and row["Do"]]


@pytest.mark.parametrize("name", ["as served", "template"])
def test_the_script_parses(script: str, name: str) -> None:
    """Without an error, and in characters that every version reads alike, whatever it takes for the encoding."""
    text = script if name == "as served" else (ASSETS / "install.ps1").read_text(encoding="utf-8")

    assert not _parse(text).has_error
    assert text.isascii()


@pytest.mark.slow
def test_a_script_cut_short_does_nothing(script: str) -> None:
    """At every 50th byte and each of the last 200 it is an error of syntax, for which PowerShell runs nothing, or
    nothing but comments.
    """
    for end in [*range(0, len(script), 50), *range(len(script) - 200, len(script) - 1)]:
        root = _parse(script[:end])
        kinds = {statement.type for statement in _statements(root)}
        assert root.has_error or kinds <= {"comment"}, f"cut at {end}: {script[end - 60 : end]!r}"


def test_all_is_one_block_of_functions_and_a_call(script: str) -> None:
    """Nothing stands outside of it."""
    (block,) = [one for one in _statements(_parse(script)) if one.type != "comment"]
    inside = next(_find(block, "statement_block"))
    *others, last = [one for part in inside.children if part.type == "statement_list" for one in part.children]

    assert _text(block).startswith("if ($true) {\n")
    assert {statement.type for statement in others} <= {"function_statement", "comment"}
    assert _text(last) == "Install-IntertieNode @args"
    assert script.endswith("\nInstall-IntertieNode @args\n}\n")


def test_every_step_has_its_function_and_every_function_its_step(script: str, table: list[dict[str, str]]) -> None:
    """Nothing that is said is left undone, and nothing is done that is not said."""
    named = {f"Invoke-Intertie{row['Do']}" for row in table if row["Do"]}
    written = {name for name in _functions(_parse(script)) if name.startswith("Invoke-Intertie")}

    assert named == written
    assert all(row["Say"] for row in table)
    assert {word.lstrip("!") for row in table for word in row["If"].split()} == set(FACTS)


def test_only_the_steps_and_the_whole_change_anything(script: str) -> None:
    """So a dry run, which calls no step, cannot. The rest only looks."""
    changing = {"New-Item", "Remove-Item", "Copy-Item", "Invoke-WebRequest", "icacls", "uv"}
    for name, function in _functions(_parse(script)).items():
        if name.startswith("Invoke-Intertie") or name == "Install-IntertieNode":
            continue
        commands = {_text(command) for command in _find(function, "command_name")}
        assert not commands & changing, name
        assert not [one for one in commands if one.endswith("-ScheduledTask")], name
    whole = _functions(_parse(script))["Install-IntertieNode"]
    text = _text(whole)
    stop = text.index("if ($DryRun) { return")
    for word in ("New-Item", "Remove-Item", '& "Invoke-Intertie'):
        assert text.index(word) > stop


def test_choosing_steps_looks_at_nothing_but_its_arguments(script: str) -> None:
    """No command, no environment, no file: the same rows and facts always give the same steps."""
    functions = _functions(_parse(script))
    for name in ("Select-IntertieSteps", "Format-IntertieStep"):
        assert not list(_find(functions[name], "command_name")), name
        variables = {_text(one).lower() for one in _find(functions[name], "variable")}
        assert not [one for one in variables if ":" in one], name
    assert [_text(one) for one in _find(functions["Get-IntertieTable"], "variable")] == []


def test_what_is_done_on_a_fresh_machine(table: list[dict[str, str]]) -> None:
    """Nothing is written before the check; the task comes last."""
    assert _steps(table, "install") == ["Download", "PutFiles", "Join", "AddTask"]


def test_python_comes_first_where_there_is_none(table: list[dict[str, str]]) -> None:
    """The check needs one."""
    assert _steps(table, "install", UvWanted=True)[:2] == ["FetchPython", "Download"]


def test_a_node_keeps_its_identity_on_upgrade(table: list[dict[str, str]]) -> None:
    """It is not enrolled again."""
    assert _steps(table, "install", Enrolled=True) == ["Download", "PutFiles", "AddTask"]


def test_a_new_token_enrols_it_again(table: list[dict[str, str]]) -> None:
    """A node that was revoked comes back so; a fresh one is enrolled once."""
    assert _steps(table, "install", Enrolled=True, TokenGiven=True) == ["Download", "PutFiles", "JoinAgain", "AddTask"]
    assert _steps(table, "install", TokenGiven=True) == ["Download", "PutFiles", "Join", "AddTask"]


def test_a_node_of_the_whole_machine_closes_its_folder_before_a_key_is_in_it(table: list[dict[str, str]]) -> None:
    """Folders of all users are open to all users by default."""
    assert _steps(table, "install", System=True) == ["Download", "PutFiles", "LockFolder", "Join", "AddTask"]


def test_without_a_service_nothing_is_scheduled(table: list[dict[str, str]]) -> None:
    """It enrols all the same."""
    assert _steps(table, "install", Service=False) == ["Download", "PutFiles", "Join"]


def test_uninstalling_tells_the_gateway_then_removes_everything(table: list[dict[str, str]]) -> None:
    """And may keep the identity; a machine that never joined has nobody to tell."""
    everything = ["Leave", "RemoveTask", "RemoveFiles", "RemoveIdentity"]

    assert _steps(table, "uninstall", Enrolled=True) == everything
    assert _steps(table, "uninstall", Enrolled=True, KeepKey=True) == everything[:-1]
    assert _steps(table, "uninstall") == everything[1:]


def test_the_options_are_those_of_the_other_installer(script: str) -> None:
    """One word for one thing on every system, but for what only one of them has."""
    whole = _functions(_parse(script))["Install-IntertieNode"]
    parameters = {_text(next(_find(one, "variable")))[1:].lower() for one in _find(whole, "script_parameter")}
    shell = (ASSETS / "install.sh").read_text(encoding="utf-8")
    usage = shell[shell.index("<<'INTERTIE_USAGE'") : shell.index("\nINTERTIE_USAGE")]
    words = {line.split()[0].lstrip("-").replace("-", "") for line in usage.splitlines() if line.startswith("  --")}

    assert parameters == words - {"linger"}


def test_what_it_carries_is_whole(script: str) -> None:
    """The verifier and the hidden service are inside as they are in their files, and are Python."""
    functions = _functions(_parse(script))
    for name, file in (("Get-IntertieVerifier", "verify.py"), ("Get-IntertieService", "service.py")):
        (inside,) = _find(functions[name], "verbatim_here_string_characters")
        carried = _text(inside).removeprefix("@'").removesuffix("'@").strip()
        assert carried == (ASSETS / file).read_text(encoding="utf-8").strip()
        ast.parse(carried)


def test_no_secret_becomes_an_argument(script: str) -> None:
    """The token travels in the environment of one child, and the variable is put back."""
    joining = _text(_functions(_parse(script))["Invoke-IntertieJoin"])

    assert "$env:INTERTIE_TOKEN = $token" in joining
    assert "$env:INTERTIE_TOKEN = $before" in joining[joining.index("finally") :]
    assert "$words += $token" not in joining.replace("(", "").replace("@", "")
    assert joining.count("$token") == 3  # read, looked at, put into the environment


def test_old_powershell_speaks_tls_1_2_before_it_downloads(script: str) -> None:
    """Windows PowerShell 5.1 offers TLS 1.0 unless told."""
    whole = _text(_functions(_parse(script))["Install-IntertieNode"])

    assert 0 < whole.index("[Net.SecurityProtocolType]::Tls12") < whole.index("foreach ($step in $steps) {\n")
