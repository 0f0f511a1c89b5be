"""The agent is one file that runs on any Python: nothing but the standard library, and nothing of the gateway."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

from tests.meta.source import ROOT, Module, imports, package
from tests.meta.table import PACKAGE

OPTIONAL = frozenset({"cryptography", "ecdsa", "pynvml", "truststore", "uvloop"})
"""Better with them; `ecdsa`, `truststore` and `pynvml` are pure Python and come inside the single file."""
SHARED = frozenset({"", "core", "core.errors"})
"""What of the product the agent may import beside itself and `core.wire`."""

_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
strange = sorted(
    name for name in sys.modules
    if name.split(".")[0] not in sys.stdlib_module_names and name.split(".")[0] not in ("intertie", "__main__")
)
print(" ".join(strange))
"""


def _closure() -> Iterator[Module]:
    """The agent's modules, and those of the product that they import, directly or not."""
    known = {module.name: module for module in package()}
    waiting = [name for name in known if name == "agent" or name.startswith("agent.")]
    seen = set(waiting)
    while waiting:
        module = known[waiting.pop()]
        yield module
        for found in imports(module):
            name = found.target.removeprefix(PACKAGE).removeprefix(".")
            if found.target.split(".")[0] == PACKAGE and name in known and name not in seen:
                seen.add(name)
                waiting.append(name)


def test_the_agent_imports_only_itself_and_the_shared_wire() -> None:
    """A change of the gateway's own modules never reaches the file that nodes run."""
    foreign = [
        module.name
        for module in _closure()
        if module.name not in SHARED and not module.name.startswith(("agent", "core.wire"))
    ]

    assert not foreign


def test_what_the_agent_imports_is_the_standard_library_or_may_be_missing() -> None:
    """Optional libraries are imported in functions or under `try`, so that their absence is no error."""
    breaches = []
    for module in _closure():
        top = {node.lineno for node in module.tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
        for found in imports(module):
            root = found.target.split(".")[0]
            if root == PACKAGE or root in sys.stdlib_module_names:
                continue
            if root not in OPTIONAL or found.line in top:
                breaches.append(f"{module.name}:{found.line}: {found.target}")

    assert not breaches, "\n".join(breaches)


def test_every_module_of_the_agent_can_be_imported_with_nothing_installed() -> None:
    """Without site-packages, as on a machine that has Python and nothing else."""
    names = [f"{PACKAGE}.{module.name}".rstrip(".") for module in _closure()]
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _ALL, str(ROOT / "src"), *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout.strip()


def test_asking_for_the_version_loads_no_part_of_the_gateway() -> None:
    """`intertie node …` starts on small machines, again and again."""
    code = (
        "import sys; sys.argv = ['intertie', 'node', 'version']\n"
        "from intertie.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'typer', 'rich', 'fastapi', 'msgspec', 'sqlalchemy', 'cryptography', 'pydantic', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert ran.stdout.splitlines()[-1] == "[]"
