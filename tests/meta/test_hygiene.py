"""What may never be committed."""

from __future__ import annotations

import json
import re
import tomllib

from tests.meta.source import ROOT, package, tracked

_TEXT = {
    ".cfg",
    ".css",
    ".html",
    ".j2",
    ".js",
    ".json",
    ".md",
    ".mjs",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    "",
}

# Spelt in halves, so that this file does not find itself.
_FOREIGN = re.compile(
    "|".join(
        [
            "/wo" + "rk/",
            "/ro" + "ot/",
            "/fa" + "rm/",
            "/tm" + "p/p/",
            "python" + r"hosted\.org",
            "py" + r"pi\.org",
            "registry" + r"\.npmjs",
            "deb" + r"\.debian\.org",
            "this " + "session",
        ]
    ),
    re.IGNORECASE,
)
_UNFINISHED = re.compile(
    "|".join(["TO" + "DO", "FIX" + "ME", r"\bXX" + r"X\b", "raise Not" + "Implemented", r"pytest\.sk" + "ip"])
    + "|"
    + "|".join([r"mark\.sk" + "ip", r"mark\.xf" + "ail", r"pytest\.xf" + "ail", r"pytest\.import" + "orskip"])
)
_SECRET = re.compile(r"\bsk-(?:it|ant|proj|or)-[A-Za-z0-9_-]{40,}|-----BEGIN [A-Z ]*PRIVATE KEY")


def _lines() -> list[tuple[str, str]]:
    found = []
    for path in tracked():
        if path.suffix in _TEXT and path.name != "LICENSE":
            place = str(path.relative_to(ROOT))
            text = path.read_text(encoding="utf-8")
            found += [(f"{place}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    return found


def test_no_file_names_a_machine_path_or_a_package_registry() -> None:
    """A clone works anywhere, and where packages come from is the user's choice."""
    assert not [place for place, line in _lines() if _FOREIGN.search(line)]


def test_nothing_unfinished_is_committed() -> None:
    """No notes to self, no stubs, no tests that are switched off."""
    code = [(place, line) for place, line in _lines() if place.startswith(("src/", "tests/", "scripts/", "bench/"))]

    assert not [place for place, line in code if _UNFINISHED.search(line)]


def test_no_secret_is_committed() -> None:
    """Keys in tests and docs are too short to be mistaken for real ones, or made at run time."""
    assert not [place for place, line in _lines() if _SECRET.search(line)]


def test_python_locks_carry_hashes_and_no_addresses() -> None:
    """Every requirement of every lock is pinned and hashed, whatever index serves it."""
    locks = sorted((ROOT / "locks").glob("*.txt"))
    extras = {"local-model", "local-model-weights", "semantic", "semantic-tokenizer"}
    assert {lock.stem for lock in locks} == {"dev", "runtime", *extras}

    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        entries = [entry for entry in re.split(r"\n(?=\S)", text.strip()) if not entry.startswith("#")]
        assert entries
        assert not re.search(r"://|--index|--find-links|--trusted", text)
        assert not [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry]


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    """What is tested is what users get, version for version."""
    pins = {
        name: set(
            re.findall(r"^(\S+==\S+)", (ROOT / "locks" / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE)
        )
        for name in ("runtime", "dev")
    }

    assert pins["runtime"] <= pins["dev"]


def test_every_dependency_of_the_project_is_locked() -> None:
    """A dependency added to the project file is not used before scripts/lock has run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "locks/runtime.txt").read_text(encoding="utf-8"), re.MULTILINE))
    wanted = {re.split(r"[<>=;~ ]", line)[0] for line in project["dependencies"]}

    assert wanted <= locked


def test_node_locks_carry_hashes_and_no_addresses() -> None:
    """The JavaScript client's lock names versions and integrity hashes only."""
    locks = [path for path in tracked() if path.name == "package-lock.json"]
    assert locks

    for lock in locks:
        packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
        third_party = {name: entry for name, entry in packages.items() if name}
        assert not [name for name, entry in third_party.items() if "resolved" in entry or "integrity" not in entry]


def test_the_version_is_the_same_everywhere() -> None:
    """Project file, package and change log agree on what comes out next."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    root = next(module for module in package() if module.name == "")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert f'__version__ = "{version}"' in root.path.read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(version)})\]", changes, re.MULTILINE)


def test_the_commands_of_the_readme_can_be_run() -> None:
    """The three scripts carry their run bit."""
    assert not [name for name in ("scripts/up", "scripts/test", ".ci/run") if not (ROOT / name).stat().st_mode & 0o100]
