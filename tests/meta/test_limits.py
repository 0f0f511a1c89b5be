"""House limits on size and style; the numbers are in `tests/meta/table.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.meta.exceptions import EXCEPTIONS
from tests.meta.source import ROOT, Definition, Module, allowed, everything, package
from tests.meta.table import (
    BANNED_STARTS,
    BANNED_WORDS,
    CLASS_LINES,
    FILE_LINES,
    FUNCTION_LINES,
    IMPOSED,
    PACKAGE,
    PARAMETERS,
)

_SQL = re.compile(
    r"^\s*(SELECT\s|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX)|PRAGMA\s)", re.IGNORECASE
)


class Breach(NamedTuple):
    """One place that breaks one rule; `rule` and `where` are as in the list of exceptions."""

    rule: str
    where: str
    what: str


def _length(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    spec = node.args
    named = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs]
    own = 1 if named and named[0].arg in {"self", "cls"} else 0
    return len(named) - own + (spec.vararg is not None) + (spec.kwarg is not None)


def _sizes(module: Module) -> Iterator[Breach]:
    if module.lines > FILE_LINES:
        yield Breach("file", module.name, f"{module.lines} lines")
    for name, node in module.definitions():
        where = f"{module.name}:{name}"
        if isinstance(node, ast.ClassDef):
            if _length(node) > CLASS_LINES:
                yield Breach("class", where, f"{_length(node)} lines")
            continue
        if _length(node) > FUNCTION_LINES:
            yield Breach("function", where, f"{_length(node)} lines")
        # A property test names every fact it draws.
        if _parameters(node) > PARAMETERS and not name.startswith("test_"):
            yield Breach("parameters", where, f"{_parameters(node)} parameters")


def _is_broad(kind: ast.expr | None) -> bool:
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(one, ast.Name) and one.id in {"Exception", "BaseException"} for one in kinds)


def _passes_on(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything inside a definition, without the definitions nested in it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, Definition):
            yield child
            yield from _own_nodes(child)


def _broad(module: Module) -> Iterator[Breach]:
    for name, scope in [("", module.tree), *module.definitions()]:
        for node in _own_nodes(scope):
            caught: list[ast.expr | None] = []
            if isinstance(node, ast.ExceptHandler) and not _passes_on(node):
                caught = [node.type]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught = [*node.args]
            if any(_is_broad(kind) for kind in caught):
                yield Breach("broad except", f"{module.name}:{name}", "catches everything")


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}


def _names(module: Module) -> Iterator[Breach]:
    for where, name in [
        (module.name, module.name),
        *((f"{module.name}:{path}", path.rpartition(".")[2]) for path, _ in module.definitions()),
    ]:
        if name not in IMPOSED and (_words(name) & BANNED_WORDS or name.startswith(BANNED_STARTS)):
            yield Breach("name", where, "says nothing; use a field term of docs/explain/design.md")


def _breaches() -> list[Breach]:
    found = [breach for module in everything() for breach in _sizes(module) if "migrations" not in module.name]
    found += [breach for module in package() for breach in [*_broad(module), *_names(module)]]
    return found


def test_house_limits_hold() -> None:
    """Files, functions, classes and parameter lists stay small; broad excepts and empty words stay out."""
    breaches = sorted({f"{rule}: {where}: {what}" for rule, where, what in _breaches() if not allowed(rule, where)})

    assert not breaches, "\n".join(breaches)


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    """The list of exceptions may only hold what is really broken, and says why."""
    broken = {(rule, where) for rule, where, _ in _breaches()}
    names = {module.name for module in everything()}
    stale = [
        entry
        for entry in EXCEPTIONS
        if ((entry.rule, entry.where) not in broken and entry.rule not in {"border", "door"})
        or entry.where.split(":")[0] not in names
        or len(entry.reason) < 20
    ]

    assert not stale


def test_no_global_statement_and_no_star_import() -> None:
    """State has an owner, and every name can be found where it comes from."""
    breaches = [
        f"{module.path.relative_to(ROOT)}:{node.lineno}"
        for module in everything()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Global)
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names))
    ]

    assert not breaches


def test_sql_text_stands_only_in_the_store() -> None:
    """No other unit spells a statement out."""
    breaches = [
        f"{PACKAGE}.{module.name}:{node.lineno}"
        for module in package()
        if not module.name.startswith("store")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.match(node.value)
    ]

    assert not breaches


def test_every_module_and_every_public_protocol_says_what_it_is() -> None:
    """A docstring stands at the top of each module of the product and in each Protocol and term."""
    silent = [module.name for module in package() if not ast.get_docstring(module.tree)]
    for module in package():
        for name, node in module.definitions():
            if not isinstance(node, ast.ClassDef) or name.startswith("_"):
                continue
            bases = {ast.unparse(base) for base in node.bases}
            contract = "Protocol" in bases or module.name in {"core.terms", "core.errors", "settings"}
            if contract and not ast.get_docstring(node):
                silent.append(f"{module.name}:{name}")

    assert not silent
