"""Who may import whom, from the table in `tests/meta/table.py`."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from tests.meta.source import Module, allowed, imports, own_imports, package, rank, unit
from tests.meta.table import BORDERS, DOORS_MAY_NOT, IMPURE


def _place(module: Module, line: int) -> str:
    return f"{module.path.name}:{line} ({module.name})"


def test_every_module_belongs_to_a_unit_of_the_table() -> None:
    """A new top-level folder needs a rank before it needs code."""
    namespaces = {"", "core"}
    homeless = [module.name for module in package() if unit(module.name) is None and module.name not in namespaces]

    assert not homeless


def test_namespace_packages_hold_no_code() -> None:
    """The root and `core` only hold units, so importing one unit does not import another."""
    busy = [module.name for module in package() if module.name in {"", "core"} and list(own_imports(module))]

    assert not busy


def test_a_unit_imports_only_lower_ranks() -> None:
    """Imports point down the table, also inside functions and under TYPE_CHECKING, and never to a sibling unit."""
    breaches = []
    for module in package():
        here = unit(module.name)
        for found in own_imports(module):
            there = unit(found.target)
            if here is None or there is None or here == there:
                continue
            if rank(there) >= rank(here):
                breaches.append(f"{_place(module, found.line)}: {here} may not import {there}")

    assert not breaches, "\n".join(breaches)


def test_doors_change_state_only_through_the_control_plane() -> None:
    """Console, CLI and API never reach into the store; only the API sends requests."""
    breaches = [
        f"{_place(module, found.line)}: {unit(module.name)} may not import {unit(found.target)}"
        for module in package()
        for found in own_imports(module)
        if unit(found.target) in DOORS_MAY_NOT.get(unit(module.name) or "", ()) and not allowed("door", module.name)
    ]

    assert not breaches, "\n".join(breaches)


def test_there_is_no_import_cycle() -> None:
    """Modules can be put in an order in which each imports only earlier ones."""
    known = {module.name for module in package()}
    graph = {
        module.name: {found.target for found in own_imports(module) if found.target in known} - {module.name}
        for module in package()
    }

    try:
        TopologicalSorter(graph).prepare()
        cycle = []
    except CycleError as error:
        cycle = error.args[1]

    assert not cycle, " -> ".join(cycle)


def test_third_party_borders_hold() -> None:
    """HTTP clients, SQL, web frameworks, servers and terminals stay in the units that the table names."""
    breaches = []
    for module in package():
        for found in imports(module):
            for kind, (modules, homes) in BORDERS.items():
                foreign = any(found.target == name or found.target.startswith(name + ".") for name in modules)
                at_home = any(module.name == home or module.name.startswith(home + ".") for home in homes)
                if foreign and not at_home and not allowed("border", module.name):
                    breaches.append(
                        f"{_place(module, found.line)}: {found.target} is a {kind}; only {homes} may use it"
                    )

    assert not breaches, "\n".join(breaches)


def test_core_imports_nothing_that_reaches_outside() -> None:
    """`core` decides from its arguments: no clock, disk, network, thread or chance of its own."""
    breaches = [
        f"{_place(module, found.line)}: {found.target}"
        for module in package()
        if module.name.startswith("core")
        for found in imports(module)
        if found.target.split(".")[0] in IMPURE and not allowed("border", module.name)
    ]

    assert not breaches, "\n".join(breaches)
