"""What `up` says once it serves."""

from __future__ import annotations

from pathlib import Path

from intertie.cli.call import KEY_VARIABLE, curl
from intertie.cli.welcome import in_clone, next_steps
from intertie.controlplane.ready import Ready

URL = "http://127.0.0.1:8080"


def test_without_models_it_says_how_to_get_some() -> None:
    """Own machines first, a provider next, the small model last."""
    told = "\n".join(next_steps(Ready(URL), (), looks=True))

    assert (
        told.index("intertie nodes token") < told.index("intertie apply -f intertie.yaml") < told.index("--local-model")
    )


def test_it_promises_to_notice_a_model_server_only_where_it_looks_for_one() -> None:
    """With `local_node: false` nobody does."""
    assert "noticed" in next_steps(Ready(URL), (), looks=True)[0]
    assert "noticed" not in "\n".join(next_steps(Ready(URL), (), looks=False))


def test_with_routes_it_shows_a_curl_line_with_the_new_key_once() -> None:
    """Later starts show a variable: nothing secret after the first."""
    first = "\n".join(next_steps(Ready(URL, dev_key="sk-new"), ("a", "b"), looks=True))
    later = "\n".join(next_steps(Ready(URL), ("a", "b"), looks=True))

    assert "Bearer sk-new" in first
    assert '"model": "a"' in first
    assert KEY_VARIABLE in later
    assert "intertie keys create" in later


def test_the_star_is_not_a_model_to_ask_for() -> None:
    """A named route is, if there is one."""
    assert '"model": "named"' in "\n".join(next_steps(Ready(URL), ("*", "named"), looks=True))


def test_the_curl_line_survives_any_model_name() -> None:
    """Quotes of JSON and of the shell are both escaped."""
    shown = "\n".join(curl(URL, """it's "odd"\\""", "k"))

    assert """it'\\''s \\"odd\\"\\\\""" in shown


def test_a_clone_knows_that_no_shell_finds_its_program(tmp_path: Path) -> None:
    """`scripts/intertie` is what a person types there."""
    program = tmp_path / ".venv" / "bin" / "intertie"
    assert not in_clone(program)

    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "intertie").touch()

    assert in_clone(program)
    assert not in_clone(tmp_path / "elsewhere" / "bin" / "intertie")
