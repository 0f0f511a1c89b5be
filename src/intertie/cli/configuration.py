"""Configuration files: read, validated, and their secrets fetched where the person is (decision 0006)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intertie.cli.client import CommandProblem

if TYPE_CHECKING:
    from intertie.controlplane.config import Document, Problem


class ConfigurationProblem(CommandProblem):
    """What was given cannot be used; `problems` has one line each. `source` may be many things: `the settings`."""

    def __init__(self, source: str, problems: tuple[str, ...], remedy: str = "mend the file, then run this again"):
        many = f"there are {len(problems)} problems" if len(problems) > 1 else "there is a problem"
        super().__init__(f"{many} in {source}", remedy, code="invalid_configuration")
        self.problems = problems


def load(path: Path, *, fetch: bool = True) -> Document:
    """The document in a file, with its secrets unless `fetch` is false; `-` reads standard input.

    Raises `ConfigurationProblem` with all problems at once, `CommandProblem` if the file cannot be read.
    """
    from intertie.controlplane import config

    try:
        document = config.parse(_text(path))
        return config.resolve(document, os.environ, _beside(path)) if fetch else document
    except config.ConfigProblems as found:
        raise ConfigurationProblem(_name(path), _lines(found.problems)) from None


def entry(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of a section, validated and with its secrets, in the shape the admin API takes.

    Raises `ConfigurationProblem`.
    """
    from intertie.controlplane import config

    try:
        document = config.resolve(config.parse(_as_text({section: [content]})), os.environ, _beside(Path()))
    except config.ConfigProblems as found:
        lines = [
            f"{_option(one.path)}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in found.problems
        ]
        raise ConfigurationProblem("the command", tuple(lines), "mend it, then run it again") from None
    made: dict[str, Any] = config.dump(document)[section][0]
    return made


def rule(path: Path) -> dict[str, Any]:
    """The one rule in a YAML file, validated, in the shape the admin API takes; `-` reads standard input.

    Raises `ConfigurationProblem` with all problems at once, `CommandProblem` for a file without a rule or with several.
    """
    from intertie.controlplane import config, document

    try:
        raw = document.read(_text(path))
    except document.YamlError as error:
        raise ConfigurationProblem(_name(path), (f"file: {error}",)) from None
    if raw.keys() & config.Document.model_fields.keys():
        listed = raw.get("rules")
        if raw.keys() != {"rules"} or not isinstance(listed, list) or len(listed) != 1:
            raise CommandProblem(
                f"{_name(path)} is a configuration, not one rule",
                "apply it with: intertie apply -f FILE   or write one rule into a file of its own",
            )
        raw = listed[0]
    try:
        made: dict[str, Any] = config.dump(config.parse(document.write({"rules": [raw]})))["rules"][0]
    except config.ConfigProblems as found:
        raise ConfigurationProblem(_name(path), _lines(found.problems, "rules[0].")) from None
    if "name" not in made:
        raise ConfigurationProblem(_name(path), ("name: is required (call it what it does, such as private-stays)",))
    return made


def secret(words: str) -> dict[str, str]:
    """`env:NAME` or `file:PATH` as a reference. Raises `CommandProblem`: secrets themselves do not belong in argv."""
    kind, colon, place = words.partition(":")
    if not colon or kind not in {"env", "file"} or not place:
        raise CommandProblem(
            "a credential is given by reference, because command lines can be seen by others",
            "write --credential env:NAME or --credential file:PATH",
            code="bad_credential",
        )
    return {kind: place}


def _option(path: str) -> str:
    """How the command line calls a place in an entry: `upstreams[0].credentials[1]` is `--credential`."""
    word = re.sub(r"^\w+\[0\]\.?", "", path).partition("[")[0].partition(".")[0]
    return "--" + word.removesuffix("s").replace("_", "-") if word and word != "name" else word or "it"


def _lines(problems: Iterable[Problem], prefix: str = "") -> tuple[str, ...]:
    return tuple(
        f"{one.path.removeprefix(prefix)}: {one.message}" + (f" ({one.hint})" if one.hint else "") for one in problems
    )


def _as_text(content: Mapping[str, Any]) -> str:
    import json

    return json.dumps(content)  # JSON is YAML


def _text(path: Path) -> str:
    if str(path) == "-":
        return sys.stdin.read()
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        reason = getattr(failure, "strerror", None) or "it is not UTF-8 text"
        raise CommandProblem(f"cannot read {path}: {reason}", "give the path of a configuration file") from None


def _beside(path: Path) -> Any:
    """Reads files named in a document; relative paths count from the document's folder."""
    folder = Path() if str(path) == "-" else path.parent

    def read(name: str) -> str:
        return (folder / Path(name).expanduser()).read_text("utf-8")

    return read


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)
