"""The project's Python files as syntax trees, and the imports between them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.meta.exceptions import EXCEPTIONS
from tests.meta.table import PACKAGE, RANKS

ROOT = Path(__file__).parents[2]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Module(NamedTuple):
    """One Python file."""

    name: str
    """Dotted; inside the package without its name in front, so `core.terms`."""
    path: Path
    tree: ast.Module
    lines: int
    package: bool
    """True for an `__init__.py`."""

    def definitions(self) -> Iterator[tuple[str, Definition]]:
        """Every class and function with its qualified name, nested ones too."""
        yield from _definitions(self.tree, "")


class Import(NamedTuple):
    """One import statement's target, wherever the statement stands in the file."""

    target: str
    """Dotted, absolute."""
    line: int


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Definition]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")
        else:
            yield from _definitions(child, prefix)


@cache
def tracked() -> tuple[Path, ...]:
    """The files of the repository, as git knows them or would after an `add`."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return tuple(sorted(path for path in paths if path.is_file()))


def _module(path: Path, base: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(base).with_suffix("").parts
    package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if package else parts)
    return Module(name, path, ast.parse(text, str(path)), text.count("\n"), package)


@cache
def package() -> tuple[Module, ...]:
    """The modules of the product."""
    base = ROOT / "src" / PACKAGE
    return tuple(_module(path, base) for path in tracked() if path.suffix == ".py" and path.is_relative_to(base))


@cache
def everything() -> tuple[Module, ...]:
    """The product's modules, and those of tests, scripts and bench."""
    others = (path for path in tracked() if path.suffix == ".py" and not path.is_relative_to(ROOT / "src"))
    return package() + tuple(_module(path, ROOT) for path in others)


def imports(module: Module) -> Iterator[Import]:
    """All imports, also those inside functions and under `TYPE_CHECKING`; of the product's own, only the module."""
    known = {found.name for found in package()}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                inside = deeper.removeprefix(PACKAGE + ".") in known and deeper.startswith(PACKAGE + ".")
                outside = not node.module.startswith(PACKAGE)
                yield Import(deeper if inside or outside else node.module, node.lineno)


def own_imports(module: Module) -> Iterator[Import]:
    """Imports of the product's own modules, without its name in front."""
    for found in imports(module):
        if found.target.startswith(PACKAGE + "."):
            yield Import(found.target.removeprefix(PACKAGE + "."), found.line)


def unit(name: str) -> str | None:
    """The unit of the rank table that a module belongs to."""
    units = [unit for row in RANKS for unit in row]
    return next((unit for unit in units if name == unit or name.startswith(unit + ".")), None)


def rank(unit_name: str) -> int:
    """The row of a unit in the rank table."""
    return next(number for number, row in enumerate(RANKS) if unit_name in row)


def allowed(rule: str, where: str) -> bool:
    """True if the list of exceptions names this place."""
    return any(entry.rule == rule and entry.where == where for entry in EXCEPTIONS)
